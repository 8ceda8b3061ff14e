#include "platform/linux/text.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

ssize_t
fmp_text_read(const char *path, char *text, size_t room)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t n = read(fd, text, room - 1);
    int error = errno;
    close(fd);
    if (n < 0)
        return -error;
    text[n] = '\0';
    return n;
}
