/* bell.pml: src/core/bell.h and bell.c: parties 0 and 1 each make the state ready once more and signal the bell; party 2
 * listens with a descriptor, without slices, and takes what there is. Party 3 sweeps up after the dead, as
 * fmp_object_sweep does (fmp_bell_settle).
 *
 *   L1     assertions: whoever has the lock, and repaired, finds the ear armed or its descriptor readable, not both
 *   L2     the listener doesn't sleep on while the state is ready
 *   L3     nor when a ringer was killed, wherever: the next ringer, or the sweep, makes up for him. No ring is lost
 *
 *   model          C                                model     C
 *   ring           fmp_bell_ring, _signal           calm      fmp_bell_calm
 *   settle         fmp_bell_settle                  repair    repair
 *
 * Abstracted: the lock, which mutex.pml is about, is taken in one step, and from a dead holder at once. One ear, which is
 * there from the start. */
#define PARTIES 4
#define EVENTCOUNTS 0
#define READY(me, e) true

#include "eventcount.inc"

#define LISTENER 2
#define ID(me) (me + 1)
#define IS_READY (made != taken)

byte lock, made, taken;
bool armed = true, readable;
bool swept[PARTIES];

inline ring_all()
{
    if
    :: armed ->
#ifdef BUG_DISARMS_FIRST
        armed = false;
        readable = true
#else
        readable = true; /* L3 */
        armed = false
#endif
    :: else
    fi
}

inline enter(me)
{
    if
    :: atomic { lock == 0 -> lock = ID(me) }
#if KILLS > 0
    :: atomic { lock != 0 && gone[lock - 1] -> lock = ID(me) };
#ifndef BUG_NO_REPAIR
        ring_all()
#endif
#endif
    fi;
    assert(gone[LISTENER] || armed != readable) /* L1 */
}

inline leave()
{
    if
    :: armed && IS_READY -> ring_all()
    :: else
    fi;
    lock = 0
}

inline ring(me)
{
    enter(me);
    leave()
}

inline signal(me)
{
#ifdef BUG_LOOKS_FIRST
    yes = armed;
    made++;
#else
    made++;
    yes = armed; /* L2 */
#endif
    if
    :: yes -> ring(me)
    :: else
    fi
}

inline calm(me)
{
    enter(me);
    if
    :: !armed -> readable = false; armed = true
    :: else
    fi;
#ifdef BUG_ARMS_BLINDLY
    lock = 0
#else
    leave()
#endif
}

inline sweep(me)
{
    if
    :: (gone[0] && !swept[0]) || (gone[1] && !swept[1]) ->
        d_step { swept[0] = gone[0]; swept[1] = gone[1] };
#ifdef BUG_NO_SETTLE
        skip
#else
        if
        :: lock != 0 || armed -> ring(me)
        :: else
        fi
#endif
    :: else
    fi
}

proctype ringer(byte me)
{
    bool yes;
    {
        signal(me);
        through(me)
    } unless { killed(me) }
}

proctype listener(byte me)
{
    bool yes;
    {
        do
        :: IS_READY -> taken++
        :: else ->
            calm(me);
            bed[me] = 1;
            readable;
            bed[me] = 0
        od
    } unless {
        if
        :: killed(me)
        :: d_step { ended[0] && ended[1] && ended[3] && bed[me] != 0 && !IS_READY -> through(me) }
        fi
    }
}

/* One who is never killed, and finds the dead. */
proctype survivor(byte me)
{
    bool yes;
    ended[0] && ended[1];
    sweep(me);
    through(me)
}

init
{
    atomic { run ringer(0); run ringer(1); run listener(LISTENER); run survivor(3) }
}
