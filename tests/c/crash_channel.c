/* Those at either end of a channel are killed at every change that they make, those they ring and silence in the
 * sockets too. The tester has both ends, unless the scenario closes one. */
#include "stepper.h"

#include <errno.h>

#include "core/channel.h"

static fmp_arena *a;
static fmp_object *object;
static fmp_channel *c;
static fmp_end ends[2];
static int fds[2] = {-1, -1};
static uint64_t base;  /* blocks in use while it is empty */
static uint32_t before; /* messages to end 1 when the victim comes */
static int heard;       /* by who polls the descriptor of end 1 */

static void
shut(int side)
{
    if (fds[side] >= 0)
        close(fds[side]);
    fds[side] = -1;
}

static int
send(uint32_t number, uint64_t bytes, fmp_time until)
{
    fmp_parcel p;
    fmp_waiter w = FMP_WAITER(until);
    int rc;
    CHECK_EQ(fmp_queue_prepare(a, bytes, FMP_REF_NONE, 0, &p), 0);
    memcpy(p.data, &number, sizeof(number));
    while ((rc = fmp_channel_send(a, &ends[0], fds[0], &p, &w)) == FMP_INTR)
        ;
    if (rc != 0)
        fmp_queue_discard(a, &p);
    return rc;
}

static int
receive(uint32_t *number, fmp_time until)
{
    fmp_message m;
    fmp_waiter w = FMP_WAITER(until);
    int rc;
    while ((rc = fmp_channel_receive(a, &ends[1], fds[1], &m, &w)) == FMP_INTR)
        ;
    if (rc != 0)
        return rc;
    memcpy(number, m.data, sizeof(*number));
    fmp_message_done(a, &m);
    return 0;
}

static void
send_or_fail(uint32_t number)
{
    CHECK_EQ(send(number, 1000, FMP_FOREVER), 0);
}

static int
watch(void)
{
    fmp_waiter w = FMP_WAITER(FMP_NOW);
    return fmp_channel_watch(a, &ends[1], fds[1], &w);
}

static int
listen_to_it(void)
{
    fmp_waiter w = FMP_WAITER(FMP_NOW);
    return fmp_channel_listen(a, &ends[1], fds[1], &w);
}

static void
begin_with(uint32_t count, int listened)
{
    a = check_used_arena();
    shut(0);
    shut(1);
    CHECK_EQ(fmp_object_create(a, FMP_CHANNEL, sizeof(fmp_channel), &object), 0);
    c = fmp_object_body(object);
    CHECK_EQ(fmp_channel_init(a, c, 1, fds), 0);
    for (uint32_t i = 0; i < 2; i++)
        ends[i] = (fmp_end){.channel = c, .side = i};
    base = check_blocks();
    if (listened)
        listen_to_it();
    heard = listened;
    for (before = 0; before < count; before++)
        send_or_fail(before + 1);
}

static void
begin(void)
{
    begin_with(0, 1);
}

static void
begin_with_some(void)
{
    begin_with(3, 1);
}

static void
begin_unheard(void)
{
    begin_with(0, 0);
}

/* The receiver sleeps on a silent socket. */
static void
begin_dozing(void)
{
    begin_with(0, 0);
    CHECK_EQ(watch(), FMP_EMPTY);
    CHECK_EQ(c->ways[1].bell, FMP_BELL_SILENT);
    c->ways[1].dozing = 1;
}

/* Somebody looks at the descriptor, once. */
static void
begin_watched(void)
{
    begin_with(0, 0);
    CHECK_EQ(watch(), FMP_EMPTY);
    heard = 1;
}

static int
readable(void)
{
    return fmp_fd_wait_readable(fds[1], FMP_NOW) == 0;
}

/* C2: who only polls the descriptor learns of every message that is there. */
static void
check_heard(void)
{
    fmp_queue_settle(a, &c->ways[1].queue);
    CHECK(!heard || fmp_queue_size(&c->ways[1].queue) == 0 || readable());
}

