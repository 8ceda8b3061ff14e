/* Holders of objects are killed at every change that they make. */
#include "stepper.h"

#include <errno.h>
#include <sys/wait.h>

#include "core/board.h"
#include "core/cond.h"

static fmp_arena *a;
static fmp_object *mine;         /* the tester's, through it all */
static fmp_object *thing;        /* what the victim works at */
static uint64_t blocks, objects; /* when only what the tester keeps is there */
static uint32_t promised;

static struct shared {
    fmp_ticket ticket;
    fmp_ref cargo;
    _Atomic int ready;
} *shared;

static void
begin(void)
{
    if (shared == NULL)
        shared = check_shared(sizeof(*shared));
    *shared = (struct shared){.ready = 0};
    a = check_used_arena();
    CHECK_EQ(fmp_object_create(a, FMP_PLAIN, 8, &mine), 0);
    thing = mine;
    blocks = check_blocks();
    objects = fmp_object_count(a);
}

static uint64_t
holds(uint32_t id, const fmp_object *o)
{
    return *fmp_object_row_word(a, FMP_OWNER_SLOT(id), o->index) >> o->index % 64 & 1;
}

/* Promised and reserved slots of the dead end by themselves; their children, too. */
static void
let_all_end(void)
{
    fmp_owner_table *owners = fmp_owner_table_of(a);
    do {
        for (uint32_t i = 0; i < FMP_OWNER_SLOTS; i++)
            owners->slots[i].reserved_at -= 60 * FMP_SECOND;
        fmp_owner_survey(a);
        fmp_object_sweep(a);
    } while (fmp_owner_count(a) != 1);
}

/* Nothing is left of the dead; what the others hold is there; objects come and go as ever. */
static void
go_on(void)
{
    fmp_object *o, *again;
    fmp_object_sweep(a);
    let_all_end();
    CHECK_EQ(fmp_object_count(a), objects);
    CHECK_EQ(check_blocks(), blocks);
    CHECK(holds(a->self, mine));
    CHECK(!holds(step_victim(), mine));
    CHECK_EQ(mine->in_flight, 0);
    CHECK_EQ(fmp_object_create(a, FMP_PLAIN, 100, &o), 0);
    CHECK_EQ(fmp_object_create(a, FMP_PLAIN, 100, &again), 0);
    CHECK(o != again && o->index != again->index && o->serial != again->serial);
    CHECK_EQ(fmp_object_count(a), objects + 2);
    fmp_object_drop(a, o);
    fmp_object_drop(a, again);
    CHECK_EQ(fmp_object_count(a), objects);
    CHECK_EQ(check_blocks(), blocks);
}

static void
check(int finished)
{
    (void)finished;
    go_on();
}

/* ---- making and destroying ------------------------------------------------------------------------ */

static void
act_create(void *unused)
{
    (void)unused;
    fmp_object *o;
    CHECK_EQ(fmp_object_create(a, FMP_PLAIN, 8, &o), 0);
    fmp_object_hold(a, o);
    fmp_object_drop(a, o);
    fmp_object_drop(a, o);
    CHECK_EQ(fmp_object_create(a, FMP_PLAIN, 8, &o), 0);
}

/* What is made in the object after it is there. */
static void
act_create_queues(void *unused)
{
    (void)unused;
    fmp_object *o, *board;
    CHECK_EQ(fmp_object_create(a, FMP_QUEUE, sizeof(fmp_queue), &o), 0);
    CHECK_EQ(fmp_queue_init(a, fmp_object_body(o), 0, 0), 0);
    CHECK_EQ(fmp_object_create(a, FMP_BOARD, fmp_board_bytes(1), &board), 0);
    fmp_ref self = {board->self.off + sizeof(fmp_object)};
    CHECK_EQ(fmp_board_init(a, fmp_object_body(board), self, 1), 0);
}

/* One that needs a new page of the table, and of his row. */
static void
begin_many(void)
{
    begin();
    for (uint32_t i = 1; i < 512; i++)
        CHECK_EQ(fmp_object_create(a, FMP_PLAIN, 8, &thing), 0);
    blocks = check_blocks();
    objects = fmp_object_count(a);
}

