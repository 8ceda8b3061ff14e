/* Users of a queue are killed at every change that they make. */
#include "stepper.h"

#include <errno.h>

#include "core/queue.h"

enum { SHORT = 40, LONG = 5000, EXTENT = 5 << 20, ROOM = 100 };
enum { HIS = 50, LAST = 100 }; /* numbers of messages: 1.. lay there, his are HIS + 1.., then comes LAST */

static fmp_arena *a;
static fmp_queue *q;
static fmp_object *thing;          /* what messages carry */
static fmp_receipt *receipt;       /* of the victim */
static fmp_ref receipt_ref;
static uint64_t base;              /* blocks in use while the queue is empty */

static struct plan {
    uint64_t size;                 /* of all messages */
    uint32_t cargo;                /* 2 at the most */
    uint64_t most, most_bytes;
    uint32_t before;               /* messages that were there before the victim came */
    uint32_t taken, pushed;        /* by the victim, if he comes to his end */
    uint32_t with_receipt;
} plan;

/* ---- everybody ------------------------------------------------------------------------------------- */

static void
prepare(uint32_t number, fmp_parcel *p)
{
    fmp_ref cargo;
    CHECK_EQ(fmp_object_ship(a, (fmp_object *[]){thing, thing}, plan.cargo, &cargo), 0);
    CHECK_EQ(fmp_queue_prepare(a, plan.size, cargo, number, p), 0);
    *(uint32_t *)p->data = number;
}

static void
push(uint32_t number)
{
    fmp_parcel p;
    uint64_t place;
    prepare(number, &p);
    CHECK_EQ(WAIT(FMP_FOREVER, fmp_queue_push(a, q, &p, &w, &place)), 0);
}

static uint32_t
number_of(fmp_message *m)
{
    CHECK_EQ(*(const uint32_t *)m->data, m->kind);
    CHECK_EQ(m->bytes, plan.size);
    CHECK_EQ(m->cargo.off == 0 ? 0 : ((fmp_cargo *)fmp_heap_at(a, m->cargo))->count, plan.cargo);
    return m->kind;
}

/* The number of the next message, which is whole; 0 if there is none. */
static uint32_t
take(fmp_time until, fmp_ref said)
{
    fmp_message m;
    int rc = WAIT(until, fmp_queue_take(a, q, &w, said, &m));
    if (rc == FMP_TIMEOUT)
        return 0;
    CHECK_EQ(rc, 0);
    uint32_t number = number_of(&m);
    fmp_message_done(a, &m);
    return number;
}

static uint32_t
take_now(void)
{
    return take(FMP_NOW, FMP_REF_NONE);
}

/* ---- before, and after ------------------------------------------------------------------------------- */

static void
begin(void)
{
    fmp_object *o;
    a = check_used_arena();
    CHECK_EQ(fmp_object_create(a, FMP_PLAIN, 8, &thing), 0);
    CHECK_EQ(fmp_object_create(a, FMP_PLAIN, sizeof(fmp_receipt), &o), 0);
    receipt = fmp_object_body(o);
    receipt_ref = (fmp_ref){o->self.off + sizeof(fmp_object)};
    CHECK_EQ(fmp_object_create(a, FMP_QUEUE, sizeof(fmp_queue), &o), 0);
    q = fmp_object_body(o);
    CHECK_EQ(fmp_queue_init(a, q, plan.most, plan.most_bytes), 0);
    base = check_blocks();
    for (uint32_t i = 1; i <= plan.before; i++)
        push(i);
}

/* Q6: the receipt tells of the message that he took last, exactly. */
static void
check_receipt(uint32_t first)
{
    fmp_queue_settle(a, q);
    uint64_t last = receipt->number;
    CHECK(last <= fmp_load(&q->taken));
    if (plan.with_receipt)
        CHECK_EQ(first, last + 1);
    CHECK(last == 0 || (uint32_t)receipt->words[0] == last); /* how the contents begin */
}

/* Messages as they come: those before the victim in order, but for what he took off the front; his own, all or
 * none; ours. The first one's number. */
