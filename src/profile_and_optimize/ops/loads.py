"""Which load `bench` was asked for: a closed loop, an open one, or a replay. What cannot be meant is refused before anything is sent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from profile_and_optimize.clients.arrivals import Schedule, draw
from profile_and_optimize.clients.open_loop import connections_for
from profile_and_optimize.clients.trace import Trace, check_size, read_trace
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.opens import DATA, PATH
from profile_and_optimize.core.records import ClientRun
from profile_and_optimize.ops.base import Request
from profile_and_optimize.ops.options import says
from profile_and_optimize.stats.summary import summarize

DURATION_S = 30.0
LEAST_REQUESTS = 32
WARMUP_SLOTS = 8
PLAIN_WARMUP = "This is warm-up request {n} of run {seed}. Please answer briefly."


class LoadOptions(Request):
    """Options of a load. `model_fields_set` tells what was typed from what is a default."""

    isl: int = Field(default=128, ge=1, description=says("isl"))
    osl: int = Field(default=64, ge=1, description=says("osl"))
    concurrency: int = Field(
        default=8,
        ge=1,
        le=20000,
        description=says("concurrency", "a closed loop: the next request is sent when an answer ended"),
    )
    request_rate: float | None = Field(
        default=None,
        gt=0,
        le=1e5,
        description="open loop: requests per second, sent on time whether or not answers have ended",
    )
    arrival: Literal["poisson", "constant", "gamma"] | None = Field(
        default=None, description="arrival process of an open loop; default: poisson"
    )
    burstiness: float | None = Field(
        default=None,
        gt=0,
        description="burstiness of --arrival gamma: 1 is poisson, below 1 comes in bursts, above 1 is more even",
    )
    requests: int | None = Field(default=None, ge=1, description=says("requests"))
    duration_s: float | None = Field(
        default=None,
        gt=0,
        le=1e6,
        description="seconds of an open loop, in place of --requests; default: 30 where neither is given",
    )
    replay: Annotated[str | None, PATH] = Field(
        default=None, description="trace to replay in an open loop, as JSON lines (docs/open-loop.md)"
    )
    block_tokens: int | None = Field(
        default=None,
        ge=1,
        le=1_048_576,
        description="tokens for each hash id of a trace (--replay); default: read from the trace",
    )
    speed: float | None = Field(
        default=None, gt=0, le=1e6, description="speed of a replay (--replay): 2 is twice as fast"
    )
    dataset: Annotated[str, DATA] = Field(
        default="random", description="prompts: random, or a file of prompts as JSON lines"
    )
    warm: bool = Field(default=False, description="send the same prompts as before, so that prefix caches are warm")


@dataclass(frozen=True, slots=True)
class AskedLoad:
    """`count` requests; `schedule` None is a closed loop of `slots`, which otherwise are those of the warm-up."""

    count: int
    slots: int
    schedule: Schedule | None
    trace: Trace | None
    words: str

    @property
    def key(self) -> str:
        """The point's name in a trial's key."""
        if self.trace is not None:
            return "replay"
        return f"c{self.slots}" if self.schedule is None else f"r{self.schedule.request_rate:g}"

    @property
    def mean_osl(self) -> float | None:
        """Of a trace's own lengths."""
        return sum(self.trace.osls) / len(self.trace.osls) if self.trace else None

    def warmup_prompts(self, seed: str) -> tuple[str, ...]:
        """For a trace of texts, whose lengths nobody named. Never a text of the trace: the server would know it."""
        return tuple(PLAIN_WARMUP.format(n=n, seed=seed) for n in range(min(self.slots, self.count)))


