#include "core/heap.h"

#include <errno.h>
#include <string.h>

#include "core/owner.h"

#define HEAD sizeof(fmp_block)
#define EXTENT_CLASS 255
#define LARGE FMP_UNIT_BYTES            /* from here on blocks are worth prefaulting and punching */
#define PAGE ((uint64_t)4096)

/* What stays warm, see heap.h. */
#define WARM_LEAST ((uint64_t)32 << 20)
#define WARM_MORE ((uint64_t)480 << 20)
#define WARM_IDLE ((uint64_t)16 << 20)
#define SOON FMP_SECOND          /* pages that are wanted again so soon had better been kept */
#define LASTING (10 * FMP_SECOND) /* so long the limit stays raised */

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

static void
set_kept(fmp_block *head, int kept)
{
    atomic_store_explicit(&head->kept, (uint8_t)kept, memory_order_relaxed);
}

void
fmp_heap_mark(fmp_arena *a, fmp_ref ref, int marked)
{
    head_of(a, ref)->marked = (uint8_t)marked;
}

/* ---- units ----------------------------------------------------------------------------------------- */

int
fmp_heap_init(fmp_arena *a)
{
    int rc = fmp_memory_commit(&a->memory, FMP_PLACE_OWNERS, FMP_PLACE_HEAP + sizeof(fmp_heap) - FMP_PLACE_OWNERS);
    if (rc < 0)
        return -ENOMEM;
    fmp_heap *h = fmp_heap_of(a);
    h->next_unit = FMP_PLACE_FREE;
    fmp_store(&h->top_window, FMP_FIRST_FREE_WINDOW);
    use_window(h, 0, FMP_WINDOW_OF_UNITS, 0);
    return 0;
}

static _Atomic uint8_t *
unit_classes(fmp_arena *a, uint32_t window)
{
    return (_Atomic uint8_t *)fmp_arena_place(a, FMP_PLACE_UNITS) + window * FMP_WINDOW_UNITS;
}

