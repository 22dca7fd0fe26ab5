"""Task weights that runs logged, averaged over parts of a run."""

import json

import numpy as np
import pytest

from mtrl_fair.results.weights import averaged, read_weights
from tests.mtrl_fair.results.written_runs import TASKS, make_run, read


def test_weights_are_averaged_over_parts_of_the_run(tmp_path):
    path = make_run(tmp_path, "run")
    weight = [[1.0, 4], [100, 4], [0, 4], [8, None]]
    norm = [[2.0, 1], [2, 1], [5, 1], [1, 1]]
    with open(f"{path}/metrics.jsonl", "w") as file:
        for step in (1000, 2000, 3000):
            file.write(json.dumps({"step": step, "charts/seconds": 1.0}) + "\n")
        for step, weights, norms in zip((10, 20, 30, 40), weight, norm, strict=True):
            line = {"step": step}
            for task, w, n in zip(TASKS, weights, norms, strict=True):
                line |= {} if w is None else {f"fairness/weight/{task}/actor": w}
                line[f"fairness/gradient_norm/{task}/actor"] = n
            file.write(json.dumps(line) + "\n")
    centres, result = averaged(*read_weights(read(path)), 2)
    assert centres.tolist() == [15, 35]
    # Geometric means, but the arithmetic one where a weight is zero.
    np.testing.assert_allclose(result["actor"]["weight"], [[10, 4], [4, 4]])
    np.testing.assert_allclose(result["actor"]["gradient_norm"], [[2, 1], [5**0.5, 1]])
    first = np.array([2 / 6, 4 / 6]) / 2 + np.array([200 / 204, 4 / 204]) / 2
    np.testing.assert_allclose(result["actor"]["share"], [first, [(0 + 1) / 2, 1]])
    second = np.array([5 / 6, 1 / 6]) / 2 + np.array([1, 1]) / 2 / 2
    np.testing.assert_allclose(result["actor"]["norm_share"], [[2 / 3, 1 / 3], second])
    _, only_weights = averaged(np.arange(4.0), {"actor": {"weight": np.ones((4, 2))}}, 60)
    assert set(only_weights["actor"]) == {"weight"}
    assert len(only_weights["actor"]["weight"]) == 4


def test_weights_of_one_network_are_enough(tmp_path):
    path = make_run(tmp_path, "run", networks=("actor",))
    _, weights = read_weights(read(path))
    assert not weights["critic"]
    assert set(weights["actor"]) == {"weight", "gradient_norm", "norm_share", "share"}
    (tmp_path / "run" / "metrics.jsonl").write_text(
        "".join(
            json.dumps({"step": step, "charts/seconds": 1.0}) + "\n" for step in (1000, 2000, 3000)
        )
    )
    with pytest.raises(ValueError, match="has no task weights"):
        read_weights(read(path))
