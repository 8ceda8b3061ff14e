#include "check.h"

#include <errno.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include "core/channel.h"

static fmp_arena *a;
static fmp_channel *c;
static fmp_object *object;
static fmp_end ends[2];
static int fds[2];
static uint64_t base; /* blocks in use while it is empty */

static void
begin(int duplex)
{
    a = check_arena();
    for (int i = 0; i < 2; i++) {
        if (fds[i] > 0)
            close(fds[i]);
    }
    CHECK_EQ(fmp_object_create(a, FMP_CHANNEL, sizeof(fmp_channel), &object), 0);
    c = fmp_object_body(object);
    CHECK_EQ((uintptr_t)c % FMP_CACHELINE, 0);
    CHECK_EQ(fmp_channel_init(a, c, duplex, fds), 0);
    for (uint32_t i = 0; i < 2; i++)
        ends[i] = (fmp_end){.channel = c, .side = i};
    base = check_blocks();
    CHECK_EQ(base, 3); /* the object and two dummies */
}

static void
hang_up(int side)
{
    close(fds[side]);
    fds[side] = -1;
    fmp_channel_left(&ends[side]);
}

static uint32_t
bell(int side)
{
    return atomic_load(&c->ways[side].bell);
}

/* Bytes in the socket of that end. */
static int
bytes_in(int side)
{
    int n;
    CHECK_EQ(ioctl(fds[side], FIONREAD, &n), 0);
    return n;
}

static int
readable(int side)
{
    return fmp_fd_wait_readable(fds[side], FMP_NOW) == 0;
}

/* What a message says about itself; its pattern lies behind it. */
struct label {
    uint32_t maker, number;
};

static fmp_parcel
parcel(uint64_t bytes, struct label l)
{
    fmp_parcel p;
    CHECK(bytes >= sizeof(l));
    CHECK_EQ(fmp_queue_prepare(a, bytes, FMP_REF_NONE, 0, &p), 0);
    memcpy(p.data, &l, sizeof(l));
    check_fill((char *)p.data + sizeof(l), bytes - sizeof(l), l.maker * 1000003 + l.number);
    return p;
}

static int
send_until(fmp_time until, int side, uint64_t bytes, struct label l)
{
    fmp_parcel p = parcel(bytes, l);
    fmp_waiter w = FMP_WAITER(until);
    int rc;
    while ((rc = fmp_channel_send(a, &ends[side], fds[side], &p, &w)) == FMP_INTR)
        ;
    if (rc != 0)
        fmp_queue_discard(a, &p);
    return rc;
}

static void
send(int side, uint64_t bytes, struct label l)
{
    CHECK_EQ(send_until(FMP_FOREVER, side, bytes, l), 0);
}

static int
receive_until(fmp_time until, int side, struct label *l)
{
    fmp_message m;
    fmp_waiter w = FMP_WAITER(until);
    int rc;
    while ((rc = fmp_channel_receive(a, &ends[side], fds[side], &m, &w)) == FMP_INTR)
        ;
    if (rc != 0)
        return rc;
    memcpy(l, m.data, sizeof(*l));
    CHECK(check_filled((const char *)m.data + sizeof(*l), m.bytes - sizeof(*l), l->maker * 1000003 + l->number));
    fmp_message_done(a, &m);
    return 0;
}

static uint32_t
receive(int side)
{
    struct label l;
    CHECK_EQ(receive_until(FMP_FOREVER, side, &l), 0);
    return l.number;
}

/* True if there is a message. */
static int
watch(int side)
{
    fmp_waiter w = FMP_WAITER(FMP_NOW);
    return fmp_channel_watch(a, &ends[side], fds[side], &w) == 0;
}

static int
listen_to(int side)
{
    fmp_waiter w = FMP_WAITER(FMP_NOW);
    return fmp_channel_listen(a, &ends[side], fds[side], &w) == 0;
}

