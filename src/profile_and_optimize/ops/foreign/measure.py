"""One call of a backend on a cell: asked, measured, kept, normalized. Called again, it goes on with what is not complete."""

from __future__ import annotations

import os
import shlex
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from profile_and_optimize.analysis.decide import decide
from profile_and_optimize.analysis.imported import FULL, document
from profile_and_optimize.campaign.evidence_of import load_evidence
from profile_and_optimize.campaign.imported import (
    ASKED,
    SEEN,
    Ask,
    Attempt,
    ImportedCell,
    Seen,
    attempts_of,
    imported_path,
    load_imported,
)
from profile_and_optimize.campaign.world import host_facts
from profile_and_optimize.clients.vllm_sweep import Endpoint
from profile_and_optimize.core.context import context
from profile_and_optimize.core.errors import BrokeMidway, Corrupted
from profile_and_optimize.core.names import not_an_option
from profile_and_optimize.core.workload import Point
from profile_and_optimize.engines.base import Server
from profile_and_optimize.engines.endpoint import EndpointEngine, served_model
from profile_and_optimize.engines.process import free_port
from profile_and_optimize.engines.vllm import VllmEngine, observed_from_log
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.evidence.redact import known_secrets, redact
from profile_and_optimize.ops.base import Result, Say
from profile_and_optimize.ops.campaigns import opened
from profile_and_optimize.ops.closing import closed
from profile_and_optimize.ops.foreign.keep import run_step
from profile_and_optimize.ops.foreign.steps import SERVED, engine_of, shown, spec_of, steps, sweep_of, tool_of
from profile_and_optimize.ops.foreign.wanted import Wanted, ask_of, left
from profile_and_optimize.ops.worlds import auth_headers
from profile_and_optimize.optimize.publish import publish

PRODUCER = "cell_run"


@dataclass
class Went:
    """How a call went, as it is written down at its end whatever happened."""

    began: float
    reasons: list[str] = field(default_factory=list)
    explored: bool = False
    context: dict[str, str] = field(default_factory=dict)

    def seen(self) -> Seen:
        ours = known_secrets(os.environ)
        observed = context({}, {k: redact(v, ours) for k, v in self.context.items()}).to_json()
        return Seen(self.began, time.time(), redact("; ".join(self.reasons), ours), self.explored, observed)


def dry_run(path: Path, w: Wanted) -> Result:
    """Every command, with PORT and WORK where a port and a folder will stand. Nothing is started and nobody is asked."""
    port = free_port()
    at = Endpoint(w.url or f"http://127.0.0.1:{port}", w.model or SERVED, w.tokenizer)
    with tempfile.TemporaryDirectory(prefix="pao-") as scratch:
        work = Path(scratch)
        commands = [s.command for s in steps(w, at, port, work, 1, w.points)]
        if w.starts and not w.by_tool:
            commands.insert(0, engine_of(w).command(spec_of(w, work / "engine.log", port)))
        told = [shown(c, work, port if w.starts else None) for c in commands]
    data = {"campaign": path.name, "cell": w.arm.id, "backend": w.backend, "commands": told}
    return Result(data, "\n".join(f"{w.arm.id}: {_as_typed(c)}" for c in told))


def _as_typed(command: dict[str, Any]) -> str:
    return " ".join([*(f"{k}={shlex.quote(v)}" for k, v in command["env"].items()), shlex.join(command["argv"])])


def run(path: Path, w: Wanted, say: Say) -> Result:
    """Raises WrongUse when nothing is left to measure, Unreachable when nobody answers; a tool that failed is in the result."""
    tool, version = tool_of(w)
    with opened(path) as folder:
        before = _before(folder, w)
        points, port = left(w, before), free_port()
        at = _endpoint(w, port)
        ask = ask_of(w, at, points, len(before) + 1, tool, version)
        folder.write_json(f"{ask.folder}/{ASKED}", ask.to_json(), producer=PRODUCER)
        went = Went(time.time())
        try:
            _measure(folder, w, ask, at, port, points, went, say)
        except BrokeMidway as e:
            went.reasons.append(e.message)
        except KeyboardInterrupt:
            went.reasons.append("stopped by hand")
            raise
        finally:
            folder.write_json(f"{ask.folder}/{SEEN}", went.seen().to_json(), producer=PRODUCER)
    return told(path, w.arm.id, w.backend)


def _before(folder: RunFolder, w: Wanted) -> tuple[Attempt, ...]:
    """What this backend left of this cell earlier. Raises Corrupted when it cannot be read."""
    paths = {e.data["path"] for e in folder.journal.events if e.kind == "wrote"}
    cells, damaged = load_imported(folder.path, paths)
    if damaged:
        raise Corrupted(damaged[0], where=str(folder.path), next="pao verify RUN")
    return attempts_of(cells, w.arm.id, w.backend)


