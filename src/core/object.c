#include "core/object.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/owner.h"

/* An entry is a ref with the kind in bits 56 to 59 (far above the end of the file), or, with LINK, a free one:
 * the next free index + 1 is above. */
#define LINK UINT64_C(2)
#define KIND_SHIFT 56
#define KIND_MASK (UINT64_C(15) << KIND_SHIFT)
#define SURVEY_EVERY (100 * FMP_MILLISECOND) /* it costs some 10 us for each process */

_Static_assert(FMP_PLACE_OBJECTS + sizeof(fmp_object_table) <= FMP_PLACE_UNITS, "objects overlap the units");
_Static_assert(FMP_KIND_COUNT <= 16, "a kind has four bits in an entry");
_Static_assert(FMP_PLACE_ROWS + (FMP_OBJECT_MOST / FMP_ROW_LINE_OBJECTS + 1) * FMP_OWNER_SLOTS * FMP_CACHELINE <=
                   FMP_FIRST_FREE_WINDOW * FMP_WINDOW_BYTES,
               "rows overlap the heap's windows");

typedef _Atomic uint64_t row_word;

static fmp_object_table *
table_of(fmp_arena *a)
{
    return fmp_arena_place(a, FMP_PLACE_OBJECTS);
}

/* Give the row a page for the column. -errno. */
static int
commit_column(fmp_arena *a, uint32_t slot, uint32_t index)
{
    uint64_t line = (uint64_t)(index / FMP_ROW_LINE_OBJECTS) * FMP_OWNER_SLOTS + slot;
    return fmp_memory_commit(&a->memory, FMP_PLACE_ROWS + line * FMP_CACHELINE, FMP_CACHELINE);
}

/* In this process's row; NULL if it has none: an outlaw (owner.h) only uses what others hold. */
static row_word *
own_word(fmp_arena *a, uint32_t index)
{
    return a->self == FMP_OWNER_OUTLAW ? NULL : fmp_object_row_word(a, FMP_OWNER_SLOT(a->self), index);
}

static uint64_t
bit(uint32_t index)
{
    return UINT64_C(1) << index % 64;
}

static int
exists(uint64_t entry)
{
    return entry != 0 && !(entry & LINK);
}

static fmp_object *
object_of(fmp_arena *a, uint64_t entry)
{
    return fmp_heap_at(a, (fmp_ref){entry & ~KIND_MASK});
}

/* ---- holders ---------------------------------------------------------------------------------- */

/* Does any process or message hold the object? Rows that can't be mapped here hold everything. */
static int
held(fmp_arena *a, const fmp_object *o, uint32_t index)
{
    uint32_t top = fmp_load(&fmp_owner_table_of(a)->top);
    row_word *column = fmp_object_row_word(a, 0, index);
    if (o->in_flight != 0 || o->loose != 0 || column == NULL)
        return 1;
    for (uint32_t slot = 0; slot < top; slot++) {
        if (fmp_owner_holds(a, slot) && (fmp_load(&column[slot * FMP_ROW_LINE_WORDS]) & bit(index)))
            return 1;
    }
    return 0;
}

static void
free_entry(fmp_object_table *t, uint32_t index)
{
    fmp_store(&t->entries[index], (uint64_t)t->free << 4 | LINK);
    t->free = index + 1;
}

static void
settle(fmp_arena *a, uint64_t entry)
{
    const fmp_kind_ops *ops = &fmp_kinds[(entry & KIND_MASK) >> KIND_SHIFT];
    fmp_object *o = ops->settle == NULL ? NULL : object_of(a, entry);
    if (o != NULL)
        ops->settle(a, fmp_object_body(o));
}

/* This thread is destroying objects, and holds the lock: what their messages carry is landed without. */
static _Thread_local int destroying;

