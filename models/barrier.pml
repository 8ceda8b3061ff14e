/* barrier.pml: src/core/barrier.h and barrier.c: three parties come to a barrier for two, one of them too late; or
 * (PARTIES=2) two, twice; or (RESET) one party comes twice, another resets the barrier and then comes. The action of
 * the last may fail (FAIL).
 *
 *   gate     assertions: nobody goes on as through an unbroken barrier before all came and the action is over
 *   outcome  assertions: all who waited in a generation learn the same, however late they wake
 *   count    assertions: while the barrier fills, `count` is who came in this generation and did not withdraw
 *   E2       without slices nobody sleeps on when his generation is over, or broken, or when he may come; though one
 *            may give up (SLICES=FIRST: party 0 at a deadline; WITHDRAW: because of a signal)
 *   E4       with parties killed each sleeper needs one slice for each death at the most, and the action of a dead one
 *            keeps nobody. Who waits for a party that is dead waits for ever: timeouts are the remedy
 *
 *   model            C                                    model         C
 *   enter            enter                                await         fmp_barrier_wait
 *   next_generation  next_generation                      withdraw      fmp_barrier_withdraw
 *   arrive           fmp_barrier_arrive                   break_if_left break_if_left
 *   let_go, fail     fmp_barrier_release, _fail           MY_ACTION     action_counts
 *
 * Abstracted: the guard, which mutex.pml is about, is taken in one step, and from a dead holder at once. The looks of
 * has_passed are one. `broken_bits` are four. A step is a store: what is loaded under the guard nobody else can change. */
#ifndef PARTIES
#define PARTIES 3
#endif
#define EVENTCOUNTS 1
#define EC 1
#define SIZE 2
#define GENERATIONS 4

#define FILLING 0
#define LEAVING 1
#define BROKEN 2
#define LAST_ONE 4 /* what else arrive gives */
#define IS_BROKEN 5

#define PASSED(me) (generation != mine[me] || state == BROKEN)
#define READY(me, e) (coming[me] -> state != LEAVING : PASSED(me))

#include "eventcount.inc"

byte guard, state, count, generation, actor;
bool broken_bit[GENERATIONS];

bool coming[PARTIES];
byte mine[PARTIES];
byte came[GENERATIONS];  /* and did not withdraw */
bool acted[GENERATIONS]; /* the action is over */
bool good[GENERATIONS], bad[GENERATIONS];

#define ID(me) (me + 1)
#define ACTION_WAS_LEFT (state == LEAVING && gone[actor - 1])

/* ---- src/core/barrier.c ------------------------------------------------------------------------------------ */

inline signal_all()
{
#ifdef BUG_NO_SIGNAL
    skip
#else
    ec_signal(EC, PARTIES)
#endif
}

inline enter(me)
{
    if
    :: atomic { guard == 0 -> guard = ID(me) }
#if KILLS > 0
    :: atomic { guard != 0 && gone[guard - 1] -> guard = ID(me) };
#ifndef BUG_NO_REPAIR
        state = BROKEN;
        signal_all()
#endif
#endif
    fi
}

inline leave(to)
{
    state = to;
    guard = 0;
    signal_all()
}

inline next_generation(broken)
{
    assert(generation < GENERATIONS);
#ifndef BUG_FORGETS_THE_BROKEN
    broken_bit[generation] = broken;
#endif
    count = 0;
    generation++
}

inline break_if_left(me)
{
    if
    :: ACTION_WAS_LEFT ->
        enter(me);
        if
        :: ACTION_WAS_LEFT -> leave(BROKEN)
        :: else -> guard = 0
        fi
    :: else
    fi
}

inline arrive(me, rc)
{
    coming[me] = true;
    do
    :: enter(me);
        if
        :: state != LEAVING -> rc = IS_BROKEN; break
        :: else -> guard = 0
        fi;
        ec_wait(me, EC, rc);
#ifndef BUG_LEFT_ACTION_KEEPS_OUT
        if
        :: rc == INTR -> break_if_left(me)
        :: else
        fi;
#endif
#ifdef WITHDRAW
        if
        :: rc == INTR && me == 0 -> goto out
        :: else
        fi
#endif
    od;
    if
    :: state == FILLING ->
        d_step { mine[me] = generation; coming[me] = false; assert(count == came[generation] && count < SIZE) };
        d_step { count++; came[generation]++ };
        rc = OK;
        if
        :: count == SIZE -> actor = ID(me); state = LEAVING; rc = LAST_ONE
        :: else
        fi
    :: else
    fi;
    guard = 0
}

