/* text.h: the small files of /proc and /sys, for the files of this folder. */
#ifndef FMP_LINUX_TEXT_H
#define FMP_LINUX_TEXT_H

#include <sys/types.h>

/* Read one, cut off after room - 1 bytes, as a string: its length, or -errno. */
ssize_t fmp_text_read(const char *path, char *text, size_t room);

#endif
