/* fd.c: sockets are read and written without blocking, so that a caller can spin on them. Any other
 * descriptor is looked at before it is read, and costs a failed call of the socket's kind. */
#include "platform/platform.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/result.h"

static int
wait_for(int fd, short events, fmp_time until)
{
    struct pollfd p = {.fd = fd, .events = events};
    struct timespec ts, *timeout = NULL;
    if (fd < 0) /* which ppoll would wait for, for ever */
        return -EBADF;
    if (until != FMP_FOREVER) {
        fmp_time left = until - fmp_clock();
        if (left < 0)
            left = 0;
        ts = (struct timespec){.tv_sec = left / FMP_SECOND, .tv_nsec = left % FMP_SECOND};
        timeout = &ts;
    }
    int rc = ppoll(&p, 1, timeout, NULL);
    if (rc == 0 || (rc < 0 && errno == EINTR && until == FMP_NOW)) /* a mere look isn't interrupted */
        return FMP_TIMEOUT;
    if (rc < 0)
        return errno == EINTR ? FMP_INTR : -errno;
    return p.revents & POLLNVAL ? -EBADF : 0;
}

int
fmp_fd_wait_readable(int fd, fmp_time until)
{
    return wait_for(fd, POLLIN, until);
}

int
fmp_fd_wait_writable(int fd, fmp_time until)
{
    return wait_for(fd, POLLOUT, until);
}

int
fmp_fd_is_socket(int fd)
{
    int type;
    socklen_t bytes = sizeof(type);
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &bytes) == 0;
}

static ssize_t
outcome(ssize_t n)
{
    if (n >= 0)
        return n;
    return errno == EAGAIN || errno == EWOULDBLOCK ? FMP_FD_AGAIN : -errno;
}

ssize_t
fmp_fd_read(int fd, void *buffer, size_t bytes)
{
    ssize_t n = recv(fd, buffer, bytes, MSG_DONTWAIT);
    if (n >= 0 || errno != ENOTSOCK)
        return outcome(n);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int ready = poll(&p, 1, 0);
    if (ready == 0)
        return FMP_FD_AGAIN;
    return outcome(ready < 0 ? -1 : read(fd, buffer, bytes));
}

ssize_t
fmp_fd_write(int fd, const void *head, size_t head_bytes, const void *body, size_t body_bytes)
{
    struct iovec parts[2] = {{(void *)head, head_bytes}, {(void *)body, body_bytes}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    ssize_t n = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno == ENOTSOCK)
        n = writev(fd, parts, 2); /* the interpreter ignores SIGPIPE */
    return outcome(n);
}

int
fmp_fd_pair(int sockets[2], int duplex)
{
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) < 0)
        return -errno;
    if (!duplex) {
        shutdown(sockets[0], SHUT_WR);
        shutdown(sockets[1], SHUT_RD);
    }
    return 0;
}

void
fmp_fd_close(int fd)
{
    close(fd); /* never again on EINTR: Linux has let go of the number by then */
}

int
fmp_fd_vacate(int fd)
{
    int nowhere = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0); /* never connected */
    if (nowhere < 0)
        return -errno;
    int rc = dup3(nowhere, fd, O_CLOEXEC) < 0 ? -errno : 0;
    close(nowhere);
    return rc;
}

int
fmp_fd_hung_up(int fd)
{
    struct pollfd p = {.fd = fd};
    if (fd < 0)
        return -EBADF;
    if (poll(&p, 1, 0) < 0)
        return errno == EINTR ? 0 : -errno;
    return p.revents & POLLNVAL ? -EBADF : (p.revents & (POLLHUP | POLLERR)) != 0;
}

/* ---- pairs as doorbells -------------------------------------------------------------------------- */

int
fmp_fd_ring(int fd)
{
    const char ring = FMP_FD_RING;
    if (send(fd, &ring, 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1)
        return 0;
    return errno == EAGAIN ? 0 : -errno; /* no room: it is readable */
}

int
fmp_fd_silence(int fd)
{
    char bytes[16];
    for (;;) {
        ssize_t rings = 0, n = recv(fd, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT);
        if (n < 0 && errno == ECONNRESET) /* once, if the other one was closed with something in it */
            continue;
        if (n < 0 && errno != EAGAIN)
            return -errno;
        while (rings < n && bytes[rings] == FMP_FD_RING)
            rings++;
        if (rings == 0)
            return n > 0;
        if (recv(fd, bytes, (size_t)rings, MSG_DONTWAIT) < 0)
            return -errno;
        if (rings == n && n < (ssize_t)sizeof(bytes))
            return 0;
    }
}

/* ---- labels: an abstract address, which a socket of a pair has no other use for: it takes no visitors.
 * Nobody can take it first, as it ends with a random number. ---------------------------------------- */

#define LABEL "fastmp-end-"

int
fmp_fd_label(int fd, const char *label)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    uint64_t salt;
    if (getrandom(&salt, sizeof(salt), 0) != sizeof(salt))
        return -EAGAIN;
    int n = snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, LABEL "%s.%016llx", label,
                     (unsigned long long)salt);
    socklen_t bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
    if (bind(fd, (struct sockaddr *)&address, bytes) == 0 || errno == EINVAL) /* it has one */
        return 0;
    return -errno;
}

int
fmp_fd_read_label(int fd, char *label, size_t room)
{
    struct sockaddr_un address;
    socklen_t bytes = sizeof(address);
    const size_t head = offsetof(struct sockaddr_un, sun_path) + 1, prefix = sizeof(LABEL) - 1;
    if (getsockname(fd, (struct sockaddr *)&address, &bytes) < 0)
        return -errno;
    if (bytes > sizeof(address) || bytes < head + prefix || address.sun_family != AF_UNIX ||
        address.sun_path[0] != 0 || memcmp(address.sun_path + 1, LABEL, prefix) != 0)
        return 0;
    size_t length = bytes - head - prefix;
    if (length >= room)
        return 0;
    memcpy(label, address.sun_path + 1 + prefix, length);
    label[length] = 0;
    char *salt = strrchr(label, '.');
    if (salt == NULL)
        return 0;
    *salt = 0;
    return (int)(salt - label);
}
