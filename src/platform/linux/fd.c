/* fd.c: sockets are read and written without blocking, so that a caller can spin on them. Any other
 * descriptor is looked at before it is read, and costs a failed call of the socket's kind. */
#include "platform/platform.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/result.h"

static int
wait_for(int fd, short events, fmp_time until)
{
    struct pollfd p = {.fd = fd, .events = events};
    struct timespec ts, *timeout = NULL;
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
