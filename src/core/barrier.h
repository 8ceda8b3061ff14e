/* barrier.h: where a number of parties wait for each other.
 *
 *   state    next
 *   FILLING  LEAVING when the last party came (it runs the action then)
 *   LEAVING  FILLING, in the next generation, when the action is over
 *   BROKEN   FILLING, in the next generation, by reset
 * Whoever times out, aborts, or whose action fails, makes it BROKEN: all who wait are told, and so is
 * everybody who comes until reset. A reset while some wait breaks it for those alone.
 *
 * A waiter belongs to the generation in which he came; `broken_bits` remembers for the last 32
 * generations which were broken, so that he learns the outcome of his own however late he wakes.
 * A party that is killed never comes: the others' timeouts are the remedy, as in the standard library.
 *
 * One that is killed while it holds the guard, or runs the action, leaves it BROKEN: who waits, or comes, finds
 * that out. A deadline counts until all have come: the action may take longer.
 *
 * Lives in: arena. All fields change under `guard`. Callers: any thread. */
#ifndef FMP_BARRIER_H
#define FMP_BARRIER_H

#include "core/mutex.h"

enum { FMP_BARRIER_FILLING, FMP_BARRIER_LEAVING, FMP_BARRIER_BROKEN };

typedef struct {
    fmp_mutex guard;
    uint32_t parties;
    _Atomic uint32_t state;
    _Atomic uint32_t count; /* of those who wait in this generation */
    _Atomic uint32_t generation;
    _Atomic uint32_t actor;       /* owner id of the last party, while LEAVING */
    _Atomic uint32_t broken_bits; /* bit g % 32: generation g was broken */
    fmp_eventcount ec;
} fmp_barrier;

/* Come to the barrier: *index is how many came before. FMP_LAST if this is the last party, who then
 * runs the action and calls fmp_barrier_release or fmp_barrier_fail. 0: wait with fmp_barrier_wait for
 * generation *generation. FMP_BROKEN. FMP_TIMEOUT or FMP_INTR before having come, while others leave. */
int fmp_barrier_arrive(fmp_arena *a, fmp_barrier *b, fmp_waiter *w, uint32_t *index, uint32_t *generation);

/* 0 when all parties came, FMP_BROKEN, FMP_TIMEOUT (the barrier is broken now) or FMP_INTR (call it
 * again, or withdraw). */
int fmp_barrier_wait(fmp_arena *a, fmp_barrier *b, uint32_t generation, fmp_waiter *w);

/* After FMP_INTR: this party doesn't want to wait any more. The others go on waiting. */
void fmp_barrier_withdraw(fmp_arena *a, fmp_barrier *b, uint32_t generation);

/* The action of the generation is over, or failed. In vain if it was broken or reset meanwhile: what others do
 * since then is their own. */
void fmp_barrier_release(fmp_arena *a, fmp_barrier *b, uint32_t generation);
void fmp_barrier_fail(fmp_arena *a, fmp_barrier *b, uint32_t generation);

void fmp_barrier_break(fmp_arena *a, fmp_barrier *b);
void fmp_barrier_reset(fmp_arena *a, fmp_barrier *b);

#endif
