"""What only a trainer knows about the settings of its runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtrl_fair.runs import RunKind


@dataclass(frozen=True)
class SettingRules:
    """Tells this package about a trainer's settings, because it knows no trainer itself."""

    kind: RunKind
    """What is in the directories of the trainer's runs."""
    defaults: Mapping[str, Any]
    """Under dotted keys: the values of settings that an older run does not have."""
    may_differ: Collection[str]
    """Settings in which the runs of one group may differ, such as the seed."""
    needs_combiner: Mapping[str, str]
    """Settings that have an effect with one combiner only, and which: {"alpha": "fairgrad"}."""
    task_names: Callable[[Sequence[str]], Sequence[str]]
    """Returns the names of the tasks that a run's setting `tasks` stands for."""
