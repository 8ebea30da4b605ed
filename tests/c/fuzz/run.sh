#!/usr/bin/env bash
# Recovery on garbage: build with the sanitizers, run the seeded mutator, then libFuzzer
# where clang links it.
#
#   run.sh [SECONDS [SEED]]     20 seconds of each by default; a seed, one image of it
#
# SPDX-License-Identifier: BSD-3-Clause
set -euo pipefail
cd "$(dirname "$0")/../../.."

seconds=${1:-20}
CFLAGS=(-std=c11 -D_GNU_SOURCE -Wall -Wextra -Wpedantic -Wundef -Wshadow -Wconversion -Wstrict-prototypes -Werror
    -Icsrc -pthread -O1 -g -fno-omit-frame-pointer)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"${CC:-gcc}" "${CFLAGS[@]}" -fsanitize=address,undefined -fno-sanitize-recover=all \
    tests/c/fuzz/fuzz_image.c -o "$work/fuzz_image"
if [ $# -ge 2 ]; then
    "$work/fuzz_image" --seed "$2" --images 1 --seconds "$seconds"
    exit
fi
"$work/fuzz_image" --seconds "$seconds"

fuzzer=(clang "${CFLAGS[@]}" -DFUZZ_LIBFUZZER -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all)
if ! command -v clang >/dev/null || ! printf '%s\n' '#include <stddef.h>' '#include <stdint.h>' \
    'int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);' \
    'int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) { return data == NULL && size > 0; }' |
    "${fuzzer[@]}" -x c - -o "$work/links" 2>/dev/null; then
    echo "libFuzzer: clang does not link it here: not run"
    exit
fi
"${fuzzer[@]}" tests/c/fuzz/fuzz_image.c -o "$work/fuzzer"
mkdir "$work/corpus"
# An input that fails is printed in base64, to be given to the fuzzer as a file.
if ! "$work/fuzzer" -max_total_time="$seconds" -max_len=4096 -len_control=0 -timeout=20 -rss_limit_mb=1024 \
    -print_final_stats=0 -artifact_prefix="$work/" "$work/corpus" >"$work/log" 2>&1; then
    cat "$work/log"
    exit 1
fi
tail -n 2 "$work/log"
