"""Usable CPUs: the least of affinity, cgroup quota and WORKPOOL_MAX_WORKERS.

SPDX-License-Identifier: BSD-3-Clause
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pool_support import script_environment

from workpool import WorkerPool, usable_cpus

AFFINITY = 8


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of eight CPUs, without the variable."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(AFFINITY)))
    monkeypatch.delenv("WORKPOOL_MAX_WORKERS", raising=False)


Cgroup = Callable[..., int]


@pytest.fixture
def cgroup(tmp_path: Path) -> Cgroup:
    """Count with a tree of files, and what /proc/self/cgroup says, instead of the machine's."""

    def count(membership: str | bytes, files: dict[str, str | bytes]) -> int:
        root = tmp_path / "cgroup"
        root.mkdir()
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        said = tmp_path / "membership"
        said.write_bytes(membership if isinstance(membership, bytes) else membership.encode())
        return usable_cpus(root, said)

    return count


def v1(place: str, quota: str, period: str = "100000\n") -> dict[str, str]:
    return {f"cpu/{place}cpu.cfs_quota_us": quota, f"cpu/{place}cpu.cfs_period_us": period}


# ---- affinity --------------------------------------------------------------------------


def test_without_a_quota_it_is_the_affinity(tmp_path: Path) -> None:
    assert usable_cpus(tmp_path, tmp_path / "missing") == AFFINITY


def test_process_bound_to_one_cpu_has_one_and_so_has_its_pool() -> None:
    text = (
        "import os, workpool\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "print(workpool.usable_cpus(), workpool.WorkerPool()._max_workers)"
    )
    out = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=30, check=True,
        env=script_environment(),
    )  # fmt: skip
    assert out.stdout == "1 1\n"


def test_system_without_affinity_has_all_its_cpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    for count, expected in ((6, 6), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        assert usable_cpus(tmp_path, tmp_path / "missing") == expected


# ---- cgroups ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("200000 100000\n", 2),
        ("max 100000\n", AFFINITY),
        ("150000 100000\n", 2),  # to the nearest
        ("140000 100000\n", 1),
        ("10000 100000\n", 1),  # never none
        ("50000 10000\n", 5),
        ("9900000 100000\n", AFFINITY),  # more than there are
    ],
)
def test_version_2_quota_is_a_ratio(cgroup: Cgroup, text: str, expected: int) -> None:
    assert cgroup("0::/\n", {"cpu.max": text}) == expected


def test_version_2_takes_the_tightest_on_the_way_to_the_root(cgroup: Cgroup) -> None:
    files = {
        "a/b/c/cpu.max": "max 100000\n",
        "a/b/cpu.max": "600000 100000\n",
        "a/cpu.max": "300000 100000\n",
        "cpu.max": "700000 100000\n",
        "a/other/cpu.max": "100000 100000\n",  # not ours
    }
    assert cgroup("0::/a/b/c\n", files) == 3


def test_version_2_place_that_is_not_mounted_here_counts_what_is_above(cgroup: Cgroup) -> None:
    assert cgroup("0::/docker/0123\n", {"cpu.max": "400000 100000\n"}) == 4


@pytest.mark.parametrize("path", ["/../../elsewhere", "/..", "//", "", "/a/../../../x"])
def test_version_2_place_outside_the_root_ends(cgroup: Cgroup, path: str) -> None:
    assert cgroup(f"0::{path}\n", {}) == AFFINITY


def test_place_with_colons_and_blanks_in_its_name_is_found(cgroup: Cgroup) -> None:
    assert cgroup("0::/a b:c\n", {"a b:c/cpu.max": "200000 100000\n"}) == 2


@pytest.mark.parametrize(
    ("quota", "expected"), [("200000\n", 2), ("-1\n", AFFINITY), ("0\n", AFFINITY), ("50000\n", 1)]
)
def test_version_1_quota_is_a_ratio(cgroup: Cgroup, quota: str, expected: int) -> None:
    assert cgroup("4:cpu,cpuacct:/\n3:memory:/x\n", v1("", quota)) == expected


