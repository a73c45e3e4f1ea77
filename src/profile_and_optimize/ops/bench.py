"""pao bench: one timed run against an endpoint, with the client's honesty beside every number."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from profile_and_optimize.clients.base import MOST_CONNECTIONS, Client, LoadRequest
from profile_and_optimize.clients.calibration import stored_for
from profile_and_optimize.clients.prompts import Calibration, PromptMaker, calibrate, load_tokenizer
from profile_and_optimize.clients.stream import StreamClient
from profile_and_optimize.core.errors import BrokeMidway, GateRefused, PaoError, Unreachable, WrongUse
from profile_and_optimize.core.names import digest
from profile_and_optimize.core.opens import MODEL, OUT, URL
from profile_and_optimize.core.records import ClientRun
from profile_and_optimize.core.trial import TrialKey, TrialState, Validity
from profile_and_optimize.core.workload import RANDOM, Workload
from profile_and_optimize.engines.endpoint import served_model
from profile_and_optimize.engines.process import available_cores, split_cores
from profile_and_optimize.engines.prometheus import scrape, server_tpot
from profile_and_optimize.engines.smoke import ask
from profile_and_optimize.engines.urls import checked_url
from profile_and_optimize.evidence.atomic import write_atomic
from profile_and_optimize.evidence.redact import known_secrets, redact
from profile_and_optimize.evidence.trialfile import TrialFile, encode, encode_raw
from profile_and_optimize.ops.acts import LONGEST_S, Act, Acts, answer_s, closed_loop_s, long_if
from profile_and_optimize.ops.base import Op, Result, Safety, Say
from profile_and_optimize.ops.bench_text import length_warnings, server_words, text_of
from profile_and_optimize.ops.loads import (
    DURATION_S,
    LEAST_REQUESTS,
    AskedLoad,
    LoadOptions,
    asked_load,
    connections_before,
)
from profile_and_optimize.ops.options import says
from profile_and_optimize.ops.started import by_fields
from profile_and_optimize.ops.worlds import auth_headers, make_client
from profile_and_optimize.stats.foreign import OURS, as_told, assess_client, calibrate_command
from profile_and_optimize.stats.honesty import Honesty
from profile_and_optimize.stats.summary import TrialSummary, summarize
from profile_and_optimize.workloads.data import FILES, given_files
from profile_and_optimize.workloads.draw import Drawn, draw_prompts, samples
from profile_and_optimize.workloads.suites import points_of_suite

TRIES = 4
WARMUP_OSL = 8
# A trace of so many prompt tokens is announced; making one took 6.5 us on a core of a 2-core EPYC, with a tokenizer.
LONG_TOKENS, MAKING_S = 1_000_000, 6.5e-6


class BenchRequest(LoadOptions):
    url: Annotated[str, URL] = Field(description="root URL of a running server, without /v1")
    client: Literal["stream", "vllm-bench", "aiperf", "guidellm"] = Field(default="stream", description=says("client"))
    served_model: Annotated[str | None, MODEL] = Field(default=None, description=says("served_model"))
    api: Literal["chat", "completions"] = Field(default="chat", description=says("api"))
    tokenizer: Annotated[str | None, MODEL] = Field(default=None, description=says("tokenizer"))
    seed: int | None = Field(default=None, description=says("seed"))
    out: Annotated[str | None, OUT] = Field(
        default=None, description=says("out", "a folder for records.json, raw.json and result.json")
    )
    no_warmup: bool = Field(default=False, description="send no warm-up requests before the timed ones")
    timeout_s: float = Field(default=600.0, gt=0, le=1e6, description=says("timeout_s"))
    workload: str | None = Field(default=None, description=says("workload"))
    data: Annotated[str | None, FILES] = Field(
        default=None, description=says("data", "in place of the data of --workload")
    )


def acts(req: BenchRequest) -> Acts:
    """A load whose length follows from the request is estimated with a slow server; any other counts as long."""
    known = req.client == OURS and req.workload is None and req.replay is None
    return long_if(not known or _seconds(req) > LONGEST_S, Act.WRITES, Act.SENDS)


def _seconds(req: BenchRequest) -> float:
    """With a slow server, warm-up included."""
    one = answer_s(req.isl, req.osl)
    if req.request_rate is not None:
        return 2 * one + (req.duration_s or (req.requests or req.request_rate * DURATION_S) / req.request_rate)
    requests = req.requests or max(LEAST_REQUESTS, 4 * req.concurrency)
    return answer_s(req.isl, WARMUP_OSL) + closed_loop_s(requests, req.concurrency, req.isl, req.osl)


def run(req: BenchRequest, say: Say) -> Result:
    """Ctrl-C says that nothing is kept: the load generator hands its records over when the run ends."""
    try:
        return bench(req, workload_of(req, say), say)
    except KeyboardInterrupt as e:
        raise KeyboardInterrupt(
            "stopped; nothing was kept: bench has records only when a run ends. Fewer --requests make a shorter run"
        ) from e


def workload_of(req: BenchRequest, say: Say) -> Workload:
    """The named one with its data found, or the one that the options describe. Raises WrongUse for both at once."""
    if req.workload is None:
        if req.data is not None:
            raise WrongUse("belongs to --workload", where="--data", next="--dataset FILE, or --workload NAME")
        return Workload("bench", req.isl, req.osl, req.dataset, req.api, req.warm)
    both = {"isl", "osl", "dataset", "warm", "replay", "api"} & req.model_fields_set
    if both:
        raise WrongUse(
            f"--{min(both)} and --workload, which has its own", where="--workload", next="leave one of them out"
        )
    found = points_of_suite(req.workload, data=given_files(req.data), say=say)
    if len({p.workload.name for p in found}) > 1:
        raise WrongUse(
            f"{req.workload} is a suite", where="--workload", next="one workload of it, or pao bench_all_workloads"
        )
    return found[0].workload


def bench(req: BenchRequest, w: Workload, say: Say) -> Result:
    """One timed run of the workload, at the load that the options describe."""
    url = checked_url(req.url)
    # A fixed default seed would meet a warm prefix cache the second time; a fresh one is recorded instead.
    seed = req.seed if req.seed is not None else time.time_ns() % 2**32
    load = asked_load(req, seed)
    if load.schedule is not None and req.client != OURS:
        raise WrongUse(f"{req.client} is driven in a closed loop only", where="--client", next="leave out --client")
    client = make_client(req.client)
    known = stored_for(client, load.slots if load.schedule is None else None)
    model = req.served_model or served_model(url, auth_headers())
    maker = _maker(req, load, w, url, model)
    if load.trace is not None and load.trace.tokens > LONG_TOKENS:
        say(
            f"making {load.count} prompts of {load.trace.tokens} tokens in all, about {load.trace.tokens * MAKING_S:.0f} s"
        )
    drawn = _prompts(req, load, w, maker, prompts_seed(req, w, seed))
    say(f"{model} at {url}: {load.words}, {_lengths(req, load, w)}")
    first = Drawn((), drawn.warmup)
    warmed = _drive(req, url, model, w, first, osl=min(WARMUP_OSL, w.osl), slots=load.slots) if first.timed else None
    ready = connections_before(load, warmed, load.mean_osl or w.osl)
    before, started = scrape(url, auth_headers()), time.time()
    found = _drive(req, url, model, w, drawn, osl=w.osl, slots=load.slots, load=load, connections=ready, client=client)
    ended, counters = time.time(), scrape(url, auth_headers()).since(before)
    summary = _summary(found, load.count, from_intended=found.open_loop)
    from_send = _summary(found, load.count, from_intended=False) if found.open_loop else None
    honesty = assess_client(
        found, client=client.name, version=client.version, calibrations=[known] if known else [],
        requests_asked=load.count, server_tpot_mean_s=server_tpot(counters),
    )  # fmt: skip
    data = {
        "url": url, "model": model, "seed": seed, **_asked(req, load, w, maker), **summary.to_json(), "honesty": honesty.to_json(),
        "client": {"name": client.name, "version": client.version, "cores": list(found.probe.cores)},
        "calibration": known.printed() if known else f"none: {calibrate_command(client.name, load.slots)}",
        **_open_data(req, load, found, from_send),
    }  # fmt: skip
    if req.out:
        _write(Path(req.out), load, data, found, started, ended, counters, drawn.timed)
        data["out"] = req.out
    text = text_of(data, summary, honesty, from_send)
    uncalibrated = known is None and client.name != OURS
    then = calibrate_command(client.name, load.slots) if uncalibrated else _quieter(honesty)
    return Result(
        data,
        text,
        (*_warnings(summary, honesty), *length_warnings(summary, found)),
        _refusal(summary, honesty, url, then),
    )


def _summary(run: ClientRun, count: int, *, from_intended: bool) -> TrialSummary:
    # An open loop leaves nothing out: what is taken for a start-up may be the stall that it was run to find.
    drop = 0 if run.open_loop else None
    found = summarize(run.records, asked=count, concurrency=run.concurrency, from_intended=from_intended, drop=drop)
    ours = known_secrets(os.environ)
    errors: Counter[str] = Counter()
    for error, n in found.errors:  # a server's words: shown and written without credentials
        errors[redact(error, ours)] += n
    return as_told(run, replace(found, errors=tuple(sorted(errors.items()))))


def _lengths(req: BenchRequest, load: AskedLoad, w: Workload) -> str:
    if load.trace:
        return "lengths as in the trace"
    return f"{req.isl} in, {req.osl} out" if req.workload is None else f"{w.name}, {w.lengths}"


def _asked(req: BenchRequest, load: AskedLoad, w: Workload, maker: PromptMaker | None) -> dict[str, Any]:
    """None is: as in the trace (lengths), none (concurrency of an open loop), or unknown."""
    made = maker.calibration if maker else None
    named: dict[str, Any] = {}
    if req.workload is not None:
        named = {"workload": w.name, "kind": w.kind, "source": w.source, "lengths_asked": w.lengths}
        named["data_sha256"] = w.sha256 or None
    fixed = load.trace is None and w.one_osl and not w.isl_least
    return named | {
        "api": w.api, "dataset": w.dataset if load.trace is None else "replay", "cache_mode": _cache_mode(w, load),
        "concurrency": load.slots if load.schedule is None else None, "load": load.words,
        "isl_asked": w.isl if fixed else None, "osl_asked": w.osl if fixed else None,
        "prompts_exact": made.exact if made else None, "prompt_overhead_tokens": made.overhead if made else None,
    }  # fmt: skip


def _open_data(req: BenchRequest, load: AskedLoad, run: ClientRun, from_send: TrialSummary | None) -> dict[str, Any]:
    """What an open loop adds; a closed loop says only where its latencies begin."""
    if load.schedule is None or from_send is None:
        return {"latency_from": "sent"}
    shown = from_send.to_json()["metrics"]
    out: dict[str, Any] = {
        "latency_from": "intended", "metrics_from_send": {k: shown[k] for k in ("ttft_ms", "e2e_latency_ms")},
        "arrival": run.arrival, "request_rate": run.request_rate, "burstiness": req.burstiness,
        "connections": run.probe.connections, "most_connections": run.concurrency,
    }  # fmt: skip
    if load.trace is not None:
        out["replay"] = {
            "path": req.replay, "requests": load.count, "sessions": load.trace.sessions, "speed": req.speed or 1.0,
            "block_tokens": load.trace.block_tokens, "trace_span_s": load.trace.span_s, "replayed_span_s": _span_s(run),
        }  # fmt: skip
    return out


def _span_s(run: ClientRun) -> float | None:
    """From the first to the last intended time, as sessions let them be."""
    times = [r.intended_ns for r in run.records]
    return (max(times) - min(times)) / 1e9 if times else None


def _cache_mode(w: Workload, load: AskedLoad) -> str:
    if load.trace is not None:
        return "replay: shared prefixes as in the trace" + (
            "; texts of the trace itself are warm on a server that has met them" if not load.trace.all_made else ""
        )
    return w.cache_mode.partition(" (")[0]


def _maker(req: BenchRequest, load: AskedLoad, w: Workload, url: str, model: str) -> PromptMaker | None:
    """None where nothing has to be made to a length: lines of a file, texts of a trace."""
    if w.kind == "prompts" or (load.trace is not None and not load.trace.needs_maker):
        return None
    tokenizer = load_tokenizer(req.tokenizer) if req.tokenizer else None
    texts = samples([w]) if tokenizer is None else {}
    return PromptMaker(tokenizer, calibrate(tokenizer, lambda prompt: _count(url, model, prompt, w.api), texts))


def _count(url: str, model: str, prompt: str, api: str) -> int | None:
    """The server's count of prompt tokens. A server that fails now and then gets a few tries."""
    for attempt in range(TRIES):
        try:
            return ask(url, model, prompt, api=api, max_tokens=1, headers=auth_headers()).prompt_tokens
        except Unreachable:
            if attempt == TRIES - 1:
                raise
    return None


