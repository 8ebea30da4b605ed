"""The compact form of small plain values: what pickle would give, and no crash on nonsense.

SPDX-License-Identifier: BSD-3-Clause
"""

import enum
import pickle
import struct
import subprocess
import sys
from collections import namedtuple
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pool_support import script_environment

import workpool.payload  # noqa: F401  # it tells the codec who pickles
from workpool import _codec

quick = settings(max_examples=200, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])

EDGES = [edge + off for edge in (0, 2**31, 2**32, 2**62, 2**63, 2**64, 2**100) for off in (-1, 0, 1)]
INTS = st.one_of(st.integers(), st.sampled_from([sign * edge for edge in EDGES for sign in (1, -1)]))
TEXTS = st.text(st.characters(exclude_categories=()))  # lone surrogates and all
LEAVES = st.one_of(
    st.none(), st.booleans(), INTS, st.floats(), TEXTS, st.binary(), st.just("x" * 5000), st.just(b"y" * 5000)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5), st.lists(inner, max_size=5).map(tuple), st.dictionaries(TEXTS, inner)
    ),
    max_leaves=25,
)


def shape(value: Any) -> Any:
    """A value with its types, and floats by their bits, so that nan and -0.0 can be compared."""
    if type(value) in (tuple, list):
        return type(value), [shape(item) for item in value]
    if type(value) is dict:
        return dict, [(shape(key), shape(item)) for key, item in value.items()]
    if isinstance(value, float):
        return type(value), struct.pack("d", value)
    return type(value), value


def there_and_back(value: Any) -> Any:
    return _codec.loads(_codec.dumps(value))


@quick
@given(VALUES)
def test_value_comes_back_as_pickle_gives_it(value: Any) -> None:
    came = there_and_back(value)
    assert shape(came) == shape(value) == shape(pickle.loads(pickle.dumps(value)))


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("sign", [1, -1])
def test_ints_at_the_edges_survive_alone_and_in_groups(edge: int, sign: int) -> None:
    number = sign * edge
    assert shape(there_and_back(number)) == (int, number)
    assert there_and_back([(number, number), number]) == [(number, number), number]
    compact = _codec.dumps(number)[:1] == b"i"
    assert compact == (-(2**63) <= number < 2**63)


@pytest.mark.parametrize(
    "value",
    [0.0, -0.0, float("inf"), float("-inf"), float("nan"), 5e-324, 1.7976931348623157e308,
     struct.unpack("d", b"\x01\0\0\0\0\0\xf8\x7f")[0]],
    ids=repr,
)  # fmt: skip
def test_floats_keep_every_bit(value: float) -> None:
    for came in (there_and_back(value), there_and_back((value,))[0], there_and_back([value])[0]):
        assert shape(came) == shape(value)


@pytest.mark.parametrize(
    "text", ["", "a", "é", "\0", "\ud800", "a\udfffb", "\U0010ffff", "𝄞" * 2000, "\udc80" * 5000], ids=ascii
)
def test_text_of_every_kind_survives(text: str) -> None:
    for value in (text, (text,), [text, text], {text: text}):
        assert shape(there_and_back(value)) == shape(value)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 4090, 4095, 4096, 4097, 65536])
@pytest.mark.parametrize(
    "group", [lambda x: x, lambda x: (x,), lambda x: [x, x]], ids=["alone", "tuple", "list"]
)
def test_sizes_around_the_limits_survive(size: int, group: Any) -> None:
    for value in (bytes(size), "é" * size, (0,) * size, [None] * size):
        assert shape(there_and_back(group(value))) == shape(group(value))


@pytest.mark.parametrize("depth", range(9))
def test_tuples_nested_past_the_compact_depth_survive(depth: int) -> None:
    value: Any = 1
    for _ in range(depth):
        value = (value, depth)
    assert shape(there_and_back(value)) == shape(value)
    assert shape(there_and_back([value])) == shape([value])


class Flag(enum.IntEnum):
    ON = 1


class OwnInt(int):
    pass


class OwnFloat(float):
    pass


class OwnText(str):
    pass


class OwnBytes(bytes):
    pass


class OwnTuple(tuple[Any, ...]):
    pass


class OwnList(list[Any]):
    pass


Pair = namedtuple("Pair", "a b")


