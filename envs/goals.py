"""The goals of a benchmark, drawn once per machine and then read from a file.

They depend only on the package's version, the benchmark and the seed. The files are JSON and safe
to delete at any time. Whoever changes the installed package's own source must delete them: its
version does not tell.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import warnings
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import metaworld
import numpy as np
from jaxtyping import Float
from metaworld.env_dict import ALL_V3_ENVIRONMENTS

from envs.constants import NUM_GOALS

FORMAT = 1
"""The version of the files' format, and part of their names."""

_UNUSABLE = (OSError, ValueError, TypeError, KeyError, RecursionError)
_folders_warned_of: set[str] = set()


def load_or_draw(
    tasks: str, names: Sequence[str], seed: int, draw: Callable[[], list[metaworld.Task]]
) -> list[metaworld.Task]:
    """Returns the training tasks of a benchmark: equal to those of `draw()`, byte for byte.

    A file that cannot be used is replaced, and a folder that cannot be written is done without:
    either costs a RuntimeWarning and the drawing, never the run. Numpy's global random state stays
    as it was.

    Args:
        tasks: the benchmark, "mt10", or the task of `metaworld.MT1`, "reach-v3".
        names: of its tasks, in the benchmark's order.
        seed: of the goals.
        draw: called only where the file does not serve.
    """
    try:
        key = f"{tasks}-seed{int(seed)}-metaworld{version('metaworld')}-format{FORMAT}"
        path = cache_folder() / f"{key}.json"
    except (RuntimeError, PackageNotFoundError) as error:  # no home folder, or no version
        _warn_not_cached("any folder", error)
        return draw()
    goals = _load(path, key, names)
    if goals is None:
        goals = draw()
        try:
            _store(path, key, names, goals)
        except _UNUSABLE as error:
            _warn_not_cached(str(path.parent), error)
    return goals


def draw_goals(names: Sequence[str], seed: int) -> list[metaworld.Task]:
    """Draws what the package's benchmarks draw: `metaworld.MT10(seed).train_tasks`, byte for byte.

    The package resets each environment for each goal, half a second per task. What it draws does
    not depend on what it simulates on the way.
    """
    # Imported only where goals are drawn: when it is imported, the engine compares its functions
    # with the libraries' own, a tenth of a second, and even `train.py --help` imports this file.
    from envs.engine.environment import fast_class

    state = np.random.get_state()
    np.random.seed(seed)
    try:
        goals = []
        for name in names:
            env = fast_class(name)()
            env._freeze_rand_vec = False
            vectors = [env.draw_goal() for _ in range(NUM_GOALS)]
            env.close()
            assert len(np.unique(vectors, axis=0)) == NUM_GOALS  # as the package does
            goals += _make_goals(name, vectors)
        return goals
    finally:
        np.random.set_state(state)


def cache_folder() -> Path:
    """Returns the folder of the files: `goals` in `$MTRL_FAIR_CACHE`, else in `mtrl-fair` in
    `$XDG_CACHE_HOME` or `~/.cache`.

    Raises:
        RuntimeError: it is below the home folder, and there is none.
    """
    cache, xdg_cache = (os.environ.get(name, "") for name in ("MTRL_FAIR_CACHE", "XDG_CACHE_HOME"))
    # XDG: "if an implementation encounters a relative path [...] it should ignore it".
    caches = Path(xdg_cache if os.path.isabs(xdg_cache) else "~/.cache")
    return (Path(cache) if cache else caches / "mtrl-fair").expanduser() / "goals"


def _load(path: Path, key: str, names: Sequence[str]) -> list[metaworld.Task] | None:
    try:
        if not path.exists():
            return None
        if not path.is_file():
            raise ValueError("it is no regular file")  # to read a pipe could take for ever
        return _decode(path.read_bytes(), key, names)
    except _UNUSABLE as error:
        warnings.warn(
            f"the goal cache {path} cannot be used, so its goals are drawn again and the file is"
            f" replaced ({type(error).__name__}: {error})",
            RuntimeWarning,
            stacklevel=4,
        )
        return None


def _store(path: Path, key: str, names: Sequence[str], goals: list[metaworld.Task]) -> None:
    """Under the final name, there is the whole file or what was there before, at any moment."""
    encoded = _encode(key, goals)
    if _decode(encoded, key, names) != goals:
        raise ValueError("the package's tasks hold more than goal vectors")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        path.rmdir()  # only if it is empty
    temporary = path.with_name(f"{path.name}.{os.urandom(8).hex()}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(encoded)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _encode(key: str, goals: Sequence[metaworld.Task]) -> bytes:
    vectors: dict[str, list[list[float]]] = {}
    for goal in goals:
        vector = pickle.loads(goal.data)["rand_vec"].tolist()
        vectors.setdefault(goal.env_name, []).append(vector)
    content = {"key": key, "goals": vectors}
    return json.dumps({"sha256": _checksum(content), "content": content}).encode()


def _decode(encoded: bytes, key: str, names: Sequence[str]) -> list[metaworld.Task]:
    """Raises one of `_UNUSABLE` unless the file is whole and holds what is asked for."""
    document = json.loads(encoded)
    content = document["content"]
    if document["sha256"] != _checksum(content):
        raise ValueError("its checksum is not that of its content")
    if content["key"] != key:
        raise ValueError(f"it holds the goals of {content['key']}")
    if list(content["goals"]) != list(names):
        raise ValueError(f"it holds the tasks {', '.join(content['goals'])}")
    goals = []
    for name in names:
        vectors: Float[np.ndarray, "goal coordinate"] = np.array(content["goals"][name])
        if vectors.shape[:-1] != (NUM_GOALS,) or vectors.dtype != np.float64:
            raise ValueError(f"{name} has other goals than {NUM_GOALS} vectors of one length")
        if not np.isfinite(vectors).all():
            raise ValueError(f"{name} has goals that are not finite")
        goals += _make_goals(name, vectors)
    return goals


def _make_goals(
    name: str, vectors: Iterable[Float[np.ndarray, " coordinate"]]
) -> list[metaworld.Task]:
    """As `metaworld._make_tasks` does."""
    kwargs = {"env_cls": ALL_V3_ENVIRONMENTS[name], "partially_observable": False}
    return [
        metaworld.Task(name, pickle.dumps({"rand_vec": vector, **kwargs})) for vector in vectors
    ]


def _checksum(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _warn_not_cached(folder: str, error: Exception) -> None:
    if folder in _folders_warned_of:
        return
    _folders_warned_of.add(folder)  # or a list of tasks would repeat it
    warnings.warn(
        f"goals are not cached in {folder}, so every start draws them again, in some tenths of a"
        " second per task; MTRL_FAIR_CACHE can name another folder"
        f" ({type(error).__name__}: {error})",
        RuntimeWarning,
        stacklevel=4,
    )
