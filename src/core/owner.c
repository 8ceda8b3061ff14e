#include "core/owner.h"

#include <errno.h>
#include <unistd.h>

#define GENERATIONS ((UINT32_C(1) << 21) - 1)
#define RESERVATION_ENDS (10 * FMP_SECOND) /* O3: far above what a fork takes, far below for ever */

_Static_assert(FMP_PLACE_OWNERS + sizeof(fmp_owner_table) <= FMP_PLACE_HEAP, "owners overlap the heap");

/* Several threads of a process may spin; its bit in the table stands for all of them. Neither orders anything. */
static _Atomic uint32_t spinning_threads;

static uint64_t
word_of(uint32_t state, uint32_t id)
{
    return (uint64_t)id << 32 | state;
}

static uint32_t
state_of(uint64_t word)
{
    return (uint32_t)word;
}

static uint32_t
id_of(uint64_t word)
{
    return (uint32_t)(word >> 32);
}

static fmp_owner_slot *
slot_of(fmp_arena *a, uint32_t id)
{
    return &fmp_owner_table_of(a)->slots[FMP_OWNER_SLOT(id)];
}

static uint32_t
next_id(uint32_t slot, uint32_t id)
{
    uint32_t generation = (id / FMP_OWNER_SLOTS) % GENERATIONS + 1;
    return generation * FMP_OWNER_SLOTS + slot;
}

static void
raise_top(fmp_owner_table *t, uint32_t top)
{
    uint32_t old = fmp_peek(&t->top);
    while (old < top && !atomic_compare_exchange_weak(&t->top, &old, top))
        ;
}

/* Any FREE slot becomes RESERVED by `parent`; its id, or 0. */
static uint32_t
take_slot(fmp_arena *a, uint32_t parent)
{
    fmp_owner_table *t = fmp_owner_table_of(a);
    for (uint32_t i = 0; i < FMP_OWNER_SLOTS - 1; i++) { /* the last slot is the outlaws' */
        fmp_owner_slot *s = &t->slots[i];
        uint64_t word = fmp_load(&s->word);
        if (state_of(word) != FMP_OWNER_FREE)
            continue;
        uint32_t id = next_id(i, id_of(word));
        fmp_store(&s->reserved_at, fmp_clock());
        if (!atomic_compare_exchange_strong(&s->word, &word, word_of(FMP_OWNER_RESERVED, id)))
            continue;
        atomic_store_explicit(&s->parent, parent, memory_order_relaxed);
        raise_top(t, i + 1);
        return id;
    }
    return 0;
}

int
fmp_owner_reserve(fmp_arena *a, uint32_t *id)
{
    *id = take_slot(a, a->self);
    return *id == 0 ? -EAGAIN : 0;
}

void
fmp_owner_promise(fmp_arena *a, uint32_t id)
{
    uint64_t word = word_of(FMP_OWNER_RESERVED, id);
    atomic_compare_exchange_strong(&slot_of(a, id)->word, &word, word_of(FMP_OWNER_PROMISED, id));
}

/* May the process of that state still come? */
static int
to_come(uint32_t state)
{
    return state == FMP_OWNER_RESERVED || state == FMP_OWNER_PROMISED;
}

/* Has the process of that state, whether it came or not, not ended? */
static int
counts(uint32_t state)
{
    return state == FMP_OWNER_LIVE || to_come(state);
}

int
fmp_owner_adopt(fmp_arena *a, uint32_t id)
{
    fmp_owner_slot *s = slot_of(a, id);
    uint64_t word = fmp_load(&s->word);
    if (id_of(word) != id || !to_come(state_of(word))) /* O3: it may be another's by now, who wrote its pid there */
        return FMP_NOT_OWNER;
    atomic_store_explicit(&s->stamp, fmp_process_stamp(), memory_order_relaxed);
    fmp_store(&s->pid, getpid());
    if (!atomic_compare_exchange_strong(&s->word, &word, word_of(FMP_OWNER_LIVE, id)))
        return FMP_NOT_OWNER;
    a->self = id;
    atomic_store_explicit(&spinning_threads, 0, memory_order_relaxed); /* the parent's others are not in the child */
    return 0;
}

void
fmp_owner_outlaw(fmp_arena *a)
{
    a->self = FMP_OWNER_OUTLAW;
    atomic_store_explicit(&spinning_threads, 0, memory_order_relaxed);
}

int
fmp_owner_join(fmp_arena *a)
{
    uint32_t id = take_slot(a, 0);
    return id == 0 ? -EAGAIN : fmp_owner_adopt(a, id);
}

/* It spins no more, whatever its slot says. */
static void
stop_spinning(fmp_arena *a, uint32_t id)
{
    uint32_t slot = FMP_OWNER_SLOT(id);
    _Atomic uint64_t *word = &fmp_owner_table_of(a)->spinning[slot / 64];
    atomic_fetch_and_explicit(word, ~(UINT64_C(1) << slot % 64), memory_order_relaxed);
}

/* The slot of a process that counts becomes `state`: true if it was one. If it has ended before, whoever did that
 * may have been killed before he set `gone`. */
