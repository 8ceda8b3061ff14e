/* queue.pml: src/core/queue.h and queue.c: pusher 0 sends two messages, one after the other or as a convoy; party 1
 * is a taker, or another pusher, of one message; taker 2. Takers take one by one or up to two at once.
 *
 *   Q1  at the end the size is what is on the list; monitor: never more than `most`
 *   Q2  at the end each message of a living pusher was taken or is on the list; no living party's node is swept
 *   Q3  no node is freed twice, or used when it is free; none is leaked
 *   Q6  a dead taker's receipt names the message he took last, if he took one
 *   order, once  each message is taken once, in the order of the numbers; pusher 0's second after his first
 *   E2, E4       nobody sleeps on while there is a message, or room, as in the other models
 *
 * Variants: MOST: how many there is room for, 0 for any number. CONVOY: as fmp_queue_push_many. BATCH: as
 * fmp_queue_take_many. Whoever is through with a step sweeps up after the dead, as fmp_object_sweep does.
 * Abstracted: the locks, which mutex.pml is about, are taken in one step, and from a dead holder at once.
 * What a message is: it is its node. `size` in one load: of two, an item may be seen too late to
 * matter, and room too early, with ASLEEP set before. Bytes, long messages' blocks, cargo, bell, failures to map, destruction. A
 * step is a store: what is loaded under a lock between two stores, nobody else can change. */
#define PARTIES 3
#define EVENTCOUNTS 2
#define ITEMS 1
#define SPACE 2
#ifndef MOST
#define MOST 0
#endif
#ifndef BATCH
#define BATCH 1
#endif

#define SIZE (pushed - taken)
#define READY(me, e) (e == ITEMS -> SIZE != 0 : MOST == 0 || SIZE < MOST)

#include "eventcount.inc"

/* Nodes: 1 is the dummy, 2 and 3 are pusher 0's, 4 is pusher 1's; 0 is none. */
#define NODES 5
#define NONE 0
#define FREE 0
#define SHARED 9
#define ID(me) (me + 1)

byte next[NODES];
byte number[NODES];
byte tag[NODES];

byte head_lock, head, leaving, receipt, taken_by, taken;
byte tail_lock, tail, adding, adding_last, pushed;
byte receipts[PARTIES];

bool out[NODES];    /* the message left the list */
byte got[PARTIES];  /* the number of the message that the party took last, as the list tells, */
bool reaching[PARTIES]; /* which he is about to take the next one from */
bool swept[PARTIES];

#define USE(node) assert(node != NONE && tag[node] != FREE)
#ifdef TWO_PUSHERS
#define PUSHED (ended[0] && ended[1])
#else
#define PUSHED ended[0]
#endif

inline free(me, node)
{
    d_step { assert(tag[node] == ID(me)); tag[node] = FREE }
}

/* ---- the tail ------------------------------------------------------------------------------------------------------ */

inline append()
{
    if
    :: tail != adding_last ->
        atomic { last = tail; ref = adding };
        do
        :: ref != NONE ->
            atomic {
                USE(ref);
                USE(last);
                number[ref] = number[last] + 1;
                tag[ref] = SHARED;
                last = ref;
                ref = next[ref]
            }
        :: else -> break
        od;
        next[tail] = adding;
#ifdef BUG_COUNT_BEFORE_TAIL
        pushed = number[adding_last];
#endif
        tail = adding_last
    :: else
    fi;
    pushed = number[tail];
    adding = NONE
}

inline enter_tail(me)
{
    if
    :: atomic { tail_lock == 0 -> tail_lock = ID(me) }
#if KILLS > 0
    :: atomic { tail_lock != 0 && gone[tail_lock - 1] -> tail_lock = ID(me) };
#ifndef BUG_NO_TAIL_REPAIR
        if
        :: adding != NONE -> append(); ec_signal(ITEMS, PARTIES)
        :: else
        fi
#endif
#endif
    fi
}