static void
destroy(fmp_arena *a, fmp_object_table *t, uint32_t index)
{
    uint64_t entry = fmp_load(&t->entries[index]);
    fmp_object *o = object_of(a, entry);
    t->doomed = o->next_doomed;
    settle(a, entry);
    if (fmp_kinds[o->kind].destroy != NULL)
        fmp_kinds[o->kind].destroy(a, fmp_object_body(o));
    fmp_heap_tag(a, o->self, a->self); /* from here on it is swept if this process dies */
    free_entry(t, index);
    atomic_fetch_sub(&t->count, 1);
    fmp_heap_free(a, o->self);
}

/* Destroy object index if there is one and nobody holds it, and what goes with it. The caller holds the lock. */
static void
destroy_if_free(fmp_arena *a, fmp_object_table *t, uint32_t index)
{
    uint64_t entry = fmp_load(&t->entries[index]);
    fmp_object *o = exists(entry) ? object_of(a, entry) : NULL;
    if (o == NULL || held(a, o, index))
        return;
    o->next_doomed = t->doomed;
    t->doomed = index + 1;
    if (destroying) /* its turn comes */
        return;
    destroying = 1;
    while (t->doomed != 0)
        destroy(a, t, t->doomed - 1);
    destroying = 0;
}

/* B5: what was booked is done, perhaps for the second time. What can't be mapped here stays as it is: an object too
 * long then, and a cargo that is landed in vain. */
static void
settle_booking(fmp_arena *a, fmp_booking *b, fmp_object *o)
{
    fmp_cargo *c = fmp_heap_at(a, b->cargo);
    if (o != NULL)
        o->in_flight = b->in_flight;
    if (c != NULL)
        c->count = b->count;
    fmp_step();
    b->cargo = FMP_REF_NONE;
}

/* Object o is in so many messages from now on, and so many tickets of the cargo are in flight. */
static void
book(fmp_arena *a, fmp_object_table *t, fmp_object *o, uint32_t in_flight, fmp_ref cargo, uint32_t count)
{
    t->booking.index = o->index;
    t->booking.in_flight = in_flight;
    t->booking.count = count;
    fmp_step();
    t->booking.cargo = cargo;
    fmp_step();
    settle_booking(a, &t->booking, o);
}

/* B3: after the lock's holder died. The list of free entries is made anew. An object that was entered or
 * removed just then may have its maker's or its destroyer's tag: nothing is swept before this. */
static void
repair(fmp_arena *a, fmp_object_table *t)
{
    if (t->booking.cargo.off != 0)
        settle_booking(a, &t->booking, object_of(a, fmp_load(&t->entries[t->booking.index])));
    t->free = t->doomed = 0;
    atomic_store(&t->count, 0);
    for (uint32_t i = fmp_peek(&t->top); i-- > 0;) {
        uint64_t entry = fmp_load(&t->entries[i]);
        if (!exists(entry)) {
            free_entry(t, i);
            continue;
        }
        atomic_fetch_add(&t->count, 1);
        fmp_object *o = object_of(a, entry);
        if (o != NULL)
            fmp_heap_tag(a, o->self, FMP_TAG_SHARED);
    }
    for (uint32_t i = 0; i < fmp_peek(&t->top); i++)
        destroy_if_free(a, t, i);
}

static void
enter(fmp_arena *a, fmp_object_table *t)
{
    if (fmp_mutex_enter(a, &t->lock) == FMP_OWNER_DEAD)
        repair(a, t);
}

/* ---- handles of this process -------------------------------------------------------------------- */

/* The caller holds arena->local. */
static int
room_for_handle(fmp_arena *a, uint32_t index)
{
    if (index < a->handles_room)
        return 0;
    uint32_t room = a->handles_room == 0 ? 256 : a->handles_room * 2;
    while (room <= index)
        room *= 2;
    uint32_t *handles = realloc(a->handles, room * sizeof(*handles));
    if (handles == NULL)
        return -ENOMEM;
    memset(handles + a->handles_room, 0, (room - a->handles_room) * sizeof(*handles));
    a->handles = handles;
    a->handles_room = room;
    return 0;
}

/* An outlaw (owner.h) counts nothing: the object may be gone, and the index that it would be counted under. */
static int
counts_handles(const fmp_arena *a)
{
    return a->self != FMP_OWNER_OUTLAW;
}

