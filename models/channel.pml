/* channel.pml: src/core/channel.h and channel.c, one way of a channel: parties 0 and 1 each send a message and close the
 * end that both have, or leave it open (OPEN); party 2 receives until the end. LISTENED: he waits as a poller of the descriptor does, who has no
 * slices, and looks when it is readable.
 *
 *   C1     assertions: while nobody holds the lock, RUNG is a byte in the socket, and SILENT (LISTENED) is none
 *   C2     without kills, and without slices, the receiver doesn't sleep on while there is a message
 *   C3     assertions (LISTENED): when he found no message, and nobody sends, the descriptor is not readable
 *   C5     assertions: EOF when all senders have closed it or are dead, never before, and after all that was sent
 *   death  whenever a sender is killed, his message is behind a byte or not there; where the receiver has slices (C6) he
 *          needs one for each death at the most. The hang-up comes after all others' messages
 *
 *   model          C                                      model                     C
 *   send           push, ring_and_add, leave_and_ring     silence                   silence
 *   receiver       fmp_channel_receive, calm              sleep_on, look_behind     the same
 *
 * Abstracted: the lock, which mutex.pml is about, is taken in one step, and from a dead holder at once: UNSURE is all that
 * he leaves (C1). The queue, which queue.pml is about, is two numbers. check_peer and `leavings` (a sender's), the spin,
 * labels, others' bytes in the socket (C4). Of bytes the socket has up to three. */
#define PARTIES 3
#define EVENTCOUNTS 0
#define READY(me, e) true

#include "eventcount.inc"

#define RECEIVER 2
#define ID(me) (me + 1)

#define RUNG 0
#define SILENT 1
#define UNSURE 2
#define EMPTY 4
#define END 5

byte lock, bell, turn;
byte bytes = 1; /* in the socket */
byte pushed, taken;
bool dozing;
bool closed[PARTIES];

#ifdef LISTENED
#define BELL_LIES ((bell == RUNG && bytes == 0) || (bell == SILENT && bytes != 0))
#else
#define BELL_LIES (bell == RUNG && bytes == 0) /* C6: a byte may come late */
#endif
#define HAS_ITEMS (pushed != taken)
#define HUNG_UP ((closed[0] || gone[0]) && (closed[1] || gone[1]))

inline enter(me)
{
    atomic { lock == 0 || gone[lock - 1] -> lock = ID(me) }
}

inline write_byte()
{
    d_step { bytes = (bytes < 3 -> bytes + 1 : 3) }
}

/* ---- src/core/channel.c ------------------------------------------------------------------------------------ */

inline send(me)
{
    enter(me);
#ifdef LISTENED
    yes = false;
#else
    yes = dozing;
#endif
    if
    :: bell == RUNG -> pushed++
    :: bell != RUNG && !yes -> /* ring_and_add */
        bell = UNSURE;
#ifdef BUG_NO_RING
        pushed++
#elif defined(BUG_PUSHES_FIRST)
        pushed++;
        write_byte();
        bell = RUNG
#else
        write_byte();
        pushed++;
        bell = RUNG
#endif
    :: bell != RUNG && yes -> /* leave_and_ring: C6 */
        pushed++;
        turn++;
        was = turn;
        bell = UNSURE;
        lock = 0;
        write_byte();
        enter(me);
#ifdef BUG_NO_TURN
        bell = RUNG
#else
        if
        :: turn == was -> bell = RUNG
        :: turn != was && bell == SILENT -> bell = UNSURE
        :: else
        fi
#endif
    fi;
    d_step { was = 0; yes = false; lock = 0 }
}

inline silence(me, rc)
{
#ifdef BUG_LOOKS_BEFORE_THE_LOCK
    yes = HAS_ITEMS;
    enter(me);
#else
    enter(me);
    yes = HAS_ITEMS;
#endif
    if
    :: yes -> rc = OK
    :: else ->
        bell = UNSURE;
#ifdef BUG_TURN_AFTER
        bytes = 0;
        turn++;
#else
        turn++;
        bytes = 0;
#endif
        bell = SILENT;
        rc = EMPTY
    fi;
    d_step { yes = false; lock = 0 }
}

inline look_behind(me, rc)
{
    yes = HUNG_UP;
    if
    :: yes ->
#ifdef BUG_END_IS_FINAL
        rc = END
#else
        rc = (HAS_ITEMS -> OK : END) /* C5 */
#endif
    :: else -> silence(me, rc)
    fi
}

inline sleep_on(me, rc)
{
    if
    :: HAS_ITEMS -> rc = OK
    :: !HAS_ITEMS && bell == SILENT -> rc = EMPTY
    :: else -> silence(me, rc)
    fi;
    if
    :: rc == EMPTY ->
        dozing = true;
        d_step { bed[me] = 1 };
        if
        :: bytes != 0 || HUNG_UP -> rc = OK
#if SLICES == LAST && !defined(LISTENED)
        :: d_step { ended[0] && ended[1] && naps[me] < NAPS -> naps[me]++; rc = TIMEOUT }
#endif
        fi;
        d_step { bed[me] = 0; dozing = false };
        if
        :: HAS_ITEMS -> rc = OK
        :: !HAS_ITEMS && rc == OK -> look_behind(me, rc)
        :: else
        fi
    :: else
    fi
}

/* ---- what it is for ------------------------------------------------------------------------------------------ */

proctype sender(byte me)
{
    byte was;
    bool yes;
    {
        send(me);
#ifndef OPEN
        closed[me] = true;
#endif
        through(me)
    } unless { killed(me) }
}

proctype receiver(byte me)
{
    byte rc;
    bool yes;
    {
        do
        :: HAS_ITEMS -> taken++
#ifdef LISTENED
            ;
            if
            :: bell != SILENT && !HAS_ITEMS -> silence(me, rc) /* calm */
            :: else
            fi
#endif
        :: else ->
            sleep_on(me, rc);
            if
            :: rc == END -> break
            :: else
            fi
        od;
        assert(HUNG_UP && !HAS_ITEMS);
        through(me)
    } unless {
        if
        :: killed(me)
#ifdef OPEN
        :: d_step { ended[0] && ended[1] && bed[me] != 0 && !HAS_ITEMS -> through(me) }
#endif
        fi
    }
}

init
{
    atomic { run sender(0); run sender(1); run receiver(RECEIVER) }
}

/* C1 */
active proctype monitor()
{
end:
    atomic { lock == 0 && BELL_LIES -> assert(false) }
}
