# cython: language_level=3, boundscheck=False, wraparound=False
# _core.pyx — the glue between the C core and the Python policy.
#
# It converts, releases the GIL around what can wait, calls and checks. Which
# worker, how long, what next: Python decides (pool.py, gather.py, worker.py).
# The GIL serialises a home's threads; only wait() and next() let it go.
#
# SPDX-License-Identifier: BSD-3-Clause
import os
import sys

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_Contains
from cpython.list cimport PyList_GET_SIZE
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.object cimport PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from workpool cimport _c, _codec

from workpool.errors import ArenaFull, ForkedPool, PoolClosed, TaskInterrupt, WorkpoolError

cdef extern from *:
    int __builtin_ctzll(uint64_t) nogil

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object, Py_ssize_t *) except NULL
    object PyUnicode_DecodeUTF8(const char *, Py_ssize_t, const char *)
    int PyErr_CheckSignals() except -1
    unsigned long PyThread_get_thread_ident()

cdef enum:
    PENDING = 0
    OBJECT = 5
    TAGGED = 0x80
    # First bytes of a payload with arrays: a parcel in a block of its own, or a stream alone.
    TAG_PARCEL = _c.WP_PARCEL_TAG  # A
    TAG_STREAM = 97  # a
    TAG_FUNCTION = 102  # f: of a function's block, that no number there is taken for an identity
    FUNCTION_HEAD_BYTES = 24  # tag, id, size

# How a payload is applied to its function (struct wp_slot, `call`).
CALL_ONE = 0      # fn(payload)
CALL_MANY = 1     # fn(*payload)
CALL_KEYWORDS = 2  # fn(*payload[0], **payload[1])
CALL_CHUNK = 3    # [fn(item) for item in payload]
CALL_STARCHUNK = 4  # [fn(*item) for item in payload]
CALL_OBJECT = OBJECT  # payload[0](*payload[1], **payload[2])
CALL_TAGGED = TAGGED  # flag: payload is (key, meta, payload)

# What Seat.next() answers instead of an index.
NEXT_NOTHING = -1
NEXT_HARVEST = -2
NEXT_SIGNAL = -3
NEXT_STOP = -4
NEXT_MESSAGE = -5

# What Seat.wait() answers.
WAIT_WOKEN = 0
WAIT_TIMEOUT = 1
WAIT_SIGNAL = 2

REST_SECONDS = _c.WP_REST_NS / 1e9

STOP_NO = 0
STOP_DRAINED = 1
STOP_NOW = 2
STOP_RETIRE = 3

OUTCOME_OK = 1
OUTCOME_ERROR = 2
OUTCOME_CANCELLED = 3
OUTCOME_DIED = 4
OUTCOME_TIMEOUT = 5  # settled as OUTCOME_ERROR

# What is asked of a running task (enum wp_cancel).
CANCEL_ASKED = 1
CANCEL_FORCE = 2
CANCEL_TIME = 4
CANCEL_KILL = 8

MAX_SEATS = _c.WP_MAX_SEATS
NO_HANDLE = <uint64_t>_c.WP_NO_HANDLE
STATISTICS = (
    "submitted", "released", "run", "run_ns", "steals", "steals_lost", "hints_stale", "parks", "wakes",
    "spins_used",
)
assert len(STATISTICS) == _c.WP_STAT_COUNT


cdef int64_t _ns(object timeout) except? -2:
    """Seconds to nanoseconds; None is no limit, -1."""
    if timeout is None:
        return -1
    cdef double seconds = timeout
    if seconds <= 0:
        return 0
    return <int64_t>(seconds * 1e9) if seconds < 9e9 else -1


# An entry of the inbox: this, and what wp_message_look gave. One object, and of a kind
# that the collector does not count.
cdef struct _entry_head:
    uint32_t seat
    uint32_t kind


cdef bytes _entry(uint32_t seat, _c.wp_message_kind kind, const _c.wp_message *message):
    cdef _entry_head head
    cdef Py_ssize_t prefix = sizeof(head)
    cdef bytes entry
    cdef char *out
    head.seat = seat
    head.kind = <uint32_t>kind
    if kind == _c.WP_MESSAGE_PART:
        prefix += sizeof(message.part)
    if kind == _c.WP_MESSAGE_NONE or kind == _c.WP_MESSAGE_CORRUPT:
        entry = PyBytes_FromStringAndSize(NULL, prefix)
        memcpy(PyBytes_AS_STRING(entry), &head, sizeof(head))
        return entry
    entry = PyBytes_FromStringAndSize(NULL, prefix + message.size)
    out = PyBytes_AS_STRING(entry)
    memcpy(out, &head, sizeof(head))
    if kind == _c.WP_MESSAGE_PART:
        memcpy(out + sizeof(head), &message.part, sizeof(message.part))
    memcpy(out + prefix, message.bytes, message.size)
    return entry


cdef dict _modules = sys.modules
cdef object _find_arrays = None
cdef object _arrays = None


def on_arrays(find):
    """Say who packs values with arrays: ``find()`` gives the module, once NumPy is there."""
    global _find_arrays
    _find_arrays = find


cdef object _array_support():
    global _arrays
    if _arrays is None:
        _arrays = _find_arrays()
    return _arrays


cdef object _cancelled_error():
    from concurrent.futures import CancelledError  # not for every worker: it brings logging

    return CancelledError()


cdef object _corrupt():
    return ValueError("corrupt payload: something wrote over the pool's shared memory")


cdef class TaskCore:
    """What a task is to the core: where it is, and its outcome once it has one."""

    cdef readonly Seat seat
    cdef readonly uint64_t handle
    cdef int outcome
    cdef object value
    cdef readonly uint64_t id
    cdef public object argument
    cdef public object key
    cdef public object meta
    cdef public object function
    cdef object held  # what the payload refers to, as long as somebody may look there
    cdef public object watchers
    cdef public bint watched
    cdef public object partial
    cdef public object settling  # called with the task once it is settled, if it is watched
    cdef public bint in_parent   # it runs in the parent now
    cdef bint interrupted        # as its outcome was rebuilt
    cdef uint64_t argument_bytes  # in a block
    cdef public double limit     # seconds it may run; 0.0: no limit
    cdef uint32_t target  # as in struct wp_slot, but 0 for a plain task
    cdef uint32_t cost_us
    cdef int32_t worker_seat
    cdef int64_t submit_ns
    cdef int64_t start_ns
    cdef int64_t end_ns
    cdef uint32_t pre_us

    def __cinit__(self):
        self.handle = _c.WP_NO_HANDLE
        self.worker_seat = -1

    def __init__(self, Seat seat):
        self._begin(seat)

    cdef void _begin(self, Seat seat):
        self.seat = seat
        seat.next_id += 1
        self.id = seat.next_id

    cpdef bint done(self):
        """Whether the task has an outcome."""
        return self.outcome != PENDING

    cpdef bint cancelled(self):
        """Whether the task was cancelled."""
        return self.outcome == _c.WP_OUTCOME_CANCELLED

    @property
    def outcome_code(self):
        """0 while pending, else one of the ``OUTCOME_`` constants."""
        return self.outcome

    def result(self, timeout=None):
        """The task's result; waits for it, and raises its exception if it has one."""
        if self.outcome == PENDING:
            self._wait(timeout)
        if self.outcome == _c.WP_OUTCOME_OK:
            return self.value
        if self.outcome == _c.WP_OUTCOME_CANCELLED:
            raise _cancelled_error()
        raise self.value

    def exception(self, timeout=None):
        """The task's exception, or None; waits for the outcome."""
        if self.outcome == PENDING:
            self._wait(timeout)
        if self.outcome == _c.WP_OUTCOME_CANCELLED:
            raise _cancelled_error()
        return None if self.outcome == _c.WP_OUTCOME_OK else self.value

    def settle(self, int outcome, value):
        """Give a task that is in no slot its outcome. False: it had one already."""
        if self.outcome != PENDING:
            return False
        self.outcome = outcome
        self.value = value
        return True

    def bind(self, uint32_t seat, int strength, int priority, double cost):
        """Say where the task may run and in what order, before it is started.

        Args:
            seat: The seat it prefers or is bound to; with strength 0 none.
            strength: 0 none, 1 light, 2 strong, 3 force.
            priority: From -8 to 7.
            cost: Estimated seconds; 0.0 is unknown.
        """
        if strength == 0:
            seat = _c.WP_NO_SEAT
        self.target = 0
        if strength or priority:
            self.target = _c.wp_target(seat, <_c.wp_strength>strength, priority)
        self.cost_us = 0
        if cost > 0.0:
            self.cost_us = <uint32_t>min(max(cost * 1e6, 1.0), 4e9)

    def ran_in_parent(self, double begun, double ended, double pre_seconds):
        """Stamp a task that needed no slot; times as of ``time.monotonic()``."""
        self.worker_seat = _c.WP_PARENT_SEAT
        self.start_ns = <int64_t>(begun * 1e9)
        self.end_ns = max(<int64_t>(ended * 1e9), self.start_ns + 1)
        self.pre_us = <uint32_t>(pre_seconds * 1e6)

    @property
    def is_urgent(self):
        """Whether its priority is above that of plain tasks."""
        return 0 < self.target >> 24 < 128

    @property
    def slot_phase(self):
        """The phase of the slot it is in, a look; -1 when it is in none."""
        cdef uint64_t state
        if self.outcome != PENDING or self.handle == _c.WP_NO_HANDLE or not self.seat.usable:
            return -1
        state = self.seat._state(self.handle)
        return <int>_c.wp_state_phase(state)

    @property
    def worker_id(self):
        """The seat that runs or ran it; -1 before it is claimed."""
        cdef uint32_t owner
        if self.outcome == PENDING and self.handle != _c.WP_NO_HANDLE and self.seat.usable:
            owner = _c.wp_state_owner(self.seat._state(self.handle))
            return -1 if owner == _c.WP_NO_SEAT else <int>owner
        return self.worker_seat

    @property
    def task_cost(self):
        """Measured seconds in the task's function; None before it has run."""
        return (self.end_ns - self.start_ns) / 1e9 if self.start_ns and self.end_ns else None

    @property
    def pre_task_cost(self):
        """Measured seconds in the ``pre_task`` hook; None before the task has run."""
        return self.pre_us / 1e6 if self.start_ns and self.end_ns else None


