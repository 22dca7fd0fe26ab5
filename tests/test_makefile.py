"""`make setup`: which interpreters it takes, and when it makes `.venv` anew."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process
ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def setup(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Without an index, pip stops at once; what happens before it is tested."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHON"}
    return subprocess.run(
        ["make", "setup"],
        cwd=folder,
        env=environment | {"PIP_NO_INDEX": "1"} | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def fake_interpreter(path: Path, change: str) -> str:
    """This interpreter, with something changed in what it says of itself."""
    code = f"import sys; {change}; exec(sys.argv[1])"
    path.write_text(
        f'#!/bin/sh\nif [ "$1" = -c ]; then exec {sys.executable} -c "{code}" "$2"; fi\n'
        f'exec {sys.executable} "$@"\n'
    )
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("version", [(3, 9), (3, 14)])
def test_another_python_is_refused_before_anything_is_made(folder, version):
    python = fake_interpreter(folder / "python", f"sys.version_info = {(*version, 0)}")
    result = setup(folder, PYTHON=python)
    assert result.returncode == 2
    found = ".".join(map(str, version))
    message = f"Python 3.10 to 3.13 is needed, found {found}: set PYTHON=python3.x"
    assert result.stderr.splitlines()[0] == message
    assert not (folder / ".venv").exists()


def test_an_environment_of_another_interpreter_is_made_anew_if_it_is_asked_for(folder):
    assert "pip install" in setup(folder, PYTHON=sys.executable).stdout
    mark = folder / ".venv" / "mark"
    mark.touch()
    assert setup(folder).returncode == 2  # a failed set-up is tried again, by the same interpreter
    assert setup(folder, PYTHON=sys.executable).returncode == 2
    assert mark.exists()
    other = fake_interpreter(folder / "python", "sys.base_prefix = 'elsewhere'")
    setup(folder, PYTHON=other)
    assert not mark.exists()


def test_what_is_installed_is_not_installed_again(folder):
    setup(folder, PYTHON=sys.executable)
    (folder / ".venv" / "installed").touch()
    result = setup(folder, PYTHON=sys.executable)
    assert (result.returncode, "pip" in result.stdout) == (0, False)
    (folder / "constraints.txt").write_text("# changed")
    assert "pip install" in setup(folder).stdout
