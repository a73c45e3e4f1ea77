"""What a padding will do, decided and refused before anything is written: the width, the files, and how each tensor grows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.quant.experts import Experts, experts
from profile_and_optimize.quant.gaps import ALIGN, padded_width
from profile_and_optimize.quant.pad_check import Tensor, tensors_in
from profile_and_optimize.quant.pad_growth import PLAIN, Growth, Stored, growth_of, stored_as

INDEX = "model.safetensors.index.json"


@dataclass(frozen=True, slots=True)
class Plan:
    """One padding, decided before anything is written. `files` are the safetensors files that the index names."""

    model: Path
    config: Mapping[str, Any]
    found: Experts
    after: int
    stored: Stored
    files: Mapping[str, Path]
    tensors: Mapping[str, Tensor]
    growths: Mapping[str, Growth]

    @property
    def plain(self) -> bool:
        """Can plain transformers be trusted to load it? Only where nothing is quantized."""
        return "quantization_config" not in self.config and not (self.model / "hf_quant_config.json").exists() and all(
            self.tensors[n].dtype in PLAIN for n in self.growths
        )  # fmt: skip


def planned(model: Path, tp: int, multiple: int = ALIGN) -> Plan:
    """Raises WrongUse, before anything is written, for whatever cannot be padded."""
    if tp < 1 or multiple < 1:
        raise WrongUse(f"{tp} ranks, multiples of {multiple}", where="--tp, --multiple", next="1 or more")
    config = json_in(model / "config.json", needed=True)
    found = experts(config)
    after = padded_width(found.width, tp, multiple)
    if after == found.width:
        raise WrongUse(
            f"the experts are {after} wide, a multiple of {multiple} x {tp} already", where=str(model), next="serve it as it is",
        )  # fmt: skip
    stored = stored_as(config, json_in(model / "hf_quant_config.json"))
    files = weight_files(model)
    tensors = tensors_in(files)
    growths = {n: growth_of(n, t.dtype, t.shape, found, after, stored) for n, t in tensors.items()}
    grown = {n: g for n, g in growths.items() if g is not None}
    if not any(g.new > g.old for g in grown.values()):
        raise WrongUse("no tensor of an expert was found", where=str(model), next="this layout of experts is not known")
    return Plan(model, config, found, after, stored, files, tensors, grown)


def weight_files(model: Path) -> dict[str, Path]:
    """By name; those that the index names where there is one, for what else lies there belongs to another copy."""
    if (model / INDEX).exists():
        named = sorted(set((json_in(model / INDEX, needed=True).get("weight_map") or {}).values()))
        wrong = next(
            (n for n in named if not isinstance(n, str) or Path(n).name != n or not (model / n).is_file()), None
        )
        if not named or wrong is not None:
            raise WrongUse(
                f"the index names {wrong or 'no file'}, which is not there",
                where=str(model / INDEX),
                next="fetch the model again",
            )
    else:
        named = sorted(p.name for p in model.glob("*.safetensors"))
    if not named:
        raise WrongUse("no safetensors file", where=str(model), next="--model DIR")
    return {n: model / n for n in named}


def json_in(file: Path, *, needed: bool = False) -> dict[str, Any]:
    """{} for a file that is not there. Raises WrongUse for one that cannot be read, or is needed and not there."""
    if not needed and not file.exists():
        return {}
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as e:
        raise WrongUse(
            f"{file.name} cannot be read: {e}", where=str(file), next="--model DIR, in Hugging Face layout"
        ) from e
    if not isinstance(found, dict):
        raise WrongUse(f"{file.name} is not an object", where=str(file), next="--model DIR, in Hugging Face layout")
    return found
