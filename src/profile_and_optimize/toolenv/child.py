"""Running pip and Python as a child that a Ctrl-C takes down whole, and whose output is safe to print."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from profile_and_optimize.core.errors import BrokeMidway

_CREDENTIALS = re.compile(r"(\w://)[^/\s]*@")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")
TAIL_LINES = 12
# Settings of the caller's shell that would send pip's work elsewhere than into the environment being built.
_DIVERTING = ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_REQUIRE_VIRTUALENV")


class Child(Protocol):
    def __call__(self, argv: Sequence[str], *, env: Mapping[str, str], on_line: Callable[[str], None]) -> int:
        """Run to the end, give each line of stdout and stderr to `on_line`, return the exit status."""
        ...


def redact(text: str) -> str:
    """Without user:password@ in URLs and without terminal control sequences."""
    return _CREDENTIALS.sub(r"\1***@", _ESCAPES.sub("", text))


def run_child(argv: Sequence[str], *, env: Mapping[str, str], on_line: Callable[[str], None]) -> int:
    """A `Child` in a process group of its own, so that pip's own children end with it when we are interrupted."""
    with subprocess.Popen(
        list(argv),
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                on_line(redact(line.rstrip("\n")))
            return process.wait()
        except BaseException:
            _end_group(process)
            raise


def _end_group(process: subprocess.Popen[str]) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
            process.wait(timeout=5)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def child_env(base: Mapping[str, str], *, tmp: Path | None = None) -> dict[str, str]:
    """`base` (normally os.environ) made fit for building an environment: pip's index settings stay, diversions go."""
    env = {k: v for k, v in base.items() if k not in _DIVERTING}
    env |= {"PIP_USER": "0", "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONNOUSERSITE": "1"}
    # A pip.py or vllm.py in the folder that we happen to be in must not be run in the place of the installed one.
    env["PYTHONSAFEPATH"] = "1"
    # vLLM otherwise reports usage over the network at start, and the hub library looks names up.
    env |= {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
    if tmp is not None:
        env["TMPDIR"] = str(tmp)
    return env


def must(
    child: Child, argv: Sequence[str], *, env: Mapping[str, str], doing: str, on_line: Callable[[str], None]
) -> None:
    """Run; raise BrokeMidway with the last lines when it fails. `doing` names the step, e.g. "download of torch"."""
    tail: list[str] = []

    def keep(line: str) -> None:
        tail.append(line)
        del tail[:-TAIL_LINES]
        on_line(line)

    status = child(argv, env=env, on_line=keep)
    if status != 0:
        errors = [line for line in tail if line.startswith("ERROR")] or tail[-3:]
        raise BrokeMidway(f"{doing} ended with status {status}: {' | '.join(errors)}")


def lines_of(child: Child, argv: Sequence[str], *, env: Mapping[str, str], doing: str) -> tuple[str, ...]:
    """Every line that the command printed. Raises BrokeMidway when it fails."""
    lines: list[str] = []
    must(child, argv, env=env, doing=doing, on_line=lines.append)
    return tuple(lines)
