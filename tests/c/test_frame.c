#include "check.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "core/frame.h"

static fmp_arena *a;
static int ends[2]; /* [1] writes, [0] reads */

static void
begin(void)
{
    a = check_arena();
    CHECK_EQ(fmp_fd_pair(ends, 1), 0);
}

static void
begin_with_a_pipe(void)
{
    a = check_arena();
    CHECK_EQ(pipe(ends), 0);
}

static void
end(void)
{
    fmp_fd_close(ends[0]);
    fmp_fd_close(ends[1]);
}

static void
push(const void *bytes, size_t count)
{
    CHECK_EQ(write(ends[1], bytes, count), (ssize_t)count);
}

#define PUSH(text) push(text, sizeof(text) - 1)

static int
waiting(int fd)
{
    int bytes;
    CHECK_EQ(ioctl(fd, FIONREAD, &bytes), 0);
    return bytes;
}

static int
read_header(fmp_frame_in *in, size_t most, fmp_time until)
{
    return WAIT(until, fmp_frame_read_header(a, ends[0], in, most, &w));
}

static int
read_body(fmp_frame_in *in, void *body, fmp_time until)
{
    return WAIT(until, fmp_frame_read_body(a, ends[0], in, body, &w));
}

static int
write_frame(fmp_frame_out *out, fmp_time until)
{
    return WAIT(until, fmp_frame_write(ends[1], out, &w));
}

static void
send_frame(const void *body, size_t bytes)
{
    fmp_frame_out out;
    fmp_frame_out_init(&out, body, bytes);
    CHECK_EQ(write_frame(&out, FMP_FOREVER), 0);
}

static void
a_frame_is_a_length_and_its_bytes(void)
{
    begin();
    char got[16];
    send_frame("hello", 5);
    CHECK_EQ(read(ends[0], got, sizeof(got)), 9);
    CHECK(memcmp(got, "\0\0\0\5hello", 9) == 0);
    send_frame(NULL, 0);
    CHECK_EQ(read(ends[0], got, sizeof(got)), 4);
    CHECK(memcmp(got, "\0\0\0\0", 4) == 0);
    end();
}

static void
a_long_body_has_a_long_header(void)
{
    fmp_frame_out out;
    fmp_frame_out_init(&out, NULL, 0x7fffffff);
    CHECK_EQ(out.header_bytes, 4);
    CHECK(memcmp(out.header, "\x7f\xff\xff\xff", 4) == 0);
    fmp_frame_out_init(&out, NULL, (size_t)0x80000000);
    CHECK_EQ(out.header_bytes, 12);
    CHECK(memcmp(out.header, "\xff\xff\xff\xff\0\0\0\0\x80\0\0\0", 12) == 0);
}

static void
nothing_beyond_the_frame_is_read(void)
{
    begin();
    send_frame("one", 3);
    send_frame("three", 5);
    char body[8];
    fmp_frame_in in = {0};
    CHECK_EQ(read_header(&in, 8, FMP_NOW), 0);
    CHECK_EQ(in.body_bytes, 3);
    CHECK_EQ(waiting(ends[0]), 3 + 9);
    CHECK_EQ(read_body(&in, body, FMP_NOW), 0);
    CHECK(memcmp(body, "one", 3) == 0);
    CHECK_EQ(waiting(ends[0]), 9);
    in = (fmp_frame_in){0};
    CHECK_EQ(read_header(&in, 8, FMP_NOW), 0);
    CHECK_EQ(read_body(&in, body, FMP_NOW), 0);
    CHECK(memcmp(body, "three", 5) == 0);
    CHECK_EQ(waiting(ends[0]), 0);
    end();
}

/* A read that has to stop after each byte goes on where it stopped. */
static void
drip(const char *stream, size_t header, size_t bytes)
{
    char body[16];
    fmp_frame_in in = {0};
    for (size_t i = 0; i < header; i++) {
        CHECK_EQ(read_header(&in, 16, FMP_NOW), FMP_TIMEOUT);
        CHECK_EQ(in.header_got, i);
        push(stream + i, 1);
    }
    CHECK_EQ(read_header(&in, 16, FMP_NOW), 0);
    CHECK_EQ(in.body_bytes, bytes);
    for (size_t i = 0; i < bytes; i++) {
        CHECK_EQ(read_body(&in, body, FMP_NOW), FMP_TIMEOUT);
        CHECK_EQ(in.body_got, i);
        push(stream + header + i, 1);
    }
    CHECK_EQ(read_header(&in, 16, FMP_NOW), 0); /* again: it is known */
    CHECK_EQ(read_body(&in, body, FMP_NOW), 0);
    CHECK(memcmp(body, stream + header, bytes) == 0);
}

