/* doorbell.c: a datagram socket with an abstract address. No file system, nothing to clean up, and every
 * process of the network namespace reaches it, whenever it was forked. The name is random, so that a late
 * ring for one who died reaches no stranger. A ringer opens a socket for each ring: one that was kept would
 * be lost to programs that close all descriptors, and its number might mean another's. */
#include "platform/platform.h"

#include <errno.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static socklen_t
address_of(uint64_t name, struct sockaddr_un *address)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    int n = snprintf(address->sun_path + 1, sizeof(address->sun_path) - 1, "fastmp-bell-%016llx",
                     (unsigned long long)name);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}

int
fmp_doorbell_open(uint64_t *name)
{
    struct sockaddr_un address;
    if (getrandom(name, sizeof(*name), 0) != sizeof(*name))
        return -EAGAIN;
    *name |= 1; /* never 0 */
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (bind(fd, (struct sockaddr *)&address, address_of(*name, &address)) == 0)
        return fd;
    int rc = -errno;
    close(fd);
    return rc;
}

int
fmp_doorbell_ring(uint64_t name)
{
    struct sockaddr_un address;
    socklen_t bytes = address_of(name, &address);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int rc = sendto(fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&address, bytes) < 0 ? -errno : 0;
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
