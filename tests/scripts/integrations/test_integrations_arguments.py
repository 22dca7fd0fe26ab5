"""The command line that the integrations share."""

import pytest

from scripts.integrations.arguments import AgentArguments, read


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tasks", "reach-v4"], "unknown task 'reach-v4': did you mean reach-v3"),
        (["--tasks", "mt10"], "mt10 is a whole benchmark"),
        (["--steps", "0"], "--steps is 0, expected at least 1"),
        (["--batch-size", "2"], "--batch-size is 2, expected at least 1 for each of 3 tasks"),
        (["--episode-steps", "501"], "--episode-steps is 501, expected 1 to 500"),
        (["--learning-starts", "-1"], "--learning-starts is -1, expected at least 0"),
        (["--seed", "-1"], "--seed is -1, expected 0 to 2**32 - 1"),
    ],
)
def test_bad_input_is_one_line(words, message, capsys):
    with pytest.raises(SystemExit) as caught:
        read(words, AgentArguments(), description=None)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
