"""Sizes and names that every Meta-World environment shares."""

OBSERVATION_SIZE = 39
ACTION_SIZE = 4
MAX_EPISODE_STEPS = 500
"""Meta-World's horizon; the package refuses to step further."""
NUM_GOALS = 50
"""Goals that the package draws per task."""
NO_SUCCESS_WITH_V1 = ("hand-insert-v3", "peg-insert-side-v3", "stick-push-v3")
"""Tasks whose success the package never reports with the v1 reward, not even for its experts."""
INFO_KEYS = (
    "success",
    "near_object",
    "grasp_success",
    "grasp_reward",
    "in_place_reward",
    "obj_to_target",
    "unscaled_reward",
)
"""What every Meta-World environment's info holds."""
