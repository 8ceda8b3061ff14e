/* doorbell.c: a datagram socket with an abstract address. No file system, nothing to clean up, and every
 * process of the network namespace reaches it, whenever it was forked. A ringer opens a socket for each ring:
 * one that was kept would be lost to programs that close all descriptors, and its number might mean another's.
 *
 * A name is 64 random bits, so that a late ring for one who died reaches no stranger. Half of them are in the
 * address, which every user of the machine can see (/proc/net/unix), and send to; the other half is what a ring
 * says. A filter on the socket drops what does not say it, so strangers wake nobody. */
#include "platform/platform.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define TRIES 8 /* for an address that nobody has: one of 2^32 */

static socklen_t
address_of(uint64_t name, struct sockaddr_un *address)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    int n = snprintf(address->sun_path + 1, sizeof(address->sun_path) - 1, "fastmp-bell-%08x",
                     (unsigned)(name >> 32));
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}

/* A system that knows no filters lets everybody ring. */
static void
listen_only_to(int fd, uint32_t secret)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, sizeof(secret), 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0), /* in network order */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, secret, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, sizeof(secret)),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct sock_fprog program = {.len = sizeof(code) / sizeof(*code), .filter = code};
    (void)setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
}

static int
bind_to_a_free_name(int fd, uint64_t *name)
{
    struct sockaddr_un address;
    int rc = -EADDRINUSE;
    for (int i = 0; i < TRIES && rc == -EADDRINUSE; i++) {
        if (getrandom(name, sizeof(*name), 0) != sizeof(*name))
            return -EAGAIN;
        *name |= 1; /* never 0 */
        rc = bind(fd, (struct sockaddr *)&address, address_of(*name, &address)) < 0 ? -errno : 0;
    }
    return rc;
}

int
fmp_doorbell_open(uint64_t *name)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    int rc = bind_to_a_free_name(fd, name);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    listen_only_to(fd, (uint32_t)*name);
    return fd;
}

int
fmp_doorbell_ring(uint64_t name)
{
    struct sockaddr_un address;
    socklen_t bytes = address_of(name, &address);
    uint32_t secret = htonl((uint32_t)name);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int rc = sendto(fd, &secret, sizeof(secret), MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&address, bytes) < 0
                 ? -errno
                 : 0;
    close(fd);
    return rc == -EAGAIN ? 0 : rc; /* its buffer is full: it rings already */
}

void
fmp_doorbell_silence(int fd)
{
    char byte;
    while (recv(fd, &byte, sizeof(byte), MSG_DONTWAIT) >= 0)
        ;
}
