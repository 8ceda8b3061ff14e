/* args.h: arguments of methods called the fast way (METH_FASTCALL | METH_KEYWORDS). */
#ifndef FMP_BINDING_ARGS_H
#define FMP_BINDING_ARGS_H

#include "binding/state.h"

#define ARGS_MOST 4

/* What a function takes: its name for messages, the names of its arguments, how many must be given. */
typedef struct {
    const char *function;
    const char *names[ARGS_MOST + 1]; /* ends with NULL */
    int required;
} args_spec;

/* Sort the arguments by name into out[], NULL for one not given: 0, or -1 with TypeError. */
int args_parse(const args_spec *spec, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
               PyObject **out);

/* A timeout in seconds (None or NULL: for ever; zero or less: once) as a deadline: 0, or -1 with
 * TypeError, or ValueError for NaN. */
int args_deadline(PyObject *timeout, fmp_time *until);

/* block and timeout together, as acquire, put and get take them: without block the timeout doesn't count. */
int args_block(PyObject *block, PyObject *timeout, fmp_time *until);

#endif
