"""Code of ours that is laid over a tool's environment where the released packages alone do not run.

What is laid over a release is no release: the engine says `overlay` of itself, names every piece, and no arm of it passes
the gate on pinned sources. The bytes are part of the environment's digest.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

FOLDER = Path(__file__).parent / "overlays"


def digest_of_overlay(name: str) -> str:
    """12 hex digits over names and bytes of its files; "" for no overlay."""
    return digest_of_folder(FOLDER / name) if name else ""


def digest_of_folder(folder: Path) -> str:
    """The same of any folder of ours. Raises FileNotFoundError for one without files."""
    whole = hashlib.sha256()
    for path in _files(folder):
        whole.update(f"{path.relative_to(folder).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return whole.hexdigest()[:12]


def lay(name: str, site: Path) -> None:
    """Copy its files into a site folder. A file that is there already is not ours to replace: FileExistsError."""
    for path in _files(FOLDER / name):
        target = site / path.relative_to(FOLDER / name)
        if target.exists():
            raise FileExistsError(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def pieces(name: str) -> tuple[str, ...]:
    """What lies at the top of it, such as a package or a .pth file."""
    return tuple(sorted({path.relative_to(FOLDER / name).parts[0] for path in _files(FOLDER / name)})) if name else ()


def _files(folder: Path) -> list[Path]:
    found = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    if not found:
        raise FileNotFoundError(folder)
    return sorted(found)
