"""Train a multi-task SAC agent on Meta-World.

python scripts/train.py [PRESET] [--flags]    python scripts/train.py --resume RUN
"""

from __future__ import annotations

import sys
import time
from typing import Any

from configs import PRESETS, RUN_KIND, check_config, to_dict
from configs.build import resolve_overlap
from mtrl_fair.runs import RunDirectory
from scripts.command_line import (
    bad_input_is_one_line,
    fail,
    parse,
    python,
    resolve_device,
    split_name,
    stop_on_signal,
    use_threads,
)
from scripts.training.allocator import keep_freed_memory
from scripts.training.resume import lock_and_load, open_run, say_finished
from scripts.training.run import train_run

DEFAULT_PRESET = "mt10-fairgrad"
DESCRIPTION = (
    "Train a multi-task SAC agent on Meta-World. Usage: train.py [PRESET] [--flags]. The preset"
    f" comes first: {', '.join(PRESETS)} (default: {DEFAULT_PRESET})."
    " The default takes about 41 hours on two cores without a GPU, mt10-small about two."
)


def main(arguments: list[str]) -> None:
    """Checks everything that can be checked, then trains."""
    run: RunDirectory | None = None
    state: dict[str, Any] | None = None
    with bad_input_is_one_line():
        preset, flags = split_name("preset", arguments, list(PRESETS))
        default = PRESETS[preset or DEFAULT_PRESET]
        config = parse(default, flags, description=DESCRIPTION)
        if config.resume is None:
            check_config(config, default)
        elif preset is not None:
            fail(f"--resume continues {config.resume} as it was configured: leave {preset} out")
        else:
            run, config = open_run(config.resume, flags)
        device = resolve_device(config.device)

    keep_freed_memory()
    should_stop = stop_on_signal()
    use_threads(config.threads)  # before the run's metadata says how many there are
    with bad_input_is_one_line():
        if run is None:
            config = resolve_overlap(config, device)
            stamp = time.strftime("%Y%m%d-%H%M%S")
            path = config.run_dir or f"runs/{preset or DEFAULT_PRESET}-seed{config.seed}-{stamp}"
            numbered = config.run_dir is None  # two runs may start in one second
            run = RunDirectory.create(path, to_dict(config), RUN_KIND, numbered=numbered)
        else:
            state = lock_and_load(run)
    if state is not None and (line := say_finished(run, config, state)) is not None:
        print(line)
        run.unlock()
        return

    finished = train_run(config, run, state, device, should_stop)
    if finished:
        print(f"finished. Evaluate it with: {python('evaluate.py')} {run.path}")
    else:
        print(f"stopped. Continue with: {python('train.py')} --resume {run.path}")
        sys.exit(130)


if __name__ == "__main__":
    main(sys.argv[1:])
