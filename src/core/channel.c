#include "core/channel.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>

#define BYTES_MOST ((uint64_t)2 << 20) /* under way: of messages of 1 MiB one is copied in, one out */
#define MESSAGES_MOST 8192             /* the same, for short ones: some 1 MiB with their nodes */
#define FRESH (10 * FMP_MICROSECOND)
#define SLICE_MOST (100 * FMP_MILLISECOND)
#define MEMORY_LOOKS 64 /* see fmp_ec_spin */
#define LABEL_BYTES 96

/* ---- making and destroying ---------------------------------------------------------------------- */

int
fmp_channel_init(fmp_arena *a, fmp_channel *c, int duplex, int sockets[2])
{
    int rc;
    for (int i = 0; i < 2; i++) {
        if ((rc = fmp_queue_init(a, &c->ways[i].queue, MESSAGES_MOST, BYTES_MOST)) < 0)
            return rc;
    }
    if ((rc = fmp_fd_pair(sockets, duplex)) < 0)
        return rc;
    for (int i = 0; i < 1 + duplex; i++)
        fmp_store(&c->ways[i].bell, fmp_fd_ring(sockets[!i]) == 0 ? FMP_BELL_RUNG : FMP_BELL_UNSURE);
    return 0;
}

void
fmp_channel_settle(fmp_arena *a, void *body)
{
    fmp_channel *c = body;
    for (int i = 0; i < 2; i++)
        fmp_queue_settle(a, &c->ways[i].queue);
}

void
fmp_channel_destroy(fmp_arena *a, void *body)
{
    fmp_channel *c = body;
    fmp_queue_destroy(a, &c->ways[0].queue);
    fmp_queue_destroy(a, &c->ways[1].queue);
}

/* ---- the bell ------------------------------------------------------------------------------------- */

static int
has_items(void *way)
{
    return fmp_queue_size(&((fmp_way *)way)->queue) != 0;
}

/* Take the rings out of the socket if there is no message: FMP_EMPTY then, 0 if there is one, -EBADMSG if something
 * else is in it (C4). */
static int
silence(fmp_arena *a, fmp_way *way, int fd, const fmp_waiter *w)
{
    int rc = fmp_queue_enter_tail(a, &way->queue, w);
    if (rc != 0)
        return rc;
    if (!has_items(way)) {
        atomic_store(&way->bell, FMP_BELL_UNSURE);
        way->turn++; /* first: a byte that is on its way (C6) is not relied on if we die behind it */
        fmp_step();
        if ((rc = fmp_fd_silence(fd)) >= 0) {
            fmp_step();
            atomic_store(&way->bell, FMP_BELL_SILENT);
            rc = rc == 0 ? FMP_EMPTY : -EBADMSG;
        }
    }
    fmp_queue_leave_tail(&way->queue);
    return rc;
}

/* The same, where it need not be known what is in a silent socket. */
static int
quiet(fmp_arena *a, fmp_way *way, int fd, const fmp_waiter *w)
{
    if (has_items(way))
        return 0;
    return atomic_load(&way->bell) == FMP_BELL_SILENT ? FMP_EMPTY : silence(a, way, fd, w);
}

/* A message was taken, or there was none: pollers of the descriptor shall see that. If the lock can't be had, they are
 * told when they look. */
static int
calm(fmp_arena *a, fmp_way *way, int fd, const fmp_waiter *w)
{
    if (atomic_load(&way->bell) == FMP_BELL_SILENT || !fmp_load(&way->listened) || has_items(way))
        return 0;
    return silence(a, way, fd, w);
}

int
fmp_channel_watch(fmp_arena *a, fmp_end *e, int fd, fmp_waiter *w)
{
    fmp_way *way = fmp_end_inbox(e);
    int dozing = fmp_load(&way->dozing);
    atomic_store(&way->dozing, 0); /* C6 */
    int rc = (dozing ? silence : quiet)(a, way, fd, w);
    return rc == -EBADMSG ? FMP_EMPTY : rc;
}

int
fmp_channel_listen(fmp_arena *a, fmp_end *e, int fd, fmp_waiter *w)
{
    fmp_way *way = fmp_end_inbox(e);
    if (fmp_load(&way->listened))
        return fmp_channel_watch(a, e, fd, w);
    atomic_store(&way->listened, 1);
    int rc = silence(a, way, fd, w); /* C6 */
    return rc == -EBADMSG ? FMP_EMPTY : rc;
}

/* Under the tail lock: what is in the socket isn't known any more. */
static void
doubt(fmp_way *way)
{
    way->turn++;
    atomic_store(&way->bell, FMP_BELL_UNSURE);
}

int
fmp_channel_interpose(fmp_arena *a, fmp_end *e, fmp_waiter *w)
{
    fmp_way *way = fmp_end_outbox(e);
    int rc = fmp_queue_enter_tail(a, &way->queue, w);
    if (rc != 0)
        return rc;
    doubt(way);
    fmp_queue_leave_tail(&way->queue);
    return 0;
}

