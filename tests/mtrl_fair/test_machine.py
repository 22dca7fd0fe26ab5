"""What is said of the processor, on files as the system writes them, and of the commit."""

import os
import subprocess

import pytest

from mtrl_fair import machine

XEON = """processor	: 0
model name	: Intel(R) Xeon(R) Processor: 2.60GHz
flags		: fpu avx512f avx512_bf16 amx_bf16 amx_tile

processor	: 1
model name	: another
flags		: fpu
"""


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("max 100000", 8), ("200000 100000", 2), ("50000 100000", 1), ("900000 100000", 8), ("", 8)],
)
def test_a_container_s_quota_limits_the_usable_cores(tmp_path, monkeypatch, quota, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.setattr(machine, "QUOTA", tmp_path / "cpu.max")
    assert machine.usable_cores() == 8
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert machine.usable_cores() == expected


@pytest.mark.parametrize(
    ("content", "name", "instructions"),
    [
        (XEON, "Intel(R) Xeon(R) Processor: 2.60GHz", ["amx_bf16", "avx512_bf16"]),
        ("model name : Old\nflags : fpu avx2 not_amx_bf16\n", "Old", []),
        ("Features : fp asimd bf16\n", "arm", ["bf16"]),  # an ARM kernel gives no model name
        ("Features : fp asimd\n", "arm", []),
        ("processor : 0\n", "arm", None),
        (None, "arm", None),
    ],
)
def test_the_processor_is_described(tmp_path, monkeypatch, content, name, instructions):
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(machine.platform, "processor", lambda: "arm")
    if content is not None:
        (tmp_path / "cpuinfo").write_text(content)
    assert machine.describe_processor() == {"processor": name, "bfloat16": instructions}


def test_the_commit_is_that_of_this_program_only(tmp_path, monkeypatch):
    def git(*words: str) -> str:
        name = ("-c", "user.name=a", "-c", "user.email=a@b")
        command = ["git", *name, "-C", str(tmp_path), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init")
    git("commit", "--allow-empty", "--message", "a project of a user's")
    installed = tmp_path / "venv" / "machine.py"
    installed.parent.mkdir()
    installed.write_text("")
    monkeypatch.setattr(machine, "__file__", str(installed))
    described = machine.describe_machine()
    assert (described["commit"], described["uncommitted_changes"]) == (None, None)
    git("add", ".")
    git("commit", "--message", "its source")
    described = machine.describe_machine()
    assert (described["commit"], described["uncommitted_changes"]) == (
        git("rev-parse", "HEAD"),
        False,
    )