@pytest.mark.parametrize(
    "value",
    [
        Flag.ON,
        OwnInt(1),
        OwnFloat(1.5),
        OwnText("t"),
        OwnBytes(b"b"),
        OwnTuple((1,)),
        OwnList([1]),
        Pair(1, 2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_instances_of_subclasses_keep_their_type(value: Any) -> None:
    for came in (there_and_back(value), there_and_back((value,))[0], there_and_back([value])[0]):
        assert shape(came) == shape(value)
        assert type(came) is type(value)


def test_true_is_not_1() -> None:
    assert shape(there_and_back((True, 1, False, 0, 1.0))) == shape((True, 1, False, 0, 1.0))


def test_two_references_to_one_list_stay_one_list() -> None:
    inner = [1]
    for value in ((inner, inner), [inner, inner], {"a": inner, "b": inner}):
        first, second = there_and_back(value).values() if isinstance(value, dict) else there_and_back(value)
        assert first is second
        first.append(2)
        assert second == [1, 2]


def test_list_that_holds_itself_comes_back_so() -> None:
    ring: list[Any] = [1]
    ring.append(ring)
    came = there_and_back(ring)
    assert came[0] == 1
    assert came[1] is came


def test_large_value_that_is_there_many_times_is_written_once() -> None:
    block = bytes(100_000)
    assert len(_codec.dumps([block] * 100)) < 2 * len(block)


def test_bytearray_memoryview_and_bytes_are_all_read() -> None:
    data = _codec.dumps((1, "a"))
    for form in (data, bytearray(data), memoryview(data)):
        assert _codec.loads(form) == (1, "a")


def test_value_that_pickle_refuses_raises_and_the_codec_goes_on() -> None:
    with pytest.raises(TypeError):
        _codec.dumps((1, (x for x in ())))
    assert there_and_back((1, 2)) == (1, 2)


# ---- nonsense --------------------------------------------------------------------------


COMPACT = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(), st.binary()
    ),
    lambda inner: st.lists(inner, max_size=4).map(tuple),
    max_leaves=10,
)


@settings(quick, max_examples=60)
@given(COMPACT)
def test_payload_cut_short_anywhere_raises_value_error(value: Any) -> None:
    data = _codec.dumps(value)
    if data[:1] == b"P":  # too deep for the compact form: pickle's own business
        return
    for end in range(len(data)):
        with pytest.raises(ValueError):
            _codec.loads(data[:end])


@quick
@given(st.binary(max_size=60).filter(lambda data: b"P" not in data))
def test_nonsense_is_a_value_or_a_value_error(data: bytes) -> None:
    try:
        _codec.loads(data)
    except ValueError:
        pass


@quick
@given(COMPACT, st.data())
def test_payload_with_a_wrong_byte_is_a_value_or_a_value_error(value: Any, more: Any) -> None:
    data = bytearray(_codec.dumps(value))
    at = more.draw(st.integers(0, len(data) - 1))
    data[at] = more.draw(st.integers(0, 255))
    if b"P" in data:  # pickle's own business
        return
    try:
        _codec.loads(data)
    except ValueError:
        pass


@pytest.mark.parametrize("tag", [b"s", b"b", b"t", b"l"])
def test_count_beyond_the_payload_raises_and_asks_for_no_memory(tag: bytes) -> None:
    for count in (1, 2**16, 2**31, 2**32 - 1):
        with pytest.raises(ValueError):
            _codec.loads(tag + struct.pack("I", count))


def test_pickle_cut_short_raises() -> None:
    data = _codec.dumps({"a": [1, 2, 3]})
    assert data[:1] == b"P"
    for end in range(1, len(data)):
        with pytest.raises((ValueError, EOFError, pickle.UnpicklingError)):
            _codec.loads(data[:end])


@pytest.mark.parametrize("tag", ["t", "l"])
def test_groups_nested_without_end_raise_and_do_not_crash(tag: str) -> None:
    # In a process of its own: it would die of its stack.
    text = (
        "import workpool.payload\nfrom workpool import _codec\n"
        f"try: _codec.loads(b'{tag}\\1\\0\\0\\0' * 400_000 + b'N')\n"
        "except (ValueError, RecursionError): print('refused')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=30, env=script_environment()
    )
    assert (done.returncode, done.stdout) == (0, "refused\n")
