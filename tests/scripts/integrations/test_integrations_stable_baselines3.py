"""Stable-Baselines3's SAC with the combiner in it is its own, and can be saved."""

import dataclasses

import pytest
import torch
from stable_baselines3 import SAC

from scripts.integrations import stable_baselines3_sac
from tests.scripts.integrations.gradients import assert_equation_4
from tests.scripts.integrations.short_runs import ARGUMENTS, TASKS
from tests.task_rows import flat

# Meta-World's one-hot wrapper makes its float64 bounds into gymnasium's default, float32.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*Box (low|high)'s precision lowered:UserWarning"),
]


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


def test_stable_baselines3_needs_the_number_of_tasks():
    with pytest.raises(ValueError, match="num_tasks is missing"):
        stable_baselines3_sac.FairGradSAC("MlpPolicy", "Pendulum-v1")
