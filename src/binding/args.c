#include "binding/args.h"

static int
place(const args_spec *spec, PyObject *name)
{
    for (int i = 0; spec->names[i] != NULL; i++) {
        if (PyUnicode_CompareWithASCIIString(name, spec->names[i]) == 0)
            return i;
    }
    PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'", spec->function, name);
    return -1;
}

static int
count(const args_spec *spec)
{
    int n = 0;
    while (spec->names[n] != NULL)
        n++;
    return n;
}

int
args_parse(const args_spec *spec, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, PyObject **out)
{
    int most = count(spec);
    if (nargs > most) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %d arguments (%zd given)", spec->function, most, nargs);
        return -1;
    }
    for (int i = 0; i < most; i++)
        out[i] = i < nargs ? args[i] : NULL;
    Py_ssize_t named = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t k = 0; k < named; k++) {
        int i = place(spec, PyTuple_GET_ITEM(kwnames, k));
        if (i < 0)
            return -1;
        if (out[i] != NULL) {
            PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%s'", spec->function,
                         spec->names[i]);
            return -1;
        }
        out[i] = args[nargs + k];
    }
    for (int i = 0; i < spec->required; i++) {
        if (out[i] == NULL) {
            PyErr_Format(PyExc_TypeError, "%s() missing required argument: '%s'", spec->function,
                         spec->names[i]);
            return -1;
        }
    }
    return 0;
}

int
args_deadline(PyObject *timeout, fmp_time *until)
{
    *until = FMP_FOREVER;
    if (timeout == NULL || timeout == Py_None)
        return 0;
    double seconds = PyFloat_AsDouble(timeout);
    if (seconds == -1.0 && PyErr_Occurred()) {
        if (!PyNumber_Check(timeout))
            PyErr_Format(PyExc_TypeError, "timeout must be a number of seconds or None, not %.200s",
                         Py_TYPE(timeout)->tp_name);
        return -1;
    }
    if (seconds != seconds) {
        PyErr_SetString(PyExc_ValueError, "Invalid value NaN (not a number)");
        return -1;
    }
    if (seconds <= 0)
        *until = FMP_NOW;
    else if (seconds < (double)(FMP_FOREVER / FMP_SECOND))
        *until = fmp_time_after((fmp_time)(seconds * (double)FMP_SECOND));
    return 0;
}

int
args_block(PyObject *block, PyObject *timeout, fmp_time *until)
{
    int blocking = block == NULL ? 1 : PyObject_IsTrue(block);
    if (blocking < 0)
        return -1;
    if (blocking)
        return args_deadline(timeout, until);
    *until = FMP_NOW;
    return 0;
}
