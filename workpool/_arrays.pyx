# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# _arrays.pyx — values with arrays to payloads and back; imported once NumPy is there.
#
# Source: this project. A stream of entries, little-endian as the machine:
#
#   v       u32 size, a value of _codec          t l m   tuple, list, dict: u32 count, entries
#   n       an array: place, flags, dimensions, dtype, shape, then by its place
#             inline   its bytes                 data     u64: from where the parcel's data begin
#             shared   block, identity, u64 into the block, strides: somebody else holds it
#             handed   block, u64 into the block, strides: the slot holds it
#   r       u32: that array again                q       a pickled buffer: as n, without dtype
#   k       u32 count of n and q, these, u64 size, a pickle that takes them as its buffers
#
# Small values are a stream alone (first byte a); others a parcel: csrc/wp_parcel.h.
# Plain containers of scalars and arrays need no pickle. An object twice in a value
# does: then it is one object on the other side too.
#
# SPDX-License-Identifier: BSD-3-Clause
cimport numpy as cnp
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_Next
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.buffer cimport PyBUF_READ
from cpython.ref cimport Py_INCREF, PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from workpool cimport _codec

from workpool.errors import WorkpoolError

cdef extern from "numpy/arrayobject.h":
    object PyArray_NewFromDescr(
        void *, cnp.dtype, int, cnp.npy_intp *, cnp.npy_intp *, void *, int, PyObject *)
    PyObject *PyArray_BASE(cnp.ndarray)
    PyObject *PyArray_DESCR "(PyObject *)PyArray_DESCR"(cnp.ndarray)
    void *ArrayType "&PyArray_Type"
    int PyArray_CopyInto(cnp.ndarray, cnp.ndarray) except -1
    object PyArray_Scalar(void *, cnp.dtype, object)
    void PyArray_ScalarAsCtype(object, void *)
    cnp.dtype PyArray_DescrFromScalar(object)
    int PyArray_SetBaseObject(cnp.ndarray, object) except -1

cnp.import_array()

cdef enum:
    TAG_VALUE = 118  # v
    TAG_TUPLE = 116  # t
    TAG_LIST = 108  # l
    TAG_DICT = 109  # m
    TAG_ARRAY = 110  # n
    TAG_REPEAT = 114  # r
    TAG_BUFFER = 113  # q
    TAG_PICKLE = 107  # k
    TAG_STREAM = 97  # a
    PLACE_INLINE = 0
    PLACE_DATA = 1
    PLACE_SHARED = 2
    PLACE_HANDED = 3
    FLAG_FORTRAN = 1
    FLAG_READ_ONLY = 2
    FLAG_SCALAR = 4
    MAX_DEPTH = 16
    MAX_DIMENSIONS = 64
    HEAD_BYTES = 64
    # A copy of so little costs less than a place of its own; than a lease.
    INLINE_BYTES = 256
    COPIED_BYTES = 1024
    # A long string may be there many times: pickle writes it once.
    LONG_BYTES = 4096
    NOGIL_BYTES = 1 << 20
    CODE_PICKLED = 255
    LAST_TYPE = 23  # the types with a number of their own, which an old NumPy has too

cdef type _Loan = None
cdef object _dumps = None
cdef object _loads = None
cdef set _scalars = set()
cdef list _descrs = []
cdef dict _pickled_descrs = {}
cdef dict _unpickled_descrs = {}


def install(loan, dumps, loads):
    """Say what arrays of the arena end in, and who pickles.

    Args:
        loan: The class of blocks that are looked at.
        dumps: ``dumps(value, take)``: a pickle; each array that may travel by itself is given to
            ``take(array)``, each other buffer to ``take(picklebuffer)``.
        loads: ``loads(pickle, buffers)``.
    """
    global _Loan, _dumps, _loads
    _Loan, _dumps, _loads = loan, dumps, loads
    for number in range(LAST_TYPE + 1):
        _descrs.append(cnp.PyArray_DescrFromType(number))
    # Not bool, str, bytes, void and the dates: those have lengths or units, or are few.
    for number in [*range(1, 17), 23]:
        _scalars.add(_descrs[number].type)
    _scalars.add(_descrs[0].type)


cdef object _corrupt():
    return ValueError("corrupt payload: something wrote over the pool's shared memory")


