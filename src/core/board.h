/* board.h: what a pool and its workers share.
 *
 *   pool    --- tasks ---> workers        each task is a message; its number names it from then on
 *           <-- results ---
 *
 * A worker takes a task with its receipt (queue.h, Q6): `running` is the number of the task that it
 * took last, written in the same critical section that takes it, 0 before the first and after each
 * result. So when a worker died the pool knows which task went with it, unless a result of that number
 * is among the results already: results are in order, so the pool reports the death behind them.
 *
 * A pool with nobody waiting for results sleeps on descriptors. It says so with `listening`; whoever
 * adds a result then rings the pool's bell (a descriptor that the workers inherited).
 *
 * Lives in: arena, an object of kind FMP_BOARD, with `workers` behind it. */
#ifndef FMP_BOARD_H
#define FMP_BOARD_H

#include "core/queue.h"

typedef struct {
    _Atomic uint64_t running;
    uint64_t unused;
} fmp_board_worker;

typedef struct {
    fmp_queue tasks;
    fmp_queue results;
    _Atomic uint32_t listening;
    uint32_t worker_count;
    fmp_ref self; /* where the board's body is */
    fmp_board_worker workers[];
} fmp_board;

static inline uint64_t
fmp_board_bytes(uint32_t worker_count)
{
    return sizeof(fmp_board) + worker_count * sizeof(fmp_board_worker);
}

/* In a zeroed body of fmp_board_bytes(worker_count), found at `self`. */
int fmp_board_init(fmp_arena *a, fmp_board *b, fmp_ref self, uint32_t worker_count);

/* Take the next task as worker `index`: as fmp_queue_take. */
int fmp_board_take(fmp_arena *a, fmp_board *b, uint32_t index, fmp_waiter *w, fmp_message *m);

/* Add a result, and forget the worker's task: as fmp_queue_push. True in *ring if the bell must be rung. */
int fmp_board_report(fmp_arena *a, fmp_board *b, uint32_t index, fmp_parcel *p, int *ring);

/* The task that worker `index`, known to be dead, had; 0 for none. Its place is free then. */
uint64_t fmp_board_bury(fmp_arena *a, fmp_board *b, uint32_t index);

/* The pool is about to sleep on its bell: false if results are there already. */
int fmp_board_listen(fmp_board *b);
void fmp_board_stop_listening(fmp_board *b);

void fmp_board_settle(fmp_arena *a, void *body);
void fmp_board_destroy(fmp_arena *a, void *body);

#endif
