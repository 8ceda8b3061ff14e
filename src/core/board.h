/* board.h: what a pool and its workers share.
 *
 *   pool    --- tasks ---> workers        a task is a message that begins with its name
 *           <-- results ---               a result begins with whose it is: name, number and seat
 *
 * The pool names its tasks as it likes, so that it finds the place of a result without looking up anything
 * for each: a job, a key within it, and the function.
 *
 * A worker sits down on a free seat, by its process id. It takes a task with its receipt (queue.h, Q6):
 * `running` has number and name of the task that it took last, written in the same critical section that
 * takes it; the number is 0 before the first and after each result. So when a worker died the pool knows which
 * task went with it, and reports that like a result.
 *
 * Invariants
 *   B1  A task gets one result. A worker may be killed between its result and the end of `running`, so the
 *       pool may report a death for a task that has its result. Results are in order; who collects notes the
 *       number of each on the seat that it came from, and drops a second one of the same number.
 *   B2  A function lies in a place as long as tasks of it are out, which only the pool's process counts and
 *       changes. So a worker that has such a task reads it undisturbed.
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

#include <string.h>

#include "core/queue.h"

#define FMP_BOARD_PLACES 16          /* functions that tasks can be out of at the same time */
#define FMP_BOARD_FUNCTION_MOST 232u /* bytes: the pickle of a name; with it a place has 256 */

enum { FMP_BOARD_OPEN, FMP_BOARD_CLOSED, FMP_BOARD_ENDED };

typedef struct {
    uint64_t job; /* 0: nobody's */
    uint64_t key;
    uint32_t place; /* of its function; FMP_BOARD_PLACES for none */
    uint32_t how;   /* the pool's word about what it asks for */
} fmp_task;

_Static_assert(sizeof(fmp_task) == FMP_RECEIPT_WORDS * sizeof(uint64_t), "a receipt has the whole name");

/* How a result begins. */
typedef struct {
    fmp_task task;
    uint64_t number; /* of the task; 0: of none */
    uint64_t seat;
} fmp_answer;

typedef struct {
    _Alignas(FMP_CACHELINE) fmp_receipt running;
    _Atomic int32_t pid;        /* who sits here; 0 for nobody */
    fmp_time looked;            /* when he last saw the pool's process alive */
    _Atomic uint64_t answered;  /* B1; written by who collects */
} fmp_board_seat;

/* B2 */
typedef struct {
    uint64_t number; /* no function has the number of another; 0 for none */
    uint32_t bytes;
    char pickle[FMP_BOARD_FUNCTION_MOST];
} fmp_board_place;

typedef struct {
    fmp_queue tasks;
    fmp_queue results;
    _Atomic uint32_t stage; /* only rises */
    _Atomic uint32_t listening;
    uint32_t master; /* owner id of the pool's process */
    uint32_t seat_count;
    fmp_ref self; /* where the board's body is */
    fmp_board_place places[FMP_BOARD_PLACES];
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

/* Put a function's pickle into a place of which no task is out. */
void fmp_board_introduce(fmp_board *b, uint32_t place, uint64_t number, const void *pickle, uint32_t bytes);

/* Add a task, whose contents begin with an fmp_task: as fmp_queue_push. Never waits. */
int fmp_board_put(fmp_arena *a, fmp_board *b, fmp_parcel *p);

/* Take a result: as fmp_queue_take, and FMP_EOF. */
int fmp_board_collect(fmp_arena *a, fmp_board *b, fmp_waiter *w, fmp_message *m);

/* What worker `pid`, known to be dead, had not answered (number 0: nothing), or had it (B1): 0, or FMP_EMPTY if
 * it never sat down. Its seat is free after that is reported: else the next one's results came between. */
int fmp_board_bury(fmp_arena *a, fmp_board *b, int32_t pid, fmp_answer *lost);
void fmp_board_vacate(fmp_board *b, uint64_t seat);

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
static inline fmp_answer
fmp_board_running(fmp_board *b, uint32_t seat)
{
    fmp_receipt *running = &b->seats[seat].running;
    fmp_answer answer = {.number = fmp_peek(&running->number), .seat = seat};
    memcpy(&answer.task, running->words, sizeof(answer.task));
    return answer;
}

/* Forget it; its result is among the results. */
void fmp_board_done(fmp_board *b, uint32_t seat);

/* ---- both ------------------------------------------------------------------------------------- */

/* Add a result, whose contents begin with an fmp_answer: as fmp_queue_push. True in *ring if the bell must
 * be rung. */
int fmp_board_report(fmp_arena *a, fmp_board *b, fmp_parcel *p, int *ring);

void fmp_board_settle(fmp_arena *a, void *body);
void fmp_board_destroy(fmp_arena *a, void *body);

#endif