# no_gc_clear: the collector must not take the seat, nor the seat's mapping, from an
# object that needs it to die; their cycles run through plain Python objects.
@cython.no_gc_clear
cdef class Block:
    """A block of the arena that lives as long as this object."""

    cdef Seat seat
    cdef uint64_t offset

    def __dealloc__(self):
        if self.offset != 0 and self.seat is not None and self.seat.usable:
            _c.wp_arena_free(&self.seat.view.arena, self.offset)


@cython.no_gc_clear
cdef class Loan:
    """A block that arrays of this process look at: the end of their chain of bases.

    It holds a lease, or owns the block's life, until it is deallocated; so the block stays
    while an array does, in whatever process. It keeps the memory mapped too, after the
    pool itself is gone.

    Attributes:
        seat: Whose process this is in the pool.
        offset, identity: What names the block in any process of the pool.
        address, bytes: Where it is in this one.
        owns: Whether its life ends with this object.
        shared: Whether arrays in it are passed on by reference, and written in place by all.
    """

    cdef readonly Seat seat
    cdef object ground
    cdef readonly uint64_t offset
    cdef readonly uint64_t identity
    cdef readonly size_t address
    cdef readonly uint64_t bytes
    cdef readonly bint owns
    cdef readonly bint shared
    cdef bint counted
    cdef uint32_t owning
    cdef uint32_t borrowing

    def __cinit__(self):
        self.owning = self.borrowing = _c.WP_NO_LEASE

    @property
    def lives(self):
        """Whether whoever owns the block still does, a look."""
        # relaxed: a look; who borrows by the identity looks again.
        return _c.wp_load_relaxed(<_c.wp_atomic64 *>self.address) == self.identity

    def __dealloc__(self):
        if self.seat is not None and self.seat.usable and self.offset != 0:
            self.seat._end_loan(self)


cdef class Delivery:
    """A payload with arrays on its way out of a slot.

    Attributes:
        seat: Who takes it.
        copies: Whether every array shall have memory of its own: the task may run again.
    """

    cdef readonly Seat seat
    cdef readonly bint copies
    cdef _c.wp_slot *slot
    cdef bint is_result
    cdef list loans
    cdef set borrowed  # offsets

    def lend(self, uint64_t offset):
        """The loan of a block that the slot holds; 0: of the payload itself; None: copy instead."""
        return self.seat._lend(self, offset)

    def block_bytes(self, uint64_t offset):
        """The bytes of a block that lend() gave no loan of."""
        return _c.wp_arena_block_bytes(&self.seat.view.arena, offset)

    def block_address(self, uint64_t offset):
        """Where it is."""
        return <size_t>self.seat.arena.buf + offset

    def borrow(self, uint64_t offset, uint64_t identity):
        """The loan of a block that somebody else holds; None if it is gone."""
        loan = self.seat._borrow(offset, identity)
        if loan is not None:
            if self.borrowed is None:
                self.borrowed = set()
            self.borrowed.add(offset)
        return loan


