/* Children that are forked hold what their parent held. */
#include "test_object.h"

#include <sys/wait.h>

struct stage {
    _Atomic int now;
    fmp_object *object;
};

static void
reach(struct stage *s, int now)
{
    fmp_store(&s->now, now);
}

static void
drop_when_told(void *arg)
{
    struct stage *s = arg;
    CHECK_EQ(a->handles[s->object->index], 1);
    CHECK(held_by(a->self, s->object));
    reach(s, 1);
    UNTIL(fmp_load(&s->now) == 2);
    CHECK(check_filled(fmp_object_body(s->object), 100, 4));
    fmp_object_drop(a, s->object);
    reach(s, 3);
    UNTIL(fmp_load(&s->now) == 4);
}

static void
a_child_holds_what_its_parent_held(void)
{
    a = check_arena();
    struct stage *s = check_shared(sizeof(*s));
    s->object = create(FMP_PLAIN, 100);
    check_fill(fmp_object_body(s->object), 100, 4);
    uint32_t id;
    pid_t pid = check_fork(drop_when_told, s, &id);
    CHECK(id != 0);
    CHECK(held_by(id, s->object)); /* even before it ran */
    UNTIL(fmp_load(&s->now) == 1);
    fmp_object *object = s->object;
    fmp_object_drop(a, object);
    CHECK_EQ(fmp_object_count(a), 1);
    CHECK(!held_by(a->self, object));
    reach(s, 2);
    UNTIL(fmp_load(&s->now) == 3);
    CHECK_EQ(fmp_object_count(a), 0); /* the last holder's drop */
    CHECK_EQ(check_blocks(), 0);
    reach(s, 4);
    check_join(pid);
}

static void
make_some_and_wait(void *arg)
{
    struct stage *s = arg;
    for (int i = 0; i < 10; i++)
        create(FMP_PLAIN, 50);
    fmp_object *queue = create(FMP_QUEUE, sizeof(fmp_queue));
    CHECK_EQ(fmp_queue_init(a, fmp_object_body(queue), 0, 0), 0);
    fmp_ref ref;
    void *p;
    CHECK_EQ(fmp_heap_alloc(a, 10000, &ref, &p), 0);
    reach(s, 1);
    for (;;)
        pause();
}

static void
what_a_killed_child_held_is_destroyed(void)
{
    a = check_arena();
    struct stage *s = check_shared(sizeof(*s));
    fmp_object *mine = create(FMP_PLAIN, 100);
    uint32_t id;
    pid_t pid = check_fork(make_some_and_wait, s, &id);
    UNTIL(fmp_load(&s->now) == 1);
    CHECK_EQ(fmp_object_count(a), 12);
    check_slay(pid, id);
    CHECK(held_by(id, mine));
    fmp_object_sweep(a);
    CHECK(!held_by(id, mine));
    CHECK(held_by(a->self, mine));
    CHECK_EQ(fmp_object_count(a), 1);
    CHECK_EQ(check_blocks(), 1);
    CHECK_EQ(fmp_owner_count(a), 1); /* O2: only now its slot is free */
    fmp_object_drop(a, mine);
    CHECK_EQ(check_blocks(), 0);
}

static void
make_one_and_wait(void *arg)
{
    struct stage *s = arg;
    s->object = create(FMP_PLAIN, 50);
    reach(s, 1);
    for (;;)
        pause();
}

/* Who is killed may have had a child meanwhile, whose row was passed by before. */
static void
what_a_killed_process_held_is_there_until_it_is_swept(void)
{
    a = check_arena();
    struct stage *s = check_shared(sizeof(*s));
    uint32_t id;
    pid_t pid = check_fork(make_one_and_wait, s, &id);
    UNTIL(fmp_load(&s->now) == 1);
    check_slay(pid, id);
    atomic_store(&fmp_owner_table_of(a)->gone, 0); /* nobody sweeps yet */
    fmp_object *o;
    CHECK_EQ(fmp_object_attach(a, fmp_object_ticket(s->object), &o), 0);
    fmp_object_drop(a, o);
    CHECK_EQ(fmp_object_count(a), 1);
    atomic_store(&fmp_owner_table_of(a)->gone, 1);
    fmp_object_sweep(a);
    CHECK_EQ(fmp_object_count(a), 0);
    CHECK_EQ(check_blocks(), 0);
}

