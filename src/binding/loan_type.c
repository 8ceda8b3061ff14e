/* loan_type.c: Loan, the memory of a message where it lies, with the buffer protocol. What unpickling makes of it
 * sits on it and keeps it alive; a forked child's copies keep it, too (loan.h). */
#include "binding/loan_type.h"

#include "core/loan.h"

typedef struct {
    HandleObject handle;
    void *data;
    Py_ssize_t bytes;
    int writable;
} LoanObject;

PyObject *
loan_new(module_state *state, fmp_ref block, const void *data, size_t bytes, int writable)
{
    LoanObject *self = (LoanObject *)handle_new(state->Loan, NULL, NULL);
    if (self == NULL || handle_create(&self->handle, FMP_LOAN, sizeof(fmp_loan)) < 0) {
        Py_XDECREF(self);
        return NULL;
    }
    fmp_loan_init(self->handle.arena, self->handle.body, block);
    self->data = (void *)data;
    self->bytes = (Py_ssize_t)bytes;
    self->writable = writable;
    return (PyObject *)self;
}

static int
loan_get_buffer(PyObject *op, Py_buffer *view, int flags)
{
    LoanObject *self = (LoanObject *)op;
    if (handle_check(&self->handle) < 0)
        return -1;
    return PyBuffer_FillInfo(view, op, self->data, self->bytes, !self->writable, flags);
}

static PyMemberDef members[] = {HANDLE_MEMBERS, {NULL, 0, 0, 0, NULL}};

PyType_Spec loan_spec = {
    .name = "fastmp._core.Loan",
    .basicsize = sizeof(LoanObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots =
        (PyType_Slot[]){
            {Py_tp_doc, "The memory of a message where it lies."},
            {Py_tp_dealloc, handle_dealloc},
            {Py_tp_members, members},
            {Py_bf_getbuffer, loan_get_buffer},
            {0, NULL},
        },
};
