"""Metrics reach TensorBoard and `metrics.jsonl`, also those of a run that is resumed."""

import json
import time

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mtrl_fair.runs.metrics import MetricLogger


def test_metrics_reach_tensorboard_and_json_lines(tmp_path):
    logger = MetricLogger(tmp_path)
    logger.log(10, {"losses/critic": 1.5, "charts/x": 2.0})
    logger.log(20, {"losses/critic": float("inf")})
    logger.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [
        {"step": 10, "losses/critic": 1.5, "charts/x": 2.0},
        {"step": 20, "losses/critic": None},
    ]
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(e.step, e.value) for e in events.Scalars("losses/critic")] == [
        (10, 1.5),
        (20, float("inf")),
    ]


def test_tensorboard_hides_what_a_killed_run_wrote_after_its_checkpoint(tmp_path):
    logger = MetricLogger(tmp_path)
    for step in (5, 10, 15):
        logger.log(step, {"x": float(step)})
    logger.close()
    time.sleep(1.1)  # TensorBoard reads files in the order of names that begin with the second
    logger = MetricLogger(tmp_path, resume_step=10)
    logger.log(15, {"x": -15.0})
    logger.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(e.step, e.value) for e in events.Scalars("x")] == [(5, 5), (10, 10), (15, -15)]
