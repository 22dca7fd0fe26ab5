"""The signals that ask a program to stop."""

from __future__ import annotations

import signal

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
STOP_SIGNALS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))
"""Ctrl-C; a request to end; the end of the terminal; and the two that job schedulers send before a
time limit, whose default is to end a process at once. Windows has only the first two.

They reach every process of a group. Workers ignore them, and their parent decides.
"""
