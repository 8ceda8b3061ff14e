/* platform.h: everything fastmp asks of an operating system, and nothing else.
 *
 * A port is one folder beside linux/ that implements this page. Functions return 0 or more when
 * done and -errno when not, unless they say otherwise; none of them prints, exits or sets errno. */
#ifndef FMP_PLATFORM_H
#define FMP_PLATFORM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "platform/atomics.h"
#include "platform/time.h"

/* ---- futex.c: sleeping on a word ------------------------------------------------------- */

/* Sleep while *word == expected. 0 when woken, when the value already differed, or for no
 * reason at all: callers look again. FMP_TIMEOUT once the monotonic clock passed `until`,
 * FMP_INTR on a signal (see core/result.h). Must work when each process maps the word at a
 * different address. */
int fmp_futex_wait(_Atomic uint32_t *word, uint32_t expected, fmp_time until);

/* Wake up to `count` sleepers of *word; returns how many were woken. */
int fmp_futex_wake(_Atomic uint32_t *word, int count);

/* ---- memory.c: one anonymous, sparse, shared file --------------------------------------- */

/* The file as this process has it. A program may close descriptors that aren't its own (who becomes a daemon closes
 * all), and its number may then mean another file: before each use it is compared, and if it isn't ours any
 * more, what the descriptor was for is done through the first page of the file, which stays mapped. */
typedef struct {
    int fd; /* -1 for none */
    uint64_t device, inode;
    void *anchor; /* the file from its beginning, once anything is mapped */
} fmp_memory;

/* Make a file of up to `*bytes` zero bytes that no other user can open, close-on-exec, its size
 * sealed. Takes less, in steps of `grain`, where a limit forbids so much; *bytes says how much. */
int fmp_memory_create(fmp_memory *m, uint64_t *bytes, uint64_t grain);

/* The same file by a descriptor that is owned from now on; *bytes says how large it is. */
int fmp_memory_open(fmp_memory *m, int fd, uint64_t *bytes);

/* Close the descriptor, if it is still ours. */
void fmp_memory_close(fmp_memory *m);

/* The descriptor, for other programs: -EBADF if it is gone. */
int fmp_memory_descriptor(const fmp_memory *m);

/* Read a range of it without mapping it for good. */
int fmp_memory_read(const fmp_memory *m, uint64_t offset, void *to, size_t bytes);

/* Map a range of it, in whole pages, shared, writable, left out of core dumps. The first must begin at 0. */
int fmp_memory_map(fmp_memory *m, uint64_t offset, size_t bytes, void **address);
void fmp_memory_unmap(void *address, size_t bytes);

/* Give the range real pages, so that no later access can fail: -ENOMEM or -ENOSPC if it can't. */
int fmp_memory_commit(const fmp_memory *m, uint64_t offset, size_t bytes);

/* Enter a committed range into this process's page table in one go. A hint. */
void fmp_memory_populate(void *address, size_t bytes);

/* Memory of this process alone is about to be filled. If it is fresh, it gets its pages in one go, and huge ones
 * where the system has them, instead of one by one as they are met. A hint. */
void fmp_memory_expect(void *address, size_t bytes);

/* Hand the pages of the range back to the system; it reads as zero afterwards. */
int fmp_memory_release(const fmp_memory *m, uint64_t offset, size_t bytes);

/* ---- process.c: who lives ----------------------------------------------------------------- */

/* The present moment, in the unit in which the system tells when a process started. Taken by a
 * process about itself it tells that process from every later one with the same id. */
uint64_t fmp_process_stamp(void);

/* False only if the process of that id and stamp no longer runs: it exited, is a zombie, or its id
 * belongs to another. */
int fmp_process_alive(pid_t pid, uint64_t stamp);

/* A descriptor that becomes readable when the child, not yet reaped, ends; -ENOSYS, -EPERM where
 * the kernel or a container refuses them. */
int fmp_process_open(pid_t pid);

/* Send a signal to the process of that descriptor; to the one of that id if there are no pidfds. */
int fmp_process_signal(pid_t pid, int process, int signal);

/* Thread-local variables that are read often lie where no call is needed to find them. The C library keeps room
 * for a few such of modules that are loaded late; that is known of glibc. */
#ifdef __GLIBC__
#define FMP_NEAR __attribute__((tls_model("initial-exec")))
#else
#define FMP_NEAR
#endif

extern FMP_NEAR _Thread_local uint32_t fmp_thread_known; /* the thread's id, 0 before it was asked for */
uint32_t fmp_thread_ask(void);

