"""The processor: what it is called, what it can do, and how many cores there are to use."""

from __future__ import annotations

import os
import platform
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")
CPUINFO = Path("/proc/cpuinfo")

BFLOAT16_INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "bf16")


def describe_processor() -> dict[str, object]:
    """The processor's name and its instructions for bfloat16, None where they are not known."""
    fields: dict[str, str] = {}
    if CPUINFO.is_file():
        for line in CPUINFO.read_text().splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    flags = fields.get("flags") or fields.get("Features")
    present = set(flags.split()) if flags else None
    return {
        "processor": fields.get("model name") or platform.processor() or platform.machine(),
        "bfloat16": present and [name for name in BFLOAT16_INSTRUCTIONS if name in present],
    }


def usable_cores() -> int:
    """The cores that this process may use; a container's quota (cgroup version 2) limits them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        quota, period = map(int, QUOTA.read_text().split())
    except (OSError, ValueError):  # none, or "max"
        return cores or 1
    return max(1, min(cores or 1, round(quota / period)))