static int
end(fmp_arena *a, uint32_t id, uint32_t state)
{
    fmp_owner_table *t = fmp_owner_table_of(a);
    fmp_owner_slot *s = slot_of(a, id);
    uint64_t word = fmp_load(&s->word);
    do {
        if (id_of(word) != id || state_of(word) == FMP_OWNER_FREE)
            return 0;
        if (!counts(state_of(word))) {
            atomic_store(&t->gone, 1);
            return 0;
        }
    } while (!atomic_compare_exchange_weak(&s->word, &word, word_of(state, id)));
    stop_spinning(a, id);
    atomic_store(&t->gone, 1);
    return 1;
}

int
fmp_owner_bury(fmp_arena *a, uint32_t id)
{
    return end(a, id, FMP_OWNER_GONE);
}

void
fmp_owner_leave(fmp_arena *a, uint32_t id)
{
    end(a, id, FMP_OWNER_LEFT);
}

int
fmp_owner_known_dead(fmp_arena *a, uint32_t id)
{
    uint64_t word = fmp_load(&slot_of(a, id)->word);
    return id != FMP_OWNER_OUTLAW && (id_of(word) != id || !counts(state_of(word)));
}

int
fmp_owner_alive(fmp_arena *a, uint32_t id)
{
    if (id == FMP_OWNER_OUTLAW)
        return 1;
    fmp_owner_slot *s = slot_of(a, id);
    uint64_t word = fmp_load(&s->word);
    if (id_of(word) != id)
        return 0;
    switch (state_of(word)) {
    case FMP_OWNER_LIVE:
        if (id == a->self || fmp_process_alive(fmp_load(&s->pid), fmp_peek(&s->stamp)))
            return 1;
        break;
    case FMP_OWNER_RESERVED:
        if (fmp_clock() - fmp_load(&s->reserved_at) < RESERVATION_ENDS)
            return 1;
        break;
    case FMP_OWNER_PROMISED:
        if (fmp_owner_alive(a, fmp_peek(&s->parent)))
            return 1;
        break;
    default:
        return 0;
    }
    fmp_owner_bury(a, id);
    return 0;
}

void
fmp_owner_survey(fmp_arena *a)
{
    fmp_owner_table *t = fmp_owner_table_of(a);
    uint32_t top = fmp_load(&t->top);
    for (uint32_t i = 0; i < top; i++) {
        uint64_t word = fmp_load(&t->slots[i].word);
        if (counts(state_of(word)))
            fmp_owner_alive(a, id_of(word));
        else
            fmp_owner_bury(a, id_of(word));
    }
}

uint32_t
fmp_owner_next_gone(fmp_arena *a, uint32_t *at, int *killed)
{
    fmp_owner_table *t = fmp_owner_table_of(a);
    uint32_t top = fmp_load(&t->top);
    while (*at < top) {
        uint64_t word = fmp_load(&t->slots[(*at)++].word);
        *killed = state_of(word) == FMP_OWNER_GONE;
        if (*killed || state_of(word) == FMP_OWNER_LEFT)
            return id_of(word);
    }
    return 0;
}

void
fmp_owner_recycle(fmp_arena *a, uint32_t id)
{
    fmp_owner_slot *s = slot_of(a, id);
    uint64_t word = fmp_load(&s->word);
    if (id_of(word) != id || (state_of(word) != FMP_OWNER_GONE && state_of(word) != FMP_OWNER_LEFT))
        return;
    stop_spinning(a, id); /* who buried it may not have come to that */
    atomic_compare_exchange_strong(&s->word, &word, word_of(FMP_OWNER_FREE, id));
}

uint32_t
fmp_owner_count(fmp_arena *a)
{
    fmp_owner_table *t = fmp_owner_table_of(a);
    uint32_t count = 0, top = fmp_load(&t->top);
    for (uint32_t i = 0; i < top; i++)
        count += state_of(fmp_load(&t->slots[i].word)) != FMP_OWNER_FREE;
    return count;
}

int
fmp_owner_holds(fmp_arena *a, uint32_t slot)
{
    return state_of(fmp_load(&fmp_owner_table_of(a)->slots[slot].word)) != FMP_OWNER_FREE;
}

int
fmp_owner_spin_begin(fmp_arena *a, uint32_t most)
{
    if (a->self == FMP_OWNER_OUTLAW)
        return 0;
    fmp_owner_table *t = fmp_owner_table_of(a);
    uint32_t slot = FMP_OWNER_SLOT(a->self), own = fmp_peek(&spinning_threads);
    uint32_t words = fmp_load(&t->top) / 64 + 1, count = own == 0 ? 0 : own - 1; /* its bit stands for one */
    for (uint32_t i = 0; i < words && i < FMP_OWNER_SLOTS / 64; i++)
        count += (uint32_t)__builtin_popcountll(fmp_peek(&t->spinning[i]));
    if (count >= most)
        return 0;
    if (atomic_fetch_add_explicit(&spinning_threads, 1, memory_order_relaxed) == 0)
        atomic_fetch_or_explicit(&t->spinning[slot / 64], UINT64_C(1) << slot % 64, memory_order_relaxed);
    return 1;
}

void
fmp_owner_spin_end(fmp_arena *a)
{
    if (atomic_fetch_sub_explicit(&spinning_threads, 1, memory_order_relaxed) == 1)
        stop_spinning(a, a->self);
}