/* The calling thread, as the system numbers it: never 0, unique among living threads. */
static inline uint32_t
fmp_thread_id(void)
{
    return fmp_thread_known != 0 ? fmp_thread_known : fmp_thread_ask();
}

/* How many threads this process has; 0 if that cannot be told. */
uint32_t fmp_process_thread_count(void);

/* Run these around every fork of this process, whoever calls it. */
int fmp_process_at_fork(void (*prepare)(void), void (*parent)(void), void (*child)(void));

/* ---- cpus.c ---------------------------------------------------------------------------------- */

/* How many processors this process may use: affinity mask and control groups, at least 1. Opens some files. */
uint32_t fmp_cpu_count(void);

/* The processor that this thread runs on, plus 1. It may be on another one by the time this returns. */
uint32_t fmp_cpu_current(void);

/* ---- fd.c: bytes through descriptors --------------------------------------------------------- */

/* Wait until fd is readable (or writable): 0, FMP_TIMEOUT, FMP_INTR or -errno. A hang-up counts as
 * readable. */
int fmp_fd_wait_readable(int fd, fmp_time until);
int fmp_fd_wait_writable(int fd, fmp_time until);

/* Is it a socket? Sockets are read and written without blocking, whatever their mode. */
int fmp_fd_is_socket(int fd);

/* One read of up to `bytes`: the number read, 0 at the end, FMP_FD_AGAIN if there is nothing yet, or
 * -errno, -EINTR too. Blocks only if fd is no socket and another reader is quicker. */
#define FMP_FD_AGAIN ((ssize_t)-1000000)
ssize_t fmp_fd_read(int fd, void *buffer, size_t bytes);

/* One gathered write of a header and a body, either of which may be empty, without SIGPIPE: the
 * number of bytes written, FMP_FD_AGAIN, or -errno, -EINTR too. Blocks only if fd is no socket. */
ssize_t fmp_fd_write(int fd, const void *head, size_t head_bytes, const void *body, size_t body_bytes);

/* Two connected sockets, close-on-exec. One-way: sockets[0] only reads and sockets[1] only writes. */
int fmp_fd_pair(int sockets[2], int duplex);

void fmp_fd_close(int fd);

/* Close what it stands for, but keep the number: whatever is done with it from now on fails. 0, or -errno and nothing
 * was done. */
int fmp_fd_vacate(int fd);

/* Is the other one of a pair closed by all who had it? 1 or 0. */
int fmp_fd_hung_up(int fd);

/* Sockets of a pair as each other's doorbells: send the other one a byte that means no more than that; and take
 * such bytes out of this one, as far as they come first: 1 if something else comes next, 0 if nothing does. */
#define FMP_FD_RING '\a'
int fmp_fd_ring(int fd);
int fmp_fd_silence(int fd);

/* Write on a socket of a pair what it is, for whoever gets the descriptor; once, later ones change nothing. A label is
 * text of fewer than 70 bytes; `room` is 20 more. Its length when read, 0 if there is none. */
int fmp_fd_label(int fd, const char *label);
int fmp_fd_read_label(int fd, char *label, size_t room);

/* ---- doorbell.c: a descriptor that other processes make readable -------------------------------- */

/* A new one, close-on-exec. Who knows its name, never 0, may ring it. Returns the descriptor. */
int fmp_doorbell_open(uint64_t *name);

/* Make it readable; never blocks. -ECONNREFUSED if there is none of that name, as seen from here. */
int fmp_doorbell_ring(uint64_t name);

/* Make it unreadable again. */
void fmp_doorbell_silence(int fd);

/* ---- semaphore.c: semaphores that any process of the user can open by their name ------------- */

typedef struct fmp_semaphore fmp_semaphore;

/* Make one, -EEXIST if there is one of that name; or open one that exists. */
int fmp_semaphore_create(const char *name, unsigned value, fmp_semaphore **s);
int fmp_semaphore_open(const char *name, fmp_semaphore **s);

/* This process doesn't use it any more. It is gone when it has no name and nobody uses it. */
void fmp_semaphore_close(fmp_semaphore *s);

/* Take the name away. */
int fmp_semaphore_unlink(const char *name);

/* Take one: 0, FMP_TIMEOUT, FMP_INTR or -errno. May miss the deadline if the wall clock is set meanwhile: wait
 * in slices. */
int fmp_semaphore_wait(fmp_semaphore *s, fmp_time until);

/* Give one: 0, or -EOVERFLOW. */
int fmp_semaphore_post(fmp_semaphore *s);

int fmp_semaphore_value(fmp_semaphore *s, int *value);

#endif