void
fmp_object_hold(fmp_arena *a, fmp_object *o)
{
    if (!counts_handles(a))
        return;
    pthread_mutex_lock(&a->local);
    a->handles[o->index]++;
    pthread_mutex_unlock(&a->local);
}

void
fmp_object_drop(fmp_arena *a, fmp_object *o)
{
    if (!counts_handles(a))
        return;
    fmp_object_table *t = table_of(a);
    uint32_t index = o->index;
    pthread_mutex_lock(&a->local);
    row_word *word = own_word(a, index);
    if (--a->handles[index] == 0 && word != NULL) {
        enter(a, t);
        atomic_fetch_and(word, ~bit(index));
        destroy_if_free(a, t, index);
        fmp_mutex_unlock(&t->lock);
    }
    pthread_mutex_unlock(&a->local);
    fmp_object_sweep(a);
}

/* ---- making -------------------------------------------------------------------------------------- */

/* A free index; -ENOMEM if there is none. */
static int64_t
take_index(fmp_arena *a, fmp_object_table *t)
{
    if (t->free != 0) {
        uint32_t index = t->free - 1;
        t->free = (uint32_t)(fmp_load(&t->entries[index]) >> 4);
        return index;
    }
    uint32_t index = fmp_peek(&t->top);
    if (index >= FMP_OBJECT_MOST)
        return -ENOMEM;
    uint64_t entry = FMP_PLACE_OBJECTS + offsetof(fmp_object_table, entries) + index * 8;
    if (index % 512 == 0 && fmp_memory_commit(&a->memory, entry, 512 * 8) < 0)
        return -ENOMEM;
    atomic_store_explicit(&t->top, index + 1, memory_order_relaxed);
    return index;
}

/* Count one handle more for object index and set its bit in this process's row. The caller holds
 * arena->local and the table's lock. -ENOMEM. */
static int
take_hold(fmp_arena *a, uint32_t index)
{
    row_word *word = own_word(a, index);
    if (word == NULL || room_for_handle(a, index) < 0)
        return -ENOMEM;
    for (; index >= a->row_room; a->row_room += FMP_ROW_LINE_OBJECTS) {
        if (commit_column(a, FMP_OWNER_SLOT(a->self), a->row_room) < 0)
            return -ENOMEM;
    }
    a->handles[index]++;
    atomic_fetch_or(word, bit(index));
    return 0;
}

/* Enter the object, complete but for its index. */
static int
enter_object(fmp_arena *a, fmp_object *o)
{
    fmp_object_table *t = table_of(a);
    enter(a, t);
    int64_t index = take_index(a, t);
    if (index >= 0 && take_hold(a, (uint32_t)index) == 0) {
        o->index = (uint32_t)index;
        o->serial = ++t->serials;
        fmp_store(&t->entries[index], o->self.off | (uint64_t)o->kind << KIND_SHIFT); /* now it exists */
        fmp_heap_tag(a, o->self, FMP_TAG_SHARED);
        atomic_fetch_add(&t->count, 1);
    }
    else if (index >= 0) {
        free_entry(t, (uint32_t)index);
        index = -ENOMEM;
    }
    fmp_mutex_unlock(&t->lock);
    return index < 0 ? (int)index : 0;
}

int
fmp_object_create(fmp_arena *a, fmp_kind kind, uint64_t bytes, fmp_object **object)
{
    fmp_ref ref;
    void *payload;
    int rc;
    fmp_object_sweep(a);
    if (bytes > UINT64_MAX / 2 || (rc = fmp_heap_alloc_zeroed(a, sizeof(fmp_object) + bytes, &ref, &payload)) < 0)
        return -ENOMEM;
    fmp_object *o = payload;
    o->kind = kind;
    o->self = ref;
    o->bytes = bytes;
    pthread_mutex_lock(&a->local);
    rc = enter_object(a, o);
    pthread_mutex_unlock(&a->local);
    if (rc < 0)
        fmp_heap_free(a, ref);
    else
        *object = o;
    return rc;
}

