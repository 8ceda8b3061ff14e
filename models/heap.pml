/* heap.pml: src/core/heap.h and heap.c, a size class with three blocks, all fresh at first. Party 0 makes two, frees
 * one, and hands the other over to a structure; party 1 takes it out of there and frees it, makes one and frees it; party 2 sweeps up after the
 * dead, as fmp_object_sweep does, and so does one who is never killed, in the end.
 *
 *   once     assertions: no block is handed out while somebody has it, who lives or wasn't swept up after
 *   H1, H2   assertions: at the end, when one who is never killed has swept up, each block is on the list once and FREE, or
 *            fresh, or the structure's and SHARED, or a living party's (none has any): none is leaked, none is doubled
 *   H3       assertions: the head of a fresh block doesn't count: no sweep frees one
 *
 *   model        C                                        model         C
 *   repair       repair_class                             counts        counts
 *   pop, push    pop_free and pop, push                   sweep         fmp_heap_sweep, under the table's lock
 *   alloc, free  alloc_block, free_block                  give, accept  a structure's lock around fmp_heap_tag (Q2, Q3
 *                                                                       of queue.h, the table in bell.c)
 *
 * Abstracted: locks, which mutex.pml is about, are taken in one step, and from a dead holder at once. Units, windows, cold
 * blocks, extents: they have no protocol, or the same. A step is a store: what is loaded under a lock between two stores,
 * nobody else can change. */
#define PARTIES 3
#define EVENTCOUNTS 0
#define READY(me, e) true

#include "eventcount.inc"

#define BLOCKS 3
#define NONE 0
#define FREE 0
#define SHARED 9
#define ID(me) (me + 1)
#define SURVIVOR PARTIES

byte lock, list, moving, fresh = 1; /* the class */
byte next[BLOCKS + 2], tag[BLOCKS + 2];
byte slot_lock, slot; /* the structure */
byte table_lock;
bool swept[PARTIES];

byte has[BLOCKS + 2]; /* the id of who was given the block, until he frees it */

/* From a dead holder, with what it takes to repair. */
#define TAKE_LOCK(l, me, repairs) \
    if \
    :: atomic { l == 0 -> l = ID(me) } \
    :: atomic { l != 0 && l <= PARTIES && gone[l - 1] -> l = ID(me) }; repairs \
    fi

/* ---- src/core/heap.c --------------------------------------------------------------------------------------- */

inline repair()
{
#ifdef BUG_NO_REPAIR
    skip
#else
    if
    :: moving != NONE ->
        if
        :: list != moving -> next[moving] = list; list = moving
        :: else
        fi;
        tag[moving] = FREE;
        moving = NONE
    :: else
    fi
#endif
}

inline alloc(me, b)
{
    TAKE_LOCK(lock, me, repair());
    if
    :: list != NONE ->
        b = list;
#ifndef BUG_NOT_NAMED
        moving = b;
#endif
        tag[b] = ID(me);
        list = next[b];
        moving = NONE
    :: list == NONE && fresh <= BLOCKS ->
        b = fresh;
#ifdef BUG_FRESH_COUNTS
        fresh++;
        tag[b] = ID(me)
#else
        tag[b] = ID(me);
        fresh++
#endif
    :: else -> b = NONE
    fi;
    d_step { assert(b == NONE || has[b] == 0); has[b] = (b == NONE -> 0 : ID(me)); lock = 0 }
}

inline push(b)
{
    moving = b;
    tag[b] = FREE;
    next[b] = list;
    list = b;
    moving = NONE
}

inline free(me, b)
{
    d_step { assert(tag[b] != FREE); tag[b] = ID(me); has[b] = 0 };
    TAKE_LOCK(lock, me, repair());
    push(b);
    lock = 0
}

/* What the dead one had in his hands. */
inline sweep_blocks(me, dead)
{
    b = 1;
    do
    :: b > BLOCKS -> break
    :: b <= BLOCKS && tag[b] == ID(dead) ->
#ifndef BUG_FRESH_IS_SWEPT
        TAKE_LOCK(lock, me, repair());
        yes = b < fresh;
        lock = 0;
#else
        yes = true;
#endif
        if
        :: yes ->
#ifdef BUG_SWEEPS_BLINDLY
            d_step { yes = true; tag[b] = ID(me) };
#else
            d_step { yes = tag[b] == ID(dead); tag[b] = (yes -> ID(me) : tag[b]) }; /* H1 */
#endif
            if
            :: yes -> assert(b < fresh); free(me, b)
            :: else
            fi
        :: else
        fi;
        b++
    :: else -> b++
    od;
    b = NONE;
    yes = false
}

/* ---- a structure ------------------------------------------------------------------------------------------- */

inline settle()
{
    if
    :: slot != NONE -> tag[slot] = SHARED
    :: else
    fi
}

inline give(me, b)
{
    TAKE_LOCK(slot_lock, me, settle());
    slot = b;
    d_step { tag[b] = SHARED; has[b] = SHARED };
    slot_lock = 0
}

inline accept(me, b)
{
    TAKE_LOCK(slot_lock, me, settle());
    b = slot;
    if
    :: b != NONE -> d_step { tag[b] = ID(me); has[b] = ID(me) }; slot = NONE
    :: else
    fi;
    slot_lock = 0
}

/* ---- what it is for ------------------------------------------------------------------------------------------ */

inline sweep(me)
{
    TAKE_LOCK(table_lock, me, skip);
    dead = 0;
    do
    :: dead < PARTIES && gone[dead] && !swept[dead] ->
#ifndef BUG_NO_SETTLE
        if
        :: slot_lock != 0 -> TAKE_LOCK(slot_lock, me, settle()); slot_lock = 0
        :: else
        fi;
#endif
        sweep_blocks(me, dead);
        swept[dead] = true;
        dead++
    :: dead < PARTIES && !(gone[dead] && !swept[dead]) -> dead++
    :: else -> break
    od;
    dead = 0;
    table_lock = 0
}

inline free_if_any(me, b)
{
    if
    :: b != NONE -> free(me, b); b = NONE
    :: else
    fi
}

proctype party(byte me)
{
    byte b, other, dead;
    bool yes;
    {
        if
        :: me == 0 ->
            alloc(me, other);
            alloc(me, b);
            free_if_any(me, b);
            if
            :: other != NONE -> give(me, other)
            :: else
            fi;
            other = NONE
        :: me == 1 -> accept(me, b); free_if_any(me, b); alloc(me, b); free_if_any(me, b)
        :: else -> sweep(me)
        fi;
        through(me)
    } unless { killed(me) }
}

init
{
    byte b, dead, count;
    bool yes;
    atomic { run party(0); run party(1); run party(2) }
    ALL_ENDED;
    sweep(SURVIVOR);
    TAKE_LOCK(lock, SURVIVOR, repair()); /* as the next who needs a block */
    lock = 0;
    d_step {
        assert(moving == NONE && lock == 0);
        for (b : fresh .. BLOCKS) {
            has[b] = SHARED; /* seen */
        }
        if
        :: slot != NONE -> assert(tag[slot] == SHARED && slot < fresh); has[slot] = 0; count++
        :: else
        fi;
        b = list;
        do
        :: b != NONE -> assert(b < fresh && tag[b] == FREE && has[b] == 0); has[b] = SHARED; count++; b = next[b]
        :: else -> break
        od;
        assert(count == fresh - 1)
    }
}
