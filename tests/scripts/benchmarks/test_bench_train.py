"""The benchmark of the training loop: every moment counts once, for the part that it belongs to."""

import io
import json
import re

import pytest
import torch
from rich.console import Console

from agents import MultiTaskSAC, ReplayBuffer
from configs import PRESETS
from envs import MetaWorldVectorEnv
from mtrl_fair.runs import RunDirectory
from mtrl_fair.runs.metrics import MetricLogger
from scripts.benchmarks import train
from scripts.benchmarks.train import LOGGING, PARTS, REST, TrainArguments
from scripts.command_line import parse
from scripts.training import loop as loop_module
from scripts.training.display import PlainReporter
from scripts.training.episodes import TrainingEpisodes
from scripts.training.loop import TrainingLoop

pytestmark = pytest.mark.slow

QUICK = {"presets": ("mt10-quickstart",), "tasks": ("reach-v3",), "device": "cpu", "threads": 1}


@pytest.fixture(scope="module", autouse=True)
def short():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "RANDOM_STEPS", 5)
        patch.setattr(train, "WARM_UP_STEPS", 1)
        yield


@pytest.fixture(scope="module")
def written(goal_cache, tmp_path_factory) -> tuple[dict, str, str]:
    """What a real run of two presets writes to JSON and to a document, and prints."""
    folder = tmp_path_factory.mktemp("bench")
    path, document = folder / "bench.json", folder / "document.md"
    document.write_text("before\n<!-- train -->\nold\n<!-- end train -->\nafter\n")
    presets = ("mt10-quickstart", "mt10-mtsac-te")
    console = Console(file=io.StringIO(), width=150)
    options = {"presets": presets, "steps": 4, "rounds": 2, "docs": document}
    report = train.run(TrainArguments(**(QUICK | options)), console)
    report.write_json(path)
    return json.loads(path.read_text()), document.read_text(), console.file.getvalue()


def test_it_writes_a_row_per_preset_whose_parts_sum_to_the_whole(written):
    result = written[0]
    assert {"commit", "machine", "versions", "rows", "ratios"} <= set(result)
    assert [row["preset"] for row in result["rows"]] == ["mt10-quickstart", "mt10-mtsac-te"]
    for row in result["rows"]:
        assert (row["tasks"], row["threads"], row["device"]) == ("reach-v3", 1, "cpu")
        assert tuple(row["milliseconds"]) == PARTS
        assert min(row["milliseconds"].values()) > 0
        assert sum(row["milliseconds"].values()) == pytest.approx(1e3 / row["steps_per_second"])
        assert sum(row["shares"].values()) == pytest.approx(1)
        assert row["hours"] * 3600 * row["steps_per_second"] == pytest.approx(row["total_steps"])
        assert row["steps_per_second"] == max(row["per_round"])  # the faster of two
        wholes = [sum(turn.values()) for turn in row["milliseconds_per_round"]]
        assert [1e3 / whole for whole in wholes] == pytest.approx(row["per_round"])
    assert [row["total_steps"] for row in result["rows"]] == [40_000, 2_000_000]


def test_its_ratios_are_shares_of_its_rows(written):
    rows = {row["preset"].replace("-", "_"): row for row in written[0]["rows"]}
    assert written[0]["ratios"] == {
        f"share_of_{part}_{preset}": pytest.approx(
            row["milliseconds"][part] * row["steps_per_second"] / 1e3
        )
        for preset, row in rows.items()
        for part in ("update", "environment")
    }


def test_the_document_s_section_and_the_terminal_show_the_rows(written):
    result, document, printed = written
    before, section, after = re.split("<!-- (?:end )?train -->", document)
    assert (before, after) == ("before\n", "\nafter\n")
    assert "old" not in section
    for part in PARTS:
        cells = [
            f"{row['milliseconds'][part]:.3f} ({row['shares'][part]:.1%})" for row in result["rows"]
        ]
        assert f"| {part} | {' | '.join(cells)} |" in section
        assert all(cell in printed for cell in cells)
    for row in result["rows"]:
        speed = f"{row['steps_per_second']:.2f}"
        assert f"| {row['preset']} | reach-v3 | 1 | {speed} |" in section
        assert speed in printed
    assert "2 turns of 4 vector steps" in section


class Clock:
    """Time that passes only in the methods that it slows down."""

    def __init__(self, monkeypatch):
        self.monkeypatch = monkeypatch
        self.now = 0.0
        monkeypatch.setattr(train.time, "perf_counter", lambda: self.now)

    def slow(self, owner: object, name: str, seconds: float) -> None:
        method = getattr(owner, name)

        def slowed(*arguments, **options):
            self.now += seconds
            return method(*arguments, **options)

        self.monkeypatch.setattr(owner, name, slowed)


def test_every_second_counts_once_for_its_part(monkeypatch):
    clock = Clock(monkeypatch)
    for owner, name, seconds in (
        (MultiTaskSAC, "act", 1),
        (MetaWorldVectorEnv, "step_async", 2),
        (MetaWorldVectorEnv, "step_wait", 3),
        (ReplayBuffer, "add", 4),
        (ReplayBuffer, "sample", 5),
        (MultiTaskSAC, "update", 6),
        (TrainingEpisodes, "add", 7),
        (PlainReporter, "advance", 8),
        (MetricLogger, "log", 100),
        (PlainReporter, "metrics", 200),
        (TrainingLoop, "_evaluation_due", 9),
        (MetaWorldVectorEnv, "reset", 1e4),
        (RunDirectory, "save_checkpoint", 1e4),
        (loop_module, "evaluate", 1e4),
    ):
        clock.slow(owner, name, seconds)
    report = train.run(TrainArguments(**QUICK, steps=4, rounds=2), Console(quiet=True))
    (row,) = report.rows
    expected = {
        "act": 1,
        "environment": 2 + 3,
        "storing": 4,
        "sampling": 5 / 4,  # one update in four steps
        "update": 6 / 4,
        LOGGING: (100 + 200) / PRESETS["mt10-quickstart"].log_every,
        REST: 7 + 8 + 9,
    }
    for turn in row["milliseconds_per_round"]:
        assert turn == {part: pytest.approx(1e3 * value) for part, value in expected.items()}
    assert row["steps_per_second"] == pytest.approx(1 / sum(expected.values()))


