"""A disk without space, for single files."""

from pathlib import Path


def fill_disk(*paths: Path) -> None:
    """Makes the next write of each of these files fail for want of space."""
    for path in paths:
        path.with_name(path.name + ".tmp").symlink_to("/dev/full")
