#include "core/owner.h"

#include <errno.h>
#include <unistd.h>

#define GENERATIONS ((UINT32_C(1) << 21) - 1)
#define RESERVATION_ENDS (10 * FMP_SECOND) /* O3: far above what a fork takes, far below for ever */

_Static_assert(FMP_PLACE_OWNERS + sizeof(fmp_owner_table) <= FMP_PLACE_HEAP, "owners overlap the heap");

/* Several threads of a process may spin; its bit in the table stands for all of them. Neither orders anything. */
static _Atomic uint32_t spinning_threads;

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
        if (fmp_owner_state_in(word) != FMP_OWNER_FREE)
            continue;
        uint32_t id = next_id(i, fmp_owner_id_in(word));
        fmp_store(&s->reserved_at, fmp_clock());
        if (!atomic_compare_exchange_strong(&s->word, &word, fmp_owner_word(id, parent, FMP_OWNER_RESERVED)))
            continue;
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

/* What this process has reserved becomes `state`. */
static void
go_on(fmp_arena *a, uint32_t id, uint32_t state)
{
    uint64_t word = fmp_owner_word(id, a->self, FMP_OWNER_RESERVED);
    atomic_compare_exchange_strong(&slot_of(a, id)->word, &word, fmp_owner_word(id, a->self, state));
}

void
fmp_owner_forked(fmp_arena *a, uint32_t id)
{
    fmp_store(&slot_of(a, id)->reserved_at, fmp_clock());
    go_on(a, id, FMP_OWNER_FORKED);
}

void
fmp_owner_promise(fmp_arena *a, uint32_t id)
{
    go_on(a, id, FMP_OWNER_PROMISED);
}

/* May the process of that state still come? */
static int
to_come(uint32_t state)
{
    return state == FMP_OWNER_RESERVED || state == FMP_OWNER_FORKED || state == FMP_OWNER_PROMISED;
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
    do {
        if (fmp_owner_id_in(word) != id || !to_come(fmp_owner_state_in(word)))
            return FMP_NOT_OWNER;
        /* else perhaps the parent says just now that it has forked */
    } while (!atomic_compare_exchange_weak(&s->word, &word, fmp_owner_word(id, (uint32_t)getpid(), FMP_OWNER_LIVE)));
    fmp_store(&s->stamp, fmp_process_stamp()); /* O5 */
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
    uint32_t id;
    do {
        id = take_slot(a, 0);
    } while (id != 0 && fmp_owner_adopt(a, id) != 0); /* stopped in between for too long */
    return id == 0 ? -EAGAIN : 0;
}

/* It spins no more, whatever its slot says. */
static void
stop_spinning(fmp_arena *a, uint32_t id)
{
    uint32_t slot = FMP_OWNER_SLOT(id);
    _Atomic uint64_t *word = &fmp_owner_table_of(a)->spinning[slot / 64];
    atomic_fetch_and_explicit(word, ~(UINT64_C(1) << slot % 64), memory_order_relaxed);
}

/* The slot, whose word was that, becomes `state`, with `who` in its word: false, and *word is what it is now, if it
 * has gone on meanwhile. */
static int
conclude(fmp_arena *a, uint64_t *word, uint32_t who, uint32_t state)
{
    uint32_t id = fmp_owner_id_in(*word);
    if (!atomic_compare_exchange_strong(&slot_of(a, id)->word, word, fmp_owner_word(id, who, state)))
        return 0;
    stop_spinning(a, id);
    atomic_store(&fmp_owner_table_of(a)->gone, 1);
    return 1;
}

/* The slot of a process that counts becomes `state`: true if it was one. If it has ended before, whoever did that may
 * have been killed before he set `gone`. */
static int
end(fmp_arena *a, uint32_t id, uint32_t who, uint32_t state)
{
    uint64_t word = fmp_load(&slot_of(a, id)->word);
    do {
        if (fmp_owner_id_in(word) != id || fmp_owner_state_in(word) == FMP_OWNER_FREE)
            return 0;
        if (!counts(fmp_owner_state_in(word))) {
            atomic_store(&fmp_owner_table_of(a)->gone, 1);
            return 0;
        }
    } while (!conclude(a, &word, who, state));
    return 1;
}

int
fmp_owner_bury(fmp_arena *a, uint32_t id)
{
    return end(a, id, 0, FMP_OWNER_GONE);
}

void
fmp_owner_withdraw(fmp_arena *a, uint32_t id)
{
    uint64_t word = fmp_load(&slot_of(a, id)->word);
    while (fmp_owner_id_in(word) == id && to_come(fmp_owner_state_in(word)) && !conclude(a, &word, 0, FMP_OWNER_GONE))
        ;
}

void
fmp_owner_leave(fmp_arena *a, uint32_t id, int exitcode)
{
    end(a, id, (uint32_t)(exitcode + 1), FMP_OWNER_LEFT);
}

