#include "core/heap.h"

#include <errno.h>
#include <string.h>

#include "core/owner.h"

#define HEAD sizeof(fmp_block)
#define EXTENT_CLASS 255
#define LARGE FMP_UNIT_BYTES            /* from here on blocks are worth prefaulting and punching */
#define CACHED_MOST ((uint64_t)64 << 20) /* warm free bytes kept in each class */
#define PAGE ((uint64_t)4096)

_Static_assert(FMP_PLACE_HEAP + sizeof(fmp_heap) <= FMP_PLACE_OBJECTS, "heap overlaps the objects");
_Static_assert(FMP_PLACE_UNITS + FMP_WINDOW_COUNT * FMP_WINDOW_UNITS <= FMP_PLACE_FREE,
               "units overlap the first free unit");

/* ---- size classes ---------------------------------------------------------------------------- */

/* 64, 128, 192, 256, then 320, 384, 448, 512, 640, 768, ...: four steps to each doubling */
static uint64_t
class_bytes(unsigned c)
{
    if (c < 4)
        return 64 * (c + 1);
    unsigned doubling = (c - 4) / 4, step = (c - 4) % 4 + 1;
    uint64_t base = (uint64_t)256 << doubling;
    return base + base / 4 * step;
}

static unsigned
class_for(uint64_t bytes)
{
    if (bytes <= 256)
        return (unsigned)((bytes + 63) / 64 - 1);
    unsigned doubling = 63 - (unsigned)__builtin_clzll((bytes - 1) >> 8);
    uint64_t base = (uint64_t)256 << doubling;
    return 4 + doubling * 4 + (unsigned)((bytes - base + base / 4 - 1) / (base / 4)) - 1;
}

/* How many units a class grows by: a large block alone, small ones at least eight together. */
static uint32_t
class_units(unsigned c)
{
    uint64_t bytes = class_bytes(c) < LARGE ? class_bytes(c) * 8 : class_bytes(c);
    return (uint32_t)((bytes + FMP_UNIT_BYTES - 1) / FMP_UNIT_BYTES);
}

/* ---- heads ------------------------------------------------------------------------------------- */

static uint64_t
block_off(fmp_ref ref)
{
    return (ref.off & ~FMP_REF_EXTENT) - HEAD;
}

static fmp_block *
head_of(fmp_arena *a, fmp_ref ref)
{
    return fmp_arena_at(a, block_off(ref));
}

static uint32_t
window_use(fmp_heap *h, uint32_t window)
{
    return (uint32_t)(fmp_load(&h->windows[window]) >> 32);
}

static uint32_t
window_count(fmp_heap *h, uint32_t window)
{
    return (uint32_t)fmp_load(&h->windows[window]);
}

static void
use_window(fmp_heap *h, uint32_t window, uint32_t use, uint32_t count)
{
    fmp_store(&h->windows[window], (uint64_t)use << 32 | count);
}

static uint32_t
extent_count(fmp_arena *a, fmp_ref ref)
{
    return window_count(fmp_heap_of(a), (uint32_t)(block_off(ref) >> FMP_WINDOW_SHIFT));
}

void *
fmp_heap_at(fmp_arena *a, fmp_ref ref)
{
    if (!(ref.off & FMP_REF_EXTENT))
        return fmp_arena_at(a, ref.off);
    char *base = fmp_arena_map_extent(a, (uint32_t)(ref.off >> FMP_WINDOW_SHIFT), extent_count(a, ref));
    return base == NULL ? NULL : base + HEAD;
}

uint64_t
fmp_heap_room(fmp_arena *a, fmp_ref ref)
{
    if (ref.off & FMP_REF_EXTENT)
        return extent_count(a, ref) * FMP_WINDOW_BYTES - HEAD;
    fmp_block *head = head_of(a, ref);
    return head == NULL ? 0 : class_bytes(head->size_class) - HEAD;
}

void
fmp_heap_tag(fmp_arena *a, fmp_ref ref, uint32_t tag)
{
    fmp_store(&head_of(a, ref)->tag, tag);
}

int
fmp_heap_retag(fmp_arena *a, fmp_ref ref, uint32_t from, uint32_t to)
{
    fmp_block *head = head_of(a, ref);
    return head != NULL && atomic_compare_exchange_strong(&head->tag, &from, to);
}

