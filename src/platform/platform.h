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

/* Make a file of up to `*bytes` zero bytes that no other user can open, close-on-exec, its size
 * sealed. Takes less, in steps of `grain`, where a limit forbids so much; *bytes says how much.
 * Returns the descriptor. */
int fmp_memory_create(uint64_t *bytes, uint64_t grain);

/* How large the file of that descriptor is. */
int fmp_memory_size(int fd, uint64_t *bytes);

/* Read a range of it without mapping it. */
int fmp_memory_read(int fd, uint64_t offset, void *to, size_t bytes);

/* Map a range of it, shared, writable, left out of core dumps. */
int fmp_memory_map(int fd, uint64_t offset, size_t bytes, void **address);
void fmp_memory_unmap(void *address, size_t bytes);

/* Give the range real pages, so that no later access can fail: -ENOMEM or -ENOSPC if it can't. */
int fmp_memory_commit(int fd, uint64_t offset, size_t bytes);

/* Enter a committed range into this process's page table in one go. A hint. */
void fmp_memory_populate(void *address, size_t bytes);

/* Hand the pages of the range back to the system; it reads as zero afterwards. */
int fmp_memory_release(int fd, uint64_t offset, size_t bytes);

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

/* The calling thread, as the system numbers it: never 0, unique among living threads. */
uint32_t fmp_thread_id(void);

/* How many threads this process has; 0 if that cannot be told. */
uint32_t fmp_process_thread_count(void);

/* How many processors this process may use: affinity mask and control group, at least 1. */
uint32_t fmp_cpu_count(void);

/* Run these around every fork of this process, whoever calls it. */
int fmp_process_at_fork(void (*prepare)(void), void (*parent)(void), void (*child)(void));

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
