/* Who lends a block, and who is the last to give it back, is killed at every change that he makes. */
#include "stepper.h"

#include "core/loan.h"
#include "core/object.h"

static fmp_arena *a;
static fmp_object *thing;
static uint64_t base; /* blocks in use without a loan */

static void
begin(void)
{
    a = check_used_arena();
    thing = NULL;
    base = check_blocks();
}

static void
lend(uint64_t bytes)
{
    fmp_ref block;
    void *p;
    CHECK_EQ(fmp_heap_alloc(a, bytes, &block, &p), 0);
    CHECK_EQ(fmp_object_create(a, FMP_LOAN, sizeof(fmp_loan), &thing), 0);
    fmp_loan_init(a, fmp_object_body(thing), block);
}

/* The victim makes loans, of a block and of an extent, and brings about the end of one. */
static void
act_lend(void *unused)
{
    (void)unused;
    lend(5000);
    fmp_object_drop(a, thing);
    lend((uint64_t)5 << 20);
}

/* Nothing is left but a block that somebody had before the end of the loan: if the victim had freed his, it is that
 * one (L2). */
static void
check(int finished)
{
    fmp_ref block;
    void *p;
    (void)finished;
    CHECK_EQ(fmp_heap_alloc(a, 5000, &block, &p), 0);
    fmp_heap_tag(a, block, FMP_TAG_SHARED);
    fmp_object_sweep(a);
    CHECK_EQ(fmp_object_count(a), 0);
    CHECK_EQ(check_blocks(), base + 1);
    fmp_heap_free(a, block);
    CHECK_EQ(check_blocks(), base);
}

static void
begin_lent(void)
{
    begin();
    lend(5000);
}

/* He holds it by being our child; we hold it no more. */
static void
leave_it_to_him(void)
{
    fmp_object_drop(a, thing);
}

static void
act_drop(void *unused)
{
    (void)unused;
    fmp_object_drop(a, thing);
}

STEP_MAIN({.name = "lend", .begin = begin, .act = act_lend, .check = check, .heir = step_sweep},
          {.name = "drop", .begin = begin_lent, .launched = leave_it_to_him, .act = act_drop, .check = check,
           .heir = step_sweep})
