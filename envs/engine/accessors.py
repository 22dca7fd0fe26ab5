"""MuJoCo's data with access by name that is looked up once."""

from __future__ import annotations

import weakref
from typing import Any

import mujoco


class Accessors:
    """What access by name gave, for as long as an environment lives."""

    def __init__(self) -> None:
        self.bodies: dict[str, Any] = {}
        self.geoms: dict[str, Any] = {}
        self.sites: dict[str, Any] = {}
        self.joints: dict[str, Any] = {}


class CachedData(mujoco.MjData):
    """`MjData` whose accessors by name are made once. They are views, so they stay valid.

    They hold the data, and the data is no Python object whose cycles could be found: so it must not
    hold them, or neither would ever be freed.
    """

    def __init__(self, model: mujoco.MjModel, accessors: Accessors):
        super().__init__(model)
        self._accessors = weakref.ref(accessors)

    def body(self, name: str) -> Any:
        known = self._accessors().bodies  # type: ignore[union-attr]
        try:
            return known[name]
        except KeyError:
            return known.setdefault(name, super().body(name))

    def geom(self, name: str) -> Any:
        known = self._accessors().geoms  # type: ignore[union-attr]
        try:
            return known[name]
        except KeyError:
            return known.setdefault(name, super().geom(name))

    def site(self, name: str) -> Any:
        known = self._accessors().sites  # type: ignore[union-attr]
        try:
            return known[name]
        except KeyError:
            return known.setdefault(name, super().site(name))

    def joint(self, name: str) -> Any:
        known = self._accessors().joints  # type: ignore[union-attr]
        try:
            return known[name]
        except KeyError:
            return known.setdefault(name, super().joint(name))
