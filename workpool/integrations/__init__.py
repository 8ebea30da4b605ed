"""workpool behind other packages' interfaces: one module each, imported by who has the package.

SPDX-License-Identifier: BSD-3-Clause
"""
