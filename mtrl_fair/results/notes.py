"""What one should know before one compares runs: each function returns lines for the user."""

from __future__ import annotations

from collections.abc import Sequence

from mtrl_fair.results.groups import RunGroup
from mtrl_fair.results.runs import RunResults


def mixed_commits(groups: Sequence[RunGroup]) -> list[str]:
    """Returns a line for each group whose runs are of several versions of the program."""
    found = []
    for group in groups:
        commits = sorted({commit for run in group.runs for commit in run.commits})
        if len(commits) > 1:
            found.append(f"the runs of {group.label} are of commits {', '.join(commits)}")
    return found


def stopped_at_success(runs: Sequence[RunResults]) -> list[str]:
    """Returns a line if runs could end at an evaluation because its success was high."""
    stopping = [str(run.path) for run in runs if run.settings["stop_at_success"] is not None]
    if not stopping:
        return []
    return [
        f"{', '.join(stopping)} ran with stop_at_success: a success at which a run ends is a high"
        " one; compare such runs by levels (table.py and plot.py have them)"
    ]


def unequal_intervals(runs: Sequence[RunResults]) -> list[str]:
    """Returns a line if some runs were evaluated more often, and so had more chances."""
    intervals = sorted({run.settings["eval_every"] for run in runs})
    if len(intervals) <= 1:
        return []
    return [
        f"the runs were evaluated every {', '.join(map(str, intervals))} steps: those evaluated"
        " more often tend to reach a level earlier and to have a higher best"
    ]
