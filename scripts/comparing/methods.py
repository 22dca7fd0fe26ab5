"""The methods that are compared, each a row of the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mtrl_fair import COMBINERS, Scale
from mtrl_fair.checks import check_name
from scripts.comparing.arguments import Arguments


@dataclass(frozen=True)
class Method:
    """A row of the table, and the settings in which it differs from the other rows."""

    name: str
    settings: dict[str, Any]


def make_methods(arguments: Arguments) -> list[Method]:
    """Returns the rows of the table, without single-task training.

    Raises:
        ValueError: flags contradict each other; or a name is unknown, is given twice, or is several
            in one word.
    """
    names = arguments.compare or (() if arguments.alphas else (arguments.combiner,))
    _check_flags(arguments, names)
    _check_names(names)
    methods = []
    for name in names:
        settings = {"combiner": name, "scale": _scale_of(name, arguments)}
        fair = settings | {"alpha_fair": arguments.alpha_fair}
        if arguments.compare or arguments.alpha_fair is None:
            methods.append(Method(name, settings))
        if arguments.alpha_fair is not None:
            methods.append(Method(f"fair-{name}", fair))
    methods += [
        Method(
            f"fairgrad α={alpha:g}",
            {"combiner": "fairgrad", "alpha": alpha, "scale": _scale_of("fairgrad", arguments)},
        )
        for alpha in arguments.alphas
    ]
    twice = [m.name for i, m in enumerate(methods) if m.name in [x.name for x in methods[:i]]]
    if twice:
        raise ValueError(f"{', '.join(twice)} would be trained twice: name each method once")
    return methods


def _check_flags(arguments: Arguments, names: Sequence[str]) -> None:
    """Raises ValueError if a flag contradicts another one, or would have no effect."""
    if arguments.compare and arguments.combiner != "fairgrad":
        raise ValueError(f"--combiner {arguments.combiner} trains one method: add it to --compare")
    if arguments.alphas and arguments.combiner != "fairgrad":
        raise ValueError("--alphas belongs to fairgrad: leave it or --combiner out")
    if "fairgrad" in names and arguments.alpha in arguments.alphas:
        raise ValueError(
            f"--alphas {arguments.alpha:g} is what fairgrad trains already: leave one out"
        )
    if arguments.alphas and not arguments.compare and arguments.alpha_fair is not None:
        raise ValueError(
            f"--alpha-fair {arguments.alpha_fair} does not apply to --alphas: leave one out"
        )
    fairgrad = bool(arguments.alphas) or "fairgrad" in names
    for flag, value, default in (
        ("--alpha", arguments.alpha, Arguments.alpha),
        ("--solver", arguments.solver, Arguments.solver),
    ):
        if value != default and not fairgrad:
            raise ValueError(f"{flag} {value} belongs to fairgrad, which is not trained")


def _check_names(names: Sequence[str]) -> None:
    """Raises ValueError if a name is no combiner's."""
    for name in names:
        if "," in name:
            words = " ".join(" ".join(names).replace(",", " ").split())
            raise ValueError(
                f"{name!r} is no combiner: separate names by blanks, --compare {words}"
            )
        check_name("combiner", name, COMBINERS)


def _scale_of(combiner: str, arguments: Arguments) -> Scale:
    """Returns the scale of the direction.

    FairGrad's default is that of its authors' supervised code, which multiplies the direction by
    the number of tasks.
    """
    return arguments.scale or ("tasks" if combiner == "fairgrad" else "none")
