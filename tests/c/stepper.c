#include "stepper.h"

#include <errno.h>
#include <limits.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <ucontext.h>

#define CHANGES_MOST 100000u /* more than any scenario has: the victim never ends */
#define STRIDE 7u            /* between the changes at which heirs are killed, others for each victim */
#define PAGE ((uintptr_t)4096)
#define TRAP_FLAG 0x100

#define OUTSIDE __attribute__((no_instrument_function))

/* ---- the way of a victim ------------------------------------------------------------------------ */

/* Where it makes a change: after it entered so many functions, and in front of that instruction. */
struct mark {
    unsigned entered;
    uintptr_t at;
};

/* Shared with the tester. */
struct life {
    void (*act)(void *);
    pid_t pid;
    uint32_t id;
    unsigned change; /* at which it dies; 0 at its end */
    int hurried;     /* along the marks, to its end if there is none for that change */
    _Atomic uint32_t go;
    _Atomic int finished;
    int strayed;     /* hurried, and it did not die at its mark */
    unsigned known;  /* marks: those of the changes 1 and up, by who took every step */
    struct mark marks[CHANGES_MOST];
};

static struct life *first, *second; /* the victim and his heir */

/* Told to the victim before it is forked. */
static struct life *me;
static const step_scenario *scenario;
static int newborn;
static fmp_arena *arena;

/* Of the victim itself: */
static int living;            /* it acts, */
static int stepped;           /* and its changes are seen: from that function on */
static unsigned stepped_from;
static unsigned changes;      /* so far */
static unsigned entered;      /* functions, but for those that it spins in: as often as time allows */
static int spinning;

static void begin_stepping(void);

OUTSIDE static void
come_alive(void)
{
    living = 1;
    if (me->hurried) {
        changes = me->change - 1;
        stepped_from = changes < me->known ? me->marks[me->change].entered : UINT_MAX;
        while (changes > 0 && me->marks[changes].entered == stepped_from)
            changes--;
    }
    if (stepped_from == 0)
        begin_stepping();
}

OUTSIDE static void
enter_function(const void *function)
{
    if (!spinning && ++entered == stepped_from)
        begin_stepping();
    spinning += function == (void *)fmp_ec_spin;
}

OUTSIDE static void
leave_function(const void *function)
{
    spinning -= function == (void *)fmp_ec_spin;
}

/* ---- where victims have been -------------------------------------------------------------------- */

static struct {
    uintptr_t base, from, to; /* this program's text */
    unsigned char *seen;      /* a byte for each of its addresses, shared with the victims */
} text;

void __cyg_profile_func_enter(void *function, void *caller);
void __cyg_profile_func_exit(void *function, void *caller);

OUTSIDE void
__cyg_profile_func_enter(void *function, void *caller)
{
    (void)caller;
    uintptr_t at = (uintptr_t)function;
    if (!living || at < text.from || at >= text.to)
        return;
    text.seen[at - text.from] = 1;
    enter_function(function);
}

OUTSIDE void
__cyg_profile_func_exit(void *function, void *caller)
{
    (void)caller;
    if (living)
        leave_function(function);
}

/* What the compiler puts at the start of every block that shall be traced (-fsanitize-coverage=trace-pc). */
void __sanitizer_cov_trace_pc(void);

OUTSIDE void
__sanitizer_cov_trace_pc(void)
{
    if (living)
        text.seen[(uintptr_t)__builtin_return_address(0) - text.from] = 1;
}

static int
find_text(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    (void)arg;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type == PT_LOAD && p->p_flags & PF_X) {
            text.base = info->dlpi_addr;
            text.from = info->dlpi_addr + p->p_vaddr;
            text.to = text.from + p->p_memsz;
        }
    }
    return 1; /* the first is the program itself */
}

static void
write_trace(void)
{
    const char *name = getenv("STEPPER_TRACE");
    FILE *file = name == NULL ? NULL : fopen(name, "w");
    if (file == NULL)
        return;
    for (uintptr_t at = text.from; at < text.to; at++) {
        if (text.seen[at - text.from])
            fprintf(file, "%zx\n", (size_t)(at - text.base));
    }
    fclose(file);
}

