/* heap.h: blocks of arena memory.
 *
 * Every block starts with a head of 16 bytes and is one of a size class (64 bytes to 4 MiB, four
 * classes to a doubling) or an extent: whole windows for anything larger. Free blocks of a class form
 * a list, last in first out, because the block freed last is the warmest. Classes grow by units of
 * 64 KiB, cut from windows in order. (Units that are cut when their process is killed, some 50 ns before
 * they reach the class, are lost; nothing else ever is.)
 *
 *   tag of a block   meaning
 *   FREE             on its class's list
 *   id               being made or used by that process alone; freed if that process dies
 *   SHARED           part of a structure in the arena, which frees it
 *
 * Invariants
 *   H1  A tag changes from a dead process's id by compare-and-swap, so that of those who clean up only
 *       one gets the block.
 *   H2  Under a class's lock, before a block moves onto or off the list, `moving` names it. After a
 *       crash a block still named there is put on the list, if it isn't on it: nobody else knows it.
 *   H3  `fresh` blocks, behind the list, have no head yet that counts.
 *       Where stores must keep their order for this, fmp_step() stands between them.
 *   H4  Pages exist before a block is handed out: no access can fail later (no SIGBUS).
 *
 * Large free blocks beyond a limit give their pages back (punched holes), outside of any lock.
 * Lives in: arena, FMP_PLACE_HEAP and FMP_PLACE_UNITS. Callers: any thread, never under a lock that is
 * not to the left of heap in CONTRIBUTING's order (object, queue and cond locks are). */
#ifndef FMP_HEAP_H
#define FMP_HEAP_H

#include "core/mutex.h"

#define FMP_HEAP_CLASSES 60
#define FMP_UNIT_SHIFT 16
#define FMP_UNIT_BYTES ((uint64_t)1 << FMP_UNIT_SHIFT)
#define FMP_WINDOW_UNITS (FMP_WINDOW_BYTES / FMP_UNIT_BYTES)
#define FMP_BLOCK_MOST ((uint64_t)4 << 20) /* the largest class; anything above is an extent */

#define FMP_TAG_FREE 0u
#define FMP_TAG_SHARED UINT32_MAX

typedef struct {
    _Atomic uint32_t tag;
    uint8_t size_class;
    uint8_t cold; /* its pages were given back */
    uint16_t unused;
    uint64_t next; /* free: offset of the next free block. Extent: bytes that have pages */
} fmp_block;

_Static_assert(sizeof(fmp_block) == 16, "blocks are cut in steps of 64 bytes from offset 16");

typedef struct {
    _Alignas(2 * FMP_CACHELINE) fmp_mutex lock;
    uint64_t free;      /* offset of the first free block */
    uint64_t moving;    /* H2 */
    uint64_t fresh;     /* the next never used block, and */
    uint64_t fresh_end; /* where they end */
    _Atomic uint64_t cached; /* bytes of free blocks that have pages, about: no invariant hangs on it */
} fmp_size_class;

/* What a window is used for, in bits 32..63 of its entry. Windows that hold units never change. The
 * entry of an extent's first window has the number of its windows in bits 0..31; those of its other
 * windows don't count. */
enum { FMP_WINDOW_UNUSED, FMP_WINDOW_OF_UNITS, FMP_WINDOW_EXTENT };

typedef struct {
    fmp_size_class classes[FMP_HEAP_CLASSES];
    _Alignas(FMP_CACHELINE) fmp_mutex windows_lock; /* for all below, each of which is one store */
    uint64_t next_unit;  /* units are cut from here on */
    uint32_t top_window; /* windows from here on were never used */
    _Atomic uint64_t windows[FMP_WINDOW_COUNT];
} fmp_heap;

static inline fmp_heap *
fmp_heap_of(fmp_arena *a)
{
    return fmp_arena_place(a, FMP_PLACE_HEAP);
}

/* Once, by who made the arena. */
int fmp_heap_init(fmp_arena *a);

/* A block of at least `bytes`, tagged with this process: its ref, and where it is here. Contents are
 * undefined. -ENOMEM. */
int fmp_heap_alloc(fmp_arena *a, uint64_t bytes, fmp_ref *ref, void **payload);

/* The same, zeroed. */
int fmp_heap_alloc_zeroed(fmp_arena *a, uint64_t bytes, fmp_ref *ref, void **payload);

void fmp_heap_free(fmp_arena *a, fmp_ref ref);

/* Where a block's payload is in this process: NULL if it can't be mapped. */
void *fmp_heap_at(fmp_arena *a, fmp_ref ref);

/* How many bytes the block's payload has room for. */
uint64_t fmp_heap_room(fmp_arena *a, fmp_ref ref);

/* Hand a block over, by who has it: to the structure that frees it (SHARED), to a process, back. */
void fmp_heap_tag(fmp_arena *a, fmp_ref ref, uint32_t tag);

/* The same, where another may do so too: `from` to `to` by compare-and-swap. True if it was from's. */
int fmp_heap_retag(fmp_arena *a, fmp_ref ref, uint32_t from, uint32_t to);

/* Free every block tagged by a process that is dead. */
void fmp_heap_sweep(fmp_arena *a, uint32_t dead);

/* Blocks handed out, and the bytes in them, found by looking at every block. */
void fmp_heap_usage(fmp_arena *a, uint64_t *blocks, uint64_t *bytes);

#endif