def prompts_seed(req: BenchRequest, w: Workload, seed: int) -> str:
    """Another one for every named workload: with one seed, random words of 64 tokens would be the beginning of those of 128,
    and a suite would meet its own prefixes in the server's cache."""
    return f"bench/{seed}" if req.workload is None else f"bench/{seed}/{w.name}"


def _prompts(req: BenchRequest, load: AskedLoad, w: Workload, maker: PromptMaker | None, seed: str) -> Drawn:
    """No prompt is in the warm-up and timed, and none repeats unless the workload or a trace says so."""
    warm = 0 if req.no_warmup else min(load.slots, load.count)
    if load.trace is not None:
        return Drawn(load.warmup_prompts(seed)[:warm], load.trace.prompts(maker, seed), load.trace.osls)
    return draw_prompts(w, maker or PromptMaker(None, Calibration(0.0)), warm, load.count, seed)


def _drive(
    req: BenchRequest, url: str, model: str, w: Workload, drawn: Drawn, *, osl: int, slots: int,
    load: AskedLoad | None = None, connections: int = 0, client: Client | None = None,
) -> ClientRun:  # fmt: skip
    """The timed prompts: in a closed loop without `load` (the warm-up, by our client), else as it says."""
    schedule = load.schedule if load else None
    request = LoadRequest(
        url=url, model=model, api=w.api, prompts=drawn.timed, osl=osl,
        concurrency=min(slots, len(drawn.timed)) if schedule is None else MOST_CONNECTIONS,
        headers=auth_headers(), cores=split_cores(available_cores())[1], timeout_s=req.timeout_s,
        schedule=schedule, connections=connections, osls=drawn.osls,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="pao-bench-") as scratch:
        return (client or StreamClient()).run(request, workdir=Path(scratch))


