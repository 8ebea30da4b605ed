# cython: language_level=3
# _look.pyx — somebody else's pool, for looking at: nothing here changes it.
#
# SPDX-License-Identifier: BSD-3-Clause
cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint32_t

from workpool cimport _c

from workpool.errors import WorkpoolError

STOP_NO = _c.WP_STOP_NO
ALIEN, OTHER_RELEASE = _c.WP_SEGMENT_ALIEN, _c.WP_SEGMENT_VERSION


class NotAPool(WorkpoolError):
    """The memory is no control segment that this release understands.

    Attributes:
        check: ``ALIEN``: nothing of ours; ``OTHER_RELEASE``: of another layout; or another number.
    """

    def __init__(self, check):
        super().__init__("not a pool's control segment, or of another release (check %d)" % check)
        self.check = check


@cython.no_gc_clear
cdef class Look:
    """A control segment, looked at from outside.

    Args:
        control: A buffer of all of it, read-only or not. It is kept until this object dies.

    Raises:
        NotAPool: It is none, or of another release.
    """

    cdef _c.wp_view view
    cdef Py_buffer control
    cdef bint is_open

    def __cinit__(self, control):
        PyObject_GetBuffer(control, &self.control, PyBUF_SIMPLE)
        cdef _c.wp_segment_check check = _c.wp_look_open(
            &self.view, <uint8_t *>self.control.buf, self.control.len)
        if check == _c.WP_SEGMENT_MEMORY:
            raise MemoryError("no memory for the view")
        if check != _c.WP_SEGMENT_OK:
            raise NotAPool(<int>check)
        self.is_open = True

    def __dealloc__(self):
        if self.is_open:
            _c.wp_view_close(&self.view)
        PyBuffer_Release(&self.control)

    @property
    def seats(self):
        """How many seats there are, the parent's among them."""
        return self.view.seats

    def look(self):
        """What can be seen of each seat, the parent's first.

        Returns:
            For each: pid (0: nobody), stop, due, ready, runs, since_ns, mean_ns, queued, unknown, known_us.
        """
        cdef _c.wp_look looks[_c.WP_MAX_SEATS]
        with nogil:  # it looks at every slot
            _c.wp_look_at(&self.view, looks)
        return tuple([
            (at.pid, at.stop, at.due, at.ready, at.runs, at.since_ns, at.mean_ns, at.queued, at.unknown,
             at.known_us)
            for at in looks[:self.view.seats]
        ])

    def statistics(self, uint32_t seat):
        """The counters of a seat, in the order of ``_core.STATISTICS``."""
        if seat >= self.view.seats:
            raise IndexError(seat)
        return tuple([_c.wp_seat_stat(&self.view, seat, i) for i in range(_c.WP_STAT_COUNT)])

    def phases(self):
        """How many slots are in each phase: free, reserved, ready, claimed, running, done."""
        cdef uint32_t counts[6]
        _c.wp_count_phases(&self.view, counts)
        return tuple([counts[i] for i in range(6)])

    def usage(self):
        """As ``Seat.usage``: budget, committed, used and doomed bytes; for each seat used, held, leases."""
        cdef _c.wp_usage usage
        cdef _c.wp_usage_seat seats[_c.WP_MAX_SEATS]
        with nogil:  # it looks at every span
            _c.wp_usage_read(&self.view.arena.spans, &self.view.arena.leases, &usage, seats)
        return (
            (usage.budget_bytes, usage.committed_bytes, usage.used_bytes, usage.doomed_bytes),
            tuple([(seats[i].used_bytes, seats[i].held_bytes, seats[i].leases)
                   for i in range(self.view.seats)]),
        )


def now_ns():
    """The clock of ``since_ns``."""
    return _c.wp_os_now_ns()
