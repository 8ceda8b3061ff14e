/* here.c: the one arena of this process. It is made when the first shared object is, or before the first
 * fork; children inherit it. */
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
