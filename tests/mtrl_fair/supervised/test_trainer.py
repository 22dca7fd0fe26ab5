"""The trainer on a small benchmark: it does what a loop by hand does."""

import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mtrl_fair import (
    COMBINERS,
    LossBoundError,
    NonFiniteError,
    alpha_fair_loss,
    make_combiner,
)
from mtrl_fair.runs import RunDirectory
from mtrl_fair.runs.checkpoints import LATEST
from mtrl_fair.supervised.config import SupervisedConfig, to_dict
from mtrl_fair.supervised.evaluation import Reported
from mtrl_fair.supervised.trainer import RUN_KIND, Trainer
from mtrl_fair.supervised.training import train
from tests.mtrl_fair.supervised.small_benchmark import (
    LastEpochs,
    Plain,
    Plateau,
    SmallBenchmark,
    config,
)
from tests.mtrl_fair.supervised.trainer_runs import lines, make_trainer, stop_after


def test_another_seed_gives_other_numbers(tmp_path):
    starts = []
    for seed in (0, 1):
        trainer = make_trainer(tmp_path / str(seed), config(seed=seed))
        starts.append(trainer.model.heads[0].weight.tolist())
        trainer.run()
    assert starts[0] != starts[1]
    assert lines(tmp_path / "0")[0] != lines(tmp_path / "1")[0]


