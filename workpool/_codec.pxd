# cython: language_level=3
# SPDX-License-Identifier: BSD-3-Clause
from libc.stdint cimport uint8_t

# Bytes that `value` takes in the compact form; -1: it needs pickle. Runs no user code.
cdef Py_ssize_t measure(object value)
# Write the compact form of a value that was just measured; returns the end.
cdef uint8_t *write(object value, uint8_t *out)
# The compact form's escape: a tag, then what the installed `dumps` makes of it.
cdef bytes pickled(object value)
# Read either form.
cdef object read(const uint8_t *data, Py_ssize_t size)
