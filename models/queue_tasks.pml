/* queue_tasks.pml: the unfinished tasks of src/core/queue.h and queue.c: party 0 puts one and joins; party 2 puts one and joins
 * as well (JOINERS), or works; so does party 1: as long as there are tasks it takes one and says that it is done.
 *
 *   Q5        assertion: never more are done than were pushed; who took a task is never told that all are done already
 *   join      assertions: it ends only if all were done at a moment since it began; what is done is counted once
 *   E2, E4    nobody sleeps on when all are done, as in the other models; a task whose taker was killed is done by nobody, and
 *             who joins waits for it (the program's own matter, see the README)
 *
 * Variant EXTRA: workers take nothing, and say of two tasks each that they are done. Abstracted: pushing and taking, which
 * queue.pml is about, are a store each. */
#define PARTIES 3
#define EVENTCOUNTS 1
#define IDLE 1
#define ALL_DONE (done >= pushed)
#define READY(me, e) ALL_DONE

byte pushed, taken, done;

#include "eventcount.inc"

#ifdef JOINERS
#define LAST_JOINER 2
#else
#define LAST_JOINER 0
#endif

bool put_it[PARTIES];   /* what it had to put */
bool were_done[PARTIES]; /* all, at a moment since the party began to join */
byte said;              /* how often somebody was told that his word counts */

#define PUT(i) (put_it[i] || gone[i])

inline put(me)
{
    d_step { pushed++; put_it[me] = true }
}

/* A task, if there is one still to come. */
inline take(me)
{
    if
#ifdef EXTRA
    :: true -> yes = true
#else
    :: atomic { taken < pushed -> taken++; yes = true }
    :: taken == pushed && PUT(0) && PUT(2) -> yes = false
#endif
    fi
}

/* Are all done? In two looks. */
inline all_done()
{
#ifdef BUG_PUSHED_FIRST
    number = pushed;
    atomic { yes = done >= number; number = 0 }
#else
    number = done;
    atomic { yes = number >= pushed; number = 0 }
#endif
}

inline count_it(new)
{
    d_step {
        assert(new <= pushed);
        done = new;
        said++;
        if
        :: done == pushed -> were_done[0] = true; were_done[2] = true
        :: else
        fi
    }
}

inline task_done(me)
{
#ifdef BUG_SIGNALS_FIRST
    ec_signal(IDLE, PARTIES);
#endif
    number = done;
    do
    :: number >= pushed -> rc = TIMEOUT; break /* FMP_FULL */
    :: else ->
        if
#ifdef BUG_ADDS_BLINDLY
        :: count_it(done + 1); rc = OK; number = 0; break
#elif defined(BUG_STORES_BLINDLY)
        :: count_it(number + 1); rc = OK; number = 0; break
#else
        :: atomic { done == number -> count_it(number + 1); rc = OK; number = 0 }; break
        :: atomic { done != number -> number = done }
#endif
        fi
    od;
    if
    :: rc == OK ->
#ifndef BUG_SIGNALS_FIRST
        all_done();
        if
        :: yes ->
            yes = false;
#ifdef BUG_SIGNALS_ONE
            ec_signal(IDLE, 1)
#elif !defined(BUG_NO_SIGNAL)
            ec_signal(IDLE, PARTIES)
#endif
        :: else
        fi
#endif
    :: else -> number = 0
    fi
}

inline join(me)
{
    were_done[me] = ALL_DONE;
    do
    :: all_done();
        if
        :: yes -> yes = false; break
        :: else -> ec_wait(me, IDLE, rc); rc = 0
        fi
    od;
    assert(were_done[me])
}

inline work(me)
{
    do
    :: take(me);
        if
        :: yes ->
            yes = false;
            task_done(me);
#ifdef EXTRA
            rc = 0;
            task_done(me);
            break
#else
            assert(rc == OK)
#endif
        :: else -> break
        fi
    od;
    rc = 0
}

proctype party(byte me)
{
    byte seen, woken, rc, number;
    bool yes;
    {
        if
        :: me != 1 -> put(me)
        :: else
        fi;
        if
        :: me == 0 || me == LAST_JOINER -> join(me)
        :: else -> work(me)
        fi;
        through(me)
    } unless {
        if
        :: killed(me)
        :: d_step { ALL_STILL && !ALL_DONE && bed[me] != 0 -> bed[me] = 0; through(me) } /* waits for a task that nobody does */
        fi
    }
}

init
{
    atomic { run party(0); run party(1); run party(2) }
    ALL_ENDED;
    assert(done == said);
#ifndef EXTRA
    assert(kills > 0 || ALL_DONE)
#endif
}
