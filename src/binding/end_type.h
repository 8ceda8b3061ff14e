/* end_type.h: PipeEnd, an end of a channel as a process holds it: the handle of the channel, and which end. Immutable.
 *
 * A Connection has one beside its descriptor; each of its calls holds it on its own account, as another thread may
 * close the connection meanwhile. Pickled it is a handle like others: what keeps the channel while the
 * descriptor travels. */
#ifndef FMP_BINDING_END_TYPE_H
#define FMP_BINDING_END_TYPE_H

#include "binding/handle.h"
#include "core/channel.h"

typedef struct {
    HandleObject handle;
    fmp_end end;
    int labelled; /* its socket was, by this process or one that it was forked from */
} EndObject;

/* A new channel, its sockets and its ends: 0, or -1 with an exception. */
int end_pair(module_state *state, int duplex, int sockets[2], EndObject *ends[2]);

/* The end that the descriptor is labelled as, or NULL if it is none: 0, or -1 with an exception. */
int end_of_descriptor(module_state *state, int fd, EndObject **end);

/* Label the end's descriptor: 0, or -1 with an exception. */
int end_label(EndObject *self, int fd);

#endif
