"""The benchmark of updates: its floor is the update's own work, its reference the same update."""

import io
import json
from dataclasses import replace

import pytest
import torch
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode

from configs.build import build_agent
from mtrl_fair import COMBINERS, FairGrad
from scripts import bench
from scripts.benchmarks import update
from scripts.benchmarks.floor import flops, make_floor, update_products
from scripts.benchmarks.learner import make_update
from scripts.benchmarks.update import FLOOR, MT10, MT50, REFERENCE, LoopedFairGrad, UpdateArguments

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
SMALL = UpdateArguments(width=16, batch_size=4, device="cpu", rounds=1)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[dict, str]:
    folder = tmp_path_factory.mktemp("bench")
    path, document = folder / "bench.json", folder / "document.md"
    document.write_text("before\n<!-- update -->\nold\n<!-- end update -->\nafter\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(update, "MT50", 12)
        flags = ["--width", "16", "--batch-size", "4", "--rounds", "1", "--device", "cpu"]
        bench.main(["update", *flags, "--json", str(path), "--docs", str(document)])
    return json.loads(path.read_text()), document.read_text()


def test_every_combiner_and_the_ratios_of_the_design_are_there(written):
    result, document = written
    rows = {(row["update"], row["num_tasks"], row["precision"]): row for row in result["rows"]}
    assert len(rows) == len(result["rows"])
    assert {(name, MT10, "fp32") for name in COMBINERS} <= set(rows)
    time = {key: row["milliseconds"] for key, row in rows.items()}
    fairgrad, ls = time["fairgrad", MT10, "fp32"], time["ls", MT10, "fp32"]
    expected = {
        "fairgrad_vs_ls": fairgrad / ls,
        "ls_share_of_floor": time[FLOOR, MT10, "fp32"] / ls,
        "vs_reference": time[REFERENCE, MT10, "fp32"] / fairgrad,
        "bf16_vs_fp32": fairgrad / time["fairgrad", MT10, "bf16"],
        "mt50_vs_mt10_per_sample": time["fairgrad", 12, "fp32"] / 12 / (fairgrad / 10),
    }
    for name, ratio in expected.items():
        assert result["ratios"][name] == pytest.approx(ratio)
        assert f"`{name}`" in document
    assert document.startswith("before\n<!-- update -->")
    assert document.endswith("<!-- end update -->\nafter\n")
    assert "old" not in document


def test_memory_is_that_of_the_task_gradients(written):
    for row in written[0]["rows"]:
        if row["update"] in ("fairgrad", "ls"):
            agent = build_agent(SMALL.config(), row["num_tasks"], CPU)
            shared = agent.critic.optimizer.parameters.num_shared
            number_size = {"fp32": 4, "bf16": 2}[row["precision"]]
            size = number_size * row["num_tasks"] * shared if row["update"] == "fairgrad" else 0
            assert row["task_gradients_megabytes"] == pytest.approx(size / 1e6)


@pytest.mark.parametrize("num_tasks", [1, 3])
def test_the_floor_is_all_the_matrix_products_of_an_update(num_tasks):
    config = UpdateArguments(width=24, batch_size=5, device="cpu").config()
    run = make_update(
        replace(config, combiner="ls"),
        build_agent(replace(config, combiner="ls"), num_tasks, CPU),
    )
    run()
    products = update_products(config, num_tasks)
    with FlopCounterMode(display=False) as counted:
        run()
    assert counted.get_total_flops() == flops(products)
    with FlopCounterMode(display=False) as counted:
        make_floor(products, torch.float32, CPU)()
    assert counted.get_total_flops() == flops(products)


def test_task_gradients_take_no_more_products_than_summed_losses():
    num_tasks, agent_config = 3, UpdateArguments(width=24, batch_size=5, device="cpu").config()
    agent = build_agent(agent_config, num_tasks, CPU)
    run = make_update(agent_config, agent)
    with FlopCounterMode(display=False) as counted:
        run()
    shared = sum(
        optimizer.parameters.num_shared
        for optimizer in (agent.critic.optimizer, agent.actor.optimizer)
    )
    combining = 2 * num_tasks * (num_tasks + 1) * shared  # the Gramian and the weighted sum
    expected = flops(update_products(agent_config, num_tasks)) + combining
    assert counted.get_total_flops() == expected


def test_the_floor_knows_one_architecture():
    config = replace(SMALL.config(), architecture="one_hot")
    with pytest.raises(ValueError, match="one_hot has no floor here: use multi_head"):
        update_products(config, 2)


def test_the_reference_takes_the_same_step():
    """Up to its solver: with the raw SGD in both, parameters end up the same, at alpha
    = 2, because at 1 raw SGD magnifies rounding errors here."""
    config = replace(SMALL.config(), alpha=2.0)
    agents = [build_agent(config, 3, CPU) for _ in range(2)]
    combiners = (
        LoopedFairGrad(3, config.alpha),
        FairGrad(config.alpha, "sgd", precondition=False, num_tasks=3),
    )
    for agent, combiner in zip(agents, combiners, strict=True):
        for optimizer in (agent.critic.optimizer, agent.actor.optimizer):
            optimizer.combiner = combiner
        run = make_update(config, agent)
        run()
    for ours, theirs in zip(
        agents[1].critic.network.parameters(), agents[0].critic.network.parameters(), strict=True
    ):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rounds", "0"], "--rounds is 0, expected at least 1"),
        (["--batch-size", "-1"], "--batch-size is -1, expected at least 1"),
        (["--docs", "nowhere.md"], "nowhere.md is no document with a section"),
        (["--device", "cuda:9"], "'cuda:9' is not there"),
    ],
)
def test_wrong_arguments_are_one_line(words, message, capsys):
    with pytest.raises(SystemExit) as caught:
        bench.main(["update", *words])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.gpu
def test_a_gpu_has_its_table():
    report = update.run(
        UpdateArguments(width=16, batch_size=4, device="cuda", rounds=2),
        Console(file=io.StringIO()),
    )
    assert report.rows[-1]["per_second"] > 0
    assert any(row["num_tasks"] == MT50 for row in report.rows)