def _write(
    out: Path, load: AskedLoad, data: dict[str, Any], run: ClientRun, started: float, ended: float,
    counters: dict[str, float], prompts: tuple[str, ...],
) -> None:  # fmt: skip
    name = data.get("workload") or ("file" if data["dataset"] not in (RANDOM, "replay") else data["dataset"])
    key = TrialKey(1, "bench", load.key if load.trace else f"{name}.{load.key}")
    file = TrialFile(key, run, len(prompts), started, ended, counters, {}, digest("\0".join(prompts).encode()), 0.0)
    ours = known_secrets(os.environ)
    write_atomic(out / "records.json", encode(file, ours))
    write_atomic(out / "raw.json", encode_raw(run.raw, ours))
    write_atomic(out / "result.json", (json.dumps(data, indent=1, sort_keys=True) + "\n").encode())


def _warnings(summary: TrialSummary, honesty: Honesty) -> tuple[str, ...]:
    found = [f"{n} x {e}" for e, n in summary.errors]
    if honesty.open_load and honesty.open_load.saturated:
        found.append(f"server {server_words(honesty.open_load)}: latencies grow with the length of the run")
    return (*found, *([f"client {honesty.validity.value}: {'; '.join(honesty.reasons)}"] if honesty.reasons else []))


def _quieter(honesty: Honesty) -> str:
    return f"free the machine, or lower --{'request-rate' if honesty.open_load else 'concurrency'}"