static int
poll_now(int side)
{
    fmp_waiter w = FMP_WAITER(FMP_NOW);
    return fmp_channel_poll(a, &ends[side], fds[side], &w);
}

/* ---- messages --------------------------------------------------------------------------------------- */

static void
both_ways_in_order(void)
{
    static const uint64_t sizes[] = {8, 9, 400, 5000, 100000, (uint64_t)5 << 20, 20};
    enum { N = sizeof(sizes) / sizeof(*sizes) };
    begin(1);
    for (int round = 0; round < 2; round++) {
        for (int side = 0; side < 2; side++) {
            for (uint32_t i = 0; i < N - 1; i++) {
                send(side, sizes[i], (struct label){1, i});
                CHECK_EQ(poll_now(!side), 0);
                CHECK_EQ(receive(!side), i);
            }
            CHECK_EQ(poll_now(!side), FMP_TIMEOUT);
        }
    }
    send(0, 8, (struct label){1, 1});
    send(0, 8, (struct label){1, 2});
    send(1, 8, (struct label){1, 3});
    CHECK_EQ(receive(1), 1);
    CHECK_EQ(receive(0), 3);
    CHECK_EQ(receive(1), 2);
    CHECK_EQ(check_blocks(), base);
}

static void
destroyed_with_what_is_in_it(void)
{
    begin(1);
    for (int side = 0; side < 2; side++) {
        send(side, 10, (struct label){1, 1});
        send(side, 10000, (struct label){1, 2});
    }
    fmp_object_drop(a, object);
    CHECK_EQ(check_blocks(), 0);
    CHECK_EQ(fmp_object_count(a), 0);
}

/* A slow reader doesn't eat the memory, and one message may be as large as it likes. */
static void
bounded(void)
{
    begin(1);
    struct label l = {1, 0};
    for (uint64_t bytes = 8; bytes <= (uint64_t)8 << 20; bytes *= 16) {
        uint64_t count = 0;
        while (send_until(FMP_NOW, 0, bytes, l) == 0)
            count++;
        CHECK(count >= 1 && (count - 1) * bytes < (uint64_t)4 << 20 && count <= 10000);
        while (receive_until(FMP_NOW, 1, &l) == 0)
            count--;
        CHECK_EQ(count, 0);
    }
    CHECK_EQ(check_blocks(), base);
}

/* ---- the bell ----------------------------------------------------------------------------------------- */

/* A new way rings, and nothing is written to its socket as long as nobody silences it. */
static void
what_rings_is_not_rung(void)
{
    begin(1);
    for (int side = 0; side < 2; side++) {
        CHECK_EQ(bell(side), FMP_BELL_RUNG);
        for (uint32_t i = 0; i < 100; i++)
            send(!side, 8, (struct label){1, i});
        for (uint32_t i = 0; i < 100; i++)
            CHECK_EQ(receive(side), i);
        CHECK_EQ(bell(side), FMP_BELL_RUNG);
        CHECK_EQ(bytes_in(side), 1);
    }
}

static void
one_way_rings_one_end(void)
{
    begin(0);
    CHECK_EQ(bytes_in(0), 1);
    CHECK_EQ(bell(0), FMP_BELL_RUNG);
    send(1, 8, (struct label){1, 7});
    CHECK_EQ(receive(0), 7);
    CHECK_EQ(watch(1), 0);
    hang_up(1);
    struct label l;
    CHECK_EQ(receive_until(FMP_FOREVER, 0, &l), FMP_EOF);
}