inline enter_room(me)
{
    do
    :: enter_tail(me);
        if
        :: READY(me, SPACE) -> break
        :: else -> tail_lock = 0
        fi;
        do
        :: ec_wait(me, SPACE, rc);
            if
            :: rc == OK -> break
            :: else
            fi
        od
    od
}

/* Under the tail lock, and there is room. */
inline link_nodes(first, final)
{
    adding_last = final;
    adding = first;
    append()
}

inline push(me, node)
{
    enter_room(me);
    link_nodes(node, node);
    tail_lock = 0;
    ec_signal(ITEMS, 1)
}

inline push_two(me, one, two)
{
    next[one] = two; /* fmp_convoy_add */
    enter_room(me);
    if
    :: MOST != 0 && SIZE + 1 >= MOST ->
        next[one] = NONE;
        link_nodes(one, one);
        tail_lock = 0;
        ec_signal(ITEMS, 1);
        push(me, two)
    :: else ->
        link_nodes(one, two);
        tail_lock = 0;
        ec_signal(ITEMS, 2)
    fi
}

/* ---- the head ---------------------------------------------------------------------------------------------------- */

inline signal_space(count)
{
    if
    :: MOST != 0 -> ec_signal(SPACE, count)
    :: else
    fi
}

inline finish(me)
{
    taken = number[head];
    ref = leaving;
    do
#ifdef BUG_REPAIRER_GETS_IT
    :: ref != head -> d_step { USE(ref); tag[ref] = ID(me); ref = next[ref] }
#else
    :: ref != head -> d_step { USE(ref); tag[ref] = taken_by; ref = next[ref] }
#endif
    :: else -> break
    od;
    leaving = NONE
}

/* The nodes before `final` are the party's. */
inline free_range(me, from_node, final)
{
    ref = from_node;
    do
    :: ref != final -> last = next[ref]; free(me, ref); ref = last
    :: else -> break
    od
}

inline repair_head(me)
{
    if
    :: leaving == NONE
    :: leaving != NONE && leaving == head ->
#ifndef BUG_RECEIPT_STAYS
        if
        :: receipt != 0 && receipts[receipt - 1] > taken -> receipts[receipt - 1] = 0
        :: else
        fi;
#endif
        leaving = NONE
    :: else ->
        finish(me);
        signal_space(PARTIES)
    fi
}

inline enter_head(me)
{
    if
    :: atomic { head_lock == 0 -> head_lock = ID(me) }
#if KILLS > 0
    :: atomic { head_lock != 0 && gone[head_lock - 1] -> head_lock = ID(me) };
#ifndef BUG_NO_HEAD_REPAIR
        repair_head(me)
#endif
#endif
    fi
}

inline take(me)
{
    do
    :: READY(me, ITEMS) ->
        enter_head(me);
        if
        :: READY(me, ITEMS) -> break
        :: else -> head_lock = 0
        fi
    :: else -> ec_wait(me, ITEMS, rc)
    od;
    atomic {
        old = head;
        final = next[old];
        USE(final);
        if
        :: BATCH > 1 && pushed - number[final] > 0 -> final = next[final]; USE(final)
        :: else
        fi;
        receipt = ID(me);
        taken_by = ID(me)
    };
    leaving = head;
    d_step { receipts[me] = number[final]; reaching[me] = true };
    atomic { /* for the others one store to `head`; for the checks the messages leave */
        ref = old;
        last = taken;
        do
        :: ref != final -> ref = next[ref]; last++; assert(!out[ref] && number[ref] == last && (ref != 3 || out[2])); out[ref] = true
        :: else -> break
        od;
        got[me] = number[final];
        reaching[me] = false;
        head = final
    };
    finish(me);
#ifdef BUG_FREE_HEAD
    head_lock = 0;
    signal_space(1);
    free(me, final);
#else
    head_lock = 0;
    signal_space(BATCH);
    free_range(me, old, final);
#endif
    atomic { old = 0; final = 0; last = 0; ref = 0 }
}

