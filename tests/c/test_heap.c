#include "check.h"

#include <errno.h>

#define HEAD sizeof(fmp_block)

static fmp_arena *a;
static fmp_arena view; /* the same arena, mapped a second time */

static fmp_block *
head_of(fmp_ref ref)
{
    return (fmp_block *)((char *)fmp_heap_at(a, ref) - HEAD);
}

static fmp_size_class *
class_of(fmp_ref ref)
{
    return &fmp_heap_of(a)->classes[head_of(ref)->size_class];
}

static fmp_ref
get(uint64_t bytes)
{
    fmp_ref ref;
    void *p;
    CHECK_EQ(fmp_heap_alloc(a, bytes, &ref, &p), 0);
    CHECK(fmp_heap_at(a, ref) == p);
    CHECK(fmp_heap_room(a, ref) >= bytes);
    CHECK_EQ(head_of(ref)->tag, a->self);
    CHECK_EQ((uintptr_t)p % 16, 0);
    return ref;
}

static void
each_size_has_its_class(void)
{
    a = check_arena();
    uint64_t last_room = 0;
    unsigned classes = 0;
    for (uint64_t bytes = 1; bytes <= FMP_BLOCK_MOST - HEAD;) {
        fmp_ref ref = get(bytes);
        uint64_t room = fmp_heap_room(a, ref), whole = room + HEAD;
        CHECK_EQ(whole % 64, 0);
        CHECK(bytes > last_room); /* no smaller class would have done */
        CHECK_EQ(head_of(ref)->size_class, classes);
        fmp_heap_free(a, ref);
        ref = get(room); /* the largest of this class */
        CHECK_EQ(fmp_heap_room(a, ref), room);
        fmp_heap_free(a, ref);
        if (whole > 256) /* four classes to a doubling: no block is more than a quarter too large */
            CHECK(whole - (last_room + HEAD) <= whole / 4);
        last_room = room;
        bytes = room + 1;
        classes++;
    }
    CHECK_EQ(classes, FMP_HEAP_CLASSES);
    CHECK_EQ(last_room, FMP_BLOCK_MOST - HEAD);
    CHECK_EQ(check_blocks(), 0);
}

/* Dense where it is cheap, with prime steps above, and at both sides of all powers of two. */
static uint64_t
next_size(uint64_t bytes)
{
    if (bytes < 5000)
        return bytes + 1;
    uint64_t next = bytes + bytes / 61 + 1, power = 4096;
    while (power <= bytes + 17)
        power *= 2;
    for (uint64_t near = power - 17; near <= power + 1; near++)
        if (near > bytes && near < next)
            return near;
    return next;
}

static void
every_size_comes_and_goes(void)
{
    a = check_arena();
    for (uint64_t bytes = 1; bytes <= (uint64_t)9 << 20; bytes = next_size(bytes)) {
        fmp_ref ref = get(bytes);
        void *p = fmp_heap_at(a, ref);
        check_fill(p, bytes, (uint32_t)bytes);
        CHECK(check_filled(p, bytes, (uint32_t)bytes));
        CHECK_EQ(check_blocks(), 1);
        fmp_heap_free(a, ref);
    }
    CHECK_EQ(check_blocks(), 0);
}

static void
zero_bytes_are_a_block(void)
{
    a = check_arena();
    fmp_ref one = get(0), two = get(0);
    CHECK(one.off != two.off);
    fmp_heap_free(a, one);
    fmp_heap_free(a, two);
}

static void
the_last_freed_is_the_next(void)
{
    a = check_arena();
    static const uint64_t sizes[] = {10, 1000, 70000, (uint64_t)3 << 20};
    for (unsigned i = 0; i < 4; i++) {
        fmp_ref x = get(sizes[i]), y = get(sizes[i]), z = get(sizes[i]);
        fmp_heap_free(a, x);
        fmp_heap_free(a, z);
        fmp_heap_free(a, y);
        CHECK_EQ(get(sizes[i]).off, y.off);
        CHECK_EQ(get(sizes[i]).off, z.off);
        CHECK_EQ(get(sizes[i]).off, x.off);
    }
}

