"""How many CPUs this process may use: the least of affinity, cgroup quota and ``WORKPOOL_MAX_WORKERS``.

Source: sched_getaffinity(2); the kernel's cgroup-v2 and CFS bandwidth documents.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import os
from pathlib import Path


def usable_cpus(
    cgroup_root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> int:
    """CPUs that can run at once, at least 1.

    Raises:
        ValueError: ``WORKPOOL_MAX_WORKERS`` is not a positive whole number.
    """
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        count = os.cpu_count() or 1
    quota = _cgroup_quota(cgroup_root, membership)
    if quota is not None:
        count = min(count, max(1, int(quota + 0.5)))
    limit = os.environ.get("WORKPOOL_MAX_WORKERS")
    if limit:
        if not limit.isdecimal() or int(limit) == 0:
            raise ValueError(f"WORKPOOL_MAX_WORKERS must be a positive whole number, not {limit!r}")
        count = min(count, int(limit))
    return max(1, count)


def _cgroup_quota(root: Path, membership: Path) -> float | None:
    """The tightest CPU quota on the way from this process's cgroup to the root, in CPUs."""
    quotas: list[float] = []
    try:
        lines = membership.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    for line in lines:
        fields = line.split(":", 2)
        if len(fields) != 3:
            continue  # not as the kernel writes it
        _, controllers, path = fields
        if controllers == "":  # version 2
            base = root
        elif "cpu" in controllers.split(","):
            base = root / "cpu"
        else:
            continue
        place = base / path.lstrip("/")
        while True:
            quota = _quota_v2(place) if controllers == "" else _quota_v1(place)
            if quota is not None:
                quotas.append(quota)
            if place == base or base not in place.parents:
                break
            place = place.parent
    return min(quotas, default=None)


def _quota_v2(place: Path) -> float | None:
    try:
        quota, period = (place / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return _ratio(quota, period)


def _quota_v1(place: Path) -> float | None:
    try:
        quota = (place / "cpu.cfs_quota_us").read_text()
        period = (place / "cpu.cfs_period_us").read_text()
    except (OSError, ValueError):
        return None
    return _ratio(quota, period)


def _ratio(quota: str, period: str) -> float | None:
    """CPUs; None without a limit, or where the files do not say."""
    try:
        ratio = int(quota) / int(period)
    except (ValueError, ArithmeticError):  # "max", or nonsense
        return None
    return ratio if ratio > 0 else None
