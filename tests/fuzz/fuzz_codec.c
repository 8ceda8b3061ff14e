/* fuzz_codec.c: any bytes are the contents of a message, or damaged (binding/codec.h).
 *
 * What has the native form is written as it was read. What unpickles here only looks at every byte that it is given:
 * a pickle may do whatever it likes, and is not what is tried. Each input is read three times: after the second
 * time everything is as after the first, free lists too, so the third may keep nothing. */
#include "fuzz.h"

#include "binding/codec.h"
#include "binding/native.h"

/* The free list of tuples of 20 items only grows, up to 2000, in CPython 3.11: it is filled before. */
static const char unpickler[] = "full = [tuple([0] * 20) for _ in range(2001)]\n"
                                "del full\n"
                                "def dumps(obj):\n"
                                "    return b'pickle'\n"
                                "def loads(data, *, buffers=()):\n"
                                "    return bytes(data), [bytes(buffer) for buffer in buffers]\n";

static module_state state;
static PyObject *allocated; /* sys.getallocatedblocks */

static void
begin(void)
{
    PyConfig config;
    PyConfig_InitIsolatedConfig(&config);
    config.site_import = 0;
    REQUIRE(!PyStatus_Exception(Py_InitializeFromConfig(&config)));
    PyConfig_Clear(&config);
    REQUIRE(PyRun_SimpleString(unpickler) == 0);
    PyObject *names = PyModule_GetDict(PyImport_AddModule("__main__"));
    state.loads = PyDict_GetItemString(names, "loads");
    state.dumps = PyDict_GetItemString(names, "dumps");
    allocated = PySys_GetObject("getallocatedblocks");
    REQUIRE(state.loads != NULL && state.dumps != NULL && allocated != NULL);
}

static long
blocks(void)
{
    PyObject *count = PyObject_CallNoArgs(allocated);
    long n = PyLong_AsLong(count);
    Py_DECREF(count);
    return n;
}

static void
write_again(PyObject *value, const uint8_t *data, size_t bytes)
{
    REQUIRE(native_size(value) == (Py_ssize_t)bytes);
    char *copy = malloc(bytes);
    REQUIRE(copy != NULL && native_write(value, copy) == copy + bytes);
    REQUIRE(memcmp(copy, data, bytes) == 0);
    free(copy);
}

/* Nothing was made up, and nothing given twice. */
static void
look_at(PyObject *given, size_t bytes)
{
    size_t sum = (size_t)PyBytes_Size(PyTuple_GetItem(given, 0));
    PyObject *buffers = PyTuple_GetItem(given, 1);
    for (Py_ssize_t i = 0; i < PyList_Size(buffers); i++)
        sum += (size_t)PyBytes_Size(PyList_GetItem(buffers, i));
    REQUIRE(sum <= bytes);
}

static void
require_value_error(void)
{
    REQUIRE(PyErr_ExceptionMatches(PyExc_ValueError)); /* UnicodeDecodeError is one */
    PyErr_Clear();
}

static void
decode(const uint8_t *data, size_t bytes)
{
    PyObject *value = codec_decode(&state, data, (Py_ssize_t)bytes);
    if (value == NULL)
        require_value_error();
    else if (native_is(data, (Py_ssize_t)bytes))
        write_again(value, data, bytes);
    else
        look_at(value, bytes);
    Py_XDECREF(value);
    PyObject *pickle = codec_as_pickle(&state, data, (Py_ssize_t)bytes);
    REQUIRE((pickle == NULL) == (value == NULL));
    if (pickle == NULL)
        require_value_error();
    Py_XDECREF(pickle);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (!Py_IsInitialized())
        begin();
    decode(data, bytes);
    decode(data, bytes);
    long before = blocks();
    decode(data, bytes);
    REQUIRE(blocks() <= before);
    return 0;
}