int
fmp_channel_uncover(fmp_arena *a, fmp_end *e, int fd, fmp_waiter *w)
{
    fmp_way *way = fmp_end_inbox(e);
    int rc = fmp_queue_enter_tail(a, &way->queue, w);
    if (rc != 0)
        return rc;
    doubt(way);
    rc = fmp_fd_silence(fd);
    fmp_queue_leave_tail(&way->queue);
    return rc < 0 ? rc : 0;
}

/* ---- is the other end open? ------------------------------------------------------------------------- */

/* Ask the kernel: 0 if it is open, FMP_EOF. */
static int
ask(fmp_end *e, int fd)
{
    uint32_t leavings = atomic_load(&fmp_end_outbox(e)->leavings);
    fmp_time now = fmp_clock();
    int rc = fmp_fd_hung_up(fd);
    if (rc != 0) {
        atomic_store_explicit(&e->asked, 0, memory_order_relaxed);
        return rc > 0 ? FMP_EOF : rc;
    }
    atomic_store_explicit(&e->leavings, leavings, memory_order_relaxed);
    atomic_store_explicit(&e->asked, now, memory_order_relaxed);
    return 0;
}

/* The same, or an answer that is fresh (C5). */
static int
check_peer(fmp_end *e, int fd)
{
    if (atomic_load(&fmp_end_outbox(e)->leavings) == fmp_peek(&e->leavings) &&
        fmp_clock() - fmp_peek(&e->asked) < FRESH)
        return 0;
    return ask(e, fd);
}

void
fmp_channel_left(fmp_end *e)
{
    fmp_way *way = fmp_end_inbox(e);
    atomic_fetch_add(&way->leavings, 1); /* E2 of eventcount.h */
    fmp_ec_signal(&way->queue.space, INT_MAX);
}

/* ---- sending ------------------------------------------------------------------------------------------- */

static void
note_cpu(fmp_way *way)
{
    uint32_t cpu = fmp_cpu_current();
    if (fmp_peek(&way->cpu) != cpu)
        atomic_store_explicit(&way->cpu, cpu, memory_order_relaxed); /* a hint */
}

static int
may_send(void *arg)
{
    fmp_end *e = arg;
    fmp_way *way = fmp_end_outbox(e);
    return fmp_queue_has_room(&way->queue) || atomic_load(&way->leavings) != fmp_peek(&e->leavings);
}

/* Under the tail lock: behind a byte. */
static int
ring_and_add(fmp_arena *a, fmp_way *way, int fd, const fmp_parcel *p)
{
    atomic_store(&way->bell, FMP_BELL_UNSURE);
    fmp_step();
    int rung = fmp_fd_ring(fd) == 0;
    fmp_step();
    int rc = fmp_queue_add(a, &way->queue, p);
    fmp_step();
    if (rung)
        atomic_store(&way->bell, FMP_BELL_RUNG);
    return rc;
}

/* Give up the tail lock, then write the byte (C6). */
static void
leave_and_ring(fmp_arena *a, fmp_way *way, int fd, const fmp_waiter *w)
{
    uint32_t turn = ++way->turn;
    atomic_store(&way->bell, FMP_BELL_UNSURE);
    fmp_queue_leave_tail(&way->queue);
    fmp_step();
    int rung = fmp_fd_ring(fd) == 0;
    fmp_step();
    if (fmp_queue_enter_tail(a, &way->queue, w) != 0)
        return; /* the next sender rings, too */
    if (turn == way->turn && rung)
        atomic_store(&way->bell, FMP_BELL_RUNG);
    else if (turn != way->turn && atomic_load(&way->bell) == FMP_BELL_SILENT)
        atomic_store(&way->bell, FMP_BELL_UNSURE);
    fmp_queue_leave_tail(&way->queue);
}

/* FMP_FULL if there is no room. */
static int
push(fmp_arena *a, fmp_way *way, int fd, const fmp_parcel *p, const fmp_waiter *w)
{
    if (!fmp_queue_has_room(&way->queue))
        return FMP_FULL;
    int rc = fmp_queue_enter_tail(a, &way->queue, w);
    if (rc != 0)
        return rc;
    int silent = atomic_load(&way->bell) != FMP_BELL_RUNG;
    int dozing = silent && fmp_load(&way->dozing) && !fmp_load(&way->listened);
    if (!fmp_queue_has_room(&way->queue)) /* any more */
        rc = FMP_FULL;
    else if (silent && !dozing)
        rc = ring_and_add(a, way, fd, p);
    else
        rc = fmp_queue_add(a, &way->queue, p);
    if (rc == 0 && dozing)
        leave_and_ring(a, way, fd, w);
    else
        fmp_queue_leave_tail(&way->queue);
    return rc;
}

int
fmp_channel_send(fmp_arena *a, fmp_end *e, int fd, fmp_parcel *p, fmp_waiter *w)
{
    fmp_way *way = fmp_end_outbox(e);
    for (;;) {
        int rc = check_peer(e, fd);
        if (rc != 0)
            return rc == FMP_EOF ? -EPIPE : rc;
        rc = push(a, way, fd, p, w);
        if (rc == 0)
            note_cpu(way);
        if (rc != FMP_FULL)
            return rc;
        if (w->slice > SLICE_MOST)
            w->slice = SLICE_MOST; /* C8 */
        if ((rc = fmp_ec_wait(a, &way->queue.space, may_send, e, w)) != 0)
            return rc;
    }
}

