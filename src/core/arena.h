/* arena.h: the one file that processes share, and where each process sees it.
 *
 * The arena is a sparse memfd of up to 128 GiB of which only touched pages exist. It is cut into
 * windows of 16 MiB; a process maps a window when it first looks into it and keeps it mapped, so
 * address space stays in proportion to what is used. Everything shared is named by its offset in
 * the file (fmp_ref), never by an address.
 *
 *   window 0   0        fmp_arena_header: magic, layout, size
 *              64 KiB   owner.h:  the slots of the processes
 *              256 KiB  heap.h:   size classes, table of the windows
 *              1 MiB    object.h: what exists
 *              5 MiB    heap.h:   what each 64 KiB unit of each window is used for
 *              8 MiB    the heap's first units
 *   windows 1..4        object.h: who holds what, a row for each slot
 *   windows 5..         the heap's
 *
 * An extent is a block larger than a window: whole windows, mapped next to each other by those
 * who look into it. A ref with FMP_REF_EXTENT set names one.
 *
 * Lives in: struct fmp_arena in the process (one for each; tests make two), the rest in the arena.
 * Callers: any thread. After fork the child uses its parent's mapping and descriptor; see object.h
 * for what must happen around the fork. */
#ifndef FMP_ARENA_H
#define FMP_ARENA_H

#include <assert.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "core/result.h"
#include "platform/platform.h"

#define FMP_WINDOW_SHIFT 24
#define FMP_WINDOW_BYTES ((uint64_t)1 << FMP_WINDOW_SHIFT)
#define FMP_WINDOW_COUNT 8192

#define FMP_PLACE_OWNERS ((uint64_t)64 << 10)
#define FMP_PLACE_HEAP ((uint64_t)256 << 10)
#define FMP_PLACE_OBJECTS ((uint64_t)1 << 20)
#define FMP_PLACE_UNITS ((uint64_t)5 << 20)
#define FMP_PLACE_FREE ((uint64_t)8 << 20)
#define FMP_PLACE_ROWS FMP_WINDOW_BYTES
#define FMP_FIRST_FREE_WINDOW 5

#define FMP_ARENA_MAGIC UINT64_C(0x31414e4552504d46) /* "FMPRENA1" */
#define FMP_ARENA_LAYOUT 6u                          /* bump when a shared struct changes */

/* The place of something in the arena; 0 is none. A struct, so that it mixes with no size. */
typedef struct {
    uint64_t off;
} fmp_ref;

#define FMP_REF_NONE ((fmp_ref){0})
#define FMP_REF_EXTENT ((uint64_t)1) /* the bit in off that marks an extent: blocks lie on 16 bytes */

typedef struct {
    uint64_t magic;
    uint32_t layout;
    uint32_t pointer_bytes;
    uint64_t bytes; /* size of the file */
    uint64_t name;  /* tells this arena from others of the same machine since it was started */
} fmp_arena_header;

/* Free blocks of one size that this process keeps at hand (heap.h). */
#define FMP_SPARE_SIZES 12 /* up to 1 KiB */
#define FMP_SPARE_MOST 16

typedef struct {
    _Atomic uint32_t busy; /* a thread is at them: others do without */
    uint32_t count;
    uint64_t off[FMP_SPARE_MOST];
} fmp_spare;

typedef struct fmp_arena {
    fmp_memory memory;
    uint32_t self;           /* this process's owner id, 0 before it joined (owner.h) */
    uint32_t window_count;   /* of the file */
    pthread_mutex_t mapping; /* who changes windows[] */
    pthread_mutex_t local;   /* who changes the fields below, held over a fork */
    uint32_t *handles;       /* by object index: how often this process holds it (object.h) */
    uint32_t handles_room;
    uint32_t row_room; /* columns from 0 on for which this process's row has pages (object.h) */
    uint32_t child;    /* owner id reserved for the child of a fork under way (object.h) */
    fmp_time next_survey; /* when to look for dead children again (object.h) */
    _Atomic int keeps; /* whether it keeps any */
    fmp_spare spare[FMP_SPARE_SIZES];
    _Atomic(char *) windows[FMP_WINDOW_COUNT];
} fmp_arena;

/* Make a new arena and map its first window. -errno where the system refuses. */
int fmp_arena_create(fmp_arena *a);

/* Look into an existing arena, whose descriptor is owned from now on. -EBADMSG if it isn't one or
 * was made by a build with another layout. */
int fmp_arena_attach(fmp_arena *a, int fd);

/* Unmap and close. Nothing in the arena changes. */
void fmp_arena_detach(fmp_arena *a);

/* What tells this arena from others. */
uint64_t fmp_arena_name(fmp_arena *a);

/* Map window `index` if it isn't yet: its address, or NULL if the system refuses. */
char *fmp_arena_map_window(fmp_arena *a, uint32_t index);

/* Map `count` windows next to each other, as an extent needs: their address, or NULL. Whatever was
 * seen through them before must be out of use. */
char *fmp_arena_map_extent(fmp_arena *a, uint32_t first, uint32_t count);

/* The address of offset `off`, which isn't in an extent; NULL if its window can't be mapped. */
static inline void *
fmp_arena_at(fmp_arena *a, uint64_t off)
{
    uint32_t index = (uint32_t)(off >> FMP_WINDOW_SHIFT);
    char *window = fmp_load(&a->windows[index]);
    if (window == NULL && (window = fmp_arena_map_window(a, index)) == NULL)
        return NULL;
    return window + (off & (FMP_WINDOW_BYTES - 1));
}

/* The same for what this process looked at before. */
static inline void *
fmp_arena_again(fmp_arena *a, uint64_t off)
{
    return fmp_peek(&a->windows[off >> FMP_WINDOW_SHIFT]) + (off & (FMP_WINDOW_BYTES - 1));
}

/* The same for places in window 0, which is always mapped. */
static inline void *
fmp_arena_place(fmp_arena *a, uint64_t off)
{
    assert(off < FMP_WINDOW_BYTES);
    return fmp_peek(&a->windows[0]) + off;
}

#endif
