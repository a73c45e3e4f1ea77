"""The download phase: wheels into a folder, in batches that survive an interruption, counted and timed."""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Literal

import httpx

from profile_and_optimize.core.errors import BrokeMidway, Unreachable, WrongUse
from profile_and_optimize.toolenv.child import Child, must, redact
from profile_and_optimize.toolenv.lock import Pin, pin_of, sha256_of
from profile_and_optimize.toolenv.marker import Download

DEFAULT_TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
# pip starts in about a second; a batch is what an interruption costs. 16 packages or 64 MB keep both small.
BATCH_PACKAGES = 16
# NVIDIA's name on packages without a CUDA library: bindings that look for the driver when used, and its quantizer in Python.
SMALL = ("nvidia-ml-py", "nvidia-modelopt")
BATCH_BYTES = 64_000_000

Say = Callable[[str], None]
Origin = Literal["index", "configured"]


@dataclass(slots=True)
class Tally:
    """What the download phase moved so far (see marker.Download)."""

    seconds: float = 0.0
    index_bytes: int = 0
    local_bytes: int = 0
    already_there_bytes: int = 0
    packages: int = 0
    _local: set[str] = field(default_factory=set)

    def hear(self, line: str) -> None:
        """pip says "Processing PATH" for a wheel in a local folder, "Collecting ..." for one it downloads."""
        if line.startswith("Processing "):
            self._local.add(line.split()[1].rsplit("/", 1)[-1])

    def is_local(self, file: str) -> bool:
        return file in self._local

    def download(self) -> Download:
        return Download(
            seconds=round(self.seconds, 1),
            index_bytes=self.index_bytes,
            local_bytes=self.local_bytes,
            already_there_bytes=self.already_there_bytes,
        )

    def count(self, wheel: Path) -> None:
        size, self.packages = wheel.stat().st_size, self.packages + 1
        if self.is_local(wheel.name):
            self.local_bytes += size
        else:
            self.index_bytes += size


@dataclass(frozen=True, slots=True)
class Fetcher:
    """pip of one environment, downloading into `wheels`. `env` comes from `child.child_env`."""

    python: Path
    wheels: Path
    env: Mapping[str, str]
    child: Child
    tally: Tally = field(default_factory=Tally)

    def _download(self, *what: str, doing: str) -> None:
        # Without pip's cache: the stated seconds are then a real download, and the disk holds each wheel once.
        flags = ("--no-deps", "--no-cache-dir", "--only-binary=:all:", "--progress-bar=off", "-d", str(self.wheels))
        before, argv = monotonic(), [str(self.python), "-m", "pip", "download", *flags, *what]
        try:
            must(self.child, argv, env=self.env, doing=doing, on_line=self.tally.hear)
        finally:
            self.tally.seconds += monotonic() - before

    def torch(self, requirement: str, index: str | None) -> tuple[Pin, Origin]:
        """The wheel of an exact +cpu version, and where it came from. `index` None: pip's own settings only.

        Raises WrongUse for a version that is not a +cpu build (CUDA builds are gigabytes), BrokeMidway without one.
        """
        if not requirement.endswith("+cpu"):
            raise WrongUse(f"{requirement} is not a CPU build; a CUDA build would download gigabytes")
        there = self._torch_there(requirement)
        if there is not None:
            self.tally.already_there_bytes += there.stat().st_size
            self.tally.packages += 1
        else:
            there = self._new_torch(requirement, index)
        return pin_of(there), "index" if self._from_index.exists() else "configured"

    def _new_torch(self, requirement: str, index: str | None) -> Path:
        self._from_index.unlink(missing_ok=True)
        asked_index = self._download_torch(requirement, index)
        there = self._torch_there(requirement)
        if there is None:
            raise BrokeMidway(f"pip delivered another build than {requirement}", where=str(self.wheels))
        self.tally.count(there)
        # With --index-url pip still looks into its configured folders, and may take the wheel there.
        if asked_index and not self.tally.is_local(there.name):
            self._from_index.touch()
        return there

    @property
    def _from_index(self) -> Path:
        """Lies beside a torch wheel that came from the index: a later attempt finds the wheel and must know."""
        return self.wheels / "torch-is-from-index"

    def _torch_there(self, requirement: str) -> Path | None:
        """No hash is enforced on torch, so a wheel that an interruption cut short is found by its missing end."""
        wheel = next(self.wheels.glob(f"{requirement.replace('==', '-')}-*.whl"), None)
        if wheel is not None and not zipfile.is_zipfile(wheel):
            wheel.unlink()
            return None
        return wheel

    def _download_torch(self, requirement: str, index: str | None) -> bool:
        """Whether the index delivered; False: pip's own settings did."""
        doing = f"download of {requirement}"
        if index is not None:
            # Reachable but without this build (another Python, a mirror): pip's own settings may have it.
            with contextlib.suppress(BrokeMidway):
                self._download("--index-url", index, requirement, doing=doing)
                return True
        try:
            self._download(requirement, doing=doing)
        except BrokeMidway as error:
            raise Unreachable(
                f"{error.message}. {requirement} is not on PyPI",
                next="set PAO_TORCH_INDEX to an index that has it, or PIP_FIND_LINKS to a folder with the wheel",
            ) from error
        return False

    def packages(self, pins: Iterable[Pin], say: Say) -> None:
        """Every pinned wheel that is not there yet, hash enforced by pip. `say` hears done/total after each batch."""
        pins = tuple(pins)
        total = sum(pin.size_bytes or 0 for pin in pins)
        missing = [pin for pin in pins if not self._there(pin)]
        done, done_bytes = len(pins) - len(missing), total - sum(pin.size_bytes or 0 for pin in missing)
        self.tally.already_there_bytes += done_bytes
        self.tally.packages += done
        for batch in batches(missing):
            self._batch(batch)
            done, done_bytes = done + len(batch), done_bytes + sum(pin.size_bytes or 0 for pin in batch)
            of = f", {done_bytes / 1e6:.0f}/{total / 1e6:.0f} MB" if total else ""
            say(f"packages {done}/{len(pins)}{of}")

    def _there(self, pin: Pin) -> bool:
        path = self.wheels / pin.file
        return path.exists() and sha256_of(path) == pin.sha256

    def _batch(self, batch: tuple[Pin, ...]) -> None:
        for pin in batch:
            (self.wheels / pin.file).unlink(missing_ok=True)  # a broken rest would stand in pip's way
        lines = write_requirements(self.wheels / "batch.txt", batch)
        self._download("--require-hashes", "-r", str(lines), doing=f"download of {batch[0].name} and others")
        for pin in batch:
            self.tally.count(self.wheels / pin.file)