def _refusal(summary: TrialSummary, honesty: Honesty, url: str, then: str) -> PaoError | None:
    """`then` is the command or advice for a run whose client cannot be relied upon."""
    if summary.state is TrialState.FAILED:
        if summary.completed:
            return BrokeMidway(summary.reason, where=url, next="pao bench again with --out, and look at records.json")
        why = max(summary.errors, key=lambda e: e[1])[0] if summary.errors else "no answer"
        return BrokeMidway(f"no request completed: {why}", where=url, next="check --model, --api and the server's log")
    if honesty.validity is Validity.INVALID:
        return GateRefused(f"the client's run is not valid: {'; '.join(honesty.reasons)}", where=url, next=then)
    return None


OP = Op(
    "bench", "Time an endpoint that already runs: one honest run, closed loop or open.", Safety.SUBMITS_JOBS, BenchRequest, run,
    positional=("url",), mcp_name="perf_tune_report_bench", acts=acts, started=by_fields,
    examples=(
        "pao bench http://127.0.0.1:8000 --isl 128 --osl 64 --concurrency 64 --requests 384 --json",
        "pao bench http://127.0.0.1:8000 --request-rate 4 --duration-s 60",
        "pao bench http://127.0.0.1:8000 --replay trace.jsonl --speed 2",
    ),
)  # fmt: skip