cdef bint _is_raw(cnp.dtype descr):
    """Whether the bytes of an array are all that it is."""
    cdef int number = descr.type_num
    if number > LAST_TYPE or number == cnp.NPY_OBJECT or number < 0:
        return False
    return number != cnp.NPY_VOID or not (<object>descr).hasobject


def is_raw(cnp.ndarray array):
    """Whether the bytes of an array are all that it is."""
    return _is_raw(<cnp.dtype>PyArray_DESCR(array))


cdef object _loan_of(cnp.ndarray array):
    """Where the chain of its bases ends; None: not in the arena."""
    cdef PyObject *base = PyArray_BASE(array)
    while base != NULL:
        if type(<object>base) is _Loan:
            return <object>base
        if isinstance(<object>base, cnp.ndarray):
            base = PyArray_BASE(<cnp.ndarray><object>base)
        elif type(<object>base) is memoryview:
            owner = (<object>base).obj
            return _loan_of(<cnp.ndarray>owner) if isinstance(owner, cnp.ndarray) else None
        else:
            return None
    return None


def loan_of(array):
    """The block that an array looks at; None: it is not in the arena."""
    return _loan_of(array)


cdef class Parcel:
    """A packed value.

    Attributes:
        stream: All of it, as bytes; None: call ``write``.
        size: Bytes that ``write`` takes.
        held: Loans it refers to, which must live until it is taken.
        handed: Loans whose blocks' lives it takes over.
    """

    cdef readonly bytes stream
    cdef readonly uint64_t size
    cdef readonly list held
    cdef readonly list handed
    cdef bytes entries
    cdef uint64_t start
    cdef list data
    cdef list places

    def write(self, size_t address, uint64_t identity):
        """Write head, names, entries and data to ``address``."""
        cdef uint8_t *out = <uint8_t *>address
        cdef uint32_t count = <uint32_t>PyBytes_GET_SIZE(self.entries), names = <uint32_t>len(self.handed)
        cdef uint64_t block
        cdef size_t i
        memset(out, 0, HEAD_BYTES)
        memcpy(out, &identity, 8)
        memcpy(out + 8, &count, 4)
        memcpy(out + 12, &names, 4)
        memcpy(out + 16, &self.start, 8)
        for i in range(names):
            block = self.handed[i].offset
            memcpy(out + HEAD_BYTES + 8 * i, &block, 8)
        memcpy(out + HEAD_BYTES + 8 * names, PyBytes_AS_STRING(self.entries), count)
        for i in range(<size_t>len(self.data)):
            _write_data(self.data[i], out + self.start + <uint64_t>self.places[i])


cdef int _write_data(object source, uint8_t *out) except -1:
    cdef Py_buffer view
    if isinstance(source, cnp.ndarray):
        return _write_array(source, out)
    PyObject_GetBuffer(source, &view, PyBUF_SIMPLE)
    try:
        _copy(out, view.buf, view.len)
    finally:
        PyBuffer_Release(&view)
    return 0


cdef int _write_array(cnp.ndarray array, uint8_t *out) except -1:
    cdef cnp.ndarray target
    if cnp.PyArray_IS_C_CONTIGUOUS(array) or cnp.PyArray_IS_F_CONTIGUOUS(array):
        _copy(out, cnp.PyArray_DATA(array), cnp.PyArray_NBYTES(array))
        return 0
    target = _new_array(
        <cnp.dtype>PyArray_DESCR(array), cnp.PyArray_NDIM(array), cnp.PyArray_DIMS(array), NULL, out, 0)
    return PyArray_CopyInto(target, array)


cdef void _copy(void *out, const void *source, size_t size):
    # Nothing moves meanwhile: the block is nobody else's yet, and the array cannot be resized
    # while it is referred to here.
    if size < NOGIL_BYTES:
        memcpy(out, source, size)
    else:
        with nogil:
            memcpy(out, source, size)


cdef cnp.ndarray _new_array(
    cnp.dtype descr, int ndim, cnp.npy_intp *shape, cnp.npy_intp *strides, void *data, int flags
):
    Py_INCREF(descr)  # the call takes one
    if data != NULL:
        flags |= cnp.NPY_ARRAY_WRITEABLE
    return PyArray_NewFromDescr(ArrayType, descr, ndim, shape, strides, data, flags, NULL)


