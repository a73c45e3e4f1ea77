"""Plugins of ours that a tool loads by itself where it finds them: each a folder of `plugins/`, laid over no environment.

A server is given one by its PYTHONPATH, and only a server that cannot do without it: the others stay what their release
is. What it changes stands in the context of every number from that server, with the digest of its bytes.
"""

from __future__ import annotations

from pathlib import Path

from profile_and_optimize.toolenv.overlay import digest_of_folder

FOLDER = Path(__file__).parent / "plugins"
VLLM_NVFP4_CPU = "vllm_nvfp4_cpu"


def folder_of(name: str) -> Path:
    """Where it lies. Raises FileNotFoundError for one that there is not."""
    found = FOLDER / name
    if not found.is_dir():
        raise FileNotFoundError(found)
    return found


def label(path: str) -> str | None:
    """ "vllm_nvfp4_cpu 0123456789ab (ours)" of such a folder as it is now; None of any other path."""
    found = Path(path)
    if found.parent != FOLDER or not found.is_dir():
        return None
    return f"{found.name} {digest_of_folder(found)} (ours)"