static void
zeroed_means_zeroed(void)
{
    a = check_arena();
    static const uint64_t sizes[] = {100, 100000, (uint64_t)5 << 20, (uint64_t)20 << 20};
    for (unsigned i = 0; i < 4; i++) {
        fmp_ref ref = get(sizes[i]);
        memset(fmp_heap_at(a, ref), 255, sizes[i]);
        fmp_heap_free(a, ref);
        void *p;
        CHECK_EQ(fmp_heap_alloc_zeroed(a, sizes[i], &ref, &p), 0);
        for (uint64_t k = 0; k < sizes[i]; k++)
            CHECK(((char *)p)[k] == 0);
        fmp_heap_free(a, ref);
    }
}

static void
extents_take_whole_windows(void)
{
    a = check_arena();
    const uint64_t window = FMP_WINDOW_BYTES;
    fmp_ref one = get(FMP_BLOCK_MOST), three = get(2 * window + 1), two = get(2 * window - HEAD);
    CHECK(one.off & three.off & two.off & FMP_REF_EXTENT);
    CHECK_EQ(fmp_heap_room(a, one), window - HEAD);
    CHECK_EQ(fmp_heap_room(a, three), 3 * window - HEAD);
    CHECK_EQ(fmp_heap_room(a, two), 2 * window - HEAD);
    check_fill(fmp_heap_at(a, three), 3 * window - HEAD, 3);
    check_fill(fmp_heap_at(a, two), 2 * window - HEAD, 2);
    check_fill(fmp_heap_at(a, one), window - HEAD, 1);
    CHECK(check_filled(fmp_heap_at(a, three), 3 * window - HEAD, 3));
    CHECK(check_filled(fmp_heap_at(a, two), 2 * window - HEAD, 2));
    uint64_t blocks, bytes;
    fmp_heap_usage(a, &blocks, &bytes);
    CHECK_EQ(blocks, 3);
    CHECK_EQ(bytes, 6 * window);

    fmp_heap_free(a, three);
    fmp_ref again = get(window); /* the best fit is a part of it: two of its windows */
    CHECK_EQ(again.off, three.off);
    fmp_ref small = get(FMP_BLOCK_MOST);
    CHECK_EQ(small.off, three.off + 2 * window);
    CHECK(check_filled(fmp_heap_at(a, two), 2 * window - HEAD, 2));
    fmp_heap_free(a, again);
    fmp_heap_free(a, small);
    fmp_heap_free(a, one);
    CHECK(check_filled(fmp_heap_at(a, two), 2 * window - HEAD, 2));
    fmp_heap_free(a, two);
    CHECK_EQ(check_blocks(), 0);
    uint32_t top = fmp_heap_of(a)->top_window;
    fmp_ref all = get(6 * window - HEAD); /* what is free and adjoins is one again */
    CHECK_EQ(fmp_heap_of(a)->top_window, top);
    fmp_heap_free(a, all);
}

static void
too_much_is_refused(void)
{
    a = check_arena();
    fmp_ref ref;
    void *p;
    CHECK_EQ(fmp_heap_alloc(a, UINT64_MAX, &ref, &p), -ENOMEM);
    CHECK_EQ(fmp_heap_alloc(a, UINT64_MAX - 4096, &ref, &p), -ENOMEM);
    CHECK_EQ(fmp_heap_alloc(a, (uint64_t)a->window_count * FMP_WINDOW_BYTES, &ref, &p), -ENOMEM);
    CHECK_EQ(check_blocks(), 0);
}

/* ---- any order ------------------------------------------------------------------------------------- */

#define LIVE 400

static void
shuffle(void *arg)
{
    uint32_t random = (uint32_t)(uintptr_t)arg, seeds[LIVE] = {0};
    fmp_ref refs[LIVE] = {{0}};
    uint64_t sizes[LIVE] = {0};
    for (int i = 0; i < 12000; i++) {
        uint32_t k = check_random(&random) % LIVE;
        if (refs[k].off != 0) {
            CHECK(check_filled(fmp_heap_at(a, refs[k]), sizes[k], seeds[k]));
            fmp_heap_free(a, refs[k]);
            refs[k].off = 0;
            continue;
        }
        uint32_t kind = check_random(&random) % 200;
        sizes[k] = check_random(&random) % (kind == 0 ? 1 << 22 : kind < 10 ? 100000 : kind < 60 ? 5000 : 300);
        refs[k] = get(sizes[k]);
        seeds[k] = check_random(&random);
        check_fill(fmp_heap_at(a, refs[k]), sizes[k], seeds[k]);
    }
    for (uint32_t k = 0; k < LIVE; k++) {
        if (refs[k].off == 0)
            continue;
        CHECK(check_filled(fmp_heap_at(a, refs[k]), sizes[k], seeds[k]));
        fmp_heap_free(a, refs[k]);
    }
}