static uint32_t
check_order(int finished)
{
    uint32_t got = take_now(), first = got, expected = first;
    if (first > plan.before)
        first = expected = plan.before + 1;
    CHECK(first <= plan.taken + 1);
    CHECK(!finished || first == plan.taken + 1);
    for (; expected <= plan.before; expected++, got = take_now())
        CHECK_EQ(got, expected);
    CHECK(!finished || plan.pushed == 0 || got == HIS + 1);
    for (uint32_t i = 1; i <= plan.pushed && got != LAST; i++, got = take_now())
        CHECK_EQ(got, HIS + i);
    CHECK_EQ(got, LAST);
    CHECK_EQ(take_now(), 0);
    return first;
}

/* The survivors put one message behind, and find what there should be; then nothing is left of the dead. */
static void
check(int finished)
{
    q->most = q->most_bytes = 0;
    push(LAST);
    CHECK(fmp_queue_size(q) >= plan.before + 1 - plan.taken);
    check_receipt(check_order(finished));
    CHECK_EQ(fmp_queue_size(q), 0);
    CHECK_EQ(q->pushed_bytes, q->taken_bytes);
    fmp_object_sweep(a);
    CHECK_EQ(check_blocks(), base);
    CHECK_EQ(thing->in_flight, 0);
    push(7);
    CHECK_EQ(fmp_queue_size(q), 1);
    CHECK_EQ(take_now(), 7);
}

#define BEGIN(name, ...)                   \
    static void begin_##name(void)         \
    {                                      \
        plan = (struct plan){__VA_ARGS__}; \
        begin();                           \
    }

/* ---- pushing --------------------------------------------------------------------------------------- */

static void
act_push(void *unused)
{
    (void)unused;
    push(HIS + 1);
}

BEGIN(push_short, .size = SHORT, .before = 2, .pushed = 1)
BEGIN(push_long, .size = LONG, .before = 2, .pushed = 1)
BEGIN(push_extent, .size = EXTENT, .before = 1, .pushed = 1)
BEGIN(push_cargo, .size = SHORT, .cargo = 2, .before = 1, .pushed = 1)
BEGIN(push_cargo_long, .size = LONG, .cargo = 1, .before = 1, .pushed = 1)

static void
act_push_many(void *unused)
{
    (void)unused;
    fmp_parcel p;
    fmp_convoy c = {.count = 0};
    fmp_waiter w = FMP_WAITER(FMP_FOREVER);
    for (uint32_t i = 1; i <= plan.pushed; i++) {
        prepare(HIS + i, &p);
        fmp_convoy_add(a, &c, &p);
    }
    CHECK_EQ(fmp_queue_push_many(a, q, &c, &w), 0);
}

BEGIN(push_many, .size = LONG, .before = 2, .pushed = 3)

/* ---- behind a tail that can't be mapped --------------------------------------------------------------- */

/* He has no more of the memory than he needs for his own messages. */
static void
launch_far(void)
{
    enum { MOST = FMP_UNIT_BYTES / SHORT };
    static fmp_parcel p[MOST];
    uint32_t n = 0, windows = fmp_heap_of(a)->top_window;
    fmp_heap_of(a)->next_unit = 0;
    while (fmp_heap_of(a)->top_window == windows && n < MOST)
        prepare(1, &p[n++]);
    CHECK(n > 2 && n < MOST);
    uint64_t number;
    CHECK_EQ(WAIT(FMP_FOREVER, fmp_queue_push(a, q, &p[--n], &w, &number)), 0);
    while (n > 0)
        fmp_queue_discard(a, &p[--n]);
}

static void
act_push_far(void *unused)
{
    (void)unused;
    fmp_parcel p;
    uint64_t place;
    prepare(HIS + 1, &p);
    CHECK_EQ(WAIT(FMP_FOREVER, fmp_queue_push(a, q, &p, &w, &place)), -ENOMEM);
    fmp_queue_discard(a, &p);
}

static void
act_push_many_far(void *unused)
{
    (void)unused;
    fmp_parcel p;
    fmp_convoy c = {.count = 0};
    fmp_waiter w = FMP_WAITER(FMP_FOREVER);
    for (uint32_t i = 1; i <= 2; i++) {
        prepare(HIS + i, &p);
        fmp_convoy_add(a, &c, &p);
    }
    CHECK_EQ(fmp_queue_push_many(a, q, &c, &w), -ENOMEM);
    CHECK_EQ(c.count, 2);
    fmp_convoy_discard(a, &c);
}

