#include "core/barrier.h"

#include <limits.h>

#include "core/owner.h"

struct look {
    fmp_barrier *barrier;
    uint32_t generation;
};

static int
has_passed(void *arg)
{
    struct look *l = arg;
    return atomic_load(&l->barrier->generation) != l->generation ||
           atomic_load(&l->barrier->state) == FMP_BARRIER_BROKEN;
}

static int
may_enter(void *arg)
{
    return atomic_load(&((fmp_barrier *)arg)->state) != FMP_BARRIER_LEAVING;
}

/* Whoever was killed while he held the guard was one of the parties, and left it half way. */
static void
enter(fmp_arena *a, fmp_barrier *b)
{
    if (fmp_mutex_enter(a, &b->guard) != FMP_OWNER_DEAD)
        return;
    atomic_store(&b->state, FMP_BARRIER_BROKEN); /* seq_cst: E2 of eventcount.h */
    fmp_ec_signal(&b->ec, INT_MAX);
}

/* Let the guard go, with the barrier in this state. */
static void
leave(fmp_barrier *b, uint32_t state)
{
    fmp_store(&b->state, state);
    fmp_mutex_unlock(&b->guard);
    fmp_ec_signal(&b->ec, INT_MAX);
}

static uint32_t
bit(uint32_t generation)
{
    return UINT32_C(1) << generation % 32;
}

/* The caller holds the guard. */
static void
next_generation(fmp_barrier *b, int broken)
{
    uint32_t g = fmp_peek(&b->generation);
    uint32_t bits = fmp_peek(&b->broken_bits);
    fmp_store(&b->broken_bits, broken ? bits | bit(g) : bits & ~bit(g));
    fmp_store(&b->count, 0);
    fmp_store(&b->generation, g + 1);
}

/* Does the last party live, and run the action? */
static int
action_goes_on(fmp_arena *a, fmp_barrier *b)
{
    return fmp_load(&b->state) == FMP_BARRIER_LEAVING && fmp_owner_alive(a, fmp_load(&b->actor));
}

static int
action_was_left(fmp_arena *a, fmp_barrier *b)
{
    return fmp_load(&b->state) == FMP_BARRIER_LEAVING && !fmp_owner_alive(a, fmp_load(&b->actor));
}

/* Break it if the last party was killed while it ran the action. False if not. */
static int
break_if_left(fmp_arena *a, fmp_barrier *b)
{
    if (!action_was_left(a, b))
        return 0;
    enter(a, b);
    leave(b, action_was_left(a, b) ? FMP_BARRIER_BROKEN : fmp_peek(&b->state));
    return 1;
}

int
fmp_barrier_arrive(fmp_arena *a, fmp_barrier *b, fmp_waiter *w, uint32_t *index, uint32_t *generation)
{
    for (;;) {
        enter(a, b);
        uint32_t state = fmp_peek(&b->state);
        if (state != FMP_BARRIER_LEAVING)
            break;
        fmp_mutex_unlock(&b->guard);
        int rc = fmp_ec_wait(a, &b->ec, may_enter, b, w);
        if (rc != 0 && !break_if_left(a, b))
            return rc;
    }
    int rc = FMP_BROKEN;
    if (fmp_peek(&b->state) == FMP_BARRIER_FILLING) {
        *generation = fmp_peek(&b->generation);
        *index = fmp_peek(&b->count);
        fmp_store(&b->count, *index + 1);
        rc = *index + 1 == b->parties ? FMP_LAST : 0;
        if (rc == FMP_LAST) {
            fmp_store(&b->actor, a->self);
            fmp_store(&b->state, FMP_BARRIER_LEAVING);
        }
    }
    fmp_mutex_unlock(&b->guard);
    return rc;
}

int
fmp_barrier_wait(fmp_arena *a, fmp_barrier *b, uint32_t generation, fmp_waiter *w)
{
    struct look l = {b, generation};
    int rc = 0;
    while (rc == 0 && !has_passed(&l)) {
        rc = fmp_ec_wait(a, &b->ec, has_passed, &l, w);
        if (rc == FMP_TIMEOUT && action_goes_on(a, b)) { /* all came in time */
            w->until = FMP_FOREVER;
            rc = 0;
        }
    }
    if (rc == FMP_INTR) {
        break_if_left(a, b);
        return rc;
    }
    enter(a, b);
    int passed = has_passed(&l);
    int broken = fmp_peek(&b->generation) == generation || (fmp_peek(&b->broken_bits) & bit(generation));
    if (!passed) {
        leave(b, FMP_BARRIER_BROKEN);
        return FMP_TIMEOUT;
    }
    fmp_mutex_unlock(&b->guard);
    return broken ? FMP_BROKEN : 0;
}

void
fmp_barrier_withdraw(fmp_arena *a, fmp_barrier *b, uint32_t generation)
{
    enter(a, b);
    uint32_t count = fmp_peek(&b->count);
    if (fmp_peek(&b->generation) == generation && fmp_peek(&b->state) == FMP_BARRIER_FILLING && count > 0)
        fmp_store(&b->count, count - 1);
    fmp_mutex_unlock(&b->guard);
}

/* The action of that generation is over. Under the guard: it still counts, unless an abort or a reset came first. */
static int
action_counts(const fmp_barrier *b, uint32_t generation)
{
    return fmp_peek(&b->state) == FMP_BARRIER_LEAVING && fmp_peek(&b->generation) == generation;
}

void
fmp_barrier_release(fmp_arena *a, fmp_barrier *b, uint32_t generation)
{
    enter(a, b);
    uint32_t state = fmp_peek(&b->state);
    if (action_counts(b, generation)) {
        next_generation(b, 0);
        state = FMP_BARRIER_FILLING;
    }
    leave(b, state);
}

void
fmp_barrier_fail(fmp_arena *a, fmp_barrier *b, uint32_t generation)
{
    enter(a, b);
    leave(b, action_counts(b, generation) ? FMP_BARRIER_BROKEN : fmp_peek(&b->state));
}

void
fmp_barrier_break(fmp_arena *a, fmp_barrier *b)
{
    enter(a, b);
    leave(b, FMP_BARRIER_BROKEN);
}

void
fmp_barrier_reset(fmp_arena *a, fmp_barrier *b)
{
    enter(a, b);
    if (fmp_peek(&b->count) > 0 || fmp_peek(&b->state) == FMP_BARRIER_BROKEN)
        next_generation(b, 1);
    leave(b, FMP_BARRIER_FILLING);
}
