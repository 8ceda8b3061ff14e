#include "core/arena.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static void
init_local(fmp_arena *a)
{
    memset(a, 0, sizeof(*a));
    pthread_mutex_init(&a->mapping, NULL);
    pthread_mutex_init(&a->local, NULL);
}

int
fmp_arena_create(fmp_arena *a)
{
    uint64_t bytes = FMP_WINDOW_COUNT * FMP_WINDOW_BYTES;
    init_local(a);
    int rc = fmp_memory_create(&a->memory, &bytes, FMP_WINDOW_BYTES);
    if (rc < 0)
        return rc;
    a->window_count = (uint32_t)(bytes >> FMP_WINDOW_SHIFT);
    if (a->window_count <= FMP_FIRST_FREE_WINDOW ||
        fmp_memory_commit(&a->memory, 0, sizeof(fmp_arena_header)) < 0 || fmp_arena_map_window(a, 0) == NULL) {
        fmp_arena_detach(a);
        return -ENOMEM;
    }
    fmp_arena_header *header = fmp_arena_place(a, 0);
    *header = (fmp_arena_header){
        .magic = FMP_ARENA_MAGIC,
        .layout = FMP_ARENA_LAYOUT,
        .pointer_bytes = sizeof(void *),
        .bytes = bytes,
        .name = (uint64_t)fmp_clock() ^ (uint64_t)getpid() << 40,
    };
    return 0;
}

int
fmp_arena_attach(fmp_arena *a, int fd)
{
    uint64_t bytes = 0;
    init_local(a);
    a->window_count = 1;
    if (fmp_memory_open(&a->memory, fd, &bytes) < 0)
        return -EBADMSG;
    if (bytes < FMP_WINDOW_BYTES) { /* looking into less is fatal */
        fmp_arena_detach(a);
        return -EBADMSG;
    }
    if (fmp_arena_map_window(a, 0) == NULL) {
        fmp_arena_detach(a);
        return -ENOMEM;
    }
    const fmp_arena_header *header = fmp_arena_place(a, 0);
    if (header->magic != FMP_ARENA_MAGIC || header->layout != FMP_ARENA_LAYOUT ||
        header->pointer_bytes != sizeof(void *) || header->bytes != bytes ||
        bytes > FMP_WINDOW_COUNT * FMP_WINDOW_BYTES) {
        fmp_arena_detach(a);
        return -EBADMSG;
    }
    a->window_count = (uint32_t)(header->bytes >> FMP_WINDOW_SHIFT);
    return 0;
}

void
fmp_arena_detach(fmp_arena *a)
{
    for (uint32_t i = 0; i < FMP_WINDOW_COUNT; i++) {
        char *window = fmp_peek(&a->windows[i]);
        if (window != NULL)
            fmp_memory_unmap(window, FMP_WINDOW_BYTES);
        atomic_store(&a->windows[i], NULL);
    }
    fmp_memory_close(&a->memory);
    pthread_mutex_destroy(&a->mapping);
    pthread_mutex_destroy(&a->local);
}

uint64_t
fmp_arena_name(fmp_arena *a)
{
    return ((const fmp_arena_header *)fmp_arena_place(a, 0))->name;
}

char *
fmp_arena_map_window(fmp_arena *a, uint32_t index)
{
    return fmp_arena_map_extent(a, index, 1);
}

static int
contiguous(fmp_arena *a, uint32_t first, uint32_t count)
{
    char *base = fmp_peek(&a->windows[first]);
    for (uint32_t i = 0; i < count; i++) {
        if (base == NULL || fmp_peek(&a->windows[first + i]) != base + i * FMP_WINDOW_BYTES)
            return 0;
    }
    return 1;
}

char *
fmp_arena_map_extent(fmp_arena *a, uint32_t first, uint32_t count)
{
    if (count == 0 || count > a->window_count || first > a->window_count - count)
        return NULL;
    pthread_mutex_lock(&a->mapping);
    if (!contiguous(a, first, count)) {
        void *base;
        int rc = fmp_memory_map(&a->memory, first * FMP_WINDOW_BYTES, count * FMP_WINDOW_BYTES, &base);
        for (uint32_t i = first; rc == 0 && i < first + count; i++) {
            char *old = fmp_peek(&a->windows[i]);
            if (old != NULL)
                fmp_memory_unmap(old, FMP_WINDOW_BYTES);
            fmp_store(&a->windows[i], (char *)base + (i - first) * FMP_WINDOW_BYTES);
        }
        if (rc < 0)
            first = a->window_count;
    }
    char *address = first < a->window_count ? fmp_peek(&a->windows[first]) : NULL;
    pthread_mutex_unlock(&a->mapping);
    return address;
}
