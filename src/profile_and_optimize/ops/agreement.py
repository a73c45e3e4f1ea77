"""A client against a real endpoint: there is no truth to hold it against, only whether it agrees with the server's own counters."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from profile_and_optimize.clients.base import Client
from profile_and_optimize.clients.calibration import Shape, load_for
from profile_and_optimize.core.records import ClientRun
from profile_and_optimize.engines.endpoint import served_model
from profile_and_optimize.engines.prometheus import mean_of, scrape, server_tpot
from profile_and_optimize.ops.base import Result, Say
from profile_and_optimize.ops.worlds import auth_headers
from profile_and_optimize.stats.summary import summarize

TTFT_HISTOGRAMS = ("vllm:time_to_first_token_seconds", "sglang:time_to_first_token_seconds")
E2E_HISTOGRAMS = ("vllm:e2e_request_latency_seconds", "sglang:e2e_request_latency_seconds")


def agree(client: Client, url: str, shape: Shape, loads: list[int], say: Say) -> Result:
    """Means of the client beside those of the server over the same run. Nothing is stored: this is no calibration."""
    model = served_model(url, auth_headers())
    points = []
    for concurrency in loads:
        say(f"concurrency {concurrency}: {model} at {url}")
        points.append(_point(client, url, model, shape, concurrency))
    data = {
        "client": client.name,
        "version": client.version,
        "url": url,
        "truth": "unknown",
        "points": points,
        "stored": [],
    }
    lines = ["no mock answers there, so the error is UNKNOWN; agreement with the server's own counters, means in ms:"]
    lines += [_line(p) for p in points]
    return Result(data, "\n".join(lines), ("an endpoint's own counters are not the truth: nothing is stored",))


def _point(client: Client, url: str, model: str, shape: Shape, concurrency: int) -> dict[str, Any]:
    load = load_for(url, shape, concurrency, model=model, headers=auth_headers())
    before = scrape(url, auth_headers())
    with tempfile.TemporaryDirectory(prefix="pao-calibrate-") as scratch:
        run = client.run(load, workdir=Path(scratch))
    counted = scrape(url, auth_headers()).since(before)
    server = {
        "ttft": next((v for name in TTFT_HISTOGRAMS if (v := mean_of(counted, name)) is not None), None),
        "tpot": server_tpot(counted),
        "e2e_latency": next((v for name in E2E_HISTOGRAMS if (v := mean_of(counted, name)) is not None), None),
    }
    ours = _means(run)
    times = {f"{name}_ms": _beside(ours[name], server[name]) for name in server}
    return {"concurrency": concurrency, "failed": sum(not r.ok for r in run.records), **times}


def _beside(ours: float | None, server: float | None) -> dict[str, float | None]:
    return {"client_mean": _ms(ours), "server_mean": _ms(server), "difference": _ms(_minus(ours, server))}


def _means(run: ClientRun) -> dict[str, float | None]:
    dists = summarize(run.records, asked=len(run.records), concurrency=run.concurrency, drop=0).dists
    return {name: dist.mean if dist else None for name, dist in dists.items()}


def _minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3


def _line(point: dict[str, Any]) -> str:
    told = []
    for name in ("ttft", "tpot", "e2e_latency"):
        p = point[f"{name}_ms"]
        told.append(f"{name} {_num(p['client_mean'])} against {_num(p['server_mean'])}")
    return f"concurrency {point['concurrency']}: {'; '.join(told)}; {point['failed']} failed"


def _num(value: float | None) -> str:
    return "UNKNOWN" if value is None else f"{value:.2f}"