/* Windows never used before, in a row: the first, or 0. */
static uint32_t
new_windows(fmp_arena *a, fmp_heap *h, uint32_t count)
{
    uint32_t first = fmp_peek(&h->top_window);
    if (count > a->window_count - first)
        return 0;
    fmp_store(&h->top_window, first + count);
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
    if (fmp_memory_commit(&a->memory, FMP_PLACE_UNITS + window * FMP_WINDOW_UNITS, FMP_WINDOW_UNITS) < 0 ||
        fmp_memory_commit(&a->memory, off, bytes) < 0)
        return 0;
    h->next_unit = (off + bytes) % FMP_WINDOW_BYTES == 0 ? 0 : off + bytes;
    fmp_step();
    fmp_store(&unit_classes(a, window)[(off >> FMP_UNIT_SHIFT) % FMP_WINDOW_UNITS], (uint8_t)(c + 1)); /* H6 */
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

/* The list that a block, which may be on it, belongs to. */
static uint64_t *
list_of(fmp_size_class *c, const fmp_block *head)
{
    return head->cold ? &c->cold : &c->free;
}

/* H2: after its last holder died. */
static void
repair_class(fmp_arena *a, fmp_size_class *c)
{
    if (c->moving == 0)
        return;
    fmp_block *head = fmp_arena_at(a, c->moving);
    if (head == NULL)
        return;
    uint64_t *list = list_of(c, head);
    if (*list != c->moving) {
        head->next = *list;
        fmp_step();
        *list = c->moving;
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

/* The first block of the list, which has one, off it: its head; NULL if it can't be mapped. */
static fmp_block *
pop_free(fmp_arena *a, fmp_size_class *c, uint64_t *list, uint64_t *off)
{
    *off = *list;
    fmp_block *head = fmp_arena_at(a, *off);
    if (head == NULL)
        return NULL;
    c->moving = *off;
    fmp_step();
    fmp_store(&head->tag, a->self);
    fmp_step();
    *list = head->next;
    fmp_step();
    c->moving = 0;
    return head;
}

/* A block: the warmest, else a cold one, else off the fresh ones: its head; NULL if there is none, rc says why. */
static fmp_block *
pop(fmp_arena *a, unsigned index, fmp_size_class *c, uint64_t *off, int *rc)
{
    *rc = -ENOMEM;
    if (c->free != 0 || c->cold != 0)
        return pop_free(a, c, c->free != 0 ? &c->free : &c->cold, off);
    uint64_t bytes = class_bytes(index);
    if (c->fresh + bytes > c->fresh_end && (*rc = grow(a, index, c)) < 0)
        return NULL;
    *off = c->fresh;
    fmp_block *head = fmp_arena_at(a, *off);
    if (head == NULL)
        return NULL;
    head->size_class = (uint8_t)index;
    head->cold = head->marked = 0;
    set_kept(head, 0);
    fmp_store(&head->tag, a->self);
    fmp_step();
    c->fresh += bytes; /* H3: now the head counts */
    return head;
}

static void
push(fmp_size_class *c, uint64_t off, fmp_block *head)
{
    uint64_t *list = list_of(c, head);
    c->moving = off;
    fmp_step();
    fmp_store(&head->tag, FMP_TAG_FREE);
    head->next = *list;
    fmp_step();
    *list = off;
    fmp_step();
    c->moving = 0;
}

/* ---- what stays warm ------------------------------------------------------------------------------- */

/* May a block that is being freed keep so many bytes of pages? They are counted then. */
static int
keep_warm(fmp_heap *h, uint64_t bytes)
{
    if (atomic_fetch_add(&h->warm, bytes) + bytes <= WARM_LEAST + fmp_peek(&h->warm_more))
        return 1;
    atomic_fetch_sub(&h->warm, bytes);
    fmp_time now = fmp_clock();
    fmp_store(&h->released_at, now);
    if (now > fmp_load(&h->missed_at) + LASTING)
        fmp_store(&h->warm_more, 0);
    return 0;
}

/* A large block was handed out that had `warm` bytes of pages and has to be given `missing` ones. */
static void
count_wanted(fmp_heap *h, uint64_t warm, uint64_t missing)
{
    fmp_time now = fmp_clock();
    fmp_store(&h->wanted_at, now);
    if (warm != 0)
        atomic_fetch_sub(&h->warm, warm);
    if (missing == 0 || now > fmp_load(&h->released_at) + SOON)
        return;
    fmp_store(&h->missed_at, now);
    uint64_t more = fmp_load(&h->warm_more) + missing;
    fmp_store(&h->warm_more, more < WARM_MORE ? more : WARM_MORE);
}

/* Pages and page-table entries for a block that lost them. */
static int
warm_up(fmp_arena *a, fmp_block *head, uint64_t off, uint64_t bytes)
{
    if (!head->cold)
        return 0;
    if (fmp_memory_commit(&a->memory, off, bytes) < 0)
        return -ENOMEM;
    fmp_memory_populate(head, bytes);
    head->cold = 0;
    return 0;
}

/* Give the pages behind the head's own back. */
static void
cool_down(fmp_arena *a, fmp_block *head, uint64_t off, uint64_t bytes)
{
    uint64_t start = (off + HEAD + PAGE - 1) / PAGE * PAGE, end = (off + bytes) / PAGE * PAGE;
    head->cold = 1; /* before it is: a block that is called cold is warmed up, whatever happened */
    fmp_step();
    if (fmp_memory_release(&a->memory, start, end - start) < 0)
        head->cold = 0;
}

/* ---- what this process keeps at hand (H7) --------------------------------------------------------- */

/* True if no other thread was at them: to be let go of. */
static int
seize(fmp_spare *s)
{
    return atomic_exchange_explicit(&s->busy, 1, memory_order_acquire) == 0;
}

static void
let_go(fmp_spare *s)
{
    fmp_store(&s->busy, 0);
}

/* The blocks of this class, to be let go of; NULL if it keeps none, or another thread is at them. Outlaws (owner.h)
 * keep none: nobody sweeps up after them. */
static fmp_spare *
reach(fmp_arena *a, unsigned index)
{
    if (index >= FMP_SPARE_SIZES || !fmp_peek(&a->keeps) || a->self == FMP_OWNER_OUTLAW)
        return NULL;
    fmp_spare *s = &a->spare[index];
    if (!seize(s))
        return NULL;
    if (fmp_peek(&a->keeps)) /* still */
        return s;
    let_go(s);
    return NULL;
}

static void
keep(fmp_spare *s, fmp_block *head, uint64_t off)
{
    set_kept(head, 1);
    s->off[s->count++] = off;
}

/* Fetch a block, and more if there are warm ones. -ENOMEM. */
static int
fetch(fmp_arena *a, unsigned index, fmp_spare *s)
{
    fmp_size_class *c = &fmp_heap_of(a)->classes[index];
    uint64_t off;
    int rc;
    enter_class(a, c);
    fmp_block *head = pop(a, index, c, &off, &rc);
    while (head != NULL) {
        keep(s, head, off);
        head = s->count < FMP_SPARE_MOST / 2 && c->free != 0 ? pop_free(a, c, &c->free, &off) : NULL;
    }
    fmp_mutex_unlock(&c->lock);
    return s->count != 0 ? 0 : rc;
}

/* Give the oldest back. */
static void
give_back(fmp_arena *a, unsigned index, fmp_spare *s, uint32_t count)
{
    fmp_size_class *c = &fmp_heap_of(a)->classes[index];
    enter_class(a, c);
    for (uint32_t i = 0; i < count; i++) {
        fmp_block *head = fmp_arena_again(a, s->off[i]);
        set_kept(head, 0);
        push(c, s->off[i], head);
    }
    fmp_mutex_unlock(&c->lock);
    s->count -= count;
    memmove(s->off, s->off + count, s->count * sizeof(*s->off));
}

static int
take_spare(fmp_arena *a, unsigned index, fmp_spare *s, fmp_ref *ref, void **payload)
{
    int rc = s->count != 0 ? 0 : fetch(a, index, s);
    if (rc == 0) {
        *ref = (fmp_ref){s->off[--s->count] + HEAD};
        *payload = fmp_arena_again(a, ref->off);
        set_kept(head_of(a, *ref), 0);
    }
    let_go(s);
    return rc;
}

static void
put_spare(fmp_arena *a, unsigned index, fmp_spare *s, fmp_block *head, uint64_t off)
{
    if (s->count == FMP_SPARE_MOST)
        give_back(a, index, s, FMP_SPARE_MOST / 2);
    keep(s, head, off);
    let_go(s);
}

void
fmp_heap_keep(fmp_arena *a, int keeps)
{
    atomic_store(&a->keeps, keeps); /* first: who reaches for them later finds that there is nothing */
    for (unsigned i = 0; i < FMP_SPARE_SIZES && !keeps; i++) {
        fmp_spare *s = &a->spare[i];
        while (!seize(s))
            fmp_cpu_relax();
        if (s->count != 0)
            give_back(a, i, s, s->count);
        let_go(s);
    }
}

void
fmp_heap_forget(fmp_arena *a)
{
    memset(a->spare, 0, sizeof(a->spare));
}

/* ---- blocks ------------------------------------------------------------------------------------------ */

static int
alloc_block(fmp_arena *a, uint64_t bytes, fmp_ref *ref, void **payload)
{
    unsigned index = class_for(bytes + HEAD);
    fmp_spare *s = reach(a, index);
    if (s != NULL)
        return take_spare(a, index, s, ref, payload);
    fmp_heap *h = fmp_heap_of(a);
    fmp_size_class *c = &h->classes[index];
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
    bytes = class_bytes(index);
    if (bytes < LARGE)
        return 0;
    count_wanted(h, recycled ? bytes : 0, recycled ? 0 : bytes);
    if (!recycled && !head->cold)
        fmp_memory_populate(head, bytes); /* it is fresh */
    if ((rc = warm_up(a, head, off, bytes)) < 0)
        fmp_heap_free(a, *ref);
    return rc;
}

static void
free_block(fmp_arena *a, fmp_block *head, uint64_t off)
{
    fmp_spare *s = reach(a, head->size_class);
    if (s != NULL) {
        put_spare(a, head->size_class, s, head, off);
        return;
    }
    fmp_heap *h = fmp_heap_of(a);
    fmp_size_class *c = &h->classes[head->size_class];
    uint64_t bytes = class_bytes(head->size_class);
    if (bytes >= LARGE && !head->cold && !keep_warm(h, bytes))
        cool_down(a, head, off, bytes);
    enter_class(a, c);
    push(c, off, head);
    fmp_mutex_unlock(&c->lock);
}

/* ---- extents ------------------------------------------------------------------------------------------- */

/* Bytes that have pages in an unused window, or in one inside of an extent. */
static uint64_t
window_warm(fmp_heap *h, uint32_t window)
{
    return window_count(h, window) * PAGE;
}

/* A run of unused windows from this one on: how long it is, up to the top. */
static uint32_t
unused_run(fmp_heap *h, uint32_t first)
{
    uint32_t run = 0;
    while (first + run < fmp_peek(&h->top_window) && window_use(h, first + run) == FMP_WINDOW_UNUSED)
        run++;
    return run;
}

/* Where to take so many windows below the top: where most pages are, and of those the shortest run that is long
 * enough; else new ones. The first, or 0. */
static uint32_t
find_windows(fmp_arena *a, fmp_heap *h, uint32_t count)
{
    uint32_t best = 0, best_run = 0;
    uint64_t best_warm = 0;
    for (uint32_t i = FMP_FIRST_FREE_WINDOW, step; i < fmp_peek(&h->top_window); i += step) {
        uint32_t run = unused_run(h, i);
        uint64_t warm = 0;
        step = run != 0 ? run : window_use(h, i) == FMP_WINDOW_EXTENT ? window_count(h, i) : 1;
        if (run < count)
            continue;
        for (uint32_t k = 0; k < count; k++)
            warm += window_warm(h, i + k);
        if (best == 0 || warm > best_warm || (warm == best_warm && run < best_run)) {
            best = i;
            best_run = run;
            best_warm = warm;
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
    if (*first != 0 && fmp_memory_commit(&a->memory, *first * FMP_WINDOW_BYTES, PAGE) == 0)
        head = (fmp_block *)fmp_arena_map_extent(a, *first, count);
    if (head != NULL) {
        head->size_class = EXTENT_CLASS;
        head->marked = 0;
        set_kept(head, 0);
        head->next = window_warm(h, *first);
        fmp_store(&head->tag, a->self);
        use_window(h, *first, FMP_WINDOW_EXTENT, count);
    }
    fmp_mutex_unlock(&h->windows_lock);
    return head;
}

/* Bytes of an extent's window that have pages, and the same to be changed. */
static uint64_t
extent_warm(fmp_heap *h, const fmp_block *head, uint32_t first, uint32_t i)
{
    return i == 0 ? head->next : window_warm(h, first + i);
}

static void
set_extent_warm(fmp_heap *h, fmp_block *head, uint32_t first, uint32_t i, uint64_t bytes)
{
    if (i == 0)
        head->next = bytes;
    else
        use_window(h, first + i, FMP_WINDOW_UNUSED, (uint32_t)(bytes / PAGE));
}

static uint64_t
sum_extent_warm(fmp_heap *h, const fmp_block *head, uint32_t first, uint32_t count)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < count; i++)
        sum += extent_warm(h, head, first, i);
    return sum;
}

/* Pages and page-table entries for `total` bytes of the extent, where it has none. */
static int
warm_extent(fmp_arena *a, fmp_block *head, uint32_t first, uint64_t total)
{
    fmp_heap *h = fmp_heap_of(a);
    for (uint32_t i = 0; i * FMP_WINDOW_BYTES < total; i++) {
        uint64_t start = i * FMP_WINDOW_BYTES, need = total - start, have = extent_warm(h, head, first, i);
        if (need > FMP_WINDOW_BYTES)
            need = FMP_WINDOW_BYTES;
        if (have >= need)
            continue;
        if (fmp_memory_commit(&a->memory, first * FMP_WINDOW_BYTES + start + have, need - have) < 0)
            return -ENOMEM;
        fmp_memory_populate((char *)head + start + have, need - have);
        set_extent_warm(h, head, first, i, need);
    }
    return 0;
}

static int
alloc_extent(fmp_arena *a, uint64_t bytes, fmp_ref *ref, void **payload)
{
    if (bytes > (uint64_t)a->window_count * FMP_WINDOW_BYTES)
        return -ENOMEM;
    fmp_heap *h = fmp_heap_of(a);
    uint64_t total = (bytes + HEAD + PAGE - 1) / PAGE * PAGE;
    uint32_t first, count = (uint32_t)((total + FMP_WINDOW_BYTES - 1) >> FMP_WINDOW_SHIFT);
    fmp_block *head = take_windows(a, count, &first);
    if (head == NULL)
        return -ENOMEM;
    *ref = (fmp_ref){(first * FMP_WINDOW_BYTES + HEAD) | FMP_REF_EXTENT};
    *payload = (char *)head + HEAD;
    uint64_t warm = sum_extent_warm(h, head, first, count);
    count_wanted(h, warm, total > warm ? total - warm : 0);
    int rc = warm_extent(a, head, first, total);
    if (rc < 0)
        fmp_heap_free(a, *ref);
    return rc;
}

/* Give the pages behind the first one back. */
static void
cool_extent(fmp_arena *a, fmp_block *head, uint32_t first, uint32_t count)
{
    fmp_heap *h = fmp_heap_of(a);
    for (uint32_t i = 0; i < count; i++)
        set_extent_warm(h, head, first, i, 0); /* before they are: as in cool_down */
    fmp_step();
    fmp_memory_release(&a->memory, first * FMP_WINDOW_BYTES + PAGE, count * FMP_WINDOW_BYTES - PAGE);
}

static void
return_windows(fmp_arena *a, const fmp_block *head, uint32_t first)
{
    fmp_heap *h = fmp_heap_of(a);
    fmp_mutex_enter(a, &h->windows_lock);
    use_window(h, first, FMP_WINDOW_UNUSED, (uint32_t)(head->next / PAGE));
    fmp_mutex_unlock(&h->windows_lock);
}

/* The head keeps its tag: if this process dies on the way, whoever sweeps up frees the extent again. */
static void
free_extent(fmp_arena *a, fmp_block *head, fmp_ref ref)
{
    fmp_heap *h = fmp_heap_of(a);
    uint32_t first = (uint32_t)(block_off(ref) >> FMP_WINDOW_SHIFT), count = window_count(h, first);
    if (!keep_warm(h, sum_extent_warm(h, head, first, count)))
        cool_extent(a, head, first, count);
    return_windows(a, head, first);
}

/* ---- giving back what nobody wanted for a while --------------------------------------------------------- */

/* Cool one warm free block of the class down: false if there is none. */
static int
trim_class(fmp_arena *a, unsigned index)
{
    fmp_heap *h = fmp_heap_of(a);
    fmp_size_class *c = &h->classes[index];
    uint64_t off = 0, bytes = class_bytes(index);
    enter_class(a, c);
    fmp_block *head = c->free == 0 ? NULL : pop_free(a, c, &c->free, &off);
    fmp_mutex_unlock(&c->lock);
    if (head == NULL)
        return 0;
    cool_down(a, head, off, bytes);
    int cold = head->cold;
    if (cold)
        atomic_fetch_sub(&h->warm, bytes);
    enter_class(a, c);
    push(c, off, head);
    fmp_mutex_unlock(&c->lock);
    return cold;
}

/* The same for the unused window that has most pages. */
static int
trim_window(fmp_arena *a)
{
    fmp_heap *h = fmp_heap_of(a);
    uint32_t first;
    fmp_block *head = take_windows(a, 1, &first);
    if (head == NULL)
        return 0;
    uint64_t warm = head->next;
    cool_extent(a, head, first, 1);
    atomic_fetch_sub(&h->warm, warm);
    return_windows(a, head, first);
    return warm != 0;
}

static int
may_trim(fmp_heap *h)
{
    return fmp_load(&h->warm) > WARM_IDLE && fmp_clock() > fmp_load(&h->wanted_at) + SOON;
}

void
fmp_heap_idle(fmp_arena *a)
{
    fmp_heap *h = fmp_heap_of(a);
    while (may_trim(h) && trim_window(a))
        ;
    for (unsigned index = FMP_HEAP_CLASSES; index-- > class_for(LARGE);) {
        while (may_trim(h) && trim_class(a, index))
            ;
    }
    if (may_trim(h))
        atomic_store(&h->warm, 0); /* nothing is left: killed processes had counted twice */
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
    assert(fmp_peek(&head->tag) != FMP_TAG_FREE && !head->marked && !fmp_peek(&head->kept));
    fmp_store(&head->tag, a->self);
    if (ref.off & FMP_REF_EXTENT) {
        free_extent(a, head, ref);
        return;
    }
    free_block(a, head, block_off(ref));
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
    _Atomic uint8_t *classes = unit_classes(a, window);
    for (uint32_t unit = 0; unit < FMP_WINDOW_UNITS; unit++) {
        uint32_t class = fmp_load(&classes[unit]);
        if (class != 0)
            visit_units(a, window * FMP_WINDOW_BYTES + unit * FMP_UNIT_BYTES, class - 1, tag, visit, arg);
    }
}

/* The tag of another process's extent, read without mapping it: to map it is to unmap what a thread of this
 * process may be looking at. */
static uint32_t
extent_tag(fmp_arena *a, uint32_t window)
{
    fmp_block head;
    uint64_t off = window * FMP_WINDOW_BYTES;
    return fmp_memory_read(&a->memory, off, &head, HEAD) < 0 ? FMP_TAG_FREE : fmp_peek(&head.tag);
}

static void
visit_all(fmp_arena *a, uint32_t tag, visit_fn visit, void *arg)
{
    fmp_heap *h = fmp_heap_of(a);
    for (uint32_t window = 0, step; window < fmp_load(&h->top_window); window += step) {
        uint32_t use = window_use(h, window);
        step = use == FMP_WINDOW_EXTENT ? window_count(h, window) : 1;
        fmp_ref extent = {(window * FMP_WINDOW_BYTES + HEAD) | FMP_REF_EXTENT};
        if (use == FMP_WINDOW_OF_UNITS)
            visit_window(a, window, tag, visit, arg);
        else if (use == FMP_WINDOW_EXTENT && (tag == FMP_TAG_FREE || extent_tag(a, window) == tag))
            visit(a, extent, step * FMP_WINDOW_BYTES, arg);
    }
}

struct sweep {
    uint32_t dead;
    fmp_heap_end_fn end;
};

static void
free_if_dead(fmp_arena *a, fmp_ref ref, uint64_t bytes, void *arg)
{
    const struct sweep *s = arg;
    (void)bytes;
    if (!fmp_heap_retag(a, ref, s->dead, a->self)) /* H1 */
        return;
    fmp_block *head = fmp_arena_again(a, block_off(ref));
    set_kept(head, 0);
    (head->marked ? s->end : fmp_heap_free)(a, ref);
}

void
fmp_heap_sweep(fmp_arena *a, uint32_t dead, fmp_heap_end_fn end)
{
    struct sweep s = {dead, end};
    visit_all(a, dead, free_if_dead, &s);
}

struct usage {
    uint64_t blocks, bytes;
};

static void
add_usage(fmp_arena *a, fmp_ref ref, uint64_t bytes, void *arg)
{
    struct usage *u = arg;
    const fmp_block *head = ref.off & FMP_REF_EXTENT ? NULL : head_of(a, ref);
    if (head != NULL && fmp_peek(&head->kept) && !fmp_owner_known_dead(a, fmp_peek(&head->tag)))
        return;
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
