#include "core/bell.h"

#include <errno.h>

#include "core/owner.h"

static fmp_bell_place *
places_of(fmp_arena *a, fmp_bell *b)
{
    return b->places.off == 0 ? NULL : fmp_heap_at(a, b->places);
}

/* ---- ringing, under the lock ------------------------------------------------------------------ */

/* Is nobody left to hear it? Outlaws (owner.h) are never known to be dead: their doorbells tell. */
static int
deserted(fmp_arena *a, const fmp_bell_place *place)
{
    return place->owner == FMP_OWNER_OUTLAW || !fmp_owner_alive(a, place->owner);
}

/* L3, L4: true if the ear is to be armed no more. */
static int
ring_place(fmp_arena *a, fmp_bell_place *place)
{
    uint64_t name = fmp_load(&place->name);
    int rc = name == 0 ? 0 : fmp_doorbell_ring(name);
    if (rc == -ECONNREFUSED && deserted(a, place)) {
        fmp_store(&place->name, 0);
        rc = 0;
    }
    return rc == 0;
}

static void
ring_all(fmp_arena *a, fmp_bell *b)
{
    fmp_bell_place *places = places_of(a, b);
    if (places == NULL)
        return;
    for (uint32_t bits = atomic_load(&b->armed); bits != 0; bits &= bits - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(bits);
        if (ring_place(a, &places[i]))
            atomic_fetch_and(&b->armed, ~(UINT32_C(1) << i));
    }
}

/* L3: a holder of the lock died. He may not have handed the table over, and have rung an ear that is still
 * armed; so all are rung. */
static void
repair(fmp_arena *a, fmp_bell *b)
{
    if (b->places.off != 0)
        fmp_heap_tag(a, b->places, FMP_TAG_SHARED);
    ring_all(a, b);
}

static void
enter(fmp_arena *a, fmp_bell *b)
{
    if (fmp_mutex_enter(a, &b->lock) == FMP_OWNER_DEAD)
        repair(a, b);
}

static void
leave(fmp_arena *a, fmp_bell *b, fmp_ready_fn ready, void *arg)
{
    if (atomic_load(&b->armed) != 0 && ready(arg)) /* L2 */
        ring_all(a, b);
    fmp_mutex_unlock(&b->lock);
}

void
fmp_bell_ring(fmp_arena *a, fmp_bell *b, fmp_ready_fn ready, void *arg)
{
    enter(a, b);
    leave(a, b, ready, arg);
}

/* ---- listening ---------------------------------------------------------------------------------- */

static int
make_table(fmp_arena *a, fmp_bell *b)
{
    void *table;
    fmp_ref ref;
    int rc = fmp_heap_alloc_zeroed(a, FMP_BELL_PLACES * sizeof(fmp_bell_place), &ref, &table);
    if (rc < 0)
        return rc;
    b->places = ref;
    fmp_step();
    fmp_heap_tag(a, ref, FMP_TAG_SHARED);
    return 0;
}

static int
is_free(fmp_arena *a, const fmp_bell_place *place)
{
    return fmp_load(&place->name) == 0 || !fmp_owner_alive(a, place->owner);
}

/* Enter the ear, armed. The caller holds the lock. */
static int
take_place(fmp_arena *a, fmp_bell *b, fmp_ear *ear)
{
    int rc;
    if (b->places.off == 0 && (rc = make_table(a, b)) < 0)
        return rc;
    fmp_bell_place *places = places_of(a, b);
    if (places == NULL)
        return -ENOMEM;
    uint32_t i = 0;
    while (i < FMP_BELL_PLACES && !is_free(a, &places[i]))
        i++;
    if (i == FMP_BELL_PLACES)
        return -EAGAIN;
    fmp_store(&places[i].name, 0); /* a dead one's */
    places[i].owner = ear->owner;
    fmp_store(&places[i].name, ear->name);
    ear->place = i;
    atomic_fetch_or(&b->armed, UINT32_C(1) << i); /* L2 */
    return 0;
}

int
fmp_bell_listen(fmp_arena *a, fmp_bell *b, fmp_ear *ear, fmp_ready_fn ready, void *arg)
{
    fmp_ear made = {.owner = a->self};
    fmp_bell_leave(a, b, ear); /* a parent's */
    if ((made.fd = fmp_doorbell_open(&made.name)) < 0)
        return made.fd;
    enter(a, b);
    int rc = take_place(a, b, &made);
    leave(a, b, ready, arg);
    if (rc < 0)
        fmp_fd_close(made.fd);
    else
        *ear = made;
    return rc;
}

static void
leave_place(fmp_arena *a, fmp_bell *b, const fmp_ear *ear)
{
    fmp_bell_place *places = places_of(a, b);
    if (places == NULL)
        return;
    atomic_fetch_and(&b->armed, ~(UINT32_C(1) << ear->place));
    fmp_store(&places[ear->place].name, 0);
}

void
fmp_bell_leave(fmp_arena *a, fmp_bell *b, fmp_ear *ear)
{
    if (fmp_ear_valid(a, ear)) {
        enter(a, b);
        leave_place(a, b, ear);
        fmp_mutex_unlock(&b->lock);
    }
    if (ear->name != 0)
        fmp_fd_close(ear->fd);
    ear->name = 0;
}

void
fmp_bell_calm(fmp_arena *a, fmp_bell *b, const fmp_ear *ear, fmp_ready_fn ready, void *arg)
{
    uint32_t bit = UINT32_C(1) << ear->place;
    enter(a, b);
    if (!(atomic_load(&b->armed) & bit)) {
        fmp_doorbell_silence(ear->fd);
        atomic_fetch_or(&b->armed, bit); /* L2 */
    }
    leave(a, b, ready, arg);
}

/* ---- the whole ------------------------------------------------------------------------------------- */

void
fmp_bell_settle(fmp_arena *a, fmp_bell *b, fmp_ready_fn ready, void *arg)
{
    if (fmp_mutex_held(&b->lock) || atomic_load(&b->armed) != 0)
        fmp_bell_ring(a, b, ready, arg);
}

void
fmp_bell_destroy(fmp_arena *a, fmp_bell *b)
{
    fmp_ref places = b->places;
    if (places.off == 0)
        return;
    fmp_heap_tag(a, places, a->self); /* swept, if this process dies before the end */
    fmp_step();
    b->places = FMP_REF_NONE;
    fmp_step();
    fmp_heap_free(a, places);
}
