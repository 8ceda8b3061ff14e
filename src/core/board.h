/* board.h: what a pool and its workers share.
 *
 *   pool    --- tasks ---> workers        each task is a message; its number names it from then on
 *           <-- results ---               a result begins with the number of its task
 *
 * A worker sits down on a free seat, by its process id. It takes a task with its receipt (queue.h, Q6):
 * `running` is the number of the task that it took last, written in the same critical section that takes
 * it, 0 before the first and after each result. So when a worker died the pool knows which task went with
 * it, unless a result of that number is among the results already: results are in order, so the pool
 * reports the death behind them.
 *
 * A pool with nobody waiting for results sleeps on descriptors. It says so with `listening`; whoever
 * adds a result then rings the pool's bell (a descriptor that the workers inherited).
 *
 *   stage    takers of tasks                           takers of results
 *   OPEN     wait for one                              wait for one
 *   CLOSED   get what there is, then FMP_EOF           wait for one
 *   ENDED    get FMP_EOF                               get what there is, then FMP_EOF
 *
 * A worker whose pool's process is dead gets FMP_EOF too; it looks now and then.
 *
 * Lives in: arena, an object of kind FMP_BOARD, with the seats behind it. Callers: any thread; the
 * functions that take a seat, only the worker that sits there. */
#ifndef FMP_BOARD_H
#define FMP_BOARD_H

#include "core/queue.h"

enum { FMP_BOARD_OPEN, FMP_BOARD_CLOSED, FMP_BOARD_ENDED };

typedef struct {
    _Alignas(FMP_CACHELINE) _Atomic uint64_t running;
    _Atomic int32_t pid; /* who sits here; 0 for nobody */
    fmp_time looked;     /* when he last saw the pool's process alive */
} fmp_board_seat;

typedef struct {
    fmp_queue tasks;
    fmp_queue results;
    _Atomic uint32_t stage; /* only rises */
    _Atomic uint32_t listening;
    uint32_t master; /* owner id of the pool's process */
    uint32_t seat_count;
    fmp_ref self; /* where the board's body is */
    fmp_board_seat seats[];
} fmp_board;

static inline uint64_t
fmp_board_bytes(uint32_t seat_count)
{
    return sizeof(fmp_board) + seat_count * sizeof(fmp_board_seat);
}

/* In a zeroed body of fmp_board_bytes(seat_count), found at `self`; this process is the pool's. */
int fmp_board_init(fmp_arena *a, fmp_board *b, fmp_ref self, uint32_t seat_count);

/* ---- the pool's side --------------------------------------------------------------------- */

/* Add a task: as fmp_queue_push. Never waits. */
int fmp_board_put(fmp_arena *a, fmp_board *b, fmp_parcel *p, uint64_t *number);

/* Take a result: as fmp_queue_take, and FMP_EOF. */
int fmp_board_collect(fmp_arena *a, fmp_board *b, fmp_waiter *w, fmp_message *m);

/* The task that worker `pid`, known to be dead, had, or 0; its seat is free then. FMP_EMPTY if it never
 * sat down. */
int fmp_board_bury(fmp_arena *a, fmp_board *b, int32_t pid, uint64_t *number);

/* The pool is about to sleep on its bell: false if results are there already. */
int fmp_board_listen(fmp_board *b);
void fmp_board_stop_listening(fmp_board *b);

/* To a later stage. */
void fmp_board_advance(fmp_board *b, uint32_t stage);

/* Bytes of the tasks that nobody has taken. */
static inline uint64_t
fmp_board_load(fmp_board *b)
{
    uint64_t taken = fmp_load(&b->tasks.taken_bytes);
    return fmp_load(&b->tasks.pushed_bytes) - taken;
}

/* ---- a worker's side ------------------------------------------------------------------------ */

/* -EAGAIN if no seat is free. */
int fmp_board_sit(fmp_board *b, int32_t pid, uint32_t *seat);

/* Take the next task: as fmp_queue_take, and FMP_EOF. */
int fmp_board_take(fmp_arena *a, fmp_board *b, uint32_t seat, fmp_waiter *w, fmp_message *m);

/* The task this worker has now. */
static inline uint64_t
fmp_board_running(fmp_board *b, uint32_t seat)
{
    return fmp_peek(&b->seats[seat].running);
}

/* Forget it; its result is among the results. */
void fmp_board_done(fmp_board *b, uint32_t seat);

/* ---- both ------------------------------------------------------------------------------------- */

/* Add a result: as fmp_queue_push. True in *ring if the bell must be rung. */
int fmp_board_report(fmp_arena *a, fmp_board *b, fmp_parcel *p, int *ring);

void fmp_board_settle(fmp_arena *a, void *body);
void fmp_board_destroy(fmp_arena *a, void *body);

#endif