static void
push(fmp_queue *q, uint64_t bytes, uint32_t cargo)
{
    fmp_parcel p;
    fmp_ref shipped;
    fmp_waiter w = FMP_WAITER(FMP_FOREVER);
    uint64_t number;
    CHECK_EQ(fmp_object_ship(a, (fmp_object *[]){mine, mine}, cargo, &shipped), 0);
    CHECK_EQ(fmp_queue_prepare(a, bytes, shipped, 0, &p), 0);
    CHECK_EQ(fmp_queue_push(a, q, &p, &w, &number), 0);
}

static void
take_one(fmp_queue *q)
{
    fmp_message m;
    fmp_waiter w = FMP_WAITER(FMP_NOW);
    CHECK_EQ(fmp_queue_take(a, q, &w, FMP_REF_NONE, &m), 0);
    fmp_message_done(a, &m);
}

static void
fill(fmp_queue *q)
{
    fmp_ear ear = {0};
    push(q, 8, 0);
    take_one(q);
    push(q, 8, 2);
    push(q, 5000, 1);
    CHECK_EQ(fmp_queue_listen(a, q, &ear), 0);
    fmp_fd_close(ear.fd);
}

static void
begin_queue(void)
{
    begin();
    CHECK_EQ(fmp_object_create(a, FMP_QUEUE, sizeof(fmp_queue), &thing), 0);
    CHECK_EQ(fmp_queue_init(a, fmp_object_body(thing), 0, 0), 0);
    fill(fmp_object_body(thing));
}

static void
begin_board(void)
{
    begin();
    CHECK_EQ(fmp_object_create(a, FMP_BOARD, fmp_board_bytes(2), &thing), 0);
    fmp_board *b = fmp_object_body(thing);
    CHECK_EQ(fmp_board_init(a, b, (fmp_ref){thing->self.off + sizeof(fmp_object)}, 2), 0);
    push(&b->tasks, 8, 1);
    push(&b->results, 8, 1);
}

static void
begin_cond(void)
{
    begin();
    CHECK_EQ(fmp_object_create(a, FMP_CONDITION, sizeof(fmp_cond), &thing), 0);
    fmp_ref node;
    for (int i = 0; i < 2; i++)
        CHECK_EQ(fmp_cond_enter(a, fmp_object_body(thing), &node), 0);
}

/* The victim is the last holder. */
static void
leave_it_to_him(void)
{
    if (step_heir() != 0)
        *fmp_object_row_word(a, FMP_OWNER_SLOT(step_heir()), thing->index) &= ~(UINT64_C(1) << thing->index % 64);
    fmp_object_drop(a, thing);
}

static void
act_drop(void *unused)
{
    (void)unused;
    fmp_object_drop(a, thing);
}

/* ---- travelling ---------------------------------------------------------------------------------- */

/* Made when the victim was there already. */
static void
launch_stranger(void)
{
    CHECK_EQ(fmp_object_create(a, FMP_PLAIN, 8, &thing), 0);
    blocks = check_blocks();
    objects = fmp_object_count(a);
    shared->ticket = fmp_object_ticket(thing);
}

static void
act_attach(void *unused)
{
    (void)unused;
    fmp_object *o;
    CHECK_EQ(fmp_object_attach(a, shared->ticket, &o), 0);
    fmp_object_drop(a, o);
    CHECK_EQ(fmp_object_attach(a, shared->ticket, &o), 0);
}

static void
act_ship(void *unused)
{
    fmp_object *o;
    fmp_ref cargo;
    (void)unused;
    CHECK_EQ(fmp_object_create(a, FMP_PLAIN, 8, &o), 0);
    CHECK_EQ(fmp_object_ship(a, (fmp_object *[]){mine, o, mine}, 3, &cargo), 0);
    fmp_object_drop(a, o);
    fmp_object_land(a, cargo);
}

static void
act_ship_loose(void *unused)
{
    (void)unused;
    fmp_object_ship_loose(a, mine);
    fmp_object_land_loose(a, fmp_object_ticket(mine));
}

