"""pao bench: one timed run against an endpoint, with the client's honesty beside every number."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from profile_and_optimize.clients.base import LoadRequest
from profile_and_optimize.clients.prompts import PromptMaker, calibrate, dataset_prompts, load_tokenizer
from profile_and_optimize.clients.stream import StreamClient
from profile_and_optimize.core.errors import BrokeMidway, GateRefused, PaoError, Unreachable
from profile_and_optimize.core.metrics import DISTRIBUTIONS
from profile_and_optimize.core.names import digest
from profile_and_optimize.core.records import ClientRun
from profile_and_optimize.core.trial import TrialKey, TrialState, Validity
from profile_and_optimize.engines.endpoint import served_model
from profile_and_optimize.engines.process import available_cores, split_cores
from profile_and_optimize.engines.prometheus import scrape, server_tpot
from profile_and_optimize.engines.smoke import ask
from profile_and_optimize.engines.urls import checked_url
from profile_and_optimize.evidence.atomic import write_atomic
from profile_and_optimize.evidence.trialfile import TrialFile, encode, encode_raw
from profile_and_optimize.ops.base import Op, Request, Result, Safety, Say
from profile_and_optimize.ops.worlds import auth_headers
from profile_and_optimize.stats.honesty import Honesty, assess
from profile_and_optimize.stats.summary import TrialSummary, summarize

TRIES = 4


class BenchRequest(Request):
    url: str
    model: str | None = None
    isl: int = Field(default=128, ge=1)
    osl: int = Field(default=64, ge=1)
    concurrency: int = Field(default=8, ge=1, le=20000)
    requests: int | None = Field(default=None, ge=1)
    api: Literal["chat", "completions"] = "chat"
    dataset: str = "random"
    tokenizer: str | None = None
    seed: int | None = None
    out: str | None = None
    no_warmup: bool = False
    warm: bool = False
    timeout_s: float = Field(default=600.0, gt=0, le=1e6)


def run(req: BenchRequest, say: Say) -> Result:
    url = checked_url(req.url)
    model = req.model or served_model(url, auth_headers())
    count = req.requests or max(32, 4 * req.concurrency)
    # A fixed default seed would meet a warm prefix cache the second time; a fresh one is recorded instead.
    seed = req.seed if req.seed is not None else time.time_ns() % 2**32
    maker = _maker(req, url, model)
    warm = 0 if req.no_warmup else min(req.concurrency, count)
    first, prompts = _prompts(req, maker, warm, count, f"bench/{seed}")
    say(f"{model} at {url}: {count} requests, concurrency {req.concurrency}, {req.isl} in, {req.osl} out")
    if first:
        _drive(req, url, model, first, osl=min(8, req.osl))
    before, started = scrape(url, auth_headers()), time.time()
    found = _drive(req, url, model, prompts, osl=req.osl)
    ended, counters = time.time(), scrape(url, auth_headers()).since(before)
    summary = summarize(found.records, asked=count, concurrency=req.concurrency)
    honesty = assess(found, requests_asked=count, server_tpot_mean_s=server_tpot(counters))
    data = {
        "url": url, "model": model, "api": req.api, "dataset": req.dataset, "seed": seed,
        "cache_mode": "warm" if req.warm else "cold", "concurrency": req.concurrency,
        "isl_asked": req.isl, "osl_asked": req.osl, "prompts_exact": maker.calibration.exact if maker else None,
        "prompt_overhead_tokens": maker.calibration.overhead if maker else None, **summary.to_json(), "honesty": honesty.to_json(),
        "client": {"name": "stream", "version": StreamClient().version, "cores": list(found.probe.cores)},
    }  # fmt: skip
    if req.out:
        _write(Path(req.out), req, data, found, started, ended, counters, prompts)
        data["out"] = req.out
    return Result(data, text_of(data, summary, honesty), _warnings(summary, honesty), _refusal(summary, honesty, url))


def _maker(req: BenchRequest, url: str, model: str) -> PromptMaker | None:
    if req.dataset != "random":
        return None
    tokenizer = load_tokenizer(req.tokenizer) if req.tokenizer else None
    found = calibrate(tokenizer, lambda prompt: _count(url, model, prompt, req.api))
    return PromptMaker(tokenizer, found)


def _count(url: str, model: str, prompt: str, api: str) -> int | None:
    """The server's count of prompt tokens. A server that fails now and then gets a few tries."""
    for attempt in range(TRIES):
        try:
            return ask(url, model, prompt, api=api, max_tokens=1, headers=auth_headers()).prompt_tokens
        except Unreachable:
            if attempt == TRIES - 1:
                raise
    return None


