"""What is said of the processor, on files as the system writes them."""

import os

import pytest

from mtrl_fair import machine as processor

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
    monkeypatch.setattr(processor, "QUOTA", tmp_path / "cpu.max")
    assert processor.usable_cores() == 8
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert processor.usable_cores() == expected


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
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(processor.platform, "processor", lambda: "arm")
    if content is not None:
        (tmp_path / "cpuinfo").write_text(content)
    assert processor.describe_processor() == {"processor": name, "bfloat16": instructions}
