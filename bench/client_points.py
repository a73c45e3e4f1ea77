"""One client at one load against the mock: what it reported, beside what the mock actually sent."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from profile_and_optimize.clients.base import LoadRequest
from profile_and_optimize.clients.stream import StreamClient
from profile_and_optimize.engines.mock.process import MockProcess

TTFT_S, ITL_S, OSL = 0.050, 0.010, 64
PEER_LIMIT_S = 600
NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Seen:
    """What a client reported. Seconds, by request index; `arrived_ns` is its first token on CLOCK_MONOTONIC."""

    ttft: dict[int, float]
    tpot: dict[int, float]
    arrived_ns: dict[int, float]
    request_rate: float
    failed: int
    run_cpu_s: float = NAN
    parse_cpu_s: float = NAN
    loop_lag_p50_ms: float = NAN
    scheduler: str = ""


@dataclass(frozen=True, slots=True)
class Point:
    """One run. Errors are reported minus actual, in ms; CPU in microseconds per output token."""

    client: str
    concurrency: int
    requests: int
    failed: int
    ttft_p50_ms: float
    ttft_p99_ms: float
    ttft_error_p50_ms: float
    ttft_error_p99_ms: float
    arrival_error_p50_ms: float
    arrival_error_p99_ms: float
    tpot_error_p50_ms: float
    request_rate: float
    ideal_rate: float
    deliverable_rate: float
    cpu_us: float
    cpu_whole_process_us: float
    cpu_run_us: float
    cpu_parse_us: float
    loop_lag_p50_ms: float
    scheduler: str

    @property
    def lost(self) -> float:
        """Share of the requests per second that the mock could deliver and the client did not take."""
        return 1.0 - self.request_rate / self.deliverable_rate


def requests_at(concurrency: int) -> int:
    return max(96, 6 * concurrency)


def ours(mock: MockProcess, concurrency: int, work: Path, cores: tuple[int, ...]) -> Seen:
    prompts = tuple(f"{i} " + "word " * 127 for i in range(requests_at(concurrency)))
    load = LoadRequest(
        url=mock.url, model="mock", api="chat", prompts=prompts, osl=OSL, concurrency=concurrency, timeout_s=60, cores=cores
    )  # fmt: skip
    run = StreamClient().run(load, workdir=work)
    good = [r for r in run.records if r.ok]
    assert run.t0_monotonic_ns is not None
    return Seen(
        ttft={r.index: (r.chunk_ns[0] - r.sent_ns) / 1e9 for r in good},
        tpot={r.index: (r.chunk_ns[-1] - r.chunk_ns[0]) / 1e9 / ((r.completion_tokens or 0) - 1) for r in good},
        arrived_ns={r.index: r.chunk_ns[0] + run.t0_monotonic_ns for r in good},
        request_rate=len(good) / run.probe.wall_s,
        failed=len(run.records) - len(good),
        run_cpu_s=run.probe.cpu_s,
        parse_cpu_s=run.probe.parse_cpu_s,
        loop_lag_p50_ms=float(np.median(run.probe.loop_lag_ns)) / 1e6,
        scheduler=run.probe.scheduler,
    )


def vllm_bench(
    mock: MockProcess, concurrency: int, work: Path, *, peer: Path, tokenizer: Path, prefix: Sequence[str]
) -> Seen:
    n = requests_at(concurrency)
    flags = {
        "--backend": "openai-chat", "--base-url": mock.url, "--endpoint": "/v1/chat/completions", "--model": "mock",
        "--tokenizer": str(tokenizer), "--dataset-name": "random", "--random-input-len": "128",
        "--random-output-len": str(OSL), "--num-prompts": str(n), "--max-concurrency": str(concurrency),
        "--result-dir": str(work), "--result-filename": "peer.json", "--percentile-metrics": "ttft,tpot,itl,e2el",
        "--metric-percentiles": "50,90,99",
    }  # fmt: skip
    command = [
        *prefix,
        str(peer.with_name("vllm")),
        "bench",
        "serve",
        "--ignore-eos",
        "--save-result",
        "--save-detailed",
    ]
    command += [part for pair in flags.items() for part in pair]
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1", "no_proxy": "*"}
    with (work / "peer.log").open("wb") as log:
        subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, timeout=PEER_LIMIT_S, check=True
        )  # fmt: skip
    return _read_peer(json.loads((work / "peer.json").read_text()))


def _read_peer(said: Mapping[str, Any]) -> Seen:
    """Its lists are in the order of its requests; a failed one has ttft 0."""
    good = [i for i, error in enumerate(said["errors"]) if not error]
    tpot = {i: sum(said["itls"][i]) / (said["output_lens"][i] - 1) for i in good if said["output_lens"][i] > 1}
    return Seen(
        ttft={i: said["ttfts"][i] for i in good},
        tpot=tpot,
        arrived_ns={i: (said["start_times"][i] + said["ttfts"][i]) * 1e9 for i in good},
        request_rate=said["request_throughput"],
        failed=said["failed"],
    )


class CpuWatch(threading.Thread):
    """Samples the CPU time of whichever new child process we have, so that its start-up can be told from its work."""

    def __init__(self, known: set[int]) -> None:
        super().__init__(daemon=True)
        self._known = known
        self._over = threading.Event()
        self.samples: list[tuple[int, float]] = []

    def run(self) -> None:
        while not self._over.wait(0.02):
            for pid in _children() - self._known:
                fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
                if fields:
                    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
                    self.samples.append((time.perf_counter_ns(), cpu))

    def stop(self) -> None:
        self._over.set()
        self.join()

    def before(self, moment_ns: int) -> float:
        """CPU seconds used up to then."""
        return max((cpu for at, cpu in self.samples if at <= moment_ns), default=0.0)


def _children() -> set[int]:
    tasks = Path("/proc/self/task").iterdir()
    return {int(pid) for task in tasks for pid in _read(f"{task}/children").split()}


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _reaped_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(
    client: str, run: Callable[[MockProcess], Seen], concurrency: int, work: Path, prefix: tuple[str, ...]
) -> Point:
    """A fresh mock, one run, its stamps. The client is the only child that ends in between."""
    flags = ("--ttft-ms", str(TTFT_S * 1e3), "--itl-ms", str(ITL_S * 1e3), "--osl", str(OSL))
    with MockProcess(*flags, "--stamps", str(work / "stamps.json"), prefix=prefix) as mock:
        watch, before = CpuWatch({mock.pid}), _reaped_cpu_s()
        watch.start()
        seen = run(mock)
        watch.stop()
        whole = _reaped_cpu_s() - before
        rows = mock.stamps()
    # vllm bench sends one request as a test first: the timed ones are the last n.
    timed = sorted(rows, key=lambda row: row["read_ns"])[-requests_at(concurrency) :]
    working = whole - watch.before(timed[0]["read_ns"])
    return _point(client, concurrency, seen, timed, whole, working)


def _point(
    client: str, concurrency: int, seen: Seen, rows: Sequence[Mapping[str, Any]], whole_s: float, working_s: float
) -> Point:
    sent = {row["index"]: row for row in rows}
    ttft = [seen.ttft[i] - (sent[i]["chunk_ns"][0] - sent[i]["read_ns"]) / 1e9 for i in seen.ttft]
    arrival = [(at - sent[i]["chunk_ns"][0]) / 1e9 for i, at in seen.arrived_ns.items()]
    tpot = [(sent[i]["chunk_ns"][-1] - sent[i]["chunk_ns"][0]) / 1e9 / (OSL - 1) for i in seen.tpot]
    served = [(row["chunk_ns"][-1] - row["read_ns"]) / 1e9 for row in rows]
    us = 1e6 / (len(rows) * OSL)
    return Point(
        client=client,
        concurrency=concurrency,
        requests=len(rows),
        failed=seen.failed,
        ttft_p50_ms=_ms(list(seen.ttft.values()), 50),
        ttft_p99_ms=_ms(list(seen.ttft.values()), 99),
        ttft_error_p50_ms=_ms(ttft, 50),
        ttft_error_p99_ms=_ms(ttft, 99),
        arrival_error_p50_ms=_ms(arrival, 50),
        arrival_error_p99_ms=_ms(arrival, 99),
        tpot_error_p50_ms=_ms(list(seen.tpot.values()), 50) - _ms(tpot, 50),
        request_rate=seen.request_rate,
        ideal_rate=concurrency / (TTFT_S + (OSL - 1) * ITL_S),
        deliverable_rate=concurrency / float(np.mean(served)),
        cpu_us=working_s * us,
        cpu_whole_process_us=whole_s * us,
        cpu_run_us=seen.run_cpu_s * us,
        cpu_parse_us=seen.parse_cpu_s * us,
        loop_lag_p50_ms=seen.loop_lag_p50_ms,
        scheduler=seen.scheduler,
    )


def _ms(values: Sequence[float], percentile: float) -> float:
    return float(np.percentile(values, percentile)) * 1e3 if len(values) else NAN
