/* process.c: who lives. The start time in /proc tells a process from a later one with its id. */
#include "platform/platform.h"

#include "platform/linux/text.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

/* State and start time of a process: fields 3 and 22 of its stat file, counted from behind the
 * name, which may hold anything. -errno if there is no such file. */
static int
read_stat(pid_t pid, char *state, uint64_t *start)
{
    char path[40], text[1024];
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    ssize_t n = fmp_text_read(path, text, sizeof(text));
    if (n < 0)
        return (int)n;
    char *field = strrchr(text, ')');
    if (field == NULL || field[1] != ' ')
        return -EBADMSG;
    field += 2;
    *state = *field;
    for (int skip = 3; skip < 22 && field != NULL; skip++) {
        field = strchr(field, ' ');
        field = field == NULL ? NULL : field + 1;
    }
    *start = field == NULL ? 0 : strtoull(field, NULL, 10);
    return 0;
}

uint64_t
fmp_process_stamp(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_BOOTTIME, &ts);
    uint64_t ticks = (uint64_t)sysconf(_SC_CLK_TCK);
    return (uint64_t)ts.tv_sec * ticks + (uint64_t)ts.tv_nsec * ticks / FMP_SECOND;
}

int
fmp_process_alive(pid_t pid, uint64_t stamp)
{
    if (kill(pid, 0) < 0 && errno == ESRCH)
        return 0;
    char state;
    uint64_t start;
    if (read_stat(pid, &state, &start) < 0)
        return 1; /* no /proc here: the signal's word stands */
    return state != 'Z' && state != 'X' && start <= stamp;
}

int
fmp_process_open(pid_t pid)
{
    long fd = syscall(SYS_pidfd_open, pid, 0);
    return fd < 0 ? -errno : (int)fd;
}

int
fmp_process_signal(pid_t pid, int process, int signal)
{
    if (syscall(SYS_pidfd_send_signal, process, signal, NULL, 0) == 0)
        return 0;
    if (errno != EBADF && errno != ENOSYS && errno != EPERM)
        return -errno;
    return kill(pid, signal) < 0 ? -errno : 0;
}

FMP_NEAR _Thread_local uint32_t fmp_thread_known;

static void
forget_thread(void)
{
    fmp_thread_known = 0;
}

static void
watch_forks(void)
{
    pthread_atfork(NULL, NULL, forget_thread);
}

uint32_t
fmp_thread_ask(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks);
    fmp_thread_known = (uint32_t)syscall(SYS_gettid);
    return fmp_thread_known;
}

uint32_t
fmp_process_thread_count(void)
{
    struct stat st; /* a directory has two links more than folders in it, and each thread is a folder */
    return stat("/proc/self/task", &st) < 0 || st.st_nlink < 3 ? 0 : (uint32_t)st.st_nlink - 2;
}

int
fmp_process_at_fork(void (*prepare)(void), void (*parent)(void), void (*child)(void))
{
    return -pthread_atfork(prepare, parent, child);
}