/* ---- units ----------------------------------------------------------------------------------------- */

int
fmp_heap_init(fmp_arena *a)
{
    int rc = fmp_memory_commit(a->fd, FMP_PLACE_OWNERS, FMP_PLACE_HEAP + sizeof(fmp_heap) - FMP_PLACE_OWNERS);
    if (rc < 0)
        return -ENOMEM;
    fmp_heap *h = fmp_heap_of(a);
    h->next_unit = FMP_PLACE_FREE;
    h->top_window = FMP_FIRST_FREE_WINDOW;
    use_window(h, 0, FMP_WINDOW_OF_UNITS, 0);
    return 0;
}

static uint8_t *
unit_classes(fmp_arena *a, uint32_t window)
{
    return (uint8_t *)fmp_arena_place(a, FMP_PLACE_UNITS) + window * FMP_WINDOW_UNITS;
}

/* Windows never used before, in a row: the first, or 0. */
static uint32_t
new_windows(fmp_arena *a, fmp_heap *h, uint32_t count)
{
    if (count > a->window_count - h->top_window)
        return 0;
    uint32_t first = h->top_window;
    h->top_window += count;
    return first;
}

/* Cut units for class c off the current window, or off a new one: their offset, 0 if there are none.
 * The caller holds windows_lock. */
static uint64_t
cut_units(fmp_arena *a, fmp_heap *h, unsigned c)
{
    uint64_t bytes = class_units(c) * FMP_UNIT_BYTES, off = h->next_unit;
    uint32_t window = (uint32_t)(off >> FMP_WINDOW_SHIFT);
    if (off == 0 || (off + bytes - 1) >> FMP_WINDOW_SHIFT != window) {
        if ((window = new_windows(a, h, 1)) == 0)
            return 0;
        use_window(h, window, FMP_WINDOW_OF_UNITS, 0);
        off = window * FMP_WINDOW_BYTES;
    }
    if (fmp_memory_commit(a->fd, FMP_PLACE_UNITS + window * FMP_WINDOW_UNITS, FMP_WINDOW_UNITS) < 0 ||
        fmp_memory_commit(a->fd, off, bytes) < 0)
        return 0;
    unit_classes(a, window)[(off >> FMP_UNIT_SHIFT) % FMP_WINDOW_UNITS] = (uint8_t)(c + 1);
    fmp_step();
    h->next_unit = (off + bytes) % FMP_WINDOW_BYTES == 0 ? 0 : off + bytes;
    return off;
}

/* Fresh blocks for class index, whose lock is held and whose fresh blocks are used up. */
static int
grow(fmp_arena *a, unsigned index, fmp_size_class *c)
{
    fmp_heap *h = fmp_heap_of(a);
    fmp_mutex_enter(a, &h->windows_lock); /* a dead holder leaves nothing to repair */
    uint64_t off = cut_units(a, h, index);
    fmp_mutex_unlock(&h->windows_lock);
    if (off == 0)
        return -ENOMEM;
    c->fresh = off; /* above the old fresh_end or at it: no moment when foreign units are taken for fresh */
    fmp_step();
    c->fresh_end = off + class_units(index) * FMP_UNIT_BYTES;
    return 0;
}

/* ---- blocks of the classes -------------------------------------------------------------------------- */

/* H2: after its last holder died. */
static void
repair_class(fmp_arena *a, fmp_size_class *c)
{
    if (c->moving == 0)
        return;
    fmp_block *head = fmp_arena_at(a, c->moving);
    if (head == NULL)
        return;
    if (c->free != c->moving) {
        head->next = c->free;
        fmp_step();
        c->free = c->moving;
    }
    fmp_store(&head->tag, FMP_TAG_FREE);
    fmp_step();
    c->moving = 0;
}

static void
enter_class(fmp_arena *a, fmp_size_class *c)
{
    if (fmp_mutex_enter(a, &c->lock) == FMP_OWNER_DEAD)
        repair_class(a, c);
}