/* C3, with messages sent before, while and after somebody listens. */
static void
who_listens_sees_messages(void)
{
    for (uint32_t before = 0; before < 3; before++) {
        begin(1);
        for (uint32_t i = 0; i < before; i++)
            send(0, 8, (struct label){1, i});
        CHECK_EQ(listen_to(1), before > 0);
        for (uint32_t i = 0; i < before; i++) {
            CHECK(readable(1));
            CHECK_EQ(receive(1), i);
        }
        for (int round = 0; round < 3; round++) {
            CHECK(!readable(1));
            CHECK_EQ(poll_now(1), FMP_TIMEOUT);
            send(0, 8, (struct label){1, 10});
            CHECK(readable(1));
            send(0, 9000, (struct label){1, 11});
            CHECK_EQ(bytes_in(1), 1);
            CHECK_EQ(receive(1), 10);
            CHECK(readable(1));
            CHECK_EQ(receive(1), 11);
        }
        CHECK(!readable(1));
        CHECK_EQ(bell(0), FMP_BELL_RUNG); /* the other direction is another matter */
        hang_up(0);
        CHECK(readable(1));
    }
}

static void
a_watch_is_for_one_look(void)
{
    begin(1);
    CHECK_EQ(watch(1), 0);
    CHECK(!readable(1));
    send(0, 8, (struct label){1, 1});
    CHECK(readable(1));
    CHECK_EQ(watch(1), 1);
    CHECK_EQ(receive(1), 1);
    CHECK_EQ(bell(1), FMP_BELL_RUNG); /* in vain, but nobody looks */
    CHECK_EQ(watch(1), 0);
    CHECK(!readable(1));
}

/* C1: a killed ringer or silencer left the lock, UNSURE, and a byte or none. */
static void
an_unsure_bell_is_put_right(void)
{
    for (int byte = 0; byte < 2; byte++) {
        for (int message = 0; message < 2; message++) {
            begin(1);
            fmp_way *way = &c->ways[1];
            CHECK_EQ(listen_to(1), 0);
            if (message)
                send(0, 8, (struct label){1, 1});
            fmp_fd_silence(fds[1]);
            if (byte)
                CHECK_EQ(fmp_fd_ring(fds[0]), 0);
            atomic_store(&way->bell, FMP_BELL_UNSURE);
            atomic_store(&way->queue.tail_lock.owner, check_dead());
            if (message) {
                send(0, 8, (struct label){1, 2});
                CHECK(readable(1));
                CHECK_EQ(receive(1), 1);
                CHECK(readable(1));
                CHECK_EQ(receive(1), 2);
            } else
                CHECK_EQ(watch(1), 0);
            CHECK_EQ(bell(1), FMP_BELL_SILENT);
            CHECK(!readable(1));
            CHECK_EQ(way->queue.tail_lock.owner, 0);
        }
    }
}

static void
a_sweep_frees_the_locks(void)
{
    begin(1);
    atomic_store(&c->ways[0].queue.head_lock.owner, check_dead());
    atomic_store(&c->ways[1].queue.tail_lock.owner, check_dead());
    fmp_object_sweep(a);
    CHECK_EQ(c->ways[0].queue.head_lock.owner, 0);
    CHECK_EQ(c->ways[1].queue.tail_lock.owner, 0);
}

/* C6: one who dozed, and is gone, doesn't keep the byte from coming first. */
static void
who_looks_ends_the_doze(void)
{
    for (int listens = 0; listens < 2; listens++) {
        begin(1);
        CHECK(!watch(1));
        c->ways[1].dozing = 1;
        CHECK(!(listens ? listen_to : watch)(1));
        CHECK(c->ways[1].listened || !c->ways[1].dozing);
        send(0, 8, (struct label){1, 1});
        CHECK_EQ(bell(1), FMP_BELL_RUNG);
        CHECK_EQ(receive(1), 1);
        CHECK_EQ(bell(1), listens ? FMP_BELL_SILENT : FMP_BELL_RUNG);
    }
}

/* ---- who shares an end is stopped in the middle ---------------------------------------------------------- */

static void
be_stopped_with_the_lock(void *lock)
{
    CHECK_EQ(fmp_mutex_enter(a, lock), 0);
    raise(SIGSTOP);
    fmp_mutex_unlock(lock);
}

