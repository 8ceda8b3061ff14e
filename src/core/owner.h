/* owner.h: the processes that share the arena, who of them lives, and who is spinning.
 *
 * A process has a slot, and an owner id that names it alone: no id comes again before its slot was used
 * two million times, so a lock word that still names a dead process can't come to mean a living one.
 *
 *   id   bits 0..9   slot
 *        bits 10..30 generation of the slot, from 1
 *
 *   word of a slot: bits 0..2   state
 *                   bits 3..31  who answers for it: the process's pid, or, before it is LIVE, bits 0..28 of its parent's id;
 *                               of one that LEFT, its exit code + 1 if it has said that, until the slot is used again
 *                   bits 32..62 id
 *
 *   state of a slot   next, and who does it
 *   FREE              RESERVED by a process about to fork, or to make a child in another way
 *   RESERVED          LIVE by the child; by the parent: GONE, if the fork failed, FORKED after it, or PROMISED
 *   FORKED            LIVE by the child
 *   PROMISED          to a new program or to a child of another process: LIVE by that; GONE by who reserved
 *                     it, or with him, if it has not come
 *   LIVE              LEFT by the process itself when it ends in peace or has moved; GONE by its parent when it reaps
 *                     it, or by anybody who finds it dead
 *   LEFT, GONE        FREE with the next generation, by whoever swept up after it (object.h)
 *
 * Invariants
 *   O1  A slot leaves LIVE only if its process will never touch the arena again, or has moved to another.
 *   O2  A slot becomes FREE only after all it held was given back.
 *   O3  A RESERVED slot is its parent's for as long as that lives, since it writes to the child's row (B4): it may be
 *       stopped for hours in the midst of a fork. One that is FORKED, or whose parent died, and whose child never came, is
 *       GONE after 10 s (user forks that failed). A child that comes later doesn't get it.
 *   O4  Who asks about a process may read what its slot says of the next one meanwhile. Then he is told for once
 *       that it lives, or buries nobody: the word has another id.
 *   O5  Who is stopped before a change of a slot, and goes on when it is another's, changes nothing of that: all but the
 *       two times is in the word, which changes by compare-and-swap. `stamp` is written by a process that is LIVE, so
 *       that the slot stays its own. `reserved_at` only ends reservations of children that did not come, and one
 *       that is taken for older than it is makes an outlaw of a child at worst.
 *   O6  Who finds that nobody lives or will come ends what he looked at, by the same word: a child that comes meanwhile
 *       is alive, and would go on beside those who clean up after it.
 * Lives in: arena, FMP_PLACE_OWNERS. Zero-filled = all FREE. */
#ifndef FMP_OWNER_H
#define FMP_OWNER_H

#include "core/arena.h"

#define FMP_OWNER_SLOTS 1024
#define FMP_OWNER_OUTLAW UINT32_C(0x7fffffff) /* the id of all who found no slot: never buried, holds nothing */
#define FMP_OWNER_SLOT(id) ((id) & (FMP_OWNER_SLOTS - 1))

enum {
    FMP_OWNER_FREE,
    FMP_OWNER_RESERVED,
    FMP_OWNER_FORKED,
    FMP_OWNER_PROMISED,
    FMP_OWNER_LIVE,
    FMP_OWNER_LEFT,
    FMP_OWNER_GONE,
};

typedef struct {
    _Atomic uint64_t word;
    _Atomic uint64_t stamp; /* fmp_process_stamp of who is LIVE; 0: not written yet */
    _Atomic fmp_time reserved_at; /* written before RESERVED, by all who try for the slot, and before FORKED */
} fmp_owner_slot;

typedef struct {
    _Atomic uint32_t top;     /* slots from here on were never used */
    _Atomic uint32_t gone;    /* set when a slot became LEFT or GONE: somebody should sweep */
    _Atomic uint64_t spinning[FMP_OWNER_SLOTS / 64]; /* a bit for each slot: it burns a processor now */
    _Alignas(FMP_CACHELINE) fmp_owner_slot slots[FMP_OWNER_SLOTS];
} fmp_owner_table;

