#include "check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "core/bell.h"

/* The state that is waited for: `made` - `used` things, in memory that children share. */
static struct state {
    _Atomic uint32_t made, used;
} *state;

static fmp_arena *a;
static fmp_bell *bell;
static uint64_t base; /* blocks in use while nobody listens */

static int
ready(void *arg)
{
    struct state *s = arg;
    uint32_t used = atomic_load(&s->used);
    return atomic_load(&s->made) != used;
}

static void
begin(void)
{
    a = check_arena();
    fmp_object *o;
    CHECK_EQ(fmp_object_create(a, FMP_PLAIN, sizeof(fmp_bell), &o), 0);
    bell = fmp_object_body(o);
    state = check_shared(sizeof(*state));
    base = check_blocks();
}

static void
end(fmp_ear *ear)
{
    if (ear != NULL)
        fmp_bell_leave(a, bell, ear);
    fmp_bell_destroy(a, bell);
    CHECK_EQ(check_blocks(), base);
}

static void
make(void)
{
    atomic_fetch_add(&state->made, 1);
    fmp_bell_signal(a, bell, ready, state);
}

static void
use(const fmp_ear *ear)
{
    atomic_fetch_add(&state->used, 1);
    if (ear != NULL && !ready(state))
        fmp_bell_calm(a, bell, ear, ready, state);
}

static fmp_ear
listen_to_it(void)
{
    fmp_ear ear = {0};
    CHECK_EQ(fmp_bell_listen(a, bell, &ear, ready, state), 0);
    CHECK(fmp_ear_valid(a, &ear));
    CHECK(fcntl(ear.fd, F_GETFD) & FD_CLOEXEC);
    return ear;
}

static int
readable(const fmp_ear *ear)
{
    return fmp_fd_wait_readable(ear->fd, FMP_NOW) == 0;
}

static int
is_armed(const fmp_ear *ear)
{
    return fmp_load(&bell->armed) >> ear->place & 1;
}

static fmp_bell_place *
place_of(const fmp_ear *ear)
{
    return (fmp_bell_place *)fmp_heap_at(a, bell->places) + ear->place;
}

static void
while_nobody_listens_nothing_happens(void)
{
    begin();
    atomic_store(&bell->lock.owner, a->self); /* would hang */
    make();
    atomic_store(&bell->lock.owner, 0);
    CHECK_EQ(bell->places.off, 0);
    end(NULL);
}

static void
an_ear_is_readable_while_it_is_ready(void)
{
    begin();
    fmp_ear ear = listen_to_it();
    CHECK(!readable(&ear) && is_armed(&ear));
    make();
    CHECK(readable(&ear) && !is_armed(&ear));
    make();
    use(&ear);
    CHECK(readable(&ear) && !is_armed(&ear));
    use(&ear);
    CHECK(!readable(&ear) && is_armed(&ear));
    make();
    CHECK(readable(&ear) && !is_armed(&ear));
    end(&ear);
}

static void
what_was_there_before_is_heard(void)
{
    begin();
    make();
    fmp_ear ear = listen_to_it();
    CHECK(readable(&ear) && !is_armed(&ear));
    end(&ear);
}

static void
an_ear_is_rung_once(void)
{
    begin();
    fmp_ear ear = listen_to_it();
    for (int i = 0; i < 1000; i++)
        make();
    char byte;
    CHECK_EQ(recv(ear.fd, &byte, 1, MSG_DONTWAIT), 1);
    CHECK(!readable(&ear));
    end(&ear);
}

/* L1: between the change and the ring the listener took what there was. */
static void
nobody_is_rung_in_vain(void)
{
    begin();
    fmp_ear ear = listen_to_it();
    fmp_bell_ring(a, bell, ready, state);
    CHECK(!readable(&ear) && is_armed(&ear));
    end(&ear);
}

/* Another process used it up: the listener is told too often, and is told again after he looked. */
static void
calmed_by_its_listener_alone(void)
{
    begin();
    fmp_ear ear = listen_to_it();
    make();
    use(NULL);
    CHECK(readable(&ear));
    fmp_bell_calm(a, bell, &ear, ready, state);
    CHECK(!readable(&ear) && is_armed(&ear));
    make();
    CHECK(readable(&ear));
    fmp_bell_calm(a, bell, &ear, ready, state); /* too early: it is ready */
    CHECK(readable(&ear) && !is_armed(&ear));
    end(&ear);
}