static void
a_read_may_stop_anywhere(void)
{
    begin();
    drip("\0\0\0\3abc", 4, 3);
    drip("\xff\xff\xff\xff\0\0\0\0\0\0\0\4abcd", 12, 4);
    end();
    begin_with_a_pipe();
    drip("\0\0\0\3abc", 4, 3);
    end();
}

static void
what_is_too_long_is_not_read(void)
{
    begin();
    fmp_frame_in in = {0};
    PUSH("\0\0\0\5hello");
    CHECK_EQ(read_header(&in, 4, FMP_NOW), FMP_TOO_LONG);
    CHECK_EQ(waiting(ends[0]), 5);
    CHECK_EQ(read_header(&in, 5, FMP_NOW), 0); /* with another limit it may fit */
    end();
    begin();
    in = (fmp_frame_in){0};
    PUSH("\xff\xff\xff\xfe"); /* a length of -2 */
    CHECK_EQ(read_header(&in, PTRDIFF_MAX, FMP_NOW), FMP_TOO_LONG);
    end();
    begin();
    in = (fmp_frame_in){0};
    PUSH("\xff\xff\xff\xff\x80\0\0\0\0\0\0\0");
    CHECK_EQ(read_header(&in, PTRDIFF_MAX, FMP_NOW), FMP_TOO_LONG);
    end();
}

static void
the_end_is_told_from_a_cut(void)
{
    char body[8];
    static const char frame[] = "\0\0\0\2ab";
    for (size_t sent = 0; sent < 6; sent++) {
        begin();
        push(frame, sent);
        fmp_fd_close(ends[1]);
        fmp_frame_in in = {0};
        int rc = read_header(&in, 8, FMP_FOREVER);
        CHECK_EQ(rc, sent == 0 ? FMP_EOF : sent < 4 ? FMP_CUT : 0);
        if (rc == 0)
            CHECK_EQ(read_body(&in, body, FMP_FOREVER), FMP_CUT);
        fmp_fd_close(ends[0]);
    }
}

static void
a_peer_gone_with_something_unread_is_the_end(void)
{
    begin();
    PUSH("x");
    fmp_fd_close(ends[0]);
    ends[0] = ends[1];
    fmp_frame_in in = {0};
    CHECK_EQ(read_header(&in, 8, FMP_FOREVER), FMP_EOF);
    fmp_frame_out out;
    fmp_frame_out_init(&out, "x", 1);
    CHECK_EQ(write_frame(&out, FMP_FOREVER), -EPIPE);
    fmp_fd_close(ends[0]);
}

static void
a_write_may_stop_anywhere(void)
{
    begin();
    size_t bytes = 4 << 20, got = 0;
    char *sent = malloc(bytes), *all = malloc(bytes);
    check_fill(sent, bytes, 7);
    fmp_frame_out out;
    fmp_frame_out_init(&out, sent, bytes);
    fmp_frame_in in = {0};
    int rc, stops = 0;
    while ((rc = write_frame(&out, FMP_NOW)) == FMP_TIMEOUT) { /* full: make room for some of it */
        stops++;
        CHECK_EQ(read_header(&in, bytes, FMP_NOW), 0);
        CHECK_EQ(read_body(&in, all, FMP_NOW), FMP_TIMEOUT);
        CHECK(in.body_got > got);
        got = in.body_got;
    }
    CHECK_EQ(rc, 0);
    CHECK(stops > 0);
    CHECK_EQ(read_body(&in, all, FMP_NOW), 0);
    CHECK(check_filled(all, bytes, 7));
    CHECK_EQ(waiting(ends[0]), 0);
    free(sent);
    free(all);
    end();
}

static void
a_deadline_passes(void)
{
    begin();
    fmp_frame_in in = {0};
    CHECK_EQ(read_header(&in, 8, fmp_clock() + FMP_MILLISECOND), FMP_TIMEOUT);
    PUSH("\0\0\0");
    CHECK_EQ(read_header(&in, 8, fmp_clock() + FMP_MILLISECOND), FMP_TIMEOUT);
    PUSH("\1x");
    CHECK_EQ(read_header(&in, 8, FMP_FOREVER), 0);
    CHECK_EQ(in.body_bytes, 1);
    end();
}

static int
poll_until(int fd, fmp_time until)
{
    return WAIT(until, fmp_frame_poll(a, fd, &w));
}

