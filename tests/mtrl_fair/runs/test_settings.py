"""Settings come back from JSON as they were, and what is no setting is refused in one line."""

import json
from dataclasses import dataclass, field
from typing import Literal

import pytest

from mtrl_fair.runs.settings import flag_name, from_dict, to_dict


@dataclass(frozen=True)
class Inner:
    width: int = 8
    mode: Literal["fast", "slow"] = "fast"
    options: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    name: str
    rate: float = 0.5
    bound: float | None = None
    flag: bool = False
    tasks: tuple[str, ...] = ()
    only_here: str | None = None
    inner: Inner = field(default_factory=Inner)


@pytest.mark.parametrize(
    "config",
    [
        Settings("a"),
        Settings("b", 2, 1e-3, True, ("x", "y"), None, Inner(3, "slow", {"c": 1, "d": 0.5})),
    ],
)
def test_settings_come_back_from_json(config):
    assert from_dict(Settings, json.loads(json.dumps(to_dict(config))), "here") == config
    assert from_dict(Settings, to_dict(config), "here") == config


def test_plain_data_is_that_of_json_and_may_leave_settings_out():
    config = Settings("a", tasks=("x",), only_here="me")
    values = to_dict(config, without=("only_here",))
    assert values == json.loads(json.dumps(values))
    assert values == {
        "name": "a",
        "rate": 0.5,
        "bound": None,
        "flag": False,
        "tasks": ["x"],
        "inner": {"width": 8, "mode": "fast", "options": {}},
    }


def test_a_setting_that_is_absent_has_its_default():
    assert from_dict(Settings, {"name": "a", "inner": {"width": 3}}, "here") == Settings(
        "a", inner=Inner(3)
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": 3}, "name in here is 3, expected str: restore the file"),
        ({"rate": "0.5"}, "rate in here is '0.5', expected float"),
        ({"rate": True}, "rate in here is True, expected float"),
        ({"rate": None}, "rate in here is None, expected float"),
        ({"bound": "1"}, "bound in here is '1', expected float or null"),
        ({"flag": 1}, "flag in here is 1, expected bool"),
        ({"tasks": "mt10"}, "tasks in here is 'mt10', expected a list of str"),
        ({"tasks": [1]}, r"tasks in here is \[1\], expected a list of str"),
        ({"inner": 3}, "inner in here is 3, expected an object with settings"),
        ({"inner": {"width": 2.0}}, "inner.width in here is 2.0, expected int"),
        ({"inner": {"width": True}}, "inner.width in here is True, expected int"),
        ({"inner": {"width": [2]}}, r"inner.width in here is \[2\], expected int"),
        ({"inner": {"mode": "fats"}}, "unknown inner.mode in here 'fats': did you mean fast"),
        ({"inner": {"options": 3}}, "options in here is 3, expected numbers by name"),
        ({"inner": {"options": {"c": True}}}, "expected numbers by name"),
        ({"inner": {"widht": 3}}, r"the setting 'inner.widht', .*near to it: inner.width\)"),
        ({"norm_rate": 0.1}, "here has the setting 'norm_rate', which this version of mtrl-fair"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(values, message):
    with pytest.raises(ValueError, match=message) as caught:
        from_dict(Settings, {"name": "a"} | values, "here")
    assert "\n" not in str(caught.value)


def test_a_setting_that_is_gone_says_which_version_reads_the_file():
    with pytest.raises(ValueError, match="an earlier version .* commit that the run's metadata"):
        from_dict(Settings, {"name": "a", "norm_rate": 0.1}, "here")


def test_a_setting_without_a_default_is_needed():
    with pytest.raises(ValueError, match="here lacks the setting name: restore the file"):
        from_dict(Settings, {"rate": 0.1}, "here")


def test_flags_have_dashes():
    assert flag_name("total_steps") == "--total-steps"
    assert flag_name("agent.actor.layer_norm") == "--agent.actor.layer-norm"