static void
blocks_never_overlap(void)
{
    a = check_arena();
    shuffle((void *)1);
    CHECK_EQ(check_blocks(), 0);
}

static void
threads_share_the_heap(void)
{
    for (int keeps = 0; keeps < 2; keeps++) {
        a = check_arena();
        fmp_heap_keep(a, keeps);
        pthread_t threads[4];
        check_threads(threads, 4, shuffle, (void *)10, 1);
        check_finish_all(threads, 4);
        CHECK_EQ(check_blocks(), 0);
    }
}

static void
processes_share_the_heap(void)
{
    for (int keeps = 0; keeps < 2; keeps++) {
        a = check_arena();
        fmp_heap_keep(a, keeps);
        pid_t pids[3];
        check_forks(pids, 3, shuffle, (void *)20, 1);
        shuffle((void *)30);
        check_join_all(pids, 3);
        CHECK_EQ(check_blocks(), 0);
    }
}

static _Atomic int growing;

static void
sweep_all_the_time(void *dead)
{
    while (fmp_peek(&growing))
        fmp_heap_sweep(a, (uint32_t)(uintptr_t)dead, NULL);
}

/* A sweep looks at units and windows without a lock, while others take more of them. */
static void
a_sweep_meets_growth(void)
{
    a = check_arena();
    fmp_ref refs[FMP_HEAP_CLASSES + 1];
    atomic_store_explicit(&growing, 1, memory_order_relaxed);
    pthread_t thread = check_thread(sweep_all_the_time, (void *)(uintptr_t)check_dead());
    for (uint32_t i = 0; i <= FMP_HEAP_CLASSES; i++) {
        refs[i] = get(i == 0 ? 1 : fmp_heap_room(a, refs[i - 1]) + 1); /* of the next class, and an extent in the end */
        sched_yield();
    }
    atomic_store_explicit(&growing, 0, memory_order_relaxed);
    check_finish(thread);
    CHECK_EQ(check_blocks(), FMP_HEAP_CLASSES + 1);
    for (uint32_t i = 0; i <= FMP_HEAP_CLASSES; i++)
        fmp_heap_free(a, refs[i]);
    CHECK_EQ(check_blocks(), 0);
}

static void
two_views_share_the_heap(void)
{
    a = check_arena();
    CHECK_EQ(fmp_arena_attach(&view, dup(a->memory.fd)), 0);
    view.self = a->self;
    static const uint64_t sizes[] = {50, 5000, 500000, (uint64_t)5 << 20, (uint64_t)40 << 20};
    for (unsigned i = 0; i < 5; i++) {
        fmp_ref ref = get(sizes[i]);
        check_fill(fmp_heap_at(a, ref), sizes[i], i);
        CHECK(fmp_heap_at(&view, ref) != fmp_heap_at(a, ref));
        CHECK(check_filled(fmp_heap_at(&view, ref), sizes[i], i));
        CHECK_EQ(fmp_heap_room(&view, ref), fmp_heap_room(a, ref));
        fmp_heap_free(&view, ref);
        void *p;
        fmp_ref again;
        CHECK_EQ(fmp_heap_alloc(&view, sizes[i], &again, &p), 0);
        CHECK(again.off == ref.off || (ref.off & FMP_REF_EXTENT));
        fmp_heap_free(a, again);
    }
    CHECK_EQ(check_blocks(), 0);
    fmp_arena_detach(&view);
}

/* Behave as if blocks that want pages now wanted them soon after others gave theirs back, or long after. */
static void
set_released(int soon)
{
    fmp_store(&fmp_heap_of(a)->released_at, soon ? fmp_clock() + 1000 * FMP_SECOND : 0);
}

static const uint64_t least = (uint64_t)32 << 20;

