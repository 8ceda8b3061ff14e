#include "check.h"

#include <execinfo.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define DEADLINE 240 /* seconds for one test: a sanitizer, two busy processors, and a lot to spare */

/* Defaults of the sanitizers: children are forked beside threads, and leave without joining them. */
const char *__tsan_default_options(void);

const char *
__tsan_default_options(void)
{
    return "halt_on_error=1:report_thread_leaks=0";
}

static const char *running = "";
static fmp_arena arena;
static int arena_made;

static void
put(const char *text)
{
    if (write(2, text, strlen(text)) < 0)
        abort();
}

static void
on_alarm(int number)
{
    (void)number;
    void *frames[64];
    put("HANG in ");
    put(running);
    put("\n");
    backtrace_symbols_fd(frames, backtrace(frames, 64), 2);
    abort();
}

void
check_begin(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGALRM, on_alarm);
}

int
check_wanted(int argc, char **argv, const char *name)
{
    int wanted = argc < 2;
    for (int k = 1; k < argc; k++)
        wanted |= strcmp(argv[k], name) == 0;
    return wanted;
}

void
check_watch(const char *name)
{
    running = name == NULL ? "" : name;
    alarm(name == NULL ? 0 : DEADLINE);
}

int
check_main(int argc, char **argv, const check_test *tests, size_t count)
{
    check_begin();
    for (size_t i = 0; i < count; i++) {
        if (!check_wanted(argc, argv, tests[i].name))
            continue;
        check_watch(tests[i].name);
        tests[i].run();
        check_watch(NULL);
        printf("ok %s\n", tests[i].name);
    }
    return 0;
}

_Noreturn void
check_fail(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: in %s (process %d): not so: %s\n", file, line, running, (int)getpid(), what);
    abort();
}

void
check_equal(const char *file, int line, const char *what, int64_t got, int64_t want)
{
    if (got == want)
        return;
    char text[512];
    snprintf(text, sizeof(text), "%s, but %lld != %lld", what, (long long)got, (long long)want);
    check_fail(file, line, text);
}

fmp_arena *
check_arena(void)
{
    if (arena_made) {
        free(arena.handles);
        fmp_arena_detach(&arena);
    }
    CHECK_EQ(fmp_arena_create(&arena), 0);
    CHECK_EQ(fmp_heap_init(&arena), 0);
    CHECK_EQ(fmp_owner_join(&arena), 0);
    CHECK_EQ(fmp_object_init(&arena), 0);
    arena_made = 1;
    return &arena;
}

#define SOILED 4 /* blocks of each size */

fmp_arena *
check_used_arena(void)
{
    fmp_arena *a = check_arena();
    for (uint64_t bytes = 48; bytes < 1024; bytes += 64) {
        fmp_ref refs[SOILED];
        for (int i = 0; i < SOILED; i++) {
            void *payload;
            CHECK_EQ(fmp_heap_alloc(a, bytes, &refs[i], &payload), 0);
            memset(payload, 0xa5, bytes);
        }
        for (int i = 0; i < SOILED; i++)
            fmp_heap_free(a, refs[i]);
    }
    return a;
}

fmp_arena *
check_current(void)
{
    return &arena;
}

void *
check_object(fmp_kind kind, uint64_t bytes)
{
    fmp_object *o;
    CHECK_EQ(fmp_object_create(&arena, kind, bytes, &o), 0);
    return fmp_object_body(o);
}

#define TWIN_WINDOWS 9 /* those of the tables, and some of the heap */

void
check_twin(fmp_arena *twin)
{
    memset(twin, 0, sizeof(*twin));
    twin->memory = arena.memory;
    twin->window_count = arena.window_count;
    pthread_mutex_init(&twin->mapping, NULL);
    pthread_mutex_init(&twin->local, NULL);
    for (uint32_t i = 0; i < TWIN_WINDOWS; i++)
        atomic_store(&twin->windows[i], fmp_arena_at(&arena, i * FMP_WINDOW_BYTES));
    CHECK_EQ(fmp_owner_join(twin), 0);
}

void
check_twin_end(fmp_arena *twin)
{
    fmp_owner_leave(twin, twin->self, 0);
    free(twin->handles);
    pthread_mutex_destroy(&twin->mapping);
    pthread_mutex_destroy(&twin->local);
}

void *
check_shared(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED);
    return p;
}

pid_t
check_fork(void (*body)(void *), void *arg, uint32_t *id)
{
    pid_t parent = getpid(), pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        body(arg);
        _exit(0);
    }
    if (id != NULL)
        *id = fmp_object_last_child();
    return pid;
}

struct doom {
    void (*body)(void *);
    void *arg;
    uint32_t delay;
};