/* ---- fmp_queue_settle, and fmp_object_sweep behind it ------------------------------------------------------------ */

inline sweep(me)
{
    if
    :: gone[0] && !swept[0] -> dead = 0
    :: gone[1] && !swept[1] -> dead = 1
    :: gone[2] && !swept[2] -> dead = 2
    :: else -> dead = PARTIES
    fi;
    if
    :: dead < PARTIES ->
#ifndef BUG_NO_SETTLE
        if
        :: tail_lock != 0 -> enter_tail(me); tail_lock = 0
        :: else
        fi;
        if
        :: head_lock != 0 -> enter_head(me); head_lock = 0
        :: else
        fi;
#endif
        atomic {
            swept[dead] = true;
            for (ref : 1 .. NODES - 1) {
                if
                :: tag[ref] == ID(dead) -> tag[ref] = FREE
                :: else
                fi
            }
            ref = 0
        }
    :: else
    fi
}

/* ---- what it is for ---------------------------------------------------------------------------------------------- */

proctype pusher(byte me)
{
    byte seen, woken, rc, last, ref, old, final, dead;
    bool yes;
    {
        if
        :: me == 1 -> push(me, 4)
#ifdef CONVOY
        :: else -> push_two(me, 2, 3)
#else
        :: else -> push(me, 2); push(me, 3)
#endif
        fi;
#if KILLS > 0
        sweep(me);
#endif
        through(me)
    } unless { killed(me) }
}

proctype taker(byte me)
{
    byte seen, woken, rc, last, ref, old, final, dead;
    bool yes;
    {
        do
        :: take(me);
#if KILLS > 0
            sweep(me)
#endif
        od
    } unless {
        if
        :: killed(me)
        :: d_step { ALL_STILL && PUSHED && SIZE == 0 -> bed[me] = 0; through(me) }
        fi
    }
}

init
{
    byte seen, woken, rc, last, ref, old, final, dead;
    bool yes;
    atomic {
        head = 1;
        tail = 1;
        tag[1] = SHARED;
        tag[2] = ID(0);
        tag[3] = ID(0);
#ifdef TWO_PUSHERS
        tag[4] = ID(1);
#else
        out[4] = true;
#endif
        run pusher(0);
#ifdef TWO_PUSHERS
        run pusher(1);
#else
        run taker(1);
#endif
        run taker(2)
    }
    atomic {
        ALL_ENDED;
        /* One more party, who repairs and sweeps what is left. */
        if
        :: (tail_lock != 0 && !gone[tail_lock - 1]) || (head_lock != 0 && !gone[head_lock - 1]) -> assert(false)
        :: else
        fi;
        if
        :: tail_lock != 0 && adding != NONE -> append()
        :: else
        fi;
        if
        :: head_lock != 0 -> repair_head(PARTIES)
        :: else
        fi;
        for (ref : 0 .. PARTIES - 1) { /* Q6 */
            assert(!gone[ref] || receipts[ref] == (reaching[ref] -> 0 : got[ref]))
        }
        for (ref : 1 .. NODES - 1) {
            if
            :: tag[ref] != SHARED && tag[ref] != FREE ->
                assert(gone[tag[ref] - 1]);
                tag[ref] = FREE
            :: else
            fi
        }
        /* Q1: what is on the list, and nothing else */
        ref = head;
        last = 0;
        do
        :: assert(tag[ref] == SHARED);
            tag[ref] = FREE;
            if
            :: ref == tail -> break
            :: else -> ref = next[ref]; last++; assert(!out[ref]); out[ref] = true
            fi
        od;
        assert(last == SIZE);
        for (ref : 1 .. NODES - 1) {
            assert(tag[ref] == FREE);
            assert(ref == 1 || out[ref] || gone[ref / 4])
        }
    }
}

#if MOST > 0
active proctype monitor()
{
end:
    atomic { SIZE > MOST -> assert(false) }
}
#endif
