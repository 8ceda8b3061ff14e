/* eventcount.pml: src/core/eventcount.h and eventcount.c under their plainest use: tokens, feeders who add one
 * and signal one waiter, eaters who wait for one each.
 *
 *   E1  monitor: nobody sleeps on a word without ASLEEP, but while a signaller is about to wake all
 *   E2  without slices no eater sleeps while there is a token: no wake-up is lost
 *   E3  the same, with feeders who find nobody to wake while eaters come
 *   E4  with parties killed each sleeper needs one slice for each death at the most; and without slices nobody
 *       pays for one who leaves at a signal or deadline (LEAVE: party 0)
 *
 * Sizes: 2 eaters of a token each; 2 feeders of 1 token (PARTIES=3: 1 feeder) or of TOKENS. */
#ifndef PARTIES
#define PARTIES 4
#endif
#ifndef TOKENS
#define TOKENS 1 /* of each feeder */
#endif
#define EVENTCOUNTS 1
#define EC 1

#define READY(me, e) (tokens != 0)

#include "eventcount.inc"

byte tokens;
byte eaten;

inline take_token(answer)
{
    d_step {
        answer = tokens != 0;
        if
        :: answer -> tokens--; eaten++
        :: else
        fi
    }
}

inline feed()
{
#ifdef BUG_SIGNAL_BEFORE
    ec_signal(EC, 1);
    tokens++
#else
    tokens++;
    ec_signal(EC, 1)
#endif
}

proctype eater(byte me)
{
    byte seen, woken, rc;
    bool yes;
    {
        do
        :: take_token(yes);
            if
            :: yes -> break
            :: else
            fi;
            ec_wait(me, EC, rc);
#ifdef LEAVE
            if
            :: rc == INTR -> break
            :: else
            fi
#endif
        od;
        through(me)
    } unless {
        if
        :: killed(me)
        :: d_step { ALL_STILL && tokens == 0 -> bed[me] = 0; through(me) } /* a dead feeder's token never comes */
        fi
    }
}

proctype feeder(byte me)
{
    byte seen, woken, fed;
    bool yes;
    {
        do
        :: fed < TOKENS -> feed(); fed++
        :: else -> break
        od;
        through(me)
    } unless { killed(me) }
}

init
{
    atomic { run eater(0); run eater(1); run feeder(2)
#if PARTIES > 3
        ; run feeder(3)
#endif
    }
}

/* E1. One who died on the way leaves it so: E4's business. */
active proctype monitor()
{
end:
    atomic { kills == 0 && ANY_IN_BED(EC) && !(word[EC] & ASLEEP) && clearing[EC] == 0 -> assert(false) }
}
