#!/usr/bin/env bash
# Build every C test for ARM64 and run it under qemu-user: `tests/c/run_arm64.sh`, or
# `tests/c/run_arm64.sh deque slot` for some; more arguments of one test follow `--`.
#
# Functional only: qemu runs on this machine's memory model, so an order that is too weak
# for ARM64 is not seen here; that the code compiles to ARM64's atomics, and that sizes,
# system calls and layouts hold there, is. CROSS and QEMU choose other programs, CSRC other headers.
#
# SPDX-License-Identifier: BSD-3-Clause
set -euo pipefail
cd "$(dirname "$0")/../.."

CROSS=${CROSS:-aarch64-linux-gnu-gcc}
QEMU=${QEMU:-qemu-aarch64}
FLAGS=(-std=c11 -D_GNU_SOURCE -O2 -Wall -Wextra -Wpedantic -Wundef -Wshadow -Wconversion -Wstrict-prototypes
    -Werror -pthread -static "-I${CSRC:-csrc}" -Itests/c -DWP_TEST_SLOWDOWN=20 -DWP_TEST_EMULATED=1)
SECONDS_EACH=300

for program in "$CROSS" "$QEMU"; do
    command -v "$program" >/dev/null || { echo "no $program on this machine: not run" >&2; exit 77; }
done

wanted=() arguments=()
while [ $# != 0 ]; do
    if [ "$1" = -- ]; then shift; arguments=("$@"); break; fi
    wanted+=("$1")
    shift
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=()
for source in tests/c/test_*.c; do
    name=$(basename "$source" .c)
    [ ${#wanted[@]} = 0 ] || [[ " ${wanted[*]} " == *" ${name#test_} "* ]] || continue
    if "$CROSS" "${FLAGS[@]}" "$source" -o "$work/$name" &&
        timeout "$SECONDS_EACH" "$QEMU" "$work/$name" "${arguments[@]}"; then
        passed=$((passed + 1))
    else
        failed+=("$name")
    fi
done
printf 'arm64 (qemu-user, functional only): %d passed, %d failed %s\n' "$passed" "${#failed[@]}" "${failed[*]}"
[ ${#failed[@]} = 0 ]