def by_hand(settings, name, steps):
    """Parameters after some steps of a loop that uses the public combiner, without the trainer."""
    benchmark = Plain()
    data = benchmark.splits().train
    torch.manual_seed(settings.seed)
    model = benchmark.model([0, 1, 2])
    options = {"scale": settings.scale, "max_norm": settings.max_norm}
    combiner = make_combiner(name, num_tasks=3, **options)
    optimizer = torch.optim.Adam(
        [*model.parameters(), *combiner.parameters()], lr=settings.learning_rate
    )
    order = np.random.default_rng((settings.seed, 0)).permutation(len(data))
    for step in range(steps):
        indices = order[5 * step : 5 * step + 5]
        samples = [data.sample(i, np.random.default_rng((settings.seed, 0, i, 1))) for i in indices]
        inputs = torch.stack([inputs for inputs, _ in samples])
        wanted = torch.stack([targets["y"] for _, targets in samples])

        def losses(inputs=inputs, wanted=wanted):
            outputs = [head(model.trunk(inputs)) for head in model.heads]
            found = [(o[:, 0] - wanted[:, k]).square().mean() + 1e-3 for k, o in enumerate(outputs)]
            plain = torch.stack(found)
            fair = settings.alpha_fair
            return plain if fair is None else alpha_fair_loss(plain, fair)

        optimizer.zero_grad()
        combiner.backward(
            losses(), model.trunk.parameters(), [head.parameters() for head in model.heads]
        )
        optimizer.step()
        if name == "famo":
            with torch.no_grad():
                combiner.after_step(losses())
    return list(model.parameters()), list(combiner.state_dict().values())


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("ls", {}),
        ("fairgrad", {"scale": "tasks"}),
        ("fairgrad", {"alpha_fair": 0.5, "max_norm": None}),
        ("uw", {}),
        ("famo", {}),
        ("famo", {"alpha_fair": 0.5}),
    ],
)
def test_it_does_what_a_loop_by_hand_does(tmp_path, name, changes):
    settings = config(combiner=name, **changes)
    trainer = make_trainer(tmp_path / "run", settings, Plain)
    trainer.run(stop_after(2))
    parameters, state = by_hand(settings, name, 3)
    assert trainer.step == 3
    for ours, theirs in zip(trainer.model.parameters(), parameters, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(trainer.combiner.state_dict().values(), state, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6, equal_nan=True)


def test_famo_s_second_forward_leaves_statistics_and_random_numbers_as_they_were(tmp_path):
    """Else batch norm would count every batch twice, and dropout's noise would pass for a step."""
    ended = {}
    for name in ("ls", "famo"):
        trainer = make_trainer(tmp_path / name, config(combiner=name, learning_rate=1e-9))
        before, after = [], []
        weigh, look = trainer.combiner.weigh, trainer.combiner.after_step

        def recorded_weigh(losses, present, before=before, weigh=weigh):
            before.append(losses.clone())
            return weigh(losses, present)

        def recorded_look(losses, after=after, look=look):
            after.append(losses.clone())
            look(losses)

        trainer.combiner.weigh, trainer.combiner.after_step = recorded_weigh, recorded_look
        trainer.run(stop_after(2))
        ended[name] = {**dict(trainer.model.named_buffers()), "random": torch.get_rng_state()}
    assert len(before) == len(after) == 3
    for ours, theirs in zip(before, after, strict=True):  # the step is too small to be seen
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert int(ended["famo"]["trunk.1.num_batches_tracked"]) == 3
    for key, value in ended["ls"].items():
        torch.testing.assert_close(ended["famo"][key], value, rtol=1e-5, atol=1e-6)


def test_a_single_task_is_trained_as_if_it_were_alone(tmp_path):
    trainer = make_trainer(tmp_path / "run", config(task="product", combiner="ls"))
    assert len(trainer.model.heads) == 1
    assert trainer.run()
    values = json.loads((tmp_path / "run" / "results.json").read_text())["values"]
    assert list(values) == ["product/error", "product/within"]


def test_absent_tasks_get_no_weight_and_do_not_count_in_means(tmp_path):
    trainer = make_trainer(tmp_path / "run", config(combiner="fairgrad"))
    infos = []
    backward = trainer.combiner.backward

    def recorded(*arguments):
        infos.append(backward(*arguments))
        return infos[-1]

    trainer.combiner.backward = recorded
    data = SmallBenchmark().splits().train
    for first, present in ((0, True), (1, False)):
        inputs, targets = data.batch([first, 5, 7, 9], None)
        trainer._update(inputs, targets)
        assert (infos[-1].weights[2] > 0) == present
        assert (infos[-1].weights[:2] > 0).all()
        means = trainer.averages.means()
        assert means["losses"][2].isnan() != present
        assert means["losses"][:2].isfinite().all()


def test_best_reports_the_test_metrics_of_the_best_validation_epoch(tmp_path):
    assert make_trainer(tmp_path / "run", config(epochs=8, learning_rate=0.3)).run()
    with (tmp_path / "run" / "evaluations.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    benchmark = SmallBenchmark()
    validation, test = {}, {}
    for row in rows:
        split = {"validation": validation, "test": test}[row["split"]]
        name = f"{row['task']}/{row['metric']}"
        split.setdefault(int(row["epoch"]), {})[name] = float(row["value"])
    scores = {epoch: benchmark.score(values) for epoch, values in validation.items()}
    assert len(scores) == 8
    best = max(scores, key=scores.get)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results == {"epoch": best, "values": test[best]}
    improved = [e for e in scores if scores[e] > max([-math.inf, *list(scores.values())[: e - 1]])]
    assert list(test) == improved  # the test split is looked at then only
    assert 1 < len(improved) < 8
    state = RunDirectory.open(tmp_path / "run").load_checkpoint("best", ("model",))
    assert state["step"] == 5 * best


def test_the_first_of_equally_good_epochs_is_reported():
    reported = Reported(SmallBenchmark.recipe)
    for epoch, score in enumerate((0.5, 0.7, 0.7, 0.6)):
        if reported.wants(score):
            reported.take(epoch, score, {"a": float(epoch)})
    assert reported.result() == {"epoch": 1, "values": {"a": 1.0}}


def test_last_reports_the_mean_of_the_last_epochs(tmp_path):
    assert make_trainer(tmp_path / "run", config(epochs=4), LastEpochs).run()
    tests = [
        {key.removeprefix("test/"): value for key, value in line.items() if "test/" in key}
        for line in lines(tmp_path / "run")
    ]
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["epoch"] == 4
    for name, value in results["values"].items():
        assert value == pytest.approx((tests[2][name] + tests[3][name]) / 2)
    assert len(tests) == 4


def test_schedules(tmp_path):
    class Worsening(Plateau):
        def score(self, values):
            self.calls = getattr(self, "calls", 0) + 1
            return -self.calls

    rates = {}
    for benchmark in (SmallBenchmark, Worsening):
        make_trainer(tmp_path / benchmark.__name__, config(epochs=4), benchmark).run()
        rates[benchmark] = [x["charts/learning_rate"] for x in lines(tmp_path / benchmark.__name__)]
    assert rates[SmallBenchmark] == [0.01, 0.01, 0.005, 0.005]
    assert rates[Worsening] == [0.01, 0.01, 0.005, 0.0025]  # each evaluation is worse


@pytest.mark.parametrize("alpha_fair", [None, 0.5])
def test_logged_values_are_means_over_the_epoch(tmp_path, alpha_fair):
    seen = []

    class Watched(Plain):
        def loss(self, task, output, targets):
            found = super().loss(task, output, targets)
            if found.requires_grad:
                seen.append((task, float(found.detach())))
            return found

    settings = config(epochs=1, alpha_fair=alpha_fair)
    trainer = make_trainer(tmp_path / "run", settings, Watched)
    assert trainer.run()
    (line,) = lines(tmp_path / "run")
    for k, name in enumerate(("sum", "product", "norm")):
        mean = np.mean([loss for task, loss in seen if task == k])
        assert line[f"losses/{name}"] == pytest.approx(mean)
    assert line["fairness/direction_norm"] <= 1 + 1e-6  # clipped
    assert {"fairness/residual", "fairness/conflicts", "fairness/gradient_norm/sum"} <= line.keys()
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    assert set(events.Tags()["scalars"]) == {*line, "charts/steps_per_second"} - {"step"}


def test_methods_of_losses_log_no_gradients(tmp_path):
    make_trainer(tmp_path / "run", config(epochs=1, combiner="ls")).run()
    (line,) = lines(tmp_path / "run")
    assert not any("gradient_norm" in key for key in line)
    assert all(value is not None for value in line.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(COMBINERS))
def test_every_method_trains(tmp_path, name):
    trainer = make_trainer(tmp_path / "run", config(epochs=12, combiner=name), Plain)
    assert trainer.run()
    first, *_, last = lines(tmp_path / "run")
    assert last["losses/sum"] < 0.9 * first["losses/sum"]


def test_a_loss_that_is_not_finite_stops_it_and_keeps_the_last_epoch(tmp_path):
    class Diverging(Plain):
        def loss(self, task, output, targets):
            found = super().loss(task, output, targets)
            diverges = task == 1 and trainer.step == 7
            return found * float("nan") if diverges else found

    trainer = make_trainer(tmp_path / "run", config(), Diverging)
    with pytest.raises(NonFiniteError) as caught:
        trainer.run()
    assert caught.value.tasks == [1]
    assert RunDirectory.open(tmp_path / "run").load_checkpoint(LATEST)["step"] == 5


def test_before_it_saves_it_looks_for_what_is_not_finite(tmp_path):
    """On CUDA the combiner does not look."""
    trainer = make_trainer(tmp_path / "run")
    assert not trainer.run(stop_after(0))
    saved = (tmp_path / "run" / "checkpoints" / "latest.pt").read_bytes()
    trainer.averages.means()
    trainer.averages.add({"losses": torch.tensor([1.0, 2.0, math.inf])})
    with pytest.raises(NonFiniteError) as caught:
        trainer.save()
    assert caught.value.tasks == [2]
    trainer.averages.means()
    with torch.no_grad():
        trainer.model.heads[1].bias.fill_(math.nan)
    with pytest.raises(NonFiniteError, match="gradient"):
        trainer.save()
    assert (tmp_path / "run" / "checkpoints" / "latest.pt").read_bytes() == saved


def test_a_validation_metric_that_is_not_finite_names_its_task(tmp_path):
    class Undefined(SmallBenchmark):
        def meter(self, task):
            meter = super().meter(task)
            if task == 1:
                meter.compute = lambda: (math.nan, 1.0)
            return meter

    with pytest.raises(NonFiniteError, match="validation metric") as caught:
        make_trainer(tmp_path / "run", benchmark=Undefined).run()
    assert caught.value.tasks == [1]


def test_losses_that_the_transformation_cannot_take_are_named(tmp_path):
    class Zero(Plain):
        def loss(self, task, output, targets):
            return super().loss(task, output, targets) * (task != 1)

    with pytest.raises(LossBoundError, match=r"positive losses, but product has 0: train without"):
        make_trainer(tmp_path / "run", config(alpha_fair=0.5), Zero).run()


@pytest.mark.parametrize("need", ["best", "plateau"])
def test_what_needs_a_validation_split_is_refused_without_one(tmp_path, need):
    class Unvalidated(LastEpochs if need == "plateau" else SmallBenchmark):
        validated = False
        plateau = need == "plateau"

    with pytest.raises(ValueError, match="small .*no validation split"):
        make_trainer(tmp_path / "run", benchmark=Unvalidated)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["ls", "fairgrad", "famo"])
def test_it_trains_and_resumes_on_a_gpu(tmp_path, name):
    settings = replace(
        SupervisedConfig("digits"), combiner=name, batch_size=500, epochs=3, device="cuda:0"
    )
    assert not train(settings, tmp_path / "run", should_stop=stop_after(25))
    assert train(settings, tmp_path / "run")
    first, *_, last = lines(tmp_path / "run")
    assert last["losses/left"] < first["losses/left"]


@pytest.mark.gpu
def test_what_is_not_finite_is_noticed_on_a_gpu(tmp_path):
    class Diverging(Plain):
        def loss(self, task, output, targets):
            found = super().loss(task, output, targets)
            return found * math.nan if task == 1 and trainer.step == 4 else found

    run = RunDirectory.create(tmp_path / "run", to_dict(config()), RUN_KIND)
    trainer = Trainer(config(), Diverging(), run, torch.device("cuda:0"))
    with pytest.raises(NonFiniteError):
        trainer.run()
    assert run.load_checkpoint(LATEST)["step"] == 0


def test_a_training_may_be_saved_before_it_runs(tmp_path):
    trainer = make_trainer(tmp_path / "run")
    trainer.save()
    assert trainer.run_directory.load_checkpoint(LATEST)["step"] == 0


def test_progress_is_reported_up_to_the_end(tmp_path):
    reports = []
    make_trainer(tmp_path / "run", report=reports.append).run()
    shares = [progress.share for progress in reports]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert [progress.epoch for progress in reports if progress.values is not None] == [1, 2, 3]