/* Off the list, or off the fresh ones: the block's head; NULL if there is none, rc says why. */
static fmp_block *
pop(fmp_arena *a, unsigned index, fmp_size_class *c, uint64_t *off, int *rc)
{
    if (c->free != 0) {
        *off = c->free;
        fmp_block *head = fmp_arena_at(a, *off);
        if (head == NULL)
            return *rc = -ENOMEM, NULL;
        c->moving = *off;
        fmp_step();
        fmp_store(&head->tag, a->self);
        fmp_step();
        c->free = head->next;
        fmp_step();
        c->moving = 0;
        return head;
    }
    uint64_t bytes = class_bytes(index);
    if (c->fresh + bytes > c->fresh_end && (*rc = grow(a, index, c)) < 0)
        return NULL;
    *off = c->fresh;
    fmp_block *head = fmp_arena_at(a, *off);
    if (head == NULL)
        return *rc = -ENOMEM, NULL;
    head->size_class = (uint8_t)index;
    head->cold = 0;
    fmp_store(&head->tag, a->self);
    fmp_step();
    c->fresh += bytes; /* H3: now the head counts */
    return head;
}

static void
push(fmp_size_class *c, uint64_t off, fmp_block *head)
{
    c->moving = off;
    fmp_step();
    fmp_store(&head->tag, FMP_TAG_FREE);
    head->next = c->free;
    fmp_step();
    c->free = off;
    fmp_step();
    c->moving = 0;
}

/* Pages and page-table entries for a block that lost them. */
static int
warm_up(fmp_arena *a, fmp_block *head, uint64_t off, uint64_t bytes)
{
    if (!head->cold)
        return 0;
    if (fmp_memory_commit(a->fd, off, bytes) < 0)
        return -ENOMEM;
    fmp_memory_populate(head, bytes);
    head->cold = 0;
    return 0;
}

/* Give the pages behind the head's own back, if its class keeps enough warm ones. */
static void
cool_down(fmp_arena *a, fmp_size_class *c, fmp_block *head, uint64_t off, uint64_t bytes)
{
    if (bytes < LARGE || head->cold)
        return;
    if (atomic_fetch_add(&c->cached, bytes) < CACHED_MOST)
        return;
    uint64_t start = (off + HEAD + PAGE - 1) / PAGE * PAGE, end = (off + bytes) / PAGE * PAGE;
    head->cold = 1; /* before it is: a block that is called cold is warmed up, whatever happened */
    fmp_step();
    if (fmp_memory_release(a->fd, start, end - start) == 0)
        atomic_fetch_sub(&c->cached, bytes);
    else
        head->cold = 0;
}

static int
alloc_block(fmp_arena *a, uint64_t bytes, fmp_ref *ref, void **payload)
{
    unsigned index = class_for(bytes + HEAD);
    fmp_size_class *c = &fmp_heap_of(a)->classes[index];
    uint64_t off = 0;
    int rc = 0;
    enter_class(a, c);
    int recycled = c->free != 0;
    fmp_block *head = pop(a, index, c, &off, &rc);
    fmp_mutex_unlock(&c->lock);
    if (head == NULL)
        return rc;
    *ref = (fmp_ref){off + HEAD};
    *payload = (char *)head + HEAD;
    if (class_bytes(index) < LARGE)
        return 0;
    if (!recycled)
        fmp_memory_populate(head, class_bytes(index));
    else if (!head->cold)
        atomic_fetch_sub(&c->cached, class_bytes(index));
    if ((rc = warm_up(a, head, off, class_bytes(index))) < 0)
        fmp_heap_free(a, *ref);
    return rc;
}

/* ---- extents ------------------------------------------------------------------------------------------- */

/* The best fitting unused run of windows below the top, else new ones: the first, or 0. */
static uint32_t
find_windows(fmp_arena *a, fmp_heap *h, uint32_t count)
{
    uint32_t best = 0, best_run = UINT32_MAX;
    for (uint32_t i = FMP_FIRST_FREE_WINDOW, run; i < h->top_window; i += run) {
        uint32_t use = window_use(h, i);
        run = use == FMP_WINDOW_EXTENT ? window_count(h, i) : 1;
        if (use != FMP_WINDOW_UNUSED)
            continue;
        while (i + run < h->top_window && window_use(h, i + run) == FMP_WINDOW_UNUSED)
            run++;
        if (run >= count && run < best_run) {
            best = i;
            best_run = run;
        }
    }
    return best != 0 ? best : new_windows(a, h, count);
}

