/* loan.h: a block of the heap that several processes may hold: one that came with a message, say, and is looked
 * at where it lies.
 *
 * A block has one owner, a structure or a process. A loan is an object (object.h) around a block: it is held by
 * whoever has a handle, by forked children as well, and the block is freed with the last of them.
 *
 * Invariants
 *   L1  `block` is written before the block becomes SHARED. Until then it has the tag of the process that makes
 *       the loan; if that dies, the sweep frees the block, and the loan, whose end finds another tag, doesn't.
 *   L2  The end of a loan tags the block with who brings it about, forgets it, and frees it: whenever he is
 *       killed, either the loan or the sweep frees it, and not both.
 * Lives in: arena, an object of kind FMP_LOAN. */
#ifndef FMP_LOAN_H
#define FMP_LOAN_H

#include "core/heap.h"

typedef struct {
    fmp_ref block;
} fmp_loan;

/* In a zeroed body: the block, which is this process's, is the loan's from now on. */
void fmp_loan_init(fmp_arena *a, fmp_loan *l, fmp_ref block);

/* See fmp_kind_ops in object.h. */
void fmp_loan_destroy(fmp_arena *a, void *body);

#endif