/* The count is too high by one at the most for who died between the two (object.h). */
static void
check_loose(int finished)
{
    fmp_object_sweep(a);
    CHECK(mine->loose <= (finished ? 0u : 1u));
    mine->loose = 0;
    go_on();
}

/* What nobody but the victim's message holds. */
static void
launch_letter(void)
{
    CHECK_EQ(fmp_object_create(a, FMP_QUEUE, sizeof(fmp_queue), &thing), 0);
    CHECK_EQ(fmp_queue_init(a, fmp_object_body(thing), 0, 0), 0);
    push(fmp_object_body(thing), 8, 1);
    CHECK_EQ(fmp_object_ship(a, (fmp_object *[]){thing, mine}, 2, &shared->cargo), 0);
    fmp_heap_tag(a, shared->cargo, step_victim());
    fmp_object_drop(a, thing);
    CHECK_EQ(fmp_object_count(a), objects + 1);
}

static void
act_land(void *unused)
{
    (void)unused;
    fmp_object_land(a, shared->cargo);
}

/* A thing that he can't map is in it, too. */
static void
launch_far(void)
{
    CHECK_EQ(fmp_object_create(a, FMP_PLAIN, 5 << 20, &thing), 0); /* a window of its own */
    CHECK_EQ(fmp_object_ship(a, (fmp_object *[]){mine, thing}, 2, &shared->cargo), 0);
    fmp_heap_tag(a, shared->cargo, step_victim());
    fmp_object_drop(a, thing);
}

/* It stays if he came to it, and nothing else. */
static void
check_far(int finished)
{
    fmp_object_sweep(a);
    uint64_t stays = fmp_object_count(a) - objects;
    CHECK(stays <= 1);
    CHECK(!finished || stays == 1);
    objects += stays;
    blocks += stays;
    go_on();
}

/* ---- children that are not forked ------------------------------------------------------------------ */

static void
act_expect(void *unused)
{
    uint32_t child;
    fmp_object *o;
    (void)unused;
    CHECK_EQ(fmp_object_expect(a, &child), 0);
    CHECK_EQ(fmp_object_create(a, FMP_PLAIN, 8, &o), 0);
    CHECK_EQ(fmp_object_give(a, child, o), 0);
    CHECK_EQ(fmp_object_give(a, child, mine), 0);
    fmp_object_drop(a, o);
}

/* Two are given to the victim, of which it takes one, and nothing of what its parent holds. */
static void
begin_given(void)
{
    fmp_object *o[2];
    begin();
    CHECK_EQ(fmp_object_expect(a, &promised), 0);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(fmp_object_create(a, FMP_PLAIN, 8, &o[i]), 0);
        CHECK_EQ(fmp_object_give(a, promised, o[i]), 0);
    }
    shared->ticket = fmp_object_ticket(o[0]);
    fmp_object_drop(a, o[0]);
    fmp_object_drop(a, o[1]);
    fmp_object_next_child(promised);
}

static void
act_settle_in(void *unused)
{
    (void)unused;
    fmp_object *o;
    CHECK_EQ(a->self, promised);
    CHECK_EQ(fmp_object_attach(a, shared->ticket, &o), 0);
    CHECK_EQ(fmp_object_count(a), objects + 2);
    fmp_object_settle_in(a);
    CHECK_EQ(fmp_object_count(a), objects + 1);
    fmp_object_drop(a, o);
}

/* ---- moving to a slot that was promised ------------------------------------------------------------- */

static void
begin_move(void)
{
    fmp_object *o;
    begin();
    CHECK_EQ(fmp_object_expect(a, &promised), 0);
    CHECK_EQ(fmp_object_create(a, FMP_PLAIN, 8, &o), 0);
    CHECK_EQ(fmp_object_give(a, promised, o), 0);
    shared->ticket = fmp_object_ticket(o);
    fmp_object_drop(a, o);
}

static void
act_move(void *unused)
{
    (void)unused;
    fmp_object *o;
    CHECK_EQ(fmp_object_move(a, promised), 0);
    CHECK_EQ(a->self, promised);
    CHECK(holds(promised, mine));
    CHECK_EQ(fmp_object_attach(a, shared->ticket, &o), 0);
    fmp_object_drop(a, o);
}

