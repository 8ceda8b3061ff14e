/* fuzz_frame.c: any bytes are frames, or refused (core/frame.h).
 *
 * They come in pieces through a socket, and the reader is asked after each, without waiting. What it gives must be
 * what a reader of the whole finds: the same bodies, the same outcome at the same place, and nothing read beyond.
 *
 *   input   byte: how they are cut into pieces; 2 bytes: the longest body allowed; the stream */
#include "fuzz.h"

#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/frame.h"

#define STREAM_MOST 4096

static fmp_arena *const no_arena; /* only who spins looks into it */

struct stream {
    int ends[2]; /* [1] is written, [0] read */
    const uint8_t *data;
    size_t bytes;
    size_t written;
    size_t piece;
    size_t most;
};

static uint64_t
number(const uint8_t *from, size_t bytes)
{
    uint64_t n = 0;
    for (size_t i = 0; i < bytes; i++)
        n = n << 8 | from[i];
    return n;
}

/* What a reader of the whole finds at `*at`: 0 and the body, FMP_EOF, FMP_CUT or FMP_TOO_LONG. */
static int
expected(const struct stream *s, size_t *at, const uint8_t **body, size_t *length)
{
    size_t left = s->bytes - *at, header = 4;
    const uint8_t *from = s->data + *at;
    if (left == 0)
        return FMP_EOF;
    if (left < 4)
        return FMP_CUT;
    uint64_t n = number(from, 4);
    if (n == UINT32_MAX) {
        header = 12;
        if (left < header)
            return FMP_CUT;
        n = number(from + 4, 8);
    }
    else if (n > INT32_MAX)
        return FMP_TOO_LONG;
    if (n > s->most)
        return FMP_TOO_LONG;
    if (n > left - header)
        return FMP_CUT;
    *body = from + header;
    *length = (size_t)n;
    *at += header + (size_t)n;
    return 0;
}

/* Write the next piece, or the end: false if that was written already. */
static int
feed(struct stream *s)
{
    if (s->written > s->bytes)
        return 0;
    size_t n = s->bytes - s->written < s->piece ? s->bytes - s->written : s->piece;
    if (n == 0) {
        REQUIRE(shutdown(s->ends[1], SHUT_WR) == 0);
        s->written = s->bytes + 1;
        return 1;
    }
    REQUIRE(write(s->ends[1], s->data + s->written, n) == (ssize_t)n);
    s->written += n;
    return 1;
}

static int
read_part(struct stream *s, fmp_frame_in *in, uint8_t *body)
{
    for (;;) {
        fmp_waiter w = FMP_WAITER(FMP_NOW);
        int rc = body == NULL ? fmp_frame_read_header(no_arena, s->ends[0], in, s->most, &w)
                              : fmp_frame_read_body(no_arena, s->ends[0], in, body, &w);
        if (rc != FMP_TIMEOUT)
            return rc;
        REQUIRE(feed(s)); /* it waits after the end */
    }
}

static int
read_frame(struct stream *s, uint8_t **body, size_t *length)
{
    fmp_frame_in in = {0};
    int rc = read_part(s, &in, NULL);
    if (rc != 0)
        return rc;
    REQUIRE(in.body_bytes <= s->most);
    *body = malloc(in.body_bytes + 1);
    REQUIRE(*body != NULL);
    *length = in.body_bytes;
    rc = in.body_bytes == 0 ? 0 : read_part(s, &in, *body);
    if (rc != 0)
        free(*body);
    return rc;
}

static void
check_position(const struct stream *s, size_t at)
{
    int waiting;
    size_t written = s->written < s->bytes ? s->written : s->bytes;
    REQUIRE(ioctl(s->ends[0], FIONREAD, &waiting) == 0);
    REQUIRE((size_t)waiting == written - at); /* F1 */
}

/* The shortest header for the body is what a writer makes. */
static void
check_header(const uint8_t *body, size_t length)
{
    fmp_frame_out out;
    fmp_frame_out_init(&out, body, length);
    REQUIRE(out.header_bytes == 4 && number(out.header, 4) == length);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    fuzz_input input = {data, bytes};
    struct stream s = {.piece = (size_t)fuzz_byte(&input) % 64 + 1};
    s.most = fuzz_byte(&input);
    s.most |= (size_t)fuzz_byte(&input) << 8;
    s.data = input.at;
    s.bytes = input.left < STREAM_MOST ? input.left : STREAM_MOST;
    REQUIRE(fmp_fd_pair(s.ends, 1) == 0);
    size_t at = 0;
    int want;
    do {
        const uint8_t *body = NULL;
        uint8_t *got = NULL;
        size_t length = 0, got_length = 0;
        want = expected(&s, &at, &body, &length);
        REQUIRE(read_frame(&s, &got, &got_length) == want);
        if (want == 0) {
            REQUIRE(got_length == length && memcmp(got, body, length) == 0);
            check_position(&s, at);
            check_header(got, length);
            free(got);
        }
    } while (want == 0);
    fmp_fd_close(s.ends[0]);
    fmp_fd_close(s.ends[1]);
    return 0;
}