/* Much more than what is kept warm goes back to the system, and comes again. If that is soon, more is kept. */
static void
cold_blocks_get_warm_again(void)
{
    a = check_arena();
    fmp_heap *h = fmp_heap_of(a);
    enum { N = 40 };
    const uint64_t bytes = (uint64_t)3 << 20;
    fmp_ref refs[N];
    for (int round = 0; round < 3; round++) {
        set_released(round == 2);
        for (uint32_t i = 0; i < N; i++) {
            refs[i] = get(bytes);
            CHECK(!head_of(refs[i])->cold);
            check_fill(fmp_heap_at(a, refs[i]), bytes, i);
        }
        for (uint32_t i = 0; i < N; i++)
            CHECK(check_filled(fmp_heap_at(a, refs[i]), bytes, i));
        CHECK_EQ(h->warm, 0);
        int cold = 0;
        for (uint32_t i = 0; i < N; i++) {
            fmp_heap_free(a, refs[i]);
            cold += head_of(refs[i])->cold;
            CHECK(h->warm <= least + h->warm_more);
        }
        CHECK(round == 2 ? cold <= N / 4 : cold > N / 2);
        CHECK_EQ(h->warm, (uint64_t)(N - cold) * (fmp_heap_room(a, refs[0]) + HEAD));
    }
    CHECK_EQ(check_blocks(), 0);
}

/* The same for extents: their pages stay, are found again, and serve others. */
static void
extents_stay_warm(void)
{
    a = check_arena();
    fmp_heap *h = fmp_heap_of(a);
    const uint64_t window = FMP_WINDOW_BYTES, bytes = 4 * window;
    for (int round = 0; round < 3; round++) {
        set_released(round > 0);
        fmp_ref x = get(bytes);
        CHECK_EQ(h->warm, 0);
        check_fill(fmp_heap_at(a, x), bytes, 7);
        CHECK(check_filled(fmp_heap_at(a, x), bytes, 7));
        fmp_heap_free(a, x);
        CHECK_EQ(h->warm, round == 0 ? 0 : bytes + 4096);
    }
    fmp_ref part = get(2 * window - HEAD), rest = get(3 * window - HEAD); /* its first windows, and all others */
    CHECK_EQ(h->warm, 0);
    check_fill(fmp_heap_at(a, part), 2 * window - HEAD, 1);
    check_fill(fmp_heap_at(a, rest), 3 * window - HEAD, 2);
    CHECK(check_filled(fmp_heap_at(a, part), 2 * window - HEAD, 1));
    fmp_heap_free(a, part);
    CHECK_EQ(h->warm, 2 * window);
    fmp_ref small = get(window - HEAD); /* one of the two, and no cold one */
    CHECK_EQ(small.off, part.off);
    CHECK_EQ(h->warm, window);
    fmp_heap_free(a, rest);
    fmp_heap_free(a, small);
    CHECK_EQ(check_blocks(), 0);
}

/* Who waits gives back what nobody wanted for a while, but for a little. */
static void
what_is_idle_is_trimmed(void)
{
    a = check_arena();
    fmp_heap *h = fmp_heap_of(a);
    fmp_ref block = get((uint64_t)3 << 20), one = get((uint64_t)9 << 20), large = get((uint64_t)40 << 20);
    h->warm_more = (uint64_t)480 << 20;
    fmp_heap_free(a, block);
    fmp_heap_free(a, one);
    fmp_heap_free(a, large);
    uint64_t warm = h->warm;
    CHECK(warm > (uint64_t)52 << 20);
    fmp_store(&h->wanted_at, fmp_clock() + 1000 * FMP_SECOND);
    fmp_heap_idle(a);
    CHECK_EQ(h->warm, warm);
    fmp_store(&h->wanted_at, 0);
    fmp_heap_idle(a);
    CHECK(h->warm <= (uint64_t)16 << 20);
    h->warm += warm; /* somebody was killed while he counted */
    fmp_heap_idle(a);
    CHECK_EQ(h->warm, 0);
    block = get((uint64_t)3 << 20), large = get((uint64_t)40 << 20);
    check_fill(fmp_heap_at(a, block), (uint64_t)3 << 20, 3);
    check_fill(fmp_heap_at(a, large), (uint64_t)40 << 20, 4);
    CHECK(check_filled(fmp_heap_at(a, block), (uint64_t)3 << 20, 3));
    CHECK(check_filled(fmp_heap_at(a, large), (uint64_t)40 << 20, 4));
}

/* ---- the dead ----------------------------------------------------------------------------------------- */

