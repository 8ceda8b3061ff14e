/* queue.h: messages between processes, in order, unbounded or bounded.
 *
 *   taken                                    pushed
 *     head -> [node n] -> [node n+1] -> ... -> [node m] <- tail        n = taken, m = pushed
 *              dummy       next message         last message
 *
 * A linked list of numbered nodes with one lock at each end, so that a producer and a consumer never
 * wait for each other (Michael and Scott, "Simple, Fast, and Practical Non-Blocking and Blocking
 * Concurrent Queue Algorithms", PODC 1996: the two-lock queue). The head node is a dummy: its message
 * was taken already. A short message lies in its node and is copied out under the head lock; a long one
 * lies in a block of its own, which the taker owns outright before he lets the lock go: the next taker
 * frees the node.
 *
 * Invariants
 *   Q1  A message is in the queue from the store to `pushed` to the store to `taken`: both are numbers
 *       of nodes, so the size is exact and after a crash either is read off the list again.
 *   Q2  Under the tail lock `adding` names the first of the nodes, complete and linked with each other, that
 *       are being linked, and `adding_last` the last of them. After a crash the next holder goes on from
 *       there: the messages arrive. Nodes and blocks become SHARED before a taker can see them: from then on
 *       they are his.
 *   Q3  Under the head lock `leaving` names the old dummy before `head` moves on, by one node or by several.
 *       `taker` is who does that. After a crash the next holder makes it and all nodes before `head`, with the
 *       messages that were taken, the victim's, whom somebody sweeps up after; if head didn't move, nothing was.
 *   Q4  Each node knows the bytes sent up to and with it: what is in flight is a difference as well.
 *   Q5  `done` <= pushed: unfinished tasks are pushed - done.
 *   Q6  A receipt (in the arena, given by the taker) has the number of the message he took last and, written
 *       before that, how its contents begin; both are there before `taken` moves. If he dies between the
 *       two the repair takes it back.
 *   Q7  A message may carry objects, shipped (object.h) by its sender. Its cargo is whose the message is: it is
 *       landed when the message is done with, discarded, or destroyed unread.
 *   Q8  `seen_taken` and `seen_taken_bytes` are what `taken` and `taken_bytes` were at some time or other. Both only
 *       grow: if there was room then, there is now, and producers need not look at the takers' line.
 *   Q9  The first dummy is complete before `head` names it: if its maker dies, who destroys the queue takes each node
 *       for what it says.
 *
 * What is tagged with a dead process is swept only after fmp_queue_settle (object.h), so a repair finds
 * what it names.
 * Lives in: arena, inside an object. Callers: any thread of any process that holds it. */
#ifndef FMP_QUEUE_H
#define FMP_QUEUE_H

#include "core/bell.h"
#include "core/object.h"

#define FMP_MESSAGE_SHORT 448 /* with its node and the block's head 512 bytes: beyond that copying under
                               * the lock costs more than a second block */

#define FMP_QUEUE_AT_ONCE 1024 /* messages that move under a lock at once: it is held for some 50 us then */

typedef struct {
    fmp_ref next;
    uint64_t number;
    uint64_t bytes_until; /* Q4 */
    uint64_t bytes;       /* of this message */
    fmp_ref block;        /* a long message's; none for a short one, which follows here */
    uint32_t kind;        /* the sender's word about the contents */
    uint32_t cargo;       /* Q7: its ref, short (heap.h) */
} fmp_node;

/* What is written together lies on one cache line, and what others look at all the time apart from what is written in
 * many steps: each look in between would make the line travel once more. */
typedef struct {
    _Alignas(FMP_CACHELINE) fmp_mutex head_lock; /* the takers' line */
    uint32_t taker; /* Q3 */
    fmp_ref head;
    fmp_ref leaving;                  /* Q3 */
    fmp_ref receipt;                  /* Q6: the present taker's */
    _Atomic uint64_t taken;           /* written under head_lock, read by all */
    _Atomic uint64_t taken_bytes;
    _Alignas(FMP_CACHELINE) fmp_mutex tail_lock; /* the producers' */
    fmp_ref tail;
    fmp_ref adding, adding_last;      /* Q2 */
    _Atomic uint64_t seen_taken;      /* Q8 */
    _Atomic uint64_t seen_taken_bytes;
    _Alignas(FMP_CACHELINE) _Atomic uint64_t pushed; /* what takers wait for; written under tail_lock, read by all */
    _Atomic uint64_t pushed_bytes;
    _Atomic uint64_t newest;          /* where `tail` is, or soon will be: a hint */
    _Alignas(FMP_CACHELINE) fmp_eventcount items; /* seldom written: waited on by takers */
    fmp_eventcount space;                         /* by those who find it full */
    fmp_bell bell;                                /* for takers who wait with a descriptor */
    uint64_t most;                                /* messages in it; 0 for no bound */
    uint64_t most_bytes;
    uint32_t manner;                              /* its maker's word to all who use it */
    _Alignas(FMP_CACHELINE) _Atomic uint64_t done;
    fmp_eventcount idle; /* waited on by those who wait for done == pushed */
} fmp_queue;

#define FMP_RECEIPT_WORDS 3

/* Q6 */
typedef struct {
    _Atomic uint64_t number;
    uint64_t words[FMP_RECEIPT_WORDS]; /* the contents' first ones, for what is long enough */
} fmp_receipt;