/* Who finishes what he began can map it; he himself took it back. */
static void
check_far(int finished)
{
    if (finished)
        plan.pushed = 0;
    check(finished);
}

static void
begin_push_far(void)
{
    plan = (struct plan){.size = SHORT, .pushed = 2};
    begin();
    push(1); /* so there are blocks for him that he can map */
    CHECK_EQ(take_now(), 1);
    base = check_blocks();
    plan.before = 1; /* which is not there yet */
}

/* ---- what is not sent ------------------------------------------------------------------------------- */

static void
act_discard(void *unused)
{
    (void)unused;
    fmp_parcel p;
    prepare(HIS + 1, &p);
    fmp_queue_discard(a, &p);
}

static void
act_discard_many(void *unused)
{
    (void)unused;
    fmp_parcel p;
    fmp_convoy c = {.count = 0};
    for (uint32_t i = 1; i <= 2; i++) {
        prepare(HIS + i, &p);
        fmp_convoy_add(a, &c, &p);
    }
    fmp_convoy_discard(a, &c);
}

BEGIN(discard, .size = SHORT, .cargo = 2, .before = 1)
BEGIN(discard_long, .size = LONG, .cargo = 1, .before = 1)
BEGIN(discard_many, .size = LONG, .cargo = 1, .before = 1)

/* ---- taking ---------------------------------------------------------------------------------------- */

static void
act_take(void *unused)
{
    (void)unused;
    CHECK_EQ(take(FMP_NOW, receipt_ref), 1);
}

BEGIN(take_short, .size = SHORT, .before = 2, .taken = 1, .with_receipt = 1)
BEGIN(take_long, .size = LONG, .before = 2, .taken = 1, .with_receipt = 1)
BEGIN(take_extent, .size = EXTENT, .before = 2, .taken = 1, .with_receipt = 1)
BEGIN(take_cargo, .size = SHORT, .cargo = 2, .before = 2, .taken = 1, .with_receipt = 1)
BEGIN(take_cargo_long, .size = LONG, .cargo = 2, .before = 2, .taken = 1, .with_receipt = 1)
BEGIN(take_last, .size = SHORT, .before = 1, .taken = 1, .with_receipt = 1)

static void
act_take_many(void *unused)
{
    (void)unused;
    fmp_batch b;
    fmp_message *m;
    fmp_waiter w = FMP_WAITER(FMP_NOW);
    CHECK_EQ(fmp_queue_take_many(a, q, &w, 3, &b), 0);
    for (uint32_t i = 1; (m = fmp_batch_next(a, &b)) != NULL; i++)
        CHECK_EQ(number_of(m), i);
}

BEGIN(take_many, .size = SHORT, .before = 4, .taken = 3)
BEGIN(take_many_long, .size = LONG, .cargo = 1, .before = 4, .taken = 3)

/* ---- sleeping ---------------------------------------------------------------------------------------- */

static void
act_take_one(void *unused)
{
    (void)unused;
    CHECK_EQ(take(FMP_FOREVER, FMP_REF_NONE), 1);
}

static void
act_poll(void *unused)
{
    (void)unused;
    CHECK_EQ(WAIT(FMP_FOREVER, fmp_queue_poll(a, q, &w)), 0);
}

BEGIN(empty, .size = SHORT, .taken = 1)
BEGIN(nothing, .size = SHORT)

static void
bring_one(void)
{
    if (plan.before++ == 0)
        push(1);
}

BEGIN(full, .size = SHORT, .most = 2, .before = 2, .pushed = 1)
BEGIN(full_of_bytes, .size = ROOM / 2, .most_bytes = ROOM, .before = 2, .pushed = 1)

static uint32_t made_room;

static void
begin_full_once(void)
{
    made_room = 0;
    begin_full();
}

static void
begin_full_of_bytes_once(void)
{
    made_room = 0;
    begin_full_of_bytes();
}

/* The tester takes the first, so for who looks later it is as if the victim had. */
static void
make_room(void)
{
    if (made_room++ == 0)
        CHECK_EQ(take_now(), 1);
}