static int
send_hastily(void)
{
    fmp_parcel p = parcel(8, (struct label){1, 9});
    fmp_waiter w = FMP_WAITER(FMP_NOW);
    w.hasty = 1;
    int rc = fmp_channel_send(a, &ends[0], fds[0], &p, &w);
    fmp_queue_discard(a, &p);
    return rc;
}

/* The outcome of a wait that would never end, at the end of its first slice. */
static int
receive_once(fmp_time until, int hasty)
{
    fmp_message m;
    fmp_waiter w = FMP_WAITER(until);
    w.hasty = hasty;
    return fmp_channel_receive(a, &ends[1], fds[1], &m, &w);
}

static void
who_is_stopped_keeps_nobody_beyond_a_deadline(void)
{
    for (int tail = 0; tail < 2; tail++) {
        int status;
        struct label l;
        begin(1);
        CHECK(!listen_to(1));
        send(0, 8, (struct label){1, 1});
        fmp_queue *q = &c->ways[1].queue;
        pid_t pid = check_fork(be_stopped_with_the_lock, tail ? &q->tail_lock : &q->head_lock, NULL);
        CHECK_EQ(waitpid(pid, &status, WUNTRACED), pid);
        CHECK(WIFSTOPPED(status));
        fmp_time soon = fmp_time_after(FMP_MILLISECOND);
        if (tail) {
            CHECK_EQ(send_hastily(), FMP_BUSY);
            CHECK_EQ(send_until(FMP_NOW, 0, 8, (struct label){1, 2}), FMP_TIMEOUT);
            CHECK_EQ(send_until(soon, 0, 8, (struct label){1, 2}), FMP_TIMEOUT);
            CHECK_EQ(receive(1), 1); /* which needs the other lock, and can't silence the bell afterwards */
            CHECK(readable(1));
            fmp_waiter hasty = FMP_WAITER(FMP_NOW), now = hasty, later = FMP_WAITER(soon);
            hasty.hasty = 1;
            CHECK_EQ(fmp_channel_poll(a, &ends[1], fds[1], &hasty), FMP_BUSY);
            CHECK_EQ(fmp_channel_poll(a, &ends[1], fds[1], &now), FMP_TIMEOUT);
            CHECK_EQ(fmp_channel_poll(a, &ends[1], fds[1], &later), FMP_TIMEOUT);
            CHECK(!watch(1));
        } else {
            CHECK_EQ(receive_once(FMP_NOW, 1), FMP_BUSY);
            CHECK_EQ(receive_once(FMP_NOW, 0), FMP_TIMEOUT);
            CHECK_EQ(receive_once(soon, 0), FMP_TIMEOUT);
            CHECK_EQ(poll_now(1), 0);
        }
        CHECK_EQ(receive_once(FMP_FOREVER, 0), FMP_INTR);
        kill(pid, SIGCONT);
        check_join(pid);
        if (tail)
            send(0, 8, (struct label){1, 1});
        CHECK_EQ(receive(1), 1);
        CHECK_EQ(receive_until(FMP_NOW, 1, &l), FMP_TIMEOUT);
        CHECK(!readable(1));
    }
}

static void
receive_the_seventh(void *arg)
{
    (void)arg;
    CHECK_EQ(receive(1), 7);
}

static void
poll_for_ever(void *arg)
{
    (void)arg;
    fmp_waiter w = FMP_WAITER(FMP_FOREVER);
    int rc;
    while ((rc = fmp_channel_poll(a, &ends[1], fds[1], &w)) == FMP_INTR)
        ;
    CHECK_EQ(rc, 0);
}

static void
a_sleeper_is_rung(void)
{
    begin(1);
    for (int round = 0; round < 20; round++) {
        pthread_t receiver = check_thread(receive_the_seventh, NULL);
        UNTIL(bell(1) == FMP_BELL_SILENT);
        send(0, 8, (struct label){1, 7});
        check_finish(receiver);
        pthread_t poller = check_thread(poll_for_ever, NULL);
        UNTIL(bell(1) == FMP_BELL_SILENT);
        if (round % 2) {
            hang_up(0);
            check_finish(poller);
            begin(1);
        } else {
            send(0, 8, (struct label){1, 8});
            check_finish(poller);
            CHECK_EQ(receive(1), 8);
        }
    }
}