static inline fmp_owner_table *
fmp_owner_table_of(fmp_arena *a)
{
    return fmp_arena_place(a, FMP_PLACE_OWNERS);
}

#define FMP_OWNER_WHO_MASK ((UINT32_C(1) << 29) - 1) /* a pid has 22 bits at most */

static inline uint64_t
fmp_owner_word(uint32_t id, uint32_t who, uint32_t state)
{
    return (uint64_t)id << 32 | (who & FMP_OWNER_WHO_MASK) << 3 | state;
}

static inline uint32_t
fmp_owner_state_in(uint64_t word)
{
    return (uint32_t)word & 7;
}

static inline uint32_t
fmp_owner_who_in(uint64_t word)
{
    return (uint32_t)word >> 3;
}

static inline uint32_t
fmp_owner_id_in(uint64_t word)
{
    return (uint32_t)(word >> 32);
}

/* Take a slot for this process, which made or attached the arena: sets a->self. -EAGAIN if all
 * slots are taken. */
int fmp_owner_join(fmp_arena *a);

/* Before a fork: take a slot for the child. Its id is in *id. -EAGAIN if all are taken. */
int fmp_owner_reserve(fmp_arena *a, uint32_t *id);

/* After it, if this process has reserved the slot: the child has 10 s to come. */
void fmp_owner_forked(fmp_arena *a, uint32_t id);

/* Keep a reserved slot for as long as this process lives, or buries it. */
void fmp_owner_promise(fmp_arena *a, uint32_t id);

/* In the child: make the slot, reserved or promised, this process's. FMP_NOT_OWNER if it isn't any more. */
int fmp_owner_adopt(fmp_arena *a, uint32_t id);

/* In a child for which there was no slot: it may use what others hold, and make nothing. */
void fmp_owner_outlaw(fmp_arena *a);

/* The process of this id is dead (or its fork failed). Idempotent; false if it was known: somebody sweeps then, at
 * the latest. */
int fmp_owner_bury(fmp_arena *a, uint32_t id);

/* Nobody waits any more for the process that this slot was reserved for, or promised to. If it has come, and who
 * wanted it knows nothing of that, it lives: it is found dead when it has ended. 0 is no slot: nothing happens. */
void fmp_owner_withdraw(fmp_arena *a, uint32_t id);

/* This process is in the middle of nothing and gives up the slot, its only one before it ends with that exit code, from
 * 0 to 255, or its former one, then FMP_OWNER_GOES_ON. It has no other thread. */
#define FMP_OWNER_GOES_ON (-1)
void fmp_owner_leave(fmp_arena *a, uint32_t id, int exitcode);

/* The exit code that the process of this id has left, which may not have ended yet; -1 if it is not known. */
int fmp_owner_exitcode(fmp_arena *a, uint32_t id);

/* Does the process of this id live? Marks it GONE if not. Cheap if it is known to be dead, else it
 * asks the system, some microseconds. */
int fmp_owner_alive(fmp_arena *a, uint32_t id);

/* Is the process of this id known to be dead? One load; asks nobody. */
int fmp_owner_known_dead(fmp_arena *a, uint32_t id);

/* Ask the system about every slot; mark the dead. */
void fmp_owner_survey(fmp_arena *a);

/* The next LEFT or GONE slot's id at or after slot *at, which moves on; 0 at the end. *killed says
 * whether it was GONE: then it may have been in the middle of something. */
uint32_t fmp_owner_next_gone(fmp_arena *a, uint32_t *at, int *killed);

/* After all it held was given back: LEFT or GONE to FREE. */
void fmp_owner_recycle(fmp_arena *a, uint32_t id);

/* Slots in use (not FREE). */
uint32_t fmp_owner_count(fmp_arena *a);

/* Is the slot's row of holds one that counts? True unless it's FREE: until it was swept. */
int fmp_owner_holds(fmp_arena *a, uint32_t slot);

/* May this process begin to spin? Counts it among the spinners if so. */
int fmp_owner_spin_begin(fmp_arena *a, uint32_t most);
void fmp_owner_spin_end(fmp_arena *a);

#endif
