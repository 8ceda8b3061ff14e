/* frame.h: messages through a descriptor, each in a frame: its length, then its bytes.
 *
 *   up to 0x7fffffff bytes   int32 length, big-endian
 *   more                     int32 -1, then uint64 length, big-endian
 *
 * That is the standard library's form, so the peer may be a program that uses that.
 *
 * A frame under way is a struct of its user's. Each call moves it on as far as it gets, so after FMP_INTR
 * or FMP_TIMEOUT the same call goes on where it stopped: no byte is lost, none is sent twice.
 *
 * Invariants
 *   F1  Nothing beyond the frame under way is read: the descriptor is readable exactly while there is
 *       something to receive, whoever polls it.
 *   F2  Who waits for bytes spins before he sleeps; who waits for room sleeps, since the reader is busy
 *       with what it has.
 *   F3  A sleep lasts one slice of the waiter at the most and ends in FMP_INTR: a signal that came in
 *       while spinning is late, never lost.
 * Lives in: process. Callers: any thread, one at a time for each frame; not with the interpreter locked,
 * unless the waiter's deadline is FMP_NOW and the descriptor a socket: then no call blocks. */
#ifndef FMP_FRAME_H
#define FMP_FRAME_H

#include "core/eventcount.h"

#define FMP_FRAME_HEADER_MOST 12

/* A frame being read; zero-filled is one not begun. */
typedef struct {
    unsigned char header[FMP_FRAME_HEADER_MOST];
    size_t header_got;
    size_t body_bytes; /* once the header is complete */
    size_t body_got;
} fmp_frame_in;

/* A frame being written. */
typedef struct {
    unsigned char header[FMP_FRAME_HEADER_MOST];
    size_t header_bytes;
    const char *body; /* its user's, who may move it between calls */
    size_t body_bytes;
    size_t done; /* of header and body together */
} fmp_frame_out;

/* Read the header: in->body_bytes is known then. FMP_EOF if the stream ended before it, FMP_CUT if in the
 * middle of it, FMP_TOO_LONG if the body has more than `most` bytes, of which none is read. */
int fmp_frame_read_header(fmp_arena *a, int fd, fmp_frame_in *in, size_t most, fmp_waiter *w);

/* Read the body into in->body_bytes bytes of memory. FMP_CUT if the stream ended before. */
int fmp_frame_read_body(fmp_arena *a, int fd, fmp_frame_in *in, void *body, fmp_waiter *w);

/* Begin a frame; write it, header and body in one go if there is room. */
void fmp_frame_out_init(fmp_frame_out *out, const void *body, size_t bytes);
int fmp_frame_write(int fd, fmp_frame_out *out, fmp_waiter *w);

/* Wait until there is something to read, or the end: 0, FMP_TIMEOUT, FMP_INTR or -errno. */
int fmp_frame_poll(fmp_arena *a, int fd, fmp_waiter *w);

#endif