uint32_t
fmp_object_count(fmp_arena *a)
{
    return fmp_load(&table_of(a)->count);
}

/* ---- travelling ---------------------------------------------------------------------------------- */

/* The object that the ticket names, or NULL. The caller holds the lock. */
static fmp_object *
find(fmp_arena *a, fmp_object_table *t, fmp_ticket ticket)
{
    uint64_t entry = ticket.index < fmp_peek(&t->top) ? fmp_load(&t->entries[ticket.index]) : 0;
    fmp_object *o = exists(entry) ? object_of(a, entry) : NULL;
    return o != NULL && o->serial == ticket.serial ? o : NULL;
}

int
fmp_object_attach(fmp_arena *a, fmp_ticket ticket, fmp_object **object)
{
    fmp_object_table *t = table_of(a);
    pthread_mutex_lock(&a->local);
    enter(a, t);
    *object = find(a, t, ticket);
    int rc = *object == NULL ? FMP_EMPTY : take_hold(a, ticket.index);
    fmp_mutex_unlock(&t->lock);
    pthread_mutex_unlock(&a->local);
    return rc;
}

int
fmp_object_give(fmp_arena *a, uint32_t child, fmp_object *o)
{
    row_word *word = fmp_object_row_word(a, FMP_OWNER_SLOT(child), o->index);
    if (word == NULL || commit_column(a, FMP_OWNER_SLOT(child), o->index) < 0)
        return -ENOMEM;
    atomic_fetch_or(word, bit(o->index));
    return 0;
}

void
fmp_object_settle_in(fmp_arena *a)
{
    fmp_object_table *t = table_of(a);
    pthread_mutex_lock(&a->local);
    enter(a, t);
    for (uint32_t first = 0; first < fmp_peek(&t->top); first += 64) {
        row_word *word = own_word(a, first);
        for (uint64_t bits = word == NULL ? 0 : fmp_peek(word); bits != 0; bits &= bits - 1) {
            uint32_t index = first + (uint32_t)__builtin_ctzll(bits);
            if (index < a->handles_room && a->handles[index] != 0)
                continue;
            atomic_fetch_and(word, ~bit(index));
            destroy_if_free(a, t, index);
        }
    }
    fmp_mutex_unlock(&t->lock);
    pthread_mutex_unlock(&a->local);
}

/* ---- cargo --------------------------------------------------------------------------------------- */

int
fmp_object_ship(fmp_arena *a, fmp_object *const *objects, uint32_t count, fmp_ref *cargo)
{
    fmp_object_table *t = table_of(a);
    void *payload;
    *cargo = FMP_REF_NONE;
    if (count == 0)
        return 0;
    if (fmp_heap_alloc(a, sizeof(fmp_cargo) + count * sizeof(fmp_ticket), cargo, &payload) < 0)
        return -ENOMEM;
    fmp_cargo *c = payload;
    c->count = 0;
    for (uint32_t i = 0; i < count; i++)
        c->tickets[i] = fmp_object_ticket(objects[i]);
    fmp_step();
    fmp_heap_mark(a, *cargo, 1);
    enter(a, t);
    for (uint32_t i = 0; i < count; i++)
        book(a, t, objects[i], objects[i]->in_flight + 1, *cargo, i + 1);
    fmp_mutex_unlock(&t->lock);
    return 0;
}

/* The last of the cargo's tickets that are in flight isn't any more. The caller holds the lock. */
static void
land_one(fmp_arena *a, fmp_object_table *t, fmp_ref cargo, fmp_cargo *c)
{
    uint32_t count = c->count - 1, index = c->tickets[count].index;
    fmp_object *o = find(a, t, c->tickets[count]);
    if (o == NULL) { /* it can't be mapped here, and stays */
        c->count = count;
        return;
    }
    book(a, t, o, o->in_flight - 1, cargo, count);
    destroy_if_free(a, t, index);
}

