/* Users of the heap are killed at every change that they make. */
#include "stepper.h"

#include <sys/stat.h>

enum { SMALL = 48, MIDDLE = 5000, LARGE = 100 << 10, EXTENT = 5 << 20, WINDOWS = 17 << 20 };

static fmp_arena *a;
static uint64_t size;  /* of the victim's blocks */
static uint64_t base;  /* blocks of the survivors */
static _Atomic uint64_t *shared;

static fmp_heap *
heap(void)
{
    return fmp_heap_of(a);
}

/* ---- what there is ------------------------------------------------------------------------------- */

static uint64_t
pages(void)
{
    struct stat st;
    CHECK_EQ(fstat(fmp_memory_descriptor(&a->memory), &st), 0);
    return (uint64_t)st.st_blocks;
}

/* Write to each page of the block; none was missing (H4). */
static void
fill(void *p, uint64_t bytes, int seed)
{
    uint64_t before = pages();
    for (uint64_t i = 0; i < bytes; i += 4096)
        ((char *)p)[i] = (char)seed;
    ((char *)p)[bytes - 1] = (char)seed;
    CHECK_EQ(pages(), before);
}

/* How many blocks a class grows by. */
static uint64_t
grain(uint64_t bytes)
{
    uint64_t together = bytes < FMP_UNIT_BYTES ? 8 * bytes : bytes;
    return (together + FMP_UNIT_BYTES - 1) / FMP_UNIT_BYTES * FMP_UNIT_BYTES / bytes;
}

/* How often class `index` grew, by the table of units. */
static uint64_t
grown(unsigned index)
{
    const uint8_t *classes = fmp_arena_place(a, FMP_PLACE_UNITS);
    uint64_t count = 0;
    for (uint32_t i = 0; i < FMP_WINDOW_UNITS * heap()->top_window; i++)
        count += classes[i] == index + 1;
    return count;
}

/* Blocks on the lists of a class, and those behind them. */
static uint64_t
unused(const fmp_size_class *c, uint64_t bytes)
{
    return check_listed(c->free, 0) + check_listed(c->cold, 1) + (c->fresh_end - c->fresh) / bytes;
}

/* No block of this size, of which none is in use, is missing, but for units that may have been cut and not reached
 * their class. */
static void
audit(uint64_t bytes, unsigned lost)
{
    fmp_ref ref;
    void *p;
    CHECK_EQ(fmp_heap_alloc(a, bytes, &ref, &p), 0);
    unsigned index = ((fmp_block *)p - 1)->size_class;
    uint64_t whole = fmp_heap_room(a, ref) + sizeof(fmp_block);
    fmp_heap_free(a, ref);
    const fmp_size_class *c = &heap()->classes[index];
    CHECK_EQ(c->moving, 0);
    CHECK_EQ(c->lock.owner, 0);
    uint64_t all = grown(index) * grain(whole), there = unused(c, whole);
    CHECK(there <= all && all <= there + lost * grain(whole));
    CHECK_EQ((all - there) % grain(whole), 0);
}

/* Blocks of that size are had, apart from each other, and given back. */
static void
come_and_go(uint64_t bytes)
{
    enum { MOST = 4 };
    fmp_ref ref[MOST];
    void *p[MOST];
    int count = bytes > LARGE ? 1 : MOST;
    for (int i = 0; i < count; i++) {
        CHECK_EQ(fmp_heap_alloc(a, bytes, &ref[i], &p[i]), 0);
        fill(p[i], bytes, i + 1);
    }
    CHECK_EQ(check_blocks(), base + (uint64_t)count);
    for (int i = 0; i < count; i++) {
        CHECK(((char *)p[i])[0] == i + 1 && ((char *)p[i])[bytes - 1] == i + 1);
        fmp_heap_free(a, ref[i]);
    }
    CHECK_EQ(check_blocks(), base);
}

static void
check(int finished)
{
    (void)finished;
    fmp_object_sweep(a);
    CHECK_EQ(check_blocks(), base);
    come_and_go(size);
    if (size < FMP_BLOCK_MOST)
        audit(size, 1 + (step_heir() != 0));
    come_and_go(SMALL);
}

/* ---- making and freeing -------------------------------------------------------------------------- */

static void
begin_with(uint64_t bytes)
{
    if (shared == NULL)
        shared = check_shared(sizeof(*shared));
    *shared = 0;
    a = check_arena();
    size = bytes;
    base = check_blocks();
}

/* As many blocks were free before. */
static void
leave_free(int count)
{
    fmp_ref ref[4];
    void *p;
    for (int i = 0; i < count; i++)
        CHECK_EQ(fmp_heap_alloc(a, size, &ref[i], &p), 0);
    for (int i = 0; i < count; i++)
        fmp_heap_free(a, ref[i]);
}

/* The first may be recycled, the second is fresh. */
static void
act_two(void *unused_)
{
    (void)unused_;
    fmp_ref ref[2];
    void *p;
    for (int i = 0; i < 2; i++)
        CHECK_EQ(fmp_heap_alloc(a, size, &ref[i], &p), 0);
    for (int i = 0; i < 2; i++)
        fmp_heap_free(a, ref[i]);
}

