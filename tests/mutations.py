"""Breaks the program on purpose, one line at a time, and shows that the quick tests notice.

python tests/mutations.py [NUMBER ...]    all of them, or those with these numbers

Each mutation is made in a copy of the checkout, where the quick tests of its room then run. A
mutation that no test notices is a line that nothing proves: write the test. A mutation whose line
is gone is an error: choose another line.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
QUICK = ("-x", "-q", "-p", "no:cacheprovider", "-m", "not process and not slow and not long")


class Mutation(NamedTuple):
    """One line of a file, what it becomes, and the tests that should notice."""

    file: str
    line: str
    becomes: str
    tests: str


COMBINERS = "tests/mtrl_fair/combiners"
MUTATIONS = [
    # mtrl_fair
    Mutation("mtrl_fair/combiners/scale.py", "len(solved.weights), norm, norm_of_sum)", "len(solved.weights), norm_of_sum, norm)", f"{COMBINERS}/test_combiner_scale.py"),
    Mutation("mtrl_fair/combiners/base.py", "gramian.diagonal() > 0", "gramian.diagonal() >= 0", COMBINERS),
    Mutation("mtrl_fair/combiners/base.py", "name: rows * per_row(info.weights, rows)", "name: rows", COMBINERS),
    Mutation("mtrl_fair/combiners/by_losses.py", "1 / held", "1 / held.clamp(min=1)", COMBINERS),
    Mutation("mtrl_fair/combiners/methods/pcgrad.py", "change.where(conflicts, 0)", "change", COMBINERS),
    Mutation("mtrl_fair/combiners/methods/cagrad.py", "/ (1 + c**2)", "/ (1 + c)", COMBINERS),
    Mutation("mtrl_fair/checks.py", "if name in valid:", "if name:", f"tests/mtrl_fair/test_checks.py {COMBINERS}/test_registry.py"),
    Mutation("mtrl_fair/losses.py", "counts.clamp(min=1)", "counts.clamp(min=2)", "tests/mtrl_fair"),
    Mutation("mtrl_fair/gradients/gramian.py", "(cut @ cut.mT).sum(0) + rest @ rest.mT", "(cut @ cut.mT).sum(0)", "tests/mtrl_fair/gradients"),
    Mutation("mtrl_fair/gradients/task_parameter.py", "operand.copies.view(shape)", "operand.copies[:1].expand_as(operand.copies).view(shape)", "tests/mtrl_fair/gradients"),
    Mutation("mtrl_fair/solvers/newton.py", "UPHILL = 0.1", "UPHILL = 1e9", "tests/mtrl_fair/solvers"),
    Mutation("mtrl_fair/solvers/newton.py", "FIXED_ITERATIONS = 64", "FIXED_ITERATIONS = 25", "tests/mtrl_fair/solvers"),
    Mutation("mtrl_fair/solvers/problem.py", "stand_in = (one * ~active)", "stand_in = (0 * one * ~active)", "tests/mtrl_fair/solvers"),
    Mutation("mtrl_fair/runs/directory.py", "keys = sorted(saved.keys() - self.kind.may_change)", "keys = []", "tests/mtrl_fair/runs"),
    Mutation("mtrl_fair/runs/settings.py", "type(value) is hint or", "isinstance(value, hint) or", "tests/mtrl_fair/runs"),
    Mutation("mtrl_fair/runs/checkpoints.py", "generator.set_state(state)", "pass", "tests/mtrl_fair/runs tests/agents/test_state.py tests/agents/test_replay.py"),
    Mutation("mtrl_fair/results/statistics.py", "scores.reshape(*scores.shape[:-2], -1), 0.25", "scores.reshape(*scores.shape[:-2], -1), 0.1", "tests/mtrl_fair/results/test_statistics.py"),
    Mutation("mtrl_fair/results/levels.py", "run.seconds[index] / 60", "run.seconds[index]", "tests/mtrl_fair/results"),
    Mutation("mtrl_fair/supervised/scores.py", "np.where(higher, -1.0, 1.0)", "np.where(higher, 1.0, -1.0)", "tests/mtrl_fair/supervised/test_scores.py"),
    # agents
    Mutation("agents/critic.py", "next_q.amin(1) - temperature", "next_q.mean(1) - temperature", "tests/agents/test_critic.py"),
    Mutation("agents/critic.py", "reward + discount * (1.0 - terminated) * next_value", "reward + discount * next_value", "tests/agents/test_critic.py"),
    Mutation("agents/critic.py", "q_values(self.target_network, batch.next", "q_values(self.network, batch.next", "tests/agents/test_sac.py"),
    Mutation("agents/actor.py", "noise is None and self.average_network", "self.average_network", "tests/agents/test_state.py"),
    Mutation("agents/temperature.py", "log_prob.mean(-1) + target_entropy", "log_prob.mean(-1) - target_entropy", "tests/agents"),
    Mutation("agents/combined_optimizer.py", "per_task = losses + head_norms", "per_task = losses", "tests/agents/test_finite_guard.py"),
    Mutation("agents/finite_guard.py", "wrong & first", "wrong", "tests/agents/test_finite_guard.py"),
    Mutation("agents/replay.py", "self.position = (self.position + 1) % self.capacity", "self.position = (self.position + 2) % self.capacity", "tests/agents/test_replay.py"),
    # envs
    Mutation("envs/row.py", "truncated = elapsed >= arrays.horizon[row]", "truncated = elapsed > arrays.horizon[row]", "tests/envs"),
    Mutation("envs/goal_order.py", "np.random.default_rng([row_seed, row])", "np.random.default_rng([row_seed, 0])", "tests/envs"),
    Mutation("envs/workers/assignment.py", "load, worker = min(loads)", "load, worker = max(loads)", "tests/envs/workers"),
    Mutation("envs/evaluation.py", "returns[rows, finished[rows]] += reward", "returns[rows, finished[rows]] = reward", "tests/envs"),
    # configs and scripts
    Mutation("configs/build.py", 'goal_order="sequential" if evaluation else "random"', 'goal_order="random"', "tests/configs tests/scripts/test_train.py tests/scripts/test_evaluate.py"),
    Mutation("configs/build.py", '0.0 if network == "critic" else config.combining.actor_min_loss', "0.0", "tests/configs"),
    Mutation("scripts/training/loop.py", "math.floor((self.step + 1) * rate)", "math.ceil((self.step + 1) * rate)", "tests/scripts/training"),
    Mutation("scripts/training/loop.py", "reward, terminated, final_observation))", "reward, terminated, next_observation))", "tests/scripts/training"),
]  # fmt: skip


def copy(folder: Path) -> Path:
    """Copies what git tracks."""
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    ).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    return folder


def run_tests(folder: Path, tests: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", *QUICK, *tests.split()],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(folder)},  # not the checkout that is installed
    )


def try_mutation(number: int) -> str:
    """Makes a mutation and runs its tests; returns one line, which begins with caught or MISSED."""
    mutation = MUTATIONS[number]
    with tempfile.TemporaryDirectory() as name:
        folder = copy(Path(name))
        path = folder / mutation.file
        text = path.read_text()
        if text.count(mutation.line) != 1:
            return f"STALE  {number:2} {mutation.file}: {mutation.line!r} is not there once"
        path.write_text(text.replace(mutation.line, mutation.becomes))
        result = run_tests(folder, mutation.tests)
    failed = [line for line in result.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    what = f"{number:2} {mutation.file}: {mutation.line} -> {mutation.becomes}"
    if result.returncode == 1 and failed:
        return f"caught {what}\n          by {failed[0].split(' - ')[0].split('::', 1)[-1]}"
    return f"MISSED {what} (pytest ended with {result.returncode})"


def main(words: list[str]) -> None:
    numbers = [int(word) for word in words] or list(range(len(MUTATIONS)))
    every = " ".join(dict.fromkeys(" ".join(MUTATIONS[n].tests for n in numbers).split()))
    with tempfile.TemporaryDirectory() as name:
        untouched = run_tests(copy(Path(name)), every)
    if untouched.returncode != 0:
        sys.exit(f"these tests fail without a mutation:\n{untouched.stdout[-2000:]}")
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        lines = list(pool.map(try_mutation, numbers))
    print("\n".join(lines))
    caught = sum(line.startswith("caught") for line in lines)
    print(f"{caught} of {len(lines)} mutations were caught")
    sys.exit(caught < len(lines))


if __name__ == "__main__":
    main(sys.argv[1:])
