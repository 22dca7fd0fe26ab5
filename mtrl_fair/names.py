"""Names given by users, checked against the names that exist."""

from __future__ import annotations

import difflib
from collections.abc import Collection


def check_name(kind: str, name: str, valid: Collection[str], listing: str | None = None) -> None:
    """Raises ValueError, with the nearest valid names, unless `name` is one of `valid`.

    `listing` describes the valid names where they are too many to print.
    """
    if name in valid:
        return
    nearest = difflib.get_close_matches(str(name), valid, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(nearest)}? " if nearest else ""
    raise ValueError(f"unknown {kind} {name!r}: {hint}valid: {listing or ', '.join(valid)}")
