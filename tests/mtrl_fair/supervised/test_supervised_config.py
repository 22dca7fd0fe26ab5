"""Configurations and benchmarks by name: what is wrong is said before anything trains."""

import json
import re
from dataclasses import replace

import pytest

from mtrl_fair import COMBINERS
from mtrl_fair.errors import DataError
from mtrl_fair.runs import RunDirectory, RunError
from mtrl_fair.supervised.benchmark import Recipe, metric_directions
from mtrl_fair.supervised.benchmarks.toy import ToyBenchmark
from mtrl_fair.supervised.config import SupervisedConfig, from_dict, to_dict
from mtrl_fair.supervised.registry import BENCHMARKS, benchmark_class, make_benchmark
from mtrl_fair.supervised.trainer import RUN_KIND
from mtrl_fair.supervised.training import train

CONFIG = SupervisedConfig(benchmark="toy")


def test_every_benchmark_is_complete():
    for name in BENCHMARKS:
        found = benchmark_class(name)
        assert found.name == name
        assert isinstance(found.recipe, Recipe)
        names = [task.name for task in found.tasks]
        assert len(set(names)) == len(names) > 1
        assert not any("/" in task for task in names)
        if found.published_baseline is not None:
            assert list(found.published_baseline) == list(metric_directions(found.tasks))


def test_published_hyperparameters_are_those_of_the_papers():
    recipes = {
        name: (r.epochs, r.batch_size, r.learning_rate, r.report, r.report_epochs)
        for name in ("nyuv2", "cityscapes", "celeba", "qm9")
        for r in (benchmark_class(name).recipe,)
    }
    assert recipes == {
        "nyuv2": (200, 2, 1e-4, "last", 10),
        "cityscapes": (200, 8, 1e-4, "last", 10),
        "celeba": (15, 256, 3e-4, "best", 1),
        "qm9": (300, 120, 1e-3, "best", 1),
    }


@pytest.mark.parametrize("name", ["multimnist", "nyuv2", "cityscapes", "celeba", "qm9"])
def test_without_files_the_error_says_how_the_folder_must_look(name, tmp_path):
    layout = re.escape(benchmark_class(name).layout[:40])
    with pytest.raises(DataError, match=f"{name}(.|\n)*{layout}"):
        make_benchmark(name)
    with pytest.raises(DataError, match=re.escape(str(tmp_path / "absent"))):
        make_benchmark(name, tmp_path / "absent")


def test_wrong_names_and_options_are_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown benchmark 'digit': did you mean digits"):
        make_benchmark("digit")
    with pytest.raises(ValueError, match="digits reads no files: leave --data"):
        make_benchmark("digits", tmp_path)
    with pytest.raises(ValueError, match="unknown pooling of digits 'pixels'"):
        make_benchmark("digits", pooling="pixels")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "--epochs is 0, expected at least 1"),
        ({"batch_size": -1}, "--batch-size is -1"),
        ({"threads": 0}, "--threads is 0"),
        ({"loader_workers": -1}, "--loader-workers is -1"),
        ({"seed": -1}, "--seed is -1"),
        ({"learning_rate": 0.0}, "--learning-rate is 0.0, expected a positive number"),
        ({"max_norm": float("inf")}, "--max-norm is inf"),
        ({"alpha_fair": 1.0}, "--alpha-fair is 1.0, expected a number below 1"),
        ({"alpha": -1.0}, "alpha"),
        ({"combiner": "fairgard"}, "did you mean fairgrad"),
        ({"solver": "newtn"}, "did you mean newton"),
        ({"combiner": "graddrop", "weighted_heads": True}, "graddrop has no weights for heads"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **change).check()


def test_configurations_come_back_from_plain_data():
    config = replace(CONFIG, combiner="ls", max_norm=2.0, alpha_fair=0.5)
    assert from_dict(to_dict(config), "here") == config
    for values, message in [
        ({"benchmark": "toy", "epoch": 3}, "here has the setting 'epoch', .*near to it: epochs"),
        ({"benchmark": "toy", "epochs": "3"}, "epochs in here is '3', expected int: restore"),
        ({"benchmark": "toy", "seed": "0"}, "seed in here is '0', expected int: restore the file"),
        ({"benchmark": "toy", "epochs": 0}, "--epochs is 0"),
        ({"epochs": 3}, "here lacks the setting benchmark"),
    ]:
        with pytest.raises(ValueError, match=message) as caught:
            from_dict(values, "here")
        assert "\n" not in str(caught.value)


def test_every_combiner_gets_the_options_it_has():
    config = replace(CONFIG, alpha=3.0, solver="sgd", seed=7, max_norm=2.0, scale="norm")
    for name in COMBINERS:
        combiner = replace(config, combiner=name).make_combiner(4, 11)
        assert (combiner.num_tasks, combiner.max_norm, combiner.scale) == (4, 2.0, "norm")
    fairgrad = config.make_combiner(4, 11)
    assert (fairgrad.alpha, fairgrad.solver) == (3.0, "sgd")
    assert replace(config, combiner="dwa").make_combiner(4, 11).steps_per_epoch == 11
    assert replace(config, combiner="famo").make_combiner(4, 11, -21.0).min_loss == -21
    first, again, other = (
        str(replace(config, combiner="pcgrad", seed=seed).make_combiner(4, 11).state_dict())
        for seed in (1, 1, 2)
    )
    assert first == again != other


def test_a_run_of_another_configuration_is_not_continued(tmp_path):
    config = replace(CONFIG, epochs=1, batch_size=500)
    assert train(config, tmp_path / "run")
    with pytest.raises(RunError, match=r"learning_rate is 0.5 there and 0.001 in the checkpoint"):
        train(replace(config, learning_rate=0.5), tmp_path / "run")
    assert json.loads((tmp_path / "run" / "config.json").read_text()) == to_dict(config)


def test_a_run_that_another_one_writes_to_is_left_alone(tmp_path):
    config = replace(CONFIG, epochs=1, batch_size=500)
    run = RunDirectory.create(tmp_path / "run", to_dict(config), RUN_KIND)
    with pytest.raises(RunError, match="another process is training"):
        train(config, tmp_path / "run")
    run.unlock()
    # It has no checkpoint yet, as if it had been killed at once: it begins again.
    assert train(config, tmp_path / "run")
    metadata = json.loads((tmp_path / "run" / "metadata.json").read_text())
    assert [entry["step"] for entry in metadata["resumed"]] == [0]
    assert train(config, tmp_path / "run")  # finished: nothing changes


def test_a_folder_that_is_no_run_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match="there is no run at"):
        train(replace(CONFIG, epochs=1), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_tasks_of_one_name_are_refused():
    class Twice(ToyBenchmark):
        tasks = (ToyBenchmark.tasks[0], ToyBenchmark.tasks[0])

    with pytest.raises(ValueError, match="tasks of toy are first, first: each needs a name"):
        Twice()
