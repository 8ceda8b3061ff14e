/* birth.h: Ctrl-C in a process that does not run its program yet.
 *
 * The terminal sends SIGINT to all processes at once, so also to those that are just coming to life. What it would
 * raise there tells nobody anything, and some of them would not hear it at all. So they are started with SIGINT
 * blocked, and it is let in right before run(): what came until then ends the child without a word.
 *
 * A forked child keeps it blocked for that moment. A new interpreter, or a child of the fork server, may have much
 * to import first: where Python's own handler is to be called, SIGINT just ends it in that time, as it ends a
 * program that does not handle it. Python does not know of that, so nor does the program that is imported; a handler
 * that it sets takes effect. */
#ifndef FMP_BINDING_BIRTH_H
#define FMP_BINDING_BIRTH_H

#include "binding/state.h"

/* SIGINT is blocked, but only until the birth is over. */
void birth_block_interrupts(void);

PyObject *birth_hold_interrupts(PyObject *module, PyObject *ignored);
PyObject *birth_let_interrupts_in(PyObject *module, PyObject *ignored);

#endif
