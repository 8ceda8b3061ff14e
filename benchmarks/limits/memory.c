/* memory.c: what no program on this machine can beat. Each function does one thing `count` times and returns
 * the seconds it took, as the rows of Python do; memory.py compiles and loads this file. */

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SPINS 10000 /* looks at the flag before the CPU is offered to others: with two free CPUs, never reached */

static double
now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void *
share(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        abort();
    return memory;
}

static void
await(_Atomic long *flag, long value)
{
    for (long spins = 1; atomic_load_explicit(flag, memory_order_acquire) != value; spins++) {
        if (spins % SPINS == 0)
            sched_yield();
    }
}

/* Two processes set a flag in turns; each flag has a cache line of its own. */
double
flag_ping_pong(long count)
{
    _Atomic long *ping = share(4096), *pong = ping + 64;
    pid_t child = fork();
    if (child < 0)
        abort();
    if (child == 0) {
        for (long turn = 1; turn <= count; turn++) {
            await(ping, turn);
            atomic_store_explicit(pong, turn, memory_order_release);
        }
        _exit(0);
    }
    double start = now();
    for (long turn = 1; turn <= count; turn++) {
        atomic_store_explicit(ping, turn, memory_order_release);
        await(pong, turn);
    }
    double elapsed = now() - start;
    waitpid(child, NULL, 0);
    munmap((void *)ping, 4096);
    return elapsed;
}

/* Private memory to shared memory that has all its pages. */
double
copy(long bytes, long count)
{
    size_t size = (size_t)bytes;
    void *shared = share(size), *private = malloc(size);
    if (private == NULL)
        abort();
    memset(private, 1, size);
    memcpy(shared, private, size);
    double start = now();
    for (long i = 0; i < count; i++) {
        memcpy(shared, private, size);
        __asm__ volatile("" : : "r"(shared) : "memory"); /* else the compiler would leave out all but the last */
    }
    double elapsed = now() - start;
    free(private);
    munmap(shared, size);
    return elapsed;
}
