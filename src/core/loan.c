#include "core/loan.h"

void
fmp_loan_init(fmp_arena *a, fmp_loan *l, fmp_ref block)
{
    l->block = block;
    fmp_step(); /* L1 */
    fmp_heap_tag(a, block, FMP_TAG_SHARED);
}

void
fmp_loan_destroy(fmp_arena *a, void *body)
{
    fmp_loan *l = body;
    fmp_ref block = l->block;
    if (block.off == 0 || !fmp_heap_retag(a, block, FMP_TAG_SHARED, a->self))
        return;
    fmp_step(); /* L2 */
    l->block = FMP_REF_NONE;
    fmp_step();
    fmp_heap_free(a, block);
}