static void
check_full(int finished)
{
    plan.taken = made_room > 0;
    if (plan.taken == 0)
        CHECK(!finished);
    q->most = q->most_bytes = 0;
    push(LAST);
    if (plan.taken)
        check_order(1 - (plan.pushed != 0 && !finished));
    else
        check_order(finished);
    fmp_object_sweep(a);
    CHECK_EQ(check_blocks(), base);
}

/* ---- who sleeps gets what a victim brought ------------------------------------------------------------- */

static pid_t waiter;

static void
take_his_or_ours(void *unused)
{
    (void)unused;
    uint32_t got = take(FMP_FOREVER, FMP_REF_NONE);
    CHECK(got == HIS + 1 || got == 1);
}

static void
launch_taker(void)
{
    waiter = check_fork(take_his_or_ours, NULL, NULL);
}

static void
act_push_to_sleeper(void *unused)
{
    (void)unused;
    UNTIL(ASLEEP(&q->items));
    push(HIS + 1);
}

/* Whoever waited got his; if it never arrived, ours. */
static void
check_sleeper(int finished)
{
    fmp_queue_settle(a, q);
    uint64_t arrived = q->pushed;
    CHECK(!finished || arrived == 1);
    if (arrived == 0)
        push(1);
    check_join(waiter);
    plan.pushed = 0;
    check(0);
}

static void
push_at_last(void *unused)
{
    (void)unused;
    push(LAST - 1);
}

static void
launch_pusher(void)
{
    waiter = check_fork(push_at_last, NULL, NULL);
}

static void
act_take_from_full(void *unused)
{
    (void)unused;
    UNTIL(ASLEEP(&q->space));
    CHECK_EQ(take(FMP_NOW, FMP_REF_NONE), 1);
}

/* Who waited for room has it, his or ours. */
static void
check_pusher(int finished)
{
    uint32_t first = take_now();
    CHECK(first == 1 || first == 2);
    CHECK(!finished || first == 2);
    if (first == 1)
        CHECK_EQ(take_now(), 2);
    check_join(waiter);
    CHECK_EQ(take_now(), LAST - 1);
    plan.before = plan.pushed = plan.taken = 0;
    check(0);
}

BEGIN(full_for_us, .size = SHORT, .most = 2, .before = 2)

/* ---- with a descriptor ---------------------------------------------------------------------------------- */

/* The table of those who listen stays with the queue: it is there before. */
static void
begin_listen(void)
{
    fmp_ear ear = {0};
    plan = (struct plan){.size = SHORT, .before = 1, .taken = 1};
    begin();
    CHECK_EQ(fmp_queue_listen(a, q, &ear), 0);
    fmp_bell_leave(a, &q->bell, &ear);
    base++;
}

static void
act_listen(void *unused)
{
    (void)unused;
    fmp_ear ear = {0};
    CHECK_EQ(fmp_queue_listen(a, q, &ear), 0);
    CHECK_EQ(fmp_fd_wait_readable(ear.fd, FMP_NOW), 0);
    CHECK_EQ(take_now(), 1);
    fmp_queue_calm(a, q, &ear);
    CHECK(fmp_fd_wait_readable(ear.fd, FMP_NOW) != 0);
}

/* ---- tasks -------------------------------------------------------------------------------------------- */

static void
act_tasks(void *unused)
{
    (void)unused;
    CHECK_EQ(fmp_queue_task_done(q), 0);
    CHECK_EQ(fmp_queue_task_done(q), 0);
    CHECK_EQ(fmp_queue_task_done(q), FMP_FULL);
}

BEGIN(tasks, .size = SHORT, .before = 2)

static int
join(fmp_time until)
{
    return WAIT(until, fmp_queue_join(a, q, &w));
}

static void
act_join(void *unused)
{
    (void)unused;
    CHECK_EQ(join(FMP_FOREVER), 0);
}

static void
end_tasks(void)
{
    while (fmp_queue_task_done(q) == 0)
        ;
}

static void
launch_joiner(void)
{
    waiter = check_fork(act_join, NULL, NULL);
}

static void
act_tasks_joined(void *unused)
{
    UNTIL(ASLEEP(&q->idle));
    act_tasks(unused);
}

