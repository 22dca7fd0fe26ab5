"""What a result depends on besides its settings: versions, commit, machine; and usable cores."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

QUOTA = Path("/sys/fs/cgroup/cpu.max")
CPUINFO = Path("/proc/cpuinfo")

BFLOAT16_INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "bf16")

PACKAGES = (
    "mtrl-fair",
    "torch",
    "numpy",
    "scipy",
    "metaworld",
    "mujoco",
    "gymnasium",
    "scikit-learn",
    "pillow",
    "torch_geometric",
)


def describe_machine() -> dict[str, Any]:
    """What a result depends on besides its configuration: versions, commit, machine, command."""
    # An installed copy may lie within a repository of its user's.
    ours = _git("ls-files", "--error-unmatch", Path(__file__).name) is not None
    status = _git("status", "--porcelain") if ours else None
    return {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": sys.argv,
        "commit": _git("rev-parse", "HEAD") if ours else None,
        "uncommitted_changes": None if status is None else bool(status),
        "versions": {"python": platform.python_version(), **_versions()},
        "machine": {
            "platform": platform.platform(),
            **describe_processor(),
            "cores": os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
            "gpus": [
                torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())
            ],
        },
    }


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    versions["torch"] = torch.__version__  # names the build, too, which a package index may not
    return versions


def _git(*arguments: str) -> str | None:
    try:
        result = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *arguments],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()


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
