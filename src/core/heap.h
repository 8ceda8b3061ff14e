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
 *   H5  A block is marked while there is more to be done at its end than to free it. Who has it does that, and
 *       takes the mark off, before he frees it; for a dead process whoever sweeps up does.
 *   H6  What a unit is used for is written once, when it is cut for good: who looks at all blocks reads it without
 *       a lock, while others grow, and never takes the bytes in a block for a head.
 *
 *   H7  A process may keep some free small blocks for itself, the warmest for its caches, and nobody else's lines travel
 *       for them. They have its id as their tag, so whoever sweeps up after it frees them as well, and `kept`, so they
 *       aren't counted as in use. They are fetched and given back several at a time; all of them before it leaves or
 *       becomes another owner, and a child of a fork has none.
 *
 * What is free keeps its pages, so that a steady stream meets warm ones, up to a limit: 32 MiB, and more
 * while blocks are wanted again soon after they had to give pages back, up to 512 MiB. Beyond it a block of
 * 64 KiB or more gives its pages back when it is freed (a punched hole), outside of any lock; cold blocks have a
 * list of their own and are taken last. When nothing large was wanted for a second, somebody who waits trims
 * what is kept to 16 MiB (fmp_heap_idle). All this is counted about right: no invariant hangs on it.
 *
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
    uint8_t marked; /* H5 */
    _Atomic uint8_t kept; /* H7 */
    uint64_t next; /* free: offset of the next free block. Extent: bytes of its first window that have pages */
} fmp_block;

_Static_assert(sizeof(fmp_block) == 16, "blocks are cut in steps of 64 bytes from offset 16");
_Static_assert(FMP_WINDOW_COUNT * FMP_WINDOW_BYTES / 64 <= UINT32_MAX / 2 + UINT64_C(1), "a short ref has 31 bits");

typedef struct {
    _Alignas(2 * FMP_CACHELINE) fmp_mutex lock;
    uint64_t free;      /* offset of the first free block that is warm, */
    uint64_t cold;      /* and that is cold */
    uint64_t moving;    /* H2 */
    uint64_t fresh;     /* the next never used block, and */
    uint64_t fresh_end; /* where they end */
} fmp_size_class;

/* What a window is used for, in bits 32..63 of its entry. Windows that hold units never change. The
 * entry of an extent's first window has the number of its windows in bits 0..31; those of its other
 * windows don't count, and say UNUSED. There bits 0..31 have how many pages, from its beginning on, the window has. */
enum { FMP_WINDOW_UNUSED, FMP_WINDOW_OF_UNITS, FMP_WINDOW_EXTENT };

typedef struct {
    fmp_size_class classes[FMP_HEAP_CLASSES];
    _Alignas(FMP_CACHELINE) fmp_mutex windows_lock; /* for all below, each of which is one store */
    uint64_t next_unit;  /* units are cut from here on */
    _Atomic uint32_t top_window; /* windows from here on were never used */
    _Atomic uint64_t windows[FMP_WINDOW_COUNT];
    _Alignas(FMP_CACHELINE) _Atomic uint64_t warm; /* bytes of large free blocks that have pages */
    _Atomic uint64_t warm_more;     /* what is kept beyond the least limit */
    _Atomic fmp_time released_at;   /* a block gave its pages back for the limit */
    _Atomic fmp_time missed_at;     /* one wanted pages again soon after */
    _Atomic fmp_time wanted_at;     /* a large block was wanted */
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

/* Does this process keep blocks at hand from now on (H7)? If not, it gives them back. In a child of a fork: they are
 * its parent's. */
void fmp_heap_keep(fmp_arena *a, int keeps);
void fmp_heap_forget(fmp_arena *a);

/* For those who wait, now and then: trim what is kept if nothing was wanted for a while. */
void fmp_heap_idle(fmp_arena *a);

/* Where a block's payload is in this process: NULL if it can't be mapped. */
void *fmp_heap_at(fmp_arena *a, fmp_ref ref);

/* How many bytes the block's payload has room for. */
uint64_t fmp_heap_room(fmp_arena *a, fmp_ref ref);

/* Hand a block over, by who has it: to the structure that frees it (SHARED), to a process, back. */
void fmp_heap_tag(fmp_arena *a, fmp_ref ref, uint32_t tag);

/* The same, where another may do so too: `from` to `to` by compare-and-swap. True if it was from's. */
int fmp_heap_retag(fmp_arena *a, fmp_ref ref, uint32_t from, uint32_t to);

/* H5 */
void fmp_heap_mark(fmp_arena *a, fmp_ref ref, int marked);

/* Ends a marked block, which is this process's by then. */
typedef void (*fmp_heap_end_fn)(fmp_arena *a, fmp_ref ref);

/* Free every block tagged by a process that is dead; those that are marked are ended instead. */
void fmp_heap_sweep(fmp_arena *a, uint32_t dead, fmp_heap_end_fn end);

/* A block's ref in 32 bits, and back; 0 is none. */
static inline uint32_t
fmp_heap_shorten(fmp_ref ref)
{
    return (uint32_t)(ref.off / 64) << 1 | (uint32_t)(ref.off & FMP_REF_EXTENT);
}

static inline fmp_ref
fmp_heap_lengthen(uint32_t ref)
{
    return ref == 0 ? FMP_REF_NONE : (fmp_ref){(uint64_t)(ref >> 1) * 64 + sizeof(fmp_block) + (ref & FMP_REF_EXTENT)};
}

/* Blocks handed out, and the bytes in them, found by looking at every block. */
void fmp_heap_usage(fmp_arena *a, uint64_t *blocks, uint64_t *bytes);

#endif
