#!/usr/bin/env bash
# gymnasium 1.4.0, numpy 2.4.6, Python 3.11.
#
# Question: RecordEpisodeStatistics around a SyncVectorEnv has counted three steps in two rows. Then
# `reset(options={"reset_mask": [True, False]})` resets the first row. What does the wrapper count?
# Guess: 0 and 3, because it has code for the mask.
# Seen: 0 and 0. SyncVectorEnv takes `reset_mask` out of the caller's own dict, so the wrapper, which
# looks after it, no longer finds the mask and clears all rows. The second row's next episode is then
# reported too short, and its return without the first rewards. A dict that is used again resets all.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  gymnasium==1.4.0 numpy==2.4.6
cd "$folder"
found=$("$folder/venv/bin/python" - <<'PYTHON'
import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics

make = lambda: gymnasium.make("CartPole-v1")
for mode in (AutoresetMode.SAME_STEP, AutoresetMode.DISABLED):
    envs = RecordEpisodeStatistics(SyncVectorEnv([make, make], autoreset_mode=mode))
    envs.reset(seed=0)
    for _ in range(3):
        envs.step(np.array([0, 1]))
    options = {"reset_mask": np.array([True, False])}
    envs.reset(options=options)
    print(mode.name, envs.episode_lengths.tolist(), options)
PYTHON
)
expected="SAME_STEP [0, 0] {}
DISABLED [0, 0] {}"
echo "$found"
[ "$found" = "$expected" ] || { echo "the behaviour has changed; expected:"; echo "$expected"; exit 1; }