static void
take_many(void *shared)
{
    static const uint64_t sizes[] = {1, 100, 3000, 70000, (uint64_t)3 << 20, (uint64_t)6 << 20, (uint64_t)20 << 20};
    for (int i = 0; i < 70; i++)
        get(sizes[i % (i < 14 ? 7 : 5)]);
    fmp_store((_Atomic uint32_t *)shared, 1);
    for (;;)
        pause();
}

static void
a_sweep_frees_what_the_dead_had(void)
{
    a = check_arena();
    fmp_ref mine[6] = {get(1), get(3000), get(70000), get((uint64_t)6 << 20), get(100), get(100)};
    fmp_heap_tag(a, mine[4], FMP_TAG_SHARED);
    _Atomic uint32_t *shared = check_shared(64);
    uint32_t id;
    pid_t pid = check_fork(take_many, shared, &id);
    UNTIL(fmp_load(shared));
    CHECK_EQ(check_blocks(), 76);
    check_slay(pid, id);
    fmp_heap_sweep(a, id, NULL);
    CHECK_EQ(check_blocks(), 6);
    CHECK_EQ(head_of(mine[4])->tag, FMP_TAG_SHARED);
    fmp_heap_sweep(a, id, NULL);
    CHECK_EQ(check_blocks(), 6);
    for (int i = 0; i < 6; i++)
        fmp_heap_free(a, mine[i]);
    CHECK_EQ(check_blocks(), 0);
    shuffle((void *)5);
}

static fmp_ref ended;

static void
end(fmp_arena *arena, fmp_ref ref)
{
    CHECK_EQ(head_of(ref)->tag, a->self);
    ended = ref;
    fmp_heap_mark(arena, ref, 0);
    fmp_heap_free(arena, ref);
}

/* H5, and a block that comes again has no mark. */
static void
what_is_marked_is_ended(void)
{
    a = check_arena();
    static const uint64_t sizes[] = {100, (uint64_t)40 << 20};
    uint32_t dead = check_dead();
    for (int i = 0; i < 2; i++) {
        fmp_ref marked = get(sizes[i]), plain = get(sizes[i]);
        fmp_heap_mark(a, marked, 1);
        fmp_heap_tag(a, marked, dead);
        fmp_heap_tag(a, plain, dead);
        ended = FMP_REF_NONE;
        fmp_heap_sweep(a, dead, end);
        CHECK_EQ(ended.off, marked.off);
        CHECK_EQ(check_blocks(), 0);
        fmp_ref again = get(sizes[i]);
        CHECK_EQ(head_of(again)->marked, 0);
        fmp_heap_free(a, again);
    }
}

static void
refs_have_a_short_form(void)
{
    static const uint64_t offs[] = {FMP_PLACE_FREE + 64 + HEAD, (FMP_WINDOW_BYTES * 7 + HEAD) | FMP_REF_EXTENT,
                                    FMP_WINDOW_COUNT * FMP_WINDOW_BYTES - 64 + HEAD};
    CHECK_EQ(fmp_heap_shorten(FMP_REF_NONE), 0);
    CHECK_EQ(fmp_heap_lengthen(0).off, 0);
    for (size_t i = 0; i < sizeof(offs) / sizeof(*offs); i++)
        CHECK_EQ(fmp_heap_lengthen(fmp_heap_shorten((fmp_ref){offs[i]})).off, offs[i]);
}

static void
one_of_those_who_clean_up_gets_it(void)
{
    a = check_arena();
    fmp_ref ref = get(100);
    uint32_t dead = check_dead();
    fmp_heap_tag(a, ref, dead);
    CHECK(!fmp_heap_retag(a, ref, a->self, FMP_TAG_SHARED));
    CHECK(fmp_heap_retag(a, ref, dead, a->self)); /* H1 */
    CHECK(!fmp_heap_retag(a, ref, dead, a->self));
    fmp_heap_sweep(a, dead, NULL);
    CHECK_EQ(check_blocks(), 1);
    fmp_heap_free(a, ref);
}

/* Everything on the class's list, and in its class, once. */
static uint32_t
list_length(fmp_size_class *c)
{
    uint32_t length = 0;
    for (uint64_t off = c->free; off != 0; length++) {
        fmp_block *b = fmp_arena_at(a, off);
        CHECK_EQ(b->tag, FMP_TAG_FREE);
        CHECK_EQ(b->size_class, c - fmp_heap_of(a)->classes);
        CHECK(length < 10000);
        off = b->next;
    }
    return length;
}

