"""Running one step of a tool under watch: its results go into the run as soon as they are whole, its log at the end."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profile_and_optimize.campaign.imported import Ask
from profile_and_optimize.clients.external import PASSED
from profile_and_optimize.clients.vllm_sweep import Step, whole
from profile_and_optimize.engines.process import Managed, real_error
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.evidence.redact import known_secrets, redact
from profile_and_optimize.importers import aiperf
from profile_and_optimize.importers.vllm_sweep import FAILURE
from profile_and_optimize.ops.base import Say

POLL_S = 0.5
TELL_S = 30.0
MOST_LOG = 200_000


@dataclass(frozen=True)
class Ended:
    """`reason` is "" for a step that ended well; `log` is the end of what it said."""

    reason: str
    log: str


def run_step(folder: RunFolder, ask: Ask, step: Step, log: Path, say: Say, *, serves: bool) -> Ended:
    """`serves`: the tool starts the engine, so it gets an engine's environment (its caches lie under the user's home)."""
    keeper = Keeper(folder, ask, step, say)
    managed = Managed(step.command, log, (), None if serves else {k: os.environ[k] for k in PASSED if k in os.environ})
    ended = False
    try:
        say(f"{ask.backend}: {', '.join(step.points)}")
        ended = _watch(managed, step.limit_s, keeper)
    finally:
        managed.stop()
        keeper.look(ended=True)
        text = log.read_bytes()[-MOST_LOG:].decode(errors="replace") if log.exists() else ""
        hidden = redact(text, known_secrets(os.environ))
        folder.write(f"{ask.folder}/log-{step.name}.txt", hidden.encode(), producer=ask.tool)
    return Ended(_reason(ask, step, managed.exit_code if ended else None, log, hidden), hidden)


def _reason(ask: Ask, step: Step, code: int | None, log: Path, text: str) -> str:
    if code is None:
        return f"{ask.tool} did not end within {step.limit_s:.0f} s"
    why = real_error(log) or (text.strip().splitlines() or ["no message"])[-1]
    return "" if code == 0 else redact(f"{ask.tool} ended with {code}: {why[:300]}", known_secrets(os.environ))


def _watch(managed: Managed, limit_s: float, keeper: Keeper) -> bool:
    """Whether it ended by itself in time."""
    began = told = time.monotonic()
    while not managed.ended and time.monotonic() - began < limit_s:
        time.sleep(POLL_S)
        keeper.look(ended=False)
        if time.monotonic() - told > TELL_S:
            told = time.monotonic()
            keeper.say(f"  {told - began:.0f} s; {keeper.runs} results so far")
    return managed.ended


class Keeper:
    """Puts a step's results into the run, credentials covered; again when one changed."""

    def __init__(self, folder: RunFolder, ask: Ask, step: Step, say: Say) -> None:
        self.folder, self.ask, self.step, self.say = folder, ask, step, say
        self._kept: dict[Path, tuple[int, int]] = {}

    @property
    def runs(self) -> int:
        return sum(_is_result(file) for file in self._kept)

    def look(self, *, ended: bool) -> None:
        for file in self._files(ended):
            seen = file.stat()
            mark = (seen.st_size, seen.st_mtime_ns)
            if self._kept.get(file) != mark:
                self._keep(file)
                self._kept[file] = mark

    def _files(self, ended: bool) -> list[Path]:
        """A tool that is started once a run has nothing whole before it ended."""
        out = self.step.out
        if self.step.layout and not ended:
            return []
        if self.ask.backend == "aiperf":
            return [f for name in (aiperf.SUMMARY, aiperf.RECORDS, aiperf.INPUTS) if (f := out / name).is_file()]
        return [f for f in whole(out, ended=ended) if f.is_file() and not f.is_symlink()]

    def _keep(self, file: Path) -> None:
        layout = f"{self.step.layout}/" if self.step.layout else ""
        path = f"{self.ask.folder}/{layout}{file.relative_to(self.step.out).as_posix()}"
        self.folder.write(
            path, without_credentials(file.read_bytes(), known_secrets(os.environ)), producer=self.ask.tool
        )
        if _is_result(file):
            self.say(f"  kept {path}")


def _is_result(file: Path) -> bool:
    return file.name == aiperf.SUMMARY or (file.name.startswith("run=") and not file.name.endswith(FAILURE))


def without_credentials(data: bytes, secrets: tuple[str, ...]) -> bytes:
    """A result file as it is; where it holds a credential, the same JSON with that text covered. Numbers are never touched."""
    text = data.decode(errors="replace")
    if redact(text, secrets) == text:
        return data
    try:
        lines = text.splitlines() if text.lstrip()[:1] == "{" and _by_line(text) else [text]
        return ("\n".join(json.dumps(_covered(json.loads(x), secrets)) for x in lines if x.strip()) + "\n").encode()
    except ValueError:
        return redact(text, secrets).encode()


def _by_line(text: str) -> bool:
    try:
        json.loads(text)
        return False
    except ValueError:
        return True


def _covered(value: Any, secrets: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return {redact(k, secrets): _covered(v, secrets) for k, v in value.items()}
    if isinstance(value, list):
        return [_covered(v, secrets) for v in value]
    return redact(value, secrets) if isinstance(value, str) else value