static void
a_poll_sees_bytes_and_the_end(void)
{
    begin();
    CHECK_EQ(poll_until(ends[0], FMP_NOW), FMP_TIMEOUT);
    CHECK_EQ(poll_until(ends[0], fmp_clock() + FMP_MILLISECOND), FMP_TIMEOUT);
    PUSH("x");
    CHECK_EQ(poll_until(ends[0], FMP_NOW), 0);
    CHECK_EQ(poll_until(ends[0], FMP_FOREVER), 0);
    fmp_fd_close(ends[0]);
    CHECK_EQ(poll_until(ends[1], FMP_FOREVER), 0);
    CHECK_EQ(poll_until(ends[0], FMP_FOREVER), -EBADF);
    fmp_fd_close(ends[1]);
}

static void
a_bad_descriptor_is_an_error(void)
{
    a = check_arena();
    ends[0] = ends[1] = -1;
    fmp_frame_in in = {0};
    CHECK_EQ(read_header(&in, 8, FMP_FOREVER), -EBADF);
    fmp_frame_out out;
    fmp_frame_out_init(&out, "x", 1);
    CHECK_EQ(write_frame(&out, FMP_FOREVER), -EBADF);
}

/* ---- under a hail of signals: everything arrives, whole and in order ---------------------------------- */

#define FRAMES 300
#define LONGEST (300 << 10) /* more than there is room for on the way */

static _Atomic int hits, busy;

static void
on_signal(int number)
{
    (void)number;
    atomic_fetch_add(&hits, 1);
}

static size_t
length_of(uint32_t *random)
{
    return check_random(random) % (check_random(random) % 4 == 0 ? LONGEST : 40);
}

static void
write_all(void *unused)
{
    (void)unused;
    uint32_t random = 5;
    char *body = malloc(LONGEST);
    for (uint32_t i = 0; i < FRAMES; i++) {
        size_t bytes = length_of(&random);
        check_fill(body, bytes, i);
        send_frame(body, bytes);
    }
    free(body);
    atomic_fetch_sub(&busy, 1);
}

static void
read_all(void *unused)
{
    (void)unused;
    uint32_t random = 5;
    char *body = malloc(LONGEST);
    for (uint32_t i = 0; i < FRAMES; i++) {
        fmp_frame_in in = {0};
        CHECK_EQ(read_header(&in, LONGEST, FMP_FOREVER), 0);
        CHECK_EQ(in.body_bytes, length_of(&random));
        CHECK_EQ(read_body(&in, body, FMP_FOREVER), 0);
        CHECK(check_filled(body, in.body_bytes, i));
    }
    free(body);
    atomic_fetch_sub(&busy, 1);
}

static void
hail(void)
{
    struct sigaction action = {.sa_handler = on_signal}, before;
    CHECK_EQ(sigaction(SIGUSR1, &action, &before), 0);
    atomic_store(&hits, 0);
    atomic_store(&busy, 2);
    pthread_t threads[2] = {check_thread(write_all, NULL), check_thread(read_all, NULL)};
    uint32_t random = 1;
    for (int turn = 0; atomic_load(&busy) > 0; turn = !turn) {
        int rc = pthread_kill(threads[turn], SIGUSR1);
        CHECK(rc == 0 || rc == ESRCH); /* it has ended, and is joined below */
        check_dawdle(&random, 100000);
    }
    check_finish(threads[0]);
    check_finish(threads[1]);
    CHECK(atomic_load(&hits) > 0);
    CHECK_EQ(waiting(ends[0]), 0);
    CHECK_EQ(sigaction(SIGUSR1, &before, NULL), 0);
}

static void
signals_lose_nothing(void)
{
    begin();
    hail();
    end();
}

static void
signals_lose_nothing_in_a_pipe(void)
{
    begin_with_a_pipe();
    hail();
    end();
}

CHECK_MAIN(TEST(a_frame_is_a_length_and_its_bytes), TEST(a_long_body_has_a_long_header),
           TEST(nothing_beyond_the_frame_is_read), TEST(a_read_may_stop_anywhere),
           TEST(what_is_too_long_is_not_read), TEST(the_end_is_told_from_a_cut),
           TEST(a_peer_gone_with_something_unread_is_the_end), TEST(a_write_may_stop_anywhere),
           TEST(a_deadline_passes), TEST(a_poll_sees_bytes_and_the_end), TEST(a_bad_descriptor_is_an_error),
           TEST(signals_lose_nothing), TEST(signals_lose_nothing_in_a_pipe))