@cython.no_gc_clear
cdef class Seat:
    """One process's place in a pool: a home for tasks it submits; a worker's, if it is one.

    Args:
        control: Writable buffer of the control segment.
        arena: Writable buffer of the payload arena.
        arena_fd: Its descriptor, for reserving memory.
        index: 0 for the parent, 1 … n for workers.
    """

    cdef _c.wp_view view
    cdef Py_buffer control
    cdef Py_buffer arena
    cdef PyObject **tasks
    cdef bint has_view
    cdef bint usable
    cdef bint closing
    cdef bint forked
    cdef int users
    cdef uint64_t next_id
    cdef uint32_t first
    cdef readonly Py_ssize_t outstanding
    cdef public unsigned long waiter  # the thread that sleeps for outcomes, or is about to; or 0
    cdef readonly int index
    cdef object ground  # keeps the arena's memory mapped
    cdef dict loans  # by offset, the address of each; they take themselves out
    cdef uint64_t identities
    cdef dict borrowed  # by slot: what the home of a task that runs here holds until its outcome
    cdef list returned  # by the others: (handle, parcel), until the home has taken the outcome
    cdef public object on_stir  # called when the arena is used, until calm()
    cdef bint stirred
    cdef uint64_t kept_bytes  # in blocks of results that this process looks at
    cdef public bint has_hook  # a worker's: ``pre_task`` is called before its entrypoint
    cdef uint64_t argument_bytes  # of this home's tasks, in blocks
    cdef uint64_t result_bytes  # of the largest result that came
    cdef uint64_t largest_argument
    cdef uint64_t credit  # so much of arguments and kept results without another look at what is free
    cdef uint64_t small_share  # of the arena: what any home may take without a look
    cdef int arena_fd
    cdef object unpack
    cdef public object gatherer
    cdef list inbox  # messages that were read; those before `taken` are gone
    cdef Py_ssize_t taken
    cdef dict partial  # by (seat, stream): the parts of a body so far
    cdef uint64_t streams
    cdef bint unwanted  # waiting for room was in vain: not again
    cdef uint64_t tenants[_c.WP_MAX_SEATS]  # in the parent: who can be posted to, incarnation + 1
    cdef str known_type  # of the last message, which the next is likely to have too

    def __cinit__(self, control, arena, int arena_fd, int index):
        cdef _c.wp_segment_check check
        PyObject_GetBuffer(control, &self.control, PyBUF_SIMPLE | PyBUF_WRITABLE)
        PyObject_GetBuffer(arena, &self.arena, PyBUF_SIMPLE | PyBUF_WRITABLE)
        check = _c.wp_view_open(&self.view, <uint8_t *>self.control.buf, self.control.len,
                                <uint8_t *>self.arena.buf, self.arena.len, arena_fd, index)
        if check == _c.WP_SEGMENT_MEMORY:
            raise MemoryError("no memory for the pool's private tables")
        if check != _c.WP_SEGMENT_OK:
            raise WorkpoolError(
                "the shared segment is not one this workpool understands (check %d): parent and workers "
                "must run the same release" % <int>check)
        self.has_view = True
        self.index = index
        self.first = self.view.places[index].first_slot
        self.tasks = <PyObject **>PyMem_Calloc(self.view.places[index].slots, sizeof(PyObject *))
        if self.tasks == NULL:
            raise MemoryError()
        self.ground = memoryview(arena)
        self.arena_fd = arena_fd
        total = self._system_bytes(2)
        self.small_share = (
            self.arena.len if total is None else min(total, self.arena.len)) // (8 * self.view.seats)
        self.loans = {}
        self.borrowed = {}
        self.returned = []
        self.identities = <uint64_t>_c.wp_os_now_ns()  # as with streams
        self.inbox = []
        self.partial = {}
        self.streams = <uint64_t>_c.wp_os_now_ns()  # those of an earlier process of the seat were others
        self.unpack = None
        self.usable = True
        _c.wp_home_begin(&self.view)

    def __dealloc__(self):
        self._release()

    cdef void _release(self):
        cdef uint32_t i
        self.usable = False
        if self.tasks != NULL:
            for i in range(self.view.places[self.index].slots):
                if self.tasks[i] != NULL:
                    Py_DECREF(<object>self.tasks[i])
            PyMem_Free(self.tasks)
            self.tasks = NULL
        if self.has_view:
            self.has_view = False
            _c.wp_view_close(&self.view)
        self.ground = None
        PyBuffer_Release(&self.control)
        PyBuffer_Release(&self.arena)

    cdef int _check(self) except -1:
        if not self.usable:
            if self.forked:
                raise ForkedPool("this pool belongs to the parent process: make a new one after a fork")
            raise PoolClosed("cannot schedule new futures after shutdown")
        return 0

    cdef uint64_t _state(self, uint64_t handle):
        return _c.wp_load_relaxed(&self.view.slots[_c.wp_handle_index(handle)].state)

    # ---- a home's side ---------------------------------------------------------------

    def on_outcome(self, unpack):
        """Say who rebuilds exceptions: ``unpack(outcome, payload, task) -> BaseException``."""
        self.unpack = unpack

    def store(self, uint64_t function_id, bytes data):
        """Copy a pickled function into the arena; the block lives as long as the result."""
        self._check()
        cdef Block block = Block.__new__(Block)
        cdef uint64_t size = PyBytes_GET_SIZE(data)
        cdef uint8_t *memory
        self.users += 1  # as in start()
        try:
            memory = self._allocate(FUNCTION_HEAD_BYTES + size, &block.offset)
            memset(memory, TAG_FUNCTION, 8)
            memcpy(memory + 8, &function_id, 8)
            memcpy(memory + 16, &size, 8)
            memcpy(memory + FUNCTION_HEAD_BYTES, PyBytes_AS_STRING(data), size)
            block.seat = self
            return block
        finally:
            self._leave()

    cdef uint8_t *_allocate(self, uint64_t size, uint64_t *offset) except NULL:
        cdef _c.wp_alloc outcome = _c.wp_arena_alloc(&self.view.arena, size, offset)
        if outcome != _c.WP_ALLOC_OK:
            offset[0] = 0
            self.credit = 0
            raise ArenaFull(
                size, outcome == _c.WP_ALLOC_NO_MEMORY, self.budget_bytes, self._free_bytes())
        if not self.stirred:
            self._stir()
        return _c.wp_arena_at(&self.view.arena, offset[0], size)

    cdef void _stir(self):
        self.stirred = True
        if self.on_stir is not None:
            self.on_stir()

    def calm(self):
        """Have the next use of the arena call ``on_stir``."""
        self.stirred = False

    cdef object _encode(self, _c.wp_slot *slot, _c.wp_payload *where, object value, bint inline):
        """Put the payload of ``value`` into the slot, or into a block if it is long.

        Returns:
            What it refers to by its own means (``_arrays.Parcel``); None for most values.
        """
        cdef Py_ssize_t size = _codec.measure(value)
        cdef object data = None, parcel = None
        cdef uint64_t block = 0
        cdef uint8_t *out
        if size < 0:
            if _arrays is None and not PyDict_Contains(_modules, "numpy"):
                data = _codec.pickled(value)
            else:
                data = _array_support().pack(
                    value, self, _c.wp_payload_block(&slot.argument), where == &slot.result)
            if type(data) is not bytes:
                parcel = data
                data = parcel.stream
            size = parcel.size if data is None else PyBytes_GET_SIZE(data)
        if inline and size <= _c.WP_INLINE_PAYLOAD_BYTES and (data is not None or parcel is None):
            out = slot.bytes
        else:
            out = self._allocate(size, &block)
            if where == &slot.argument:
                out = self._admit(out, size, &block)
        if data is not None:
            memcpy(out, PyBytes_AS_STRING(data), size)
        elif parcel is not None:
            try:
                parcel.write(<size_t>out, self._new_identity(_c.WP_PARCEL_TAG))
            except BaseException:
                _c.wp_arena_free(&self.view.arena, block)
                raise
        else:
            _codec.write(value, out)
        _c.wp_payload_set(where, block, size)
        return parcel

    cdef const uint8_t *_payload(self, _c.wp_slot *slot, _c.wp_payload *where) except NULL:
        cdef const uint8_t *data = NULL
        cdef uint64_t block = _c.wp_payload_block(where)
        if block != 0:
            data = _c.wp_arena_at(&self.view.arena, block, where.bytes)
        elif where.bytes <= _c.WP_INLINE_PAYLOAD_BYTES:
            data = slot.bytes
        if data == NULL or where.bytes == 0:
            raise _corrupt()
        return data

    cdef Delivery _delivery(self, _c.wp_slot *slot, _c.wp_payload *where):
        """What brings a payload with arrays; None for any other."""
        cdef const uint8_t *data = self._payload(slot, where)
        if data[0] != TAG_PARCEL and data[0] != TAG_STREAM:
            return None
        cdef Delivery delivery = Delivery.__new__(Delivery)
        delivery.seat = self
        delivery.slot = slot
        delivery.is_result = where == &slot.result
        # A hook may write into the entrypoint's argument before the task is entered: until
        # then it is run again unasked. relaxed: ordered by the claim.
        delivery.copies = not delivery.is_result and (slot.attempt_limit > 1 or (
            self.has_hook and slot.call & ~<uint8_t>TAGGED != OBJECT
            and _c.wp_load_relaxed(&slot.function) == 0))
        delivery.loans = []
        return delivery

    cdef object _decode(self, _c.wp_slot *slot, _c.wp_payload *where, Delivery delivery):
        cdef const uint8_t *data = self._payload(slot, where)
        if delivery is None:
            return _codec.read(data, where.bytes)
        return _array_support().unpack(delivery, <size_t>data, where.bytes)

    # ---- blocks that arrays look at --------------------------------------------------

    @property
    def is_open(self):
        """Whether the pool is not closed in this process."""
        return self.usable

    cdef uint64_t _new_identity(self, uint8_t tag):
        self.identities += 1
        return (self.identities << 8 | <uint64_t>self.index) << 8 | tag

    cdef Loan _new_loan(self, uint64_t offset):
        cdef Loan loan = Loan.__new__(Loan)
        loan.ground = self.ground
        loan.address = <size_t>self.arena.buf + offset
        loan.bytes = _c.wp_arena_block_bytes(&self.view.arena, offset)
        loan.identity = _c.wp_load_relaxed(_c.wp_block_identity(&self.view.arena.spans, offset))
        loan.offset = offset
        loan.seat = self
        self.loans[offset] = <size_t><void *>loan
        return loan

    cdef Loan _known_loan(self, uint64_t offset):
        address = self.loans.get(offset)
        return None if address is None else <Loan><void *><size_t>address

    def make_shared(self, uint64_t size):
        """A new block whose arrays are shared by reference, with 64 bytes before ``size``."""
        self._check()
        cdef uint64_t offset = 0
        cdef uint8_t *memory
        cdef Loan loan
        self.users += 1  # as in start()
        try:
            memory = self._allocate(size + 64, &offset)
            # relaxed: nobody knows of it yet.
            _c.wp_store_relaxed(<_c.wp_atomic64 *>memory, self._new_identity(_c.WP_SHARED_TAG))
            self._check()
            loan = self._new_loan(offset)
            loan.owns = loan.shared = True
            self.credit = 0
            return loan
        finally:
            self._leave()

    cdef object _lend(self, Delivery delivery, uint64_t offset):
        cdef _c.wp_slot *slot = delivery.slot
        cdef uint64_t argument = _c.wp_payload_block(&slot.argument)
        cdef uint64_t result = _c.wp_payload_block(&slot.result)
        cdef uint64_t bytes
        cdef uint32_t lease
        cdef Loan loan
        if offset == 0:
            offset = result if delivery.is_result else argument
        elif not (delivery.is_result and (offset == argument or self._is_named(slot, offset))):
            raise _corrupt()
        bytes = _c.wp_arena_block_bytes(&self.view.arena, offset)
        if bytes == 0:
            raise _corrupt()
        loan = self._known_loan(offset)
        if loan is not None and (loan in delivery.loans or (
                delivery.is_result and loan.owning != _c.WP_NO_LEASE)):  # from a harvest that was interrupted
            lease = loan.owning
        # Half of the arena at most is kept by who does not let results go: the rest goes on.
        elif delivery.is_result and not self._may_keep(bytes):
            return None
        else:
            lease = _c.wp_arena_lease(&self.view.arena, offset,
                                      _c.WP_LEASE_OWN if delivery.is_result else _c.WP_LEASE_BORROW)
            if lease == _c.WP_NO_LEASE:
                return None
            if loan is None:
                loan = self._new_loan(offset)
            if delivery.is_result:
                loan.owning = lease
            else:
                loan.borrowing = lease
        if loan in delivery.loans:
            return loan
        delivery.loans.append(loan)
        return loan

    cdef bint _is_named(self, _c.wp_slot *slot, uint64_t offset):
        cdef _c.wp_atomic64 *names = NULL
        cdef uint32_t i, count = _c.wp_parcel_names(
            &self.view.arena.spans, _c.wp_payload_block(&slot.result), &names)
        for i in range(count):
            if offset != 0 and _c.wp_load_relaxed(&names[i]) == offset:  # relaxed: ordered by DONE
                return True
        return False

    cdef object _borrow(self, uint64_t offset, uint64_t identity):
        cdef Loan loan = self._known_loan(offset)
        cdef _c.wp_borrow outcome = _c.WP_BORROW_RECOVERING
        cdef uint32_t lease = _c.WP_NO_LEASE
        cdef int64_t nap_ns = 0
        if loan is not None and loan.identity == identity:
            return loan
        while True:
            outcome = _c.wp_block_borrow(
                &self.view.arena.spans, &self.view.arena.leases, offset, identity, &lease)
            if outcome != _c.WP_BORROW_RECOVERING:
                break
            with nogil:  # a recovery takes milliseconds
                _c.wp_message_nap(&nap_ns)
            self._check()
        if outcome == _c.WP_BORROW_GONE:
            return None
        if outcome == _c.WP_BORROW_MANY:
            raise WorkpoolError(
                f"a worker can look at {_c.WP_LEASES_WORKER} shared arrays of others at once, the parent at "
                f"{_c.WP_LEASES_PARENT}, and here are more: use views of fewer, larger ones")
        loan = self._new_loan(offset)
        loan.borrowing = lease
        loan.shared = True
        return loan

    cdef int _inherit(self, Delivery delivery) except -1:
        """What was lent for a result is this process's own; the rest of the result's blocks end."""
        cdef Loan loan
        cdef uint64_t parcel = _c.wp_payload_block(&delivery.slot.result)
        cdef Loan whole = None
        for loan in delivery.loans:
            loan.owns = True
            loan.shared = False
            if not loan.counted:
                loan.counted = True
                self.kept_bytes += loan.bytes
            if loan.offset == parcel:
                whole = loan  # last: the names are in it
            else:
                _c.wp_home_inherit(&self.view, delivery.slot, loan.offset)
        _c.wp_home_drop_names(&self.view, delivery.slot)
        if whole is not None:
            _c.wp_home_inherit(&self.view, delivery.slot, parcel)
        return 0

    def prepare_hand_over(self, Loan loan):
        """Have a loan keep its block when its life is another's; False: it cannot."""
        if loan.borrowing == _c.WP_NO_LEASE:
            loan.borrowing = _c.wp_arena_lease(&self.view.arena, loan.offset, _c.WP_LEASE_BORROW)
        return loan.borrowing != _c.WP_NO_LEASE

    cdef void _hand_over(self, Loan loan):
        """The slot that is DONE owns the block's life now."""
        self._uncount(loan)
        loan.owns = False
        if loan.owning != _c.WP_NO_LEASE:
            _c.wp_arena_unlease(&self.view.arena, loan.owning)
            loan.owning = _c.WP_NO_LEASE

    cdef void _uncount(self, Loan loan):
        if loan.counted:
            loan.counted = False
            self.kept_bytes -= loan.bytes

    cdef void _end_loan(self, Loan loan):
        self._uncount(loan)
        if self.loans.get(loan.offset) == <size_t><void *>loan:
            del self.loans[loan.offset]
        if loan.borrowing != _c.WP_NO_LEASE:
            _c.wp_arena_unlease(&self.view.arena, loan.borrowing)
        if loan.owning != _c.WP_NO_LEASE and loan.owns:
            _c.wp_arena_free_leased(&self.view.arena, loan.owning)
        elif loan.owning != _c.WP_NO_LEASE:
            _c.wp_arena_unlease(&self.view.arena, loan.owning)
        elif loan.owns:
            _c.wp_arena_free(&self.view.arena, loan.offset)

    @property
    def budget_bytes(self):
        """The bytes of the arena."""
        return self.arena.len - _c.WP_SPAN_BYTES  # its first span is never given out

    cdef uint64_t _free_bytes(self):
        cdef _c.wp_usage usage
        _c.wp_usage_read(&self.view.arena.spans, &self.view.arena.leases, &usage, NULL)
        return usage.budget_bytes - min(usage.used_bytes, usage.budget_bytes)

    cdef object _system_bytes(self, int field):
        """Of the system's shared memory, as ``os.statvfs``: 2 all, 4 what is free; None: it does not say."""
        try:
            told = os.fstatvfs(self.arena_fd)
        except OSError:
            return None
        return told[field] * told[1] if told[2] else None

    cdef uint64_t _room_bytes(self):
        """What the arena can still give to one block: by its budget, and by what the system has."""
        cdef _c.wp_usage usage
        _c.wp_usage_read(&self.view.arena.spans, &self.view.arena.leases, &usage, NULL)
        room = usage.run_bytes
        free = self._system_bytes(4)
        if free is None:
            return room
        return min(room, free + usage.committed_bytes - min(usage.used_bytes, usage.committed_bytes))

    cdef uint8_t *_admit(self, uint8_t *memory, uint64_t size, uint64_t *block) except NULL:
        """Let an argument stay, if it leaves room for results: without it no task could end.

        As much as this home's arguments take, so any number of homes leave some, and no less
        than the largest result that it has seen. One argument always may stay.

        Raises:
            ArenaFull: It is gone: let tasks end first.
        """
        cdef uint64_t total = self.argument_bytes + size
        self.largest_argument = max(self.largest_argument, size)
        if total <= self.small_share or self._has_room(size, max(total, self.result_bytes)):
            return memory
        # Where memory is warm it may have cut a long run in two: once more, from an end.
        _c.wp_arena_free(&self.view.arena, block[0])
        self.view.arena.run_hint = 0
        memory = self._allocate(size, block)
        if self.argument_bytes == 0 or self._has_room(size, max(total, self.result_bytes)):
            return memory
        _c.wp_arena_free(&self.view.arena, block[0])
        block[0] = 0
        raise ArenaFull(size, False, self.budget_bytes, self._free_bytes())

    cdef bint _has_room(self, uint64_t size, uint64_t needed):
        """Whether so much is free; what is small beside the arena may rely on the last look."""
        cdef uint64_t room
        if size > self.credit or size > self.budget_bytes // 256:
            room = self._room_bytes()
            if room < needed:
                self.credit = 0
                return False
            self.credit = max(size, (room - needed) // 4)
        self.credit -= size
        return True

    cdef bint _may_keep(self, uint64_t size):
        """Whether a result may stay where it is: others have room without its block.

        Half of the arena at most is kept by who does not let results go: the rest goes on.
        """
        cdef uint64_t total = self.kept_bytes + size
        self.result_bytes = max(self.result_bytes, size)
        if total > <uint64_t>self.arena.len // 2:
            return False
        return total <= self.small_share or self._has_room(size, max(
            self.result_bytes + self.largest_argument, self.small_share * self.view.seats))

    def usage(self):
        """Bytes of the arena: budget, taken from the system, in blocks, doomed.

        Returns:
            These four, and for each seat: bytes in blocks of its spans, bytes of its spans, leases.
        """
        cdef _c.wp_usage usage
        cdef _c.wp_usage_seat seats[_c.WP_MAX_SEATS]
        self._check()
        self.users += 1
        with nogil:  # it looks at every span
            _c.wp_usage_read(&self.view.arena.spans, &self.view.arena.leases, &usage, seats)
        count = self.view.seats
        self._leave()
        return (
            (usage.budget_bytes, usage.committed_bytes, usage.used_bytes, usage.doomed_bytes),
            tuple([(seats[i].used_bytes, seats[i].held_bytes, seats[i].leases) for i in range(count)]),
        )

    def trim_arena(self, uint64_t keep_bytes):
        """Give memory that nobody uses back to the system, all but ``keep_bytes``; returns how much."""
        cdef uint64_t gone
        if not self.usable:
            return 0
        _c.wp_arena_tidy(&self.view.arena)
        self.users += 1
        with nogil:
            gone = _c.wp_span_trim(&self.view.arena.spans, keep_bytes, self.view.arena.seat)
        self._leave()
        return gone

    def submit(self, type cls, Block function, int call, payload):
        """A task of ``cls``, started; None: not in this way, and start() may say why."""
        cdef TaskCore task
        if not self.usable:
            return None
        task = <TaskCore>(<PyTypeObject *>cls).tp_new(cls, <PyObject *>(), NULL)
        task._begin(self)
        self.users += 1  # as in start()
        try:
            return task if self._start(task, function, call, payload, 1, _c.WP_NO_HANDLE) else None
        except Exception:
            return None
        finally:
            self._leave()

    def start(self, TaskCore task, Block function, int call, payload, int attempts=1,
              uint64_t parent=<uint64_t>_c.WP_NO_HANDLE):
        """Offer a task to the workers; ``parent`` is the handle of the task that submits it.

        Returns:
            False when every slot of this home is in use: the caller keeps the task.
        """
        self._check()
        self.users += 1  # encoding runs Python code, and meanwhile another thread may close the pool
        try:
            return self._start(task, function, call, payload, attempts, parent)
        finally:
            self._leave()

    cdef object _start(self, TaskCore task, Block function, int call, object payload, int attempts,
                       uint64_t parent):
        cdef _c.wp_handle handle = _c.wp_home_reserve(&self.view)
        if handle == _c.WP_NO_HANDLE:
            return False
        cdef uint32_t index = _c.wp_handle_index(handle)
        cdef _c.wp_slot *slot = &self.view.slots[index]
        try:
            task.held = self._encode(slot, &slot.argument, payload, True)
            self._check()
        except BaseException:
            _c.wp_home_release(&self.view, handle)
            raise
        if function is not None:
            _c.wp_store_relaxed(&slot.function, function.offset)  # relaxed: published by READY
            task.function = function
        if parent != _c.WP_NO_HANDLE:
            _c.wp_home_set_parent(&self.view, handle, parent)
        if task.target != 0:
            _c.wp_home_bind(&self.view, handle, task.target, task.cost_us)
        if task.limit > 0.0:
            # relaxed: published by READY.
            _c.wp_store_relaxed(&slot.deadline_ns, <uint64_t>-max(_ns(task.limit), <int64_t>1))
        slot.call = <uint8_t>call
        slot.attempt_limit = <uint8_t>attempts
        slot.submit_ns = _c.wp_os_now_ns()
        task.handle = handle
        task.submit_ns = slot.submit_ns
        Py_INCREF(task)
        self.tasks[index - self.first] = <PyObject *>task
        self.outstanding += 1
        task.argument_bytes = slot.argument.bytes if _c.wp_payload_block(&slot.argument) != 0 else 0
        self.argument_bytes += task.argument_bytes
        _c.wp_home_submit(&self.view, handle)
        return True

    def promote(self, TaskCore task, int priority):
        """Give a waiting task another priority; False: it waits no more."""
        if task.outcome != PENDING or not self.usable:
            return False
        if task.handle == _c.WP_NO_HANDLE:
            task.target = (task.target & 0xffffff) | <uint32_t>(priority & 0xff) << 24
            return True
        return _c.wp_home_promote(&self.view, task.handle, priority)

    def unfinished(self):
        """The tasks of this home that are in a slot."""
        cdef uint32_t i
        cdef list tasks = []
        if self.usable:
            for i in range(self.view.places[self.index].slots):
                if self.tasks[i] != NULL:
                    tasks.append(<object>self.tasks[i])
        return tasks

    def cancel(self, TaskCore task, error=None):
        """Cancel a task nobody has claimed, or give it ``error``; False: it is claimed or settled."""
        if task.outcome != PENDING or task.handle == _c.WP_NO_HANDLE or not self.usable:
            return False
        cdef uint32_t index = _c.wp_handle_index(task.handle)
        if self.tasks[index - self.first] != <PyObject *>task:
            return False
        if not _c.wp_slot_cancel(&self.view.slots[index], task.handle):
            return False
        self.tasks[index - self.first] = NULL
        task.value = error
        task.outcome = _c.WP_OUTCOME_CANCELLED if error is None else _c.WP_OUTCOME_ERROR
        task.function = task.held = None
        self._settled(task)
        _c.wp_home_release(&self.view, task.handle)
        Py_DECREF(task)
        return True

    def ask(self, TaskCore task, uint32_t flags):
        """Ask something of a claimed task; False: it is not in a slot, or its worker has left it."""
        if task.outcome != PENDING or task.handle == _c.WP_NO_HANDLE or not self.usable:
            return False
        return _c.wp_slot_ask(&self.view.slots[_c.wp_handle_index(task.handle)], task.handle, flags)

    def cancel_descendants(self, uint64_t handle, uint32_t flags):
        """Cancel what waits of a task's descendants, and ask the others; returns how many will never run."""
        return _c.wp_cancel_descendants(&self.view, handle, flags) if self.usable else 0

    def harvest(self):
        """Settle every task that has an outcome.

        Returns:
            The watched ones among them, for the caller to notify; None when there are none,
            and in the parent no message either.
        """
        cdef uint32_t first = 0, index
        cdef uint64_t bits
        cdef list watched = None
        cdef TaskCore task
        cdef bint settled = False
        if not self.usable:
            return None
        while self.usable:
            bits = _c.wp_home_take(&self.view, &first)
            if bits == 0:
                break
            while bits:
                index = first + <uint32_t>__builtin_ctzll(bits)
                try:
                    task = self._collect(index)
                except BaseException:  # a signal's handler, while a result was unpickled
                    while bits and self.usable:
                        _c.wp_home_untake(&self.view, first + <uint32_t>__builtin_ctzll(bits))
                        bits &= bits - 1
                    if watched is not None:
                        self.gatherer.to_notify.extend(watched)
                    if settled:
                        self._wake_waiter()
                    raise
                bits &= bits - 1
                settled = True
                if task is not None and task.watched:
                    if watched is None:
                        watched = []
                    watched.append(task)
        if settled:
            self._wake_waiter()
        if watched is None and self._has_mail():
            watched = []
        return watched

    cdef void _wake_waiter(self):
        """Another thread may be about to sleep for a completion that this one has taken."""
        if self.waiter != 0 and self.waiter != PyThread_get_thread_ident() and self.usable:
            _c.wp_unpark(&self.view, self.index)

    cdef TaskCore _collect(self, uint32_t index):
        cdef _c.wp_slot *slot = &self.view.slots[index]
        cdef uint64_t state = 0, handle
        cdef uint32_t local = index - self.first
        cdef PyObject *held
        cdef TaskCore task
        cdef Delivery delivery = None
        cdef int outcome
        cdef uint32_t asked
        if not _c.wp_slot_is_done(slot, &state):
            return None
        handle = <uint64_t>index | <uint64_t>_c.wp_state_generation(state) << 32
        held = self.tasks[local]
        if held == NULL:  # of a former incarnation of this seat
            _c.wp_home_drop_names(&self.view, slot)
            _c.wp_home_release(&self.view, handle)
            return None
        # Out of the table while user code may run: a nested harvest must not meet it.
        self.tasks[local] = NULL
        task = <TaskCore>held
        outcome = <int>_c.wp_state_outcome(state)
        asked = _c.wp_slot_asked(slot)
        if asked & _c.WP_CANCEL_FORCE:  # it was promised
            outcome = _c.WP_OUTCOME_CANCELLED
        try:
            if asked & _c.WP_CANCEL_TIME and outcome != _c.WP_OUTCOME_CANCELLED:
                value = self._decode(slot, &slot.result, None) if outcome == _c.WP_OUTCOME_ERROR else None
                value = self.unpack(_c.WP_OUTCOME_TIMEOUT, value, task)
                outcome = _c.WP_OUTCOME_ERROR
            elif outcome == _c.WP_OUTCOME_OK:
                delivery = self._delivery(slot, &slot.result)
                value = self._decode(slot, &slot.result, delivery)
            elif outcome == _c.WP_OUTCOME_CANCELLED:
                value = None
            elif outcome == _c.WP_OUTCOME_DIED:
                value = self.unpack(outcome, self._death(slot), task)
            else:
                value = self.unpack(outcome, self._decode(slot, &slot.result, None), task)
        except BaseException as error:
            # By a signal's handler: it is collected once more. Else, or if it was the result itself
            # that raised this, it cannot be rebuilt here: that is the outcome.
            if isinstance(error, (KeyboardInterrupt, TaskInterrupt)) and not task.interrupted:
                task.interrupted = True
                self.tasks[local] = held
                raise
            try:
                error.add_note("as the task's result was rebuilt by who waits for it")
            except Exception:
                pass  # it has a __setattr__ of its own
            outcome = _c.WP_OUTCOME_ERROR
            value = error
        task.worker_seat = <int32_t>_c.wp_state_owner(state)
        task.start_ns = slot.start_ns
        task.end_ns = slot.end_ns
        task.pre_us = slot.pre_us
        task.value = value
        task.function = task.held = None
        task.outcome = outcome
        self._settled(task)
        if self.usable:
            if delivery is not None:
                self._inherit(delivery)
            if not self.stirred and _c.wp_payload_block(&slot.result) != 0:
                self._stir()
            _c.wp_home_release(&self.view, handle)
        Py_DECREF(task)
        return task

    cdef void _settled(self, TaskCore task):
        self.outstanding -= 1
        self.argument_bytes -= task.argument_bytes
        if self.argument_bytes <= self.small_share:
            self.credit = 0  # of another time

    cdef object _death(self, _c.wp_slot *slot):
        cdef _c.wp_death death
        memcpy(&death, slot.bytes, sizeof(death))
        return death.seat, death.pid, death.status, bool(death.entered)

    def has_completions(self):
        """Whether harvest() would find something, a look."""
        return self.usable and _c.wp_home_has_completions(&self.view)

    def wait(self, TaskCore task, timeout):
        """Wait, without the GIL, for one task or with None for any completion.

        One thread of the home at a time. Returns one of the ``WAIT_`` constants.
        """
        cdef _c.wp_handle handle = _c.WP_NO_HANDLE
        cdef int64_t timeout_ns = _ns(timeout)
        cdef _c.wp_wait outcome
        cdef bint rests
        self._check()
        if task is not None:
            handle = task.handle
        rests = _c.wp_home_may_rest(&self.view) and not 0 <= timeout_ns < _c.WP_REST_NS
        self.users += 1
        with nogil:
            if rests:
                _c.wp_home_rest(&self.view)
            outcome = _c.wp_home_wait(&self.view, handle, timeout_ns)
        self._leave()
        return <int>outcome

    cdef void _leave(self):
        self.users -= 1
        if self.closing and self.users == 0:
            self._release()

    def look(self):
        """Look, without the GIL, while spinning pays: whether a completion or message came.

        One thread of the home at a time, as wait().
        """
        cdef bint found
        self._check()
        self.users += 1
        with nogil:
            found = _c.wp_home_spin(&self.view, _c.WP_NO_HANDLE)
        self._leave()
        return found

    def may_rest(self):
        """Whether who gathers had better come back after ``REST_SECONDS`` than arm()."""
        return self.usable and _c.wp_home_may_rest(&self.view)

    def arm(self):
        """Ask for the eventfd's signal at the next completion or message; False: harvest, or read, first."""
        return not self.usable or _c.wp_home_arm(&self.view)

    def disarm(self):
        """Take arm() back."""
        if self.usable:
            _c.wp_home_disarm(&self.view)

    def wake(self):
        """Make the thread in wait() return."""
        if self.usable:
            _c.wp_unpark(&self.view, self.index)

    def spin(self, double seconds):
        """How long wait() and next() look before they sleep, at most."""
        self.view.spin_max_ns = self.view.spin_ns = <int64_t>(seconds * 1e9)

    def eventfd(self, uint32_t seat, int fd):
        """The descriptor on which ``seat`` is signalled."""
        self._check()
        self.view.places[seat].eventfd = fd

    # ---- a worker's side -------------------------------------------------------------

    def next(self, bint wait, timeout=None):
        """Claim a task: its index, or one of the ``NEXT_`` constants."""
        cdef uint32_t index = 0
        cdef int64_t timeout_ns
        cdef _c.wp_next next = _c.wp_next_now(&self.view, &index)
        if next == _c.WP_NEXT_NOTHING and wait:
            timeout_ns = _ns(timeout)
            with nogil:
                next = _c.wp_next_wait(&self.view, &index, timeout_ns)
        return <int>index if next == _c.WP_NEXT_TASK else -<int>next

    def mark(self):
        """Where the own deque ends: what is pushed from now on lies above."""
        return _c.wp_help_mark(&self.view)

    def help(self, TaskCore task, uint64_t ancestor, int64_t mark, timeout):
        """Claim a task to run while this seat waits for ``task``, or with None for any completion.

        Returns:
            An index; ``NEXT_HARVEST`` when it is settled, ``NEXT_NOTHING`` when the time
            is up, ``NEXT_SIGNAL``.
        """
        cdef uint32_t index = 0
        cdef _c.wp_handle handle = _c.WP_NO_HANDLE
        cdef int64_t timeout_ns = _ns(timeout)
        cdef _c.wp_next next
        if task is not None:
            handle = task.handle
        with nogil:
            next = _c.wp_help_wait(&self.view, handle, ancestor, mark, &index, timeout_ns)
        return <int>index if next == _c.WP_NEXT_TASK else -<int>next

    def is_help_wanted(self):
        """Whether another worker would take a part of what is left to do, a look."""
        return _c.wp_help_is_wanted(&self.view)

    def call_for_help(self):
        """A task was submitted for whoever waits inside another."""
        _c.wp_help_call(&self.view)

    def trim(self, int64_t mark):
        """Drop void hints from the own deque, down to ``mark``."""
        _c.wp_help_trim(&self.view, mark)

    def resume(self, uint32_t index):
        """The task in ``index`` goes on, after one that was run in its place."""
        _c.wp_resume(&self.view, index, self.view.slots[index].start_ns)

    def park_eventfd(self):
        """Announce sleep in an event loop; False: there is something to do first."""
        _c.wp_search_begin(&self.view)
        if _c.wp_park_arm(&self.view, _c.WP_PARKER_EVENTFD):
            return True
        _c.wp_search_end(&self.view)
        return False

    def watch_seconds(self):
        """How long the seat, which has announced sleep, may sleep at most; None for ever."""
        cdef int64_t left_ns = _c.wp_watch_left_ns(&self.view, -1)
        return None if left_ns < 0 else left_ns / 1e9

    def unpark_eventfd(self):
        """Take park_eventfd() back."""
        _c.wp_park_disarm(&self.view)
        _c.wp_search_end(&self.view)

    def attempt(self, uint32_t index):
        """Which claim of the task this is, from 1 on."""
        return _c.wp_state_attempt(_c.wp_load_relaxed(&self.view.slots[index].state))

    cpdef uint64_t task_handle(self, uint32_t index):
        """The handle of the task in a slot."""
        return <uint64_t>index | <uint64_t>_c.wp_state_generation(self._state(index)) << 32

    def open(self, uint32_t index):
        """A claimed task: its function's id (-1: in the payload), its ``CALL_`` constant, its payload."""
        cdef _c.wp_slot *slot = &self.view.slots[index]
        cdef object function_id = -1  # an object: as a C integer beside a uint64_t it would be 2**64 - 1
        if slot.call & ~<uint8_t>TAGGED != OBJECT:
            function_id = self.function_id(index)
        cdef Delivery delivery = self._delivery(slot, &slot.argument)
        payload = self._decode(slot, &slot.argument, delivery)
        if delivery is not None and delivery.borrowed is not None:
            self.borrowed[index] = delivery.borrowed
        return function_id, slot.call, payload

    cdef uint64_t _function_offset(self, uint32_t index):
        # relaxed: ordered by the claim.
        return _c.wp_load_relaxed(&self.view.slots[index].function)

    cpdef uint64_t function_id(self, uint32_t index) except? 0:
        """The id of the task's function; 0 for the entrypoint."""
        cdef uint64_t function_id, offset = self._function_offset(index)
        if offset == 0:
            return 0
        cdef uint8_t *block = _c.wp_arena_at(&self.view.arena, offset, FUNCTION_HEAD_BYTES)
        if block == NULL:
            raise ValueError("corrupt function reference: something wrote over the pool's shared memory")
        memcpy(&function_id, block + 8, 8)
        return function_id

    def function_bytes(self, uint32_t index):
        """The pickled function; call function_id() first."""
        cdef uint64_t size, offset = self._function_offset(index)
        cdef uint8_t *block = _c.wp_arena_at(&self.view.arena, offset, FUNCTION_HEAD_BYTES)
        if block == NULL:
            raise ValueError("corrupt function reference: something wrote over the pool's shared memory")
        memcpy(&size, block + 16, 8)
        if _c.wp_arena_block_bytes(&self.view.arena, offset) < FUNCTION_HEAD_BYTES + size:
            raise ValueError("corrupt function: something wrote over the pool's shared memory")
        return PyBytes_FromStringAndSize(<char *>block + FUNCTION_HEAD_BYTES, size)

    def enter(self, uint32_t index, double pre_seconds=0.0):
        """User code comes next: from here on the task is not run twice unasked. What is asked of it."""
        cdef _c.wp_slot *slot = &self.view.slots[index]
        slot.pre_us = <uint32_t>(pre_seconds * 1e6)
        _c.wp_enter(&self.view, index)
        _c.wp_slot_start_clock(slot)
        return _c.wp_slot_asked(slot)

    def asked(self, uint32_t index):
        """What is asked of the task in a slot: ``CANCEL_`` flags."""
        return _c.wp_slot_asked(&self.view.slots[index])

    def descends(self, uint32_t index, uint64_t ancestor):
        """Whether the task in a slot was submitted by another, or by one that was, and so on."""
        return _c.wp_slot_descends(&self.view, index, ancestor)

    def cancel_address(self, uint32_t index):
        """Where the byte of those flags is."""
        return <size_t>&self.view.slots[index].cancel

    def finish(self, uint32_t index, int outcome, value):
        """Write the outcome and tell the home. Raises, and changes nothing, if it cannot be encoded."""
        cdef _c.wp_slot *slot = &self.view.slots[index]
        # Over the argument only when it is not needed again: a task that was not entered,
        # or may be retried, is run once more if this process dies here.
        cdef bint entered = _c.wp_state_phase(self._state(index)) == _c.WP_PHASE_RUNNING
        parcel = self._encode(slot, &slot.result, value, entered and slot.attempt_limit <= 1)
        cdef uint64_t handle = 0 if parcel is None else self.task_handle(index)
        _c.wp_end(&self.view, index)
        _c.wp_leave(&self.view, index, <_c.wp_outcome>outcome)
        if self.returned:
            self.returned = [entry for entry in self.returned if not self._is_harvested(entry[0])]
        if parcel is not None or self.borrowed:
            self._sent(index, handle, parcel)

    cdef int _sent(self, uint32_t index, uint64_t handle, parcel) except -1:
        """A result is its home's: hand over what it owns, and hold the rest until the home does."""
        borrowed = self.borrowed.pop(index, ())
        if parcel is None:
            return 0
        for loan in parcel.handed:
            self._hand_over(loan)
        if any([loan.offset not in borrowed for loan in parcel.held]):
            self.returned.append((handle, parcel))
        return 0

    cdef bint _is_harvested(self, uint64_t handle):
        cdef uint64_t state = self._state(handle)
        return (_c.wp_state_generation(state) != <uint32_t>(handle >> 32)
                or _c.wp_state_phase(state) == _c.WP_PHASE_FREE)

    def give_up(self, uint32_t index):
        """Say that the task is not run again, so that its outcome may take its argument's place."""
        _c.wp_give_up(&self.view, index)

    def ready(self, uint32_t incarnation):
        """Say that the start hook has run."""
        _c.wp_seat_ready(&self.view, incarnation)

    # ---- messages --------------------------------------------------------------------

    def post(self, uint32_t seat, uint32_t incarnation, type, contents):
        """Send a message to a worker's process, or from a worker to the parent.

        Waits while the lane is full, and reads what comes the other way meanwhile.

        Returns:
            False: nobody is there to read it.
        """
        cdef Py_ssize_t named = 0, size
        cdef const char *name = self._name(type, &named)
        cdef uint8_t *out
        cdef uint32_t prefix = <uint32_t>named
        if not self._can_post(seat, incarnation):
            return False
        size = _codec.measure(contents)
        if size >= 0 and 4 + named + size <= _c.WP_MESSAGE_INLINE_BYTES:
            out = _c.wp_message_begin(&self.view, seat, 4 + named + size)
            if out != NULL:
                memcpy(out, &prefix, 4)
                memcpy(out + 4, name, named)
                _codec.write(contents, out + 4 + named)
                _c.wp_message_send(&self.view, seat)
                return True
        return self.post_packed(seat, incarnation, self.pack(type, contents))

    cdef const char *_name(self, type, Py_ssize_t *named) except NULL:
        if not isinstance(type, str):
            raise TypeError("a message's type must be a string, not " + (<object>type).__class__.__name__)
        return PyUnicode_AsUTF8AndSize(type, named)

    cdef bint _can_post(self, uint32_t seat, uint32_t incarnation) except -1:
        if self.forked:
            self._check()
        if not self.usable:
            return False
        return self.index != _c.WP_PARENT_SEAT or (
            0 < seat < self.view.seats and self.tenants[seat] == <uint64_t>incarnation + 1)

    def pack(self, type, contents):
        """A message's body, to be posted to several."""
        cdef Py_ssize_t named = 0, size
        cdef const char *name = self._name(type, &named)
        cdef uint32_t prefix = <uint32_t>named
        cdef bytes data = None, body
        cdef uint8_t *out
        size = _codec.measure(contents)
        if size < 0:
            data = _codec.pickled(contents)
            size = PyBytes_GET_SIZE(data)
        body = PyBytes_FromStringAndSize(NULL, 4 + named + size)
        out = <uint8_t *>PyBytes_AS_STRING(body)
        memcpy(out, &prefix, 4)
        memcpy(out + 4, name, named)
        if data is None:
            _codec.write(contents, out + 4 + named)
        else:
            memcpy(out + 4 + named, PyBytes_AS_STRING(data), size)
        return body

    def post_packed(self, uint32_t seat, uint32_t incarnation, bytes body):
        """post() of what pack() made."""
        cdef uint64_t size = PyBytes_GET_SIZE(body), block = 0, at = 0, step
        cdef const uint8_t *data = <const uint8_t *>PyBytes_AS_STRING(body)
        cdef uint8_t *out
        cdef int64_t nap_ns = 0
        if not self._can_post(seat, incarnation):
            return False
        if size <= _c.WP_MESSAGE_INLINE_BYTES:
            while True:
                out = _c.wp_message_begin(&self.view, seat, size)
                if out != NULL:
                    memcpy(out, data, size)
                    _c.wp_message_send(&self.view, seat)
                    return True
                if not self._wait_for_room(seat, incarnation, &nap_ns):
                    return False
        if _c.wp_arena_alloc(&self.view.arena, size, &block) == _c.WP_ALLOC_OK:
            memcpy(_c.wp_arena_at(&self.view.arena, block, size), data, size)
            try:
                while not _c.wp_message_send_block(&self.view, seat, block, size):
                    if not self._wait_for_room(seat, incarnation, &nap_ns):
                        return False
                block = 0
                return True
            finally:
                if block != 0 and self.usable:
                    _c.wp_arena_free(&self.view.arena, block)
        self.streams += 1
        cdef uint64_t stream = self.streams
        while at < size:
            step = min(size - at, <uint64_t>_c.WP_MESSAGE_PART_BYTES)
            if _c.wp_message_send_part(&self.view, seat, stream, size, data + at, step):
                at += step
                nap_ns = 0
            elif not self._wait_for_room(seat, incarnation, &nap_ns):
                return False
        return True

    cdef bint _wait_for_room(self, uint32_t seat, uint32_t incarnation, int64_t *nap_ns) except -1:
        """Let the receiver read; False: it never will."""
        self.pull()
        if self.index != _c.WP_PARENT_SEAT:
            if self.waiting() > 0:
                _c.wp_unpark(&self.view, self.index)  # a main thread that sleeps meanwhile
        _c.wp_message_press(&self.view, seat)
        if self.index != _c.WP_PARENT_SEAT and not _c.wp_message_is_wanted(&self.view):
            # With no listener in the parent, and nobody who gathers, it stays full.
            self.unwanted = self.unwanted or nap_ns[0] >= _c.WP_MESSAGE_NAP_LAST_NS
            if self.unwanted:
                return False
        with nogil:
            _c.wp_message_nap(nap_ns)
        PyErr_CheckSignals()
        return self._can_post(seat, incarnation)

    cpdef int pull(self) except -1:
        """Read the lanes into the inbox."""
        cdef uint32_t seat = 0
        if not self.usable:
            return 0
        if self.index != _c.WP_PARENT_SEAT:
            self._read(_c.wp_message_in(&self.view, self.index), self.index)
            return 0
        while True:
            seat = _c.wp_message_posted(&self.view, seat + 1)
            if seat == _c.WP_NO_SEAT:
                return 0
            if self.tenants[seat] and not self._read(_c.wp_message_in(&self.view, seat), seat):
                _c.wp_message_again(&self.view, seat)

    cdef bint _read(self, _c.wp_lane *lane, uint32_t seat, int most=1 << 13) except -1:
        """Read one lane; False: there may be more, but others have their turn.

        Between the look and the append nothing may run Python code, as a collection
        would: another thread would read the next message and be first.
        """
        cdef _c.wp_message message
        cdef _c.wp_message_kind kind = _c.WP_MESSAGE_BODY
        cdef bytes entry
        try:
            while most > 0:
                most -= 1
                kind = _c.wp_message_look(&self.view, lane, &message)
                if kind == _c.WP_MESSAGE_NONE:
                    break
                try:
                    entry = _entry(seat, kind, &message)
                except MemoryError:  # without it, or nothing behind it would ever be read
                    if kind != _c.WP_MESSAGE_CORRUPT:
                        _c.wp_message_done(&self.view, lane, &message)
                    raise
                if kind != _c.WP_MESSAGE_CORRUPT:
                    _c.wp_message_done(&self.view, lane, &message)
                self.inbox.append(entry)
        finally:
            _c.wp_message_unheard(&self.view, self.waiting())
        return kind == _c.WP_MESSAGE_NONE

    cpdef Py_ssize_t waiting(self):
        """How many messages, or parts of one, were read and not taken yet."""
        return PyList_GET_SIZE(self.inbox) - self.taken

    def keep(self, list entries, bint first=False):
        """Put ``(seat, type, contents)`` into the inbox, that were never encoded, or are decoded."""
        if first:
            self.inbox[self.taken:self.taken] = entries
        else:
            self.inbox.extend(entries)

    def horizon(self):
        """Where a worker's lane ends now, for take_message()."""
        self._check()
        return _c.wp_message_horizon(&self.view)

    def take_message(self, horizon=None):
        """The oldest message that was read: the seat it is from, type, contents; None when there is none.

        Args:
            horizon: For a worker: read on in the lane, one by one, up to there. What it
                has not read when it dies is known to be undelivered.
        """
        while True:
            if self.waiting() == 0:
                if horizon is None or _c.wp_message_is_past(&self.view, horizon):
                    return None
                self._read(_c.wp_message_in(&self.view, self.index), self.index, 1)
                if self.waiting() == 0:
                    return None
            entry = self.inbox[self.taken]
            self.inbox[self.taken] = None
            self.taken += 1
            if self.taken == PyList_GET_SIZE(self.inbox) or self.taken == 1 << 12:
                del self.inbox[:self.taken]
                self.taken = 0
            _c.wp_message_unheard(&self.view, self.waiting())
            if type(entry) is tuple:
                return entry
            try:
                message = self._decode_entry(entry)
            except Exception:
                raise
            except BaseException:  # a signal's handler, while the contents were unpickled
                self.keep([entry], True)
                raise
            if message is not None:
                return message

    cdef object _decode_entry(self, bytes entry):
        cdef const uint8_t *data = <const uint8_t *>PyBytes_AS_STRING(entry)
        cdef uint64_t size = PyBytes_GET_SIZE(entry)
        cdef _c.wp_message_part part
        cdef _entry_head head
        memcpy(&head, data, sizeof(head))
        if head.kind == _c.WP_MESSAGE_NONE:  # its process is gone
            for key in [key for key in self.partial if key[0] == head.seat]:
                del self.partial[key]
            return None
        if head.kind != _c.WP_MESSAGE_PART:
            return self._decode_message(head.seat, data + sizeof(head), size - sizeof(head))
        memcpy(&part, data + sizeof(head), sizeof(part))
        cdef list parts = self.partial.setdefault((head.seat, part.stream), [0])
        parts[0] += size - sizeof(head) - sizeof(part)
        parts.append(entry[sizeof(head) + sizeof(part):])
        if parts[0] < part.total:
            return None
        del self.partial[head.seat, part.stream]
        cdef bytes body = b"".join(parts[1:])
        data = <const uint8_t *>PyBytes_AS_STRING(body)
        return self._decode_message(head.seat, data, PyBytes_GET_SIZE(body))

    cdef object _decode_message(self, uint32_t seat, const uint8_t *data, uint64_t size):
        cdef str type = self._type_of(data, size)
        cdef uint32_t named
        memcpy(&named, data, 4)
        try:
            return seat, type, _codec.read(data + 4 + named, size - 4 - named)
        except Exception as error:
            error.add_note(f"in the contents of a message of type {type!r}")
            raise

    cdef str _type_of(self, const uint8_t *data, uint64_t size):
        cdef uint32_t named = 0
        cdef Py_ssize_t known = 0
        cdef const char *name
        if size < 5:
            raise ValueError("corrupt message: something wrote over the pool's shared memory")
        memcpy(&named, data, 4)
        if named > size - 5:
            raise ValueError("corrupt message: something wrote over the pool's shared memory")
        if self.known_type is not None:
            name = PyUnicode_AsUTF8AndSize(self.known_type, &known)
            if known == <Py_ssize_t>named and memcmp(name, data + 4, named) == 0:
                return self.known_type
        self.known_type = PyUnicode_DecodeUTF8(<const char *>data + 4, named, NULL)
        return self.known_type

    @property
    def has_mail(self):
        """Whether, in the parent, there are messages to read or to take, a look."""
        return self._has_mail()

    cdef bint _has_mail(self):
        return self.index == _c.WP_PARENT_SEAT and self.usable and (
            PyList_GET_SIZE(self.inbox) > self.taken or _c.wp_message_waits(&self.view))

    def listen(self, bint on):
        """Say whether anybody in the parent wants messages."""
        if self.usable:
            _c.wp_message_listen(&self.view, on)

    def hang_up(self, uint32_t seat):
        """Read what a process that is gone sent, and end what it did not read; recover() comes next.

        Returns:
            The types of the messages that it did not read.
        """
        cdef _c.wp_message message
        cdef _c.wp_message_kind kind
        cdef _c.wp_lane *lane
        cdef list lost = []
        self._check()
        while not self._read(_c.wp_message_in(&self.view, seat), seat):
            pass
        self.inbox.append(_entry(seat, _c.WP_MESSAGE_NONE, &message))
        self.tenants[seat] = 0
        lane = _c.wp_message_inherit(&self.view, seat)
        streams = set()
        while True:
            kind = _c.wp_message_look(&self.view, lane, &message)
            if kind == _c.WP_MESSAGE_NONE:
                return lost
            if kind == _c.WP_MESSAGE_CORRUPT:
                continue
            if kind != _c.WP_MESSAGE_PART or message.part.stream not in streams:
                streams.add(message.part.stream if kind == _c.WP_MESSAGE_PART else None)
                try:
                    lost.append(self._type_of(message.bytes, message.size))
                except ValueError:  # its middle alone, or scribbled over
                    lost.append("?")
            _c.wp_message_done(&self.view, lane, &message)

    # ---- the parent's side -----------------------------------------------------------

    def take(self, uint32_t seat, uint32_t pid):
        """A process now sits in ``seat``."""
        _c.wp_seat_take(&self.view, seat, pid)

    def next_incarnation(self, uint32_t seat):
        """The number of the process about to be started for ``seat``; it can be posted to."""
        cdef uint32_t incarnation = _c.wp_seat_next_incarnation(&self.view, seat)
        self.tenants[seat] = <uint64_t>incarnation + 1
        return incarnation

    def due(self, uint32_t seat):
        """A process will be started for an empty ``seat``."""
        if self.usable:
            _c.wp_seat_due(&self.view, seat)

    def is_bound(self, uint32_t seat):
        """Whether a task waits there that only this seat may run, a look."""
        return self.usable and _c.wp_seat_is_bound(&self.view, seat)

    def launched(self, uint32_t workers):
        """How many workers there are now."""
        _c.wp_seats_launched(&self.view, workers)

    def watch_idle(self, bint on):
        """Have workers that go idle tell this home, or no longer."""
        if self.usable:
            _c.wp_idle_watch(&self.view, on)

    def is_busy(self):
        """Whether any task of any home is unfinished, a look at every slot."""
        return self.usable and _c.wp_is_busy(&self.view)

    def stop(self, uint32_t seat, int how):
        """Ask a worker to end: ``STOP_DRAINED`` or ``STOP_NOW``."""
        if self.usable:
            _c.wp_seat_stop(&self.view, seat, <_c.wp_stop>how)

    def is_ready(self, uint32_t seat, uint32_t incarnation):
        """Whether that process's start hook has run."""
        return self.usable and _c.wp_seat_is_ready(&self.view, seat, incarnation)

    def is_running(self, uint32_t seat):
        """Whether a task runs there, a look."""
        return self.usable and _c.wp_seat_current(&self.view, seat) != _c.WP_NO_HANDLE

    def in_hands(self, uint32_t seat):
        """This home's tasks that a dead worker had entered, and was not to end."""
        cdef list tasks = []
        cdef TaskCore task
        cdef uint64_t state
        for task in self.unfinished():
            state = self._state(task.handle)
            if _c.wp_state_phase(state) == _c.WP_PHASE_RUNNING and _c.wp_state_owner(state) == seat:
                if not _c.wp_slot_asked(&self.view.slots[_c.wp_handle_index(task.handle)]):
                    tasks.append(task)
        return tasks

    def give_up_retries(self, TaskCore task):
        """A task that a dead worker had entered is not run again."""
        self.view.slots[_c.wp_handle_index(task.handle)].attempt_limit = 1

    def late(self):
        """The tasks in hand of which something is asked, and when another may be late.

        Returns:
            ``(handle, seat, flags)`` of each, and seconds of ``time.monotonic()`` or None.
        """
        cdef int64_t due_ns = INT64_MAX, now_ns = _c.wp_os_now_ns()
        cdef uint32_t at = 0
        cdef _c.wp_late found
        cdef list late = []
        self._check()
        while _c.wp_late_next(&self.view, &at, now_ns, &due_ns, &found):
            late.append((found.handle, found.seat, found.flags))
        return late, None if due_ns == INT64_MAX else due_ns / 1e9

    def condemn(self, uint64_t handle):
        """Say that the process that runs the task will be killed for it; False: it has left the task."""
        return self.usable and _c.wp_slot_ask(
            &self.view.slots[_c.wp_handle_index(handle)], handle, _c.WP_CANCEL_KILL)

    def runs_another(self, uint32_t seat, uint64_t handle):
        """Whether the task on top of that worker's stack is another one, and not the task's own, a look."""
        return self.usable and _c.wp_runs_another(&self.view, seat, handle)

    def recover(self, uint32_t seat, int pid, int status):
        """Make the pool whole after the proven death of ``seat``'s process.

        Returns:
            Counts of tasks: to run again, died, cancelled.
        """
        cdef _c.wp_recovered out
        self._check()
        self.users += 1
        with nogil:
            out = _c.wp_recover(&self.view, seat, pid, status)
        self._leave()
        return out.again, out.died, out.cancelled

    def statistics(self, uint32_t seat):
        """The counters of a seat, in the order of ``STATISTICS``."""
        self._check()
        return tuple([_c.wp_seat_stat(&self.view, seat, i) for i in range(_c.WP_STAT_COUNT)])

    def phases(self):
        """How many slots are in each phase: free, reserved, ready, claimed, running, done."""
        cdef uint32_t counts[6]
        self._check()
        _c.wp_count_phases(&self.view, counts)
        return tuple([counts[i] for i in range(6)])

    @property
    def is_forked(self):
        """Whether this process is a fork of the pool's."""
        return self.forked

    def close(self):
        """Let go of the shared memory, once no thread waits in it."""
        if self.usable:
            if self.loans:  # they keep all of it mapped: what is free goes now
                _c.wp_arena_trim(&self.view.arena, 0)
            self.usable = False
            self.closing = True
            if self.users == 0:
                self._release()

    def abandon(self):
        """This process is a fork of the pool's: touch nothing, and say so from now on."""
        self.usable = False
        self.forked = True


def sizes(int seats, int parent_slots, int worker_slots, uint64_t arena_bytes):
    """The bytes of the control segment, and of the arena's memory."""
    cdef _c.wp_shape s = _c.wp_shape(seats, parent_slots, worker_slots, arena_bytes)
    return _c.wp_view_bytes(&s), _c.wp_arena_memory_bytes(arena_bytes)


def lay_out(
    control, int seats, int parent_slots, int worker_slots, uint64_t arena_bytes, int cpus, bint polls
):
    """Lay out a fresh, zeroed control segment."""
    cdef _c.wp_shape s = _c.wp_shape(seats, parent_slots, worker_slots, arena_bytes)
    cdef unsigned char[::1] view = control
    if <uint64_t>view.shape[0] < _c.wp_view_bytes(&s):
        raise ValueError("control segment too small")
    _c.wp_view_format(&view[0], &s, cpus, polls)


def reserve(int fd, int64_t size):
    """Reserve shared memory before it is touched: 0, or an errno (ENOSPC: /dev/shm is full)."""
    return _c.wp_os_reserve(fd, 0, size)


def dont_fork(buffer):
    """Keep a mapping out of this process's forks."""
    cdef unsigned char[::1] view = buffer
    return _c.wp_os_dont_fork(&view[0], view.shape[0])


def watch_parent(int pidfd, int lifeline):
    """End this process when that of ``pidfd`` ends, or execs and closes ``lifeline``: 0, or an errno."""
    return _c.wp_os_watch_parent(pidfd, lifeline)
