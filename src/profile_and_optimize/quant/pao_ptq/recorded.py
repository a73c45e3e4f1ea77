"""facts.json as values: what a backend left in the model, as the writer saw it and the checks are told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .files import SCHEMA
from .stop import Stop


@dataclass(frozen=True)
class ModuleFact:
    """A module with weights of its own; `kind` is linear, experts, router, lm_head, embedding, vision or other."""

    name: str
    kind: str
    params: int
    quantized: bool
    weight_format: str | None
    group_size: int | None


@dataclass(frozen=True)
class Range:
    """The largest magnitudes that a quantizer keeps, over its units; None where there are none, or not finite."""

    amax_finite: bool | None = None
    amax_min: float | None = None
    amax_max: float | None = None


@dataclass(frozen=True)
class QuantizerFact:
    """`of` is weight, input, output or kv. `dynamic` ones take their range as it runs; `saw_tokens` None: it does not matter."""

    name: str
    of: str
    enabled: bool
    dynamic: bool
    amax_finite: bool | None
    amax_min: float | None
    amax_max: float | None
    saw_tokens: bool | None


@dataclass(frozen=True)
class ExpertsFact:
    """One layer's routed experts. `tokens` of each, None where they were not counted."""

    name: str
    layout: str
    count: int
    projections: int
    weight_quantizers: int
    tokens: tuple[int, ...] | None


@dataclass(frozen=True)
class Facts:
    """Names are those of the files. `tied` are pairs of modules that share a tensor."""

    backend: str
    target: str
    model_type: str
    architectures: tuple[str, ...]
    modules: tuple[ModuleFact, ...]
    quantizers: tuple[QuantizerFact, ...]
    experts: tuple[ExpertsFact, ...]
    unquantized: tuple[str, ...]
    tied: tuple[tuple[str, str], ...]
    base_bytes: int
    base_params: int

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self)}


def facts_from(told: Mapping[str, Any]) -> Facts:
    """Raises Stop for a record that lacks something."""
    try:
        return Facts(
            backend=str(told["backend"]), target=str(told["target"]), model_type=str(told["model_type"]),
            architectures=tuple(told["architectures"]), modules=tuple(ModuleFact(**m) for m in told["modules"]),
            quantizers=tuple(QuantizerFact(**q) for q in told["quantizers"]),
            experts=tuple(
                ExpertsFact(**{**e, "tokens": None if e["tokens"] is None else tuple(e["tokens"])}) for e in told["experts"]
            ),
            unquantized=tuple(told["unquantized"]), tied=tuple((str(a), str(b)) for a, b in told["tied"]),
            base_bytes=int(told["base_bytes"]), base_params=int(told["base_params"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        what = f"no record of a quantization: {type(error).__name__} {error}"
        raise Stop("broke", what, where="facts.json", next="quantize again") from error
