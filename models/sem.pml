/* sem.pml: src/core/sem.h and sem.c: three parties who each wait for a permit and post it.
 *
 *   bound  assertions: never more permits out than there are; never a count beyond `max`, which here is what
 *          there is at first (GIVER: party 2 posts twice what it never took, and is refused)
 *   E2     without slices everybody gets a permit, though one may give up at any moment (LEAVE: party 0)
 *   E4     with a party killed each sleeper needs one slice at the most, as long as there is a permit: a dead
 *          party keeps its own
 *
 * Abstracted: a compare-and-swap that fails for no reason tries again, so it is not modelled. */
#define PARTIES 3
#define EVENTCOUNTS 1
#define EC 1
#ifndef PERMITS
#define PERMITS 1
#endif

#define READY(me, e) (count != 0)

#include "eventcount.inc"

byte count = PERMITS;
bool inside[PARTIES];

/* ---- src/core/sem.c -------------------------------------------------------------------------------------------- */

inline take()
{
    old = count;
    do
    :: old == 0 -> yes = false; break
    :: else ->
#ifdef BUG_TAKE_STORE
        count = old - 1;
        yes = true;
        break
#else
        d_step {
            yes = count == old;
            if
            :: yes -> count = old - 1
            :: else -> old = count
            fi
        };
        if
        :: yes -> break
        :: else
        fi
#endif
    od;
    old = 0
}

inline wait(me, rc)
{
    rc = OK;
    do
    :: take();
        if
        :: yes -> rc = OK; break
        :: !yes && rc != OK -> break
        :: else -> ec_wait(me, EC, rc)
        fi;
#ifdef BUG_LEAVES_WHEN_WOKEN
        if
        :: me == 0 -> rc = INTR; break
        :: else
        fi
#endif
    od
}

inline post()
{
    old = count;
    do
    :: old >= PERMITS -> yes = false; break
    :: else ->
#ifdef BUG_POST_STORE
        count++;
        yes = true;
        break
#else
        d_step {
            yes = count == old;
            if
            :: yes -> count = old + 1
            :: else -> old = count
            fi
        };
        if
        :: yes -> break
        :: else
        fi
#endif
    od;
    old = 0;
#ifndef BUG_NO_SIGNAL
    if
    :: yes -> ec_signal(EC, 1)
    :: else
    fi
#endif
}

/* ---- what it is for ------------------------------------------------------------------------------------------ */

#define INSIDE(i) (inside[i] -> 1 : 0)

proctype party(byte me)
{
    byte seen, woken, rc, old;
    bool yes;
    {
        wait(me, rc);
        if
        :: rc == OK ->
            d_step {
                inside[me] = true;
#ifndef GIVER
                assert(INSIDE(0) + INSIDE(1) + INSIDE(2) <= PERMITS)
#endif
            };
            inside[me] = false;
            post()
        :: else
#ifndef LEAVE
            -> assert(SLICES == ANY)
#endif
        fi;
        through(me)
    } unless {
        if
        :: killed(me)
        :: d_step { ALL_STILL && count == 0 -> bed[me] = 0; through(me) } /* a dead one keeps the permit */
        fi
    }
}

/* Posts what it never took. */
proctype giver(byte me)
{
    byte seen, woken, old;
    bool yes;
    {
        post();
        post();
        through(me)
    } unless { killed(me) }
}

init
{
    atomic {
        run party(0);
        run party(1);
#ifdef GIVER
        run giver(2)
#else
        run party(2)
#endif
    }
}

active proctype monitor()
{
end:
    atomic { count > PERMITS -> assert(false) }
}
