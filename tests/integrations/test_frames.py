"""pandas: frames and series travel like the arrays inside them, out of band.

SPDX-License-Identifier: BSD-3-Clause
"""

from typing import Any

import array_tasks as arrays
import numpy as np
import pytest

from workpool import WorkerPool

pd = pytest.importorskip("pandas")

ROWS = 3000


def mixed() -> Any:
    """A frame with a column of each kind."""
    number = np.arange(ROWS)
    return pd.DataFrame(
        {
            "float": number / 7,
            "half": number.astype("f2"),
            "int": number,
            "small": number.astype("i1"),
            "bool": number % 2 == 0,
            "time": pd.date_range("2020-01-01", periods=ROWS, freq="s"),
            "zone": pd.date_range("2020-01-01", periods=ROWS, freq="h", tz="UTC"),
            "span": pd.to_timedelta(number, unit="s"),
            "text": [f"row {i}" for i in number],
            "kind": pd.Categorical(number % 3),
            "nullable": pd.array([None if i % 5 == 0 else i for i in number], dtype="Int32"),
            "object": [(i, None) for i in number],
        },
        index=pd.Index(number[::-1], name="row"),
    )


def doubled(frame: Any) -> Any:
    frame["float"] *= 2  # its own: the caller's stays
    frame.iloc[0, 2] = -1
    return frame


def test_a_mixed_frame_goes_there_and_back() -> None:
    frame = mixed()
    with WorkerPool(max_workers=2) as pool:
        for value in (frame, frame[["float", "half"]], frame.iloc[::-2], frame.iloc[:0], frame.head(3),
                      frame.set_index(["kind", "int"]), frame.T.iloc[:3]):  # fmt: skip
            pd.testing.assert_frame_equal(pool.submit(arrays.identity, value).result(), value)
        before = frame.copy(deep=True)
        back = pool.submit(doubled, frame).result()
        pd.testing.assert_frame_equal(frame, before)
        np.testing.assert_array_equal(back["float"], 2 * frame["float"])
        assert back.iloc[0, 2] == -1


def test_frames_at_any_depth_are_views() -> None:
    wide = pd.DataFrame(np.random.default_rng(1).random((ROWS, 20)))
    with WorkerPool(max_workers=2) as pool:
        value = {"a": [wide, (wide[3], wide.index)], "b": np.ones(4000)}
        back = pool.submit(arrays.identity, value).result()
        pd.testing.assert_frame_equal(back["a"][0], wide)
        pd.testing.assert_series_equal(back["a"][1][0], wide[3])
        assert pool.submit(lambda frame: arrays.is_view(frame.to_numpy()), wide).result()
        sums = list(pool.map(pd.DataFrame.sum, [wide + i for i in range(12)]))
        for i, total in enumerate(sums):
            pd.testing.assert_series_equal(total, (wide + i).sum())
        grouped = mixed().groupby("kind", observed=True)
        parts = list(pool.map(len, [part for _, part in grouped]))
        assert parts == grouped.size().tolist()
