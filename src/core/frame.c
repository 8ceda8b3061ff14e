#include "core/frame.h"

#include <errno.h>
#include <string.h>

#define SHORT_HEADER 4
#define SHORT_MOST 0x7fffffffu      /* the longest body that a short header can tell */
#define ESCAPE UINT32_C(0xffffffff) /* -1: the length follows in 8 bytes */
#define SYSTEM_LOOKS 3              /* system calls, that take about 1 us */

static uint64_t
get_number(const unsigned char *from, int bytes)
{
    uint64_t n = 0;
    for (int i = 0; i < bytes; i++)
        n = n << 8 | from[i];
    return n;
}

static void
put_number(unsigned char *to, int bytes, uint64_t n)
{
    for (int i = bytes; i-- > 0; n >>= 8)
        to[i] = (unsigned char)n;
}

/* ---- waiting ------------------------------------------------------------------------------------- */

/* One slice of sleep: 0 if the descriptor is ready. */
static int
sleep_on(int fd, int (*wait)(int, fmp_time), fmp_waiter *w)
{
    fmp_time end = fmp_ec_slice(w);
    int rc = wait(fd, end);
    return rc == FMP_TIMEOUT && end < w->until ? FMP_INTR : rc; /* F3 */
}

/* Wait until ready(arg), or until the descriptor is readable and it is worth asking again: 0. */
static int
await(fmp_arena *a, int fd, fmp_ready_fn ready, void *arg, fmp_waiter *w)
{
    int spin = !w->spun && w->until != FMP_NOW;
    if (spin ? fmp_ec_spin(a, ready, arg, SYSTEM_LOOKS, w->until) : ready(arg)) /* F2 */
        return 0;
    if (w->until == FMP_NOW)
        return FMP_TIMEOUT;
    w->spun = 1;
    return sleep_on(fd, fmp_fd_wait_readable, w);
}

struct look {
    int fd;
    int rc;
};

static int
looked(void *arg)
{
    struct look *l = arg;
    l->rc = fmp_fd_wait_readable(l->fd, FMP_NOW);
    return l->rc != FMP_TIMEOUT;
}

int
fmp_frame_poll(fmp_arena *a, int fd, fmp_waiter *w)
{
    struct look l = {.fd = fd};
    int rc = await(a, fd, looked, &l, w);
    return l.rc == FMP_TIMEOUT ? rc : l.rc;
}

/* ---- reading ------------------------------------------------------------------------------------- */

struct piece {
    int fd;
    char *to;
    size_t bytes;
    ssize_t n; /* of the last read */
};

static int
arrived(void *arg)
{
    struct piece *p = arg;
    p->n = fmp_fd_read(p->fd, p->to, p->bytes);
    return p->n != FMP_FD_AGAIN;
}

/* Read until *got of the bytes are there. */
static int
fill(fmp_arena *a, int fd, void *to, size_t bytes, size_t *got, fmp_waiter *w)
{
    while (*got < bytes) {
        struct piece p = {.fd = fd, .to = (char *)to + *got, .bytes = bytes - *got};
        int rc = await(a, fd, arrived, &p, w);
        if (rc != 0)
            return rc;
        if (p.n == FMP_FD_AGAIN)
            continue;
        if (p.n == 0 || p.n == -ECONNRESET) /* a peer killed with something left to read is gone, no more */
            return FMP_EOF;
        if (p.n < 0)
            return p.n == -EINTR ? FMP_INTR : (int)p.n;
        *got += (size_t)p.n;
        w->spun = 0; /* more is on its way */
    }
    return 0;
}

int
fmp_frame_read_header(fmp_arena *a, int fd, fmp_frame_in *in, size_t most, fmp_waiter *w)
{
    int rc = fill(a, fd, in->header, SHORT_HEADER, &in->header_got, w);
    uint64_t length = get_number(in->header, SHORT_HEADER);
    int escaped = length == ESCAPE;
    if (rc == 0 && escaped)
        rc = fill(a, fd, in->header, FMP_FRAME_HEADER_MOST, &in->header_got, w);
    if (rc == FMP_EOF && in->header_got > 0)
        return FMP_CUT;
    if (rc != 0)
        return rc;
    if (escaped)
        length = get_number(in->header + SHORT_HEADER, FMP_FRAME_HEADER_MOST - SHORT_HEADER);
    else if (length > SHORT_MOST)
        return FMP_TOO_LONG; /* a negative length */
    if (length > most)
        return FMP_TOO_LONG;
    in->body_bytes = (size_t)length;
    return 0;
}

int
fmp_frame_read_body(fmp_arena *a, int fd, fmp_frame_in *in, void *body, fmp_waiter *w)
{
    int rc = fill(a, fd, body, in->body_bytes, &in->body_got, w);
    return rc == FMP_EOF ? FMP_CUT : rc;
}

/* ---- writing ------------------------------------------------------------------------------------- */

void
fmp_frame_out_init(fmp_frame_out *out, const void *body, size_t bytes)
{
    *out = (fmp_frame_out){.body = body, .body_bytes = bytes, .header_bytes = SHORT_HEADER};
    if (bytes <= SHORT_MOST) {
        put_number(out->header, SHORT_HEADER, bytes);
        return;
    }
    out->header_bytes = FMP_FRAME_HEADER_MOST;
    put_number(out->header, SHORT_HEADER, ESCAPE);
    put_number(out->header + SHORT_HEADER, FMP_FRAME_HEADER_MOST - SHORT_HEADER, bytes);
}

static ssize_t
write_some(int fd, const fmp_frame_out *out)
{
    size_t head = out->done < out->header_bytes ? out->header_bytes - out->done : 0;
    size_t gone = head > 0 ? 0 : out->done - out->header_bytes; /* of the body */
    return fmp_fd_write(fd, out->header + out->header_bytes - head, head, out->body + gone,
                        out->body_bytes - gone);
}

int
fmp_frame_write(int fd, fmp_frame_out *out, fmp_waiter *w)
{
    for (;;) {
        ssize_t n = write_some(fd, out);
        if (n == -EINTR)
            return FMP_INTR;
        if (n < 0 && n != FMP_FD_AGAIN)
            return (int)n;
        if (n > 0)
            out->done += (size_t)n;
        if (out->done == out->header_bytes + out->body_bytes)
            return 0;
        int rc = sleep_on(fd, fmp_fd_wait_writable, w); /* a short write means that there is no room */
        if (rc != 0)
            return rc;
    }
}
