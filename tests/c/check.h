/* check.h: the harness of the C tests.
 *
 * A program is a list of tests, run one after the other in one process:
 *
 *   static void adds_up(void) { CHECK_EQ(1 + 1, 2); }
 *   CHECK_MAIN(TEST(adds_up))
 *
 * A failed check says where, and aborts. A test that hangs is ended by a watchdog, which prints its
 * backtrace. Tests pin states, never times: they wait for a state with UNTIL, and for processes and
 * threads by joining them; the watchdog is the deadline of all waits. Children are killed with their
 * parent. */
#ifndef CHECK_H
#define CHECK_H

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/eventcount.h"
#include "core/heap.h"
#include "core/object.h"
#include "core/owner.h"

typedef struct {
    const char *name;
    void (*run)(void);
} check_test;

#define TEST(f) {#f, f}
#define CHECK_MAIN(...)                                                     \
    int main(int argc, char **argv)                                         \
    {                                                                       \
        static const check_test tests[] = {__VA_ARGS__};                    \
        return check_main(argc, argv, tests, sizeof(tests) / sizeof(*tests)); \
    }

#define CHECK(cond) ((cond) ? (void)0 : check_fail(__FILE__, __LINE__, #cond))
#define CHECK_EQ(got, want) check_equal(__FILE__, __LINE__, #got " == " #want, (int64_t)(got), (int64_t)(want))

/* Give way until the condition holds. */
#define UNTIL(cond)        \
    do {                   \
        while (!(cond))    \
            sched_yield(); \
    } while (0)

/* What a call that waits returns in the end, however often a signal interrupts it; `w` in it is its waiter. */
#define WAIT(until, call)                      \
    __extension__({                            \
        fmp_waiter w = FMP_WAITER(until);      \
        int outcome;                           \
        while ((outcome = (call)) == FMP_INTR) \
            ;                                  \
        outcome;                               \
    })

int check_main(int argc, char **argv, const check_test *tests, size_t count);

/* For other harnesses: once, at first; is this test asked for; it begins now, and the watchdog with it (NULL: it
 * has ended). */
void check_begin(void);
int check_wanted(int argc, char **argv, const char *name);
void check_watch(const char *name);
_Noreturn void check_fail(const char *file, int line, const char *what);
void check_equal(const char *file, int line, const char *what, int64_t got, int64_t want);

/* A new arena, complete, which this process has joined; the last one is gone then. */
fmp_arena *check_arena(void);

/* The same with small blocks that were in use, and have other contents than zeros. */
fmp_arena *check_used_arena(void);

/* That arena. */
fmp_arena *check_current(void);

/* The body of a new object in it. */
void *check_object(fmp_kind kind, uint64_t bytes);

/* Another process on that arena, for a thread that stands in for it: with a slot, handles and locks of its own. It
 * sees the arena where this process does, which the thread sanitizer needs. Its end lets go of nothing. */
void check_twin(fmp_arena *twin);
void check_twin_end(fmp_arena *twin);

/* Zeroed memory that children share. */
void *check_shared(size_t bytes);

/* Run body(arg) in a child; *id (if wanted) is its owner id. It exits with 0 after it. */
pid_t check_fork(void (*body)(void *), void *arg, uint32_t *id);

/* The child ended well. */
void check_join(pid_t pid);

/* The same for several at once: the i-th, from 0 on, runs body(arg + i * step). So with a step of 0 all have the same
 * argument, and with 1 a number each. */
void check_forks(pid_t *pids, int count, void (*body)(void *), void *arg, size_t step);
void check_join_all(const pid_t *pids, int count);

/* The same, and the child is killed after up to `most` nanoseconds, whatever it does then. */
pid_t check_fork_doomed(void (*body)(void *), void *arg, uint32_t *id, uint32_t *random, uint32_t most);

/* Wait until it was killed, and report it to the owner table; or only ask. */
void check_reap(pid_t pid, uint32_t id);
int check_reaped(pid_t pid, uint32_t id);

/* Kill the child and reap it; check_slay also reports it to the owner table. */
void check_kill(pid_t pid);
void check_slay(pid_t pid, uint32_t id);

/* Run body(arg) in a thread; end of it. */
pthread_t check_thread(void (*body)(void *), void *arg);
void check_finish(pthread_t thread);

/* The same for several at once, as with children. */
void check_threads(pthread_t *threads, int count, void (*body)(void *), void *arg, size_t step);
void check_finish_all(const pthread_t *threads, int count);

/* The id of a process that is known to be dead. */
uint32_t check_dead(void);

/* Blocks of the heap in use. */
uint64_t check_blocks(void);

/* Blocks on a list of the heap, from the first one's offset on: each is there once and free, and all are cold or none. */
uint64_t check_listed(uint64_t first, int cold);

/* All lists of the heap are such, but for those of a class whose lock somebody holds, or died with: so no block was
 * freed twice. */
void check_heap(void);

/* Fill with, and look for, a pattern that `seed` tells. */
void check_fill(void *data, uint64_t bytes, uint32_t seed);
int check_filled(const void *data, uint64_t bytes, uint32_t seed);

/* The next of a row of random numbers. */
uint32_t check_random(uint32_t *state);

/* Do nothing for up to so many nanoseconds. */
void check_dawdle(uint32_t *state, uint32_t most);

/* Does a sleeper in another thread or process sleep on the eventcount, or will it in a moment? */
#define ASLEEP(eventcount) (fmp_load(&(eventcount)->word) & 1)

/* The futex that all programs run on (fake_futex.c): the system's, unless told otherwise. */
extern struct fake_futex {
    _Atomic uint32_t waits;    /* calls so far */
    _Atomic uint32_t wakes;
    _Atomic uint32_t last_count; /* of the last wake */
    _Atomic int unsliced;      /* sleeps have no deadline: a wake-up that is lost is a hang */
    int hasty;                 /* sleeps take a tenth of a millisecond at the most */
    int scripted;              /* calls don't reach the system: */
    int outcome;               /* a wait returns this, */
    int woken;                 /* a wake returns this */
    void (*on_wait)(_Atomic uint32_t *word, uint32_t expected, fmp_time until);
    void (*on_wake)(_Atomic uint32_t *word);
} fake_futex;

#endif