static void
a_full_buffer_rings_already(void)
{
    begin();
    fmp_ear ear = listen_to_it();
    while (fmp_load(&state->made) < 1000) {
        atomic_store(&bell->armed, 1); /* as a killed ringer leaves it: L3 */
        make();
        CHECK(!is_armed(&ear));
    }
    atomic_store(&state->used, 1000);
    fmp_bell_calm(a, bell, &ear, ready, state);
    CHECK(!readable(&ear) && is_armed(&ear));
    end(&ear);
}

/* ---- places ---------------------------------------------------------------------------------------- */

static void
all_ears_are_rung_but_there_is_an_end_to_them(void)
{
    begin();
    fmp_ear ears[FMP_BELL_PLACES], more = {0};
    for (uint32_t i = 0; i < FMP_BELL_PLACES; i++) {
        ears[i] = listen_to_it();
        CHECK_EQ(ears[i].place, i);
    }
    CHECK_EQ(bell->armed, UINT32_MAX);
    CHECK_EQ(fmp_bell_listen(a, bell, &more, ready, state), -EAGAIN);
    CHECK_EQ(more.name, 0);
    make();
    CHECK_EQ(bell->armed, 0);
    for (uint32_t i = 0; i < FMP_BELL_PLACES; i++)
        CHECK(readable(&ears[i]));
    fmp_bell_leave(a, bell, &ears[7]);
    more = listen_to_it();
    CHECK_EQ(more.place, 7);
    CHECK(readable(&more));
    ears[7] = more;
    for (uint32_t i = 0; i < FMP_BELL_PLACES; i++)
        fmp_bell_leave(a, bell, &ears[i]);
    fmp_bell_leave(a, bell, &ears[0]); /* is none by now */
    CHECK_EQ(bell->armed, 0);
    end(NULL);
}

static void
a_dead_listener_is_forgotten(void)
{
    begin();
    fmp_ear ear = listen_to_it(), dead = listen_to_it();
    fmp_bell_place *place = place_of(&dead);
    close(dead.fd);
    place->owner = check_dead();
    make();
    CHECK(readable(&ear));
    CHECK_EQ(bell->armed, 0);
    CHECK_EQ(place->name, 0);
    end(&ear);
}

static void
his_place_is_taken(void)
{
    begin();
    fmp_ear dead = listen_to_it();
    close(dead.fd);
    place_of(&dead)->owner = check_dead();
    fmp_ear ear = listen_to_it();
    CHECK_EQ(ear.place, dead.place);
    make();
    CHECK(readable(&ear));
    end(&ear);
}

/* L4: he lives, and perhaps others reach him. */
static void
who_cannot_be_reached_stays_armed(void)
{
    begin();
    fmp_ear ear = listen_to_it(), far = listen_to_it();
    uint64_t name = place_of(&far)->name;
    fmp_store(&place_of(&far)->name, name ^ UINT64_C(2) << 32); /* another address */
    make();
    CHECK(readable(&ear) && !is_armed(&ear));
    CHECK(!readable(&far) && is_armed(&far));
    fmp_store(&place_of(&far)->name, name);
    make();
    CHECK(readable(&far) && !is_armed(&far));
    fmp_bell_leave(a, bell, &far);
    end(&ear);
}

static void
inherit(void *arg)
{
    fmp_ear *ear = arg, mine = {0};
    CHECK(!fmp_ear_valid(a, ear));
    CHECK_EQ(fmp_bell_listen(a, bell, &mine, ready, state), 0);
    CHECK(mine.place != ear->place);
    fmp_bell_leave(a, bell, ear);
    make();
    CHECK(readable(&mine));
    CHECK_EQ(fmp_bell_listen(a, bell, &mine, ready, state), 0); /* again */
    fmp_bell_leave(a, bell, &mine);
}

static void
a_child_has_its_own(void)
{
    begin();
    fmp_ear ear = listen_to_it();
    check_join(check_fork(inherit, &ear, NULL));
    CHECK(readable(&ear) && !is_armed(&ear));
    CHECK_EQ(place_of(&ear)->name, ear.name);
    end(&ear);
}

