"""The folder of a comparison: made anew, or read back to be resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mtrl_fair.checks import check_name
from mtrl_fair.errors import RunError
from mtrl_fair.machine import describe_machine
from mtrl_fair.runs import RunDirectory, make_folder, write_json
from mtrl_fair.runs.files import is_name, read_object
from mtrl_fair.supervised.registry import benchmark_class
from scripts.command_line import resolve_device
from scripts.comparing.arguments import Arguments
from scripts.comparing.plan import PLAN


def open_folder(
    folder: Path, plan: dict[str, Any], is_resumed: bool, *, numbered: bool = False
) -> RunDirectory:
    """Makes the folder, or takes the one to resume, and locks it.

    Args:
        folder: where the comparison is to be.
        plan: what to write there.
        is_resumed: whether the folder is one to resume.
        numbered: makes FOLDER-2, FOLDER-3, … where others are there already.

    Raises:
        RunError: the folder exists, cannot be made, or another process is training there.
    """
    if not is_resumed:
        try:
            folder = make_folder(folder, numbered=numbered)
        except FileExistsError:
            raise RunError(
                f"the folder {folder} exists: choose another with --run-dir, or continue what is"
                f" there with --resume {folder}"
            ) from None
        except OSError as error:
            raise RunError(
                f"the folder {folder} cannot be made ({error.strerror}): choose another with"
                " --run-dir"
            ) from error
    directory = RunDirectory(folder, plan)
    directory.lock()
    if not is_resumed:
        write_json(folder / PLAN, plan | describe_machine())
    return directory


def read_plan(arguments: Arguments) -> dict[str, Any]:
    """Returns the plan in the folder to resume, with the flags that may change.

    Raises:
        RunError: there is no plan, it cannot be read, or a flag would make it another one.
        ValueError: the device is not there.
    """
    assert arguments.resume is not None
    path = arguments.resume / PLAN
    allowed = Arguments(
        resume=arguments.resume,
        data=arguments.data,
        device=arguments.device,
        jobs=arguments.jobs,
        loader_workers=arguments.loader_workers,
    )
    if arguments != allowed:
        raise RunError(
            f"--resume continues {arguments.resume} as it was configured: only --data, --device,"
            " --jobs and --loader-workers may be given with it"
        )
    if not path.is_file():
        raise RunError(f"there is nothing to resume at {arguments.resume}: no {PLAN} there")
    changes: dict[str, Any] = {}
    if arguments.device is not None:
        changes["device"] = str(resolve_device(arguments.device))
    if arguments.data is not None:
        changes["data"] = str(arguments.data.resolve())
    if arguments.loader_workers is not None:
        changes["loader_workers"] = arguments.loader_workers
    plan = read_object(path, "restore the file")
    try:
        for run in plan["runs"]:
            run["config"] |= changes
        plan["jobs"] = arguments.jobs or plan["jobs"]
        _check_plan(plan)
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} cannot be read ({error}): restore the file") from error
    return plan


def _check_plan(plan: dict[str, Any]) -> None:
    """Raises ValueError or KeyError unless a plan that was read is one that `make_plan` made."""
    benchmark_class(plan["benchmark"])
    check_name("single_task", plan["single_task"], ("train", "published", "none"))
    if not (isinstance(plan["jobs"], int) and plan["jobs"] >= 1):
        raise ValueError(f"jobs is {plan['jobs']}, expected at least 1")
    folders = [run["folder"] for run in plan["runs"]]
    if not folders or len(set(folders)) < len(folders):
        raise ValueError("each run needs a folder of its own")
    for run in plan["runs"]:
        # A name, so that no run lies outside of the comparison's folder.
        name = run["folder"]
        if not is_name(name):
            raise ValueError(f"{name!r} is no name of a run")
        if not isinstance(run["method"], str):
            raise ValueError(f"{run['method']!r} is no name of a method")
        if run["config"]["benchmark"] != plan["benchmark"]:
            raise ValueError(f"{run['folder']} is a run of {run['config']['benchmark']}")