static void
run_doomed(void *p)
{
    struct doom *d = p;
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
    struct itimerspec when = {.it_value = {.tv_nsec = d->delay}};
    CHECK_EQ(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
    CHECK_EQ(timer_settime(timer, 0, &when, NULL), 0);
    d->body(d->arg);
    for (;;)
        pause();
}

pid_t
check_fork_doomed(void (*body)(void *), void *arg, uint32_t *id, uint32_t *random, uint32_t most)
{
    struct doom d = {body, arg, 1 + check_random(random) % most};
    return check_fork(run_doomed, &d, id);
}

static int
reap(pid_t pid, uint32_t id, int options)
{
    int status;
    pid_t got = waitpid(pid, &status, options);
    if (got == 0)
        return 0;
    CHECK_EQ(got, pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL); /* or a check failed in it */
    fmp_owner_bury(&arena, id);
    return 1;
}

void
check_reap(pid_t pid, uint32_t id)
{
    reap(pid, id, 0);
}

int
check_reaped(pid_t pid, uint32_t id)
{
    return reap(pid, id, WNOHANG);
}

void
check_join(pid_t pid)
{
    int status;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
}

static void *
argument(void *arg, int i, size_t step)
{
    return (void *)((uintptr_t)arg + (uintptr_t)i * step);
}

void
check_forks(pid_t *pids, int count, void (*body)(void *), void *arg, size_t step)
{
    for (int i = 0; i < count; i++)
        pids[i] = check_fork(body, argument(arg, i, step), NULL);
}

void
check_join_all(const pid_t *pids, int count)
{
    for (int i = 0; i < count; i++)
        check_join(pids[i]);
}

void
check_kill(pid_t pid)
{
    int status;
    CHECK_EQ(kill(pid, SIGKILL), 0);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

void
check_slay(pid_t pid, uint32_t id)
{
    check_kill(pid);
    fmp_owner_bury(&arena, id);
}

struct start {
    void (*body)(void *);
    void *arg;
};

static void *
run_thread(void *p)
{
    struct start s = *(struct start *)p;
    free(p);
    s.body(s.arg);
    return NULL;
}

pthread_t
check_thread(void (*body)(void *), void *arg)
{
    struct start *s = malloc(sizeof(*s));
    pthread_t thread;
    CHECK(s != NULL);
    *s = (struct start){body, arg};
    CHECK_EQ(pthread_create(&thread, NULL, run_thread, s), 0);
    return thread;
}

void
check_finish(pthread_t thread)
{
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

void
check_threads(pthread_t *threads, int count, void (*body)(void *), void *arg, size_t step)
{
    for (int i = 0; i < count; i++)
        threads[i] = check_thread(body, argument(arg, i, step));
}

void
check_finish_all(const pthread_t *threads, int count)
{
    for (int i = 0; i < count; i++)
        check_finish(threads[i]);
}

uint32_t
check_dead(void)
{
    uint32_t id;
    CHECK_EQ(fmp_owner_reserve(&arena, &id), 0);
    CHECK(fmp_owner_bury(&arena, id));
    return id;
}

uint64_t
check_blocks(void)
{
    uint64_t blocks, bytes;
    fmp_heap_usage(&arena, &blocks, &bytes);
    return blocks;
}

uint64_t
check_listed(uint64_t first, int cold)
{
    uint64_t count = 0;
    for (uint64_t off = first; off != 0; count++) {
        const fmp_block *head = fmp_arena_at(&arena, off);
        CHECK_EQ(head->tag, FMP_TAG_FREE);
        CHECK_EQ(head->cold, cold);
        CHECK(count < FMP_WINDOW_BYTES / 64); /* no circle */
        off = head->next;
    }
    return count;
}

void
check_heap(void)
{
    const fmp_heap *h = fmp_heap_of(&arena);
    for (const fmp_size_class *c = h->classes; c < h->classes + FMP_HEAP_CLASSES; c++) {
        if (fmp_peek(&c->lock.owner) != 0)
            continue;
        check_listed(c->free, 0);
        check_listed(c->cold, 1);
    }
}

static unsigned char
pattern(uint64_t i, uint32_t seed)
{
    return (unsigned char)(seed * 2654435761u >> 24) ^ (unsigned char)(i * 31 + (i >> 8));
}

/* Of large ones, which are slow to fill and to read, only a byte of each line and the last one count. */
static uint64_t
stride(uint64_t bytes)
{
    return bytes > 4096 ? 61 : 1;
}

void
check_fill(void *data, uint64_t bytes, uint32_t seed)
{
    unsigned char *p = data;
    memset(p, (int)seed, bytes);
    for (uint64_t i = 0; i < bytes; i += stride(bytes))
        p[i] = pattern(i, seed);
    if (bytes > 0)
        p[bytes - 1] = pattern(bytes - 1, seed);
}

int
check_filled(const void *data, uint64_t bytes, uint32_t seed)
{
    const unsigned char *p = data;
    for (uint64_t i = 0; i < bytes; i += stride(bytes)) {
        if (p[i] != pattern(i, seed))
            return 0;
    }
    return bytes == 0 || p[bytes - 1] == pattern(bytes - 1, seed);
}

uint32_t
check_random(uint32_t *state)
{
    uint32_t x = *state == 0 ? 1 : *state;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return *state = x;
}

void
check_dawdle(uint32_t *state, uint32_t most)
{
    fmp_time end = fmp_clock() + check_random(state) % most;
    while (fmp_clock() < end)
        ;
}