/* The caller holds the lock, and has the cargo. */
static void
land(fmp_arena *a, fmp_ref cargo)
{
    fmp_cargo *c = fmp_heap_at(a, cargo);
    if (c == NULL)
        return; /* it can't be mapped here: swept when this process ends */
    while (c->count != 0)
        land_one(a, table_of(a), cargo, c);
    fmp_heap_mark(a, cargo, 0);
    fmp_step();
    fmp_heap_free(a, cargo);
}

void
fmp_object_land(fmp_arena *a, fmp_ref cargo)
{
    fmp_object_table *t = table_of(a);
    if (destroying) {
        land(a, cargo);
        return;
    }
    enter(a, t);
    land(a, cargo);
    fmp_mutex_unlock(&t->lock);
}

void
fmp_object_ship_loose(fmp_arena *a, fmp_object *o)
{
    fmp_object_table *t = table_of(a);
    enter(a, t);
    o->loose++;
    fmp_mutex_unlock(&t->lock);
}

void
fmp_object_land_loose(fmp_arena *a, fmp_ticket ticket)
{
    fmp_object_table *t = table_of(a);
    enter(a, t);
    fmp_object *o = find(a, t, ticket);
    if (o != NULL && o->loose != 0) {
        o->loose--;
        destroy_if_free(a, t, ticket.index);
    }
    fmp_mutex_unlock(&t->lock);
}

/* ---- the dead ---------------------------------------------------------------------------------------- */

/* Clear the row; destroy what nobody else holds. The caller holds the lock. */
static int
clear_row(fmp_arena *a, fmp_object_table *t, uint32_t slot)
{
    for (uint32_t first = 0; first < fmp_peek(&t->top); first += 64) {
        row_word *word = fmp_object_row_word(a, slot, first);
        if (word == NULL)
            return -ENOMEM;
        if (fmp_load(word) == 0)
            continue;
        for (uint64_t bits = atomic_exchange(word, 0); bits != 0; bits &= bits - 1)
            destroy_if_free(a, t, first + (uint32_t)__builtin_ctzll(bits));
    }
    return 0;
}

/* Settle every object, then free the blocks that the killed process had in its hands, and land its cargoes. */
static void
sweep_blocks(fmp_arena *a, fmp_object_table *t, uint32_t killed)
{
    for (uint32_t i = 0; i < fmp_peek(&t->top); i++) {
        uint64_t entry = fmp_load(&t->entries[i]);
        if (exists(entry))
            settle(a, entry);
    }
    fmp_heap_sweep(a, killed, land);
}

void
fmp_object_sweep(fmp_arena *a)
{
    fmp_owner_table *owners = fmp_owner_table_of(a);
    if (!fmp_peek(&owners->gone))
        return;
    fmp_object_table *t = table_of(a);
    enter(a, t);
    atomic_store(&owners->gone, 0);
    uint32_t at = 0, id;
    int killed;
    while ((id = fmp_owner_next_gone(a, &at, &killed)) != 0) {
        if (clear_row(a, t, FMP_OWNER_SLOT(id)) < 0)
            continue;
        if (killed)
            sweep_blocks(a, t, id);
        fmp_owner_recycle(a, id);
    }
    fmp_mutex_unlock(&t->lock);
}

/* ---- forks ----------------------------------------------------------------------------------------------- */

static fmp_arena *forking;                  /* the arena whose process is watched: one in a process */
static _Thread_local uint32_t last_child;
static _Thread_local uint32_t next_child; /* promised to it */

uint32_t
fmp_object_last_child(void)
{
    return last_child;
}

void
fmp_object_next_child(uint32_t child)
{
    next_child = child;
}

/* The row of `child`, before it exists or while this process becomes it: it will hold whatever `parent`
 * holds, beside what it was given. */
