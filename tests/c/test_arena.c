#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

static fmp_arena one, other;

static void
a_new_arena_says_what_it_is(void)
{
    CHECK_EQ(fmp_arena_create(&one), 0);
    fmp_arena_header *h = fmp_arena_place(&one, 0);
    CHECK(h->magic == FMP_ARENA_MAGIC);
    CHECK_EQ(h->layout, FMP_ARENA_LAYOUT);
    CHECK_EQ(h->pointer_bytes, sizeof(void *));
    CHECK_EQ(h->bytes, one.window_count * FMP_WINDOW_BYTES);
    CHECK_EQ(fcntl(one.memory.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    CHECK(fcntl(one.memory.fd, F_GET_SEALS) & F_SEAL_SHRINK);
    fmp_arena_detach(&one);
    CHECK_EQ(one.memory.fd, -1);
}

static void
two_views_show_the_same(void)
{
    CHECK_EQ(fmp_arena_create(&one), 0);
    CHECK_EQ(fmp_arena_attach(&other, dup(one.memory.fd)), 0);
    CHECK_EQ(other.window_count, one.window_count);
    for (uint64_t window = 5; window < 9; window++) {
        uint64_t off = window * FMP_WINDOW_BYTES + 4096 * window;
        uint64_t *p = fmp_arena_at(&one, off), *q = fmp_arena_at(&other, off);
        CHECK(p != NULL && q != NULL && p != q);
        *p = off;
        CHECK_EQ(*q, off);
    }
    fmp_arena_detach(&other);
    fmp_arena_detach(&one);
}

static void
windows_are_mapped_when_they_are_looked_into(void)
{
    CHECK_EQ(fmp_arena_create(&one), 0);
    CHECK(fmp_peek(&one.windows[0]) != NULL);
    CHECK(fmp_peek(&one.windows[7]) == NULL);
    char *p = fmp_arena_at(&one, 7 * FMP_WINDOW_BYTES + 5);
    CHECK(fmp_peek(&one.windows[7]) == p - 5);
    CHECK(fmp_arena_at(&one, 7 * FMP_WINDOW_BYTES + 5) == p);
    CHECK(fmp_peek(&one.windows[6]) == NULL);
    CHECK(fmp_arena_map_window(&one, one.window_count) == NULL);
    fmp_arena_detach(&one);
}

static void
extents_lie_in_one_piece(void)
{
    CHECK_EQ(fmp_arena_create(&one), 0);
    for (uint32_t i = 5; i < 9; i++) /* one by one, so hardly next to each other in the right order */
        *(uint32_t *)fmp_arena_at(&one, (13 - i) * FMP_WINDOW_BYTES) = 13 - i;
    char *base = fmp_arena_map_extent(&one, 5, 4);
    for (uint32_t i = 0; i < 4; i++) {
        CHECK_EQ(*(uint32_t *)(base + i * FMP_WINDOW_BYTES), 5 + i);
        CHECK(fmp_peek(&one.windows[5 + i]) == base + i * FMP_WINDOW_BYTES);
    }
    CHECK(fmp_arena_map_extent(&one, 5, 4) == base);
    CHECK(fmp_arena_map_extent(&one, 6, 2) == base + FMP_WINDOW_BYTES);
    CHECK(fmp_arena_map_extent(&one, one.window_count - 1, 2) == NULL);
    CHECK(fmp_arena_map_extent(&one, UINT32_MAX, 2) == NULL);
    CHECK(fmp_arena_map_extent(&one, 1, UINT32_MAX) == NULL);
    fmp_arena_detach(&one);
}

static void
look_into_all(void *unused)
{
    (void)unused;
    for (uint32_t i = 5; i < 69; i++) {
        const volatile char *window = fmp_arena_at(&one, i * FMP_WINDOW_BYTES);
        CHECK(window != NULL);
        CHECK_EQ(window[0], 0);
    }
}

static void
threads_map_the_same_window_once(void)
{
    CHECK_EQ(fmp_arena_create(&one), 0);
    for (uint32_t i = 5; i < 69; i++)
        CHECK_EQ(fmp_memory_commit(&one.memory, i * FMP_WINDOW_BYTES, 1), 0);
    pthread_t threads[4];
    check_threads(threads, 4, look_into_all, NULL, 0);
    check_finish_all(threads, 4);
    fmp_arena_detach(&one);
}

/* The descriptor of a file of so many bytes, which begins with an arena's header if wanted. */
static int
file_of(uint64_t bytes, const fmp_arena_header *header)
{
    int fd = memfd_create("test", MFD_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_EQ(ftruncate(fd, (off_t)bytes), 0);
    if (header != NULL)
        CHECK_EQ(pwrite(fd, header, sizeof(*header), 0), sizeof(*header));
    return fd;
}

static void
what_is_no_arena_is_refused(void)
{
    const fmp_arena_header good = {
        .magic = FMP_ARENA_MAGIC,
        .layout = FMP_ARENA_LAYOUT,
        .pointer_bytes = sizeof(void *),
        .bytes = 8 * FMP_WINDOW_BYTES,
    };
    fmp_arena_header bad = good;
    CHECK_EQ(fmp_arena_attach(&other, file_of(good.bytes, &good)), 0);
    fmp_arena_detach(&other);

    bad.magic++;
    CHECK_EQ(fmp_arena_attach(&other, file_of(good.bytes, &bad)), -EBADMSG);
    bad = good;
    bad.layout++;
    CHECK_EQ(fmp_arena_attach(&other, file_of(good.bytes, &bad)), -EBADMSG);
    bad = good;
    bad.pointer_bytes = 4;
    CHECK_EQ(fmp_arena_attach(&other, file_of(good.bytes, &bad)), -EBADMSG);
    bad = good;
    bad.bytes = UINT64_MAX;
    CHECK_EQ(fmp_arena_attach(&other, file_of(good.bytes, &bad)), -EBADMSG);

    int fd = file_of(good.bytes / 2, &good); /* cut off: looking into its end would be fatal */
    CHECK_EQ(fmp_arena_attach(&other, fd), -EBADMSG);
    CHECK_EQ(fcntl(fd, F_GETFD), -1); /* closed: it was the arena's */
    CHECK_EQ(fmp_arena_attach(&other, file_of(0, NULL)), -EBADMSG);
}

static void
a_child_sees_its_parents_arena(void *unused)
{
    (void)unused;
    *(uint32_t *)fmp_arena_at(&one, 9 * FMP_WINDOW_BYTES) = 99;
}

static void
a_fork_keeps_the_mapping(void)
{
    CHECK_EQ(fmp_arena_create(&one), 0);
    check_join(check_fork(a_child_sees_its_parents_arena, NULL, NULL));
    CHECK_EQ(*(uint32_t *)fmp_arena_at(&one, 9 * FMP_WINDOW_BYTES), 99);
    fmp_arena_detach(&one);
}

CHECK_MAIN(TEST(a_new_arena_says_what_it_is), TEST(two_views_show_the_same),
           TEST(windows_are_mapped_when_they_are_looked_into), TEST(extents_lie_in_one_piece),
           TEST(threads_map_the_same_window_once), TEST(what_is_no_arena_is_refused),
           TEST(a_fork_keeps_the_mapping))
