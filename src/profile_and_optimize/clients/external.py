"""Driving another tool as a client: what it may see, how long it may take, and what its answer becomes.

A tool runs in its own environment as a command without a shell, without network settings of ours, with a home folder
of its own, below a reaper that leaves none of its processes behind. Secrets reach it through its environment alone.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter_ns
from typing import Protocol

from profile_and_optimize.clients.base import LoadRequest
from profile_and_optimize.clients.cpu_watch import CpuWatch
from profile_and_optimize.clients.kept import redact_text, secrets_of
from profile_and_optimize.clients.said import clean
from profile_and_optimize.core.errors import BrokeMidway, WrongUse
from profile_and_optimize.core.names import is_plain
from profile_and_optimize.core.records import ClientProbe, ClientRun, RequestRecord
from profile_and_optimize.engines.base import IGNORE_EOS, Command
from profile_and_optimize.engines.process import Managed, real_error
from profile_and_optimize.importers.reading import digest_of_text
from profile_and_optimize.toolenv.find import ToolEnv, find, from_python

GRACE_S = 300.0  # a tool's own start and the writing of its files, beyond the requests' timeouts
POLL_S = 0.05
PASSED = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")
# A hub that cannot be reached: what a tool would look up there it must not need.
NOWHERE = "http://127.0.0.1:9"
_BOX = re.compile(r"[\u2500-\u257f]+")


@dataclass(frozen=True, slots=True)
class Told:
    """What a tool's files say of one run: a record per prompt, `index` being the prompt's.

    `t0_unix_s` is the moment the records count from, on the wall clock; `t0_monotonic_ns` the same on CLOCK_MONOTONIC
    where the tool kept that clock. `wall_s` is the duration that the tool itself divides by.
    """

    records: tuple[RequestRecord, ...]
    t0_unix_s: float
    wall_s: float
    t0_monotonic_ns: int | None = None
    chunks_known: bool = True


class Tool(Protocol):
    """What an adapter knows: how its tool is asked, and where its answer stands."""

    name: str
    version: str

    def command(self, load: LoadRequest, workdir: Path) -> Command:
        """Write what the tool reads into `workdir` and say how it is started."""
        ...

    def told(self, load: LoadRequest, workdir: Path) -> Told:
        """Read what it left in `workdir`."""
        ...


def tool_env(tool: str, python: str | None = None) -> ToolEnv:
    """The environment of a tool, ours or the user's own Python. Raises WrongUse saying how it is installed."""
    if python is not None:
        return from_python(Path(python), tool)
    env = find(tool)
    if env is None:
        raise WrongUse(f"{tool} is not installed", next=f"pao tools install {tool}")
    return env


def drive(tool: Tool, load: LoadRequest, workdir: Path, *, grace_s: float = GRACE_S) -> ClientRun:
    """One run of the tool. Raises WrongUse for a load that it cannot make, BrokeMidway with its own words when it fails.

    Leaves nothing in `workdir` on success; on failure the tool's files stay for a look. They hold no secret.
    """
    refuse_unlike(load, tool.name)
    home = workdir / tool.name
    shutil.rmtree(home, ignore_errors=True)
    (home / "home").mkdir(parents=True)
    watch = _run(tool, load, home, limit_s=longest_s(load, grace_s))
    told = _read(tool, load, home)
    if len(told.records) != len(load.prompts):
        raise BrokeMidway(f"{tool.name} reported {len(told.records)} of {len(load.prompts)} requests", where=str(home))
    shutil.rmtree(home)
    return _as_run(load, told, watch)


def refuse_unlike(load: LoadRequest, name: str) -> None:
    """Raises WrongUse for what no adapter does: open loops, fields of its own, and headers beyond a bearer token."""
    ours = "leave out --client, ours does it"
    if load.schedule is not None:
        raise WrongUse(f"{name} is driven in a closed loop only", next=ours)
    if load.ignore_eos and load.ignore_eos_fields != IGNORE_EOS:
        raise WrongUse(f"{name} asks for ignore_eos in a way that this server refuses", next=ours)
    others = [header for header, value in load.headers if header.lower() != "authorization" or not _token_of(value)]
    if others:
        raise WrongUse(
            f"header {others[0]!r} cannot be handed to {name} without showing it in the process list", next=ours
        )
    if "{{" in load.model or "${" in load.model or not is_plain(load.model):
        raise WrongUse(f"not a model name: {load.model!r}")
    if not is_plain(load.url):
        raise WrongUse(f"not a URL: {load.url!r}")


