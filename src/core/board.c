#include "core/board.h"

#include <errno.h>
#include <limits.h>

#include "core/owner.h"

#define LOOK_AGAIN (100 * FMP_MILLISECOND) /* asking whether a process lives costs some microseconds */

int
fmp_board_init(fmp_arena *a, fmp_board *b, fmp_ref self, uint32_t seat_count)
{
    b->self = self;
    b->seat_count = seat_count;
    b->master = a->self;
    int rc = fmp_queue_init(a, &b->tasks, 0, 0);
    if (rc == 0 && (rc = fmp_queue_init(a, &b->results, 0, 0)) < 0)
        fmp_queue_destroy(a, &b->tasks);
    return rc;
}

/* ---- taking ----------------------------------------------------------------------------------- */

static int
has_task(void *arg)
{
    fmp_board *b = arg;
    return fmp_queue_size(&b->tasks) != 0 || atomic_load(&b->stage) != FMP_BOARD_OPEN;
}

static int
has_result(void *arg)
{
    fmp_board *b = arg;
    return fmp_queue_size(&b->results) != 0 || atomic_load(&b->stage) == FMP_BOARD_ENDED;
}

static int
master_alive(fmp_arena *a, fmp_board *b, fmp_board_seat *seat)
{
    fmp_time now = fmp_clock();
    if (now - seat->looked < LOOK_AGAIN)
        return 1;
    seat->looked = now;
    return fmp_owner_alive(a, b->master);
}

int
fmp_board_take(fmp_arena *a, fmp_board *b, uint32_t seat, fmp_waiter *w, fmp_message *m)
{
    fmp_ref receipt = {b->self.off + offsetof(fmp_board, seats) + seat * sizeof(fmp_board_seat)};
    for (;;) {
        uint32_t stage = atomic_load(&b->stage); /* first: no task comes after it is CLOSED */
        if (stage == FMP_BOARD_ENDED || !master_alive(a, b, &b->seats[seat]))
            return FMP_EOF;
        int rc = fmp_queue_take_now(a, &b->tasks, w, receipt, m);
        if (rc != FMP_EMPTY)
            return rc;
        if (stage == FMP_BOARD_CLOSED)
            return FMP_EOF;
        rc = fmp_ec_wait(a, &b->tasks.items, has_task, b, w);
        if (rc != 0)
            return rc;
    }
}

/* B1: whether it is a second one for its task. */
static int
is_repeated(fmp_board *b, const fmp_message *m)
{
    fmp_answer answer;
    memcpy(&answer, m->data, sizeof(answer));
    if (answer.number == 0 || answer.seat >= b->seat_count)
        return 0;
    _Atomic uint64_t *answered = &b->seats[answer.seat].answered;
    if (fmp_peek(answered) == answer.number)
        return 1;
    fmp_store(answered, answer.number);
    return 0;
}

int
fmp_board_collect(fmp_arena *a, fmp_board *b, fmp_waiter *w, fmp_message *m)
{
    for (;;) {
        uint32_t stage = atomic_load(&b->stage);
        int rc = fmp_queue_take_now(a, &b->results, w, FMP_REF_NONE, m);
        if (rc == 0 && is_repeated(b, m)) {
            fmp_message_done(a, m);
            continue;
        }
        if (rc != FMP_EMPTY)
            return rc;
        if (stage == FMP_BOARD_ENDED)
            return FMP_EOF;
        rc = fmp_ec_wait(a, &b->results.items, has_result, b, w);
        if (rc != 0)
            return rc;
    }
}

/* ---- adding ----------------------------------------------------------------------------------- */

void
fmp_board_introduce(fmp_board *b, uint32_t place, uint64_t number, const void *pickle, uint32_t bytes)
{
    fmp_board_place *p = &b->places[place];
    p->number = number; /* who reads it got a task afterwards: the queue's locks are between */
    p->bytes = bytes;
    memcpy(p->pickle, pickle, bytes);
}

/* The queue has no bound, so this waits for nothing but a lock. */
static int
push(fmp_arena *a, fmp_queue *q, fmp_parcel *p)
{
    int rc;
    uint64_t number;
    fmp_waiter w = FMP_WAITER(FMP_FOREVER);
    while ((rc = fmp_queue_push(a, q, p, &w, &number)) == FMP_INTR)
        ;
    return rc;
}

int
fmp_board_put(fmp_arena *a, fmp_board *b, fmp_parcel *p)
{
    return push(a, &b->tasks, p);
}

int
fmp_board_report(fmp_arena *a, fmp_board *b, fmp_parcel *p, int *ring)
{
    int rc = push(a, &b->results, p);
    if (rc == 0)
        *ring = atomic_load(&b->listening) && atomic_exchange(&b->listening, 0);
    return rc;
}

void
fmp_board_done(fmp_board *b, uint32_t seat)
{
    fmp_store(&b->seats[seat].running.number, 0); /* behind the result: B1 */
}

/* ---- seats ------------------------------------------------------------------------------------- */

int
fmp_board_sit(fmp_board *b, int32_t pid, uint32_t *seat)
{
    for (*seat = 0; *seat < b->seat_count; ++*seat) {
        int32_t nobody = 0;
        if (atomic_compare_exchange_strong(&b->seats[*seat].pid, &nobody, pid))
            return 0;
    }
    return -EAGAIN;
}

int
fmp_board_bury(fmp_arena *a, fmp_board *b, int32_t pid, fmp_answer *lost)
{
    for (uint32_t i = 0; i < b->seat_count; i++) {
        fmp_board_seat *seat = &b->seats[i];
        if (fmp_load(&seat->pid) != pid)
            continue;
        fmp_queue_settle(a, &b->tasks); /* takes back a receipt for a task that was not taken (Q6) */
        *lost = fmp_board_running(b, i);
        return 0;
    }
    return FMP_EMPTY;
}

void
fmp_board_vacate(fmp_board *b, uint64_t seat)
{
    fmp_store(&b->seats[seat].running.number, 0);
    fmp_store(&b->seats[seat].pid, 0);
}

/* ---- the pool's sleep ------------------------------------------------------------------------------ */

int
fmp_board_listen(fmp_board *b)
{
    atomic_store(&b->listening, 1);
    if (fmp_queue_size(&b->results) == 0)
        return 1;
    atomic_store(&b->listening, 0);
    return 0;
}

void
fmp_board_stop_listening(fmp_board *b)
{
    atomic_store(&b->listening, 0);
}

void
fmp_board_advance(fmp_board *b, uint32_t stage)
{
    uint32_t old = atomic_load(&b->stage);
    while (old < stage && !atomic_compare_exchange_weak(&b->stage, &old, stage))
        ;
    fmp_ec_signal(&b->tasks.items, INT_MAX);
    fmp_ec_signal(&b->results.items, INT_MAX);
}

/* ---- the whole --------------------------------------------------------------------------------------- */

void
fmp_board_settle(fmp_arena *a, void *body)
{
    fmp_board *b = body;
    fmp_queue_settle(a, &b->tasks);
    fmp_queue_settle(a, &b->results);
}

void
fmp_board_destroy(fmp_arena *a, void *body)
{
    fmp_board *b = body;
    fmp_queue_destroy(a, &b->tasks);
    fmp_queue_destroy(a, &b->results);
}
