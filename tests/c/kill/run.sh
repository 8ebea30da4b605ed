#!/usr/bin/env bash
# SIGKILL after every instruction of every operation (x86-64 Linux only).
#
#   run.sh --alone    each instruction: some minutes
#   run.sh            and each pair of instructions: hours
#   run.sh --quick    each instruction that changes shared memory, pairs sampled: a minute
#   run.sh NAME...    operations and pairs whose names contain NAME
#
# SPDX-License-Identifier: BSD-3-Clause
set -euo pipefail
cd "$(dirname "$0")/../../.."

if [ "$(uname -sm)" != "Linux x86_64" ]; then
    echo "the instruction kill steps x86-64 processes of Linux: not run on $(uname -sm)"
    exit
fi
# -z now: binding a function of the C library at its first call would be counted.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${CC:-gcc}" -std=c11 -D_GNU_SOURCE -Wall -Wextra -Wpedantic -Wundef -Wshadow -Wconversion -Wstrict-prototypes -Werror \
    -O2 -g -Icsrc -pthread -Wl,-z,now tests/c/kill/kill_steps.c -o "$work/kill_steps"
"$work/kill_steps" "$@"