/* A message as its taker gets it: in `inside` if it is short, else in a block to be given back. */
typedef struct {
    const void *data;
    uint64_t bytes;
    uint64_t number;
    uint32_t kind;
    fmp_ref cargo;
    fmp_ref block;
    _Alignas(16) char inside[FMP_MESSAGE_SHORT];
} fmp_message;

/* A message under construction: the sender fills in `data`, then pushes or drops it. */
typedef struct {
    void *data;
    fmp_ref node;
    fmp_ref block;
} fmp_parcel;

/* Parcels to be sent together, in order. Begins zeroed. */
typedef struct {
    fmp_ref first, last;
    uint64_t count;
} fmp_convoy;

/* Messages taken together. */
typedef struct {
    fmp_ref at;       /* this taker's node; the next message is in the one behind it, or is `last` */
    uint64_t count;   /* still in it */
    fmp_message *now; /* the one that is looked at: `inner` or `last` */
    fmp_message inner, last;
} fmp_batch;

/* In a zeroed body. -ENOMEM. */
int fmp_queue_init(fmp_arena *a, fmp_queue *q, uint64_t most, uint64_t most_bytes);

/* See fmp_kind_ops in object.h. */
void fmp_queue_settle(fmp_arena *a, void *body);
void fmp_queue_destroy(fmp_arena *a, void *body);

/* Room for a message of `bytes`, and the cargo is the parcel's, if this returns 0. -ENOMEM. */
int fmp_queue_prepare(fmp_arena *a, uint64_t bytes, fmp_ref cargo, uint32_t kind, fmp_parcel *p);
void fmp_queue_discard(fmp_arena *a, fmp_parcel *p);

/* Send it: its number in *number. FMP_TIMEOUT (or FMP_INTR, FMP_BUSY) while the queue is full: the parcel is still
 * the caller's. */
int fmp_queue_push(fmp_arena *a, fmp_queue *q, fmp_parcel *p, fmp_waiter *w, uint64_t *number);

/* The same in steps, for who has more to do under the tail lock: take it (FMP_TIMEOUT, FMP_INTR, FMP_BUSY: as in
 * mutex.h), add if there is room (-ENOMEM), give it back. Whoever waits for messages otherwise is not told. */
int fmp_queue_enter_tail(fmp_arena *a, fmp_queue *q, const fmp_waiter *w);
int fmp_queue_add(fmp_arena *a, fmp_queue *q, const fmp_parcel *p);
void fmp_queue_leave_tail(fmp_queue *q);

/* Take the next message. FMP_TIMEOUT, FMP_INTR, FMP_BUSY, -ENOMEM if it can't be mapped (it stays then). `receipt`
 * names an fmp_receipt in the arena, or none (Q6). */
int fmp_queue_take(fmp_arena *a, fmp_queue *q, fmp_waiter *w, fmp_ref receipt, fmp_message *m);

/* The same for who waits for something else: FMP_EMPTY if there is none. `w` is for the lock. */
int fmp_queue_take_now(fmp_arena *a, fmp_queue *q, const fmp_waiter *w, fmp_ref receipt, fmp_message *m);

/* Let the parcel, which is the convoy's from now on, go as its last. */
void fmp_convoy_add(fmp_arena *a, fmp_convoy *c, const fmp_parcel *p);

/* Discard what is left of it. */
void fmp_convoy_discard(fmp_arena *a, fmp_convoy *c);

/* Send them: as many as there is room for go at once and leave the convoy, up to FMP_QUEUE_AT_ONCE. 0 when none
 * is left; else as fmp_queue_push. */
int fmp_queue_push_many(fmp_arena *a, fmp_queue *q, fmp_convoy *c, fmp_waiter *w);

/* Take what is there, up to `most` messages or FMP_QUEUE_AT_ONCE: at least one, or as fmp_queue_take. */
int fmp_queue_take_many(fmp_arena *a, fmp_queue *q, fmp_waiter *w, uint64_t most, fmp_batch *b);

/* The batch's next message, the one before which is done with then; NULL when there is none left. */
fmp_message *fmp_batch_next(fmp_arena *a, fmp_batch *b);

/* Wait until there is a message: as fmp_queue_take, but it stays. */
int fmp_queue_poll(fmp_arena *a, fmp_queue *q, fmp_waiter *w);

/* After its contents are used, and who needs what it carries has attached to it. */
void fmp_message_done(fmp_arena *a, fmp_message *m);

static inline uint64_t
fmp_queue_size(fmp_queue *q)
{
    uint64_t taken = atomic_load(&q->taken); /* first: what is pushed meanwhile only adds */
    return atomic_load(&q->pushed) - taken;  /* seq_cst: E2 of eventcount.h, as in all that is looked at */
}

static inline int
fmp_queue_full(fmp_queue *q)
{
    return q->most != 0 && fmp_queue_size(q) >= q->most;
}

/* May a message be pushed? As fmp_ready_fn. */
int fmp_queue_has_room(void *q);

/* Make an ear (bell.h) whose descriptor is readable while there are messages. */
int fmp_queue_listen(fmp_arena *a, fmp_queue *q, fmp_ear *ear);

/* For a process that may have one, after it took a message or found none. */
void fmp_queue_calm(fmp_arena *a, fmp_queue *q, const fmp_ear *ear);

/* One task is finished: 0, or FMP_FULL if all are. */
int fmp_queue_task_done(fmp_queue *q);

/* Wait until all tasks are finished. */
int fmp_queue_join(fmp_arena *a, fmp_queue *q, fmp_waiter *w);

#endif