int
fmp_owner_exitcode(fmp_arena *a, uint32_t id)
{
    uint64_t word = fmp_load(&slot_of(a, id)->word);
    uint32_t state = fmp_owner_state_in(word);
    if (fmp_owner_id_in(word) != id || (state != FMP_OWNER_LEFT && state != FMP_OWNER_FREE))
        return -1;
    return (int)fmp_owner_who_in(word) - 1;
}

int
fmp_owner_known_dead(fmp_arena *a, uint32_t id)
{
    uint64_t word = fmp_load(&slot_of(a, id)->word);
    return id != FMP_OWNER_OUTLAW && (fmp_owner_id_in(word) != id || !counts(fmp_owner_state_in(word)));
}

static int
process_lives(fmp_owner_slot *s, uint64_t word)
{
    uint64_t stamp = fmp_load(&s->stamp);
    return fmp_process_alive((pid_t)fmp_owner_who_in(word), stamp == 0 ? UINT64_MAX : stamp);
}

static int
is_recent(fmp_owner_slot *s)
{
    return fmp_clock() - fmp_load(&s->reserved_at) < RESERVATION_ENDS;
}

/* Does the parent live that the word of a slot names, whose process is still to come? */
static int
parent_lives(fmp_arena *a, uint64_t word)
{
    uint32_t parent = fmp_owner_who_in(word), id = fmp_owner_id_in(fmp_load(&slot_of(a, parent)->word));
    if (parent == (FMP_OWNER_OUTLAW & FMP_OWNER_WHO_MASK))
        return 1;
    return (id & FMP_OWNER_WHO_MASK) == parent && fmp_owner_alive(a, id);
}

/* Does the process live, or may it still come, whose slot has that word? */
static int
lives(fmp_arena *a, fmp_owner_slot *s, uint64_t word)
{
    switch (fmp_owner_state_in(word)) {
    case FMP_OWNER_LIVE:
        return fmp_owner_id_in(word) == a->self || process_lives(s, word);
    case FMP_OWNER_RESERVED:
        return parent_lives(a, word) || is_recent(s);
    case FMP_OWNER_FORKED:
        return is_recent(s);
    default:
        return parent_lives(a, word);
    }
}

int
fmp_owner_alive(fmp_arena *a, uint32_t id)
{
    if (id == FMP_OWNER_OUTLAW)
        return 1;
    fmp_owner_slot *s = slot_of(a, id);
    uint64_t word = fmp_load(&s->word);
    do {
        if (fmp_owner_id_in(word) != id || !counts(fmp_owner_state_in(word)))
            return 0;
        if (lives(a, s, word))
            return 1;
    } while (!conclude(a, &word, 0, FMP_OWNER_GONE)); /* O6 */
    return 0;
}

void
fmp_owner_survey(fmp_arena *a)
{
    fmp_owner_table *t = fmp_owner_table_of(a);
    uint32_t top = fmp_load(&t->top);
    for (uint32_t i = 0; i < top; i++) {
        uint64_t word = fmp_load(&t->slots[i].word);
        if (counts(fmp_owner_state_in(word)))
            fmp_owner_alive(a, fmp_owner_id_in(word));
        else
            fmp_owner_bury(a, fmp_owner_id_in(word));
    }
}

uint32_t
fmp_owner_next_gone(fmp_arena *a, uint32_t *at, int *killed)
{
    fmp_owner_table *t = fmp_owner_table_of(a);
    uint32_t top = fmp_load(&t->top);
    while (*at < top) {
        uint64_t word = fmp_load(&t->slots[(*at)++].word);
        *killed = fmp_owner_state_in(word) == FMP_OWNER_GONE;
        if (*killed || fmp_owner_state_in(word) == FMP_OWNER_LEFT)
            return fmp_owner_id_in(word);
    }
    return 0;
}

void
fmp_owner_recycle(fmp_arena *a, uint32_t id)
{
    fmp_owner_slot *s = slot_of(a, id);
    uint64_t word = fmp_load(&s->word);
    if (fmp_owner_id_in(word) != id || (fmp_owner_state_in(word) != FMP_OWNER_GONE && fmp_owner_state_in(word) != FMP_OWNER_LEFT))
        return;
    stop_spinning(a, id); /* who buried it may not have come to that */
    fmp_store(&s->stamp, 0);
    atomic_compare_exchange_strong(&s->word, &word, fmp_owner_word(id, fmp_owner_who_in(word), FMP_OWNER_FREE));
}

uint32_t
fmp_owner_count(fmp_arena *a)
{
    fmp_owner_table *t = fmp_owner_table_of(a);
    uint32_t count = 0, top = fmp_load(&t->top);
    for (uint32_t i = 0; i < top; i++)
        count += fmp_owner_state_in(fmp_load(&t->slots[i].word)) != FMP_OWNER_FREE;
    return count;
}

int
fmp_owner_holds(fmp_arena *a, uint32_t slot)
{
    return fmp_owner_state_in(fmp_load(&fmp_owner_table_of(a)->slots[slot].word)) != FMP_OWNER_FREE;
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
