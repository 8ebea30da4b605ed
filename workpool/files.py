"""Files as input and output of a run: items come from one, results go to another.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Unusable(Exception):
    """The command cannot start or go on; its text is for the user."""


class BadItem(NamedTuple):
    """An item of the input that gives no task."""

    reason: str


class Source(NamedTuple):
    """The items of an input, how many there are (None: unknown), and how one is named."""

    items: Iterator[tuple[int, Any]]
    total: int | None
    place: Callable[[int], str]


def numbered_lines(stream: IO[bytes]) -> Iterator[tuple[int, str | BadItem]]:
    """Yield each line with its number from 1, without its line end."""
    for number, line in enumerate(stream, 1):
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")  # a byte-order mark is not text
        line = line.removesuffix(b"\n").removesuffix(b"\r")
        try:
            yield number, line.decode()
        except UnicodeDecodeError as error:
            yield number, BadItem(f"not UTF-8: {error.reason} at byte {error.start}")


def json_values(stream: IO[bytes]) -> Iterator[tuple[int, Any]]:
    """Yield the value of each line; blank lines are none."""
    for number, line in numbered_lines(stream):
        if isinstance(line, BadItem):
            yield number, line
        elif line.strip():
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                value = BadItem(f"not JSON: {error}")
            yield number, value


def count_lines(path: Path) -> int | None:
    """Return the number of lines of a regular file, else None."""
    if not path.is_file():
        return None
    count, last = 0, b"\n"
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            count += block.count(b"\n")
            last = block[-1:]
    return count + (last != b"\n")


def open_rows(name: str) -> Source:
    """Open an ``.npy`` file; its items are the entries along the first axis, from 0."""
    import numpy as np

    try:
        if name == "-":
            with open_stdin() as stream:  # NumPy seeks in what it reads
                array = np.lib.format.read_array(io.BytesIO(stream.read()), allow_pickle=False)
        else:
            with Path(name).open("rb") as stream:
                np.lib.format.read_magic(stream)  # np.load would also take .npz and pickles
            array = np.load(name, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise Unusable(f"cannot read {name} as .npy: {error}") from None
    if array.ndim == 0:
        raise Unusable(f"{name} holds a single number: there are no rows")
    # A plain array of its own: a row of a mapped file would pickle as a memmap.
    rows = ((index, np.array(array[index])[()]) for index in range(len(array)))
    return Source(rows, len(array), lambda index: f"{name}[{index}]")


def open_stdin() -> IO[bytes]:
    """Open standard input anew.

    The reader may be blocked in it when the interpreter ends, and the interpreter
    wants to lock ``sys.stdin`` then.
    """
    return open(0, "rb", closefd=False)


def open_source(name: str, form: str, *, count: bool) -> Source:
    """Open the input.

    Args:
        name: Path, or ``-`` for standard input.
        form: ``lines``, ``jsonl`` or ``npy``.
        count: Whether the number of lines is worth reading the file for.
    """
    if form == "npy":
        return open_rows(name)
    try:
        stream = open_stdin() if name == "-" else Path(name).open("rb")
        total = count_lines(Path(name)) if count and name != "-" else None
    except OSError as error:
        raise Unusable(f"cannot read {name}: {error.strerror}") from None
    items = json_values(stream) if form == "jsonl" else numbered_lines(stream)
    shown = "<stdin>" if name == "-" else name
    return Source(items, total, lambda number: f"{shown}:{number}")


class Sink(Protocol):
    """Where results go. ``write`` raises TypeError or ValueError for one that has no such form."""

    def write(self, result: object) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...


def as_json(value: object) -> object:
    """Convert what ``json`` does not know: NumPy's scalars and arrays."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"the result cannot be written as JSON: {type(value).__name__}")


def json_text(result: object) -> str:
    """Return the result as one line of JSON."""
    return json.dumps(result, default=as_json, ensure_ascii=False)


class LineSink:
    """One line of text for each result."""

    def __init__(self, stream: IO[bytes], text: Callable[[object], str]) -> None:
        self._stream = stream
        self._text = text
        self._live = stream.isatty()

    def write(self, result: object) -> None:
        self._stream.write(self._text(result).encode(errors="backslashreplace") + b"\n")
        if self._live:
            self._stream.flush()

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self._stream.flush()
        if self._stream is not sys.stdout.buffer:
            self._stream.close()


class ArraySink:
    """All results stacked into one array, written at the end: only then its type is known."""

    def __init__(self, stream: IO[bytes]) -> None:
        import numpy as np

        self._np = np
        self._stream = stream
        self._rows: list[Any] = []

    def write(self, result: object) -> None:
        row = self._np.asarray(result)
        if row.dtype.hasobject:
            raise TypeError(f"the result cannot be written as an array: {type(result).__name__}")
        if self._rows and row.shape != self._rows[0].shape:
            raise ValueError(f"the result has shape {row.shape}, the first one {self._rows[0].shape}")
        self._rows.append(row)

    def flush(self) -> None:
        """Nothing is written before the end."""

    def close(self) -> None:
        with self._stream:
            self._np.save(self._stream, self._np.stack(self._rows) if self._rows else self._np.empty(0))


def open_sink(output: str | None, source_form: str) -> Sink:
    """Open the output: its suffix tells the form, else the form of the input does."""
    try:
        stream: IO[bytes] = sys.stdout.buffer if output is None else Path(output).open("wb")
    except OSError as error:
        raise Unusable(f"cannot write {output}: {error.strerror}") from None
    suffix = Path(output or "").suffix
    if suffix == ".npy":
        return ArraySink(stream)
    # The str() of an array has many lines, so rows come out as JSON too.
    wants_json = suffix == ".jsonl" or (suffix != ".txt" and source_form != "lines")
    return LineSink(stream, json_text if wants_json else str)
