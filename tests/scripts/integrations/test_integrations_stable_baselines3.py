"""Stable-Baselines3's SAC with the combiner in it is its own, and can be saved."""

import dataclasses

import numpy as np
import pytest
import torch
from metaworld.policies import ENV_POLICY_MAP
from stable_baselines3 import SAC

from scripts.integrations import stable_baselines3_sac
from tests.scripts.integrations.gradients import assert_equation_4
from tests.scripts.integrations.short_runs import ARGUMENTS, TASKS
from tests.task_rows import flat

# Meta-World's one-hot wrapper makes its float64 bounds into gymnasium's default, float32.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*Box (low|high)'s precision lowered:UserWarning"),
    pytest.mark.filterwarnings("ignore:Constant:UserWarning"),  # of the scripted experts
]


def make_model(**options) -> stable_baselines3_sac.FairGradSAC:
    return stable_baselines3_sac.FairGradSAC(
        "MlpPolicy", "Pendulum-v1", num_tasks=len(TASKS), buffer_size=9, **options
    )


def test_with_shares_for_weights_it_is_stable_baselines3_s_own_sac(shares_for_weights):
    arguments = dataclasses.replace(ARGUMENTS, steps=110)
    fair = stable_baselines3_sac.train(arguments)
    own = stable_baselines3_sac.train(arguments, SAC)
    assert fair._n_updates == own._n_updates >= 9
    torch.testing.assert_close(
        flat(fair.policy.parameters()), flat(own.policy.parameters()), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(fair.log_ent_coef, own.log_ent_coef)


def test_a_saved_model_goes_on_after_loading(tmp_path, updates):
    model = stable_baselines3_sac.train(dataclasses.replace(ARGUMENTS, steps=105))
    model.save(tmp_path / "model")
    loaded = stable_baselines3_sac.FairGradSAC.load(tmp_path / "model", env=model.env)
    assert loaded.num_tasks == len(TASKS)
    loaded.replay_buffer = model.replay_buffer
    seen = len(updates)
    loaded.set_logger(model.logger)
    loaded.train(gradient_steps=2, batch_size=64)
    assert len(updates) == seen + 4
    rows = updates[-1].rows.double()
    assert_equation_4(rows @ rows.mT, updates[-1].weights)


def test_a_saved_model_keeps_the_state_of_its_combiners(tmp_path):
    """Random weights go on where they were, in a model that was loaded and in one that was not."""
    model = make_model(combiner="rlw", combiner_options={"seed": 5})
    losses = torch.ones(len(TASKS), requires_grad=True)
    first = model.critic_combiner.backward(losses, [losses]).weights
    model.save(tmp_path / "model")
    loaded = stable_baselines3_sac.FairGradSAC.load(tmp_path / "model")
    assert (loaded.combiner, loaded.combiner_options) == ("rlw", {"seed": 5})
    for name in stable_baselines3_sac.COMBINERS:
        weights = [
            getattr(each, name).backward(losses, [losses]).weights for each in (model, loaded)
        ]
        assert (weights[0] == weights[1]).all()
        assert ((weights[0] == first).all()) == (name == "actor_combiner")


@pytest.mark.parametrize("combiner", ["uw", "famo"])
def test_a_combiner_that_needs_more_is_refused(combiner):
    with pytest.raises(ValueError, match=f"combiner is '{combiner}', which needs a second forward"):
        make_model(combiner=combiner)


def test_a_success_at_any_step_counts_and_is_logged(capsys):
    """The expert of the first task reaches its goal early, and zero actions never the second's."""
    arguments = dataclasses.replace(ARGUMENTS, episode_steps=150)
    envs = [stable_baselines3_sac.make_env(arguments, task) for task in range(len(TASKS))]
    expert = ENV_POLICY_MAP[TASKS[0]]()
    for env, solved in zip(envs, (True, False), strict=True):
        for _ in range(2):
            observation, _ = env.reset()
            succeeded, truncated = [], False
            while not truncated:
                action = expert.get_action(observation[:39]) if solved else np.zeros(4)
                action = np.clip(action, -1, 1) if len(succeeded) < 110 else -np.ones(4)
                observation, _, _, truncated, info = env.step(action)
                succeeded.append(bool(info["success"]))
                assert info["is_success"] == any(succeeded)
            assert any(succeeded) == solved
            assert not succeeded[-1]
    stable_baselines3_sac.train(ARGUMENTS)
    assert "success_rate" in capsys.readouterr().out


def test_stable_baselines3_needs_the_number_of_tasks():
    with pytest.raises(ValueError, match="num_tasks is missing"):
        stable_baselines3_sac.FairGradSAC("MlpPolicy", "Pendulum-v1")
