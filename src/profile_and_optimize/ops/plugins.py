"""Engines and clients of other packages: who offers what, and the switch that ignores them all. Nothing is imported here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points

SWITCH = "PAO_NO_PLUGINS"
KINDS = ("engine", "client")


@dataclass(frozen=True, slots=True)
class Plugin:
    """`target` is "module:Class"; `package` and `version` are those of the distribution that brings it."""

    kind: str
    name: str
    target: str
    package: str
    version: str


def switched_off(environ: Mapping[str, str] = os.environ) -> bool:
    return environ.get(SWITCH, "") not in ("", "0")


def installed(kind: str) -> tuple[Plugin, ...]:
    """What the packages in our environment offer in the group of that kind, used or not."""
    points = entry_points(group=f"profile_and_optimize.{kind}s")
    found = ((p, p.dist) for p in points)
    return tuple(
        Plugin(kind, p.name, f"{p.module}:{p.attr}", d.name if d else "unknown", d.version if d else "unknown")
        for p, d in found
    )


def used(kind: str) -> tuple[Plugin, ...]:
    return () if switched_off() else installed(kind)
