"""What a vendor's quantized checkpoint left unquantized, as patterns on module names: so that ours is compared like for like."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profile_and_optimize.core.errors import WrongUse

# A regular expression of compressed-tensors that a shell pattern can say as well.
_PIECES = re.compile(r"\\\.|\.\*|\\d\+|\[0-9\]\+|[\w*-]|[.]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Scope:
    """`exclude` are patterns; `faulty` are entries of the vendor's list that name nothing a model can have."""

    exclude: tuple[str, ...]
    faulty: tuple[str, ...]


def vendor_scope(folder: Path) -> Scope:
    """Of hf_quant_config.json, or of the quantization part of config.json. Raises WrongUse where there is neither."""
    found = _entries(folder)
    bad = tuple(e for e in found if _CONTROL.search(e))
    return Scope(tuple(dict.fromkeys(as_pattern(e, folder) for e in found if e not in bad)), bad)


def _entries(folder: Path) -> tuple[str, ...]:
    for name, path in (("hf_quant_config.json", ("quantization",)), ("config.json", ("quantization_config",))):
        part: Any = _read(folder / name)
        for key in path:
            part = part.get(key) if isinstance(part, dict) else None
        if isinstance(part, dict):
            listed: Any = next(
                (part[k] for k in ("exclude_modules", "ignore", "modules_to_not_convert") if part.get(k)), []
            )
            if isinstance(listed, list) and all(isinstance(e, str) for e in listed):
                return tuple(listed)
    raise WrongUse(
        "is not a quantized checkpoint: it has neither hf_quant_config.json nor a quantization_config",
        where=f"--match-vendor {folder}", next="give the folder of the vendor's checkpoint",
    )  # fmt: skip


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as e:
        raise WrongUse(f"cannot be read: {e}", where=str(file), next="fetch the checkpoint again") from e


def as_pattern(entry: str, folder: Path) -> str:
    """A vendor's entry as a shell pattern. Raises WrongUse for a regular expression that has none."""
    if not entry.startswith("re:"):
        return entry
    text = entry[3:].removeprefix("^")
    ends = text.endswith("$")
    text = text.removesuffix("$")
    if "".join(_PIECES.findall(text)) != text:
        raise WrongUse(
            f"{entry!r} has no equal among shell patterns", where=f"--match-vendor {folder}",
            next="leave --match-vendor out and say it with --exclude-pattern",
        )  # fmt: skip
    said = {"\\.": ".", ".*": "*", "\\d+": "*", "[0-9]+": "*"}
    made = "".join(said.get(piece, piece) for piece in _PIECES.findall(text))
    return made if ends or made.endswith("*") else made + "*"
