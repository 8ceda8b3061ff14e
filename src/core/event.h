/* event.h: a flag to wait for.
 *
 *   state  bit 0       the flag
 *          bits 1..31  how often it was set
 *
 * A waiter returns when the flag is set or was set since he came, so a set() followed at once by a
 * clear() wakes everybody who waited.
 * Lives in: arena, zero-filled = not set. Callers: any thread. */
#ifndef FMP_EVENT_H
#define FMP_EVENT_H

#include "core/eventcount.h"

typedef struct {
    _Atomic uint32_t state;
    fmp_eventcount ec;
} fmp_event;

static inline int
fmp_event_is_set(fmp_event *e)
{
    return fmp_load(&e->state) & 1;
}

void fmp_event_set(fmp_event *e);
void fmp_event_clear(fmp_event *e);

/* 0 if the flag is set or was set since the first call with this waiter, FMP_TIMEOUT, FMP_INTR. */
int fmp_event_wait(fmp_arena *a, fmp_event *e, fmp_waiter *w);

#endif