def test_version_1_takes_the_tightest_on_the_way_to_the_root(cgroup: Cgroup) -> None:
    files = v1("a/b/", "600000") | v1("a/", "300000") | v1("", "-1")
    assert cgroup("2:cpuset:/\n4:cpuacct,cpu:/a/b\n", files) == 3


def test_other_controllers_of_version_1_are_not_asked(cgroup: Cgroup) -> None:
    assert cgroup("4:cpuset:/\n5:name=systemd:/\n6:cpuacct:/\n", v1("", "100000")) == AFFINITY


def test_hybrid_of_both_versions_takes_the_tighter(cgroup: Cgroup) -> None:
    assert cgroup("4:cpu:/\n0::/\n", v1("", "500000") | {"cpu.max": "max 100000\n"}) == 5


@pytest.mark.parametrize(
    "text",
    ["", "\n", "max", "200000", "1 2 3", "x y", "200000 0", "-5 100000", "2e5 1e5", "\0\0 \0", b"\xff\xfe 5",
     "9" * 5000 + " 100000", "9" * 400 + " 1"],
    ids=lambda text: repr(text[:12]),
)  # fmt: skip
def test_malformed_quota_is_no_quota(cgroup: Cgroup, text: str | bytes) -> None:
    assert cgroup("0::/\n", {"cpu.max": text}) == AFFINITY


@pytest.mark.parametrize(
    ("quota", "period"), [("", ""), ("200000", "0"), ("x", "100000"), ("200000", "-100000"), ("max", "max")]
)
def test_malformed_version_1_quota_is_no_quota(cgroup: Cgroup, quota: str, period: str) -> None:
    assert cgroup("4:cpu:/\n", v1("", quota, period)) == AFFINITY


def test_version_1_quota_without_its_period_is_no_quota(cgroup: Cgroup) -> None:
    assert cgroup("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "200000"}) == AFFINITY


def test_folder_where_a_file_should_be_is_no_quota(cgroup: Cgroup) -> None:
    assert cgroup("0::/\n", {"cpu.max/x": ""}) == AFFINITY


@pytest.mark.parametrize("line", ["", "nonsense", "0:", ":", b"\xff\xfe"], ids=repr)
def test_malformed_membership_is_passed_over(cgroup: Cgroup, line: str | bytes) -> None:
    line = line if isinstance(line, bytes) else line.encode()
    assert cgroup(line + b"\n", {"cpu.max": "200000 100000"}) == AFFINITY


def test_line_after_a_malformed_one_still_counts(cgroup: Cgroup) -> None:
    assert cgroup("nonsense\n0::/\n", {"cpu.max": "200000 100000"}) == 2


# ---- WORKPOOL_MAX_WORKERS ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"), [("1", 1), ("3", 3), ("003", 3), ("8", 8), ("999", 8), ("", 8)]
)
def test_variable_lowers_the_count_and_never_raises_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str, expected: int
) -> None:
    monkeypatch.setenv("WORKPOOL_MAX_WORKERS", value)
    assert usable_cpus(tmp_path, tmp_path / "missing") == expected


def test_tightest_of_all_three_counts(cgroup: Cgroup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKPOOL_MAX_WORKERS", "5")
    assert cgroup("0::/\n", {"cpu.max": "300000 100000"}) == 3


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "two", "0x2", "1e3", "²", " "])
def test_variable_that_is_no_positive_whole_number_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("WORKPOOL_MAX_WORKERS", value)
    with pytest.raises(ValueError, match="WORKPOOL_MAX_WORKERS must be a positive whole number"):
        WorkerPool()


def test_pool_takes_the_variable_unless_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKPOOL_MAX_WORKERS", "1")
    for pool, workers in ((WorkerPool(), 1), (WorkerPool(max_workers=3), 3)):
        with pool:
            assert pool._max_workers == workers


def test_pool_on_a_machine_of_more_cpus_than_seats_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(1000)))
    monkeypatch.setenv("WORKPOOL_MAX_WORKERS", "1000")
    with WorkerPool(memory=1 << 20) as pool:
        assert 1 <= pool._max_workers <= 1000
        assert pool.submit(abs, -1).result(30) == 1
