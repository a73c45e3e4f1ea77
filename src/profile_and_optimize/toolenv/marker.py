"""`pao-tool.json`: written last into a finished environment; says what is in it, where from, and what it cost."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

NAME = "pao-tool.json"


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TorchWheel(_Value):
    """`origin` is "index" (PAO_TORCH_INDEX) or "configured" (pip's own settings). `as_locked` compares the wheel's
    hash with the one seen when the lock was made; None without a lock. Other builds of one version are no error."""

    version: str
    file: str
    sha256: str
    origin: Literal["index", "configured"]
    as_locked: bool | None


class Download(_Value):
    """Bytes by where pip took them. `seconds` is pip's whole download phase, its own start and hashing included, so
    bytes / seconds is a lower bound of the line's speed. `already_there_bytes` came from an interrupted attempt."""

    seconds: float
    index_bytes: int
    local_bytes: int
    already_there_bytes: int

    @property
    def bytes_per_s(self) -> float | None:
        """None when nothing was downloaded."""
        moved = self.index_bytes + self.local_bytes
        return moved / self.seconds if moved and self.seconds > 0 else None


class Marker(_Value):
    """Seconds and bytes. `folder` is where it was built: an environment does not work after a move. `torch` is None
    where the tool needs none."""

    schema_version: Literal[1] = 1
    tool: str
    variant: str
    folder: str
    source: Literal["lock", "resolved"]
    lock_digest: str
    versions: tuple[tuple[str, str], ...]
    torch: TorchWheel | None
    download: Download
    install_s: float
    verify_s: float
    env_bytes: int
    peak_bytes: int


def read(folder: Path) -> Marker | None:
    """None when the installer never came so far, or wrote another format."""
    try:
        return Marker.model_validate_json((folder / NAME).read_text())
    except (OSError, ValidationError):
        return None


def write(folder: Path, marker: Marker) -> None:
    part = folder / f"{NAME}.part"
    with part.open("w") as file:
        file.write(marker.model_dump_json(indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / NAME)