/* ---- half-done states ------------------------------------------------------------------------------- */

static void
die_with_lock(void)
{
    atomic_store(&bell->lock.owner, check_dead());
}

static void
settle(void)
{
    fmp_bell_settle(a, bell, ready, state);
    CHECK_EQ(bell->lock.owner, 0);
}

/* Every user of the machine sees the address, and may send to it. */
static void
strangers_wake_nobody(void)
{
    begin();
    fmp_ear ear = listen_to_it();
    struct sockaddr_un address;
    socklen_t bytes = sizeof(address);
    CHECK_EQ(getsockname(ear.fd, (struct sockaddr *)&address, &bytes), 0);
    int stranger = socket(AF_UNIX, SOCK_DGRAM, 0);
    uint32_t almost = htonl((uint32_t)ear.name ^ 2);
    static const char text[64];
    for (size_t length = 0; length <= sizeof(text); length++)
        sendto(stranger, text, length, MSG_DONTWAIT, (struct sockaddr *)&address, bytes);
    sendto(stranger, &almost, sizeof(almost), MSG_DONTWAIT, (struct sockaddr *)&address, bytes);
    CHECK(!readable(&ear) && is_armed(&ear));
    make();
    CHECK(readable(&ear) && !is_armed(&ear));
    close(stranger);
    end(&ear);
}

/* L3: killed after the change, with the lock, and after the ring. */
static void
a_killed_ringer_is_made_up_for(void)
{
    for (int step = 0; step < 3; step++) {
        begin();
        fmp_ear ear = listen_to_it();
        atomic_fetch_add(&state->made, 1);
        if (step >= 1)
            die_with_lock();
        if (step >= 2)
            CHECK_EQ(fmp_doorbell_ring(ear.name), 0);
        settle();
        CHECK(readable(&ear) && !is_armed(&ear));
        use(&ear);
        CHECK(!readable(&ear) && is_armed(&ear));
        end(&ear);
    }
}

/* What he rang for is used up: the listener hears it once, in vain. */
static void
a_ring_may_be_left_over(void)
{
    begin();
    fmp_ear ear = listen_to_it();
    die_with_lock();
    CHECK_EQ(fmp_doorbell_ring(ear.name), 0);
    settle();
    CHECK(readable(&ear) && !is_armed(&ear));
    fmp_bell_calm(a, bell, &ear, ready, state);
    CHECK(!readable(&ear) && is_armed(&ear));
    end(&ear);
}

static void
a_killed_listener_leaves_a_table(void)
{
    begin();
    fmp_ref ref;
    void *table;
    CHECK_EQ(fmp_heap_alloc_zeroed(a, FMP_BELL_PLACES * sizeof(fmp_bell_place), &ref, &table), 0);
    die_with_lock();
    fmp_heap_tag(a, ref, bell->lock.owner);
    bell->places = ref;
    settle();
    fmp_ear ear = listen_to_it();
    CHECK_EQ(bell->places.off, ref.off);
    CHECK_EQ(check_blocks(), base + 1);
    end(&ear);
}

/* ---- many at once ------------------------------------------------------------------------------------ */

#define MAKERS 3
#define EACH 3000

static void
make_each(void *arg)
{
    (void)arg;
    for (int i = 0; i < EACH; i++)
        make();
}

/* Sleeps without a deadline: a lost ring is a hang. Alone, he is never woken in vain. */
static void
use_up_to(void *arg)
{
    uint32_t total = *(uint32_t *)arg;
    fmp_ear ear = listen_to_it();
    for (uint32_t i = 0; i < total; i++) {
        CHECK_EQ(fmp_fd_wait_readable(ear.fd, FMP_FOREVER), 0);
        CHECK(ready(state));
        use(&ear);
    }
    CHECK(!readable(&ear));
    fmp_bell_leave(a, bell, &ear);
}

static void
threads_wake_a_listener(void)
{
    begin();
    uint32_t total = MAKERS * EACH;
    pthread_t makers[MAKERS], user = check_thread(use_up_to, &total);
    check_threads(makers, MAKERS, make_each, NULL, 0);
    check_finish_all(makers, MAKERS);
    check_finish(user);
    end(NULL);
}