def asked_load(req: LoadOptions, seed: int) -> AskedLoad:
    """Raises WrongUse naming the options that contradict one another."""
    given = req.model_fields_set
    _refuse_contradictions(req, given)
    if req.replay is not None:
        return _replay(req, req.replay)
    if req.request_rate is None:
        count = req.requests or max(LEAST_REQUESTS, 4 * req.concurrency)
        return AskedLoad(count, req.concurrency, None, None, f"{count} requests, concurrency {req.concurrency}")
    rate, arrival = req.request_rate, req.arrival or "poisson"
    count = req.requests or _requests_in(req.duration_s, rate)
    schedule = draw(arrival, rate, count, f"bench/{seed}/arrivals", req.burstiness or 1.0)
    shape = f" (burstiness {req.burstiness:g})" if req.burstiness else ""
    words = f"open loop, {arrival}{shape} {rate:g} req/s, {count} requests over {schedule.span_s:.1f} s"
    return AskedLoad(count, WARMUP_SLOTS, schedule, None, words)


def _requests_in(duration_s: float | None, rate: float) -> int:
    if duration_s is None:
        return max(LEAST_REQUESTS, math.ceil(rate * DURATION_S))
    return max(1, round(rate * duration_s))


def _replay(req: LoadOptions, path: str) -> AskedLoad:
    trace = read_trace(Path(path), blocks_of=req.block_tokens).first(count=req.requests, seconds=req.duration_s)
    check_size(trace)
    speed = req.speed or 1.0
    schedule = trace.schedule(speed)
    pace = "" if speed == 1 else f", {schedule.span_s:.1f} s at speed {speed:g}"
    how = "as asked" if req.block_tokens else "read from its lines"
    blocks = f", hash blocks of {trace.block_tokens} tokens ({how})" if trace.block_tokens else ""
    words = f"replay of {path}: {len(trace.turns)} requests, {trace.sessions} sessions, {trace.span_s:.1f} s of its time{pace}{blocks}"
    return AskedLoad(len(trace.turns), WARMUP_SLOTS, schedule, trace, words)


def _refuse_contradictions(req: LoadOptions, given: set[str]) -> None:
    open_loop = req.request_rate is not None or req.replay is not None
    if open_loop and "concurrency" in given:
        raise WrongUse(
            "a closed loop and an open one at once: a limit on requests in flight holds requests back, and what waits in "
            "the client is hidden from the server and from the load",
            where="--concurrency", next="leave out --concurrency, or the open loop's options",
        )  # fmt: skip
    if req.replay is not None:
        own = {"request_rate", "arrival", "burstiness", "isl", "osl", "dataset", "warm"} & given
        _refuse(own, "a trace has its own times, lengths and prompts", "leave it out; --speed changes the pace")
    else:
        _refuse({"speed", "block_tokens"} & given, "there is no trace to replay", "--replay TRACE.jsonl")
    if req.request_rate is None:
        _refuse({"arrival", "burstiness"} & given, "belongs to an open loop", "--request-rate R")
    if not open_loop:
        _refuse({"duration_s"} & given, "belongs to an open loop", "--request-rate R, or --requests N")
    elif req.replay is None and {"requests", "duration_s"} <= given:
        raise WrongUse("either a number of requests or a duration", where="--duration-s", next="leave one out")
    if req.arrival == "gamma" and req.burstiness is None:
        raise WrongUse("gamma arrivals need a burstiness", where="--arrival", next="--burstiness 0.5")
    if req.burstiness is not None and req.arrival != "gamma":
        raise WrongUse("belongs to --arrival gamma", where="--burstiness", next="--arrival gamma")


def _refuse(found: set[str], why: str, then: str) -> None:
    if found:
        raise WrongUse(why, where="--" + min(found).replace("_", "-"), next=then)


def connections_before(load: AskedLoad, warmed: ClientRun | None, osl: float) -> int:
    """Connections to open before t0: the rate times the latency that the warm-up saw, for answers of `osl` tokens. 0: unknown."""
    if load.schedule is None or warmed is None:
        return 0
    seen = summarize(warmed.records, asked=len(warmed.records), concurrency=warmed.concurrency)
    ttft, tpot = seen.value("ttft"), seen.value("tpot")
    if ttft is None or tpot is None:
        return 0
    return connections_for(load.schedule.request_rate, ttft + tpot * osl)