/* C4 */
static void
other_bytes_stay(void)
{
    begin(1);
    struct label l;
    char byte;
    CHECK_EQ(write(fds[0], "x", 1), 1); /* behind the first ring */
    CHECK_EQ(receive_until(FMP_FOREVER, 1, &l), -EBADMSG);
    CHECK_EQ(poll_now(1), FMP_TIMEOUT); /* that is a look at the memory */
    fmp_waiter w = FMP_WAITER(FMP_FOREVER);
    CHECK_EQ(fmp_channel_poll(a, &ends[1], fds[1], &w), 0);
    CHECK_EQ(read(fds[1], &byte, 1), 1);
    CHECK_EQ(byte, 'x');
    send(0, 8, (struct label){1, 1});
    CHECK_EQ(write(fds[0], "y", 1), 1);
    CHECK_EQ(fmp_channel_interpose(a, &ends[0], &w), 0);
    send(0, 8, (struct label){1, 2});
    CHECK_EQ(bytes_in(1), 3);
    CHECK_EQ(receive(1), 1);
    CHECK_EQ(fmp_channel_uncover(a, &ends[1], fds[1], &w), 0);
    CHECK_EQ(read(fds[1], &byte, 1), 1);
    CHECK_EQ(byte, 'y');
    CHECK_EQ(listen_to(1), 1);
    CHECK(readable(1));
    CHECK_EQ(receive(1), 2);
    CHECK(!readable(1));
}

/* ---- the end ---------------------------------------------------------------------------------------------- */

static void
the_end_comes_last(void)
{
    begin(1);
    struct label l;
    for (uint32_t i = 0; i < 3; i++)
        send(0, i == 1 ? 10000 : 8, (struct label){1, i});
    hang_up(0);
    for (uint32_t i = 0; i < 3; i++) {
        CHECK_EQ(poll_now(1), 0);
        CHECK_EQ(receive(1), i);
    }
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(poll_now(1), 0);
        CHECK_EQ(receive_until(FMP_FOREVER, 1, &l), FMP_EOF);
    }
    CHECK_EQ(send_until(FMP_FOREVER, 1, 8, (struct label){1, 1}), -EPIPE);
    CHECK_EQ(check_blocks(), base);
}

static void
a_closed_end_is_known_at_once(void)
{
    for (int i = 0; i < 200; i++) {
        begin(1);
        send(1, 8, (struct label){1, 1}); /* the answer is fresh */
        hang_up(0);
        CHECK_EQ(send_until(FMP_FOREVER, 1, 8, (struct label){1, 1}), -EPIPE);
    }
}

static void
answer_one(void *arg)
{
    (void)arg;
    close(fds[0]);
    send(1, 8, (struct label){1, receive(1)});
    for (;;)
        pause();
}

static void
a_killed_end_is_known_at_once(void)
{
    for (int i = 0; i < 50; i++) {
        uint32_t id;
        begin(1);
        pid_t pid = check_fork(answer_one, NULL, &id);
        close(fds[1]);
        fds[1] = -1;
        send(0, 8, (struct label){1, 5});
        CHECK_EQ(receive(0), 5);
        send(0, 8, (struct label){1, 5}); /* to nobody */
        check_slay(pid, id);
        CHECK_EQ(send_until(FMP_FOREVER, 0, 8, (struct label){1, 1}), -EPIPE);
        struct label l;
        CHECK_EQ(receive_until(FMP_FOREVER, 0, &l), FMP_EOF);
    }
}

static void
send_until_refused(void *arg)
{
    int rc;
    while ((rc = send_until(FMP_FOREVER, 0, 50000, (struct label){1, 1})) == 0)
        ;
    CHECK_EQ(rc, *(int *)arg);
}