/* If he never came to the slot, it is given up. */
static void
check_move(int finished)
{
    fmp_owner_survey(a);
    fmp_owner_bury(a, promised);
    check(finished);
    CHECK(!holds(promised, mine));
}

/* ---- forks --------------------------------------------------------------------------------------- */

static void
act_fork(void *unused)
{
    int status;
    (void)unused;
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    fmp_owner_bury(a, fmp_object_last_child());
    fmp_object_sweep(a);
}

static void
nothing(void *unused)
{
    (void)unused;
}

/* ---- the dead ------------------------------------------------------------------------------------ */

static void
make_much(void *unused)
{
    fmp_object *o;
    fmp_ref ref;
    void *p;
    (void)unused;
    CHECK_EQ(fmp_object_create(a, FMP_PLAIN, 8, &o), 0);
    CHECK_EQ(fmp_object_ship(a, (fmp_object *[]){mine, o}, 2, &ref), 0);
    CHECK_EQ(fmp_object_create(a, FMP_QUEUE, sizeof(fmp_queue), &o), 0);
    CHECK_EQ(fmp_queue_init(a, fmp_object_body(o), 0, 0), 0);
    push(fmp_object_body(o), 8, 1);
    CHECK_EQ(fmp_heap_alloc(a, 8, &ref, &p), 0);
    CHECK_EQ(fmp_heap_alloc(a, 5 << 20, &ref, &p), 0);
    fmp_object_table *t = fmp_arena_place(a, FMP_PLACE_OBJECTS);
    CHECK(fmp_mutex_trylock(a, &t->lock));
    atomic_store(&shared->ready, 1);
    for (;;)
        pause();
}

/* One died who held much, and the table's lock. */
static void
launch_the_dead(void)
{
    uint32_t id;
    pid_t pid = check_fork(make_much, NULL, &id);
    UNTIL(atomic_load(&shared->ready));
    check_slay(pid, id);
}

STEP_MAIN({.name = "create", .begin = begin, .act = act_create, .check = check, .heir = step_sweep},
          {.name = "create_queues", .begin = begin, .act = act_create_queues, .check = check,
           .heir = step_sweep},
          {.name = "create_more", .begin = begin_many, .act = act_create, .check = check},
          {.name = "drop_queue", .begin = begin_queue, .launched = leave_it_to_him, .act = act_drop,
           .check = check, .heir = step_sweep},
          {.name = "drop_board", .begin = begin_board, .launched = leave_it_to_him, .act = act_drop,
           .check = check, .heir = step_sweep},
          {.name = "drop_cond", .begin = begin_cond, .launched = leave_it_to_him, .act = act_drop,
           .check = check, .heir = step_sweep},
          {.name = "attach", .begin = begin, .launched = launch_stranger, .act = act_attach, .check = check,
           .heir = step_sweep},
          {.name = "ship", .begin = begin, .act = act_ship, .check = check, .heir = step_sweep},
          {.name = "ship_loose", .begin = begin, .act = act_ship_loose, .check = check_loose, .heir = step_sweep},
          {.name = "land", .begin = begin, .launched = launch_letter, .act = act_land, .check = check,
           .heir = step_sweep},
          {.name = "land_far", .begin = begin, .launched = launch_far, .act = act_land, .poor = 1,
           .check = check_far},
          {.name = "expect", .begin = begin, .act = act_expect, .check = check, .heir = step_sweep},
          {.name = "settle_in", .begin = begin_given, .newborn = 1, .act = act_settle_in, .check = check},
          {.name = "move", .begin = begin_move, .act = act_move, .check = check_move, .heir = step_sweep},
          {.name = "fork", .begin = begin, .act = act_fork, .nudge = step_patience, .check = check,
           .heir = step_sweep},
          {.name = "birth", .begin = begin, .newborn = 1, .act = nothing, .check = check, .heir = step_sweep},
          {.name = "sweep", .begin = begin, .launched = launch_the_dead, .act = step_sweep,
           .nudge = step_patience, .check = check, .heir = step_sweep})