/* At a deadline the rest is for the action, if that goes on; at a slice's end, and after a signal, it is INTR. */
inline await(me, rc)
{
    rc = OK;
    do
    :: rc == OK && !PASSED(me) ->
        ec_wait(me, EC, rc);
#if SLICES == FIRST && !defined(WITHDRAW)
        if
        :: rc == INTR -> rc = (state == LEAVING && !gone[actor - 1] -> OK : TIMEOUT)
        :: else
        fi
#endif
    :: else -> break
    od;
    if
#ifdef BUG_WAITS_FOR_DEAD_ACTOR
    :: rc == INTR
#else
    :: rc == INTR -> break_if_left(me)
#endif
    :: else ->
        enter(me);
        if
        :: !PASSED(me) -> assert(rc == TIMEOUT); bad[mine[me]] = true; leave(BROKEN)
        :: else ->
            if
            :: generation == mine[me] || broken_bit[mine[me]] -> bad[mine[me]] = true; rc = IS_BROKEN
            :: else -> good[mine[me]] = true; rc = OK; assert(came[mine[me]] == SIZE && acted[mine[me]])
            fi;
            guard = 0
        fi;
        assert(!good[mine[me]] || !bad[mine[me]])
    fi
}

inline withdraw(me)
{
    enter(me);
    if
    :: generation == mine[me] && state == FILLING && count > 0 -> d_step { count--; came[generation]-- }
    :: else
    fi;
    guard = 0
}

#ifdef BUG_ENDS_ANOTHERS_ACTION
#define MY_ACTION(me) (state == LEAVING)
#else
#define MY_ACTION(me) (state == LEAVING && generation == mine[me])
#endif

inline let_go(me)
{
    enter(me);
    if
    :: MY_ACTION(me) -> next_generation(false); leave(FILLING)
    :: else -> guard = 0
    fi
}

inline fail(me)
{
    enter(me);
    if
    :: MY_ACTION(me) -> leave(BROKEN)
    :: else -> guard = 0
    fi
}

inline reset(me)
{
    enter(me);
    if
    :: count > 0 || state == BROKEN -> next_generation(true)
    :: else
    fi;
    leave(FILLING)
}

/* ---- what it is for -------------------------------------------------------------------------------------------- */

#if PARTIES == 2
#define ROUNDS(me) 2
#elif defined(RESET)
#define ROUNDS(me) (me == 1 -> 2 : 1)
#else
#define ROUNDS(me) 1
#endif

inline visit(me, rc)
{
    arrive(me, rc);
    if
    :: rc == LAST_ONE ->
        acted[mine[me]] = true; /* the action */
        if
        :: let_go(me)
#ifdef FAIL
        :: fail(me)
#endif
        fi
    :: rc == OK ->
        do
        :: await(me, rc);
            if
#ifdef WITHDRAW
            :: rc == INTR && me == 0 -> withdraw(me); break
            :: rc != INTR || me != 0 -> if :: rc != INTR -> break :: else fi
#else
            :: rc != INTR -> break
            :: else
#endif
            fi
        od
    :: else
    fi
}

proctype party(byte me)
{
    byte seen, woken, rc, rounds;
    bool yes;
    {
#ifdef RESET
        if
        :: me == 2 -> reset(me)
        :: else
        fi;
#endif
        do
        :: rounds < ROUNDS(me) && rc != TIMEOUT -> visit(me, rc); rounds++
        :: else -> break
        od;
out:
        through(me)
    } unless {
        if
        :: killed(me)
        :: d_step { /* others do not come any more */
            ALL_STILL && !coming[me] && state == FILLING && generation == mine[me] -> bed[me] = 0; through(me) }
        fi
    }
}

init
{
    atomic {
        run party(0);
        run party(1);
#if PARTIES > 2
        run party(2)
#endif
    }
}
