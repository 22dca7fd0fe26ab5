#!/usr/bin/env bash
# gymnasium 1.4.0, metaworld 3.1.1, mujoco 3.3.0, numpy 2.4.6, Python 3.11.
#
# Question: two Meta-World tasks in a SyncVectorEnv report `obj_to_target`, a distance in metres. Does
# the vector environment give each row the number that its own environment reported?
# Guess: yes, as float64.
# Seen: the array gets the type of the first row that reports the info. door-open reports the integer
# 0. With door-open as first row, reach's distance of 0.17 is cut to 0. With reach as first row it is
# there. So an info depends on the order of the tasks.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  gymnasium==1.4.0 metaworld==3.1.1 mujoco==3.3.0 numpy==2.4.6 scipy==1.17.1 packaging
cd "$folder"
found=$("$folder/venv/bin/python" - <<'PYTHON'
import warnings

import metaworld
import numpy as np
from gymnasium.vector import SyncVectorEnv

warnings.simplefilter("ignore")


def make(name):
    benchmark = metaworld.MT1(name, seed=0)
    env = benchmark.train_classes[name]()
    env.set_task(benchmark.train_tasks[0])
    return env


for names in (["door-open-v3", "reach-v3"], ["reach-v3", "door-open-v3"]):
    envs = SyncVectorEnv([lambda name=name: make(name) for name in names])
    envs.reset()
    infos = envs.step(np.zeros((2, 4), np.float32))[4]
    values = infos["obj_to_target"]
    print(" ".join(names), values.dtype.kind, values[names.index("reach-v3")] > 0.1)
    envs.close()
PYTHON
)
expected="door-open-v3 reach-v3 i False
reach-v3 door-open-v3 f True"
echo "$found"
[ "$found" = "$expected" ] || { echo "the behaviour has changed; expected:"; echo "$expected"; exit 1; }
