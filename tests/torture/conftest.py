"""What the tests of the torture chamber share with those of the scripts."""

from tests.scripts.conftest import _as_it_was, finished, finished_run

__all__ = ["_as_it_was", "finished", "finished_run"]
