"""Reads training runs for the commands that compare them: plot.py, table.py and archive.py."""

from __future__ import annotations

from collections.abc import Sequence

from configs import FAIRGRAD_SETTINGS, MAY_CHANGE, RUN_KIND, TrainConfig, to_dict
from envs.tasks import task_names
from mtrl_fair.results.rules import SettingRules
from mtrl_fair.results.runs import RunResults, read_runs
from mtrl_fair.runs.files import flatten
from scripts.command_line import bad_input_is_one_line


def _task_names(tasks: Sequence[str]) -> tuple[str, ...]:
    # ["mt10"] is a benchmark, ["reach-v3"] a list of one task.
    return task_names(tasks[0] if len(tasks) == 1 else tasks)


RULES = SettingRules(
    kind=RUN_KIND,
    defaults=flatten(to_dict(TrainConfig())),
    may_differ=MAY_CHANGE | {"seed", "eval_every", "log_every"},
    needs_combiner=dict.fromkeys(FAIRGRAD_SETTINGS.values(), "fairgrad"),
    task_names=_task_names,
)
"""What train.py says about the settings of its runs."""


def read_training_runs(places: Sequence[str]) -> list[RunResults]:
    """Reads the runs that a command names; it ends with one line if there is none or one is bad."""
    with bad_input_is_one_line():
        return read_runs(places, RULES)