/* H2: each half-done step of taking a block off the list, and of putting it there. */
static void
a_moving_block_is_not_lost(void)
{
    for (int step = 0; step < 8; step++) {
        a = check_arena();
        fmp_ref x = get(100), y = get(100), z = get(100);
        fmp_size_class *c = class_of(x);
        fmp_block *b = head_of(y);
        uint64_t off = y.off - HEAD;
        uint32_t dead = check_dead();
        fmp_heap_free(a, z);
        if (step < 4) {
            fmp_heap_free(a, y); /* on the list; the victim takes it */
            c->moving = off;
            if (step >= 1)
                b->tag = dead;
            if (step >= 2)
                c->free = b->next;
            if (step >= 3)
                c->moving = 0;
        }
        else {
            b->tag = dead; /* the victim frees it */
            c->moving = off;
            if (step >= 5)
                b->tag = FMP_TAG_FREE;
            if (step >= 6)
                b->next = c->free;
            if (step >= 7)
                c->free = off;
        }
        atomic_store(&c->lock.owner, dead);
        fmp_heap_sweep(a, dead, NULL);
        fmp_ref another = get(100);
        fmp_heap_free(a, another);
        CHECK_EQ(c->moving, 0);
        CHECK_EQ(c->lock.owner, 0);
        CHECK_EQ(check_blocks(), 1);
        CHECK_EQ(list_length(c), 2);
        fmp_heap_free(a, x);
        CHECK_EQ(list_length(c), 3);
        CHECK_EQ(check_blocks(), 0);
    }
}

/* The repair dies too, half way. */
static void
a_repair_may_be_done_again(void)
{
    a = check_arena();
    fmp_ref x = get(100), y = get(100);
    fmp_size_class *c = class_of(x);
    uint32_t dead = check_dead();
    fmp_heap_free(a, x);
    head_of(y)->tag = dead;
    c->moving = y.off - HEAD;
    head_of(y)->next = c->free;
    c->free = y.off - HEAD;
    atomic_store(&c->lock.owner, dead);
    fmp_ref z = get(100);
    CHECK_EQ(z.off, y.off);
    CHECK_EQ(list_length(c), 1);
    CHECK_EQ(check_blocks(), 1);
}

/* H3: a fresh block whose head was written, but which wasn't taken. */
static void
fresh_blocks_do_not_count(void)
{
    a = check_arena();
    fmp_ref x = get(100);
    fmp_size_class *c = class_of(x);
    uint32_t dead = check_dead();
    ((fmp_block *)fmp_arena_at(a, c->fresh))->tag = dead;
    atomic_store(&c->lock.owner, dead);
    CHECK_EQ(check_blocks(), 1);
    fmp_heap_sweep(a, dead, NULL);
    CHECK_EQ(list_length(c), 0);
    fmp_ref y = get(100);
    CHECK_EQ(y.off, x.off + fmp_heap_room(a, x) + HEAD);
    CHECK_EQ(check_blocks(), 2);
}

/* A process dies between cutting units and giving them to the class: they are cut again. */
static void
units_cut_by_the_dead_are_passed_by(void)
{
    a = check_arena();
    fmp_heap *h = fmp_heap_of(a);
    _Atomic uint8_t *units = fmp_arena_place(a, FMP_PLACE_UNITS);
    get(100);
    uint64_t next = h->next_unit >> FMP_UNIT_SHIFT;
    h->next_unit += FMP_UNIT_BYTES; /* H6: its class wasn't noted, so nobody has it for another */
    atomic_store(&h->windows_lock.owner, check_dead());
    fmp_ref x = get(1000);
    CHECK_EQ(units[next], 0);
    CHECK_EQ(x.off >> FMP_UNIT_SHIFT, next + 1);
    CHECK(units[next + 1] == head_of(x)->size_class + 1);
    CHECK_EQ(check_blocks(), 2);
}

static void
a_half_freed_extent_is_freed(void)
{
    a = check_arena();
    fmp_ref x = get((uint64_t)40 << 20), y = get((uint64_t)5 << 20);
    uint32_t dead = check_dead();
    fmp_heap_tag(a, x, dead);
    head_of(x)->next = 0;
    CHECK_EQ(check_blocks(), 2);
    fmp_heap_sweep(a, dead, NULL);
    CHECK_EQ(check_blocks(), 1);
    fmp_heap_free(a, y);
    fmp_ref z = get((uint64_t)40 << 20);
    CHECK_EQ(z.off, x.off);
    check_fill(fmp_heap_at(a, z), (uint64_t)40 << 20, 1);
}

