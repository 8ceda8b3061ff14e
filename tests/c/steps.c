/* steps.c: kills a process right before a store of src/binding or src/platform into the arena.
 *
 * It is linked into an extension module (make _core) whose files of those folders are compiled with calls
 * in front of each store (-fsanitize=kernel-address). Once the process is armed they are counted if they go to the
 * arena; at the chosen one it dies. Of what would write many bytes at once, half is rubbish by then. The addresses
 * of all that were come to are written to a file by step_write. See tests/stepped.py. */
#include <link.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "binding/state.h"

#define VISIBLE __attribute__((visibility("default")))

static unsigned chosen, count; /* at which store it dies, 0 while it is not armed; stores so far */

static struct {
    uintptr_t base, bytes; /* this module's text */
    unsigned char *seen;   /* a byte for each of its addresses, shared with all children */
} text;

static int
find_text(struct dl_phdr_info *info, size_t size, void *within)
{
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        uintptr_t end = p->p_vaddr + p->p_memsz, at = (uintptr_t)within - info->dlpi_addr;
        if (p->p_type != PT_LOAD || at < p->p_vaddr || at >= end)
            continue;
        text.base = info->dlpi_addr;
        text.bytes = end;
        return 1;
    }
    return 0;
}

/* Once, before the first child: false if the system has no memory. */
VISIBLE int
step_begin(void)
{
    dl_iterate_phdr(find_text, (void *)step_begin);
    text.seen = mmap(NULL, text.bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return text.seen != MAP_FAILED;
}

/* From here on: this process dies at its store number `at`, 0 for never. What was so before. */
VISIBLE unsigned
step_arm(unsigned at)
{
    unsigned before = chosen;
    count = 0;
    chosen = at;
    return before;
}

VISIBLE void
step_write(const char *name)
{
    FILE *file = fopen(name, "w");
    for (uintptr_t at = 0; file != NULL && at < text.bytes; at++) {
        if (text.seen[at])
            fprintf(file, "%zx\n", (size_t)at);
    }
    if (file != NULL)
        fclose(file);
}

static int
is_shared(const char *address)
{
    fmp_arena *arena = fmp_here();
    for (uint32_t i = 0; i < arena->window_count; i++) {
        const char *window = fmp_peek(&arena->windows[i]);
        if (window != NULL && address >= window && address < window + FMP_WINDOW_BYTES)
            return 1;
    }
    return 0;
}

static void
step(char *at, size_t bytes, void *from)
{
    if (chosen == 0 || bytes == 0 || !is_shared(at))
        return;
    text.seen[(uintptr_t)from - text.base - 1] = 1; /* in the call, not behind it */
    if (++count != chosen)
        return;
    if (bytes > sizeof(uint64_t))
        memset(at, 0xA5, bytes / 2);
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

/* What the files call in place of these (Makefile). */
void *step_memcpy(void *to, const void *from, size_t bytes);
void *step_memmove(void *to, const void *from, size_t bytes);
void *step_memset(void *to, int byte, size_t bytes);

void *
step_memcpy(void *to, const void *from, size_t bytes)
{
    step(to, bytes, __builtin_return_address(0));
    return memcpy(to, from, bytes);
}

void *
step_memmove(void *to, const void *from, size_t bytes)
{
    step(to, bytes, __builtin_return_address(0));
    return memmove(to, from, bytes);
}

void *
step_memset(void *to, int byte, size_t bytes)
{
    step(to, bytes, __builtin_return_address(0));
    return memset(to, byte, bytes);
}

/* What the compiler calls. */
#define STORE(bytes)                                     \
    void __asan_store##bytes##_noabort(char *at);        \
    void __asan_store##bytes##_noabort(char *at)         \
    {                                                    \
        step(at, bytes, __builtin_return_address(0));    \
    }

STORE(1)
STORE(2)
STORE(4)
STORE(8)
STORE(16)

void __asan_storeN_noabort(char *at, size_t bytes);
void __asan_handle_no_return(void);

void
__asan_storeN_noabort(char *at, size_t bytes)
{
    step(at, bytes, __builtin_return_address(0));
}

void
__asan_handle_no_return(void)
{
}
