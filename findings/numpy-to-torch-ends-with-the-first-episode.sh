#!/usr/bin/env bash
# gymnasium 1.4.0, torch 2.13.0, array-api-compat 1.13.0, numpy 2.4.6, Python 3.11.
#
# Question: NumpyToTorch around a vector environment with autoreset SAME_STEP, which it accepts. What
# does it do with `final_obs`, an array of objects, in the step in which the first episode ends?
# Guess: it leaves the array of objects as it is, or converts each observation in it.
# Seen: every step works until then, and that step raises a BufferError from DLPack. With NEXT_STEP it
# works. In Meta-World the first episode ends after 500 steps, in all rows at once: long after the
# code seemed to run.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  gymnasium==1.4.0 torch==2.13.0 array-api-compat==1.13.0 numpy==2.4.6 packaging
cd "$folder"
found=$("$folder/venv/bin/python" - <<'PYTHON'
import gymnasium
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import NumpyToTorch

make = lambda: gymnasium.make("CartPole-v1")
for mode in (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP):
    envs = NumpyToTorch(SyncVectorEnv([make, make], autoreset_mode=mode))
    envs.reset(seed=0)
    outcome = "no error"
    for step in range(1, 31):
        try:
            ended = envs.step(torch.tensor([0, 1]))[2].any()
        except BufferError:
            outcome = "BufferError" if step > 5 else "BufferError at once"
            break
    print(mode.name, outcome)
PYTHON
)
expected="SAME_STEP BufferError
NEXT_STEP no error"
echo "$found"
[ "$found" = "$expected" ] || { echo "the behaviour has changed; expected:"; echo "$expected"; exit 1; }