static void
churn(void *unused)
{
    (void)unused;
    uint32_t random = (uint32_t)getpid();
    fmp_ref refs[8] = {{0}};
    for (;;) {
        uint32_t k = check_random(&random) % 8;
        if (refs[k].off != 0) {
            fmp_heap_free(a, refs[k]);
            refs[k].off = 0;
        }
        else {
            refs[k] = get(check_random(&random) % 4 == 0 ? 70000 : check_random(&random) % 300);
        }
    }
}

/* H7 */
static void
what_is_kept_is_nobody_elses(void)
{
    enum { N = 2 * FMP_SPARE_MOST };
    fmp_ref refs[N];
    a = check_arena();
    fmp_heap_keep(a, 1);
    for (int i = 0; i < N; i++)
        refs[i] = get(100);
    fmp_size_class *c = class_of(refs[0]);
    CHECK_EQ(check_blocks(), N);
    for (int i = 0; i < FMP_SPARE_MOST; i++)
        fmp_heap_free(a, refs[i]);
    CHECK_EQ(list_length(c), 0);
    CHECK_EQ(check_blocks(), N - FMP_SPARE_MOST);
    CHECK_EQ(get(100).off, refs[FMP_SPARE_MOST - 1].off); /* the warmest */
    CHECK_EQ(check_blocks(), N - FMP_SPARE_MOST + 1);
    for (int i = FMP_SPARE_MOST - 1; i < N; i++)
        fmp_heap_free(a, refs[i]);
    CHECK_EQ(check_blocks(), 0);
    CHECK_EQ(list_length(c), FMP_SPARE_MOST); /* of the older ones half of them, twice */
    for (int i = 0; i < FMP_SPARE_MOST; i++)
        CHECK(get(100).off >= refs[FMP_SPARE_MOST].off);
    CHECK_EQ(list_length(c), FMP_SPARE_MOST);
    get(100);
    CHECK_EQ(list_length(c), FMP_SPARE_MOST / 2); /* several were fetched */
    CHECK_EQ(check_blocks(), FMP_SPARE_MOST + 1);
    fmp_heap_keep(a, 0);
    CHECK_EQ(list_length(c), FMP_SPARE_MOST - 1);
    fmp_heap_free(a, get(100));
    CHECK_EQ(list_length(c), FMP_SPARE_MOST - 1);
}

static void
take_one(void *kept)
{
    fmp_ref ref = get(100);
    CHECK(ref.off != ((fmp_ref *)kept)->off);
    fmp_heap_free(a, ref);
    fmp_store((_Atomic uint64_t *)((fmp_ref *)kept + 1), ref.off);
    for (;;)
        pause();
}

/* A child has none of its parent's, and what it had is swept when it is killed. */
static void
what_is_kept_is_not_inherited(void)
{
    a = check_arena();
    fmp_heap_keep(a, 1);
    fmp_ref *kept = check_shared(2 * sizeof(*kept));
    *kept = get(100);
    fmp_heap_free(a, *kept);
    uint32_t id;
    pid_t pid = check_fork(take_one, kept, &id);
    UNTIL(fmp_load((_Atomic uint64_t *)(kept + 1)) != 0);
    CHECK_EQ(check_blocks(), 0);
    CHECK_EQ(head_of(kept[1])->tag, id);
    CHECK_EQ(head_of(kept[0])->tag, a->self);
    check_slay(pid, id);
    fmp_heap_keep(a, 0);
    fmp_heap_sweep(a, id, NULL);
    CHECK_EQ(list_length(class_of(*kept)), 2);
    CHECK_EQ(check_blocks(), 0);
}

/* Other threads go on meanwhile, and nothing is kept any more. */
static void
what_is_kept_is_given_back_under_way(void)
{
    a = check_arena();
    pthread_t threads[3];
    fmp_heap_keep(a, 1);
    check_threads(threads, 3, shuffle, (void *)40, 1);
    for (int i = 0; i < 200; i++)
        fmp_heap_keep(a, i % 2);
    fmp_heap_keep(a, 0);
    check_finish_all(threads, 3);
    for (unsigned i = 0; i < FMP_SPARE_SIZES; i++)
        CHECK_EQ(a->spare[i].count, 0);
    CHECK_EQ(check_blocks(), 0);
}

