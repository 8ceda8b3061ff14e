/* result.h: how every function of the core says what became of it.
 *
 *    0   done
 *   >0   an outcome that the caller expects, from the list below
 *   <0   -errno, as the kernel gave it
 *
 * Damaged shared memory is -EBADMSG; a broken promise inside one process is an assert. */
#ifndef FMP_RESULT_H
#define FMP_RESULT_H

enum {
    FMP_TIMEOUT = 1, /* the deadline passed */
    FMP_INTR,        /* a signal arrived: run its handlers, then call again */
    FMP_EMPTY,       /* nothing to take */
    FMP_FULL,        /* no room, or no permit left to give back */
    FMP_OWNER_DEAD,  /* done, but the last holder was killed: repair before use */
    FMP_NOT_OWNER,   /* only its holder may do that */
    FMP_BROKEN,      /* the barrier is broken */
    FMP_LAST,        /* the caller is the last of the parties */
    FMP_EOF,         /* the other side is gone */
    FMP_TOO_LONG,    /* the message does not fit */
    FMP_CUT,         /* the other side went in the middle of a message */
    FMP_BUSY,        /* somebody else is at it, and the caller is hasty (eventcount.h) */
};

#endif