/* ---- the victim's changes -------------------------------------------------------------------------- */

/* The pages that are open for the store that is under way, as they were. */
static struct {
    char *page;
    char before[4096];
} opened[4];
static int open_count;

OUTSIDE static _Noreturn void
die(void)
{
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

OUTSIDE static void
count_change(const void *at)
{
    if (!stepped)
        return;
    struct mark here = {entered, (uintptr_t)at}, *mark = &me->marks[++changes % CHANGES_MOST];
    if (!me->hurried) {
        *mark = here;
        me->known = changes > me->known ? changes : me->known;
    }
    if (changes != me->change)
        return;
    me->strayed = mark->entered != here.entered || mark->at != here.at;
    die();
}

/* Without the functions of the core, which would be counted. */
OUTSIDE static char *
window_at(uint32_t i)
{
    return atomic_load_explicit(&arena->windows[i], memory_order_relaxed);
}

OUTSIDE static int
is_arena(const char *address)
{
    for (uint32_t i = 0; i < arena->window_count; i++) {
        char *window = window_at(i);
        if (window != NULL && address >= window && address < window + FMP_WINDOW_BYTES)
            return 1;
    }
    return 0;
}

/* A store into the arena: let it through, and stop behind it. */
OUTSIDE static void
on_fault(int number, siginfo_t *info, void *context)
{
    ucontext_t *u = context;
    char *page = (char *)((uintptr_t)info->si_addr & ~(PAGE - 1));
    if (info->si_code != SEGV_ACCERR || open_count == 4 || !is_arena(page)) {
        signal(number, SIG_DFL);
        return;
    }
    opened[open_count].page = page;
    memcpy(opened[open_count].before, page, PAGE);
    open_count++;
    mprotect(page, PAGE, PROT_READ | PROT_WRITE);
    u->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
}

OUTSIDE static void
on_trap(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)info;
    ucontext_t *u = context;
    int changed = 0;
    for (; open_count > 0; open_count--) {
        char *page = opened[open_count - 1].page;
        changed |= memcmp(opened[open_count - 1].before, page, PAGE) != 0;
        mprotect(page, PAGE, PROT_READ);
    }
    u->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
    if (changed)
        count_change((void *)u->uc_mcontext.gregs[REG_RIP]);
}

/* From here on this process's changes are counted. */
OUTSIDE static void
begin_stepping(void)
{
    struct sigaction fault = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    struct sigaction trap = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &fault, NULL);
    sigaction(SIGTRAP, &trap, NULL);
    for (uint32_t i = 0; i < arena->window_count; i++) {
        char *window = window_at(i);
        if (window != NULL)
            mprotect(window, FMP_WINDOW_BYTES, PROT_READ);
    }
    stepped = 1;
}

OUTSIDE static int
is_poor(void)
{
    return living && scenario->poor;
}

/* What the linker puts in the place of the platform's functions (Makefile). */
#define WRAPPED(name) __typeof__(name) __real_##name, __wrap_##name
#define WRAP(name, parameters, ...)                \
    WRAPPED(name);                                 \
    OUTSIDE int __wrap_##name parameters           \
    {                                              \
        int result = __real_##name(__VA_ARGS__);   \
        count_change(__builtin_return_address(0)); \
        return result;                             \
    }

#define WRAP_MEMORY(name)                                                           \
    WRAPPED(name);                                                                  \
    OUTSIDE int __wrap_##name(const fmp_memory *m, uint64_t offset, size_t bytes)   \
    {                                                                               \
        if (is_poor())                                                              \
            return -ENOMEM;                                                         \
        int result = __real_##name(m, offset, bytes);                               \
        count_change(__builtin_return_address(0));                                  \
        return result;                                                              \
    }

WRAP_MEMORY(fmp_memory_commit)
WRAP_MEMORY(fmp_memory_release)
WRAP(fmp_futex_wake, (_Atomic uint32_t * word, int count), word, count)
WRAP(fmp_doorbell_open, (uint64_t * name), name)
WRAP(fmp_doorbell_ring, (uint64_t name), name)
WRAP(fmp_fd_silence, (int fd), fd)