static void
closing_wakes_a_sender(void)
{
    int broken = -EPIPE;
    for (int i = 0; i < 20; i++) {
        begin(1);
        fake_futex.unsliced = 1;
        pthread_t sender = check_thread(send_until_refused, &broken);
        UNTIL(ASLEEP(&c->ways[1].queue.space));
        hang_up(1);
        check_finish(sender);
        fake_futex.unsliced = 0;
    }
}

static void
sleep_for_ever(void *arg)
{
    (void)arg;
    for (;;)
        pause();
}

static void
a_sender_learns_of_a_kill(void)
{
    int broken = -EPIPE;
    uint32_t id;
    begin(1);
    pid_t pid = check_fork(sleep_for_ever, NULL, &id), sender;
    close(fds[1]);
    fds[1] = -1;
    sender = check_fork(send_until_refused, &broken, NULL);
    UNTIL(ASLEEP(&c->ways[1].queue.space));
    check_slay(pid, id);
    check_join(sender);
}

/* C5: the last message was under way when its sender was killed; it comes before the end. */
static void
a_half_sent_message_comes_before_the_end(void)
{
    begin(1);
    fmp_queue *q = &c->ways[1].queue;
    fmp_parcel p = parcel(100, (struct label){1, 9});
    q->adding = q->adding_last = p.node;
    atomic_store(&q->tail_lock.owner, check_dead());
    hang_up(0);
    CHECK_EQ(receive(1), 9);
    struct label l;
    CHECK_EQ(receive_until(FMP_FOREVER, 1, &l), FMP_EOF);
}

static void
no_descriptor(void)
{
    begin(1);
    struct label l;
    close(fds[1]);
    CHECK_EQ(receive_until(FMP_FOREVER, 1, &l), -EBADF);
    CHECK_EQ(send_until(FMP_FOREVER, 1, 8, (struct label){1, 1}), -EBADF);
    fds[1] = -1;
}

static void
a_copy_of_the_descriptor_says_what_it_is(void)
{
    uint64_t arena;
    fmp_ticket ticket, found;
    uint32_t side;
    begin(1);
    ticket = fmp_object_ticket(object);
    CHECK_EQ(fmp_channel_read_label(fds[1], &arena, &found, &side), FMP_EMPTY);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(fmp_channel_label(a, &ends[1], fds[1], ticket), 0);
    CHECK_EQ(fmp_channel_read_label(fds[0], &arena, &found, &side), FMP_EMPTY);
    int copy = dup(fds[1]);
    CHECK_EQ(fmp_channel_read_label(copy, &arena, &found, &side), 0);
    CHECK(arena == fmp_arena_name(a) && side == 1);
    CHECK(found.index == ticket.index && found.serial == ticket.serial);
    close(copy);
    CHECK_EQ(fmp_channel_read_label(-1, &arena, &found, &side), FMP_EMPTY);
    int pipes[2];
    CHECK_EQ(pipe(pipes), 0);
    CHECK_EQ(fmp_channel_read_label(pipes[0], &arena, &found, &side), FMP_EMPTY);
    close(pipes[0]);
    close(pipes[1]);
}

/* ---- many ---------------------------------------------------------------------------------------------------- */

enum { MAKERS = 4, TAKERS = 3, EACH = 3000 };

struct tally {
    _Atomic uint32_t taken[MAKERS];
};

static struct tally *tally;

static uint64_t
size_of(uint32_t number)
{
    return 8 + (number % 50 == 0 ? number % 9000 : number % 600);
}

static void
make(void *arg)
{
    for (uint32_t i = 0; i < EACH; i++)
        send(0, size_of(i), (struct label){(uint32_t)(uintptr_t)arg, i});
}

