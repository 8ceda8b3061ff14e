/* object.pml: src/core/object.h, object.c and owner.c: one object, the rows of three processes, and what carries the object.
 *
 *   MAIL         party 0 makes the object, ships it twice, sends one of the messages, gives the other up, and drops it;
 *                party 1 takes the message, attaches to the object, lands the cargo, uses and drops it; party 2 sweeps
 *   otherwise    party 1, which holds the object, forks party 0, and drops it; so does party 0 then, and party 2, which held it
 *                from the beginning and sweeps
 *
 *   holders      assertions: whoever has a handle uses what exists; the object is destroyed once, and not while a living
 *                party has a handle, or while a message that somebody can still take carries it
 *   B2           who destroys looks at the rows one after the other, while a fork copies one and its parent is killed
 *   B3, B5       assertions: at the end, when one who is never killed has swept up, nothing is left: no entry, no block, no
 *                slot, no count. It sweeps only if it is told that somebody is gone
 *   O2, O3, O6   a slot is FREE after all is swept, and its row is empty: nobody writes to it who does not have the slot any
 *                more, however long he is stopped; a child that comes too late to its slot doesn't get it
 *
 *   model                     C                                       model           C
 *   held, destroy             the same, destroy_if_free               fork            prepare, fmp_owner_reserve, copy_row,
 *                                                                                     in_parent, fmp_owner_forked
 *   book, repair, enter       the same                                adopt           in_child, fmp_owner_adopt
 *   create, attach, drop      fmp_object_create, ...                  leave           fmp_owner_leave
 *   ship, land                fmp_object_ship, land                   reaper          fmp_owner_bury, fmp_owner_alive
 *   sweep                     fmp_object_sweep, clear_row,            send, take      a queue with one place (Q2, Q3 of queue.h),
 *                             sweep_blocks                            settle          whose lock is no matter here
 *
 * Abstracted: locks, which mutex.pml is about, are taken in one step, and from a dead holder at once; blocks are
 * heap.pml's. Handles are one for each process, and a cargo has one ticket. Loose objects: a count without a
 * cargo. Promises: what a fork does, in more steps. That a slot is used again: what is in it has another id. */
#define PARTIES 3
#define EVENTCOUNTS 0
#define READY(me, e) true

#include "eventcount.inc"

#define FREE 0
#define SHARED 9
#define ID(me) (me + 1)
#define SURVIVOR PARTIES

/* Blocks: the object, and two cargoes. */
#define OBJECT 0
#define SENT 1
#define KEPT 2
#define BLOCKS 3

#define NOT_IN_USE 0 /* a slot that is FREE */
#define RESERVED 1
#define FORKED 2
#define LIVE 3
#define LEFT 4
#define GONE 5

#define TO_COME(i) (state[i] == RESERVED || state[i] == FORKED)

byte state[PARTIES];
bool row[PARTIES];  /* the object's column */
bool some_gone;
bool reaped[PARTIES]; /* by its parent */
byte lock;          /* the table's */
bool entry;         /* B1 */
byte in_flight;
byte tag[BLOCKS];
bool marked[BLOCKS];
bool count[BLOCKS]; /* of the cargo */
byte booking, its_in_flight; /* B5 */
bool its_count;
bool slot;          /* the queue, with the message SENT in it */
byte queue_lock;

bool handle[PARTIES]; /* that a living party has */
bool forked;

#define HAS(i) (handle[i] && LIVES(i))

/* From a dead holder, with what it takes to repair. */
#define TAKE_LOCK(l, me, repairs) \
    if \
    :: atomic { l == 0 -> l = ID(me) } \
    :: atomic { l != 0 && l <= PARTIES && gone[l - 1] -> l = ID(me) }; repairs \
    fi

/* ---- src/core/owner.c ------------------------------------------------------------------------------------------- */

inline leave(me)
{
    state[me] = LEFT;
    some_gone = true
}

/* In the child. Before, it has done nothing with what it inherits. */
inline adopt(me)
{
    yes = TO_COME(me);
    if
#ifdef BUG_ADOPTS_BLINDLY
    :: yes -> d_step { state[me] = LIVE; handle[me] = true }
#else
    :: d_step { yes && TO_COME(me) -> state[me] = LIVE; handle[me] = true }
    :: yes && !TO_COME(me) -> yes = false
#endif
    :: !yes
    fi
}

/* fmp_owner_alive, by whoever finds that nobody came to slot 0 in that state (O6). */
inline give_up(seen)
{
    if
#ifdef BUG_BURIES_WHO_CAME
    :: d_step { state[0] == LIVE || TO_COME(0) -> state[0] = GONE }; some_gone = true
#else
    :: d_step { state[0] == seen -> state[0] = GONE }; some_gone = true
#endif
    :: state[0] != seen
    fi
}

inline bury(i)
{
    if
    :: d_step { state[i] == LIVE -> state[i] = GONE }
#ifdef BUG_TELLS_NOT_AGAIN
    :: d_step { state[i] != LIVE -> reaped[i] = true }; goto again
#else
    :: state[i] != LIVE
#endif
    fi;
    some_gone = true; /* if it has left, it may not have come to that */
    reaped[i] = true
}

