/* here.c: the one arena of this process. It is made when the first shared object is, or before the first
 * child; forked children inherit it, others attach to it first of all. */
#include <errno.h>

#include "binding/errors.h"
#include "core/owner.h"

static fmp_arena here;
static int ready;

static int
make(void)
{
    int rc = fmp_arena_create(&here);
    if (rc < 0)
        return rc;
    if ((rc = fmp_heap_init(&here)) < 0 || (rc = fmp_owner_join(&here)) < 0 || (rc = fmp_object_init(&here)) < 0)
        fmp_arena_detach(&here);
    else
        fmp_heap_keep(&here, 1);
    return rc;
}

fmp_arena *
fmp_here(void)
{
    if (ready)
        return &here;
    int rc = make();
    if (rc < 0) {
        raise_rc(NULL, rc);
        return NULL;
    }
    ready = 1;
    return &here;
}

void
fmp_here_idle(void)
{
    if (ready)
        fmp_heap_idle(&here);
}

static int
join(int fd, uint32_t owner)
{
    int rc = fmp_arena_attach(&here, fd);
    if (rc < 0)
        return rc;
    rc = owner == 0 ? fmp_owner_join(&here) : fmp_owner_adopt(&here, owner);
    if (rc == 0)
        rc = fmp_object_join(&here);
    if (rc != 0)
        fmp_arena_detach(&here);
    else
        fmp_heap_keep(&here, 1);
    return rc;
}

int
fmp_here_attach(int fd, uint32_t owner)
{
    if (ready) {
        PyErr_SetString(PyExc_RuntimeError, "this process has an arena already");
        return -1;
    }
    int rc = join(fd, owner);
    if (rc == FMP_NOT_OWNER)
        PyErr_SetString(PyExc_RuntimeError, "the process that started this one has ended");
    else if (rc == -EBADMSG)
        PyErr_SetString(PyExc_RuntimeError, "the other processes run another build of fastmp");
    else if (rc != 0)
        raise_rc(NULL, rc);
    ready = rc == 0;
    return rc == 0 ? 0 : -1;
}
