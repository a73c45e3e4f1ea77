"""Where a config holds the width of its experts, and what else takes its width from there: by model type, as data."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.quant.families import experts_of, text_part

TABLE = "experts.toml"
SHARED, STACKED = ("none", "own", "same", "times"), ("rows", "columns", "either")


@dataclass(frozen=True, slots=True)
class Layout:
    """How the experts of a model type lie. `refused` says why they cannot be padded; the rest is then empty."""

    width: str = ""
    shared: str = "none"
    shared_count: str = ""
    stacked: str = "rows"
    refused: str = ""

    def __post_init__(self) -> None:
        if self.refused:
            return
        if not self.width or self.shared not in SHARED or self.stacked not in STACKED:
            raise ValueError(f"width {self.width!r}, shared {self.shared!r}, stacked {self.stacked!r}")
        if (self.shared == "times") != bool(self.shared_count):
            raise ValueError(
                "shared experts of a multiple of the width need the key that counts them, others have none"
            )


@dataclass(frozen=True, slots=True)
class Experts:
    """The experts of one model: the key of their width, that width, and the width of the shared experts that depend on
    the same key (0 where none do)."""

    layout: Layout
    key: str
    width: int
    shared_times: int


@cache
def layouts() -> Mapping[str, Layout]:
    """By model type."""
    rows = tomllib.loads((resources.files(__package__) / TABLE).read_text(encoding="utf-8"))["layout"]
    return {
        t: Layout(**{k: v for k, v in row.items() if k != "model_types"}) for row in rows for t in row["model_types"]
    }


def unpaddable(config: Mapping[str, Any]) -> str | None:
    """Why the experts of this model cannot be padded; None where they can, as far as its config tells."""
    try:
        experts(config)
    except WrongUse as e:
        return e.message
    return None


def experts(config: Mapping[str, Any]) -> Experts:
    """Raises WrongUse, from the config alone, for what cannot be padded."""
    text = text_part(config)
    if experts_of(text) < 1:
        raise WrongUse("has no experts", where="config.json", next="only a mixture of experts needs padding")
    layout = _layout(config, text)
    if layout.refused:
        raise WrongUse(
            f"the experts of {_types(config)[0]} are not padded: {layout.refused}",
            where="config.json",
            next="serve it with another kernel or fewer ranks",
        )
    width = text.get(layout.width)
    if not _count(width):
        raise WrongUse(
            f"the experts' width is not one number: {layout.width} is {width!r}",
            where="config.json",
            next="give it as a number above 0",
        )
    return Experts(layout, layout.width, int(width), _times(layout, text))  # type: ignore[arg-type]


def _layout(config: Mapping[str, Any], text: Mapping[str, Any]) -> Layout:
    found = next((layouts()[t] for t in _types(config) if t in layouts()), None)
    if found is None:
        raise WrongUse(
            f"how the experts of model type {' in '.join(_types(config)) or 'unknown'} lie is not known", where="config.json",
            next=f"add it to quant/{TABLE} and try it on a tiny model first",
        )  # fmt: skip
    return found


def _types(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The model type of the language model, then of the whole."""
    named = (text_part(config).get("model_type"), config.get("model_type"))
    return tuple(dict.fromkeys(t for t in named if isinstance(t, str) and t))


def _times(layout: Layout, text: Mapping[str, Any]) -> int:
    """How many widths of an expert a shared one is wide, 0 where it has a width of its own or there is none."""
    if layout.shared in ("none", "own"):
        return 0
    if layout.shared == "same":
        return 1
    count = text.get(layout.shared_count)
    if count in (None, 0):
        return 0
    if not _count(count):
        raise WrongUse(f"{layout.shared_count} is {count!r}", where="config.json", next="give it as a number above 0")
    return int(count)


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