/* ---- receiving ------------------------------------------------------------------------------------------- */

/* The descriptor is readable, and there was no message: 0 if there is one now, FMP_EOF, -EBADMSG, or FMP_EMPTY if it
 * was only rung. */
static int
look_behind(fmp_arena *a, fmp_end *e, int fd, const fmp_waiter *w)
{
    fmp_way *way = fmp_end_inbox(e);
    int rc = ask(e, fd);
    if (rc == 0)
        return silence(a, way, fd, w);
    if (rc == FMP_EOF) { /* of a message whose sender was killed in the middle of it, too */
        int entered = fmp_queue_enter_tail(a, &way->queue, w);
        if (entered != 0)
            return entered;
        fmp_queue_leave_tail(&way->queue);
    }
    return has_items(way) ? 0 : rc; /* C5 */
}

/* Sleep on the descriptor until there is a message: 0, look again. */
static int
sleep_on(fmp_arena *a, fmp_end *e, int fd, fmp_waiter *w)
{
    fmp_way *way = fmp_end_inbox(e);
    int rc = quiet(a, way, fd, w);
    if (rc != FMP_EMPTY)
        return rc == -EBADMSG ? look_behind(a, e, fd, w) : rc;
    fmp_time end = fmp_ec_slice(w);
    atomic_store_explicit(&way->dozing, 1, memory_order_relaxed); /* a hint */
    rc = fmp_fd_wait_readable(fd, end);
    atomic_store_explicit(&way->dozing, 0, memory_order_relaxed);
    if (has_items(way))
        return 0;
    if (rc == 0)
        rc = look_behind(a, e, fd, w);
    else if (rc == FMP_TIMEOUT && end < w->until)
        rc = FMP_INTR;
    return rc == FMP_EMPTY ? 0 : rc;
}

/* Wait for a message, or the end. */
static int
await(fmp_arena *a, fmp_end *e, int fd, fmp_waiter *w)
{
    fmp_way *way = fmp_end_inbox(e);
    int rc = calm(a, way, fd, w);
    if (has_items(way))
        return 0;
    if (w->until == FMP_NOW)
        return rc == FMP_BUSY ? rc : FMP_TIMEOUT;
    int spin = !w->spun && fmp_peek(&way->cpu) != fmp_cpu_current(); /* C7 */
    w->spun = 1;
    if (spin && fmp_ec_spin(a, has_items, way, MEMORY_LOOKS, w->until))
        return 0;
    return sleep_on(a, e, fd, w);
}

int
fmp_channel_receive(fmp_arena *a, fmp_end *e, int fd, fmp_message *m, fmp_waiter *w)
{
    fmp_way *way = fmp_end_inbox(e);
    for (;;) {
        int rc = fmp_queue_take_now(a, &way->queue, w, FMP_REF_NONE, m);
        if (rc == 0)
            calm(a, way, fd, w);
        if (rc != FMP_EMPTY)
            return rc;
        if ((rc = await(a, e, fd, w)) != 0)
            return rc;
    }
}

int
fmp_channel_poll(fmp_arena *a, fmp_end *e, int fd, fmp_waiter *w)
{
    fmp_way *way = fmp_end_inbox(e);
    int rc = 0;
    while (rc == 0 && !has_items(way)) {
        rc = await(a, e, fd, w);
        if (rc == FMP_TIMEOUT && w->until == FMP_NOW)
            rc = check_peer(e, fd) == 0 ? FMP_TIMEOUT : look_behind(a, e, fd, w);
    }
    return rc == FMP_EOF || rc == -EBADMSG ? 0 : rc; /* something to receive, of whatever kind */
}

/* ---- labels ------------------------------------------------------------------------------------------------ */

int
fmp_channel_label(fmp_arena *a, const fmp_end *e, int fd, fmp_ticket ticket)
{
    char label[LABEL_BYTES];
    snprintf(label, sizeof(label), "%016" PRIx64 "-%" PRIx32 "-%" PRIx64 "-%" PRIu32, fmp_arena_name(a), ticket.index,
             ticket.serial, e->side);
    return fmp_fd_label(fd, label);
}

int
fmp_channel_read_label(int fd, uint64_t *arena, fmp_ticket *ticket, uint32_t *side)
{
    char label[LABEL_BYTES];
    *ticket = (fmp_ticket){0};
    if (fmp_fd_read_label(fd, label, sizeof(label)) <= 0)
        return FMP_EMPTY;
    int found = sscanf(label, "%" SCNx64 "-%" SCNx32 "-%" SCNx64 "-%" SCNu32, arena, &ticket->index, &ticket->serial,
                       side);
    return found == 4 && *side < 2 ? 0 : FMP_EMPTY;
}
