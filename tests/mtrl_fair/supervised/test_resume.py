"""A training that was stopped or killed gives the numbers of one that was not."""

from dataclasses import replace

import pytest

from mtrl_fair.runs import RunDirectory
from mtrl_fair.runs.checkpoints import LATEST
from mtrl_fair.supervised.config import SupervisedConfig
from mtrl_fair.supervised.trainer import Trainer
from mtrl_fair.supervised.training import train
from tests.mtrl_fair.supervised.small_benchmark import LastEpochs, Plateau, SmallBenchmark, config
from tests.mtrl_fair.supervised.trainer_runs import assert_same, lines, make_trainer, stop_after


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "benchmark"),
    [
        *((name, SmallBenchmark) for name in ("ls", "uw", "dwa", "famo", "moco", "pcgrad", "rlw")),
        ("graddrop", SmallBenchmark),
        ("fairgrad", Plateau),
        ("fairgrad", LastEpochs),
    ],
)
def test_a_resumed_training_gives_the_same_numbers(tmp_path, name, benchmark):
    settings = config(combiner=name, alpha_fair=0.5 if name == "pcgrad" else None)
    assert make_trainer(tmp_path / "whole", settings, benchmark).run()
    path, stops = tmp_path / "parts", 0
    # Parts of 1, 2, 3, … checks: stops fall into training, validation and test batches.
    while not make_trainer(path, settings, benchmark).run(stop_after(stops)):
        stops += 1
    assert stops > 5
    assert_same(tmp_path / "whole", path)


@pytest.mark.process
def test_loading_processes_change_nothing_and_resume_as_well(tmp_path):
    settings = config(combiner="graddrop", epochs=2)
    assert make_trainer(tmp_path / "alone", settings).run()
    helped = replace(settings, loader_workers=2)
    # An epoch is 5 batches, 3 of validation and 3 of the test split: this stops in validation,
    # then within the second epoch, from which it continues at the third batch.
    places = []
    for checks in (6, 7):
        trainer = make_trainer(tmp_path / "helped", helped)
        assert not trainer.run(stop_after(checks))
        places.append((trainer.epoch, trainer.batch))
    assert places == [(0, 5), (1, 2)]
    assert make_trainer(tmp_path / "helped", helped).run()
    assert_same(tmp_path / "alone", tmp_path / "helped")


def test_a_killed_training_goes_on_from_its_last_epoch(tmp_path):
    class KilledError(Exception):
        pass

    def kill(progress):
        if progress.share > 0.6:
            raise KilledError

    assert make_trainer(tmp_path / "whole").run()
    with pytest.raises(KilledError):
        make_trainer(tmp_path / "killed", report=kill).run()
    step = RunDirectory.open(tmp_path / "killed").load_checkpoint(LATEST)["step"]
    assert step == 5
    assert make_trainer(tmp_path / "killed").run()
    assert_same(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.slow
def test_an_epoch_that_was_killed_after_its_evaluation_is_not_counted_twice(tmp_path):
    class KilledError(Exception):
        pass

    settings = replace(SupervisedConfig("digits"), batch_size=2500, epochs=2, combiner="ls")
    assert train(settings, tmp_path / "whole")
    # Stopped within the first evaluation: all of the epoch's batches are done.
    assert not train(settings, tmp_path / "run", should_stop=stop_after(4))
    with pytest.MonkeyPatch.context() as patch:

        def kill(*arguments):
            raise KilledError

        patch.setattr(Trainer, "_step_schedule", kill)
        with pytest.raises(KilledError):
            train(settings, tmp_path / "run")
    assert train(settings, tmp_path / "run")
    assert lines(tmp_path / "run") == lines(tmp_path / "whole")
    files = [p / "evaluations.csv" for p in (tmp_path / "run", tmp_path / "whole")]
    assert files[0].read_text() == files[1].read_text()
