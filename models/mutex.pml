/* mutex.pml: src/core/mutex.h and mutex.c: three parties who each lock, change something in two steps, unlock.
 *
 *   M1  assertions: one party at a time is inside; who finds it half changed was told OWNER_DEAD; nobody
 *       else lets go of what one holds; at the end no living party holds it
 *   M2  assertions: who holds it is told so, and who does not is not (THREADS)
 *   E2  without slices everybody gets in, though one may give up at any moment (LEAVE: party 0)
 *   E4  with parties killed each sleeper needs one slice for each death at the most
 *
 *   robust  assertions (ROBUST): `recovered` is set while who took a dead one's place is inside, and never else; one heir
 *       is told of each death, and there is none of one who died with nothing; nobody but the holder lets go
 *
 * Variants: AGAIN: party 0 goes twice. THREADS: parties 0 and 1 are threads of one process.
 * Abstracted: depth, and FMP_MUTEX_PLAIN: one that nobody inherits. An owner id is a party's number plus 1:
 * none comes again (owner.h). */
#define PARTIES 3
#define EVENTCOUNTS 1
#define EC 1

#define READY(me, e) (owner == 0)

#include "eventcount.inc"

byte owner;
byte thread;
bool recovered;
bool told_of[PARTIES];
bool torn;
bool inside[PARTIES];

#ifdef THREADS
#define ID(me) (me < 2 -> 1 : me)
#else
#define ID(me) (me + 1)
#endif
#define THREAD(me) (me + 1)
#ifdef AGAIN
#define ROUNDS(me) (me == 0 -> 2 : 1)
#else
#define ROUNDS(me) 1
#endif

/* ---- src/core/mutex.h and mutex.c -------------------------------------------------------------------------- */

inline take(me, from)
{
#ifdef BUG_TAKE_STORE
    yes = owner == from;
    if
    :: yes -> owner = ID(me)
    :: else
    fi;
#else
    d_step {
        yes = owner == from;
        if
        :: yes -> owner = ID(me)
        :: else
        fi
    };
#endif
    if
    :: yes -> thread = THREAD(me)
    :: else
    fi
}

inline inherit(me)
{
    heir_of = owner;
#ifdef BUG_ALL_ARE_DEAD
    yes = heir_of != 0;
#else
    yes = heir_of != 0 && gone[heir_of - 1]; /* never with THREADS: nobody dies then */
#endif
    if
    :: yes -> take(me, heir_of)
    :: else
    fi;
#ifdef ROBUST
    if
    :: atomic { yes -> assert(!told_of[heir_of - 1]); told_of[heir_of - 1] = true; recovered = true }
    :: else
    fi;
#endif
    heir_of = 0
}

inline lock(me, rc)
{
    do
    :: take(me, 0);
        if
        :: yes -> rc = OK; break
        :: else
        fi;
        ec_wait(me, EC, rc);
        if
        :: rc == OK
        :: else ->
            inherit(me);
            if
#ifdef BUG_HEIR_IS_NOT_TOLD
            :: yes -> rc = OK
#else
            :: yes -> rc = OWNER_DEAD
#endif
            :: else
            fi;
            break
        fi
    od
}

inline enter(me, rc)
{
    do
    :: lock(me, rc);
        if
        :: rc == OK || rc == OWNER_DEAD -> break
        :: else
        fi
    od
}

inline unlock(me)
{
#ifdef BUG_OWNER_FIRST
    seen = owner;
    owner = 0;
    thread = 0;
#else
#ifndef BUG_THREAD_STAYS
    thread = 0; /* M2 */
#endif
    d_step { seen = owner; owner = 0 };
#endif
    assert(seen == ID(me)); /* M1 */
#ifndef BUG_NO_SIGNAL
    ec_signal(EC, 1)
#endif
}

#ifdef ROBUST
/* Of the lock, whoever holds it: he is refused unless it is his. */
inline unlock_robust(me)
{
    yes = owner == ID(me);
    yes = yes && thread == THREAD(me);
#ifdef BUG_ANYBODY_RELEASES
    yes = owner != 0;
#endif
    if
    :: yes ->
#ifndef BUG_RECOVERED_STAYS
        recovered = false;
#endif
        unlock(me)
    :: else
    fi
}
#else
#define unlock_robust(me) unlock(me)
#endif

inline is_not_mine(me)
{
    yes = owner == ID(me);
    yes = yes && thread == THREAD(me);
    assert(!yes)
}

/* ---- what it is for ------------------------------------------------------------------------------------------ */

#define ALONE(me) ((me == 0 || !inside[0] || gone[0]) && (me == 1 || !inside[1] || gone[1]) && \
                   (me == 2 || !inside[2] || gone[2]))

inline work(me, rc)
{
    d_step {
        inside[me] = true;
        assert(ALONE(me));
        assert(!torn || rc == OWNER_DEAD)
    };
    torn = true;
    assert(owner == ID(me) && thread == THREAD(me)); /* M2: it is his */
#ifdef ROBUST
    assert(recovered == (rc == OWNER_DEAD));
#endif
    d_step { torn = false; inside[me] = false }
}

proctype party(byte me)
{
    byte seen, woken, rc, heir_of, rounds;
    bool yes;
    {
        do
        :: rounds < ROUNDS(me) ->
#ifdef THREADS
            is_not_mine(me);
#endif
#ifdef LEAVE
            lock(me, rc);
            if
            :: rc == INTR
            :: else -> work(me, rc); unlock(me)
            fi;
#else
#ifdef ROBUST
            unlock_robust(me);
#endif
            enter(me, rc);
            work(me, rc);
            unlock_robust(me);
#endif
            rounds++
        :: else -> break
        od;
        through(me)
    } unless { killed(me) }
}

init
{
    atomic { run party(0); run party(1); run party(2) }
}

/* At the end nobody alive holds it. */
active proctype monitor()
{
end:
    atomic { ALL_ENDED && owner != 0 && !gone[owner - 1] -> assert(false) }
}