def _endpoint(w: Wanted, port: int) -> Endpoint:
    """The server that is there, asked for its model, or where the cell's own will be. Raises Unreachable."""
    if w.starts:
        return Endpoint(f"http://127.0.0.1:{port}", SERVED, w.tokenizer)
    model = not_an_option(served_model(w.url, auth_headers(), w.model or None), "the model's name")
    return Endpoint(w.url, model, w.tokenizer)


def _measure(
    folder: RunFolder, w: Wanted, ask: Ask, at: Endpoint, port: int, points: Sequence[Point], went: Went, say: Say
) -> None:
    """Every step in turn; one that fails does not stop the next."""
    went.context |= {"client": ask.tool, "client_version": ask.tool_version}
    for note in sweep_of(w).notes if w.by_tool else ():
        say(note)
    with tempfile.TemporaryDirectory(prefix="pao-") as scratch:
        work = Path(scratch)
        with _serving(w, port, work / "engine.log", went, say) if w.starts and not w.by_tool else nullcontext():
            if not w.starts:
                went.context |= EndpointEngine(auth_headers()).observed(Server(at.url, at.model, 0.0))
            todo = list(steps(w, at, port, work, ask.attempt, points))
            commands = [shown(s.command, work, port if w.starts else None) for s in todo]
            folder.write_json(
                f"cells/{ask.cell}/commands/{ask.backend}-r{ask.attempt}.json", commands, producer=PRODUCER
            )
            for step in todo:
                ended = run_step(folder, ask, step, work / f"log-{step.name}.txt", say, serves=w.by_tool)
                went.reasons += [ended.reason] if ended.reason else []
                went.explored |= w.levels > 0 and "[WL END]" in ended.log and "skipping intermediate" not in ended.log
                went.context |= _of_sweep(w, port, ended.log) if w.by_tool else {}


@contextmanager
def _serving(w: Wanted, port: int, log: Path, went: Went, say: Say) -> Iterator[None]:
    """The cell's own server; what is observed of it goes into the context. Stopped whatever happens."""
    engine = engine_of(w)
    say(f"{w.arm.id}: starting")
    server = engine.start(spec_of(w, log, port))
    try:
        went.context |= {**host_facts(), **engine.version(), **server.source, **engine.observed(server)}
        yield
    finally:
        engine.stop(server)


def _of_sweep(w: Wanted, port: int, log: str) -> dict[str, str]:
    """What is known of a server that the tool started: the code that its command runs, and what its log says."""
    engine = engine_of(w)
    command = engine.command(spec_of(w, Path("engine.log"), port))
    source = engine.installed.source(command) if isinstance(engine, VllmEngine) else {}
    seen = observed_from_log(log)
    return {**host_facts(), **engine.version(), **source, **({"served_model": SERVED} if seen else {}), **seen}


def told(path: Path, cell: str, backend: str) -> Result:
    """Write the derived files, and say how far the cell came. What is not full is a refusal."""
    ev = load_evidence(path)
    written = publish(ev, decide(ev))
    found = next(c for c in ev.imported if (c.cell, c.backend) == (cell, backend))
    doc = document(found, path.name)
    rows = [r for r in doc["rows"] if r["sources"]]
    data = {k: doc[k] for k in ("cell", "backend", "tier", "status", "reason", "requested", "missing")}
    data |= {"campaign": path.name, "rows": len(rows), "written": written}
    lines = [f"{cell} by {backend}: {doc['status']}", *map(line, rows), str(path / imported_path(cell, backend))]
    lines += ["another tool's own figures: DRAFT material, in no comparison", f"next: pao report_render {path}"]
    warnings = tuple(f"{flag}: {r['workload']} at concurrency {r['concurrency']}" for r in rows for flag in r["flags"])
    refusal = None if doc["status"] == FULL else _not_full(found, doc)
    return closed(Result(data, "\n".join(lines), warnings, refusal), path)


def _not_full(cell: ImportedCell, doc: dict[str, Any]) -> BrokeMidway:
    return BrokeMidway(
        f"{doc['status']}: {doc['reason']}", where=f"cell {cell.cell}", next="the same command resumes with what is not complete"
    )  # fmt: skip


def line(row: dict[str, Any]) -> str:
    """One run in a line for a terminal."""

    def value(found: dict[str, Any] | None) -> str:
        return "unknown" if found is None else f"{found['estimate']:.4g}"

    m = row["metrics"]
    flags = "".join(f" [{f}]" for f in row["flags"])
    return (
        f"  {row['workload']} at concurrency {row['concurrency']}: {row['status']}, ttft {value(m['ttft_ms']['p50'])} ms, "
        f"tpot {value(m['tpot_ms']['p50'])} ms, {value(m['output_throughput_tok_s'])} tok/s{flags}"
    )