static void
die_at_once(void *unused)
{
    (void)unused;
}

static void
the_last_holder_may_be_dead(void)
{
    a = check_arena();
    fmp_object *o = create(FMP_PLAIN, 100);
    uint32_t id;
    check_join(check_fork(die_at_once, NULL, &id));
    fmp_object_drop(a, o); /* nobody knows that the child is dead */
    CHECK_EQ(fmp_object_count(a), 1);
    fmp_owner_survey(a);
    fmp_object_sweep(a);
    CHECK_EQ(fmp_object_count(a), 0);
    CHECK_EQ(check_blocks(), 0);
}

static void
fork_a_child(void *arg)
{
    struct stage *s = arg;
    uint32_t id;
    pid_t pid = check_fork(die_at_once, NULL, &id);
    CHECK(id != 0 && id != a->self);
    check_join(pid);
    CHECK(fmp_owner_bury(a, id));
    CHECK(held_by(a->self, s->object));
    fmp_object_drop(a, s->object);
    fmp_object_sweep(a);
}

static void
grandchildren_hold_as_well(void)
{
    a = check_arena();
    struct stage *s = check_shared(sizeof(*s));
    s->object = create(FMP_PLAIN, 100);
    uint32_t id;
    check_join(check_fork(fork_a_child, s, &id));
    CHECK(fmp_owner_bury(a, id));
    fmp_object_sweep(a);
    CHECK_EQ(fmp_object_count(a), 1);
    fmp_object_drop(a, s->object);
    CHECK_EQ(check_blocks(), 0);
    CHECK_EQ(fmp_owner_count(a), 1);
}

static void
fork_many(void *arg)
{
    (void)arg;
    for (int i = 0; i < 15; i++) {
        uint32_t id;
        pid_t pid = check_fork(die_at_once, NULL, &id);
        CHECK(id != 0);
        check_join(pid);
        fmp_owner_bury(a, id);
    }
}

static void
threads_fork_while_objects_come_and_go(void)
{
    a = check_arena();
    pthread_t one = check_thread(come_and_go, NULL), two = check_thread(fork_many, NULL);
    fork_many(NULL);
    check_finish(one);
    check_finish(two);
    fmp_object_sweep(a);
    CHECK_EQ(fmp_object_count(a), 0);
    CHECK_EQ(check_blocks(), 0);
    CHECK_EQ(fmp_owner_count(a), 1);
}

static void
be_an_outlaw(void *arg)
{
    struct stage *s = arg;
    CHECK_EQ(a->self, FMP_OWNER_OUTLAW);
    fmp_object *none;
    CHECK(fmp_object_create(a, FMP_PLAIN, 10, &none) < 0);
    CHECK(check_filled(fmp_object_body(s->object), 100, 6));
    reach(s, 1);
    UNTIL(fmp_load(&s->now) == 2);
    fmp_object_drop(a, s->object); /* it is gone: its parent let go */
    check_join(check_fork(die_at_once, NULL, NULL));
}