/* Everything until the end, in order for each maker. */
static void
take(void *arg)
{
    (void)arg;
    struct label l;
    int64_t last[MAKERS] = {-1, -1, -1, -1};
    int rc;
    while ((rc = receive_until(FMP_FOREVER, 1, &l)) == 0) {
        CHECK(l.maker < MAKERS && (int64_t)l.number > last[l.maker]);
        last[l.maker] = l.number;
        atomic_fetch_add(&tally->taken[l.maker], 1);
    }
    CHECK_EQ(rc, FMP_EOF);
}

/* The same, for who sleeps in poll() alone. */
static void
listen_and_take(void *arg)
{
    listen_to(1);
    struct label l;
    struct pollfd p;
    do {
        p = (struct pollfd){.fd = fds[1], .events = POLLIN};
        CHECK(poll(&p, 1, -1) == 1 || errno == EINTR);
        while (receive_until(FMP_NOW, 1, &l) == 0)
            atomic_fetch_add(&tally->taken[l.maker], 1);
    } while (!(p.revents & POLLHUP));
    take(arg);
}

static void
check_tally(void)
{
    for (int i = 0; i < MAKERS; i++)
        CHECK_EQ(tally->taken[i], EACH);
    CHECK_EQ(check_blocks(), base);
}

static void
threads(void (*taker)(void *), int takers)
{
    begin(1);
    tally = check_shared(sizeof(*tally));
    pthread_t taking[TAKERS], making[MAKERS];
    check_threads(taking, takers, taker, NULL, 0);
    check_threads(making, MAKERS, make, NULL, 1);
    check_finish_all(making, MAKERS);
    hang_up(0);
    check_finish_all(taking, takers);
    check_tally();
}

static void
threads_share_ends(void)
{
    threads(take, TAKERS);
}

static void
a_thread_listens(void)
{
    threads(listen_and_take, 1);
}

static void
processes(void (*taker)(void *), int takers)
{
    begin(1);
    tally = check_shared(sizeof(*tally));
    pid_t taking[TAKERS], making[MAKERS];
    check_forks(making, MAKERS, make, NULL, 1);
    close(fds[0]);
    fds[0] = -1;
    check_forks(taking, takers, taker, NULL, 0);
    check_join_all(making, MAKERS);
    check_join_all(taking, takers);
    check_tally();
}

static void
processes_share_ends(void)
{
    processes(take, TAKERS);
}

static void
a_process_listens(void)
{
    processes(listen_and_take, 1);
}

/* ---- killed at any moment --------------------------------------------------------------------------------- */

struct progress {
    _Atomic uint32_t done;
};

static void
send_for_ever(void *arg)
{
    struct progress *s = arg;
    close(fds[1]);
    for (uint32_t i = 0;; i++) {
        send(0, size_of(i), (struct label){0, i});
        fmp_store(&s->done, i + 1);
    }
}

/* The receiver gets all that was sent, in order, and then the end; whether it sleeps in receive or in poll(). */
static void
senders_are_killed(void)
{
    struct progress *s = check_shared(sizeof(*s));
    uint32_t random = 31;
    for (int round = 0; round < 100; round++) {
        begin(1);
        fmp_store(&s->done, 0);
        uint32_t id, next = 0;
        pid_t pid = check_fork_doomed(send_for_ever, s, &id, &random, 400000);
        close(fds[0]);
        fds[0] = -1;
        if (round % 2)
            listen_to(1);
        struct label l;
        int rc;
        do {
            struct pollfd p = {.fd = fds[1], .events = POLLIN};
            if (round % 2)
                CHECK_EQ(poll(&p, 1, -1), 1);
            rc = receive_until(FMP_FOREVER, 1, &l);
            if (rc == 0)
                CHECK_EQ(l.number, next++);
        } while (rc == 0);
        CHECK_EQ(rc, FMP_EOF);
        check_reap(pid, id);
        uint32_t sent = fmp_load(&s->done);
        CHECK(next == sent || next == sent + 1);
        fmp_object_sweep(a);
        CHECK_EQ(check_blocks(), base);
    }
}

