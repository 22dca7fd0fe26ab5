"""The benchmark of environments: each candidate does what its name says, and files say what it
printed."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
import pytest

from envs import TaskSet, make_vec
from envs.engine.environment import fast_class
from scripts import bench
from scripts.benchmarks import env, env_parts, physics, stepping

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
DOCUMENT = ROOT / "docs" / "environments.md"
TASKS = ("drawer-close-v3", "reach-v3")
QUICK = ["--tasks", TASKS[0], "--rounds", "1", "--constructions", "1", "--resets", "1"]
RATIOS = {
    *("vs_async", "vs_sync", "share_of_physics"),
    *("vs_async_warm", "vs_sync_warm", "share_of_physics_warm"),
    *("construction_vs_package", "reset_vs_package", "reset_vs_package_worst"),
    "update_with_idle_workers",
}


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[dict, str, str]:
    """What the real script writes to JSON and to a document, and prints."""
    folder = tmp_path_factory.mktemp("bench")
    path, document = folder / "bench.json", folder / "environments.md"
    document.write_text("before\n<!-- env -->\nold\n<!-- end env -->\nafter\n")
    result = subprocess.run(
        [
            *(sys.executable, str(ROOT / "scripts" / "bench.py"), "env", *QUICK),
            *("--updates", "1", "--json", str(path), "--docs", str(document)),
        ],
        capture_output=True,
        text=True,
        check=False,
        # One thread, because two wait for each other on a busy machine.
        env=os.environ | {"OMP_NUM_THREADS": "1", "MTRL_FAIR_CACHE": str(folder)},
    )
    assert result.returncode == 0, result.stderr
    return json.loads(path.read_text()), document.read_text(), result.stdout


def rows_of(written, measurement: str) -> list[dict]:
    return [row for row in written[0]["rows"] if row["measurement"] == measurement]


def test_it_writes_positive_rows_and_the_ratios_of_the_design(written):
    result = written[0]
    assert {"commit", "machine", "versions", "rows", "ratios"} <= set(result)
    assert set(result["ratios"]) == RATIOS
    engines = [row["engine"] for row in rows_of(written, "speed")]
    assert set(engines) == {env.ASYNC, env.SYNC, env.FIRST_RESETS, env.GOALS_SEEN, env.PHYSICS}
    kinds = [row["environments"] for row in rows_of(written, "construction")]
    assert set(kinds) == {env.FIRST, env_parts.PAIR, env.ASYNC}
    assert [row["task"] for row in rows_of(written, "reset")] == [TASKS[0]]
    assert {row["workers"] for row in rows_of(written, "update")} == {env.WITHOUT, env.WITH}
    numbers = [
        value for row in result["rows"] for value in row.values() if not isinstance(value, str)
    ]
    numbers = [number for value in numbers for number in np.atleast_1d(value)]
    assert min([*numbers, *result["ratios"].values()]) > 0


def test_its_ratios_are_those_of_its_rows(written):
    ratios = written[0]["ratios"]
    speed = {row["engine"]: row["env_steps_per_second"] for row in rows_of(written, "speed")}
    for ending, ours in (("", env.FIRST_RESETS), ("_warm", env.GOALS_SEEN)):
        for name, other in (
            ("vs_async", env.ASYNC),
            ("vs_sync", env.SYNC),
            ("share_of_physics", env.PHYSICS),
        ):
            assert ratios[name + ending] == speed[ours] / speed[other]
    seconds = {row["environments"]: row["seconds"] for row in rows_of(written, "construction")}
    assert ratios["construction_vs_package"] == seconds[env.ASYNC] / seconds[env.FIRST]
    faster = [
        row["package_milliseconds"] / row["milliseconds"] for row in rows_of(written, "reset")
    ]
    assert ratios["reset_vs_package"] == pytest.approx(median(faster))
    assert ratios["reset_vs_package_worst"] == pytest.approx(min(faster))
    updates = {row["workers"]: row["milliseconds"] for row in rows_of(written, "update")}
    assert ratios["update_with_idle_workers"] == updates[env.WITHOUT] / updates[env.WITH]


def test_the_document_s_section_alone_is_replaced(written):
    result, document, printed = written
    before, section, after = re.split("<!-- (?:end )?env -->", document)
    assert (before, after) == ("before\n", "\nafter\n")
    assert "old" not in section
    cells = re.findall(r"^\| `(\w+)` \| ([\d.e+-]+) \|$", section, re.MULTILINE)
    assert {name: float(text) for name, text in cells} == {
        name: pytest.approx(ratio, rel=0.01) for name, ratio in result["ratios"].items()
    }
    assert all(name in printed for name in RATIOS)


def test_mt50_has_ratios_of_its_own(monkeypatch):
    rows = [
        {"engine": name, "tasks": "mt50", "env_steps_per_second": speed}
        for name, speed in (
            (env.SYNC, 4.0),
            (env.ASYNC, 2.0),
            (env.FIRST_RESETS, 8.0),
            (env.GOALS_SEEN, 10.0),
            (env.PHYSICS, 16.0),
        )
    ]
    measured = []

    def measure_speed(tasks, *arguments):
        measured.append(tasks)
        return rows

    monkeypatch.setattr(env, "measure_speed", measure_speed)
    construction = [
        {"environments": name, "tasks": "mt10", "seconds": 1.0}
        for name in (env.FIRST, env_parts.PAIR, env.ASYNC)
    ]
    resets = [
        {"task": "x", "package_milliseconds": faster, "milliseconds": 1.0, "vs_package": faster}
        for faster in (9.0, 2.0, 3.0)
    ]
    updates = [
        {"workers": name, "tasks": "mt10", "milliseconds": 1.0} for name in (env.WITHOUT, env.WITH)
    ]
    monkeypatch.setattr(env, "measure_construction", lambda *arguments: construction)
    monkeypatch.setattr(env, "build_task_set", lambda config: None)
    monkeypatch.setattr(env, "measure_resets", lambda *arguments: resets)
    monkeypatch.setattr(env, "measure_updates", lambda *arguments: updates)
    report = env.run(env.EnvArguments(mt50=1), env.Console(quiet=True))
    assert measured == [("mt10",), ("mt50",)]
    assert report.ratios["vs_async"] == report.ratios["mt50_vs_async"] == 4.0
    assert report.ratios["mt50_vs_sync_warm"] == 2.5
    assert report.ratios["mt50_share_of_physics"] == 0.5
    assert report.ratios["reset_vs_package"] == 3.0
    assert report.ratios["reset_vs_package_worst"] == 2.0


def test_the_physics_moves_as_the_environment_does():
    (name,), (goals,) = TaskSet.make("drawer-close-v3", seed=3)
    actions = np.random.default_rng(0).uniform(-1.2, 1.2, (510, 4)).astype(np.float32)
    row = physics.PhysicsRow(name, goals)
    row.prepare(1, actions)
    physics.simulate([row], len(actions))
    reference = fast_class(name)()
    reference.set_task(goals[1])
    reference.reset()
    for action in actions[500:]:  # the second episode, which starts where the first one did
        reference.step(action)
    np.testing.assert_array_equal(row.data.qpos, reference.data.qpos)
    np.testing.assert_array_equal(row.data.mocap_pos, reference.data.mocap_pos)


def test_the_second_turn_repeats_the_first_one_s_episodes(monkeypatch):
    goals_before, goals_after, observations = [], [], []

    def step_through(venv, actions):
        goals_before.append(venv.state_dict()["goal"].tolist())
        for action in actions:
            observation, *_ = venv.step(action)
        goals_after.append(venv.state_dict()["goal"].tolist())
        observations.append(observation)
        return 1.0

    monkeypatch.setattr(stepping, "step_through", step_through)
    venv = make_vec(TASKS, seed=3, goal_order="sequential", max_episode_steps=10)
    try:
        stepping.warm_up(venv)
        turns = stepping.our_turns(venv)
        actions = np.random.default_rng(0).uniform(-1, 1, (10, 2, 4)).astype(np.float32)
        for _ in range(2):
            for turn in turns.values():
                turn(actions)
    finally:
        venv.close()
    assert goals_before == [[0, 0], [0, 0], [1, 1], [1, 1]]
    assert goals_after == [[1, 1], [1, 1], [2, 2], [2, 2]]
    np.testing.assert_array_equal(observations[2], observations[3])


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_the_package_s_processes_end_with_an_error():
    processes = []

    def interrupted() -> None:
        with stepping.package_envs(("drawer-close-v3",), "async", 1) as venv:
            venv.reset()
            processes.extend(venv.processes)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    assert processes
    assert not any(process.is_alive() for process in processes)


def test_the_goal_cache_is_another_one_for_a_moment(monkeypatch, tmp_path):
    monkeypatch.setenv("MTRL_FAIR_CACHE", str(tmp_path))
    with env_parts.empty_goal_cache():
        folder = Path(os.environ["MTRL_FAIR_CACHE"])
        assert folder != tmp_path
        assert not list(folder.iterdir())
    assert not folder.exists()
    assert os.environ["MTRL_FAIR_CACHE"] == str(tmp_path)


def test_costs_are_lines_for_the_source(monkeypatch, tmp_path, capsys):
    pair = TaskSet.make(TASKS, seed=3)
    asked = []

    class Pair:
        @staticmethod
        def make(tasks, seed):
            asked.append(tasks)
            return pair

    monkeypatch.setattr(env, "TaskSet", Pair)
    path = tmp_path / "costs.json"
    start = time.perf_counter()
    bench.main(["env", "--costs", "--rounds", "1", "--json", str(path)])
    seconds = time.perf_counter() - start
    assert asked == ["mt50"]
    lines = re.findall(r'^    "([\w-]+)": ([\d.]+),$', capsys.readouterr().out, re.MULTILINE)
    rows = json.loads(path.read_text())["rows"]
    assert [(row["task"], f"{row['microseconds']:.1f}") for row in rows] == lines
    assert [name for name, _ in lines] == list(TASKS)
    assert 0 < sum(row["microseconds"] for row in rows) * 500 / 1e6 < seconds


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tasks", "rech-v3"], "did you mean reach-v3"),
        (["--tasks", "mt10", "reach-v3"], "mt10 is a whole benchmark"),
        (["--steps", "100"], "--steps is 100, expected a multiple of 500"),
        (["--rounds", "0"], "--rounds is 0, expected at least 1"),
        (["--seed", "-1"], "--seed is -1"),
        (["--num-workers", "0"], "--num-workers is 0, expected at least 1"),
        (["--rounds", "25", "--steps", "1000"], "is 50, expected less than the 50 goals"),
        (["--costs", "--mt50"], "--costs measures nothing else"),
        (["--docs", "nowhere.md"], "nowhere.md is no document with a section"),
        (["--json", "nowhere/x.json"], "there is no folder nowhere"),
    ],
)
def test_wrong_arguments_are_refused(words, message, capsys):
    with pytest.raises(SystemExit) as caught:
        bench.main(["env", *words])
    assert caught.value.code == 2
    assert message in " ".join(re.sub("[│|]", "", capsys.readouterr().err).split())


def test_the_document_s_python_runs_as_it_stands(monkeypatch, tmp_path):
    monkeypatch.setenv("MTRL_FAIR_CACHE", str(tmp_path))
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert len(blocks) >= 5
    exec("\n".join(blocks), {})


def test_the_document_has_the_benchmark_s_section():
    before, section, _ = re.split("<!-- (?:end )?env -->", DOCUMENT.read_text())
    assert "bench.py env" in before
    assert all(f"`{name}`" in section for name in (*RATIOS, "mt50_vs_async"))
