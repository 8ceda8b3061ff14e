#include "core/board.h"

int
fmp_board_init(fmp_arena *a, fmp_board *b, fmp_ref self, uint32_t worker_count)
{
    b->self = self;
    b->worker_count = worker_count;
    int rc = fmp_queue_init(a, &b->tasks, 0, 0);
    if (rc == 0 && (rc = fmp_queue_init(a, &b->results, 0, 0)) < 0)
        fmp_queue_destroy(a, &b->tasks);
    return rc;
}

int
fmp_board_take(fmp_arena *a, fmp_board *b, uint32_t index, fmp_waiter *w, fmp_message *m)
{
    uint64_t place = offsetof(fmp_board, workers) + index * sizeof(fmp_board_worker);
    return fmp_queue_take(a, &b->tasks, w, (fmp_ref){b->self.off + place}, m);
}

int
fmp_board_report(fmp_arena *a, fmp_board *b, uint32_t index, fmp_parcel *p, int *ring)
{
    uint64_t number;
    fmp_waiter w = FMP_WAITER(FMP_FOREVER); /* never used: the queue has no bound */
    int rc = fmp_queue_push(a, &b->results, p, &w, &number);
    if (rc != 0)
        return rc;
    fmp_store(&b->workers[index].running, 0); /* behind the result: a death between the two is told apart */
    *ring = atomic_load(&b->listening) && atomic_exchange(&b->listening, 0);
    return 0;
}

uint64_t
fmp_board_bury(fmp_arena *a, fmp_board *b, uint32_t index)
{
    fmp_queue_settle(a, &b->tasks); /* takes back a receipt for a task that was not taken (Q6) */
    return atomic_exchange(&b->workers[index].running, 0);
}

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