/* As many are unfinished as he did not finish, and the joiner learns of the last. */
static void
check_tasks(int finished)
{
    uint64_t open = q->pushed - q->done;
    CHECK(open <= 2);
    CHECK(!finished || open == 0);
    CHECK_EQ(join(FMP_NOW), open == 0 ? 0 : FMP_TIMEOUT);
    for (; open > 0; open--)
        CHECK_EQ(fmp_queue_task_done(q), 0);
    CHECK_EQ(fmp_queue_task_done(q), FMP_FULL);
    CHECK_EQ(join(FMP_NOW), 0);
    check(0);
}

static void
check_joined(int finished)
{
    uint64_t open = q->pushed - q->done;
    CHECK(!finished || open == 0);
    end_tasks();
    check_join(waiter);
    check(0);
}

static void
check_joiner(int finished)
{
    (void)finished;
    end_tasks();
    check_tasks(0);
}

/* ---- an heir who uses it ------------------------------------------------------------------------------ */

enum { HEIRS = HIS + 9 };

static void
use(void *unused)
{
    (void)unused;
    take_now();
    push(HEIRS);
}

/* One message is lost for each of them at the most; the rest is in order, and nothing comes twice. */
static void
check_used(int finished)
{
    uint32_t lost = plan.before, last = 0, got;
    (void)finished;
    q->most = 0;
    push(LAST);
    for (; (got = take_now()) != LAST; last = got) {
        CHECK(got > last);
        CHECK(got <= plan.before || got == HIS + 1 || got == HEIRS);
        lost -= got <= plan.before;
    }
    CHECK(lost <= plan.taken + 1);
    CHECK_EQ(take_now(), 0);
    fmp_object_sweep(a);
    CHECK_EQ(check_blocks(), base);
}

#define SCENARIO(how, what, ...) \
    {.name = #how, .begin = begin_##how, .act = act_##what, .check = check, .heir = __VA_ARGS__}

STEP_MAIN(SCENARIO(push_short, push, step_sweep), SCENARIO(push_long, push, step_sweep),
          SCENARIO(push_extent, push, NULL), SCENARIO(push_cargo, push, step_sweep),
          SCENARIO(push_cargo_long, push, step_sweep), SCENARIO(push_many, push_many, step_sweep),
          {.name = "push_far", .begin = begin_push_far, .launched = launch_far, .act = act_push_far, .poor = 1,
           .check = check_far},
          {.name = "push_many_far", .begin = begin_push_far, .launched = launch_far, .act = act_push_many_far,
           .poor = 1, .check = check_far},
          SCENARIO(discard, discard, step_sweep), SCENARIO(discard_long, discard, step_sweep),
          SCENARIO(discard_many, discard_many, step_sweep), SCENARIO(take_short, take, step_sweep),
          SCENARIO(take_long, take, step_sweep), SCENARIO(take_extent, take, NULL),
          SCENARIO(take_cargo, take, step_sweep), SCENARIO(take_cargo_long, take, step_sweep),
          SCENARIO(take_last, take, step_sweep), SCENARIO(take_many, take_many, step_sweep),
          SCENARIO(take_many_long, take_many, step_sweep),
          SCENARIO(empty, take_one, NULL, .nudge = bring_one), SCENARIO(nothing, poll, NULL, .nudge = bring_one),
          SCENARIO(listen, listen, step_sweep),
          {.name = "push_asleep", .begin = begin_full_once, .act = act_push, .nudge = make_room,
           .check = check_full},
          {.name = "push_bytes_asleep", .begin = begin_full_of_bytes_once, .act = act_push, .nudge = make_room,
           .check = check_full},
          {.name = "push_to_sleeper", .begin = begin_nothing, .launched = launch_taker,
           .act = act_push_to_sleeper, .check = check_sleeper},
          {.name = "take_from_full", .begin = begin_full_for_us, .launched = launch_pusher,
           .act = act_take_from_full, .check = check_pusher},
          {.name = "tasks", .begin = begin_tasks, .act = act_tasks, .check = check_tasks},
          {.name = "join_asleep", .begin = begin_tasks, .act = act_join, .nudge = end_tasks,
           .check = check_joiner},
          {.name = "tasks_joined", .begin = begin_tasks, .launched = launch_joiner, .act = act_tasks_joined,
           .check = check_joined},
          {.name = "push_used", .begin = begin_push_short, .act = act_push, .heir = use, .check = check_used},
          {.name = "take_used", .begin = begin_take_short, .act = act_take, .heir = use, .check = check_used})