/* What the victim sent or left arrives in order; the descriptor tells the truth again as soon as somebody sends. */
static void
check(int finished)
{
    uint32_t number = 0, last = 0;
    (void)finished;
    check_heard();
    listen_to_it();
    send_or_fail(1000);
    CHECK(readable());
    while (number != 1000) {
        CHECK(readable());
        CHECK_EQ(receive(&number, FMP_NOW), 0);
        CHECK(number > last);
        last = number;
    }
    CHECK_EQ(receive(&number, FMP_NOW), FMP_TIMEOUT);
    CHECK(!readable());
    send_or_fail(1001);
    CHECK(readable());
    CHECK_EQ(receive(&number, FMP_NOW), 0);
    CHECK(!readable());
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(c->ways[i].queue.tail_lock.owner, 0);
        CHECK_EQ(c->ways[i].queue.pushed_bytes, c->ways[i].queue.taken_bytes);
    }
    fmp_object_sweep(a);
    CHECK_EQ(check_blocks(), base);
}

/* ---- at either end --------------------------------------------------------------------------------------- */

static void
act_send(void *unused)
{
    (void)unused;
    for (uint32_t i = 1; i <= 3; i++)
        send_or_fail(before + i);
}

static void
act_receive(void *unused)
{
    uint32_t number;
    (void)unused;
    for (uint32_t i = 1; i <= 3; i++)
        CHECK_EQ(receive(&number, FMP_FOREVER), 0);
}

static void
act_poll(void *unused)
{
    (void)unused;
    fmp_waiter now = FMP_WAITER(FMP_NOW), w = FMP_WAITER(FMP_FOREVER);
    CHECK_EQ(fmp_channel_poll(a, &ends[1], fds[1], &now), FMP_TIMEOUT);
    while (fmp_channel_poll(a, &ends[1], fds[1], &w) == FMP_INTR)
        ;
    CHECK_EQ(watch(), 0);
}

static void
nudge_receiver(void)
{
    send_or_fail(++before);
}

static void
act_silence(void *unused)
{
    fmp_waiter w = FMP_WAITER(FMP_FOREVER);
    (void)unused;
    CHECK_EQ(fmp_channel_watch(a, &ends[1], fds[1], &w), FMP_EMPTY);
}

/* A sender whose byte is on its way learns that there may be none. */
static void
check_silence(int finished)
{
    CHECK(readable() || c->ways[1].turn != 0);
    CHECK(!finished || c->ways[1].bell == FMP_BELL_SILENT);
    check(finished);
}

/* Between his ring and what he tells of it the receiver takes the message and silences the socket. */
static void
act_send_to_dozer(void *unused)
{
    (void)unused;
    send_or_fail(1);
}

static void
receive_at_once(void)
{
    uint32_t number;
    CHECK_EQ(receive(&number, FMP_NOW), 0);
    CHECK_EQ(watch(), FMP_EMPTY);
}

/* Behind something that is no message, which is received again. */
static void
act_interpose(void *unused)
{
    char byte;
    (void)unused;
    send_or_fail(1);
    CHECK_EQ(write(fds[0], "x", 1), 1);
    fmp_waiter w = FMP_WAITER(FMP_FOREVER);
    CHECK_EQ(fmp_channel_interpose(a, &ends[0], &w), 0);
    send_or_fail(2);
    CHECK_EQ(fmp_channel_uncover(a, &ends[1], fds[1], &w), 0);
    CHECK_EQ(read(fds[1], &byte, 1), 1);
}

static void
check_interposed(int finished)
{
    char byte;
    fmp_waiter w = FMP_WAITER(FMP_NOW);
    check_heard();
    CHECK_EQ(fmp_channel_uncover(a, &ends[1], fds[1], &w), 0);
    heard = 0; /* rings are uncovered, too */
    if (fmp_fd_silence(fds[1]) > 0)
        CHECK_EQ(read(fds[1], &byte, 1), 1);
    check(finished);
}

static void
heir_sends(void *unused)
{
    fmp_object_sweep(a);
    act_send(unused);
}

static void
check_heir(int finished)
{
    uint32_t number;
    fmp_object_sweep(a);
    check_heard();
    while (receive(&number, FMP_NOW) == 0) /* of two who sent the same */
        ;
    check(finished);
}

/* ---- full -------------------------------------------------------------------------------------------------- */

#define LARGE ((uint64_t)4 << 20)

static void
begin_full(void)
{
    begin_with(0, 1);
    CHECK_EQ(send(++before, LARGE, FMP_NOW), 0);
    CHECK_EQ(send(before, 8, FMP_NOW), FMP_TIMEOUT);
}

static void
nudge_sender(void)
{
    uint32_t number;
    CHECK_EQ(receive(&number, FMP_NOW), 0);
}

