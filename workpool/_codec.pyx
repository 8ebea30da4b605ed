# cython: language_level=3, boundscheck=False, wraparound=False
# _codec.pyx — values to bytes and back: small plain values without pickle.
#
# Source: this project. One tag byte, then the value, little-endian as the machine:
#
#   N T F   None, True, False          s b   str, bytes: u32 length, bytes
#   i       int64                      t l   tuple, list: u32 count, values
#   d       float64                    P     pickle, to the end
#
# A list stands only at the top: two references to one list must stay one list, and
# pickle keeps that. Everything else, and ints beyond 64 bits, goes through pickle.
#
# SPDX-License-Identifier: BSD-3-Clause
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE, PyList_New, PyList_SET_ITEM
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.buffer cimport PyBUF_READ
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE, PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy

cdef extern from "Python.h":
    long long PyLong_AsLongLongAndOverflow(object, int *) except? -1
    object PyLong_FromLongLong(long long)
    object PyFloat_FromDouble(double)
    double PyFloat_AS_DOUBLE(object)
    const char *PyUnicode_AsUTF8AndSize(object, Py_ssize_t *) except NULL
    object PyUnicode_DecodeUTF8(const char *, Py_ssize_t, const char *)

cdef enum:
    MAX_DEPTH = 4
    NESTED_BYTES = 4096
    TAG_NONE = 78  # N
    TAG_TRUE = 84  # T
    TAG_FALSE = 70  # F
    TAG_INT = 105  # i
    TAG_FLOAT = 100  # d
    TAG_STR = 115  # s
    TAG_BYTES = 98  # b
    TAG_TUPLE = 116  # t
    TAG_LIST = 108  # l
    TAG_PICKLE = 80  # P

cdef object _dumps = None
cdef object _loads = None


def install(dumps, loads):
    """Say who pickles: ``dumps(value) -> bytes`` and ``loads(buffer) -> value``."""
    global _dumps, _loads
    _dumps, _loads = dumps, loads


cdef Py_ssize_t measure(object value):
    return _measure(value, 0)


cdef inline Py_ssize_t _sized(Py_ssize_t size, int depth):
    # A long one inside a group may be there many times: pickle writes it once.
    return 5 + size if size < (0xffffffff if depth == 0 else NESTED_BYTES) else -1


cdef Py_ssize_t _measure(object value, int depth):
    cdef int overflow = 0
    cdef Py_ssize_t size = 0, one, i
    cdef type kind = type(value)
    if kind is int:
        PyLong_AsLongLongAndOverflow(value, &overflow)
        return -1 if overflow else 9
    if kind is float:
        return 9
    if value is None or kind is bool:
        return 1
    if kind is str:
        try:
            PyUnicode_AsUTF8AndSize(value, &size)
        except UnicodeEncodeError:  # lone surrogates
            return -1
        return _sized(size, depth)
    if kind is bytes:
        return _sized(PyBytes_GET_SIZE(value), depth)
    if kind is tuple and depth < MAX_DEPTH:
        size = 5
        for i in range(PyTuple_GET_SIZE(value)):
            one = _measure(<object>PyTuple_GET_ITEM(value, i), depth + 1)
            if one < 0:
                return -1
            size += one
        return size
    if kind is list and depth == 0:
        size = 5
        for i in range(PyList_GET_SIZE(value)):
            one = _measure(<object>PyList_GET_ITEM(value, i), 1)
            if one < 0:
                return -1
            size += one
        return size
    return -1


cdef inline uint8_t *_put(uint8_t *out, uint8_t tag, const void *data, size_t size) noexcept:
    out[0] = tag
    memcpy(out + 1, data, size)
    return out + 1 + size


