/* fuzz_arena.c: a file is attached to if it is an arena, whatever it says of itself (core/arena.h).
 *
 *   input   byte: the size of the file; pairs of bytes, up to the place 255: what in the header of a good arena is
 *           changed; then pairs of words: windows to map */
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/arena.h"

#define FILE_MOST (FMP_WINDOW_COUNT * FMP_WINDOW_BYTES)
#define PLACE_NONE 255

static const uint64_t sizes[] = {
    0, 1, 4096, FMP_WINDOW_BYTES - 1, FMP_WINDOW_BYTES, FMP_WINDOW_BYTES + 1, 7 * FMP_WINDOW_BYTES,
    7 * FMP_WINDOW_BYTES + 4096, FILE_MOST, FILE_MOST + FMP_WINDOW_BYTES,
};

static int
make_file(fuzz_input *input, uint64_t *bytes, fmp_arena_header *header)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    *bytes = sizes[fuzz_byte(input) % (sizeof(sizes) / sizeof(*sizes))];
    *header = (fmp_arena_header){
        .magic = FMP_ARENA_MAGIC,
        .layout = FMP_ARENA_LAYOUT,
        .pointer_bytes = sizeof(void *),
        .bytes = *bytes,
        .name = 1,
    };
    for (uint8_t place; input->left > 0 && (place = fuzz_byte(input)) != PLACE_NONE;)
        ((uint8_t *)header)[place % sizeof(*header)] = fuzz_byte(input);
    REQUIRE(fd >= 0 && ftruncate(fd, (off_t)*bytes) == 0);
    size_t n = *bytes < sizeof(*header) ? (size_t)*bytes : sizeof(*header);
    REQUIRE(pwrite(fd, header, n, 0) == (ssize_t)n);
    return fd;
}

static int
is_arena(const fmp_arena_header *header, uint64_t bytes)
{
    return header->magic == FMP_ARENA_MAGIC && header->layout == FMP_ARENA_LAYOUT &&
           header->pointer_bytes == sizeof(void *) && header->bytes == bytes && bytes >= FMP_WINDOW_BYTES &&
           bytes <= FILE_MOST;
}

/* What is mapped lies in the file: to touch it kills nobody. */
static void
map(fmp_arena *a, uint32_t first, uint32_t count)
{
    uint64_t windows = a->window_count;
    volatile char *base = fmp_arena_map_extent(a, first, count);
    if ((uint64_t)first + count > windows)
        REQUIRE(base == NULL);
    if (base != NULL && count > 0)
        REQUIRE(base[0] == 0 || first == 0);
    if (base != NULL && count > 0)
        REQUIRE(base[count * FMP_WINDOW_BYTES - 1] == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static fmp_arena a;
    fuzz_input input = {data, bytes};
    fmp_arena_header header;
    uint64_t file_bytes;
    int fd = make_file(&input, &file_bytes, &header);
    int rc = fmp_arena_attach(&a, fd);
    REQUIRE(rc == (is_arena(&header, file_bytes) ? 0 : -EBADMSG));
    if (rc == 0) {
        REQUIRE(fmp_arena_name(&a) == header.name);
        while (input.left > 0) {
            uint32_t first = fuzz_word(&input);
            map(&a, first, fuzz_word(&input));
        }
        fmp_arena_detach(&a);
    }
    REQUIRE(fcntl(fd, F_GETFD) == -1); /* owned, and closed */
    return 0;
}
