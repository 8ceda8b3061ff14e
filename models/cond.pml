/* cond.pml: src/core/cond.h and cond.c: parties 0 and 1 each wait, under the user's lock, until there is a token for
 * them, or for party 0 (AGAIN) one after the other two; party 2 adds two (ONE: one) and notifies, one by one or (ALL)
 * both at once. When nobody can do anything any more, one who is never killed settles, opens for everybody, and notifies
 * all.
 *
 *   C1, C2  assertions: whoever has taken the guard, and repaired, finds on the list SHARED nodes that are not notified,
 *           and as many as `waiters` says
 *   C3      assertions: no node is used when it is free, or taken or freed by who may not; none is swept from the
 *           list; none is leaked
 *   order   assertions: a notification reaches who has waited longest of those not known to be dead
 *   E2      without kills nobody waits while there is a token, though one may give up at any moment (LEAVE: party 0);
 *           without slices nobody who was notified sleeps on
 *   E4      with parties killed each sleeper needs one slice for each death at the most
 *
 * Abstracted: the guard and the user's lock, which mutex.pml is about, are taken in one step, and from a dead holder at
 * once. The looks of is_released are one. Node 1 is the condition's own, node 2 a block of the heap. Not modelled: -ENOMEM,
 * failures to map, destruction. A step is a store: what is loaded under the guard between two stores, nobody else can
 * change. */
#define PARTIES 3
#define NODES 3 /* each has the eventcount of its number; next[0] is `first` */
#define EVENTCOUNTS 2
#define NONE 0

#define WAITING 0
#define NOTIFIED 1
#define RELEASED 2

#define FREE 0
#define SHARED 9
#define ID(me) (me + 1)
#define HOLDER_IS_DEAD(lock) (lock != 0 && lock <= PARTIES && gone[lock - 1])

#define READY(me, e) (notified[e] != WAITING)

#include "eventcount.inc"

byte guard;
byte waiters;
byte next[NODES];
byte tag[NODES];
byte owner[NODES];
byte notified[NODES];

byte lock; /* the user's, and what it protects */
byte tokens;
bool open;

bool known[PARTIES]; /* fmp_owner_known_dead */
bool swept[PARTIES];
byte arrivals;
byte place[NODES]; /* order: since when it waits, or 0 */

#define USE(node) assert(tag[node] != FREE)

inline free(me, n)
{
    d_step { assert(tag[n] == ID(me)); tag[n] = FREE }
}

/* ---- src/core/cond.c --------------------------------------------------------------------------------------- */

inline find_link(n)
{
    d_step {
        link = 0;
        do
        :: next[link] != n && next[link] != NONE -> link = next[link]
        :: else -> break
        od
    }
}

inline unlink(n, whose)
{
    d_step { USE(n); tag[n] = whose };
    d_step { USE(n); next[link] = next[n] };
    waiters = waiters - 1
}

/* A node that a dead notifier had notified has no place any more. */
inline check_order(n)
{
    assert(place[n] == 0 || place[3 - n] == 0 || place[3 - n] > place[n] || known[owner[3 - n]])
}

inline deliver(me, n)
{
    if
    :: known[owner[n]] ->
        d_step { USE(n); place[n] = 0 };
        unlink(n, ID(me));
        free(me, n)
    :: else ->
#ifdef BUG_UNLINK_FIRST
        unlink(n, ID(owner[n]));
#endif
        d_step { USE(n); check_order(n); place[n] = 0; notified[n] = NOTIFIED };
#ifndef BUG_UNLINK_FIRST
        unlink(n, ID(owner[n]));
#endif
        USE(n);
#ifndef BUG_NO_SIGNAL
        ec_signal(n, 1);
#endif
        d_step { USE(n); notified[n] = RELEASED };
        left--
    fi
}

inline repair(me)
{
    atomic { link = 0; count = 0 };
    do
    :: next[link] == NONE -> break
    :: else ->
        node = next[link];
        if
        :: notified[node] != WAITING -> deliver(me, node)
#ifdef BUG_KEEPS_THE_HALF_ENTERED
        :: else -> atomic { link = node; count++ }
#else
        :: atomic { notified[node] == WAITING && tag[node] == SHARED -> link = node; count++ }
        :: notified[node] == WAITING && tag[node] != SHARED -> d_step { place[node] = 0; next[link] = next[node] }
#endif
        fi
    od;
    waiters = count
}

/* C1, C2 */
inline check_list()
{
    d_step {
        link = next[0];
        count = 0;
        do
        :: link != NONE -> assert(tag[link] == SHARED && notified[link] == WAITING); count++; link = next[link]
        :: else -> break
        od;
        assert(count == waiters);
        link = 0;
        count = 0
    }
}

inline enter(me)
{
    if
    :: atomic { guard == 0 -> guard = ID(me) }
#if KILLS > 0
    :: atomic { HOLDER_IS_DEAD(guard) -> known[guard - 1] = true; guard = ID(me) };
#ifndef BUG_NO_REPAIR
        repair(me)
#endif
#endif
    fi;
    check_list()
}

/* An own node, if there is one that nobody uses, or a block. */
inline take_node(me)
{
    d_step {
        if
        :: tag[1] == FREE -> mine = 1
#ifdef BUG_TAKES_FROM_THE_LIVING
        :: tag[1] != FREE && tag[1] != SHARED -> mine = 1
#else
        :: tag[1] != FREE && tag[1] != SHARED && known[tag[1] - 1] -> mine = 1
#endif
        :: else -> mine = 2; assert(tag[2] == FREE)
        fi;
        assert(next[0] != mine && next[next[0]] != mine);
        tag[mine] = ID(me);
        owner[mine] = me;
        next[mine] = NONE;
        notified[mine] = WAITING;
        word[mine] = 0
    }
}