static void
receive_for_ever(void *arg)
{
    struct progress *s = arg;
    close(fds[0]);
    for (uint32_t i = 0;; i++) {
        CHECK_EQ(receive(1), i);
        fmp_store(&s->done, i + 1);
    }
}

/* Each leaves the end to the next one, who misses one message at most, whatever he died of. */
static void
receivers_are_killed(void)
{
    struct progress *s = check_shared(sizeof(*s));
    uint32_t random = 37;
    for (int round = 0; round < 100; round++) {
        enum { N = 300 };
        begin(1);
        fmp_store(&s->done, 0);
        uint32_t id, sent = 0;
        pid_t pid = check_fork_doomed(receive_for_ever, s, &id, &random, 400000);
        while (sent < N || !check_reaped(pid, id)) /* it may be full when he dies */
            sent += send_until(FMP_NOW, 0, size_of(sent), (struct label){0, sent}) == 0;
        if (round % 2)
            fmp_object_sweep(a);
        sent += send_until(FMP_NOW, 0, 8, (struct label){0, sent}) == 0; /* one is left at least */
        uint32_t taken = fmp_load(&s->done), first = receive(1);
        CHECK(first == taken || first == taken + 1);
        while (++first < sent)
            CHECK_EQ(receive(1), first);
        fmp_object_sweep(a);
        CHECK_EQ(poll_now(1), FMP_TIMEOUT);
        CHECK_EQ(check_blocks(), base);
        CHECK_EQ(listen_to(1), 0);
        CHECK(!readable(1));
        send(0, 8, (struct label){0, 0});
        CHECK(readable(1));
    }
}

/* Several of either kind, until all are killed: nobody is stuck for good, nothing is torn. */
static void
a_crowd_is_decimated(void)
{
    enum { CROWD = 4, ROUNDS = 30 };
    begin(1);
    uint32_t random = 41;
    tally = check_shared(sizeof(*tally));
    for (int round = 0; round < ROUNDS; round++) {
        pid_t pids[CROWD];
        uint32_t ids[CROWD];
        for (uintptr_t i = 0; i < CROWD; i++)
            pids[i] = check_fork_doomed(i % 2 ? take : make, (void *)i, &ids[i], &random, 3000000);
        for (int i = 0; i < CROWD; i++)
            check_reap(pids[i], ids[i]);
        if (round % 2)
            fmp_object_sweep(a);
        struct label l = {0, 0};
        while (receive_until(FMP_NOW, 1, &l) == 0)
            ;
        send(0, 8, (struct label){9, 0});
        while (l.maker != 9) /* what a killed sender had begun to send may come before it */
            CHECK_EQ(receive_until(FMP_FOREVER, 1, &l), 0);
        fmp_object_sweep(a);
        CHECK_EQ(check_blocks(), base);
    }
}

CHECK_MAIN(TEST(both_ways_in_order), TEST(destroyed_with_what_is_in_it), TEST(bounded), TEST(what_rings_is_not_rung),
           TEST(one_way_rings_one_end), TEST(who_listens_sees_messages), TEST(a_watch_is_for_one_look),
           TEST(an_unsure_bell_is_put_right), TEST(a_sweep_frees_the_locks), TEST(who_looks_ends_the_doze),
           TEST(who_is_stopped_keeps_nobody_beyond_a_deadline), TEST(a_sleeper_is_rung),
           TEST(other_bytes_stay), TEST(the_end_comes_last), TEST(a_closed_end_is_known_at_once),
           TEST(a_killed_end_is_known_at_once), TEST(closing_wakes_a_sender), TEST(a_sender_learns_of_a_kill),
           TEST(a_half_sent_message_comes_before_the_end), TEST(no_descriptor),
           TEST(a_copy_of_the_descriptor_says_what_it_is), TEST(threads_share_ends), TEST(a_thread_listens),
           TEST(processes_share_ends), TEST(a_process_listens), TEST(senders_are_killed), TEST(receivers_are_killed),
           TEST(a_crowd_is_decimated))