def bearer(load: LoadRequest) -> str | None:
    return next((_token_of(value) for header, value in load.headers if header.lower() == "authorization"), None)


def _token_of(value: str) -> str | None:
    scheme, _, token = value.partition(" ")
    return token if scheme.lower() == "bearer" and token else None


def longest_s(load: LoadRequest, grace_s: float) -> float:
    return -(-len(load.prompts) // load.concurrency) * load.timeout_s + grace_s


def environment(home: Path, extra: Mapping[str, str | None]) -> tuple[tuple[str, str], ...]:
    """A home and caches of its own, no hub, no reporting of usage; `extra` on top, None leaving a name out."""
    fixed = {
        "HOME": str(home / "home"), "XDG_CACHE_HOME": str(home / "home/cache"), "HF_HOME": str(home / "home/hf"),
        "HF_ENDPOINT": NOWHERE, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1",
        "VLLM_NO_USAGE_STATS": "1", "NO_PROXY": "*", "no_proxy": "*",
    }  # fmt: skip
    return tuple((k, v) for k, v in {**fixed, **extra}.items() if v is not None)


def stand_in_tokenizer(folder: Path) -> Path:
    """A tokenizer folder for tools that insist on one: every text is the same five tokens.

    Its counts mean nothing, on purpose: a count taken from it instead of the server's usage is then plainly wrong.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(_FIVE_TOKENS))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>", "model_max_length": 10**9}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


_START = {"SpecialToken": {"id": "<s>", "type_id": 0}}
_FIVE_TOKENS: dict[str, object] = {
    "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None, "pre_tokenizer": None, "decoder": None,
    "post_processor": {
        "type": "TemplateProcessing", "single": [_START] * 4 + [{"Sequence": {"id": "A", "type_id": 0}}], "pair": [
            {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
    },
    "model": {"type": "WordLevel", "vocab": {"<unk>": 0, "<s>": 1}, "unk_token": "<unk>"},
}  # fmt: skip


def counted_by_server(load: LoadRequest, index: int, tokens: int | None) -> int | None:
    """A tool's count of output tokens, None where it may come from the stand-in tokenizer: with ignore_eos the
    server's count is the asked length, so any other count is not known to be the server's."""
    return tokens if load.ignore_eos and tokens == load.max_tokens(index) else None


class PromptIndex:
    """Finds a prompt's index again by what a tool wrote down of the request; equal prompts are taken in order."""

    def __init__(self, prompts: Sequence[str]) -> None:
        self._where: dict[str, deque[int]] = {}
        for i, prompt in enumerate(prompts):
            shapes = _digests(prompt)
            place = self._where.get(shapes[0]) or deque()
            place.append(i)
            self._where |= dict.fromkeys(shapes, place)

    def take(self, digest: str | None) -> int | None:
        """None for a prompt that is not ours or was taken before."""
        left = self._where.get(digest or "")
        return left.popleft() if left else None


def _digests(prompt: str) -> list[str]:
    """Of the shapes in which the tools write a prompt down."""
    parts = [{"type": "text", "text": prompt}]
    shapes = ([{"role": "user", "content": prompt}], [{"role": "user", "content": parts}], prompt, [prompt])
    return [digest_of_text(shape) for shape in shapes]


def whole_order(found: Sequence[int | None], count: int, *, name: str, failed: Sequence[bool]) -> list[int]:
    """An index for every request. Failed ones of which the tool kept no prompt take the indexes that are left, in order.

    Raises BrokeMidway when an answered request cannot be matched: it was then not our prompt that was sent.
    """
    strange = [i for i, (at, bad) in enumerate(zip(found, failed, strict=True)) if at is None and not bad]
    if strange:
        raise BrokeMidway(f"{name} answered a request ({strange[0] + 1} of {len(found)}) that was not sent")
    left = iter(sorted(set(range(count)) - {at for at in found if at is not None}))
    return [next(left, count) if at is None else at for at in found]


def _run(tool: Tool, load: LoadRequest, home: Path, *, limit_s: float) -> CpuWatch:
    log = home / "log.txt"
    base = {name: os.environ[name] for name in PASSED if name in os.environ}
    command = tool.command(load, home)
    if not os.access(command.argv[0], os.X_OK):
        raise WrongUse(f"{tool.name} has no command there", where=command.argv[0], next="pao tools list")
    managed = Managed(command, log, load.cores, base)
    watch = CpuWatch(managed.pid)
    watch.start()
    ended = False
    try:
        ended = _wait(managed, limit_s)
    finally:
        watch.stop()
        managed.stop()
    if not ended:
        raise BrokeMidway(f"{tool.name} did not end within {limit_s:.0f} s", where=str(log))
    if managed.exit_code != 0:
        why = last_words(log, load) or "no message"
        raise BrokeMidway(f"{tool.name} ended with {managed.exit_code}: {why}", where=str(log))
    return watch


def _wait(managed: Managed, limit_s: float, sleep: Callable[[float], None] = time.sleep) -> bool:
    """Whether it ended by itself in time."""
    until = time.monotonic() + limit_s
    while not managed.ended and time.monotonic() < until:
        sleep(POLL_S)
    return managed.ended


def last_words(log: Path, load: LoadRequest) -> str:
    """The tool's own error: the first that its log names, else its last line, without frames, control codes, secrets."""
    text = real_error(log)
    if not text and log.exists():
        lines = [_BOX.sub(" ", line).strip() for line in log.read_text(errors="replace").splitlines()[-400:]]
        told = [line for line in lines if line]
        first = next((i for i, line in enumerate(told) if re.search(r"\berror\b", line, re.I)), len(told) - 1)
        text = " ".join(told[max(0, first) : first + 4])
    # Before the text is cut, which could leave the beginning of a secret.
    return clean((redact_text(text, secrets_of(load.headers)) or "").encode())


def _read(tool: Tool, load: LoadRequest, home: Path) -> Told:
    try:
        return tool.told(load, home)
    except (WrongUse, OSError, ValueError, KeyError, TypeError, IndexError) as error:
        what = error.message if isinstance(error, WrongUse) else f"{type(error).__name__}: {error}"
        said = last_words(home / "log.txt", load)
        raise BrokeMidway(
            f"{tool.name} left no result that can be read: {what}" + (f" (it said: {said})" if said else ""),
            where=str(home),
        ) from None


def _as_run(load: LoadRequest, told: Told, watch: CpuWatch) -> ClientRun:
    """What a foreign client does not say about itself stays unknown: its lag, its scheduler, its count in flight."""
    records = tuple(
        replace(r, max_tokens=load.max_tokens(r.index)) for r in sorted(told.records, key=lambda r: r.index)
    )
    t0_ns = told.t0_monotonic_ns
    if t0_ns is None:
        t0_ns = perf_counter_ns() - round((time.time() - told.t0_unix_s) * 1e9)
    begin, end = (watch.at(t0_ns + at) for at in (min(r.sent_ns for r in records), max(r.done_ns for r in records)))
    probe = ClientProbe(
        wall_s=told.wall_s, cpu_s=_difference(end, begin), parse_cpu_s=_difference(watch.total_s, end), loop_lag_ns=(),
        run_queue_wait_s=None, in_flight_s=None, scheduler="unknown", cores=load.cores, connections=None,
        reconnects=None, reads=None, coalesced_reads=None, threads="unknown", chunks_known=told.chunks_known,
    )  # fmt: skip
    return ClientRun(
        told.t0_unix_s, load.concurrency, records, probe, (), told.t0_monotonic_ns, ignore_eos=load.ignore_eos
    )


def _difference(later: float | None, earlier: float | None) -> float | None:
    return None if later is None or earlier is None else later - earlier
