"""Figures as files."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.figure import Figure

from mtrl_fair.runs.files import write_bytes


def save_figure(figure: Figure, path: Path, dpi: int = 150) -> None:
    """Writes a figure in the format of its name's ending, as a whole or not at all.

    Raises:
        WriteError: it cannot be written.
    """
    # Without its date, the same figure is the same file.
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(file_format(path))
    content = io.BytesIO()
    figure.savefig(content, format=file_format(path), dpi=dpi, metadata=metadata)
    write_bytes(path, content.getvalue())


def file_format(path: Path) -> str:
    """Returns the format that the ending of a figure's name stands for."""
    return path.suffix[1:].lower()