static int
copy_row(fmp_arena *a, uint32_t parent, uint32_t child)
{
    if (parent == FMP_OWNER_OUTLAW)
        return -ENOMEM;
    uint32_t top = fmp_peek(&table_of(a)->top), room = 0; /* as this process saw it: it holds none beyond */
    for (uint32_t first = 0; first < top; first += 64) {
        row_word *from = fmp_object_row_word(a, FMP_OWNER_SLOT(parent), first);
        row_word *to = fmp_object_row_word(a, FMP_OWNER_SLOT(child), first);
        uint64_t bits = from == NULL ? 0 : fmp_peek(from);
        if (from == NULL || to == NULL)
            return -ENOMEM;
        if (bits == 0)
            continue;
        if (first >= room && commit_column(a, FMP_OWNER_SLOT(child), first) < 0)
            return -ENOMEM;
        room = first / FMP_ROW_LINE_OBJECTS * FMP_ROW_LINE_OBJECTS + FMP_ROW_LINE_OBJECTS;
        if (bits & ~fmp_peek(to))
            atomic_fetch_or(to, bits); /* if it was a promise that ended, the row is another process's */
    }
    return 0;
}

/* Children that the user forked and reaped without telling anybody are found here, at the latest. */
static void
survey_now_and_then(fmp_arena *a)
{
    fmp_time now = fmp_clock();
    if (now < a->next_survey)
        return;
    a->next_survey = now + SURVEY_EVERY;
    fmp_owner_survey(a);
}

static int
reserve(fmp_arena *a, uint32_t *child)
{
    survey_now_and_then(a);
    fmp_object_sweep(a);
    int rc = fmp_owner_reserve(a, child);
    if (rc == 0)
        return 0;
    fmp_owner_survey(a); /* full of dead whom nobody has reaped? */
    fmp_object_sweep(a);
    return fmp_owner_reserve(a, child);
}

int
fmp_object_expect(fmp_arena *a, uint32_t *child)
{
    pthread_mutex_lock(&a->local);
    int rc = reserve(a, child);
    if (rc == 0)
        fmp_owner_promise(a, *child);
    pthread_mutex_unlock(&a->local);
    return rc;
}

int
fmp_object_move(fmp_arena *a, uint32_t id)
{
    pthread_mutex_lock(&a->local);
    uint32_t old = a->self;
    int keeps = fmp_peek(&a->keeps);
    fmp_heap_keep(a, 0);
    int rc = fmp_owner_adopt(a, id);
    if (rc == 0) {
        a->row_room = 0;
        fmp_step();
        rc = copy_row(a, old, id); /* what both hold goes with neither */
        fmp_step();
        fmp_owner_leave(a, old, FMP_OWNER_GOES_ON);
    }
    fmp_heap_keep(a, keeps);
    pthread_mutex_unlock(&a->local);
    fmp_object_sweep(a);
    return rc;
}

static void
prepare(void)
{
    fmp_arena *a = forking;
    pthread_mutex_lock(&a->local);
    a->child = next_child;
    next_child = 0;
    if (a->child == 0 && reserve(a, &a->child) < 0)
        a->child = 0;
    if (a->child != 0 && copy_row(a, a->self, a->child) < 0) {
        fmp_owner_bury(a, a->child);
        a->child = 0;
    }
    pthread_mutex_lock(&a->mapping);
}

static void
in_parent(void)
{
    fmp_arena *a = forking;
    last_child = a->child;
    if (a->child != 0)
        fmp_owner_forked(a, a->child); /* unless it was promised to the child by another process */
    pthread_mutex_unlock(&a->mapping);
    pthread_mutex_unlock(&a->local);
}

static void
in_child(void)
{
    fmp_arena *a = forking;
    last_child = 0;
    a->row_room = 0;
    fmp_heap_forget(a);
    if (a->child == 0 || fmp_owner_adopt(a, a->child) != 0)
        fmp_owner_outlaw(a);
    pthread_mutex_unlock(&a->mapping);
    pthread_mutex_unlock(&a->local);
}

int
fmp_object_init(fmp_arena *a)
{
    if (fmp_memory_commit(&a->memory, FMP_PLACE_OBJECTS, offsetof(fmp_object_table, entries)) < 0)
        return -ENOMEM;
    return fmp_object_join(a);
}

int
fmp_object_join(fmp_arena *a)
{
    if (forking == NULL) {
        int rc = fmp_process_at_fork(prepare, in_parent, in_child);
        if (rc < 0)
            return rc;
    }
    forking = a;
    return 0;
}
