/* eventcount.h: the one way to wait in fastmp.
 *
 * An eventcount stands beside some shared state. Whoever finds the state not to his liking waits on
 * it; whoever changes the state signals it afterwards. Nothing else in the project sleeps on memory.
 *
 *   word  bit 0      ASLEEP: some process may be asleep on the word
 *         bits 1..31 a count that moves on with every signal to a sleeper
 *
 *   waiter                                      signaller
 *   1 spin while not ready(), for a while       1 change the state
 *   2 set ASLEEP                                2 if ASLEEP: add to the count, wake some
 *   3 if not ready(): sleep while word is same
 *
 * Invariants
 *   E1  A process sleeps on the word only while ASLEEP is set.
 *   E2  "Set ASLEEP, then look" and "change, then look at ASLEEP" are sequentially consistent: one
 *       of the two sees the other.
 *   E3  ASLEEP stays set when sleepers are woken, since more may sleep. It is cleared only by a
 *       signaller who woke nobody, together with the count, who then wakes all: whoever slipped in
 *       between looks again.
 *   E4  A sleep lasts one slice at the most (50 ms, growing to 1 s). So a signaller who was killed
 *       between 1 and 2 delays a waiter and never strands it; and a waiter may look, between slices,
 *       whether he waits for a dead process.
 * ready() must say yes whenever trying again could succeed; it may say yes too often. What it looks at is
 * loaded, and was changed, sequentially consistently (E2).
 *
 * Spinning is worth what a sleep and a wake-up cost, some 50 us. It never happens on one processor,
 * gives way when more processes spin than there are processors, and falls back to short tries in a
 * process where it does not pay.
 *
 * Lives in: arena, zero-filled. Callers: any thread of any process of the arena; fmp_ec_signal also
 * from signal handlers. After fork nothing is to be done. */
#ifndef FMP_EVENTCOUNT_H
#define FMP_EVENTCOUNT_H

#include "core/arena.h"

#define FMP_EC_ASLEEP UINT32_C(1)

typedef struct {
    _Atomic uint32_t word;
} fmp_eventcount;

typedef int (*fmp_ready_fn)(void *);

/* One wait as seen by the waiter, through all its sleeps and interruptions: made once, where the
 * deadline is known, and passed down to whatever blocks. */
typedef struct {
    fmp_time until;
    fmp_time slice; /* length of the next sleep */
    int hasty;      /* `until` is FMP_NOW, and others wait for the caller meanwhile: FMP_BUSY instead of a sleep */
    int spun;       /* spinning was tried already */
    uint64_t since; /* event.h: the state when the waiter came, plus 1 */
} fmp_waiter;

#define FMP_WAITER(deadline) ((fmp_waiter){.until = (deadline), .slice = 50 * FMP_MILLISECOND})

/* Wait until ready(arg) is likely: 0, look again. FMP_TIMEOUT once the deadline passed and it still isn't
 * ready. FMP_INTR on a signal, and at the end of each slice: let signal handlers run, see who lives,
 * then go on with the same waiter. */
int fmp_ec_wait(fmp_arena *a, fmp_eventcount *ec, fmp_ready_fn ready, void *arg, fmp_waiter *w);

/* Wake up to `count` waiters; after the state was changed. */
void fmp_ec_wake(fmp_eventcount *ec, int count);

static inline void
fmp_ec_signal(fmp_eventcount *ec, int count)
{
    if (atomic_load(&ec->word) & FMP_EC_ASLEEP) /* E2 */
        fmp_ec_wake(ec, count);
}

/* Spin until ready(arg), as long as it may pay: true if it got ready. For waits that end in something
 * else than an eventcount (a descriptor). `looks` calls of ready() take about 1 us: so many are made
 * before the clock is read and others are asked. */
int fmp_ec_spin(fmp_arena *a, fmp_ready_fn ready, void *arg, int looks, fmp_time until);

/* When the waiter's next sleep must end, for the same waits: each sleep may be longer than the one before. */
fmp_time fmp_ec_slice(fmp_waiter *w);

#endif
