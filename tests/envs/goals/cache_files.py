"""The files of the goal cache, of which most tests have one."""

from pathlib import Path

REACH = "reach-v3"


def only_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path