def batches(pins: Iterable[Pin]) -> tuple[tuple[Pin, ...], ...]:
    """Pins in order, at most BATCH_PACKAGES and about BATCH_BYTES each; a larger wheel goes alone."""
    found: list[tuple[Pin, ...]] = []
    now: list[Pin] = []
    for pin in pins:
        if now and (len(now) == BATCH_PACKAGES or _bytes(now) + (pin.size_bytes or 0) > BATCH_BYTES):
            found.append(tuple(now))
            now = []
        now.append(pin)
    return (*found, tuple(now)) if now else tuple(found)


def _bytes(pins: Iterable[Pin]) -> int:
    return sum(pin.size_bytes or 0 for pin in pins)


def write_requirements(path: Path, pins: Iterable[Pin]) -> Path:
    path.write_text("".join(pin.line() + "\n" for pin in pins))
    return path


def torch_index(environ: Mapping[str, str] = os.environ) -> str:
    """PAO_TORCH_INDEX (a URL or a folder), or PyTorch's public CPU index. Raises WrongUse for an option."""
    index = environ.get("PAO_TORCH_INDEX") or DEFAULT_TORCH_INDEX
    if index.startswith("-"):
        raise WrongUse(f"{index!r} is not a URL", where="PAO_TORCH_INDEX", next="unset it, or give a URL or a folder")
    return index


def reachable(index: str, *, timeout_s: float = 4.0) -> bool:
    """Whether the index answers within a few seconds. A folder or file: URL is reachable when it exists."""
    if not index.startswith(("http://", "https://")):
        return Path(index.removeprefix("file://")).is_dir()
    try:
        return httpx.head(f"{index.rstrip('/')}/torch/", timeout=timeout_s).status_code < 400
    except (httpx.HTTPError, httpx.InvalidURL):
        return False


def choose_index(say: Say, *, index: str, answers: Callable[[str], bool] = reachable) -> str | None:
    """The torch index when it answers, else None (pip's own settings); says which."""
    if answers(index):
        say(f"torch from {redact(index)}")
        return index
    say(f"{redact(index)} is out of reach: torch from pip's configured indexes and wheels")
    return None


def check_no_cuda(pins: Iterable[Pin]) -> None:
    """Raises WrongUse when a resolution holds CUDA packages: gigabytes that a CPU engine cannot use."""
    cuda = [pin.name for pin in pins if pin.name.startswith(("nvidia-", "cuda-", "triton")) or pin.name == "torch"]
    heavy = [name for name in cuda if name not in SMALL]
    if heavy:
        raise WrongUse(f"pip would bring {', '.join(sorted(heavy))} into a CPU environment; nothing was downloaded")
