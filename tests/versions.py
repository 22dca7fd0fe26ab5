"""Installs the lowest and the newest versions that pyproject.toml allows, and tests both.

python tests/versions.py [lowest|newest] [library|all]    all four, or those with these words

`library` is the core dependencies alone, with the tests that need no extra; `all` is the extra
`dev`, which has every other in it, with the tests of `make quick`. Each of the four gets a virtual
environment in a temporary folder: seven gigabytes for `all` where torch comes with CUDA. PYTHON
names another interpreter than the one that runs this. Every pip option can be set by its variable,
such as PIP_INDEX_URL.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import NamedTuple

import tomllib
from mutations import QUICK, ROOT, copy

PYTHON = os.environ.get("PYTHON", sys.executable)
ENDS, PARTS = ("lowest", "newest"), ("library", "all")
NEEDS_AN_EXTRA = ("results", "supervised", "combiners/test_methods_torchjd.py")
NEEDS_AN_EXTRA += ("runs/test_directory.py", "runs/test_metrics.py")


class Result(NamedTuple):
    """What came out of one environment."""

    name: str
    versions: str
    outcome: str
    passed: bool


def requirements(part: str) -> list[str]:
    """Returns pyproject.toml's requirements: of the core, or with those of all extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values() if part == "all" else []
    return [line for lines in (project["dependencies"], *extras) for line in lines]


def name_of(requirement: str) -> str:
    return re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0]


def lowest(part: str) -> dict[str, str]:
    """Returns the lowest version by name; the highest where the core and extras name several."""
    found: dict[str, str] = {}
    for requirement in requirements(part):
        for bound in re.findall(r">=([\d.]+)", requirement):
            name = name_of(requirement)
            found[name] = max(bound, found.get(name, "0"), key=numbers)
    return found


def numbers(version: str) -> list[int]:
    return [int(number) for number in version.split(".")]


def run(*command: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        errors="replace",
        env=os.environ | {"OMP_NUM_THREADS": "1"},  # as the suite's conftest.py does
    )


def install(python: Path, source: Path, end: str, part: str) -> str:
    """Installs one environment; returns what pip said if it refused."""
    constraints = source / "lowest.txt"
    pins = lowest(part) if end == "lowest" else {}
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in pins.items()))
    what = (f"{source}[dev]",) if part == "all" else (str(source), "pytest", "pytest-xdist")
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    result = run(*pip, "--constraint", constraints, *what, folder=source)
    return "" if result.returncode == 0 else result.stderr


def versions(python: Path, part: str, folder: Path) -> str:
    """Returns the interpreter's version and those of what pyproject.toml asks for."""
    code = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    names = sorted({name_of(line) for line in requirements(part)} - {"mtrl-fair"})
    found = run(python, "-c", code, *names, folder=folder).stdout.split()
    interpreter = run(python, "--version", folder=folder).stdout.strip()
    return ", ".join(
        (interpreter, *(f"{name} {text}" for name, text in zip(names, found, strict=True)))
    )


def test(python: Path, source: Path, part: str) -> subprocess.CompletedProcess[str]:
    """Runs the tests of one part in the copy of the checkout."""
    tests, marks = ["tests"], QUICK[-1]
    if part == "library":
        # What is installed is tested, and the suite's conftest.py imports what extras install: the
        # tests that it skips without a GPU are left out here.
        shutil.rmtree(source / "mtrl_fair")
        (source / "tests" / "conftest.py").unlink()
        marks += " and not gpu"
        tests = ["tests/mtrl_fair", *(f"--ignore=tests/mtrl_fair/{x}" for x in NEEDS_AN_EXTRA)]
    options = ("-q", "-p", "no:cacheprovider", "-m", marks)
    parallel = ("--numprocesses", "auto", "--dist", "loadfile")
    return run(python, "-m", "pytest", *options, *parallel, *tests, folder=source)


def try_versions(end: str, part: str) -> Result:
    name = f"{end} {part}"
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        source.mkdir()
        copy(source)
        made = run(PYTHON, "-m", "venv", Path(folder) / "venv", folder=source)
        if made.returncode != 0:
            return Result(name, "", f"no environment: {made.stderr[-2000:]}", False)
        python = Path(folder) / "venv" / "bin" / "python"
        if refused := install(python, source, end, part):
            return Result(name, "", f"not installed: {refused[-2000:]}", False)
        found = versions(python, part, source)
        print(f"{name}: {found}", flush=True)
        result = test(python, source, part)
    lines = result.stdout.splitlines() or [result.stderr[-2000:]]
    for line in lines:
        if line.startswith(("FAILED", "ERROR")):
            print(f"  {line}", flush=True)
    return Result(name, found, lines[-1].strip("= "), result.returncode == 0)


def main(words: list[str]) -> None:
    if unknown := set(words) - {*ENDS, *PARTS}:
        sys.exit(f"unknown: {' '.join(sorted(unknown))}, expected some of {' '.join(ENDS + PARTS)}")
    ends = [end for end in ENDS if end in words] or ENDS
    parts = [part for part in PARTS if part in words] or PARTS
    results = [try_versions(end, part) for part, end in product(parts, ends)]
    print("\n| what | tests | versions |\n|---|---|---|")
    for result in results:
        print(f"| {result.name} | {result.outcome} | {result.versions} |")
    sys.exit(not all(result.passed for result in results))


if __name__ == "__main__":
    main(sys.argv[1:])
