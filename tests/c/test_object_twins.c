/* Threads that stand in for processes make objects, send them to each other, and let them go. */
#include "test_object.h"

#define LETTERS 16

struct letter {
    fmp_ticket ticket;
    fmp_ref cargo; /* none: it goes loose */
};

static struct {
    pthread_mutex_t lock;
    struct letter letters[LETTERS];
    uint32_t count;
} post = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Hand the letter's cargo on. */
static void
hand_over(fmp_arena *me, const struct letter *letter, uint32_t tag)
{
    if (letter->cargo.off != 0)
        fmp_heap_tag(me, letter->cargo, tag);
}

static void
land(fmp_arena *me, const struct letter *letter)
{
    if (letter->cargo.off != 0)
        fmp_object_land(me, letter->cargo);
    else
        fmp_object_land_loose(me, letter->ticket);
}

/* Send the object on its way, unless so many are. */
static void
mail(fmp_arena *me, fmp_object *o, int loose)
{
    struct letter letter = {.ticket = fmp_object_ticket(o)};
    if (loose)
        fmp_object_ship_loose(me, o);
    else
        CHECK_EQ(fmp_object_ship(me, &o, 1, &letter.cargo), 0);
    pthread_mutex_lock(&post.lock);
    int sent = post.count < LETTERS;
    if (sent) {
        hand_over(me, &letter, FMP_TAG_SHARED);
        post.letters[post.count++] = letter;
    }
    pthread_mutex_unlock(&post.lock);
    if (!sent)
        land(me, &letter);
}

/* One of those that others sent: false if there is none. */
static int
get_letter(fmp_arena *me, struct letter *letter)
{
    pthread_mutex_lock(&post.lock);
    int got = post.count != 0;
    if (got) {
        *letter = post.letters[--post.count];
        hand_over(me, letter, me->self);
    }
    pthread_mutex_unlock(&post.lock);
    return got;
}

static void
read_mail(fmp_arena *me)
{
    struct letter letter;
    fmp_object *o;
    if (!get_letter(me, &letter))
        return;
    CHECK_EQ(fmp_object_attach(me, letter.ticket, &o), 0);
    land(me, &letter);
    CHECK(check_filled(fmp_object_body(o), 100, 8));
    fmp_object_drop(me, o);
}

static void
write_letter(fmp_arena *me, fmp_object *keepsake)
{
    fmp_object *o;
    CHECK_EQ(fmp_object_create(me, FMP_PLAIN, 100, &o), 0);
    check_fill(fmp_object_body(o), 100, 8);
    mail(me, o, 0);
    mail(me, keepsake, 1);
    fmp_object_drop(me, o);
}

static void
become_another(fmp_arena *me, fmp_object *keepsake)
{
    uint32_t child;
    CHECK_EQ(fmp_object_expect(me, &child), 0);
    CHECK_EQ(fmp_object_give(me, child, keepsake), 0);
    CHECK_EQ(fmp_object_move(me, child), 0);
}

static void
live(void *seed)
{
    fmp_arena me;
    fmp_object *keepsake;
    uint32_t random = (uint32_t)(uintptr_t)seed;
    check_twin(&me);
    CHECK_EQ(fmp_object_create(&me, FMP_PLAIN, 100, &keepsake), 0);
    check_fill(fmp_object_body(keepsake), 100, 8);
    for (int i = 0; i < 2000; i++) {
        uint32_t what = check_random(&random) % 16;
        if (what == 0)
            become_another(&me, keepsake);
        else if (what % 2)
            write_letter(&me, keepsake);
        else
            read_mail(&me);
    }
    fmp_object_drop(&me, keepsake);
    check_twin_end(&me);
}

static void
threads_live_as_processes(void)
{
    a = check_arena();
    pthread_t threads[4];
    check_threads(threads, 4, live, (void *)1, 1);
    check_finish_all(threads, 4);
    while (post.count != 0)
        read_mail(a);
    fmp_object_sweep(a);
    CHECK_EQ(fmp_object_count(a), 0);
    CHECK_EQ(check_blocks(), 0);
    CHECK_EQ(fmp_owner_count(a), 1);
}

CHECK_MAIN(TEST(threads_live_as_processes))