/* Take `count` windows as one extent, tagged with this process: its head, or NULL. */
static fmp_block *
take_windows(fmp_arena *a, uint32_t count, uint32_t *first)
{
    fmp_heap *h = fmp_heap_of(a);
    fmp_block *head = NULL;
    fmp_mutex_enter(a, &h->windows_lock); /* a dead holder leaves nothing to repair */
    *first = find_windows(a, h, count);
    if (*first != 0 && fmp_memory_commit(a->fd, *first * FMP_WINDOW_BYTES, PAGE) == 0)
        head = (fmp_block *)fmp_arena_map_extent(a, *first, count);
    if (head != NULL) {
        head->size_class = EXTENT_CLASS;
        fmp_store(&head->tag, a->self);
        for (uint32_t i = 1; i < count; i++)
            use_window(h, *first + i, FMP_WINDOW_UNUSED, 0);
        use_window(h, *first, FMP_WINDOW_EXTENT, count);
    }
    fmp_mutex_unlock(&h->windows_lock);
    return head;
}

static int
alloc_extent(fmp_arena *a, uint64_t bytes, fmp_ref *ref, void **payload)
{
    if (bytes > (uint64_t)a->window_count * FMP_WINDOW_BYTES)
        return -ENOMEM;
    uint64_t total = (bytes + HEAD + PAGE - 1) / PAGE * PAGE;
    uint32_t first;
    fmp_block *head = take_windows(a, (uint32_t)((total + FMP_WINDOW_BYTES - 1) >> FMP_WINDOW_SHIFT), &first);
    if (head == NULL)
        return -ENOMEM;
    *ref = (fmp_ref){(first * FMP_WINDOW_BYTES + HEAD) | FMP_REF_EXTENT};
    *payload = (char *)head + HEAD;
    if (head->next >= total)
        return 0;
    if (fmp_memory_commit(a->fd, first * FMP_WINDOW_BYTES, total) < 0) {
        fmp_heap_free(a, *ref);
        return -ENOMEM;
    }
    fmp_memory_populate(head, total);
    head->next = total;
    return 0;
}

/* The head keeps its tag: if this process dies on the way, whoever sweeps up frees the extent again. */
static void
free_extent(fmp_arena *a, fmp_block *head, fmp_ref ref)
{
    fmp_heap *h = fmp_heap_of(a);
    uint64_t off = block_off(ref);
    uint32_t first = (uint32_t)(off >> FMP_WINDOW_SHIFT), count = window_count(h, first);
    if (count > 1) { /* a single window stays warm: the next array is likely to be as large */
        head->next = 0;
        fmp_step();
        fmp_memory_release(a->fd, off + PAGE, count * FMP_WINDOW_BYTES - PAGE);
    }
    fmp_mutex_enter(a, &h->windows_lock);
    use_window(h, first, FMP_WINDOW_UNUSED, 0);
    fmp_mutex_unlock(&h->windows_lock);
}

/* ---- what others call ---------------------------------------------------------------------------------- */

int
fmp_heap_alloc(fmp_arena *a, uint64_t bytes, fmp_ref *ref, void **payload)
{
    if (bytes > FMP_BLOCK_MOST - HEAD)
        return alloc_extent(a, bytes, ref, payload);
    return alloc_block(a, bytes, ref, payload);
}

int
fmp_heap_alloc_zeroed(fmp_arena *a, uint64_t bytes, fmp_ref *ref, void **payload)
{
    int rc = fmp_heap_alloc(a, bytes, ref, payload);
    if (rc == 0)
        memset(*payload, 0, bytes);
    return rc;
}

void
fmp_heap_free(fmp_arena *a, fmp_ref ref)
{
    fmp_block *head = head_of(a, ref);
    if (head == NULL)
        return; /* never mapped here and can't be: swept when this process ends */
    assert(fmp_peek(&head->tag) != FMP_TAG_FREE);
    fmp_store(&head->tag, a->self);
    if (ref.off & FMP_REF_EXTENT) {
        free_extent(a, head, ref);
        return;
    }
    unsigned index = head->size_class;
    fmp_size_class *c = &fmp_heap_of(a)->classes[index];
    uint64_t off = block_off(ref);
    cool_down(a, c, head, off, class_bytes(index));
    enter_class(a, c);
    push(c, off, head);
    fmp_mutex_unlock(&c->lock);
}

