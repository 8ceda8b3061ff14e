/* object.h: what exists in the arena, and which processes hold it.
 *
 * A lock, a queue, a shared array is an object: a heap block with a head, known by an index. Who holds
 * it is a matrix of bits: one row for each owner slot, one column for each object. A bit is idempotent,
 * where a counter would be left wrong by a killed process; a fork copies the parent's row; a death
 * clears a row. An object is destroyed when the last bit in its column goes.
 *
 * In a process several handles may name one object; arena->handles counts them, and the bit follows
 * the first and the last.
 *
 * An object travels in two ways. To a child that is being made, not forked: its bit is set in the row
 * promised to the child, which attaches to it. In a message: `in_flight` counts the messages that carry
 * it, and holds it like a bit does; who receives one attaches first, then lands what it carries. In both
 * ways it is named by its index and its serial number, its ticket, which no other object ever has.
 *
 * What a message carries is listed in its cargo, a block that belongs to who has the message; if he is
 * killed, whoever sweeps up lands it. What goes through a stream is nobody's on its way, so the objects are
 * loose there: counted, and not listed. One in a message that nobody receives stays until the program ends.
 *
 * Invariants
 *   B1  entries[i] names a block, and its kind, exactly while object i exists; a free entry links to the
 *       next one.
 *   B2  A row counts until its slot is FREE (owner.h), that is until it was swept. Who looks at the rows one after
 *       the other may pass a child's before its parent's is copied to it, and come to the parent's when that was
 *       killed: he finds the object there.
 *   B3  Bits are cleared, and objects made and destroyed, under `lock`. Who takes it from a dead holder
 *       destroys whatever nobody holds.
 *   B4  A bit is set in a row only by its process, before that is there by who reserved the slot, and only
 *       of an object that the setter holds, or finds in the table under `lock`.
 *   B5  `in_flight` of an object is the number of its tickets in cargoes. Both change together, under `lock`:
 *       `booking` says what they shall be, and is done again after a crash.
 * Around a fork, before: lock arena->local, reserve the child's slot, copy the row. After: say so (O3), unlock;
 * the child takes the slot. fmp_object_fork_* do it, registered for every fork of the process.
 * Lives in: arena, FMP_PLACE_OBJECTS and FMP_PLACE_ROWS. Callers: any thread. */
#ifndef FMP_OBJECT_H
#define FMP_OBJECT_H

#include "core/heap.h"
#include "core/owner.h"

#define FMP_OBJECT_MOST (((FMP_PLACE_UNITS - FMP_PLACE_OBJECTS) / 8) - 16)
#define FMP_ROW_LINE_WORDS (FMP_CACHELINE / 8)
#define FMP_ROW_LINE_OBJECTS (FMP_ROW_LINE_WORDS * 64u)

typedef enum {
    FMP_PLAIN, /* nothing to do when it is destroyed */
    FMP_CONDITION,
    FMP_QUEUE,
    FMP_BOARD,
    FMP_LOAN,
    FMP_CHANNEL,
    FMP_KIND_COUNT
} fmp_kind;

typedef struct {
    uint32_t kind;
    uint32_t index;
    fmp_ref self;
    uint64_t bytes;  /* of the body */
    uint64_t serial; /* from 1 */
    uint32_t in_flight;   /* B5 */
    uint32_t loose;       /* in messages of streams */
    uint32_t next_doomed; /* index + 1 of the next one to be destroyed, 0 for none */
    uint32_t unused;
} fmp_object;

_Static_assert(sizeof(fmp_object) + sizeof(fmp_block) == FMP_CACHELINE, "bodies start on a cache line");

/* What names an object in a message. */
typedef struct {
    uint64_t serial;
    uint32_t index;
    uint32_t unused;
} fmp_ticket;

/* What a message carries, in a marked block (heap.h). */
typedef struct {
    uint32_t count; /* of the tickets that are in flight: all before it is sent, none when it is landed */
    uint32_t unused;
    fmp_ticket tickets[];
} fmp_cargo;

/* B5 */
typedef struct {
    fmp_ref cargo; /* none: nothing is under way */
    uint32_t count;
    uint32_t index, in_flight; /* of the object */
} fmp_booking;

typedef struct {
    fmp_mutex lock;
    _Atomic uint32_t top; /* entries from here on were never used */
    uint32_t free; /* the first free entry + 1, 0 for none */
    _Atomic uint32_t count;
    uint32_t doomed; /* the first of those being destroyed + 1: one may bring about the end of others */
    uint64_t serials; /* given out so far */
    fmp_booking booking;
    _Alignas(FMP_CACHELINE) _Atomic uint64_t entries[FMP_OBJECT_MOST];
} fmp_object_table;

