"""Building a pinned virtual environment: `install` is the road, the functions below it are its steps in order.

An environment is built where it will stay, for virtual environments do not survive a move; `pao-tool.json`, written
last, makes it count. Whatever has no marker is built anew; the wheels of an interrupted attempt are used again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from profile_and_optimize.core.errors import BrokeMidway, WrongUse
from profile_and_optimize.toolenv import fetch, find, flags, marker, overlay, preflight
from profile_and_optimize.toolenv.child import Child, child_env, must, redact, run_child
from profile_and_optimize.toolenv.find import ToolEnv
from profile_and_optimize.toolenv.lock import Lock, Pin, shipped
from profile_and_optimize.toolenv.resolve import resolve
from profile_and_optimize.toolenv.specs import Spec, spec_of
from profile_and_optimize.toolenv.world import World, observe

Say = Callable[[str], None]
STEPS = 6


@dataclass(frozen=True, slots=True)
class _Build:
    """One attempt: where things lie, and who runs and hears what."""

    spec: Spec
    lock: Lock | None
    home: Path
    base_python: Path
    say: Say
    child: Child
    env: Mapping[str, str]
    began: float = field(default_factory=monotonic)

    @property
    def python(self) -> Path:
        return self.home / "bin" / "python"

    @property
    def wheels(self) -> Path:
        return self.home.with_name(f".{self.home.name}.wheels")

    @property
    def tmp(self) -> Path:
        return self.home.with_name(f".{self.home.name}.tmp")

    def step(self, number: int, told: str) -> None:
        self.say(f"[{number}/{STEPS}] {told} ({monotonic() - self.began:.0f} s)")

    def run(self, *argv: str, doing: str, on_line: Say = lambda line: None) -> None:
        must(self.child, [str(self.python), *argv], env=self.env, doing=doing, on_line=on_line)


def install(
    tool: str,
    *,
    root: Path,
    say: Say,
    python: Path | None = None,
    world: World | None = None,
    child: Child = run_child,
    answers: Callable[[str], bool] = fetch.reachable,
) -> ToolEnv:
    """The finished environment of `tool` under `root`; returns at once when it is there.

    `python` is the Python to build it with (default: ours); `world` and `child` come in for tests. Raises WrongUse
    listing what this machine lacks, before any download; Unreachable without a torch +cpu wheel; BrokeMidway when pip
    or the check of the result fails. Interrupted, it leaves no process behind and goes on where it was next time.
    """
    spec, root = spec_of(tool), root.expanduser().absolute()
    base = python.expanduser().absolute() if python else Path(sys.executable)
    world = world or observe(target=root, python=base)
    build = _plan(spec, world, root=root, say=say, child=child)
    if (ready := find.read(build.home, spec)) is not None:
        return ready
    preflight.require(preflight.check(world, spec), tool=tool)
    root.mkdir(parents=True, exist_ok=True)
    with _alone(build):
        # Another install may have finished it while we waited.
        return find.read(build.home, spec) or _make_or_say_how_to_go_on(build, answers)


def folder_of(spec: Spec, lock: Lock | None, root: Path) -> Path:
    """<tool>-<variant>-<digest>, or -resolved-<digest of what is asked> without a lock."""
    return root / f"{spec.name}-{spec.variant}-{lock.digest if lock else f'resolved-{spec.digest}'}"


def expectation(spec: Spec, lock: Lock | None) -> str:
    """Size and time beforehand. The work's seconds are measured (specs); the line's speed is unknown until then."""
    size = lock.size_bytes if lock else spec.download_bytes
    return (
        f"{spec.requirement}: {size / 1e6:.0f} MB to download ({_minutes(size / 12.5e6)} at 100 Mbit/s, "
        f"{_minutes(size / 2.5e6)} at 20), then about {_minutes(spec.work_s)} of work on 2 cores; "
        f"{spec.env_bytes / 1e9:.1f} GB of disk, {spec.peak_bytes / 1e9:.1f} GB while installing"
    )


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _plan(spec: Spec, world: World, *, root: Path, say: Say, child: Child) -> _Build:
    lock = shipped(spec, machine=world.machine, python_tag=world.python_tag)
    if lock is None and spec.locked_only and world.system == "Linux":
        where = f"{world.machine}, {world.python_tag}"
        raise WrongUse(f"{spec.requirement} on a CPU has no lock for {where}", next=f"--python PATH, or {spec.instead}")
    home = folder_of(spec, lock, root)
    tmp = home.with_name(f".{home.name}.tmp")
    return _Build(spec, lock, home, world.python, say, child, child_env(os.environ, tmp=tmp))


@contextlib.contextmanager
def _alone(build: _Build) -> Iterator[None]:
    """One install of an environment at a time; the kernel lets go of the lock when its holder dies."""
    import fcntl  # not on Windows, where preflight has refused by now

    with build.home.with_name(f".{build.home.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            build.say("another install of this environment is running: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make_or_say_how_to_go_on(build: _Build, answers: Callable[[str], bool]) -> ToolEnv:
    try:
        return _make(build, answers)
    except BrokeMidway as error:
        error.next = error.next or f"pao tools install {build.spec.name} (resumes with what is downloaded)"
        raise


def _make(build: _Build, answers: Callable[[str], bool]) -> ToolEnv:
    build.say(expectation(build.spec, build.lock))
    if build.lock is None:
        build.say("NO LOCK FOR THIS PLATFORM: versions are resolved now and recorded; untested by us")
    _empty_environment(build)
    fetcher = fetch.Fetcher(build.python, build.wheels, build.env, build.child)
    torch = _fetch_torch(build, fetcher, answers)
    pin = torch.pin if torch else None
    lock = build.lock or resolve(
        build.python, build.spec, torch=pin, wheels=build.wheels, env=build.env, child=build.child
    )
    build.step(3, f"downloading {len(lock.pins)} packages")
    fetcher.packages(lock.pins, lambda told: build.step(3, told))
    install_s = _timed(lambda: _install(build, lock, pin))
    peak_bytes = size_of(build.home) + size_of(build.wheels)
    verify_s = _timed(lambda: _verify(build))
    return _finish(build, torch, fetcher.tally, install_s=install_s, verify_s=verify_s, peak_bytes=peak_bytes)


def _timed(work: Callable[[], None]) -> float:
    before = monotonic()
    work()
    return monotonic() - before


def _empty_environment(build: _Build) -> None:
    build.step(1, f"environment in {build.home}")
    for rest in (build.home, build.tmp):
        shutil.rmtree(rest, ignore_errors=True)
    for folder in (build.wheels, build.tmp):
        folder.mkdir(parents=True, exist_ok=True)
    argv = [str(build.base_python), "-m", "venv", str(build.home)]
    must(build.child, argv, env=build.env, doing="python -m venv", on_line=lambda line: None)


@dataclass(frozen=True, slots=True)
class _Torch:
    """The wheel that came, where from, and whether it is the one that the lock has seen (None: no lock)."""

    pin: Pin
    origin: fetch.Origin
    as_locked: bool | None

    def marked(self) -> marker.TorchWheel:
        return marker.TorchWheel(
            version=self.pin.version, file=self.pin.file, sha256=self.pin.sha256, origin=self.origin,
            as_locked=self.as_locked,
        )  # fmt: skip


def _fetch_torch(build: _Build, fetcher: fetch.Fetcher, answers: Callable[[str], bool]) -> _Torch | None:
    """None for a tool that needs none."""
    if build.spec.torch is None:
        build.step(2, "no torch needed")
        return None
    index = fetch.choose_index(lambda told: build.step(2, told), index=fetch.torch_index(), answers=answers)
    torch, origin = fetcher.torch(build.spec.torch, index)
    as_locked = _as_locked(build, torch)
    known = ", another build of it than the lock has seen" if as_locked is False else ""
    build.step(2, f"torch {torch.version} ({origin}), {(torch.size_bytes or 0) / 1e6:.0f} MB{known}")
    return _Torch(torch, origin, as_locked)


def _as_locked(build: _Build, torch: Pin) -> bool | None:
    seen = build.lock.torch if build.lock else None
    return None if seen is None else seen.sha256 == torch.sha256


def _install(build: _Build, lock: Lock, torch: Pin | None) -> None:
    """From the wheels alone: no index is asked any more, so this phase is work and not network."""
    pip = ("-m", "pip", "install", "--no-index", "--no-deps", "--no-cache-dir", "--progress-bar=off")
    if torch is not None:
        build.step(4, "installing torch")
        build.run(*pip, str(build.wheels / torch.file), doing="installation of torch")
    done = 0
    for batch in fetch.batches(lock.pins):
        lines = fetch.write_requirements(build.wheels / "batch.txt", batch)
        wheels = ("--find-links", str(build.wheels))
        build.run(*pip, *wheels, "--require-hashes", "-r", str(lines), doing=f"installation of {batch[0].name}...")
        done += len(batch)
        build.step(4, f"installed {done}/{len(lock.pins)}")
    (build.home / "pao-tool.lock").write_text(lock.text())
    site = next(build.home.glob("lib/python*/site-packages"))
    if build.spec.stub is not None:
        _stub(site, *build.spec.stub)
    if build.spec.overlay:
        build.step(4, f"laying our {', '.join(overlay.pieces(build.spec.overlay))} over it: an overlay, no release")
        overlay.lay(build.spec.overlay, site)


def _stub(site: Path, name: str, version: str) -> None:
    """Metadata under the name that the tool's own command looks itself up by."""
    folder = site / f"{name}-{version}.dist-info"
    folder.mkdir(exist_ok=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def _verify(build: _Build) -> None:
    """The tool imports, its torch is the CPU build, and an engine's own help answers (its flags are kept)."""
    spec, seen = build.spec, []  # type: tuple[Spec, list[str]]
    build.step(5, "checking that it imports")
    torch = "import torch; print('torch', torch.__version__)" if spec.torch else ""
    settings = {**build.env, **dict(spec.env)}
    argv = [str(build.python), "-c", f"import {spec.module}; {torch}"]
    must(build.child, argv, env=settings, doing=f"import of {spec.module}", on_line=seen.append)
    if spec.torch and f"torch {spec.torch_version}" not in seen:
        raise BrokeMidway(f"installed torch is not {spec.torch_version}: {seen[-1:]}", where=str(build.home))
    if spec.serves:
        env = ToolEnv(spec.name, build.python, find.probe_versions(build.python), None, None, "resolved")
        build.step(5, f"{len(flags.flags_of(env, child=build.child))} flags known")


def _finish(
    build: _Build, torch: _Torch | None, tally: fetch.Tally, *, install_s: float, verify_s: float, peak_bytes: int
) -> ToolEnv:
    for rest in (build.wheels, build.tmp):
        shutil.rmtree(rest, ignore_errors=True)
    done = marker.Marker(
        tool=build.spec.name,
        variant=build.spec.variant,
        folder=str(build.home),
        source="lock" if build.lock else "resolved",
        lock_digest=build.lock.digest if build.lock else build.spec.digest,
        versions=find.probe_versions(build.python),
        torch=torch.marked() if torch else None,
        download=tally.download(),
        install_s=round(install_s, 1),
        verify_s=round(verify_s, 1),
        env_bytes=size_of(build.home),
        peak_bytes=peak_bytes,
    )
    marker.write(build.home, done)
    build.step(6, summary(done))
    ready = find.read(build.home, build.spec)
    assert ready is not None
    return ready


def summary(done: marker.Marker) -> str:
    """One line on what it took, from the marker."""
    moved, rate = done.download, done.download.bytes_per_s
    speed = f" ({rate / 1e6:.0f} MB/s)" if rate else ""
    return redact(
        f"ready in {done.folder}: download {(moved.index_bytes + moved.local_bytes) / 1e6:.0f} MB in "
        f"{moved.seconds:.0f} s{speed}, {moved.local_bytes / 1e6:.0f} MB of them from local folders; "
        f"install {done.install_s:.0f} s, check {done.verify_s:.0f} s; {done.env_bytes / 1e9:.1f} GB on disk"
    )


def size_of(folder: Path) -> int:
    """Bytes of the files below a folder as the disk counts them; links count nothing."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_blocks * 512 for path in files)
