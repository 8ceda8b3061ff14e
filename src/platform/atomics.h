/* atomics.h: what C11 <stdatomic.h> leaves out.
 *
 * Orders are written on the operation, never as a bare fence: the thread sanitizer does not
 * model fences. Where nothing is written the order is sequentially consistent, which the
 * "announce, then look again" step of eventcount.h needs. */
#ifndef FMP_ATOMICS_H
#define FMP_ATOMICS_H

#include <stdatomic.h>
#include <stdint.h>

#define FMP_CACHELINE 64

static inline void
fmp_cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#else
    atomic_signal_fence(memory_order_seq_cst);
#endif
}

/* This memory is about to be written: let its cache line come here for that, while something else is done. A hint,
 * which processors that don't know the instruction pass over. */
static inline void
fmp_expect_write(const void *p)
{
#if defined(__x86_64__)
    __asm__ volatile("prefetchw %0" : : "m"(*(const char *)p));
#else
    __builtin_prefetch(p, 1);
#endif
}

/* A process may be killed between any two of its stores. Where their order counts only for those who clean
 * up after it, this keeps the compiler from changing it: whatever a dead process stored is seen by all. */
static inline void
fmp_step(void)
{
    atomic_signal_fence(memory_order_seq_cst);
}

#define fmp_load(p) atomic_load_explicit((p), memory_order_acquire)
#define fmp_peek(p) atomic_load_explicit((p), memory_order_relaxed)
#define fmp_store(p, v) atomic_store_explicit((p), (v), memory_order_release)

#endif