/* Whoever learns that a process is dead, or that nobody came within 10 s (O3). */
active proctype reaper()
{
again:
end:
    do
#if KILLS > 0
    :: gone[0] && !reaped[0] -> bury(0)
    :: gone[1] && !reaped[1] -> bury(1)
    :: gone[2] && !reaped[2] -> bury(2)
#endif
#ifdef BUG_RESERVATION_ENDS
    :: d_step { TO_COME(0) -> state[0] = GONE }; some_gone = true
#else
    :: state[0] == FORKED -> give_up(FORKED)
    :: state[0] == RESERVED && reaped[1] -> give_up(RESERVED)
#endif
    od
}

#define BURIED(i) (state[i] != LIVE && !TO_COME(i) && (!gone[i] || reaped[i]))

/* ---- holders ---------------------------------------------------------------------------------------------------- */

#ifdef BUG_THE_DEAD_HOLD_NOTHING
#define ROW_COUNTS(i) (TO_COME(i) || state[i] == LIVE)
#else
#define ROW_COUNTS(i) (state[i] != NOT_IN_USE)
#endif

inline held()
{
    yes = in_flight != 0;
    i = 0;
    do
    :: yes || i == PARTIES -> break
    :: !yes && i < PARTIES && !ROW_COUNTS(i) -> i++
    :: else -> /* the row counts; it is looked at in a step of its own */
        atomic { yes = row[i]; i++ }
    od;
    i = 0
}

inline destroy(me)
{
    d_step {
        assert(entry && !HAS(0) && !HAS(1) && !HAS(2));
        assert(!slot);
#ifdef BUG_ENTRY_GOES_FIRST
        entry = false
    };
    tag[OBJECT] = ID(me);
#else
        tag[OBJECT] = ID(me)
    };
    entry = false;
#endif
    tag[OBJECT] = FREE
}

inline destroy_if_free(me)
{
    held();
    if
    :: yes -> yes = false
    :: else -> destroy(me)
    fi
}

inline settle_booking()
{
    in_flight = its_in_flight;
    count[booking] = its_count;
    booking = 0
}

inline book(cargo, number, its)
{
#ifdef BUG_NO_BOOKING
    in_flight = number;
    count[cargo] = its
#else
#ifdef BUG_BOOKED_TOO_EARLY
    booking = cargo;
    d_step { its_in_flight = number; its_count = its };
#else
    d_step { its_in_flight = number; its_count = its };
    booking = cargo;
#endif
    settle_booking()
#endif
}

/* B3 */
inline repair(me)
{
#ifndef BUG_NO_REPAIR
    if
    :: booking != 0 -> settle_booking()
    :: else
    fi;
    if
    :: entry -> tag[OBJECT] = SHARED; destroy_if_free(me)
    :: else
    fi
#else
    skip
#endif
}

inline enter(me)
{
    TAKE_LOCK(lock, me, repair(me))
}

/* ---- handles ----------------------------------------------------------------------------------------------------- */

inline create(me)
{
    tag[OBJECT] = ID(me);
    enter(me);
    row[me] = true;
    entry = true;
    d_step { tag[OBJECT] = SHARED; handle[me] = true };
    lock = 0
}

inline attach(me)
{
    enter(me);
    assert(entry);
    d_step { row[me] = true; handle[me] = true };
    lock = 0
}

inline use()
{
    assert(entry && tag[OBJECT] == SHARED)
}

inline drop(me)
{
    enter(me);
    d_step { row[me] = false; handle[me] = false };
    destroy_if_free(me);
    lock = 0
}

/* ---- cargo --------------------------------------------------------------------------------------------------------- */

inline ship(me, cargo)
{
    tag[cargo] = ID(me);
#ifdef BUG_MARKED_LATE
    enter(me);
    book(cargo, in_flight + 1, true);
    lock = 0;
    marked[cargo] = true
#else
    marked[cargo] = true;
    enter(me);
    book(cargo, in_flight + 1, true);
    lock = 0
#endif
}

/* The caller holds the lock, and has the cargo. */
inline land(me, cargo)
{
    assert(tag[cargo] == ID(me) && !(slot && cargo == SENT)); /* or somebody could still take it */
    if
    :: count[cargo] -> book(cargo, in_flight - 1, false); destroy_if_free(me)
    :: else
    fi;
    marked[cargo] = false;
    tag[cargo] = FREE
}

inline settle()
{
    if
    :: slot -> tag[SENT] = SHARED
    :: else
    fi
}

inline send(me)
{
    TAKE_LOCK(queue_lock, me, settle());
    slot = true;
    tag[SENT] = SHARED;
    queue_lock = 0
}

inline take(me)
{
    TAKE_LOCK(queue_lock, me, settle());
    yes = slot;
    if
    :: yes -> assert(tag[SENT] == SHARED && count[SENT]); tag[SENT] = ID(me); slot = false
    :: else
    fi;
    queue_lock = 0
}