cdef class _Packer:
    cdef uint8_t *bytes
    cdef size_t size
    cdef size_t room
    cdef object seat
    cdef uint64_t argument
    cdef bint is_result
    cdef bint met  # an array, or a scalar of NumPy
    cdef uint32_t count
    cdef uint64_t data_bytes
    cdef list data
    cdef list places
    cdef list held
    cdef list handed
    cdef dict seen

    def __dealloc__(self):
        PyMem_Free(self.bytes)

    cdef void begin(self):
        self.size = 0
        self.count = 0
        self.data_bytes = 0
        self.met = False
        self.data = []
        self.places = []
        self.held = []
        self.handed = []
        self.seen = {}

    cdef uint8_t *more(self, size_t size) except NULL:
        cdef size_t room
        cdef void *bytes
        if self.size + size > self.room:
            room = 2 * (self.size + size) + 256
            bytes = PyMem_Realloc(self.bytes, room)
            if bytes == NULL:
                raise MemoryError()
            self.bytes = <uint8_t *>bytes
            self.room = room
        self.size += size
        return self.bytes + self.size - size

    cdef int put(self, uint8_t tag, uint32_t number) except -1:
        cdef uint8_t *out = self.more(5)
        out[0] = tag
        memcpy(out + 1, &number, 4)
        return 0

    cdef int put_word(self, uint64_t word) except -1:
        memcpy(self.more(8), &word, 8)
        return 0

    cdef bint value(self, object value, int depth) except -1:
        """Write the entry of ``value``; False: pickle must."""
        cdef type kind = type(value)
        cdef Py_ssize_t size, i = 0
        cdef PyObject *key = NULL
        cdef PyObject *item = NULL
        if kind is cnp.ndarray:
            return self.array(<cnp.ndarray>value)
        if kind is tuple or kind is list or kind is dict:
            if depth >= MAX_DEPTH or id(value) in self.seen:
                return False
            if kind is not tuple:
                self.seen[id(value)] = -1
            size = len(value)
            if size > 0xffffffff:
                return False
            self.put(TAG_TUPLE if kind is tuple else TAG_LIST if kind is list else TAG_DICT, <uint32_t>size)
            if kind is dict:
                # Nothing in this loop runs Python code that could change the dict.
                while PyDict_Next(value, &i, &key, &item):
                    if not self.value(<object>key, depth + 1) or not self.value(<object>item, depth + 1):
                        return False
                return True
            for i in range(size):
                if not self.value(value[i], depth + 1):
                    return False
            return True
        if kind in _scalars:
            return self.scalar(value)
        size = _codec.measure(value)
        if size < 0 or (size > LONG_BYTES and depth > 0):
            return False
        self.put(TAG_VALUE, <uint32_t>size)
        _codec.write(value, self.more(size))
        return True

    cdef bint scalar(self, object value) except -1:
        cdef cnp.dtype descr = PyArray_DescrFromScalar(value)
        cdef uint8_t *out = self.more(5)
        self.met = True
        out[0] = TAG_ARRAY
        out[1] = PLACE_INLINE
        out[2] = FLAG_SCALAR
        out[3] = 0
        out[4] = <uint8_t>descr.type_num
        PyArray_ScalarAsCtype(value, self.more(descr.itemsize))
        return True

    cdef bint array(self, cnp.ndarray array) except -1:
        cdef cnp.dtype descr = <cnp.dtype>PyArray_DESCR(array)
        cdef int ndim = cnp.PyArray_NDIM(array), flags = 0, place
        cdef uint64_t size = cnp.PyArray_NBYTES(array)
        cdef uint8_t *out
        cdef object loan
        if not _is_raw(descr):
            return False
        self.met = True
        again = self.seen.get(id(array))
        if again is not None:
            self.put(TAG_REPEAT, <uint32_t>again)
            return True
        self.seen[id(array)] = self.count
        self.count += 1
        loan = _loan_of(array)
        place = PLACE_INLINE if size <= INLINE_BYTES else PLACE_DATA
        if loan is not None:
            place = self.place(loan, size, place)
        if not cnp.PyArray_IS_C_CONTIGUOUS(array) and cnp.PyArray_IS_F_CONTIGUOUS(array):
            flags |= FLAG_FORTRAN
        if place == PLACE_SHARED and not cnp.PyArray_ISWRITEABLE(array):
            flags |= FLAG_READ_ONLY
        out = self.more(4)
        out[0] = TAG_ARRAY
        out[1] = <uint8_t>place
        out[2] = <uint8_t>flags
        out[3] = <uint8_t>ndim
        self.descr(descr)
        memcpy(self.more(8 * ndim), cnp.PyArray_DIMS(array), 8 * ndim)
        if place == PLACE_INLINE:
            # Into the stream itself, which may move: so write where it is now.
            _write_array(array, self.more(size))
        elif place == PLACE_DATA:
            self.put_word(self.data_place(array, size))
        else:
            self.put_word(loan.offset)
            if place == PLACE_SHARED:
                self.put_word(loan.identity)
            self.put_word(<size_t>cnp.PyArray_DATA(array) - <size_t>loan.address)
            memcpy(self.more(8 * ndim), cnp.PyArray_STRIDES(array), 8 * ndim)
        return True

    cdef int place(self, object loan, uint64_t size, int otherwise) except -1:
        """Where an array that lies in a block goes."""
        cdef bint here = loan.seat is self.seat
        if loan.shared and not here:
            if loan.seat.is_open:
                raise WorkpoolError(
                    "this array lies in the shared memory of another pool, which the workers of this one "
                    "do not see: pass a copy of it")
            raise WorkpoolError(
                "this array lies in the shared memory of a pool that was shut down: pass a copy of it")
        if not here:
            return otherwise
        if self.is_result and (loan.owns or loan.offset == self.argument):
            # A small part does not keep a large block.
            if size <= INLINE_BYTES or (size < COPIED_BYTES * 64 and size < loan.bytes // 8):
                return otherwise
            if loan.owns:
                if not self.seat.prepare_hand_over(loan):
                    return otherwise
                if loan not in self.handed:
                    self.handed.append(loan)
            return PLACE_HANDED
        if loan.shared and (not self.is_result or loan.lives):
            self.held.append(loan)
            return PLACE_SHARED
        return otherwise

    cdef int descr(self, cnp.dtype descr) except -1:
        cdef int number = descr.type_num
        cdef uint32_t size
        cdef uint8_t *out
        if <object>descr is _descrs[number]:
            self.more(1)[0] = <uint8_t>number
            return 0
        pickled = _pickled_descrs.get(descr)
        if pickled is None:
            pickled = _dumps(descr, None)
            if len(_pickled_descrs) > 1000:
                _pickled_descrs.clear()
            _pickled_descrs[descr] = pickled
        size = <uint32_t>PyBytes_GET_SIZE(pickled)
        out = self.more(5 + size)
        out[0] = CODE_PICKLED
        memcpy(out + 1, &size, 4)
        memcpy(out + 5, PyBytes_AS_STRING(pickled), size)
        return 0

    cdef uint64_t data_place(self, object source, uint64_t size):
        cdef uint64_t place = self.data_bytes
        self.data_bytes = (place + size + 63) & ~<uint64_t>63
        self.data.append(source)
        self.places.append(place)
        return place

    def take(self, source):
        """An array or buffer on the way through pickle."""
        cdef Py_buffer view
        cdef uint8_t *out
        self.met = True
        if type(source) is cnp.ndarray:
            # Pickle keeps what is one object: no repeats here, but for its own.
            self.seen.pop(id(source), None)
            self.array(<cnp.ndarray>source)
            return
        source = source.raw()
        PyObject_GetBuffer(source, &view, PyBUF_SIMPLE)
        try:
            out = self.more(3)
            out[0] = TAG_BUFFER
            out[1] = PLACE_INLINE if view.len <= INLINE_BYTES else PLACE_DATA
            out[2] = FLAG_READ_ONLY if view.readonly else 0
            self.put_word(view.len)
            if view.len <= INLINE_BYTES:
                memcpy(self.more(view.len), view.buf, view.len)
            else:
                self.put_word(self.data_place(source, view.len))
        finally:
            PyBuffer_Release(&view)

    cdef int pickle(self, object value) except -1:
        """Write the entry of any value; ``met`` is False if pickle alone does as well."""
        cdef uint32_t count
        cdef bytes pickled
        self.begin()
        self.put(TAG_PICKLE, 0)
        taken = []

        def take(source):
            taken.append(source)  # keeps it, so that no other object has its address
            self.take(source)

        pickled = _dumps(value, take)
        self.put_word(PyBytes_GET_SIZE(pickled))
        memcpy(self.more(PyBytes_GET_SIZE(pickled)), PyBytes_AS_STRING(pickled), PyBytes_GET_SIZE(pickled))
        count = <uint32_t>len(taken)
        memcpy(self.bytes + 1, &count, 4)
        return 0


def pack(value, seat, uint64_t argument, bint is_result):
    """The payload of ``value``: bytes, or a ``Parcel``.

    Args:
        value: What is no plain small value.
        seat: Whose process packs it.
        argument: The block of the task's own argument, which a result may lie in; 0 for none.
        is_result: Whether it is a result: blocks that this process owns go with it.
    """
    cdef _Packer packer = _Packer.__new__(_Packer)
    packer.seat = seat
    packer.argument = argument
    packer.is_result = is_result
    packer.begin()
    if not packer.value(value, 0):
        packer.pickle(value)
    if not packer.met:
        return _codec.pickled(value)
    cdef bytes stream
    cdef Parcel parcel
    if not packer.data and not packer.handed:
        stream = PyBytes_FromStringAndSize(NULL, packer.size + 1)
        PyBytes_AS_STRING(stream)[0] = TAG_STREAM
        memcpy(PyBytes_AS_STRING(stream) + 1, packer.bytes, packer.size)
        if not packer.held:
            return stream
        parcel = Parcel.__new__(Parcel)
        parcel.stream = stream
        parcel.held = packer.held
        parcel.handed = packer.handed
        return parcel
    if packer.size > 0xffffffff:
        raise ValueError("more than 4 GiB of objects that are not arrays in one payload")
    parcel = Parcel.__new__(Parcel)
    parcel.held = packer.held
    parcel.handed = packer.handed
    parcel.entries = PyBytes_FromStringAndSize(<char *>packer.bytes, packer.size)
    parcel.start = (HEAD_BYTES + 8 * <uint64_t>len(packer.handed) + packer.size + 63) & ~<uint64_t>63
    parcel.size = parcel.start + packer.data_bytes
    parcel.data = packer.data
    parcel.places = packer.places
    return parcel


cdef class _Reader:
    cdef object delivery
    cdef const uint8_t *at
    cdef const uint8_t *end
    cdef const uint8_t *data  # NULL: none
    cdef const uint8_t *data_end
    cdef bint copies
    cdef bint asked
    cdef object whole  # the payload's own loan, once it was asked for
    cdef list arrays

    cdef const uint8_t *take(self, uint64_t size) except NULL:
        cdef const uint8_t *at = self.at
        if size > <uint64_t>(self.end - at):
            raise _corrupt()
        self.at = at + size
        return at

    cdef uint32_t take_count(self) except? 0:
        cdef uint32_t count
        memcpy(&count, self.take(4), 4)
        if count > self.end - self.at:  # every entry takes a byte at least
            raise _corrupt()
        return count

    cdef uint64_t take_word(self) except? 0:
        cdef uint64_t word
        memcpy(&word, self.take(8), 8)
        return word

    cdef object value(self, int depth):
        cdef uint8_t tag = self.take(1)[0]
        cdef uint32_t count
        cdef const uint8_t *bytes
        if tag == TAG_ARRAY:
            return self.array()
        if tag == TAG_VALUE:
            memcpy(&count, self.take(4), 4)
            bytes = self.take(count)
            return _codec.read(bytes, count)
        if depth > MAX_DEPTH:
            raise _corrupt()
        if tag == TAG_TUPLE:
            return tuple([self.value(depth + 1) for _ in range(self.take_count())])
        if tag == TAG_LIST:
            return [self.value(depth + 1) for _ in range(self.take_count())]
        if tag == TAG_DICT:
            group = {}
            for _ in range(self.take_count()):
                key = self.value(depth + 1)
                group[key] = self.value(depth + 1)
            return group
        if tag == TAG_REPEAT:
            memcpy(&count, self.take(4), 4)
            if count >= <uint32_t>len(self.arrays):
                raise _corrupt()
            return self.arrays[count]
        if tag == TAG_PICKLE:
            return self.pickle()
        raise _corrupt()

    cdef object pickle(self):
        cdef uint32_t count = self.take_count()
        cdef uint64_t size
        cdef uint8_t tag
        cdef const uint8_t *bytes
        buffers = []
        for _ in range(count):
            tag = self.take(1)[0]
            if tag == TAG_ARRAY:
                buffers.append(self.array())
            elif tag == TAG_BUFFER:
                buffers.append(self.buffer())
            else:
                raise _corrupt()
        size = self.take_word()
        bytes = self.take(size)
        return _loads(PyMemoryView_FromMemory(<char *>bytes, size, PyBUF_READ), buffers)

    cdef cnp.dtype descr(self):
        cdef uint8_t code = self.take(1)[0]
        cdef uint32_t size
        cdef bytes pickled
        if code <= LAST_TYPE and code != cnp.NPY_OBJECT:
            return _descrs[code]
        if code != CODE_PICKLED:
            raise _corrupt()
        memcpy(&size, self.take(4), 4)
        pickled = PyBytes_FromStringAndSize(<char *>self.take(size), size)
        descr = _unpickled_descrs.get(pickled)
        if descr is None:
            descr = _loads(pickled, ())
            if not isinstance(descr, cnp.dtype) or not _is_raw(descr):
                raise _corrupt()
            if len(_unpickled_descrs) > 1000:
                _unpickled_descrs.clear()
            _unpickled_descrs[pickled] = descr
        return descr

    cdef object array(self):
        cdef const uint8_t *head = self.take(3)
        cdef int place = head[0], flags = head[1], ndim = head[2], i
        cdef cnp.npy_intp shape[MAX_DIMENSIONS]
        cdef uint64_t size
        cdef cnp.dtype descr = self.descr()
        if ndim > MAX_DIMENSIONS:
            raise _corrupt()
        memcpy(shape, self.take(8 * ndim), 8 * ndim)
        size = descr.itemsize
        for i in range(ndim):
            if shape[i] < 0 or (shape[i] > 0 and size > <uint64_t>(<int64_t>0x7fffffffffffffff) // shape[i]):
                raise _corrupt()
            size *= shape[i]
        if flags & FLAG_SCALAR:
            return PyArray_Scalar(<void *>self.take(size), descr, None)
        if place == PLACE_INLINE:
            array = self.copy(descr, ndim, shape, flags, self.take(size), size)
        elif place == PLACE_DATA:
            array = self.own(descr, ndim, shape, flags, self.data_at(size), size)
        else:
            array = self.part(descr, ndim, shape, flags, place)
        self.arrays.append(array)
        return array

    cdef const uint8_t *data_at(self, uint64_t size) except NULL:
        cdef uint64_t offset = self.take_word()
        if self.data == NULL or offset > <uint64_t>(self.data_end - self.data) or (
                size > <uint64_t>(self.data_end - self.data) - offset):
            raise _corrupt()
        return self.data + offset

    cdef object copy(
        self, cnp.dtype descr, int ndim, cnp.npy_intp *shape, int flags, const uint8_t *bytes, uint64_t size
    ):
        cdef cnp.ndarray array = _new_array(descr, ndim, shape, NULL, NULL, flags & FLAG_FORTRAN)
        if size:
            memcpy(cnp.PyArray_DATA(array), bytes, size)
        return array

    cdef object own(
        self, cnp.dtype descr, int ndim, cnp.npy_intp *shape, int flags, const uint8_t *bytes, uint64_t size
    ):
        """An array in the payload itself."""
        cdef cnp.ndarray array
        if not self.copies and size > COPIED_BYTES:
            if not self.asked:
                self.asked = True
                self.whole = self.delivery.lend(0)
            if self.whole is not None:
                array = _new_array(
                    descr, ndim, shape, NULL, <void *>bytes,
                    cnp.NPY_ARRAY_F_CONTIGUOUS if flags & FLAG_FORTRAN else 0)
                PyArray_SetBaseObject(array, self._ref(self.whole))
                return array
        return self.copy(descr, ndim, shape, flags, bytes, size)

    cdef object _ref(self, object loan):
        Py_INCREF(loan)  # PyArray_SetBaseObject takes one
        return loan

    cdef object part(self, cnp.dtype descr, int ndim, cnp.npy_intp *shape, int flags, int place):
        """An array in another block."""
        cdef uint64_t block = self.take_word(), identity = 0, offset, bytes
        cdef cnp.npy_intp strides[MAX_DIMENSIONS]
        cdef int64_t low = 0, high = descr.itemsize, reach
        cdef int i
        cdef cnp.ndarray array
        cdef object loan
        if place == PLACE_SHARED:
            identity = self.take_word()
        offset = self.take_word()
        memcpy(strides, self.take(8 * ndim), 8 * ndim)
        if place == PLACE_SHARED:
            loan = self.delivery.borrow(block, identity)
            if loan is None:
                raise WorkpoolError(
                    "a shared array's memory is gone: whoever made it let go of it, or died, before it came")
            bytes = loan.bytes
        else:
            loan = self.delivery.lend(block)
            bytes = self.delivery.block_bytes(block) if loan is None else loan.bytes
        for i in range(ndim):
            if shape[i] == 0:
                low = high = 0
                break
            reach = strides[i] * (shape[i] - 1)
            if reach < 0:
                low += reach
            else:
                high += reach
        if offset > bytes or low < -<int64_t>offset or high > <int64_t>(bytes - offset):
            raise _corrupt()
        if loan is None:  # too many are kept
            array = _new_array(
                descr, ndim, shape, strides, <void *><size_t>(self.delivery.block_address(block) + offset), 0)
            return array.copy("K")
        array = _new_array(descr, ndim, shape, strides, <void *>(<size_t>loan.address + offset), 0)
        PyArray_SetBaseObject(array, self._ref(loan))
        if flags & FLAG_READ_ONLY:
            array.setflags(write=False)
        return array

    cdef object buffer(self):
        cdef const uint8_t *head = self.take(2)
        cdef int place = head[0], flags = head[1]
        cdef cnp.npy_intp size = <cnp.npy_intp>self.take_word()
        cdef cnp.ndarray array
        if size < 0:
            raise _corrupt()
        if place == PLACE_INLINE:
            array = self.copy(_descrs[cnp.NPY_UBYTE], 1, &size, 0, self.take(size), size)
        else:
            array = self.own(_descrs[cnp.NPY_UBYTE], 1, &size, 0, self.data_at(size), size)
        if flags & FLAG_READ_ONLY:
            array.setflags(write=False)
        return memoryview(array)


def unpack(delivery, size_t address, uint64_t size):
    """The value whose payload is at ``address``; its arrays look at blocks that ``delivery`` lends."""
    cdef _Reader reader = _Reader.__new__(_Reader)
    cdef const uint8_t *bytes = <const uint8_t *>address
    cdef uint32_t count, names
    cdef uint64_t start
    reader.delivery = delivery
    reader.copies = delivery.copies
    reader.arrays = []
    if bytes[0] == TAG_STREAM:
        reader.at = bytes + 1
        reader.end = bytes + size
        return reader.value(0)
    if size < HEAD_BYTES:
        raise _corrupt()
    memcpy(&count, bytes + 8, 4)
    memcpy(&names, bytes + 12, 4)
    memcpy(&start, bytes + 16, 8)
    if start > size or HEAD_BYTES + 8 * <uint64_t>names + count > start:
        raise _corrupt()
    reader.at = bytes + HEAD_BYTES + 8 * <uint64_t>names
    reader.end = reader.at + count
    reader.data = bytes + start
    reader.data_end = bytes + size
    return reader.value(0)


def view(loan, descr, shape, uint64_t offset):
    """A C-ordered array of the bytes of a block, from ``offset`` on."""
    cdef cnp.npy_intp dims[MAX_DIMENSIONS]
    cdef int ndim = <int>len(shape), i
    cdef cnp.ndarray array
    for i in range(ndim):
        dims[i] = shape[i]
    array = _new_array(descr, ndim, dims, NULL, <void *>(<size_t>loan.address + offset), 0)
    Py_INCREF(loan)
    PyArray_SetBaseObject(array, loan)
    return array
