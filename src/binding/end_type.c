#include "binding/end_type.h"

static EndObject *
end_new(module_state *state, uint32_t side)
{
    EndObject *self = (EndObject *)handle_new(state->PipeEnd, NULL, NULL);
    if (self != NULL)
        self->end.side = side;
    return self;
}

int
end_pair(module_state *state, int duplex, int sockets[2], EndObject *ends[2])
{
    int rc = -1;
    ends[1] = NULL;
    if ((ends[0] = end_new(state, 0)) != NULL && (ends[1] = end_new(state, 1)) != NULL)
        rc = handle_create(&ends[0]->handle, FMP_CHANNEL, sizeof(fmp_channel));
    if (rc == 0) {
        fmp_channel *channel = ends[0]->handle.body;
        handle_share(&ends[1]->handle, &ends[0]->handle);
        ends[0]->end.channel = ends[1]->end.channel = channel;
        if ((rc = fmp_channel_init(ends[0]->handle.arena, channel, duplex, sockets)) < 0)
            raise_rc(state, rc);
    }
    if (rc == 0)
        return 0;
    Py_XDECREF(ends[0]);
    Py_XDECREF(ends[1]);
    return -1;
}

static void
refuse(int gone)
{
    PyErr_SetString(PyExc_RuntimeError, gone ? "the pipe of this descriptor is gone: no process had it any more"
                                             : "this descriptor is an end of another program's pipe: who uses it must "
                                               "descend from who made it");
}

int
end_of_descriptor(module_state *state, int fd, EndObject **end)
{
    uint64_t arena;
    uint32_t side;
    fmp_ticket ticket;
    *end = NULL;
    if (fmp_channel_read_label(fd, &arena, &ticket, &side) != 0)
        return 0;
    EndObject *self = end_new(state, side);
    if (self == NULL)
        return -1;
    int ours = arena == fmp_arena_name(self->handle.arena);
    int rc = !ours ? FMP_NOT_OWNER : handle_find(&self->handle, ticket, FMP_CHANNEL, sizeof(fmp_channel));
    if (rc == 0) {
        self->end.channel = self->handle.body;
        self->labelled = 1;
        *end = self;
        return 0;
    }
    Py_DECREF(self);
    if (rc > 0)
        refuse(rc == FMP_EMPTY);
    return -1;
}

int
end_label(EndObject *self, int fd)
{
    if (self->labelled)
        return 0;
    int rc = fmp_channel_label(self->handle.arena, &self->end, fd, fmp_object_ticket(self->handle.object));
    if (rc < 0) {
        raise_rc(self->handle.state, rc);
        return -1;
    }
    self->labelled = 1;
    return 0;
}

static PyObject *
end_reduce(EndObject *self, PyObject *Py_UNUSED(ignored))
{
    return handle_reduce_with(&self->handle, PyLong_FromUnsignedLong(self->end.side));
}

static PyObject *
end_attach(PyObject *type, PyObject *args)
{
    PyObject *side;
    EndObject *self = (EndObject *)handle_attach((PyTypeObject *)type, args, FMP_CHANNEL, sizeof(fmp_channel), &side);
    if (self == NULL)
        return NULL;
    self->end.side = PyLong_AsLong(side) != 0;
    self->end.channel = self->handle.body;
    return (PyObject *)self;
}

static PyMethodDef methods[] = {
    HANDLE_TRAVEL(end_reduce, end_attach),
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {HANDLE_MEMBERS, {NULL, 0, 0, 0, NULL}};

PyType_Spec end_spec = {
    .name = "fastmp._core.PipeEnd",
    .basicsize = sizeof(EndObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots =
        (PyType_Slot[]){
            {Py_tp_doc, "One end of a channel, which a Connection uses."},
            {Py_tp_dealloc, handle_dealloc},
            {Py_tp_methods, methods},
            {Py_tp_members, members},
            {0, NULL},
        },
};