def _prompts(
    req: BenchRequest, maker: PromptMaker | None, warm: int, count: int, seed: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(warm-up, timed) prompts; none is in both, and none repeats unless --warm says that the workload is warm."""
    if maker is None:
        found = dataset_prompts(Path(req.dataset), warm + count, seed, warm=req.warm)
        return found[:warm], found[warm:]
    return (maker.make(warm, req.isl, seed + "/warm-up") if warm else ()), maker.make(count, req.isl, seed)


def _drive(req: BenchRequest, url: str, model: str, prompts: tuple[str, ...], *, osl: int) -> ClientRun:
    load = LoadRequest(
        url=url, model=model, api=req.api, prompts=prompts, osl=osl, concurrency=min(req.concurrency, len(prompts)),
        headers=auth_headers(), cores=split_cores(available_cores())[1], timeout_s=req.timeout_s,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="pao-bench-") as scratch:
        return StreamClient().run(load, workdir=Path(scratch))


def _write(
    out: Path, req: BenchRequest, data: dict[str, Any], run: ClientRun, started: float, ended: float,
    counters: dict[str, float], prompts: tuple[str, ...],
) -> None:  # fmt: skip
    key = TrialKey(1, "bench", f"{req.dataset if req.dataset == 'random' else 'file'}.c{req.concurrency}")
    file = TrialFile(key, run, len(prompts), started, ended, counters, {}, digest("\0".join(prompts).encode()), 0.0)
    write_atomic(out / "records.json", encode(file))
    write_atomic(out / "raw.json", encode_raw(run.raw))
    write_atomic(out / "result.json", (json.dumps(data, indent=1, sort_keys=True) + "\n").encode())


def text_of(data: dict[str, Any], summary: TrialSummary, honesty: Honesty) -> str:
    """A table a person reads; unknown stays unknown."""
    lines = [f"{'':16}{'p50':>10}{'p90':>10}{'p99':>10}{'mean':>10}{'n':>8}"]
    for m in DISTRIBUTIONS:
        d = summary.dists[m.name]
        cells = (
            [f"{getattr(d, q) * m.scale:10.2f}" for q in ("p50", "p90", "p99", "mean")]
            if d
            else [f"{'unknown':>10}"] * 4
        )
        lines.append(f"{m.printed:16}{''.join(cells)}{d.n if d else 0:8d}")
    isl = "unknown" if summary.isl_observed is None else f"{summary.isl_observed:.1f}"
    osl = "unknown" if summary.osl_observed is None else f"{summary.osl_observed:.1f}"
    lines += [
        f"requests        {summary.completed} completed, {summary.failed} failed of {summary.asked}",
        f"throughput      {_num(summary.request_throughput)} req/s, {_num(summary.output_throughput)} tok/s ({summary.window} window)",
        f"lengths         isl asked {data['isl_asked']} observed {isl}; osl asked {data['osl_asked']} observed {osl}",
        f"client          {honesty.validity.value}" + (f": {'; '.join(honesty.reasons)}" if honesty.reasons else ""),
    ]
    return "\n".join(lines)


def _num(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"


def _warnings(summary: TrialSummary, honesty: Honesty) -> tuple[str, ...]:
    failed = [f"{n} x {e}" for e, n in summary.errors]
    return (*failed, *([f"client {honesty.validity.value}: {'; '.join(honesty.reasons)}"] if honesty.reasons else []))


def _refusal(summary: TrialSummary, honesty: Honesty, url: str) -> PaoError | None:
    if summary.state is TrialState.FAILED:
        why = summary.errors[0][0] if summary.errors else "no answer"
        return BrokeMidway(f"no request completed: {why}", where=url, next="check --model, --api and the server's log")
    if honesty.validity is Validity.INVALID:
        return GateRefused(
            f"the client was not in time: {'; '.join(honesty.reasons)}",
            where=url,
            next="free the machine, or lower --concurrency",
        )
    return None


OP = Op(
    "bench", "Time an endpoint that already runs: one honest closed-loop run.", Safety.WRITES_ARTIFACTS, BenchRequest, run,
    positional=("url",), mcp_name="perf_tune_report_bench",
    examples=("pao bench http://127.0.0.1:8000 --isl 128 --osl 64 --concurrency 64 --requests 384 --json",),
)  # fmt: skip
