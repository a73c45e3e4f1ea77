"""Is every kind of answer counted right? Good ones, bad ones, and good ones whose usage cannot be true.

    python bench/stream_truth.py --peers vllm-bench,aiperf     # tools of `pao tools install`, where they are installed

A small scripted server on loopback sends each kind (`stream_kinds.py`) several times; the client meets them in a mixed order,
as it would meet a server that fails now and then. Ours must count every one right: failed or not, tokens known or not (and
then the right number), a first token timed or not. Peers get each kind once, twenty kinds a run. Then one event of 50 MB,
a compressed answer of 500 MB and an endless one: how long, and how much memory. Exit 1 when ours counts one wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import os
import platform
import random
import re
import resource
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

from profile_and_optimize.clients.base import Client, LoadRequest
from profile_and_optimize.clients.stream import StreamClient
from profile_and_optimize.core.errors import PaoError
from profile_and_optimize.core.records import RequestRecord
from profile_and_optimize.ops.worlds import make_client
from profile_and_optimize.stats.columns import MISSING, Records
from profile_and_optimize.stats.summary import samples
from stream_kinds import ASKED, EVERY, Kind

RESULTS = Path(__file__).parent / "results"
MIB = 1 << 20
IDLE_S = 5.0
PEER_BATCH, PEER_GRACE_S = 20, 45.0
BOUND_S, BOUND_MIB = 10.0, 300.0
_KIND = re.compile(rb"kind (\d+) of the bench")


@dataclass(frozen=True, slots=True)
class Seen:
    """What a client made of the answers of one kind: completed, tokens known, first token timed; of `n`."""

    n: int
    completed: int
    tokens: tuple[int | None, ...]
    timed: int
    error: str

    def right(self, kind: Kind) -> bool:
        """`tokens` are those of the completed answers; a failed one has none that counts."""
        if self.completed != (self.n if kind.good else 0):
            return False
        return not kind.good or (set(self.tokens) == {kind.tokens} and self.timed == (self.n if kind.ttft else 0))


class Scripted:
    """A server whose answer is chosen by the prompt."""

    def __init__(self, kinds: Sequence[Kind]) -> None:
        self._kinds = kinds
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Scripted:
        self._thread.start()
        starting = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop)
        self.url = f"http://127.0.0.1:{starting.result(10).sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            # As servers do: a client that waits for more of an answer that is over must not wait for ever.
            while (body := await asyncio.wait_for(_request(reader), IDLE_S)) is not None:
                found = _KIND.search(body)
                if found is None or not await self._answer(writer, self._kinds[int(found[1])]):
                    break
        except (ConnectionError, TimeoutError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, kind: Kind) -> bool:
        """True when the connection stays open."""
        await asyncio.sleep(0.005)
        async for piece in _pieces(kind):
            writer.write(piece)
            await writer.drain()
        return not kind.close


async def _pieces(kind: Kind) -> AsyncIterator[bytes]:
    for piece in kind.pieces:
        yield piece
        if kind.name not in HUGE_NAMES:
            await asyncio.sleep(0.001)


async def _request(reader: asyncio.StreamReader) -> bytes | None:
    """The body of the next request, None at the end of the connection."""
    head = await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b""
    length = re.search(rb"(?i)content-length: *(\d+)", head)
    return await reader.readexactly(int(length[1])) if length else None


class Repeated(Sequence[bytes]):
    """A head, then the same MiB again and again: what is huge need not be held by the server."""

    def __init__(self, head: bytes, piece: bytes, times: int) -> None:
        self._head, self._piece, self._times = head, piece, times

    def __len__(self) -> int:
        return self._times + 1

    def __getitem__(self, i: int) -> bytes:  # type: ignore[override]
        if i > self._times:
            raise IndexError
        return self._piece if i else self._head


def huge(scale: float) -> list[Kind]:
    """At `scale` 1: an event of 50 MB, 500 MB compressed, 500 MB of small events, 500 MB of an error page."""
    stream, length = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n", round(500 * scale) * MIB
    sized = b"Content-Length: %d\r\n" % length
    zipped = stream + b"Content-Encoding: gzip\r\n" + sized + b"\r\n"
    event = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}\n\n'
    many = event * (MIB // len(event)) + b":" + b" " * (MIB % len(event) - 3) + b"\n\n"
    rows = {
        "one event of 50 MB": (stream + b"\r\n" + b'data: {"x": "', b"x" * MIB, round(50 * scale)),
        "500 MB compressed": (zipped, b"\x1f\x8b" + b"\0" * (MIB - 2), round(500 * scale)),
        "500 MB of small events": (stream + sized + b"\r\n", many, round(500 * scale)),
        "an error page of 500 MB": (b"HTTP/1.1 500 No\r\n" + sized + b"\r\n", b"x" * MIB, round(500 * scale)),
    }  # fmt: skip
    return [Kind(n, Repeated(*r), False, None, False, close=True) for n, r in rows.items()]  # type: ignore[arg-type]


HUGE_NAMES = frozenset(k.name for k in huge(0.1))


def load_of(url: str, which: Sequence[int], chat: bool, concurrency: int = 4) -> LoadRequest:
    prompts = tuple(f"kind {i} of the bench, request {n}, some more words" for n, i in enumerate(which))
    api = "chat" if chat else "completions"
    return LoadRequest(
        url=url, model="m", api=api, prompts=prompts, osl=ASKED, concurrency=min(concurrency, len(which)), timeout_s=20.0,
        cores=(), fifo=False,
    )  # fmt: skip


def measure(
    client: Client, kinds: Sequence[Kind], chat: bool, copies: int, seed: int, timeout_s: float = 20.0
) -> list[Seen]:
    """One run over `copies` of every kind in a drawn order."""
    which = [i for i in range(len(kinds)) for _ in range(copies)]
    random.Random(seed).shuffle(which)
    with Scripted(kinds) as server, tempfile.TemporaryDirectory() as work:
        load = replace(load_of(server.url, which, chat), timeout_s=timeout_s)
        run = client.run(load, workdir=Path(work))
    rows = Records.of(run.records)
    output = {
        int(i): (None if n == MISSING else int(n))
        for i, n in zip(rows.numbers["index"], rows.counts.output, strict=True)
    }
    mine: dict[int, list[RequestRecord]] = {}
    for record in run.records:
        mine.setdefault(which[record.index], []).append(record)
    return [_seen(mine[i], output) for i in range(len(kinds))]


def _seen(records: Sequence[RequestRecord], output: dict[int, int | None]) -> Seen:
    good = [r for r in records if r.ok]
    errors = sorted({r.error for r in records if r.error})
    timed = len(samples(records, 0, False)["ttft"])
    return Seen(len(records), len(good), tuple(output[r.index] for r in good), timed, "; ".join(errors))


@dataclass(frozen=True, slots=True)
class Cost:
    kind: str
    requests: int
    seconds: float
    mib_above_idle: float
    failed: int
    error: str

    @property
    def within(self) -> bool:
        return self.failed == self.requests and self.seconds < BOUND_S and self.mib_above_idle < BOUND_MIB


def costs(scale: float) -> list[Cost]:
    """Each kind alone, four requests at once. Memory is the worker's peak, above that of one with a plain answer; a peak of
    earlier ones is a lower bound for it, so the smallest come first."""
    every = [EVERY(True)[0], *huge(scale)]
    found: list[Cost] = []
    idle = 0.0
    with Scripted(every) as server, tempfile.TemporaryDirectory() as work:
        for i, kind in enumerate(every):
            began = time.monotonic()
            run = StreamClient().run(load_of(server.url, [i] * 4, True), workdir=Path(work))
            took = time.monotonic() - began
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
            if i == 0:
                idle = peak
            else:
                errors = sorted({r.error for r in run.records if r.error})
                found.append(
                    Cost(kind.name, 4, took, peak - idle, sum(not r.ok for r in run.records), "; ".join(errors))
                )
    return found


def main() -> int:
    asked = _arguments()
    kinds = {chat: EVERY(chat) for chat in (True, False)}
    table: dict[str, dict[str, Seen]] = {"stream": {}}
    for chat, every in kinds.items():
        found = measure(StreamClient(), every, chat, asked.copies, asked.seed)
        table["stream"] |= {k.name: s for k, s in zip(every, found, strict=True)}
    expensive = costs(asked.scale)
    peers = {name: _peer(name, kinds, asked.seed, table) for name in asked.peers}
    every = [k for side in kinds.values() for k in side]
    wrong = [k for k in every if not table["stream"][k.name].right(k)]
    text = _render(asked, every, table, peers, expensive, wrong)
    print(text)
    if not asked.no_save:
        _save(every, table, peers, expensive, text)
    return 1 if wrong or not all(c.within for c in expensive) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=lambda t: [x for x in t.split(",") if x], default=[], help="with commas")
    parser.add_argument("--copies", type=int, default=3, help="answers of each kind; peers get one")
    parser.add_argument("--scale", type=float, default=1.0, help="of the huge answers; 0.1 for a quick look")
    parser.add_argument("--seed", type=int, default=1, help="of the order")
    parser.add_argument("--no-save", action="store_true", help="print only")
    return parser.parse_args()


def _peer(name: str, kinds: dict[bool, list[Kind]], seed: int, table: dict[str, dict[str, Seen]]) -> str:
    """What came of it in words; its counts go into the table. A peer may hang or end on one kind, so it gets a few at a time."""
    try:
        client = make_client(name)
    except PaoError as e:
        return e.message
    if hasattr(client, "grace_s"):
        client.grace_s = PEER_GRACE_S
    table[name] = {}
    words = [f"{name} {client.version}"]
    for chat, every in kinds.items():
        for begin in range(0, len(every), PEER_BATCH):
            batch = every[begin : begin + PEER_BATCH]
            try:
                found = measure(client, batch, chat, 1, seed, timeout_s=1.0)
                table[name] |= {k.name: s for k, s in zip(batch, found, strict=True)}
            except PaoError as e:
                words.append(f"no result of the {len(batch)} kinds from {batch[0].name!r} on: {e.message}")
    return "; ".join(words)


def _render(
    asked: argparse.Namespace, every: Sequence[Kind], table: dict[str, dict[str, Seen]], peers: dict[str, str],
    expensive: Sequence[Cost], wrong: Sequence[Kind],
) -> str:  # fmt: skip
    names = [n for n in table if table[n]]
    lines = [
        "# Answers counted right", "",
        f"- date: {datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')}",
        f"- python {platform.python_version()}, profile-and-optimize {version('profile-and-optimize')}, {os.cpu_count()} cores",
        f"- {len(every)} kinds, {asked.copies} answers each, mixed, 4 at once, {ASKED} tokens asked with ignore_eos, seed {asked.seed}",
        *(f"- peer {name}: {words}" for name, words in peers.items()), "",
        *_totals(every, table, names), "",
        "| kind | truth | " + " | ".join(names) + " | what ours said |",
        "|---" * (len(names) + 3) + "|",
        *(_row(k, table, names) for k in every), "",
        "| huge answer, 4 at once | seconds | MiB above idle | failed | what ours said |", "|---|---|---|---|---|",
        *(f"| {c.kind} | {c.seconds:.1f} | {c.mib_above_idle:.0f} | {c.failed} of {c.requests} | {c.error} |" for c in expensive), "",
        f"- {'PASS' if not wrong else 'FAIL'} every kind counted right: {len(every) - len(wrong)} of {len(every)}"
        + "".join(f"\n  - {k.name}" for k in wrong),
        f"- {'PASS' if all(c.within for c in expensive) else 'FAIL'} huge answers end as failed within {BOUND_S:g} s and "
        f"{BOUND_MIB:g} MiB above idle",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _totals(every: Sequence[Kind], table: dict[str, dict[str, Seen]], names: Sequence[str]) -> list[str]:
    lines = [
        "| client | kinds seen | bad ones counted as completed | good ones counted as failed | tokens that nothing supports |",
        "|---|---|---|---|---|",
    ]
    for name in names:
        seen = [(k, table[name][k.name]) for k in every if k.name in table[name]]
        bad = sum(not k.good and s.completed > 0 for k, s in seen)
        lost = sum(k.good and s.completed < s.n for k, s in seen)
        believed = sum(k.good and k.tokens is None and any(t is not None for t in s.tokens) for k, s in seen)
        of = (
            sum(not k.good for k, _ in seen),
            sum(k.good for k, _ in seen),
            sum(k.good and k.tokens is None for k, _ in seen),
        )
        lines.append(f"| {name} | {len(seen)} | {bad} of {of[0]} | {lost} of {of[1]} | {believed} of {of[2]} |")
    return lines


def _row(kind: Kind, table: dict[str, dict[str, Seen]], names: Sequence[str]) -> str:
    truth = f"good, {'unknown' if kind.tokens is None else kind.tokens} tokens" if kind.good else "failed"
    cells = [_cell(table[n].get(kind.name), kind) for n in names]
    said = table["stream"][kind.name].error.replace("|", "/")
    return f"| {kind.name} | {truth} | {' | '.join(cells)} | {said} |"


def _cell(seen: Seen | None, kind: Kind) -> str:
    if seen is None:
        return "-"
    if seen.completed not in (0, seen.n):
        return f"{seen.completed} of {seen.n} completed"
    if not seen.completed:
        return "failed" if not kind.good else "**failed**"
    tokens = "/".join(sorted({"unknown" if t is None else str(t) for t in seen.tokens}))
    words = f"completed, {tokens} tokens" + ("" if seen.timed else ", no TTFT")
    return words if seen.right(kind) else f"**{words}**"


def _save(
    every: Sequence[Kind],
    table: dict[str, dict[str, Seen]],
    peers: dict[str, str],
    expensive: Sequence[Cost],
    text: str,
) -> None:
    RESULTS.mkdir(exist_ok=True)
    stem = RESULTS / f"stream_truth-{datetime.date.today().isoformat()}"
    truth = {k.name: {"good": k.good, "tokens": k.tokens, "ttft": k.ttft} for k in every}
    seen = {name: {k: asdict(s) for k, s in rows.items()} for name, rows in table.items()}
    rows = {"truth": truth, "seen": seen, "peers": peers, "huge": [asdict(c) for c in expensive]}
    stem.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")
    stem.with_suffix(".md").write_text(text)


if __name__ == "__main__":
    sys.exit(main())
