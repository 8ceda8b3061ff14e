/* event.pml: src/core/event.h and event.c: two waiters; a setter who clears at once, and with PARTIES=4 one who
 * only sets.
 *
 *   set then clear  without slices no waiter sleeps on while the flag is set or was set since he came
 *   E4              nor with a party killed, for longer than one slice
 *
 * Abstracted: the flag and the count are one word in the code, so they change in one step here; `sets` counts
 * when the flag goes up, and does not wrap. */
#ifndef PARTIES
#define PARTIES 3
#endif
#define EVENTCOUNTS 1
#define EC 1

#define WAS_SET(me) (flag || sets + 1 != since[me])
#ifdef BUG_FLAG_ALONE
#define READY(me, e) flag
#else
#define READY(me, e) WAS_SET(me) /* one word */
#endif

#include "eventcount.inc"

bool flag;
byte sets;
byte since[PARTIES]; /* of a waiter: `sets` when he came, plus 1 */


/* ---- src/core/event.c -------------------------------------------------------------------------------------------- */

/* The loop of compare-and-swap in one step: it tries again only if another one changed the word. */
inline set()
{
    d_step {
        yes = !flag;
        if
        :: yes -> flag = true; sets++
        :: else
        fi
    };
    if
#ifdef BUG_SIGNALS_ONE
    :: yes -> ec_signal(EC, 1)
#else
    :: yes -> ec_signal(EC, PARTIES)
#endif
    :: else
    fi
}

inline clear() { flag = false }

inline wait(me, rc)
{
    since[me] = sets + 1;
    rc = OK;
    do
    :: rc == OK ->
        if
        :: READY(me, EC) -> break
        :: else -> ec_wait(me, EC, rc)
        fi
    :: else -> break
    od;
    if
    :: READY(me, EC) -> rc = OK
    :: else
    fi
}

/* ---- what it is for ------------------------------------------------------------------------------------------ */

proctype waiter(byte me)
{
    byte seen, woken, rc;
    bool yes;
    {
        do
        :: wait(me, rc);
            if
            :: rc == OK -> break
            :: rc != OK && SLICES == ANY -> break
            :: else
            fi
        od;
        through(me)
    } unless {
        if
        :: killed(me)
        :: d_step { ALL_STILL && !WAS_SET(me) -> bed[me] = 0; through(me) } /* he came too late */
        fi
    }
}

proctype setter(byte me)
{
    byte seen, woken;
    bool yes;
    {
        set();
        if
        :: me == 2 -> clear()
        :: else
        fi;
        through(me)
    } unless { killed(me) }
}

init
{
    atomic { run waiter(0); run waiter(1); run setter(2)
#if PARTIES > 3
        ; run setter(3)
#endif
    }
}