static void
processes_wake_a_listener(void)
{
    begin();
    uint32_t total = MAKERS * EACH;
    pid_t makers[MAKERS], user = check_fork(use_up_to, &total, NULL);
    check_forks(makers, MAKERS, make_each, NULL, 0);
    check_join_all(makers, MAKERS);
    check_join(user);
    end(NULL);
}

/* Several share what there is: each waits, tries, and looks again. */
static void
try_to_use(void *arg)
{
    uint32_t total = *(uint32_t *)arg;
    fmp_ear ear = listen_to_it();
    for (;;) {
        uint32_t used = atomic_load(&state->used);
        if (used == total)
            break;
        if (used != atomic_load(&state->made))
            atomic_compare_exchange_strong(&state->used, &used, used + 1);
        else
            CHECK_EQ(fmp_fd_wait_readable(ear.fd, FMP_FOREVER), 0);
        fmp_bell_calm(a, bell, &ear, ready, state);
    }
    fmp_bell_leave(a, bell, &ear);
    make(); /* for the others, who sleep: all is used up */
}

static void
processes_share(void)
{
    begin();
    uint32_t total = MAKERS * EACH;
    pid_t makers[MAKERS], users[MAKERS];
    check_forks(users, MAKERS, try_to_use, &total, 0);
    check_forks(makers, MAKERS, make_each, NULL, 0);
    check_join_all(makers, MAKERS);
    check_join_all(users, MAKERS);
    end(NULL);
}

static void
come_and_go(void *arg)
{
    (void)arg;
    for (int i = 0; i < EACH / 6; i++) {
        fmp_ear ear = listen_to_it();
        fmp_bell_calm(a, bell, &ear, ready, state);
        fmp_bell_leave(a, bell, &ear);
    }
}

/* The table and its places are whoever's has the lock. */
static void
listeners_come_and_go(void)
{
    begin();
    pthread_t listeners[MAKERS], maker = check_thread(make_each, NULL);
    check_threads(listeners, MAKERS, come_and_go, NULL, 0);
    check_finish_all(listeners, MAKERS);
    check_finish(maker);
    CHECK_EQ(bell->armed, 0);
    end(NULL);
}

static void
make_for_ever(void *arg)
{
    (void)arg;
    for (;;)
        make();
}

static void
makers_are_killed(void)
{
    begin();
    fmp_ear ear = listen_to_it();
    uint32_t random = 31, heard = 0;
    for (int round = 0; round < 150; round++) {
        uint32_t id;
        pid_t pid = check_fork_doomed(make_for_ever, NULL, &id, &random, 100000);
        while (!check_reaped(pid, id)) { /* used up again and again meanwhile: every change may be the one to ring */
            atomic_store(&state->used, fmp_load(&state->made));
            fmp_bell_calm(a, bell, &ear, ready, state);
        }
        settle();
        CHECK(readable(&ear) || !ready(state));
        heard += (uint32_t)ready(state);
        atomic_store(&state->used, fmp_load(&state->made));
        fmp_bell_calm(a, bell, &ear, ready, state);
        CHECK(!readable(&ear) && is_armed(&ear));
    }
    printf("   %u of 150 left something to be heard\n", (unsigned)heard);
    end(&ear);
}

CHECK_MAIN(TEST(while_nobody_listens_nothing_happens), TEST(an_ear_is_readable_while_it_is_ready),
           TEST(what_was_there_before_is_heard), TEST(an_ear_is_rung_once), TEST(nobody_is_rung_in_vain),
           TEST(calmed_by_its_listener_alone), TEST(a_full_buffer_rings_already),
           TEST(all_ears_are_rung_but_there_is_an_end_to_them), TEST(a_dead_listener_is_forgotten),
           TEST(his_place_is_taken), TEST(who_cannot_be_reached_stays_armed), TEST(a_child_has_its_own),
           TEST(strangers_wake_nobody), TEST(a_killed_ringer_is_made_up_for), TEST(a_ring_may_be_left_over),
           TEST(a_killed_listener_leaves_a_table), TEST(threads_wake_a_listener), TEST(processes_wake_a_listener),
           TEST(processes_share), TEST(listeners_come_and_go),
           TEST(makers_are_killed))