static void
act_one(void *unused_)
{
    (void)unused_;
    fmp_ref ref;
    void *p;
    CHECK_EQ(fmp_heap_alloc(a, size, &ref, &p), 0);
    CHECK(fmp_heap_at(a, ref) == p);
    fmp_heap_free(a, ref);
}

static void
act_zeroed(void *unused_)
{
    (void)unused_;
    fmp_ref ref;
    void *p;
    CHECK_EQ(fmp_heap_alloc_zeroed(a, size, &ref, &p), 0);
}

static void
begin_small(void)
{
    begin_with(SMALL);
    leave_free(1);
}

/* The victim keeps blocks at hand, of those that are free already. */
static void
begin_kept(void)
{
    begin_with(SMALL);
    leave_free(4);
}

/* Some are fetched; more are freed than it keeps, and at last it keeps none. */
static void
act_keep(void *unused_)
{
    (void)unused_;
    enum { N = FMP_SPARE_MOST + 1 };
    fmp_ref ref[N];
    void *p;
    fmp_heap_keep(a, 1);
    for (int i = 0; i < N; i++)
        CHECK_EQ(fmp_heap_alloc(a, size, &ref[i], &p), 0);
    for (int i = 0; i < N; i++)
        fmp_heap_free(a, ref[i]);
    fmp_heap_keep(a, 0);
}

static void
begin_unit(void)
{
    begin_with(MIDDLE);
}

/* The units of the window are used up. */
static void
begin_window(void)
{
    begin_with(MIDDLE);
    heap()->next_unit = 0;
}

static void
begin_warm(void)
{
    begin_with(LARGE);
    leave_free(1);
}

/* There are warm ones enough, so one that is freed turns cold; one is cold already. */
static void
begin_cold(void)
{
    fmp_ref ref;
    void *p;
    begin_with(LARGE);
    CHECK_EQ(fmp_heap_alloc(a, size, &ref, &p), 0);
    heap()->warm = UINT64_C(1) << 40;
    fmp_heap_free(a, ref);
    CHECK_EQ(((fmp_block *)p - 1)->cold, 1);
}

static void
begin_extent(void)
{
    begin_with(EXTENT);
}

static void
begin_windows(void)
{
    begin_with(WINDOWS);
    leave_free(1);
}

/* A warm one is free, and turns cold when it is freed again. */
static void
begin_cooling(void)
{
    begin_warm();
    heap()->warm = UINT64_C(1) << 40;
}

/* The same: what is freed turns cold. */
static void
begin_cold_windows(void)
{
    begin_windows();
    heap()->warm = UINT64_C(1) << 40;
}

/* Blocks and windows were free and warm for long. */
static void
begin_idle(void)
{
    begin_with(WINDOWS);
    leave_free(1);
    size = LARGE;
    leave_free(2);
    heap()->warm = UINT64_C(1) << 40;
    heap()->wanted_at = 0;
}

static void
act_trim(void *unused_)
{
    (void)unused_;
    fmp_heap_idle(a);
}

/* The windows serve again, too. */
static void
check_trimmed(int finished)
{
    check(finished);
    come_and_go(WINDOWS);
}

/* ---- cleaning up ----------------------------------------------------------------------------------- */

static void
have_some(void *unused_)
{
    (void)unused_;
    fmp_ref ref;
    void *p;
    for (int i = 0; i < 2; i++)
        CHECK_EQ(fmp_heap_alloc(a, SMALL, &ref, &p), 0);
    CHECK_EQ(fmp_heap_alloc(a, LARGE, &ref, &p), 0);
    CHECK_EQ(fmp_heap_alloc(a, EXTENT, &ref, &p), 0);
    atomic_store(shared, 1);
    for (;;)
        pause();
}

/* One died with blocks of all kinds in his hands. */
static void
launch_the_dead(void)
{
    uint32_t id;
    pid_t pid = check_fork(have_some, NULL, &id);
    UNTIL(atomic_load(shared));
    check_slay(pid, id);
}

static void
begin_sweep(void)
{
    begin_with(SMALL);
}

#define SCENARIO(how, what) \
    {.name = #how, .begin = begin_##how, .act = act_##what, .check = check, .heir = step_sweep}

STEP_MAIN(SCENARIO(small, two), SCENARIO(kept, keep), SCENARIO(unit, two), SCENARIO(window, one), SCENARIO(warm, two),
          SCENARIO(cold, two), SCENARIO(extent, one), SCENARIO(windows, one), SCENARIO(cold_windows, one),
          {.name = "idle", .begin = begin_idle, .act = act_trim, .check = check_trimmed, .heir = step_sweep},
          {.name = "stays_warm", .begin = begin_cooling, .poor = 1, .act = act_one, .check = check},
          {.name = "zeroed", .begin = begin_small, .act = act_zeroed, .check = check},
          {.name = "sweep", .begin = begin_sweep, .launched = launch_the_dead, .act = step_sweep,
           .check = check, .heir = step_sweep})
