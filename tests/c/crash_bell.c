/* Those who listen to a bell, and those who ring it, are killed at every change that they make. */
#include "stepper.h"

#include "core/bell.h"

/* The bell and what it is rung for, in one object. */
static struct body {
    fmp_bell bell;
    _Atomic uint32_t ready;
} *body;

static fmp_arena *a;
static fmp_bell *bell;
static uint64_t base; /* blocks in use while nobody listens */
static fmp_ear ours;  /* the tester's, if he listens */

static int
ready(void *unused)
{
    (void)unused;
    return (int)atomic_load(&body->ready);
}

static void
begin(void)
{
    fmp_object *o;
    if (ours.name != 0)
        fmp_fd_close(ours.fd);
    ours.name = 0;
    a = check_used_arena();
    CHECK_EQ(fmp_object_create(a, FMP_PLAIN, sizeof(struct body), &o), 0);
    body = fmp_object_body(o);
    bell = &body->bell;
    base = check_blocks();
}

static void
listen_with(fmp_ear *ear)
{
    CHECK_EQ(fmp_bell_listen(a, bell, ear, ready, NULL), 0);
}

static void
make_ready(void)
{
    atomic_store(&body->ready, 1);
    fmp_bell_signal(a, bell, ready, NULL);
}

static void
use(const fmp_ear *ear)
{
    atomic_store(&body->ready, 0);
    if (fmp_ear_valid(a, ear))
        fmp_bell_calm(a, bell, ear, ready, NULL);
}

static void
begin_listening(void)
{
    begin();
    listen_with(&ours);
}

static int
rings(const fmp_ear *ear)
{
    return fmp_fd_wait_readable(ear->fd, FMP_NOW) == 0;
}

/* Whoever listens hears it if there is something to hear, and not if there isn't, once he looked. */
static void
hear(const fmp_ear *ear)
{
    fmp_bell_settle(a, bell, ready, NULL);
    CHECK(!ready(NULL) || rings(ear));
    use(ear);
    CHECK(!rings(ear));
    make_ready();
    CHECK(rings(ear));
    use(ear);
    CHECK(!rings(ear));
}

/* As many may listen as ever; all of them hear; with the bell everything goes. */
static void
check(int finished)
{
    fmp_ear ears[FMP_BELL_PLACES] = {{0}};
    int count = FMP_BELL_PLACES - (ours.name != 0);
    (void)finished;
    if (ours.name != 0)
        hear(&ours);
    use(&ours);
    fmp_bell_settle(a, bell, ready, NULL);
    for (int i = 0; i < count; i++)
        listen_with(&ears[i]);
    make_ready();
    for (int i = 0; i < count; i++)
        CHECK(rings(&ears[i]));
    use(&ears[0]);
    hear(&ears[0]);
    for (int i = 0; i < count; i++)
        fmp_bell_leave(a, bell, &ears[i]);
    fmp_bell_leave(a, bell, &ours);
    CHECK_EQ(bell->armed, 0);
    CHECK_EQ(bell->lock.owner, 0);
    fmp_object_sweep(a);
    CHECK_EQ(check_blocks(), base + 1);
    fmp_bell_destroy(a, bell);
    CHECK_EQ(check_blocks(), base);
}

static void
act_listen(void *unused)
{
    (void)unused;
    fmp_ear ear = {0};
    listen_with(&ear);
    fmp_bell_calm(a, bell, &ear, ready, NULL);
    atomic_store(&body->ready, 1);
    fmp_bell_ring(a, bell, ready, NULL);
    atomic_store(&body->ready, 0);
    fmp_bell_calm(a, bell, &ear, ready, NULL);
    fmp_bell_leave(a, bell, &ear);
}

/* It is ready when he comes. */
static void
act_listen_late(void *unused)
{
    (void)unused;
    fmp_ear ear = {0};
    atomic_store(&body->ready, 1);
    listen_with(&ear);
    CHECK(rings(&ear));
}

static void
act_ring(void *unused)
{
    (void)unused;
    make_ready();
    fmp_bell_settle(a, bell, ready, NULL);
}

/* One who listens is dead, and his place is rung in vain. */
static pid_t deaf;
static uint32_t deaf_id;
static _Atomic int *listens;

static void
listen_and_wait(void *unused)
{
    (void)unused;
    fmp_ear ear = {0};
    listen_with(&ear);
    atomic_store(listens, 1);
    for (;;)
        pause();
}

static void
launch_the_deaf(void)
{
    if (listens == NULL)
        listens = check_shared(sizeof(*listens));
    atomic_store(listens, 0);
    deaf = check_fork(listen_and_wait, NULL, &deaf_id);
    UNTIL(atomic_load(listens));
    check_kill(deaf); /* nobody told the table of owners */
}

/* The heir only looks after what is left. */
static void
heir(void *unused)
{
    (void)unused;
    fmp_bell_settle(a, bell, ready, NULL);
    fmp_object_sweep(a);
}

/* ---- its end ------------------------------------------------------------------------------------------- */

static void
act_destroy(void *unused)
{
    (void)unused;
    fmp_bell_destroy(a, bell);
}

/* As whoever takes the lock of the table of objects from a dead process: before he sweeps. */
static void
heir_destroys(void *unused)
{
    (void)unused;
    fmp_bell_settle(a, bell, ready, NULL);
    fmp_bell_destroy(a, bell);
    fmp_object_sweep(a);
}

static void
check_destroyed(int finished)
{
    CHECK(!finished || bell->places.off == 0);
    fmp_bell_destroy(a, bell);
    fmp_object_sweep(a);
    CHECK_EQ(check_blocks(), base);
}

STEP_MAIN({.name = "listen", .begin = begin, .act = act_listen, .check = check, .heir = heir},
          {.name = "listen_second", .begin = begin_listening, .act = act_listen, .check = check,
           .heir = heir},
          {.name = "listen_late", .begin = begin_listening, .act = act_listen_late, .check = check,
           .heir = heir},
          {.name = "ring", .begin = begin_listening, .act = act_ring, .check = check, .heir = heir},
          {.name = "ring_the_deaf", .begin = begin_listening, .launched = launch_the_deaf, .act = act_ring,
           .check = check, .heir = heir},
          {.name = "destroy", .begin = begin_listening, .act = act_destroy, .check = check_destroyed,
           .heir = heir_destroys})
