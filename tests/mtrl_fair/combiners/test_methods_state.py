"""What methods keep from one step to the next, what they draw, and their options."""

import pytest
import torch
from torch import Tensor

from mtrl_fair import COMBINERS, make_combiner
from tests.mtrl_fair.combiners.method_inputs import K, direction, jacobian, losses_of, make


@pytest.mark.parametrize("name", COMBINERS)
def test_a_state_dict_in_the_middle_of_a_sequence_continues_bit_for_bit(name, tmp_path):
    def step(combiner, seed: int) -> Tensor:
        found, _ = combiner.combine(jacobian(seed).float(), losses_of(seed).float())
        combiner.after_step(losses_of(seed + 100).float())
        for parameter in combiner.parameters():
            parameter.data -= 0.1 * parameter.grad
            parameter.grad = None
        return found

    options = {"steps_per_epoch": 2} if name == "dwa" else {}
    combiner = make_combiner(name, num_tasks=K, **options)
    for seed in range(5):
        step(combiner, seed)
    torch.save(combiner.state_dict(), tmp_path / "state.pt")
    expected = [step(combiner, seed) for seed in range(5, 12)]
    fresh = make_combiner(name, num_tasks=K, **options)
    fresh.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for seed, found in zip(range(5, 12), expected, strict=True):
        assert torch.equal(step(fresh, seed), found)


def test_absent_tasks_leave_no_trace_in_the_state():
    """Of the losses and gradients given for them."""
    present = torch.tensor([True, False, True])
    for name, options in [("dwa", {"steps_per_epoch": 2}), ("famo", {}), ("moco", {})]:
        states = []
        for loss, gradient in ((1.0, 0.0), (50.0, 3.0)):
            combiner = make(name, tasks=3, **options)
            combiner.combine(torch.eye(3), torch.tensor([1.0, 2.0, 3.0]))
            combiner.after_step(torch.tensor([0.9, 1.5, 2.0]))
            rows = torch.eye(3)
            rows[1] *= gradient
            for _ in range(3):
                combiner.combine(rows, torch.tensor([1.0, loss, 3.0]), present)
                combiner.after_step(torch.tensor([0.5, loss, 2.0]))
            states.append(combiner.state_dict())
        for key, value in states[0].items():
            torch.testing.assert_close(value, states[1][key], rtol=0, atol=0, equal_nan=True)
        assert all(
            value.isfinite().all() for key, value in states[0].items() if key != "log_losses"
        )


def test_famo_s_second_look_needs_a_first():
    with pytest.raises(ValueError, match="call backward first"):
        make_combiner("famo", num_tasks=2).after_step(torch.ones(2))
    assert [name for name in COMBINERS if make(name).uses_after_step] == ["famo"]


@pytest.mark.parametrize("name", ["rlw", "pcgrad", "graddrop"])
def test_randomness_follows_the_seed_or_the_global_generator(name):
    rows = jacobian(13, size=6)

    def draws(**options) -> list[Tensor]:
        combiner = make_combiner(name, num_tasks=K, **options)
        return [direction(combiner, rows) for _ in range(3)]

    def same(a: list[Tensor], b: list[Tensor]) -> bool:
        return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))

    assert same(draws(seed=3), draws(seed=3))
    assert not same(draws(seed=3), draws(seed=4))
    first = draws(seed=3)
    assert not torch.equal(first[0], first[1])
    torch.manual_seed(5)
    by_global = draws()
    torch.manual_seed(5)
    assert same(by_global, draws())
    torch.manual_seed(6)
    assert not same(by_global, draws())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cagrad", {"c": -1.0}, "c is -1.0"),
        ("dwa", {"temperature": 0.0}, "temperature is 0.0"),
        ("dwa", {"steps_per_epoch": 0}, "steps_per_epoch is 0"),
        ("famo", {"learning_rate": -1.0}, "learning_rate is -1.0"),
        ("moco", {"beta": float("nan")}, "beta is nan"),
        ("graddrop", {"weighted_heads": True}, "graddrop has no weights"),
        ("fairgrad", {"max_norm": 0.0}, "max_norm is 0.0"),
    ],
)
def test_impossible_options_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        make_combiner(name, num_tasks=2, **options)