cdef uint8_t *write(object value, uint8_t *out):
    cdef int overflow = 0
    cdef long long whole
    cdef double real
    cdef const char *text
    cdef Py_ssize_t size = 0, i
    cdef uint32_t count
    cdef type kind = type(value)
    if kind is int:
        whole = PyLong_AsLongLongAndOverflow(value, &overflow)
        return _put(out, TAG_INT, &whole, 8)
    if kind is float:
        real = PyFloat_AS_DOUBLE(value)
        return _put(out, TAG_FLOAT, &real, 8)
    if value is None:
        out[0] = TAG_NONE
        return out + 1
    if kind is bool:
        out[0] = TAG_TRUE if value is True else TAG_FALSE
        return out + 1
    if kind is str:
        text = PyUnicode_AsUTF8AndSize(value, &size)
        count = <uint32_t>size
        out = _put(out, TAG_STR, &count, 4)
        memcpy(out, text, size)
        return out + size
    if kind is bytes:
        count = <uint32_t>PyBytes_GET_SIZE(value)
        out = _put(out, TAG_BYTES, &count, 4)
        memcpy(out, PyBytes_AS_STRING(value), count)
        return out + count
    if kind is tuple:
        count = <uint32_t>PyTuple_GET_SIZE(value)
        out = _put(out, TAG_TUPLE, &count, 4)
        for i in range(count):
            out = write(<object>PyTuple_GET_ITEM(value, i), out)
        return out
    count = <uint32_t>PyList_GET_SIZE(value)
    out = _put(out, TAG_LIST, &count, 4)
    for i in range(count):
        out = write(<object>PyList_GET_ITEM(value, i), out)
    return out


cdef bytes pickled(object value):
    return b"P" + _dumps(value)


cdef object _corrupt():
    return ValueError("corrupt payload: something wrote over the pool's shared memory")


cdef object _read(const uint8_t **at, const uint8_t *end, int depth):
    cdef const uint8_t *p = at[0]
    cdef uint8_t tag
    cdef long long whole
    cdef double real
    cdef uint32_t count = 0, i
    cdef object item, group
    if p >= end:
        raise _corrupt()
    tag = p[0]
    p += 1
    if tag == TAG_INT or tag == TAG_FLOAT:
        if end - p < 8:
            raise _corrupt()
        at[0] = p + 8
        if tag == TAG_INT:
            memcpy(&whole, p, 8)
            return PyLong_FromLongLong(whole)
        memcpy(&real, p, 8)
        return PyFloat_FromDouble(real)
    if tag == TAG_NONE or tag == TAG_TRUE or tag == TAG_FALSE:
        at[0] = p
        return None if tag == TAG_NONE else tag == TAG_TRUE
    if tag == TAG_PICKLE:
        at[0] = end
        return _loads(PyMemoryView_FromMemory(<char *>p, end - p, PyBUF_READ))
    if end - p < 4:
        raise _corrupt()
    memcpy(&count, p, 4)
    p += 4
    # Every value takes a byte at least, so a wild count cannot ask for wild memory.
    if count > end - p:
        raise _corrupt()
    if tag == TAG_STR or tag == TAG_BYTES:
        at[0] = p + count
        if tag == TAG_STR:
            return PyUnicode_DecodeUTF8(<const char *>p, count, NULL)
        return PyBytes_FromStringAndSize(<char *>p, count)
    at[0] = p
    if depth >= MAX_DEPTH:  # deeper than anything that is written: a wild tag must not eat the stack
        raise _corrupt()
    if tag == TAG_TUPLE:
        group = PyTuple_New(count)
        for i in range(count):
            item = _read(at, end, depth + 1)
            Py_INCREF(item)
            PyTuple_SET_ITEM(group, i, item)
        return group
    if tag == TAG_LIST:
        group = PyList_New(count)
        for i in range(count):
            item = _read(at, end, depth + 1)
            Py_INCREF(item)
            PyList_SET_ITEM(group, i, item)
        return group
    raise _corrupt()


cdef object read(const uint8_t *data, Py_ssize_t size):
    cdef const uint8_t *at = data
    return _read(&at, data + size, 0)


def dumps(value):
    """The payload of ``value`` as bytes, compact where it can be."""
    cdef Py_ssize_t size = measure(value)
    if size < 0:
        return pickled(value)
    cdef bytes out = PyBytes_FromStringAndSize(NULL, size)
    write(value, <uint8_t *>PyBytes_AS_STRING(out))
    return out


def loads(data):
    """The value whose payload is in ``data``, any bytes-like object."""
    cdef const unsigned char[::1] view = data
    if view.shape[0] == 0:
        raise _corrupt()
    return read(&view[0], view.shape[0])
