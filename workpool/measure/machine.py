"""Which machine a figure is from, and how much of it others used meanwhile.

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import os
import platform
import resource
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def describe() -> dict[str, str | int | float]:
    """Return what a figure depends on."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "CPU part")):
            model = line.partition(":")[2].strip()
            break
    try:
        numpy = version("numpy")
    except PackageNotFoundError:
        numpy = "absent"
    return {
        "cpu": model,
        "cpus_usable": len(os.sched_getaffinity(0)),
        "cgroup_cpus": _cgroup_quota(),
        "virtual": "hypervisor" in Path("/proc/cpuinfo").read_text(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "numpy": numpy,
        "libc": " ".join(platform.libc_ver()),
        "load_1min": os.getloadavg()[0],
    }


def _cgroup_quota() -> float | str:
    """CPUs that cgroup v2 allows this process, or "max"."""
    try:
        group = Path("/proc/self/cgroup").read_text().splitlines()[-1].partition("::")[2]
        quota, period = Path(f"/sys/fs/cgroup{group}/cpu.max").read_text().split()
    except (OSError, ValueError):
        return "max"
    return "max" if quota == "max" else int(quota) / int(period)


def line(machine: dict[str, str | int | float]) -> str:
    """Return the same as one line."""
    virtual = " (virtual)" if machine["virtual"] else ""
    quota = "" if machine["cgroup_cpus"] == "max" else f" (cgroup: {machine['cgroup_cpus']})"
    return (
        f"{machine['cpu']}{virtual}, {machine['cpus_usable']} CPUs usable{quota}, Linux {machine['kernel']}, "
        f"CPython {machine['python']}, numpy {machine['numpy']}, load {machine['load_1min']:.2f} at the start"
    )


# Above this, in CPUs, others disturb what is measured.
NOISY_CPUS = 0.05


class OthersMeter:
    """How many CPUs processes that are not ours kept busy since this was made.

    Ours are this one and those it has waited for; what a killed sample leaves behind
    counts as others.
    """

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._busy = _busy_seconds()
        self._ours = _our_seconds()

    def cpus(self) -> float:
        """CPUs that others kept busy, on average."""
        others = (_busy_seconds() - self._busy) - (_our_seconds() - self._ours)
        return max(others, 0.0) / (time.monotonic() - self._start)


def _busy_seconds() -> float:
    user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    )
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _our_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
