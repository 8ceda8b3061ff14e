/* time.h: one kind of time in the whole of C: absolute nanoseconds of the monotonic clock.
 *
 * A deadline is computed once, where a timeout enters from Python, and handed down untouched:
 * no wait is ever lengthened by a wake-up that came to nothing. */
#ifndef FMP_TIME_H
#define FMP_TIME_H

#include <stdint.h>
#include <time.h>

typedef int64_t fmp_time;

#define FMP_NOW ((fmp_time)0)             /* already over: try once, never wait */
#define FMP_FOREVER ((fmp_time)INT64_MAX) /* no deadline */

#define FMP_MICROSECOND ((fmp_time)1000)
#define FMP_MILLISECOND ((fmp_time)1000000)
#define FMP_SECOND ((fmp_time)1000000000)

static inline fmp_time
fmp_clock(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (fmp_time)ts.tv_sec * FMP_SECOND + ts.tv_nsec;
}

/* now + delta, saturating at FMP_FOREVER */
static inline fmp_time
fmp_time_after(fmp_time delta)
{
    fmp_time now = fmp_clock();
    return delta >= FMP_FOREVER - now ? FMP_FOREVER : now + delta;
}

#endif