inline cond_enter(me)
{
    enter(me);
    take_node(me);
#ifdef BUG_SHARED_FIRST
    tag[mine] = SHARED;
#endif
#ifdef BUG_LAST_COME_FIRST_SERVED
    next[mine] = next[0];
    d_step { next[0] = mine; arrivals++; place[mine] = arrivals };
#else
    find_link(NONE);
    d_step { next[link] = mine; arrivals++; place[mine] = arrivals };
#endif
    waiters++;
    tag[mine] = SHARED;
    guard = 0
}

/* rc: OK, or INTR if he was not notified. */
inline depart(me)
{
#ifdef BUG_FREES_THE_UNRELEASED
    if
    :: notified[mine] != WAITING -> rc = OK; free(me, mine)
#else
    if
    :: notified[mine] == RELEASED -> rc = OK; free(me, mine)
#endif
    :: else ->
        enter(me);
        if
        :: notified[mine] != WAITING ->
#ifndef BUG_FORGETS_A_NOTIFICATION
            rc = OK
#endif
        :: else -> place[mine] = 0; find_link(mine); unlink(mine, ID(me))
        fi;
        free(me, mine);
        guard = 0
    fi
}

/* Who gives up calls once more, until FMP_NOW. */
inline cond_sleep(me)
{
    do
    :: READY(me, mine) -> rc = OK; break
    :: else ->
        ec_wait(me, mine, rc);
#ifdef LEAVE
        if
        :: rc == INTR -> break
        :: else
        fi
#endif
    od;
    depart(me)
}

inline notify(me, most)
{
    if
    :: waiters == 0
    :: else ->
        enter(me);
        left = most;
        do
        :: left > 0 && next[0] != NONE -> link = 0; node = next[0]; deliver(me, node)
        :: else -> break
        od;
        guard = 0
    fi
}

/* ---- fmp_cond_settle, and fmp_object_sweep behind it ----------------------------------------------------------- */

inline sweep(me)
{
#if KILLS > 0
    if
    :: gone[0] && !swept[0] -> dead = 0
    :: gone[1] && !swept[1] -> dead = 1
    :: gone[2] && !swept[2] -> dead = 2
    :: else -> dead = PARTIES
    fi;
    if
    :: dead < PARTIES ->
        known[dead] = true;
#ifndef BUG_NO_SETTLE
        enter(me);
        guard = 0;
#endif
        atomic {
            swept[dead] = true;
            for (node : 1 .. NODES - 1) {
                assert(tag[node] != ID(dead) || (next[0] != node && next[next[0]] != node))
            }
            node = NONE;
            if
            :: tag[2] == ID(dead) -> tag[2] = FREE
            :: else
            fi
        }
    :: else
    fi
#else
    dead = PARTIES
#endif
}

/* ---- what it is for -------------------------------------------------------------------------------------------- */

inline lock_it(me)
{
    if
    :: atomic { lock == 0 -> lock = ID(me) }
#if KILLS > 0
    :: atomic { HOLDER_IS_DEAD(lock) -> lock = ID(me) }
#endif
    fi
}

proctype waiter(byte me)
{
    byte seen, woken, rc, mine, link, node, count, left, dead;
#ifdef AGAIN
    bool again;
#endif
    {
        lock_it(me);
        do
#ifdef AGAIN
        :: atomic { tokens > 0 && me == 0 && !again -> tokens--; again = true }
        :: tokens > 0 && (me != 0 || again) -> tokens--; break
#else
        :: tokens > 0 -> tokens--; break
#endif
        :: tokens == 0 && open -> break
        :: else ->
            cond_enter(me);
            lock = 0;
            cond_sleep(me);
            lock_it(me);
            if
            :: rc == INTR -> break
            :: else
            fi
        od;
        lock = 0;
        sweep(me);
        through(me)
    } unless { killed(me) }
}

proctype notifier(byte me)
{
    byte seen, woken, link, node, count, left, dead;
    {
        lock_it(me);
#ifdef ALL
        tokens = 2;
        notify(me, 2);
#else
        tokens++;
        notify(me, 1);
#ifndef ONE
        lock = 0;
        lock_it(me);
        tokens++;
        notify(me, 1);
#endif
#endif
        lock = 0;
        sweep(me);
        through(me)
    } unless { killed(me) }
}

init
{
    byte seen, woken, link, node, count, left, dead;
    atomic { run waiter(0); run waiter(1); run notifier(2) }
    atomic {
        ALL_STILL;
        assert(kills > 0 || tokens == 0 || (place[1] == 0 && place[2] == 0)) /* E2 */
    }
    enter(PARTIES);
    guard = 0;
    lock_it(PARTIES);
    open = true;
    notify(PARTIES, PARTIES);
    lock = 0;
    ALL_ENDED;
    do
    :: sweep(PARTIES);
        if
        :: dead == PARTIES -> break
        :: else
        fi
    od;
    notify(PARTIES, PARTIES); /* passes over the dead */
    assert(next[0] == NONE && waiters == 0 && (tag[1] == FREE || gone[tag[1] - 1]) && tag[2] == FREE)
}
