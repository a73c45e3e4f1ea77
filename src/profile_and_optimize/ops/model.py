"""What a model argument points at."""

from __future__ import annotations

import json
from pathlib import Path

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.names import not_an_option

PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"})


def check_model(model: str) -> str:
    """An absolute folder with config and tokenizer, or a hub id as it is. Raises WrongUse naming what is missing."""
    not_an_option(model, "--model")
    path = Path(model)
    if path.is_dir():
        for name in ("config.json", "tokenizer.json"):
            if not (path / name).is_file():
                raise WrongUse(
                    f"this model folder has no {name}", where=model, next="give a folder in Hugging Face layout"
                )
        _readable_json(path / "config.json")
        _check_weights(path)
        return str(path.absolute())
    if model.count("/") == 1 and not model.startswith((".", "/", "~")) and all(model.split("/")):
        return model
    raise WrongUse(
        "no such folder, and not a Hugging Face id (owner/name)", where=model, next="give a model folder or owner/name"
    )


def _check_weights(folder: Path) -> None:
    """Raises WrongUse for weights that only come as pickles, and for pickles under the name of safetensors.

    Pickles beside safetensors are left alone: engines then read the safetensors, and trainers leave such files behind.
    """
    safe = sorted(p for p in folder.glob("*.safetensors") if p.is_file())
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLES)
    if pickles and not safe:
        raise WrongUse(
            f"weights are pickles ({pickles[0]}), which are refused",
            where=str(folder),
            next="convert them to safetensors",
        )
    for path in safe:
        with open(path, "rb") as f:
            head = f.read(9)
        size = int.from_bytes(head[:8], "little")
        if head[8:] != b"{" or size > path.stat().st_size - 8:
            raise WrongUse("not a safetensors file, whatever its name says", where=str(path), next="download it again")


def _readable_json(path: Path) -> None:
    try:
        json.loads(path.read_text())
    except (ValueError, OSError, RecursionError) as e:
        raise WrongUse(f"not JSON: {e}", where=str(path), next="fix or re-download the model") from e