static void
outlaws_keep_nothing(void)
{
    a = check_arena();
    fmp_heap_keep(a, 1);
    uint32_t self = a->self;
    fmp_owner_outlaw(a);
    fmp_ref ref = get(100);
    fmp_heap_free(a, ref);
    CHECK_EQ(head_of(ref)->tag, FMP_TAG_FREE);
    a->self = self;
}

static void
kill_at_any_moment(int keeps)
{
    a = check_arena();
    fmp_heap_keep(a, keeps);
    uint32_t random = 3;
    for (int i = 0; i < 200; i++) {
        uint32_t id;
        pid_t pid = check_fork_doomed(churn, NULL, &id, &random, 300000);
        check_reap(pid, id);
        fmp_heap_sweep(a, id, NULL);
        fmp_owner_recycle(a, id);
        CHECK_EQ(check_blocks(), 0);
    }
    for (unsigned i = 0; i < FMP_HEAP_CLASSES; i++)
        list_length(&fmp_heap_of(a)->classes[i]);
    shuffle((void *)9);
    CHECK_EQ(check_blocks(), 0);
}

static void
killed_at_any_moment(void)
{
    kill_at_any_moment(0);
    kill_at_any_moment(1);
}

/* A program that becomes a daemon closes all descriptors, and others come under their numbers. */
static void
the_descriptor_is_gone(void)
{
    static const uint64_t sizes[] = {10, 5000, 200000, (uint64_t)3 << 20, (uint64_t)5 << 20, (uint64_t)40 << 20};
    enum { N = sizeof(sizes) / sizeof(*sizes) };
    a = check_arena();
    char name[] = "/tmp/test_heap.XXXXXX";
    int other = mkstemp(name), old = a->memory.fd;
    CHECK(other >= 0 && unlink(name) == 0);
    for (int same_number = 0; same_number < 2; same_number++) {
        if (same_number)
            CHECK_EQ(dup2(other, old), old);
        else
            CHECK_EQ(close(old), 0);
        CHECK_EQ(fmp_memory_descriptor(&a->memory), -EBADF);
        for (int round = 0; round < 3; round++) {
            fmp_ref refs[N];
            void *at[N];
            for (uint32_t i = 0; i < N; i++) {
                CHECK_EQ(fmp_heap_alloc(a, sizes[i], &refs[i], &at[i]), 0);
                check_fill(at[i], sizes[i], i);
            }
            for (uint32_t i = 0; i < N; i++) {
                CHECK(check_filled(at[i], sizes[i], i));
                fmp_heap_free(a, refs[i]);
            }
        }
        CHECK_EQ(check_blocks(), 0);
    }
    CHECK_EQ(lseek(other, 0, SEEK_END), 0); /* it wasn't touched */
    close(other);
    close(old);
}

CHECK_MAIN(TEST(each_size_has_its_class), TEST(every_size_comes_and_goes), TEST(zero_bytes_are_a_block),
           TEST(the_last_freed_is_the_next), TEST(zeroed_means_zeroed), TEST(extents_take_whole_windows),
           TEST(too_much_is_refused), TEST(blocks_never_overlap), TEST(threads_share_the_heap),
           TEST(processes_share_the_heap), TEST(a_sweep_meets_growth), TEST(two_views_share_the_heap),
           TEST(cold_blocks_get_warm_again), TEST(extents_stay_warm), TEST(what_is_idle_is_trimmed),
           TEST(a_sweep_frees_what_the_dead_had), TEST(what_is_marked_is_ended),
           TEST(refs_have_a_short_form), TEST(one_of_those_who_clean_up_gets_it),
           TEST(a_moving_block_is_not_lost), TEST(a_repair_may_be_done_again), TEST(fresh_blocks_do_not_count),
           TEST(units_cut_by_the_dead_are_passed_by), TEST(a_half_freed_extent_is_freed), TEST(killed_at_any_moment),
           TEST(what_is_kept_is_nobody_elses), TEST(what_is_kept_is_not_inherited),
           TEST(what_is_kept_is_given_back_under_way), TEST(outlaws_keep_nothing),
           TEST(the_descriptor_is_gone))
