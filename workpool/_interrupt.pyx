# cython: language_level=3
# _interrupt.pyx — functions of this process in which TaskInterrupt can be raised, and nowhere else.
#
# What one thread raises in another comes between two bytecodes of that other. Here there are
# none: from the function's return until nothing can be raised any more the GIL is held.
#
# CPython looks for the other thread by its number. A thread that is being started has the
# number of its starter until it runs, and would get what is meant for that: so look first.
#
# SPDX-License-Identifier: BSD-3-Clause
from cpython.ref cimport Py_DECREF, PyObject
from libc.stdint cimport uint8_t

from workpool.errors import TaskInterrupt

cdef extern from "Python.h":
    ctypedef struct PyThreadState:
        PyObject *async_exc
        unsigned long thread_id
    ctypedef struct PyInterpreterState:
        pass
    PyThreadState *PyThreadState_Get()
    PyInterpreterState *PyInterpreterState_Get()
    PyThreadState *PyInterpreterState_ThreadHead(PyInterpreterState *)
    PyThreadState *PyThreadState_Next(PyThreadState *)
    int PyThreadState_SetAsyncExc(unsigned long, PyObject *)
    unsigned long PyThread_get_thread_ident()

cdef enum:
    INTERRUPT = 2 | 4  # WP_CANCEL_FORCE, WP_CANCEL_TIME

# By thread: the innermost function that runs there. Empty nearly always, which costs least to see.
cdef dict _running = {}
RUNNING = _running


cdef bint _take_back():
    """Let go of an interrupt that this thread was to get. False: there was none."""
    cdef PyThreadState *here = PyThreadState_Get()
    if here.async_exc != <PyObject *>TaskInterrupt:
        return False
    here.async_exc = NULL
    Py_DECREF(TaskInterrupt)
    return True


cdef class Interruptible:
    """A function that is to be run in some thread of this process.

    Attributes:
        asked: ``CANCEL_`` flags.
    """

    cdef uint8_t flags
    cdef bint ended
    cdef PyThreadState *thread  # that runs it, as long as it does
    cdef int shields
    cdef bint kept  # an interrupt came behind a shield
    cdef Interruptible below

    @property
    def asked(self):
        return self.flags

    @property
    def address(self):
        """Where the byte of those flags is."""
        return <size_t>&self.flags

    def ask(self, int flags):
        """Ask something of it. False: it has ended."""
        if not self.ended:
            self.flags |= <uint8_t>flags
        return not self.ended

    def end(self):
        """Nothing can be asked any more. What was."""
        self.ended = True
        return self.flags

    def run(self, function, tuple args, dict kwargs):
        """Call the function. ``TaskInterrupt`` is raised in it, or instead of it, and never after it."""
        cdef unsigned long number = PyThread_get_thread_ident()
        if self.flags & INTERRUPT:
            raise TaskInterrupt
        self.below = _running.get(number)
        if self.below is not None:
            self.below._shield()
        _running[number] = self
        self.thread = PyThreadState_Get()
        try:
            return function(*args, **kwargs)
        finally:
            self.thread = NULL
            _take_back()
            if self.below is None:
                del _running[number]
            else:
                _running[number] = self.below
                self.below._unshield()
                self.below = None

    def interrupt(self):
        """Raise ``TaskInterrupt`` in it, if it runs now; behind a shield once that is gone.

        Returns:
            False: not now; try again in a moment.
        """
        if self.thread == NULL:
            return True
        self.kept = True
        return self.shields > 0 or self._raise()

    cdef bint _raise(self):
        cdef PyThreadState *found = PyInterpreterState_ThreadHead(PyInterpreterState_Get())
        while found != NULL and found.thread_id != self.thread.thread_id:
            found = PyThreadState_Next(found)
        if found != self.thread:  # it is starting another
            return False
        self.kept = False
        PyThreadState_SetAsyncExc(self.thread.thread_id, <PyObject *>TaskInterrupt)
        return True

    cdef int _shield(self) except -1:
        self.shields += 1
        if _take_back():
            self.kept = True
        return 0

    cdef int _unshield(self) except -1:
        self.shields -= 1
        if self.kept and self.shields == 0:
            self._raise()
        return 0


cdef class Shield:
    """``with SHIELD``: what this thread does for others, below a function that may be interrupted."""

    def __enter__(self):
        cdef Interruptible top = _running.get(PyThread_get_thread_ident())
        if top is not None:
            top._shield()

    def __exit__(self, *_):
        cdef Interruptible top = _running.get(PyThread_get_thread_ident())
        if top is not None:
            top._unshield()

    def check(self):
        """Raise what came behind this shield, unless it is within another."""
        cdef Interruptible top = _running.get(PyThread_get_thread_ident())
        if top is not None and top.kept and top.shields == 1:
            top.kept = False
            raise TaskInterrupt


SHIELD = Shield()