WRAPPED(fmp_fd_ring);

OUTSIDE int
__wrap_fmp_fd_ring(int fd)
{
    int result = __real_fmp_fd_ring(fd);
    count_change(__builtin_return_address(0));
    if (living && scenario->rung != NULL)
        scenario->rung();
    return result;
}

WRAPPED(fmp_memory_map);

OUTSIDE int
__wrap_fmp_memory_map(fmp_memory *m, uint64_t offset, size_t bytes, void **address)
{
    int rc = is_poor() ? -ENOMEM : __real_fmp_memory_map(m, offset, bytes, address);
    if (rc == 0 && stepped)
        mprotect(*address, bytes, PROT_READ);
    return rc;
}

/* Many bytes at once are two changes: half of them, and all. */
OUTSIDE static void
write_many(char *to, size_t bytes, void (*write)(char *to, size_t from, size_t bytes, const void *arg),
           const void *arg)
{
    uintptr_t start = (uintptr_t)to & ~(PAGE - 1), end = ((uintptr_t)to + bytes + PAGE - 1) & ~(PAGE - 1);
    mprotect((void *)start, end - start, PROT_READ | PROT_WRITE);
    write(to, 0, bytes / 2, arg);
    count_change(__builtin_return_address(0));
    write(to, bytes / 2, bytes - bytes / 2, arg);
    count_change(__builtin_return_address(0));
    mprotect((void *)start, end - start, PROT_READ);
}

void *__real_memset(void *to, int byte, size_t bytes);
void *__wrap_memset(void *to, int byte, size_t bytes);
void *__real_memcpy(void *to, const void *from, size_t bytes);
void *__wrap_memcpy(void *to, const void *from, size_t bytes);

OUTSIDE static void
set_part(char *to, size_t from, size_t bytes, const void *arg)
{
    __real_memset(to + from, *(const int *)arg, bytes);
}

OUTSIDE static void
copy_part(char *to, size_t from, size_t bytes, const void *arg)
{
    __real_memcpy(to + from, (const char *)arg + from, bytes);
}

OUTSIDE void *
__wrap_memset(void *to, int byte, size_t bytes)
{
    if (!stepped || !is_arena(to))
        return __real_memset(to, byte, bytes);
    write_many(to, bytes, set_part, &byte);
    return to;
}

OUTSIDE void *
__wrap_memcpy(void *to, const void *from, size_t bytes)
{
    if (!stepped || !is_arena(to))
        return __real_memcpy(to, from, bytes);
    write_many(to, bytes, copy_part, from);
    return to;
}

/* ---- its life ------------------------------------------------------------------------------------ */

/* The first of all that a forked child does. A victim's own child isn't one. */
OUTSIDE static void
in_child(void)
{
    living = stepped = 0;
    if (newborn)
        come_alive();
    newborn = 0;
}

static void
live(void *arg)
{
    struct life *l = arg;
    while (fmp_load(&l->go) == 0)
        fmp_futex_wait(&l->go, 0, FMP_FOREVER);
    if (!living)
        come_alive();
    l->act(NULL);
    living = stepped = 0;
    fmp_store(&l->finished, 1);
    die();
}

/* A child that will run act, and die at its change number `change`. */
static void
give_birth(struct life *l, void (*act)(void *), unsigned change, int hurried)
{
    l->act = act;
    l->change = change;
    l->hurried = hurried;
    l->go = 0;
    l->finished = l->strayed = 0;
    me = l;
    arena = check_current();
    l->pid = check_fork(live, l, &l->id);
}

/* Does it sleep in the kernel, rather than wait for a processor? */
static int
sleeps(pid_t pid)
{
    char name[64], line[512];
    snprintf(name, sizeof(name), "/proc/%d/stat", (int)pid);
    FILE *file = fopen(name, "r");
    CHECK(file != NULL);
    CHECK(fgets(line, sizeof(line), file) != NULL);
    fclose(file);
    return strrchr(line, ')')[2] == 'S';
}

static void
wait_a_moment(void)
{
    sigset_t set;
    struct timespec moment = {.tv_nsec = 1000000};
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigtimedwait(&set, NULL, &moment);
}