/* ---- the dead ------------------------------------------------------------------------------------------------------ */

/* What the killed one had in his hands. */
inline sweep_blocks(me)
{
#ifndef BUG_NO_SETTLE
    if
    :: queue_lock != 0 -> TAKE_LOCK(queue_lock, me, settle()); queue_lock = 0
    :: else
    fi;
#endif
    block = 0;
    do
    :: block == BLOCKS -> break
    :: d_step { block < BLOCKS && tag[block] == ID(dead) -> tag[block] = ID(me) };
        if
        :: marked[block] -> land(me, block)
        :: else -> tag[block] = FREE
        fi;
        block++
    :: block < BLOCKS && tag[block] != ID(dead) -> block++
    od;
    block = 0
}

inline clear_row(me)
{
    atomic { yes = row[dead]; row[dead] = false };
    if
    :: yes && entry -> destroy_if_free(me)
    :: else -> yes = false
    fi
}

inline sweep(me)
{
    if
    :: some_gone ->
        enter(me);
        some_gone = false;
        dead = 0;
        do
        :: dead == PARTIES -> break
        :: dead < PARTIES && (state[dead] == GONE || state[dead] == LEFT) ->
#ifdef BUG_RECYCLES_FIRST
            killed_one = state[dead] == GONE;
            state[dead] = NOT_IN_USE;
            clear_row(me);
            if
            :: killed_one -> sweep_blocks(me)
            :: else
            fi;
#else
            clear_row(me);
            if
            :: state[dead] == GONE -> sweep_blocks(me)
            :: else
            fi;
            state[dead] = NOT_IN_USE;
#endif
            dead++
        :: dead < PARTIES && !(state[dead] == GONE || state[dead] == LEFT) -> dead++
        od;
        dead = 0;
        lock = 0
    :: else
    fi
}

/* ---- what it is for -------------------------------------------------------------------------------------------------- */

/* Party `me` forks party 0. */
inline fork(me)
{
    if
    :: atomic { state[0] == NOT_IN_USE -> state[0] = RESERVED }
    fi;
#ifdef BUG_FORKS_FIRST
    forked = true;
    row[0] = true;
#else
    row[0] = true; /* as this one's own */
    forked = true;
#endif
    if
    :: d_step { state[0] == RESERVED -> state[0] = FORKED }
    :: state[0] != RESERVED
    fi
}

proctype party(byte me)
{
    byte i, dead, block;
    bool yes;
#ifdef BUG_RECYCLES_FIRST
    bool killed_one;
#endif
    {
#ifdef MAIL
        if
        :: me == 0 ->
            create(me);
            ship(me, SENT);
#ifdef SPARE
            ship(me, KEPT);
#endif
            send(me);
#ifdef SPARE
            enter(me);
            land(me, KEPT);
            lock = 0;
#endif
            drop(me)
        :: me == 1 ->
            take(me);
            if
            :: yes ->
                yes = false;
#ifdef BUG_LANDS_FIRST
                enter(me);
                land(me, SENT);
                lock = 0;
                attach(me);
#else
                attach(me);
                enter(me);
                land(me, SENT);
                lock = 0;
#endif
                use();
                drop(me)
            :: else
            fi
        :: else -> sweep(me)
        fi;
        leave(me);
#else
        if
        :: me == 0 ->
            if
            :: forked -> adopt(me)
            :: ended[1] && !forked
            fi;
            if
            :: yes -> yes = false; use(); drop(me); leave(me)
            :: else
            fi
        :: me == 1 -> fork(me); use(); drop(me); leave(me)
        :: else -> drop(me); sweep(me); leave(me)
        fi;
#endif
        through(me)
    } unless { killed(me) }
}

init
{
    byte i, dead, block;
    bool yes;
#ifdef BUG_RECYCLES_FIRST
    bool killed_one;
#endif
    atomic {
        state[1] = LIVE;
        state[2] = LIVE;
#ifdef MAIL
        state[0] = LIVE;
#else
        entry = true;
        tag[OBJECT] = SHARED;
        for (i : 1 .. 2) {
            row[i] = true;
            handle[i] = true
        }
        i = 0;
#endif
        run party(0);
        run party(1);
        run party(2)
    }
    ALL_ENDED && BURIED(0) && BURIED(1) && BURIED(2);
    sweep(SURVIVOR);
#ifdef MAIL
    take(SURVIVOR); /* what nobody took goes with its queue */
    if
    :: yes -> yes = false; enter(SURVIVOR); land(SURVIVOR, SENT); lock = 0
    :: else
    fi;
#endif
    d_step {
        assert(lock == 0 && queue_lock == 0 && booking == 0);
        assert(!entry && in_flight == 0);
        for (i : 0 .. BLOCKS - 1) {
            assert(tag[i] == FREE && !marked[i])
        }
        for (i : 0 .. PARTIES - 1) {
            assert(state[i] == NOT_IN_USE && !row[i])
        }
    }
}
