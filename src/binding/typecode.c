#include "binding/typecode.h"

#include <string.h>
#include <wchar.h>

#define LOADER(name, type, make)                                                                         \
    static PyObject *load_##name(const void *cell)                                                       \
    {                                                                                                    \
        type value;                                                                                      \
        memcpy(&value, cell, sizeof(value));                                                             \
        return make(value);                                                                              \
    }

/* Integers that don't fit lose their upper bits, as in ctypes. */
#define INTEGER(name, type, make)                                                                        \
    LOADER(name, type, make)                                                                             \
    static int store_##name(void *cell, PyObject *object)                                                \
    {                                                                                                    \
        if (!PyLong_Check(object))                                                                       \
            return 0;                                                                                    \
        type value = (type)PyLong_AsUnsignedLongLongMask(object);                                        \
        memcpy(cell, &value, sizeof(value));                                                             \
        return 1;                                                                                        \
    }

#define REAL(name, type)                                                                                 \
    LOADER(name, type, PyFloat_FromDouble)                                                               \
    static int store_##name(void *cell, PyObject *object)                                                \
    {                                                                                                    \
        double real;                                                                                     \
        if (!plain_double(object, &real))                                                                \
            return 0;                                                                                    \
        type value = (type)real;                                                                         \
        memcpy(cell, &value, sizeof(value));                                                             \
        return 1;                                                                                        \
    }

static int
plain_double(PyObject *object, double *value)
{
    if (!PyFloat_Check(object) && !PyLong_Check(object))
        return 0;
    *value = PyFloat_AsDouble(object);
    if (*value != -1.0 || !PyErr_Occurred())
        return 1;
    PyErr_Clear();
    return 0;
}

INTEGER(byte, signed char, PyLong_FromLong)
INTEGER(ubyte, unsigned char, PyLong_FromLong)
INTEGER(short, short, PyLong_FromLong)
INTEGER(ushort, unsigned short, PyLong_FromLong)
INTEGER(int, int, PyLong_FromLong)
INTEGER(uint, unsigned int, PyLong_FromUnsignedLong)
INTEGER(long, long, PyLong_FromLong)
INTEGER(ulong, unsigned long, PyLong_FromUnsignedLong)
INTEGER(longlong, long long, PyLong_FromLongLong)
INTEGER(ulonglong, unsigned long long, PyLong_FromUnsignedLongLong)
REAL(float, float)
REAL(double, double)
LOADER(bool, unsigned char, PyBool_FromLong)

static int
store_bool(void *cell, PyObject *object)
{
    if (!PyBool_Check(object))
        return 0;
    *(char *)cell = object == Py_True;
    return 1;
}

static PyObject *
load_char(const void *cell)
{
    return PyBytes_FromStringAndSize(cell, 1);
}

static int
store_char(void *cell, PyObject *object)
{
    long value = -1;
    int overflow;
    if (PyBytes_Check(object) && PyBytes_GET_SIZE(object) == 1)
        value = (unsigned char)PyBytes_AS_STRING(object)[0];
    else if (PyLong_Check(object))
        value = PyLong_AsLongAndOverflow(object, &overflow);
    if (value < 0 || value > UCHAR_MAX)
        return 0;
    *(unsigned char *)cell = (unsigned char)value;
    return 1;
}

static PyObject *
load_wchar(const void *cell)
{
    wchar_t value;
    memcpy(&value, cell, sizeof(value));
    return PyUnicode_FromWideChar(&value, 1);
}

static int
store_wchar(void *cell, PyObject *object)
{
    if (!PyUnicode_Check(object) || PyUnicode_GetLength(object) != 1)
        return 0;
    wchar_t value = (wchar_t)PyUnicode_ReadChar(object, 0);
    memcpy(cell, &value, sizeof(value));
    return 1;
}

static const typecode typecodes[] = {
    {"c", sizeof(char), load_char, store_char},
    {"b", sizeof(signed char), load_byte, store_byte},
    {"B", sizeof(unsigned char), load_ubyte, store_ubyte},
    {"?", sizeof(char), load_bool, store_bool},
    {"u", sizeof(wchar_t), load_wchar, store_wchar},
    {"h", sizeof(short), load_short, store_short},
    {"H", sizeof(unsigned short), load_ushort, store_ushort},
    {"i", sizeof(int), load_int, store_int},
    {"I", sizeof(unsigned int), load_uint, store_uint},
    {"l", sizeof(long), load_long, store_long},
    {"L", sizeof(unsigned long), load_ulong, store_ulong},
    {"q", sizeof(long long), load_longlong, store_longlong},
    {"Q", sizeof(unsigned long long), load_ulonglong, store_ulonglong},
    {"f", sizeof(float), load_float, store_float},
    {"d", sizeof(double), load_double, store_double},
};

static const char native_order = PY_BIG_ENDIAN ? '>' : '<';

/* May a letter stand for the code's cells, if the size is right? Bytes are what a 'c' is made of. */
static int
same_kind(char code, char letter)
{
    static const char *const kinds[] = {"bhilqn", "BHILQN"};
    for (int i = 0; i < 2; i++) {
        if (strchr(kinds[i], code) != NULL)
            return strchr(kinds[i], letter) != NULL;
    }
    return letter == code || (code == 'c' && letter == 'B');
}

int
typecode_matches(const typecode *code, const char *format, Py_ssize_t bytes)
{
    if (format == NULL)
        format = "B";
    if (*format == '@' || *format == '=' || *format == native_order)
        format++;
    return bytes == code->bytes && format[0] != 0 && format[1] == 0 && code->format[0] != 'u' &&
           same_kind(code->format[0], format[0]);
}

const typecode *
typecode_find(Py_UCS4 code)
{
    for (size_t i = 0; i < Py_ARRAY_LENGTH(typecodes); i++) {
        if ((Py_UCS4)typecodes[i].format[0] == code)
            return &typecodes[i];
    }
    return NULL;
}
