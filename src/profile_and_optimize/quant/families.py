"""What is known of a model family, by the `model_type` of its config: recipe, what stays unquantized, what it needs."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from typing import Any

from profile_and_optimize.core.errors import WrongUse

RECIPES = ("generic", "native-plugin", "fail-closed")
ROUTERS = ("", "softmax", "sigmoid-bias", "sigmoid-top1")
NEEDS = ("mm-assets", "mamba-kernels")
DEFAULT = "default"
TABLE = "families.toml"
# Keys of a config that count experts, whatever the family calls them.
_EXPERTS = re.compile(r"(?:^|_)experts$")


@dataclass(frozen=True, slots=True)
class Family:
    """One entry of the registry, resolved for one model. `exclude` are shell patterns on module names."""

    name: str
    model_type: str
    recipe: str
    exclude: tuple[str, ...]
    moe: bool
    transformers: str
    router: str = ""
    activation: str = ""
    needs: tuple[str, ...] = ()
    seen: str = ""
    note: str = ""
    why: str = ""

    def __post_init__(self) -> None:
        if self.recipe not in RECIPES or self.router not in ROUTERS or not set(self.needs) <= set(NEEDS):
            raise ValueError(f"family {self.name}: recipe {self.recipe!r}, router {self.router!r}, needs {self.needs}")
        if self.recipe == "fail-closed" and not self.why:
            raise ValueError(f"family {self.name}: refused without a reason")
        if self.moe and self.recipe != "fail-closed" and not self.router:
            raise ValueError(f"family {self.name}: experts without a router")

    def to_json(self) -> dict[str, Any]:
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def family_from_json(data: Mapping[str, Any]) -> Family:
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
    return Family(**values)


@cache
def table() -> Mapping[str, Any]:
    return tomllib.loads((resources.files(__package__) / TABLE).read_text(encoding="utf-8"))


def family_names() -> tuple[str, ...]:
    return tuple(table()["family"])


def family_of(config: Mapping[str, Any]) -> Family:
    """The entry for a model's config.json.

    A model type without an entry is taken as a plain dense model when its config counts no experts; with experts the
    family comes back as fail-closed, because a mixture that a backend does not know is left unquantized in silence.
    Raises WrongUse for a config without a model type.
    """
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or not model_type:
        raise WrongUse("config.json names no model_type", where="--model", next="give a folder in Hugging Face layout")
    name = next((n for n, row in table()["family"].items() if model_type in row["model_types"]), None)
    if name is None:
        return _unknown(model_type, config)
    row = table()["family"][name]
    if isinstance(row["moe"], str) and not text_part(config).get(row["moe"]):
        name, row = f"{name}_dense", table()["family"][f"{name}_dense"]
    return _entry(name, model_type, row)


def _entry(name: str, model_type: str, row: Mapping[str, Any]) -> Family:
    return Family(
        name=name, model_type=model_type, recipe=row["recipe"], exclude=tuple(row["exclude"]), moe=bool(row["moe"]),
        transformers=row["transformers"], router=row.get("router", ""), activation=row.get("activation", ""),
        needs=tuple(row.get("needs", ())), seen=row["seen"], note=row.get("note", ""), why=row.get("why", ""),
    )  # fmt: skip


def _unknown(model_type: str, config: Mapping[str, Any]) -> Family:
    default = _entry(DEFAULT, model_type, table()[DEFAULT])
    count = experts_of(config)
    if count < 2:
        return default
    return Family(
        name="unknown", model_type=model_type, recipe="fail-closed", exclude=default.exclude, moe=True,
        transformers=default.transformers,
        why=f"model type {model_type!r} has {count} experts and no entry in {TABLE}: a quantizer that does not know its "
        "expert module leaves most of the weights as they are, in silence",
    )  # fmt: skip


def text_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The language model's own part of a config: a multimodal one nests it."""
    inner = config.get("text_config")
    return inner if isinstance(inner, Mapping) else config


def experts_of(config: Mapping[str, Any]) -> int:
    """The largest number of experts that a config counts anywhere; 0 where it counts none."""
    counts = [0]
    for key, value in config.items():
        if isinstance(value, Mapping):
            counts.append(experts_of(value))
        elif isinstance(value, int) and not isinstance(value, bool) and _EXPERTS.search(key) and "shared" not in key:
            counts.append(value)
    return max(counts)


def require_known(family: Family) -> None:
    """Raises WrongUse for a family that is refused, with how to add an entry."""
    if family.recipe == "fail-closed":
        raise WrongUse(
            family.why,
            where="--model",
            next=f"add [family.{family.model_type}] to quant/{TABLE} (docs/quantization.md shows how) and try it on a tiny model first",
        )


def in_range(version: str, wanted: str) -> bool:
    """Is a release such as 5.14.1 within ">=5.5,<5.15"? Only >=, <= , <, > and == are known; a suffix is cut off."""
    return all(_meets(_numbers(version), part.strip()) for part in wanted.split(",") if part.strip())


def _meets(version: tuple[int, ...], part: str) -> bool:
    sign, limit = re.match(r"(>=|<=|==|<|>)(.+)", part).groups()  # type: ignore[union-attr]
    bound = _numbers(limit)
    size = max(len(version), len(bound))
    a, b = (v + (0,) * (size - len(v)) for v in (version, bound))
    return {">=": a >= b, "<=": a <= b, "==": a == b, "<": a < b, ">": a > b}[sign]


def _numbers(text: str) -> tuple[int, ...]:
    found = re.match(r"\d+(?:\.\d+)*", text.strip())
    return tuple(int(n) for n in found.group().split(".")) if found else ()
