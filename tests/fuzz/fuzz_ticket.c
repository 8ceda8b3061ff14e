/* fuzz_ticket.c: a ticket is for one object, as long as that exists; any other is for none (core/object.h).
 *
 * Objects are made, held, dropped, shipped and landed, and attached to by their tickets, which may be old or changed.
 * A model says what exists.
 *
 *   input   steps: a byte that says what to do, a byte that says to which object, and what else that takes */
#include "fuzz.h"

#include "core/owner.h"
#include "core/queue.h"

#define PLACES 32

static struct place {
    fmp_object *object; /* NULL if it doesn't exist */
    fmp_ticket ticket;  /* of the last that did */
    uint32_t holds, loose;
} places[PLACES];

static fmp_arena *
arena(void)
{
    static fmp_arena a;
    if (a.self != 0)
        return &a;
    REQUIRE(fmp_arena_create(&a) == 0);
    REQUIRE(fmp_heap_init(&a) == 0);
    REQUIRE(fmp_owner_join(&a) == 0);
    REQUIRE(fmp_object_init(&a) == 0);
    return &a;
}

static struct place *
place_of(fmp_ticket ticket)
{
    for (struct place *p = places; p < places + PLACES; p++) {
        if (p->object != NULL && p->ticket.index == ticket.index && p->ticket.serial == ticket.serial)
            return p;
    }
    return NULL;
}

static void
settle(struct place *p)
{
    if (p->holds == 0 && p->loose == 0)
        p->object = NULL;
}

static void
create(fmp_arena *a, struct place *p, fuzz_input *input)
{
    fmp_kind kind = fuzz_byte(input) % 2 ? FMP_PLAIN : FMP_QUEUE;
    uint64_t bytes = kind == FMP_QUEUE ? sizeof(fmp_queue) : fuzz_word(input) % 100000;
    if (p->object != NULL)
        return;
    REQUIRE(fmp_object_create(a, kind, bytes, &p->object) == 0);
    p->ticket = fmp_object_ticket(p->object);
    p->holds = 1;
    p->loose = 0;
}

static void
drop(fmp_arena *a, struct place *p)
{
    if (p->holds == 0)
        return;
    fmp_object_drop(a, p->object);
    p->holds--;
    settle(p);
}

static void
attach(fmp_arena *a, fmp_ticket ticket)
{
    fmp_object *object;
    struct place *p = place_of(ticket);
    int rc = fmp_object_attach(a, ticket, &object);
    REQUIRE(rc == (p == NULL ? FMP_EMPTY : 0));
    if (p == NULL)
        return;
    REQUIRE(object == p->object);
    p->holds++;
}

static void
land(fmp_arena *a, fmp_ticket ticket)
{
    struct place *p = place_of(ticket);
    fmp_object_land_loose(a, ticket);
    if (p == NULL || p->loose == 0)
        return;
    p->loose--;
    settle(p);
}

static fmp_ticket
changed(fmp_ticket ticket, fuzz_input *input)
{
    uint8_t place = fuzz_byte(input);
    ((uint8_t *)&ticket)[place % sizeof(ticket)] ^= fuzz_byte(input);
    return ticket;
}

static void
step(fmp_arena *a, fuzz_input *input)
{
    uint8_t what = fuzz_byte(input);
    struct place *p = &places[fuzz_byte(input) % PLACES];
    switch (what % 8) {
    case 0:
        create(a, p, input);
        break;
    case 1:
        drop(a, p);
        break;
    case 2:
        if (p->holds > 0) {
            fmp_object_hold(a, p->object);
            p->holds++;
        }
        break;
    case 3:
        if (p->holds > 0) {
            fmp_object_ship_loose(a, p->object);
            p->loose++;
        }
        break;
    case 4:
        land(a, p->ticket);
        break;
    case 5:
        attach(a, p->ticket);
        break;
    case 6:
        attach(a, changed(p->ticket, input));
        break;
    default:
        land(a, changed(p->ticket, input));
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    fmp_arena *a = arena();
    fuzz_input input = {data, bytes};
    while (input.left > 0)
        step(a, &input);
    for (struct place *p = places; p < places + PLACES; p++) {
        while (p->loose > 0)
            land(a, p->ticket);
        while (p->holds > 0)
            drop(a, p);
        REQUIRE(p->object == NULL);
        *p = (struct place){0};
    }
    REQUIRE(fmp_object_count(a) == 0);
    return 0;
}
