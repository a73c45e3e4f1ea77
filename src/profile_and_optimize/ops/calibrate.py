"""pao calibrate: how far a client misreports on this machine, at given loads, measured against the mock server."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from profile_and_optimize.campaign.guard import Guard, Measures, too_loud
from profile_and_optimize.campaign.machine import LinuxMachine
from profile_and_optimize.clients.base import Client
from profile_and_optimize.clients.calibration import (
    Conditions,
    OurMock,
    RunningMock,
    Shape,
    Store,
    calibration_of,
    default_root,
    has_stamps,
    run_once,
    this_node,
)
from profile_and_optimize.core.errors import GateRefused, PaoError, WrongUse
from profile_and_optimize.core.opens import PYTHON, URL
from profile_and_optimize.engines.process import available_cores, split_cores
from profile_and_optimize.engines.urls import checked_url
from profile_and_optimize.ops.acts import Act, Acts, long_if
from profile_and_optimize.ops.agreement import agree
from profile_and_optimize.ops.base import Op, Request, Result, Safety, Say
from profile_and_optimize.ops.options import says
from profile_and_optimize.ops.started import by_fields
from profile_and_optimize.ops.worlds import make_client
from profile_and_optimize.stats.client_error import ClientError

LOOK_S = 1.0


class CalibrateRequest(Request):
    client: Literal["stream", "vllm-bench", "aiperf", "guidellm"] = Field(default="stream", description=says("client"))
    endpoint_url: Annotated[str | None, URL] = Field(
        default=None, description=says("endpoint_url", "default: a mock server started here")
    )
    concurrency: str = Field(
        default="16,64,256", description=says("concurrency", "one measurement for each of a list: 16,64,256")
    )
    rounds: int = Field(default=2, ge=1, le=20, description="runs at each concurrency; the medians are kept")
    ttft_ms: float = Field(default=50.0, ge=0, le=1e6, description=says("ttft_ms", "of the mock server"))
    tpot_ms: float = Field(default=10.0, ge=0, le=1e6, description="time per output token in ms; of the mock server")
    osl: int = Field(default=64, ge=1, le=100_000, description=says("osl"))
    isl: int = Field(default=128, ge=1, le=100_000, description=says("isl"))
    api: Literal["chat", "completions"] = Field(default="chat", description=says("api"))
    client_python: Annotated[str | None, PYTHON] = Field(default=None, description=says("client_python"))
    force: bool = Field(default=False, description="keep the result although the machine was not quiet")


def acts(req: CalibrateRequest) -> Acts:
    return long_if(True, Act.WRITES, Act.SENDS, *((Act.STARTS,) if req.endpoint_url is None else ()))


@dataclass(frozen=True, slots=True)
class _Cores:
    """Where the mock and the client run; empty is anywhere."""

    mock: tuple[int, ...]
    client: tuple[int, ...]


def run(req: CalibrateRequest, say: Say) -> Result:
    loads = _loads(req.concurrency)
    shape = Shape(req.ttft_ms / 1e3, req.tpot_ms / 1e3, req.osl, req.isl, req.api)
    client = make_client(req.client, req.client_python)
    before = _look()
    say(f"{client.name} {client.version} on {this_node()}: {_load_words(before)}")
    url = checked_url(req.endpoint_url) if req.endpoint_url else None
    if url and not has_stamps(url):
        return agree(client, url, shape, loads, say)
    found: list[ClientError] = []
    kept: list[Path | None] = []
    for concurrency in loads:
        say(f"concurrency {concurrency}: {req.rounds} rounds")
        found.append(_calibrate(req, client, shape, concurrency, url, before))
        kept.append(keep(found[-1], force=req.force))
    return shown(found, kept)


def _loads(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and 1 <= int(part) <= 20_000 for part in parts):
        raise WrongUse(
            f"{text!r} is not a list of concurrencies", where="--concurrency", next="--concurrency 16,64,256"
        )
    return list(dict.fromkeys(map(int, parts)))


def _look() -> Measures:
    """What others do on this machine while we sleep."""
    with Guard(LinuxMachine(), time.sleep, 0.0).watch(os.getpid()) as seen:
        time.sleep(LOOK_S)
    return seen


def _load_words(seen: Measures) -> str:
    others, cores = seen.get("foreign_cores"), seen.get("cores")
    told = "unknown" if others is None else f"{others:.2f} of {cores:.0f} cores" if cores else f"{others:.2f} cores"
    loud = too_loud(seen)
    return f"others use {told}" + (f"; NOT QUIET: {'; '.join(loud)}" if loud else "")


def _cores() -> _Cores:
    """The client where a campaign would put it; the mock beside it, each in its own room as on two machines."""
    every = available_cores()
    mock, client = split_cores(every)
    if mock != client or len(every) < 2:
        return _Cores(mock if mock != client else (), client if mock != client else ())
    return _Cores(every[:1], every[1:])


def _calibrate(
    req: CalibrateRequest, client: Client, shape: Shape, concurrency: int, url: str | None, before: Measures
) -> ClientError:
    """Every round meets a mock of its own, unless one runs already."""
    cores, seen, runs = _cores(), [before], []
    with tempfile.TemporaryDirectory(prefix="pao-calibrate-") as scratch:
        for _ in range(req.rounds):
            if url:
                # That mock's work is not told from that of strangers, so the look before is all there is.
                runs.append(run_once(client, RunningMock(url), shape, concurrency, Path(scratch)))
                continue
            with OurMock(shape, Path(scratch), cores.mock) as mock, _watched(mock.pid) as during:
                runs.append(run_once(client, mock, shape, concurrency, Path(scratch), cores.client))
            seen.append(during)
    others = [v for m in seen if (v := m.get("foreign_cores")) is not None]
    loud = tuple(dict.fromkeys(words for m in seen for words in too_loud(m)))
    where = Conditions(this_node(), time.time(), () if url else cores.client, max(others, default=None), loud)
    return calibration_of(client, shape, concurrency, runs, where)


@contextmanager
def _watched(pid: int) -> Iterator[dict[str, float | None]]:
    with Guard(LinuxMachine(), time.sleep, 0.0).watch(pid) as seen:
        yield seen


def keep(found: ClientError, *, force: bool) -> Path | None:
    """Where it is kept; None for one from a loud machine, unless forced."""
    return Store(default_root()).save(found) if force or not found.loud else None


def shown(found: list[ClientError], kept: list[Path | None]) -> Result:
    """What was measured, kept or not; a refusal when something was not."""
    data = {
        "client": found[0].client, "version": found[0].version, "node": found[0].node, "truth": "the mock's stamps",
        "points": [e.printed() for e in found], "stored": [str(path) for path in kept if path],
    }  # fmt: skip
    loud = tuple(f"concurrency {e.concurrency}: {'; '.join(e.loud)}" for e in found if e.loud)
    refusal: PaoError | None = None
    if None in kept:
        refusal = GateRefused(
            f"not kept, the machine was not quiet: {loud[0]}",
            next="wait for a quiet machine, or --force keeps it with that note",
        )
    return Result(data, _table(found, kept), loud, refusal)


COLUMNS = (
    "c", "TTFT p50", "TTFT p99", "TPOT p50", "E2E p50", "E2E p99", "req/s lost", "CPU us/token", "failed", "kept",
)  # fmt: skip


def _table(found: list[ClientError], kept: list[Path | None]) -> str:
    """Errors in ms: what the client said less what happened."""
    rows = [COLUMNS, *(_row(e, path is not None) for e, path in zip(found, kept, strict=True))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    lines = ["  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    first = found[0]
    head = (
        f"{first.client} {first.version}: what it reported less what happened, in ms; medians of {first.rounds} rounds, mock "
        f"TTFT {first.ttft_s * 1e3:g} ms, TPOT {first.itl_s * 1e3:g} ms, osl {first.osl}, {first.api}"
    )
    return "\n".join([head, *lines])


def _row(e: ClientError, kept: bool) -> tuple[str, ...]:
    times = (e.ttft_error_p50_s, e.ttft_error_p99_s, e.tpot_error_p50_s, e.e2e_error_p50_s, e.e2e_error_p99_s)
    cpu = "unknown" if e.cpu_us_per_token is None else f"{e.cpu_us_per_token:.1f}"
    cells = ["unknown" if t is None else f"{t * 1e3:+.2f}" for t in times]
    return (str(e.concurrency), *cells, f"{e.lost:.1%}", cpu, f"{e.failed}/{e.requests}", "yes" if kept else "no")


OP = Op(
    "calibrate", "Measure how far a client misreports on this machine, against the mock server.", Safety.SUBMITS_JOBS,
    CalibrateRequest, run, mcp_name="perf_tune_report_calibrate", acts=acts, started=by_fields,
    examples=("pao calibrate --client stream --concurrency 16,64,256", "pao calibrate --client aiperf --concurrency 16"),
)  # fmt: skip
