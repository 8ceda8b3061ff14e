/* channel.h: the two ends of a pipe, for messages in memory.
 *
 *   end 0, a socket                          end 1, a socket
 *     ^-- way[0]: queue, bell, leavings <------'
 *     '---------> way[1]: queue, bell, leavings --^
 *
 * Messages lie in queues (queue.h), one for each direction. A pair of connected sockets beside them does what
 * memory can't: a process sleeps on its socket when there is nothing to take, and is rung by a byte; any
 * poller of the descriptor sees that byte; and the kernel knows when the last process that had the other
 * end's socket has closed it or was killed. Nothing else is known, or believed, about who has an end.
 *
 *   bell     a byte in the socket   next
 *   RUNG     yes                    SILENT, by a receiver who wants to rely on the descriptor and found no message
 *   SILENT   no                     RUNG, by the sender of the next message
 *   UNSURE   perhaps                either; somebody is, or was killed, in the middle of ringing or silencing
 *
 * A new way is RUNG. A process can't ring its own socket; so a byte lies in it before anybody looks at it,
 * and costs nothing: senders don't ring what rings. Who is about to sleep, and found no message, silences
 * it first. From the first fmp_channel_listen on the descriptor is somebody's who may look at any time:
 * then whoever takes the last message silences it, too.
 *
 *   receiver, under the queue's tail lock       sender, under the queue's tail lock
 *   1 if there is a message: nothing            1 unless bell is RUNG: bell = UNSURE, write a byte
 *   2 bell = UNSURE, take the byte out,         2 push the message
 *     bell = SILENT                             3 if a byte was written: bell = RUNG
 *
 * Invariants
 *   C1  While bell is RUNG there is a byte in the socket, while it is SILENT there is none of ours. It changes,
 *       and bytes are written and taken, under the tail lock. Whoever dies in it leaves UNSURE, which senders ring
 *       and receivers silence: there is nothing to repair.
 *   C2  A message is behind a byte from the moment when it is there, whenever its sender is killed; but see C6.
 *   C3  After fmp_channel_listen, an end's descriptor is readable while there is a message for it, or when the
 *       other end is closed; and not in vain, if one process receives. (Several may see a byte whose message
 *       another one took, until he or they look; or one whose sender was killed before 2, or stopped there.)
 *   C4  Bytes of ours are FMP_FD_RING. Receivers take them away as far as they come first, so whoever sends
 *       something else through the sockets (descriptors, see reduction.py) finds it again. To a receiver
 *       with no message that is -EBADMSG.
 *   C5  The end comes after all that was sent: hang-up first, then a look for messages. A sender asks the kernel
 *       whether the other end is open unless he did in the last FRESH (channel.c) and nobody closed it since, which
 *       `leavings` tells. A process's end takes longer than that from its files to whoever waits for it.
 *   C6  For a receiver who dozes the message is pushed first, and the byte is written after the lock was given up: he
 *       wakes up at once, often on the writer's processor, and would have to wait for the lock. If he silenced the
 *       bell meanwhile, since his slice was over that instant, it is UNSURE afterwards. A sender who is killed before
 *       the byte delays him until his slice is over. Who looks at the descriptor puts an end to that: `dozing`
 *       is gone, or `listened` is there, before he has the lock once.
 *   C7  Who waits for a sender who ran on the same processor does not spin: that would keep him from running.
 *   C8  A sender sleeps on the queue's `space`; closing the other end wakes him. If its last holder is killed he
 *       finds out when his slice, of SLICE_MOST (channel.c), is over.
 *
 * A socket can be given a label, the ticket (object.h) of its channel. Who gets the descriptor of an end in any
 * way, as a copy or from another process, reads there what it is.
 * All that waits does so until the waiter's deadline, and FMP_INTR or FMP_BUSY is possible (mutex.h).
 * Lives in: fmp_channel in the arena, inside an object; fmp_end in the process. Callers: any thread. After fork both
 * have the end. The descriptor is the caller's in each call, as he may close it meanwhile: -EBADF then. */
#ifndef FMP_CHANNEL_H
#define FMP_CHANNEL_H

#include "core/queue.h"

enum { FMP_BELL_RUNG, FMP_BELL_SILENT, FMP_BELL_UNSURE };

/* The messages to one end. */
typedef struct {
    fmp_queue queue;
    _Alignas(FMP_CACHELINE) _Atomic uint32_t bell;
    _Atomic uint32_t listened; /* to the descriptor, by somebody at any time */
    _Atomic uint32_t dozing;   /* a receiver sleeps on its socket, or is about to, and looks again by himself */
    _Atomic uint32_t cpu;      /* where the last sender ran, plus 1 */
    _Atomic uint32_t leavings; /* how often a process closed the end that these messages go to */
    uint32_t turn; /* counts what is done to the bell; under the tail lock */
} fmp_way;

typedef struct {
    fmp_way ways[2];
} fmp_channel;

/* An end, as a process has it. */
typedef struct {
    fmp_channel *channel;
    uint32_t side;
    _Atomic uint32_t leavings; /* of the other end, when the kernel was asked last, */
    _Atomic fmp_time asked;    /* ... and when that was */
} fmp_end;

static inline fmp_way *
fmp_end_inbox(const fmp_end *e)
{
    return &e->channel->ways[e->side];
}

static inline fmp_way *
fmp_end_outbox(const fmp_end *e)
{
    return &e->channel->ways[!e->side];
}

/* In a zeroed body, and the sockets for it. One-way: messages go from end 1 to end 0. */
int fmp_channel_init(fmp_arena *a, fmp_channel *c, int duplex, int sockets[2]);

/* See fmp_kind_ops in object.h. */
void fmp_channel_settle(fmp_arena *a, void *body);
void fmp_channel_destroy(fmp_arena *a, void *body);

/* Send what fmp_queue_prepare made. -EPIPE if the other end is closed; FMP_TIMEOUT, FMP_INTR: the parcel is still the
 * caller's, unless this returns 0. */
int fmp_channel_send(fmp_arena *a, fmp_end *e, int fd, fmp_parcel *p, fmp_waiter *w);

/* Take the next message (then fmp_message_done). FMP_EOF when the other end is closed and all is taken. */
int fmp_channel_receive(fmp_arena *a, fmp_end *e, int fd, fmp_message *m, fmp_waiter *w);

/* Wait until there is a message, or the end. */
int fmp_channel_poll(fmp_arena *a, fmp_end *e, int fd, fmp_waiter *w);

/* Make the descriptor fit for pollers: for one look that begins now, or (listen) from now on. 0 if there is a
 * message already, else FMP_EMPTY. */
int fmp_channel_watch(fmp_arena *a, fmp_end *e, int fd, fmp_waiter *w);
int fmp_channel_listen(fmp_arena *a, fmp_end *e, int fd, fmp_waiter *w);

/* Somebody sends something else through the sockets: what comes next is rung anew, behind it (C4). And who is
 * about to receive that takes away the rings before it. */
int fmp_channel_interpose(fmp_arena *a, fmp_end *e, fmp_waiter *w);
int fmp_channel_uncover(fmp_arena *a, fmp_end *e, int fd, fmp_waiter *w);

/* After this process closed a descriptor of the end. */
void fmp_channel_left(fmp_end *e);

/* Label the end's socket, and read such a label: 0, FMP_EMPTY if the descriptor has none. */
int fmp_channel_label(fmp_arena *a, const fmp_end *e, int fd, fmp_ticket ticket);
int fmp_channel_read_label(int fd, uint64_t *arena, fmp_ticket *ticket, uint32_t *side);

#endif
