"""How many cores there are to use."""

from __future__ import annotations

import os
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cores() -> int:
    """The cores that this process may use; a container's quota (cgroup version 2) limits them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        quota, period = map(int, QUOTA.read_text().split())
    except (OSError, ValueError):  # none, or "max"
        return cores or 1
    return max(1, min(cores or 1, round(quota / period)))
