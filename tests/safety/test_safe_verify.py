"""`verify` executes nothing of the run that it checks, opens nothing outside of it, writes nothing, and asks nobody.

Watched from inside the interpreter, which reports every file that is opened, every process, socket, import and code object.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import profile_and_optimize

WATCH = """
import contextlib, io, json, os, sys
from profile_and_optimize.cli.main import run as pao
OURS = ("subprocess.", "os.system", "os.exec", "os.spawn", "os.posix_spawn", "os.fork", "socket.", "pickle.", "ctypes.dlopen", "os.remove",
        "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "shutil.")
seen = []
def hook(name, args):
    if name == "open" and args[0] is not None and not isinstance(args[0], int):
        writes = (args[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        seen.append(("open", os.path.abspath(os.fsdecode(args[0])), bool(writes)))
    elif name == "exec":
        seen.append(("exec", args[0].co_filename, False))
    elif name.startswith(OURS) and args[:1] != (None,):
        seen.append((name, str(args)[:200], True))
sys.addaudithook(hook)
found = []
for run in sys.argv[1:]:
    os.chdir(run)
    seen.clear()
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        code = pao(["verify", "."])
    found.append({"code": code, "said": out.getvalue(), "seen": list(seen)})
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Watched:
    """`opened` are paths; `written` those opened for writing; `did` processes, sockets and changes of the file system."""

    code: int
    said: str
    opened: tuple[str, ...]
    ran: tuple[str, ...]
    did: tuple[str, ...]


def verify(scratch: Path, runs: dict[str, Path]) -> dict[str, Watched]:
    """One process looks at one run after the other, from inside of each."""
    (scratch / "watch.py").write_text(WATCH)
    argv = [sys.executable, str(scratch / "watch.py"), *map(str, runs.values())]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    return {kind: _watched(found) for kind, found in zip(runs, json.loads(done.stdout), strict=True)}


def _watched(found: dict) -> Watched:
    opened, ran = (tuple(what for name, what, _ in found["seen"] if name == kind) for kind in ("open", "exec"))
    did = tuple(f"{name} {what}" for name, what, acts in found["seen"] if acts)
    return Watched(found["code"], found["said"], opened, ran, did)


def plant(run: Path, marker: Path) -> None:
    """Everything that some program somewhere would run, load or unpickle by itself."""
    code = f"open({str(marker)!r}, 'w')\n"

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str, str]]:
            return open, (str(marker), "w")

    for folder in (run, run / "cells", run / "cells/fast", run / "cells/fast/raw"):
        for name in (
            "sitecustomize",
            "usercustomize",
            "conftest",
            "json",
            "orjson",
            "numpy",
            "yaml",
            "profile_and_optimize",
            "__init__",
            "setup",
        ):
            (folder / f"{name}.py").write_text(code)
        (folder / "evil.pth").write_text(f"import os; {code}")
        for name in (
            "x.pkl",
            "model.pt",
            "pytorch_model.bin",
            "x.npy",
            "x.joblib",
            "b001-short-chat.c4-a9.json",
            "raw.pickle",
        ):
            (folder / name).write_bytes(pickle.dumps(Bomb()))
        (folder / "pyproject.toml").write_text("[tool.pytest.ini_options]\naddopts='-p evil'\n")
        (folder / "Makefile").write_text(f"all:\n\ttouch {marker}\n")
    (run / "config.yaml").write_text(f"name: !!python/object/apply:os.system ['touch {marker}']\n")
    (run / "serve.sh").write_text(f"#!/bin/sh\ntouch {marker}\n")


def outside(seen: Watched, run: Path, allowed: tuple[Path, ...]) -> list[str]:
    """Opened files that neither belong to the run nor to Python and our own package."""
    roots = (run, Path(profile_and_optimize.__file__).parent, Path(sys.prefix), Path(sys.base_prefix), *allowed)
    return [p for p in seen.opened if not any(Path(p).is_relative_to(r) for r in roots)]


SYSTEM = (Path("/proc"), Path("/sys"), Path("/usr"), Path("/etc/localtime"), Path("/dev/null"))


ODD = (
    "a link to a file",
    "a link to a folder",
    "a link in place of a folder",
    "a pipe",
    "a socket",
    "a link to a device",
    "a link to itself",
)


def make_odd(run: Path, kind: str, secret: Path) -> str:
    """Puts it there; gives its place in the run."""
    place = run / "cells/fast/raw/odd"
    if kind == "a link in place of a folder":
        place = run / "cells/fast"
        place.rename(secret / "fast")
        place.symlink_to(secret / "fast")
    elif kind == "a pipe":
        os.mkfifo(place)
    elif kind == "a socket":
        os.mknod(place, stat.S_IFSOCK | 0o600)
    else:
        targets = {
            "a link to a file": secret / "key",
            "a link to a folder": secret,
            "a link to a device": Path("/dev/zero"),
        }
        place.symlink_to(targets.get(kind, place))
    return str(place.relative_to(run))


@dataclass(frozen=True)
class Looked:
    """Every run by kind: where it is, what was planted at which place, and what verify did on it."""

    runs: dict[str, Path]
    places: dict[str, str]
    seen: dict[str, Watched]
    scratch: Path


@pytest.fixture(scope="module")
def looked(closed_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Looked:
    scratch, places = tmp_path_factory.mktemp("hostile"), {}
    runs = {kind: scratch / str(i) / closed_run.name for i, kind in enumerate(("clean", "planted", *ODD))}
    for kind, run in runs.items():
        shutil.copytree(closed_run, run)
        if kind in ODD:
            secret = run.parent / "secret"
            secret.mkdir()
            (secret / "key").write_text("planted")
            places[kind] = make_odd(run, kind, secret)
    plant(runs["planted"], scratch / "pwned")
    return Looked(runs, places, verify(scratch, runs), scratch)


def test_a_clean_run_is_read_and_nothing_else_is_done(looked: Looked) -> None:
    seen, run = looked.seen["clean"], looked.runs["clean"]
    assert seen.code == 0 and seen.did == () and outside(seen, run, SYSTEM) == []
    assert str(run / "cells/fast/raw/b001-short-chat.c4-a1.json") in seen.opened, "the watch sees what is opened"


def test_nothing_that_lies_in_a_run_is_executed(looked: Looked) -> None:
    seen, run = looked.seen["planted"], looked.runs["planted"]
    assert seen.code == 1 and "in the folder but in no list" in seen.said and str(run / "config.yaml") in seen.opened
    assert not (looked.scratch / "pwned").exists() and seen.did == () and outside(seen, run, SYSTEM) == []
    assert not [f for f in seen.ran if Path(f).is_relative_to(run)]
    inside = [Path(p) for p in seen.opened if Path(p).is_relative_to(run)]
    assert not [
        p for p in inside if p.suffix in (".py", ".pth", ".pkl", ".pt", ".bin", ".npy", ".joblib", ".pickle", ".toml")
    ]


@pytest.mark.parametrize("kind", ODD)
def test_what_leads_out_of_a_run_is_named_and_nothing_is_opened(looked: Looked, kind: str) -> None:
    seen, run = looked.seen[kind], looked.runs[kind]
    assert seen.code == 1 and looked.places[kind] in seen.said and seen.did == () and "planted" not in seen.said
    assert [p for p in seen.opened if Path(p).is_relative_to(run)] == [] and outside(seen, run, SYSTEM) == []
