/* kinds.c: the table of the kinds of objects, the one place that knows them all. */
#include "core/board.h"
#include "core/channel.h"
#include "core/cond.h"
#include "core/loan.h"
#include "core/object.h"

const fmp_kind_ops fmp_kinds[FMP_KIND_COUNT] = {
    [FMP_CONDITION] = {fmp_cond_settle, fmp_cond_destroy},
    [FMP_QUEUE] = {fmp_queue_settle, fmp_queue_destroy},
    [FMP_LOAN] = {NULL, fmp_loan_destroy},
    [FMP_BOARD] = {fmp_board_settle, fmp_board_destroy},
    [FMP_CHANNEL] = {fmp_channel_settle, fmp_channel_destroy},
};
