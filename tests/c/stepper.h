/* stepper.h: kills a child at every change that it makes to what it shares.
 *
 * A scenario is run once for each change that its victim makes: in run n the victim, a child of the tester, kills
 * itself (SIGKILL) right after the n-th. Between two changes a death leaves the same state behind, so these are
 * all the states in which it can be found. Nothing in the code under test is marked, so nothing can be forgotten.
 *
 * How: the victim's arena is write-protected. A store that faults is let through alone (the processor's trap flag),
 * and counts if it changed the memory. Calls to the system that others can see (pages taken or given back, sleepers
 * woken, bells rung) count, too. So the victim runs at full speed between two stores. What memset and memcpy write
 * are two changes, half of it and all.
 *
 * Stores that are seen take a thousand times as long, so victims that go the same way again are hurried: the first
 * one marks where each change is made, after how many functions that it entered and at which instruction; those
 * that follow run to the function before their last change, and only then is the arena protected. One who strays,
 * and dies elsewhere than at the mark, makes way for another one whose every store is seen. (Functions are counted
 * if all was compiled with -finstrument-functions. Else nobody runs ahead.)
 *
 *   begin     in the tester: makes the state anew, beginning with check_arena()
 *   launched  in the tester, after the fork and before the victim's first step; or NULL
 *   act       in the victim
 *   nudge     in the tester, whenever the victim has fallen asleep in the kernel: does what it waits for. NULL:
 *             the victim is left there, and killed; it did all that it would
 *   check     in the tester, when the victim is dead and the owner table knows it: the survivors go on, and
 *             every invariant holds. `finished` says whether the victim was killed at its end only. Then the stepper
 *             looks at the heap (check_heap)
 *   heir      in a second victim, who comes when the first is dead and repairs what he left: killed at each of
 *             its changes, for each of the first's; then check. NULL for none. One in seven, but all if the
 *             environment variable STEPPER_ALL is set
 *   newborn   the victim's changes count from its birth, in its own part of the fork (object.h)
 *   poor      the system has no memory for the victim: it can map and commit none, nor give any back
 *   rung      in the victim, when it has just rung a channel's bell; or NULL
 *
 * The functions and the traced blocks that the victims ran through are written, as offsets into the program, to
 * the file that the environment variable STEPPER_TRACE names: who reads that (tests/test_crash_points.py) knows what
 * was never killed. */
#ifndef STEPPER_H
#define STEPPER_H

#include "check.h"

typedef struct {
    const char *name;
    void (*begin)(void);
    void (*launched)(void);
    void (*act)(void *);
    void (*nudge)(void);
    void (*check)(int finished);
    void (*heir)(void *);
    int newborn;
    int poor;
    void (*rung)(void);
} step_scenario;

/* Run all scenarios, or those named on the command line; the program's exit code. */
int step_main(int argc, char **argv, const step_scenario *scenarios, size_t count);

/* The owner ids of the victim and of his heir; 0 if there is none. */
uint32_t step_victim(void);
uint32_t step_heir(void);

/* For nudge: what the victim waits for comes by itself, when its slice of sleep is over. */
void step_patience(void);

/* For heir: clean up after the dead. */
void step_sweep(void *unused);

#define STEP_MAIN(...)                                                                    \
    int main(int argc, char **argv)                                                       \
    {                                                                                     \
        static const step_scenario scenarios[] = {__VA_ARGS__};                           \
        return step_main(argc, argv, scenarios, sizeof(scenarios) / sizeof(*scenarios)); \
    }

#endif
