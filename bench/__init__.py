"""Measurements of workpool beside its rivals: see README.md and run.py.

SPDX-License-Identifier: BSD-3-Clause
"""