/* A child for which there was no slot uses what others hold, and leaves no trace. */
static void
a_child_without_a_slot(void)
{
    a = check_arena();
    struct stage *s = check_shared(sizeof(*s));
    s->object = create(FMP_PLAIN, 100);
    check_fill(fmp_object_body(s->object), 100, 6);
    uint32_t ids[FMP_OWNER_SLOTS], count = 0, id;
    while (fmp_owner_reserve(a, &ids[count]) == 0)
        count++;
    pid_t pid = check_fork(be_an_outlaw, s, &id);
    CHECK_EQ(id, 0);
    UNTIL(fmp_load(&s->now) == 1);
    fmp_object *object = s->object;
    uint32_t index = object->index;
    fmp_object_drop(a, object);
    CHECK_EQ(fmp_object_count(a), 0);
    uint64_t entry = fmp_load(&table()->entries[index]);
    fmp_ref ref;
    void *another;
    CHECK_EQ(fmp_heap_alloc(a, sizeof(*object) + 100, &ref, &another), 0);
    CHECK(another == object);
    memset(another, 0xff, sizeof(*object) + 100);
    reach(s, 2);
    check_join(pid);
    fmp_heap_free(a, ref);
    CHECK_EQ(fmp_object_count(a), 0);
    CHECK_EQ(fmp_load(&table()->entries[index]), entry);
    while (count > 0)
        fmp_owner_bury(a, ids[--count]);
    fmp_object_sweep(a);
    CHECK_EQ(fmp_owner_count(a), 1);
    CHECK_EQ(check_blocks(), 0);
}

static _Atomic int stops;

static void
stop(void)
{
    if (atomic_exchange(&stops, 0))
        raise(SIGSTOP);
}

/* Before the core does: so it comes after the core's part of the preparation, and before the fork itself. */
__attribute__((constructor)) static void
stop_before_forks(void)
{
    pthread_atfork(stop, NULL, NULL);
}

static void
drop_at_once(void *arg)
{
    struct stage *s = arg;
    CHECK(a->self != FMP_OWNER_OUTLAW);
    CHECK(held_by(a->self, s->object));
    fmp_object_drop(a, s->object);
}

static void
fork_with_a_stop(void *arg)
{
    uint32_t id;
    stops = 1;
    pid_t pid = check_fork(drop_at_once, arg, &id);
    CHECK(id != 0);
    check_join(pid);
}

static void
make_old(void)
{
    for (uint32_t i = 0; i < FMP_OWNER_SLOTS; i++)
        fmp_owner_table_of(a)->slots[i].reserved_at -= 3600 * FMP_SECOND;
}

/* O3: whatever others do meanwhile, it has its child's slot yet when it goes on. */
static void
a_process_is_stopped_in_the_middle_of_a_fork(void)
{
    a = check_arena();
    struct stage *s = check_shared(sizeof(*s));
    int status;
    uint32_t id;
    s->object = create(FMP_PLAIN, 100);
    pid_t pid = check_fork(fork_with_a_stop, s, &id);
    CHECK_EQ(waitpid(pid, &status, WUNTRACED), pid);
    CHECK(WIFSTOPPED(status));
    fmp_object *object = s->object;
    fmp_object_drop(a, object);
    make_old();
    fmp_owner_survey(a);
    fmp_object_sweep(a);
    check_join(check_fork(die_at_once, NULL, &id)); /* would have the slot */
    CHECK_EQ(kill(pid, SIGCONT), 0);
    check_join(pid);
    check_only_this_one_is_left();
}

static void
a_full_table_is_surveyed(void)
{
    a = check_arena();
    uint32_t id;
    while (fmp_owner_reserve(a, &id) == 0)
        fmp_owner_forked(a, id);
    make_old(); /* none ever came */
    check_join(check_fork(die_at_once, NULL, &id));
    CHECK(id != 0);
    CHECK_EQ(fmp_owner_count(a), 2);
}

CHECK_MAIN(TEST(a_child_holds_what_its_parent_held), TEST(what_a_killed_child_held_is_destroyed),
           TEST(what_a_killed_process_held_is_there_until_it_is_swept), TEST(the_last_holder_may_be_dead),
           TEST(grandchildren_hold_as_well), TEST(threads_fork_while_objects_come_and_go),
           TEST(a_child_without_a_slot), TEST(a_process_is_stopped_in_the_middle_of_a_fork), TEST(a_full_table_is_surveyed))
