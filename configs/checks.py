"""Checks of settings together: values that contradict each other, or have no effect."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from configs.config import FAIRGRAD_SETTINGS, TrainConfig
from envs.evaluation import check_episodes
from envs.tasks import check_goals_of, task_names
from mtrl_fair import COMBINERS, Combiner, make_combiner
from mtrl_fair.checks import check_name
from mtrl_fair.combiners.registry import combiner_options, combiners_with_option
from mtrl_fair.runs.settings import flag_name

NEEDS_BOUND = combiners_with_option("min_loss")
"""Combiners that need a lower bound of the losses, which an actor's do not have by themselves."""

NEEDED_VALUES: dict[str, tuple[str, tuple[Any, ...]]] = {
    "combining.precondition": ("solver", ("sgd", "least_squares")),
    "combining.weighted_heads": ("architecture", ("multi_head",)),
    "agent.task_embedding_size": ("architecture", ("task_encoded",)),
    "agent.reward_rate": ("agent.normalize_reward", (True,)),
}
"""Settings that have an effect only if another setting has one of some values."""


def check_config(config: TrainConfig, preset: TrainConfig | None = None) -> None:
    """Raises ValueError on the first value that is wrong, by itself or beside others.

    Args:
        config: the settings.
        preset: those that the user began with; a setting that differs must have an effect.
    """
    config.check_fields()
    tasks = config.tasks[0] if len(config.tasks) == 1 else config.tasks
    names = task_names(tasks)
    check_goals_of(config.environment.goals_of, tasks)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"--tasks names {', '.join(repeated)} more than once: name each once")
    _check_combiners(config, len(names))
    for key, needed in unused_settings(config).items() if preset is not None else ():
        value = attrgetter(key)(config)
        if value != attrgetter(key)(preset):
            raise ValueError(
                f"{flag_name(key)} is {value}, but it only has an effect with {needed}: choose"
                " that, or leave it out"
            )
    check_episodes(config.eval_episodes, config.environment.num_goals)


def unused_settings(config: TrainConfig) -> dict[str, str]:
    """Returns the settings that have no effect in this run, under dotted keys, each with the flag
    that would give it one."""
    networks = config.combined_networks()
    unused = {}
    if config.combining.critic and config.combining.actor and "temperature" not in networks:
        unused["combiner"] = "--combining.critic None or --combining.actor None"
    for key, (other, values) in NEEDED_VALUES.items():
        if attrgetter(other)(config) not in values:
            unused[key] = f"{flag_name(other)} {' or '.join(map(str, values))}"
    # The critic's losses are squares and have the bound 0.
    unbounded = {config.combiner_of(network) for network in networks if network != "critic"}
    if unbounded.isdisjoint(NEEDS_BOUND):
        unused["combining.actor_min_loss"] = (
            f"one of {', '.join(NEEDS_BOUND)} as the combiner of the actor or the temperature"
        )
    # Last, because without FairGrad it says nothing what else a setting of FairGrad needs.
    if "fairgrad" not in config.combiners():
        unused |= dict.fromkeys(FAIRGRAD_SETTINGS.values(), "--combiner fairgrad")
    return unused


def _check_combiners(config: TrainConfig, num_tasks: int) -> None:
    """Raises ValueError if a combiner refuses its options, or an option belongs to none."""
    used = sorted(config.combiners())
    if "graddrop" in used and config.combining.weighted_heads:
        raise ValueError(
            "--combining.weighted-heads is true, but graddrop has no weights for heads"
        )
    make_combiner("fairgrad", num_tasks=num_tasks, **config.fairgrad_options())
    valid = {name: _method_options(name) for name in used}
    for option in config.combining.options:
        check_name(
            f"option of {' and '.join(used)}", option, [o for name in used for o in valid[name]]
        )
    for name in used:
        options = {k: v for k, v in config.combining.options.items() if k in valid[name]}
        make_combiner(name, num_tasks=num_tasks, **options)


def _method_options(combiner: str) -> list[str]:
    """Returns the options of a combiner that `combining.options` gives it: those that no other
    setting stands for."""
    common = {*combiner_options(Combiner), *FAIRGRAD_SETTINGS, "seed", "min_loss"}
    return [name for name in combiner_options(COMBINERS[combiner]) if name not in common]