def test_a_method_that_the_loop_does_not_call_is_an_error(monkeypatch):
    unused = ("agent", "load_state_dict", "update")
    monkeypatch.setattr(train, "TIMED", (*train.TIMED, unused))
    with pytest.raises(RuntimeError, match="did not call agent.load_state_dict: mend the table"):
        train.run(TrainArguments(**QUICK, steps=4, rounds=1), Console(quiet=True))


def test_a_method_that_is_gone_is_an_error(monkeypatch):
    monkeypatch.setattr(train, "TIMED", (*train.TIMED, ("replay", "renamed", "sampling")))
    with pytest.raises(AttributeError, match="renamed"):
        train.run(TrainArguments(**QUICK, steps=4, rounds=1), Console(quiet=True))


def test_presets_take_turns_and_the_one_of_median_speed_is_shown(monkeypatch):
    turns = []
    milliseconds = {"mt10-fairgrad": [30.0, 20.0, 40.0], "mt10-small": [1.0, 3.0, 2.0]}

    class Loop:
        def __init__(self, preset, log_every):
            self.preset = preset

        def turn(self, steps):
            turns.append((self.preset, steps))
            whole = milliseconds[self.preset].pop(0)
            return dict.fromkeys(PARTS, 0.0) | {"update": 0.75 * whole, "act": 0.25 * whole}

    monkeypatch.setattr(train, "open_loop", lambda stack, config, device, folder: folder.name)
    monkeypatch.setattr(train, "TimedLoop", Loop)
    report = train.run(TrainArguments(device="cpu"), Console(quiet=True))
    assert turns == [("mt10-fairgrad", 200), ("mt10-small", 200)] * 3
    large, small = report.rows
    assert (large["milliseconds"]["update"], large["milliseconds"]["act"]) == (22.5, 7.5)
    assert (large["tasks"], small["tasks"]) == ("mt10", "mt10")
    assert (large["steps_per_second"], small["steps_per_second"]) == pytest.approx((1000 / 30, 500))
    assert large["hours"] == pytest.approx(2_000_000 * 0.030 / 3600)
    assert report.ratios["share_of_update_mt10_small"] == 0.75


def test_it_times_the_preset_and_changes_only_the_run_around_it():
    arguments = TrainArguments(steps=100, rounds=2, device="cpu")
    config, preset = arguments.config("mt10-small"), PRESETS["mt10-small"]
    for name in ("agent", "combining", "combiner", "alpha", "solver", "architecture", "tasks"):
        assert getattr(config, name) == getattr(preset, name)
    assert config.log_every == 100
    assert TrainArguments(steps=1000, device="cpu").config("mt10-fairgrad").log_every == 500
    assert config.eval_every > 5 + 2 * (1 + 100)
    assert config.threads is None
    assert arguments.config("mt10-quickstart").threads == 1


def test_a_turn_has_its_threads_and_leaves_those_before(monkeypatch):
    before, seen = torch.get_num_threads(), []
    update = MultiTaskSAC.update

    def watched(agent, batch):
        seen.append(torch.get_num_threads())
        return update(agent, batch)

    monkeypatch.setattr(MultiTaskSAC, "update", watched)
    options = QUICK | {"threads": before + 1, "steps": 4, "rounds": 1}
    (row,) = train.run(TrainArguments(**options), Console(quiet=True)).rows
    assert seen == [before + 1]
    assert row["threads"] == before + 1
    assert torch.get_num_threads() == before


@pytest.mark.gpu
def test_parts_on_a_gpu_sum_to_the_whole():
    options = QUICK | {"device": "cuda", "steps": 20, "rounds": 1}
    (row,) = train.run(TrainArguments(**options), Console(quiet=True)).rows
    assert (row["device"], row["overlap"]) == ("cuda", True)
    assert row["milliseconds"].pop("sampling") == 0  # within the captured update
    assert min(row["milliseconds"].values()) > 0
    assert sum(row["milliseconds"].values()) == pytest.approx(1e3 / row["steps_per_second"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--presets", "mt10-smal"], "unknown preset 'mt10-smal': did you mean mt10-small"),
        (["--presets", "stl", "stl"], "--presets is 'stl stl', expected one or more, each once"),
        (["--presets"], "--presets is '', expected one or more, each once"),
        (["--steps", "0"], "--steps is 0, expected at least 1"),
        (["--steps", "3"], "--steps is 3, expected at least 4: mt10-small makes 0.25 updates"),
        (["--rounds", "-1"], "--rounds is -1, expected at least 1"),
        (["--threads", "0"], "--threads is 0, expected at least 1"),
        (["--seed", "-1"], "--seed is -1, expected an integer from 0"),
        (["--tasks", "rech-v3"], "did you mean reach-v3"),
        (["--device", "tpu"], "the device 'tpu' is not there"),
        (["--docs", "nowhere.md"], "nowhere.md is no document with a section"),
    ],
)
def test_wrong_arguments_are_refused(words, message, capsys):
    with pytest.raises(SystemExit) as caught:
        parse(TrainArguments(), words)
    assert caught.value.code == 2
    assert message in " ".join(re.sub("[│|]", "", capsys.readouterr().err).split())