/* What a kind's body asks for (kinds.c); NULL for nothing. */
typedef struct {
    /* Repair what a dead holder of its locks left, wait for a living one to be done. Called before the
     * blocks of a killed process are swept, so that no repair meets a block that was swept. Takes no
     * locks but the body's own and the heap's. */
    void (*settle)(fmp_arena *a, void *body);
    /* Free what hangs on the body; it is settled. If the process dies on the way it is called again. */
    void (*destroy)(fmp_arena *a, void *body);
} fmp_kind_ops;

extern const fmp_kind_ops fmp_kinds[FMP_KIND_COUNT];

/* The word of a slot's row with the bit of object `index`; NULL if its window can't be mapped. A row lies in lines
 * of 512 columns, and beside each line those of the other slots for the same columns: who looks through a column finds
 * it in a few pages, and each process writes to lines of its own. */
static inline _Atomic uint64_t *
fmp_object_row_word(fmp_arena *a, uint32_t slot, uint32_t index)
{
    uint64_t line = (uint64_t)(index / FMP_ROW_LINE_OBJECTS) * FMP_OWNER_SLOTS + slot;
    uint64_t word = line * FMP_ROW_LINE_WORDS + index / 64 % FMP_ROW_LINE_WORDS;
    return fmp_arena_at(a, FMP_PLACE_ROWS + word * 8);
}

static inline void *
fmp_object_body(fmp_object *o)
{
    return o + 1;
}

/* Once, by who made the arena and joined it: makes the table ready and watches this process's forks. */
int fmp_object_init(fmp_arena *a);

/* Once, by who attached to the arena and took his slot: watches this process's forks. */
int fmp_object_join(fmp_arena *a);

/* A new object with a zeroed body of `bytes`, held once by this process. -ENOMEM. */
int fmp_object_create(fmp_arena *a, fmp_kind kind, uint64_t bytes, fmp_object **object);

/* One handle more, or one less, in this process, which holds it already. */
void fmp_object_hold(fmp_arena *a, fmp_object *o);
void fmp_object_drop(fmp_arena *a, fmp_object *o);

static inline fmp_ticket
fmp_object_ticket(const fmp_object *o)
{
    return (fmp_ticket){.serial = o->serial, .index = o->index};
}

/* A handle for the object that the ticket names. FMP_EMPTY if it isn't any more; -ENOMEM. */
int fmp_object_attach(fmp_arena *a, fmp_ticket ticket, fmp_object **object);

/* Reserve a slot for a child of this process that isn't forked by it: a promise. -EAGAIN. */
int fmp_object_expect(fmp_arena *a, uint32_t *child);

/* Hold an object, which this process holds, for the child that slot `child` was promised to. -ENOMEM. */
int fmp_object_give(fmp_arena *a, uint32_t child, fmp_object *o);

/* In a process that was made ahead and has one thread: become the child that the slot was promised to. It keeps
 * what it holds, beside what the child was given. FMP_NOT_OWNER if nobody waits for the child any more. */
int fmp_object_move(fmp_arena *a, uint32_t child);

/* In a new child that has attached to what it was given: let go of all that it has no handle for. */
void fmp_object_settle_in(fmp_arena *a);

/* A cargo of these objects, which this process holds, for a message; none for no objects. -ENOMEM. */
int fmp_object_ship(fmp_arena *a, fmp_object *const *objects, uint32_t count, fmp_ref *cargo);

/* The message arrived or was dropped: the end of its cargo, which is this process's. May be called by a kind's
 * destroy. */
void fmp_object_land(fmp_arena *a, fmp_ref cargo);

/* The same for an object on its way through a stream. In vain if it isn't. */
void fmp_object_ship_loose(fmp_arena *a, fmp_object *o);
void fmp_object_land_loose(fmp_arena *a, fmp_ticket ticket);

/* Clean up after all processes that are known to be dead. Cheap if there are none. */
void fmp_object_sweep(fmp_arena *a);

/* The owner id of the child that this thread forked last, 0 if it got none. */
uint32_t fmp_object_last_child(void);

/* The child of this thread's next fork takes the slot that was promised to it by another process, and what
 * it was given there; beside that it holds what its parent holds. */
void fmp_object_next_child(uint32_t child);

/* Figures: objects that exist. */
uint32_t fmp_object_count(fmp_arena *a);

#endif