static void
act_fill(void *unused)
{
    (void)unused;
    send_or_fail(before + 1);
}

static void
check_full(int finished)
{
    uint32_t number;
    while (receive(&number, FMP_NOW) == 0)
        ;
    check(finished);
}

/* ---- the end ------------------------------------------------------------------------------------------------ */

/* The other end is closed, and its last message was under way. */
static void
begin_at_the_end(void)
{
    begin_with(1, 1);
    fmp_parcel p;
    CHECK_EQ(fmp_queue_prepare(a, 1000, FMP_REF_NONE, 0, &p), 0);
    memcpy(p.data, &(uint32_t){2}, 4);
    c->ways[1].queue.adding = c->ways[1].queue.adding_last = p.node;
    atomic_store(&c->ways[1].queue.tail_lock.owner, check_dead());
    shut(0);
    fmp_channel_left(&ends[0]);
}

static void
act_end(void *unused)
{
    uint32_t number;
    int rc, count = 0;
    (void)unused;
    while ((rc = receive(&number, FMP_FOREVER)) == 0)
        CHECK_EQ(number, ++count);
    CHECK_EQ(rc, FMP_EOF);
    CHECK_EQ(count, 2);
}

static void
check_end(int finished)
{
    uint32_t number;
    int rc, count = 0;
    while ((rc = receive(&number, FMP_FOREVER)) == 0)
        count++;
    CHECK_EQ(rc, FMP_EOF);
    CHECK(count <= (finished ? 0 : 2));
    fmp_object_sweep(a);
    CHECK_EQ(check_blocks(), base);
}

static void
act_leave(void *unused)
{
    (void)unused;
    shut(0);
    fmp_channel_left(&ends[0]);
}

/* ---- making and destroying ---------------------------------------------------------------------------------- */

static void
begin_empty(void)
{
    a = check_used_arena();
    shut(0);
    shut(1);
}

static void
act_make(void *unused)
{
    (void)unused;
    CHECK_EQ(fmp_object_create(a, FMP_CHANNEL, sizeof(fmp_channel), &object), 0);
    c = fmp_object_body(object);
    CHECK_EQ(fmp_channel_init(a, c, 1, fds), 0);
    ends[0] = (fmp_end){.channel = c};
    CHECK_EQ(fmp_channel_label(a, &ends[0], fds[0], fmp_object_ticket(object)), 0);
    send_or_fail(1);
    fmp_object_drop(a, object);
}

static void
check_nothing_is_left(int finished)
{
    (void)finished;
    fmp_object_sweep(a);
    CHECK_EQ(fmp_object_count(a), 0);
    CHECK(check_blocks() <= 2); /* queues whose maker died before they were an object's */
}

/* From now on somebody may look at the descriptor at any time. */
static void
act_listen(void *unused)
{
    (void)unused;
    listen_to_it();
}

STEP_MAIN({.name = "send", .begin = begin, .act = act_send, .check = check_heir, .heir = heir_sends},
          {.name = "send_watched", .begin = begin_watched, .act = act_send, .check = check},
          {.name = "send_unheard", .begin = begin_unheard, .act = act_send, .check = check},
          {.name = "send_to_dozer", .begin = begin_dozing, .act = act_send, .check = check_heir, .heir = heir_sends},
          {.name = "send_to_waker", .begin = begin_dozing, .act = act_send_to_dozer, .rung = receive_at_once,
           .check = check},
          {.name = "receive", .begin = begin_with_some, .act = act_receive, .check = check, .heir = step_sweep},
          {.name = "receive_asleep", .begin = begin_unheard, .act = act_receive, .nudge = nudge_receiver,
           .check = check},
          {.name = "listen", .begin = begin_unheard, .act = act_listen, .check = check},
          {.name = "poll", .begin = begin_unheard, .act = act_poll, .nudge = nudge_receiver, .check = check},
          {.name = "silence", .begin = begin_unheard, .act = act_silence, .check = check_silence},
          {.name = "interpose", .begin = begin, .act = act_interpose, .check = check_interposed},
          {.name = "full", .begin = begin_full, .act = act_fill, .nudge = nudge_sender, .check = check_full},
          {.name = "end", .begin = begin_at_the_end, .act = act_end, .check = check_end, .heir = step_sweep},
          {.name = "leave", .begin = begin, .act = act_leave, .check = check},
          {.name = "make", .begin = begin_empty, .act = act_make, .check = check_nothing_is_left})
