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
 *   Q2  Under the tail lock `adding` names the node, complete, that is being linked. After a crash the
 *       next holder goes on from there: the message arrives. Node and block become SHARED before a taker can
 *       see them: from then on they are his.
 *   Q3  Under the head lock `leaving` names the old dummy before `head` moves on. After a crash the next
 *       holder frees it, with the message that the victim had taken; if head didn't move, nothing was.
 *   Q4  Each node knows the bytes sent up to and with it: what is in flight is a difference as well.
 *   Q5  `done` <= pushed: unfinished tasks are pushed - done.
 *   Q6  A receipt (a word in the arena given by the taker) has the number of the message he took last;
 *       it is written before `taken` moves. If he dies between the two the repair takes it back.
 *
 *   Q7  A message may carry objects, shipped (object.h) by its sender: their tickets lie behind its contents.
 *       They are landed when the message is done with, discarded, or destroyed unread; each is taken off the
 *       list before it is landed, so that none is landed twice. (What a message carried whose taker was
 *       killed stays in flight: until the program ends.)
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

typedef struct {
    fmp_ref next;
    uint64_t number;
    uint64_t bytes_until; /* Q4 */
    uint64_t bytes;       /* of this message */
    fmp_ref block;        /* a long message's; none for a short one, which follows here */
    uint32_t kind;        /* the sender's word about the contents */
    uint32_t cargo;       /* Q7: tickets behind the contents */
} fmp_node;

typedef struct {
    _Alignas(FMP_CACHELINE) fmp_mutex head_lock;
    fmp_ref head;
    fmp_ref leaving;                  /* Q3 */
    fmp_ref receipt;                  /* Q6: the present taker's */
    _Atomic uint64_t taken;           /* written under head_lock, read by all */
    _Atomic uint64_t taken_bytes;
    _Alignas(FMP_CACHELINE) fmp_mutex tail_lock;
    fmp_ref tail;
    fmp_ref adding;                   /* Q2 */
    _Atomic uint64_t pushed;          /* written under tail_lock, read by all */
    _Atomic uint64_t pushed_bytes;
    _Alignas(FMP_CACHELINE) fmp_eventcount items; /* waited on by takers */
    fmp_eventcount space;                         /* by those who find it full */
    fmp_bell bell;                                /* for takers who wait with a descriptor */
    uint64_t most;                                /* messages in it; 0 for no bound */
    uint64_t most_bytes;
    _Alignas(FMP_CACHELINE) _Atomic uint64_t done;
    fmp_eventcount idle; /* waited on by those who wait for done == pushed */
} fmp_queue;

/* A message as its taker gets it: in `inside` if it is short, else in a block to be given back. */
typedef struct {
    const void *data;
    uint64_t bytes;
    uint64_t number;
    uint32_t kind;
    uint32_t cargo;
    fmp_ref block;
    _Alignas(16) char inside[FMP_MESSAGE_SHORT];
} fmp_message;

/* A message under construction: the sender fills in `data` and `tickets`, then pushes or drops it. */
typedef struct {
    void *data;
    fmp_ticket *tickets;
    fmp_ref node;
    fmp_ref block;
} fmp_parcel;

/* In a zeroed body. -ENOMEM. */
int fmp_queue_init(fmp_arena *a, fmp_queue *q, uint64_t most, uint64_t most_bytes);

/* See fmp_kind_ops in object.h. */
void fmp_queue_settle(fmp_arena *a, void *body);
void fmp_queue_destroy(fmp_arena *a, void *body);

/* Room for a message of `bytes` and the tickets of `cargo` objects, which are its own once they are filled in.
 * -ENOMEM. */
int fmp_queue_prepare(fmp_arena *a, uint64_t bytes, uint32_t cargo, uint32_t kind, fmp_parcel *p);
void fmp_queue_discard(fmp_arena *a, fmp_parcel *p);

/* Send it: its number in *number. FMP_TIMEOUT (or FMP_INTR) while the queue is full: the parcel is still
 * the caller's. */
int fmp_queue_push(fmp_arena *a, fmp_queue *q, fmp_parcel *p, fmp_waiter *w, uint64_t *number);

/* Take the next message. FMP_TIMEOUT, FMP_INTR, -ENOMEM if it can't be mapped (it stays then). `receipt`
 * names a 64-bit word in the arena, or none (Q6). */
int fmp_queue_take(fmp_arena *a, fmp_queue *q, fmp_waiter *w, fmp_ref receipt, fmp_message *m);

/* Wait until there is a message: as fmp_queue_take, but it stays. */
int fmp_queue_poll(fmp_arena *a, fmp_queue *q, fmp_waiter *w);

/* Where the tickets are behind contents of `bytes` that begin at `data`. */
static inline fmp_ticket *
fmp_message_tickets(const void *data, uint64_t bytes)
{
    return (fmp_ticket *)((char *)data + (bytes + 7) / 8 * 8);
}

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

/* Make an ear (bell.h) whose descriptor is readable while there are messages. */
int fmp_queue_listen(fmp_arena *a, fmp_queue *q, fmp_ear *ear);

/* For a process that may have one, after it took a message or found none. */
void fmp_queue_calm(fmp_arena *a, fmp_queue *q, const fmp_ear *ear);

/* One task is finished: 0, or FMP_FULL if all are. */
int fmp_queue_task_done(fmp_queue *q);

/* Wait until all tasks are finished. */
int fmp_queue_join(fmp_arena *a, fmp_queue *q, fmp_waiter *w);

#endif
