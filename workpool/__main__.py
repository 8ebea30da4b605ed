"""Run the command line: ``python -m workpool``.

SPDX-License-Identifier: BSD-3-Clause
"""

import sys

from workpool.cli import main

if __name__ == "__main__":
    sys.exit(main())
