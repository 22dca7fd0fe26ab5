"""The wheel, installed alone: what a user of the combiners gets."""

import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]

EXTRAS = {
    *("jaxtyping", "matplotlib", "PIL", "rich", "sklearn", "tensorboard", "torch_geometric"),
    *("torchvision", "rdkit", "tyro"),
}
"""Import names of packages that only an extra of pyproject.toml, or a benchmark's own text, asks
for."""

COMBINE = """
import torch, mtrl_fair
trunk = torch.nn.Linear(3, 4)
heads = [torch.nn.Linear(4, 1) for _ in range(2)]
features = trunk(torch.randn(5, 3))
losses = torch.stack([head(features).square().mean() for head in heads])
combiner = mtrl_fair.FairGrad()
info = combiner.backward(losses, trunk.parameters(), [head.parameters() for head in heads])
assert info.residual < 1e-6, info
assert all(p.grad is not None for part in (trunk, *heads) for p in part.parameters())
for name in mtrl_fair.COMBINERS:
    mtrl_fair.make_combiner(name, num_tasks=2)
print(mtrl_fair.__file__)
"""

IMPORT_ALL = """
import importlib, pkgutil, mtrl_fair
for module in pkgutil.walk_packages(mtrl_fair.__path__, "mtrl_fair."):
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        print(module.name, error.name)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a copy: an old build folder must not decide the result
    ignore = shutil.ignore_patterns(".*", "runs", "build", "*.egg-info", "docs", "tests")
    shutil.copytree(ROOT, source, ignore=lambda path, names: _ignored(path, names, ignore))
    command = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps")
    options = ("--no-build-isolation", "--wheel-dir", str(folder), str(source))
    subprocess.run([*command, *options], check=True)
    (found,) = folder.glob("*.whl")
    return found


def _ignored(path: str, names: list[str], ignore) -> set[str]:
    """Only the checkout's own folders are left out: `mtrl_fair.runs` belongs to the library."""
    return ignore(path, names) if Path(path) == ROOT else {"__pycache__"} & set(names)


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> tuple[Path, Path]:
    """Folders with the installed wheel, and with torch, numpy, scipy and what these need."""
    target, packages = tmp_path_factory.mktemp("target"), tmp_path_factory.mktemp("packages")
    command = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile")
    subprocess.run([*command, "--target", str(target), str(wheel)], check=True)
    for name in needed_by("torch", "numpy", "scipy"):
        for file in distribution(name).files or ():
            top = file.parts[0]
            if top != ".." and not (packages / top).exists():
                (packages / top).symlink_to(distribution(name).locate_file(top))
    return target, packages


def needed_by(*names: str) -> set[str]:
    """The distributions, and those that they need without extras."""
    found, left = set(), list(names)
    while left:
        name = left.pop()
        if name in found:
            continue
        try:
            requirements = map(Requirement, distribution(name).requires or ())
        except PackageNotFoundError:  # of another platform
            continue
        found.add(name)
        left += [r.name for r in requirements if not r.marker or r.marker.evaluate({"extra": ""})]
    return found


def run_alone(installed: tuple[Path, Path], code: str) -> str:
    """Runs code in an interpreter that sees nothing else (-I and -S: no site-packages)."""
    path = f"import sys; sys.path += {[str(folder) for folder in installed]!r}\n"
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-W", "ignore", "-c", path + code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.process
def test_the_wheel_holds_the_library_only(wheel):
    listing = [sys.executable, "-m", "zipfile", "-l", str(wheel)]
    names = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split()
    modules = {name.split("/")[0] for name in names if name.endswith(".py")}
    assert modules == {"mtrl_fair"}
    assert any(name.endswith("py.typed") for name in names)
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "mtrl_fair").rglob("*.py")}
    assert sources <= set(names)


@pytest.mark.process
def test_alone_it_imports_and_combines(installed):
    assert Path(run_alone(installed, COMBINE).strip()).is_relative_to(installed[0])


@pytest.mark.process
def test_alone_only_modules_of_extras_do_not_import(installed):
    lines = [line.split() for line in run_alone(installed, IMPORT_ALL).splitlines()]
    assert {missing for _, missing in lines} <= EXTRAS
    public = {"mtrl_fair", *(f"mtrl_fair.{name}" for name in ("combiners", "solvers", "runs"))}
    assert not public & {name for name, _ in lines}
    assert "mtrl_fair.runs.metrics" in {name for name, _ in lines}  # else nothing was left out