/* Let it live until its death: true if it came to its end. */
static int
live_out(struct life *l, void (*nudge)(void))
{
    int status;
    pid_t got;
    fmp_store(&l->go, 1);
    fmp_futex_wake(&l->go, 1);
    while ((got = waitpid(l->pid, &status, WNOHANG)) == 0) {
        wait_a_moment();
        if (!sleeps(l->pid))
            continue;
        if (nudge != NULL) {
            nudge();
            continue;
        }
        fmp_store(&l->finished, 1);
        kill(l->pid, SIGKILL);
    }
    CHECK_EQ(got, l->pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL); /* or a check failed in it */
    fmp_owner_bury(check_current(), l->id);
    int finished = fmp_load(&l->finished);
    l->strayed |= l->hurried && finished && l->change <= l->known;
    return finished;
}

uint32_t
step_victim(void)
{
    return first->id;
}

uint32_t
step_heir(void)
{
    return second->id;
}

void
step_patience(void)
{
}

void
step_sweep(void *unused)
{
    (void)unused;
    fmp_object_sweep(check_current());
}

/* ---- scenarios ----------------------------------------------------------------------------------- */

/* The state anew. A scenario may have thousands of deaths: the watchdog is that of each. */
static void
begin(const step_scenario *s)
{
    check_watch(s->name);
    s->begin();
}

/* The survivors go on, and no block was freed twice. */
static void
end(const step_scenario *s, int finished)
{
    s->check(finished);
    check_heap();
}

/* The victim dies at that change: true if it came to its end before. */
static int
kill_victim(const step_scenario *s, unsigned change, int hurried)
{
    newborn = s->newborn;
    give_birth(first, s->act, change, hurried);
    newborn = 0;
    if (s->launched != NULL)
        s->launched();
    return live_out(first, s->nudge);
}

/* The victim dies at that change, and his heir at one of his own: true if it was there, or they were not hurried. */
static int
kill_both(const step_scenario *s, unsigned change, unsigned own, int hurried)
{
    begin(s);
    give_birth(second, s->heir, own, hurried); /* at first: whoever forks cleans up after the dead */
    int finished = kill_victim(s, change, hurried);
    live_out(second, step_patience);
    end(s, finished);
    return !first->strayed && !second->strayed;
}

/* Heirs of victims that were killed at that change: how many were killed. The first goes step by step to his end,
 * and so do others where those who are hurried stray. */
static unsigned
kill_heirs(const step_scenario *s, unsigned change)
{
    unsigned killed = 0, stride = getenv("STEPPER_ALL") == NULL ? STRIDE : 1;
    first->known = second->known = 0;
    kill_both(s, change, 0, 0);
    unsigned most = second->known;
    CHECK(most < CHANGES_MOST);
    for (unsigned own = 1 + change % stride; own <= most; own += stride, killed++) {
        if (!kill_both(s, change, own, 1))
            kill_both(s, change, own, 0);
    }
    return killed;
}

static void
run_scenario(const step_scenario *s)
{
    unsigned change = 0, heirs = 0;
    int finished;
    scenario = s;
    do {
        begin(s);
        second->id = 0;
        finished = kill_victim(s, ++change, 0);
        end(s, finished);
        if (s->heir != NULL)
            heirs += kill_heirs(s, change);
        CHECK(change < CHANGES_MOST);
    } while (!finished);
    printf("ok %s: %u victims and %u heirs killed\n", s->name, change - 1, heirs);
}

int
step_main(int argc, char **argv, const step_scenario *scenarios, size_t count)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    dl_iterate_phdr(find_text, NULL);
    text.seen = check_shared(text.to - text.from);
    first = check_shared(sizeof(*first));
    second = check_shared(sizeof(*second));
    CHECK_EQ(fmp_process_at_fork(NULL, NULL, in_child), 0); /* before the core's */
    fake_futex.hasty = 1;
    check_begin();
    for (size_t i = 0; i < count; i++) {
        if (check_wanted(argc, argv, scenarios[i].name))
            run_scenario(&scenarios[i]);
    }
    check_watch(NULL);
    write_trace();
    return 0;
}