/* ---- all blocks -------------------------------------------------------------------------------------- */

/* Called for a block or extent that is tagged, with its bytes. */
typedef void (*visit_fn)(fmp_arena *a, fmp_ref ref, uint64_t bytes, void *arg);

/* Not one of the fresh blocks, whose heads don't count (H3). Repairs the class by the way (H2). */
static int
counts(fmp_arena *a, fmp_size_class *c, uint64_t off)
{
    enter_class(a, c);
    int yes = off < c->fresh || off >= c->fresh_end;
    fmp_mutex_unlock(&c->lock);
    return yes;
}

/* The units at `start`, which class index grew by. `tag` is the one looked for, or FREE for all others. */
static void
visit_units(fmp_arena *a, uint64_t start, unsigned index, uint32_t tag, visit_fn visit, void *arg)
{
    fmp_size_class *c = &fmp_heap_of(a)->classes[index];
    uint64_t bytes = class_bytes(index), end = start + class_units(index) * FMP_UNIT_BYTES;
    if (fmp_arena_at(a, start) == NULL)
        return;
    for (uint64_t off = start; off + bytes <= end; off += bytes) {
        uint32_t found = fmp_peek(&((fmp_block *)fmp_arena_at(a, off))->tag);
        if (found != FMP_TAG_FREE && (tag == FMP_TAG_FREE || found == tag) && counts(a, c, off))
            visit(a, (fmp_ref){off + HEAD}, bytes, arg);
    }
}

static void
visit_window(fmp_arena *a, uint32_t window, uint32_t tag, visit_fn visit, void *arg)
{
    const uint8_t *classes = unit_classes(a, window);
    for (uint32_t unit = 0; unit < FMP_WINDOW_UNITS; unit++) {
        if (classes[unit] != 0)
            visit_units(a, window * FMP_WINDOW_BYTES + unit * FMP_UNIT_BYTES, classes[unit] - 1u, tag, visit, arg);
    }
}

/* The tag of another process's extent, read without mapping it: to map it is to unmap what a thread of this
 * process may be looking at. */
static uint32_t
extent_tag(fmp_arena *a, uint32_t window)
{
    fmp_block head;
    uint64_t off = window * FMP_WINDOW_BYTES;
    return fmp_memory_read(a->fd, off, &head, HEAD) < 0 ? FMP_TAG_FREE : fmp_peek(&head.tag);
}

static void
visit_all(fmp_arena *a, uint32_t tag, visit_fn visit, void *arg)
{
    fmp_heap *h = fmp_heap_of(a);
    for (uint32_t window = 0, step; window < h->top_window; window += step) {
        uint32_t use = window_use(h, window);
        step = use == FMP_WINDOW_EXTENT ? window_count(h, window) : 1;
        fmp_ref extent = {(window * FMP_WINDOW_BYTES + HEAD) | FMP_REF_EXTENT};
        if (use == FMP_WINDOW_OF_UNITS)
            visit_window(a, window, tag, visit, arg);
        else if (use == FMP_WINDOW_EXTENT && (tag == FMP_TAG_FREE || extent_tag(a, window) == tag))
            visit(a, extent, step * FMP_WINDOW_BYTES, arg);
    }
}

static void
free_if_dead(fmp_arena *a, fmp_ref ref, uint64_t bytes, void *arg)
{
    (void)bytes;
    if (fmp_heap_retag(a, ref, *(uint32_t *)arg, a->self)) /* H1 */
        fmp_heap_free(a, ref);
}

void
fmp_heap_sweep(fmp_arena *a, uint32_t dead)
{
    visit_all(a, dead, free_if_dead, &dead);
}

struct usage {
    uint64_t blocks, bytes;
};

static void
add_usage(fmp_arena *a, fmp_ref ref, uint64_t bytes, void *arg)
{
    (void)a, (void)ref;
    struct usage *u = arg;
    u->blocks++;
    u->bytes += bytes;
}

void
fmp_heap_usage(fmp_arena *a, uint64_t *blocks, uint64_t *bytes)
{
    struct usage u = {0, 0};
    visit_all(a, FMP_TAG_FREE, add_usage, &u);
    *blocks = u.blocks;
    *bytes = u.bytes;
}
