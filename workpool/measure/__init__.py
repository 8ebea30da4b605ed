"""Measuring pools on this machine: what `python -m workpool bench` and the project's bench/ share.

SPDX-License-Identifier: BSD-3-Clause
"""
