"""Does our client tell the truth, and what does it cost? Beside it, in the same run, `vllm bench serve`.

    python bench/client_honesty.py --peer-python VLLM_VENV/bin/python --tokenizer DIR

The truth is the mock server's own record of when it really sent each chunk, so that its lateness is no client's
error. Clients take turns at each load. Prints PASS or FAIL per bar; exit 1 when one fails. Needs a quiet machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from client_points import Point, measure, ours, requests_at, vllm_bench
from profile_and_optimize.clients.base import LoadRequest
from profile_and_optimize.clients.dialer import SLOW_VARIABLE
from profile_and_optimize.clients.stream import StreamClient
from profile_and_optimize.core.records import ClientRun
from profile_and_optimize.engines.mock.process import MockProcess
from profile_and_optimize.stats.honesty import assess

RESULTS = Path(__file__).parent / "results"
LOADS = (1, 16, 64, 256)
QUIET_SHARE = 0.05  # of the machine's CPU that others may use before a run


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    passed: bool
    found: str


def main() -> int:
    asked = _arguments()
    busy = _others_cpu_share()
    conditions = {**_conditions(asked), "others_cpu_share": busy}
    if busy > QUIET_SHARE and not asked.force:
        print(f"others use {busy:.0%} of the CPU: not a quiet machine (--force runs anyway)")
        return 2
    with tempfile.TemporaryDirectory() as work:
        points = _points(asked, Path(work))
        checks = [*_bars(points), *_semantics(Path(work))]
    text = _render(conditions, points, checks)
    print(text)
    if not asked.no_save:
        _save(conditions, points, checks, text)
    return 0 if all(check.passed for check in checks) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", type=Path, help="python of an environment with vllm; without it, no peer")
    parser.add_argument("--tokenizer", type=Path, help="a tokenizer folder for the peer")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each client at each load, in turn")
    parser.add_argument("--loads", type=int, nargs="+", default=LOADS, help="concurrencies")
    parser.add_argument("--peer-anywhere", action="store_true", help="let the peer use all cores, not ours only")
    parser.add_argument("--force", action="store_true", help="run although other processes use the CPU")
    parser.add_argument("--no-save", action="store_true", help="print only")
    asked = parser.parse_args()
    if asked.peer_python and not asked.tokenizer:
        parser.error("--peer-python needs --tokenizer")
    return asked


def _conditions(asked: argparse.Namespace) -> dict[str, object]:
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_model(), "cores": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version(),
        "load_average": os.getloadavg(),
        "profile_and_optimize": version("profile-and-optimize"), "uvloop": version("uvloop"),
        "vllm": _peer_version(asked.peer_python), "rounds": asked.rounds, "peer_on_all_cores": asked.peer_anywhere,
    }  # fmt: skip


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _others_cpu_share() -> float:
    """Busy share of all cores over one second in which we sleep."""
    before = _cpu_ticks()
    time.sleep(1.0)
    busy, total = (b - a for a, b in zip(before, _cpu_ticks(), strict=True))
    return busy / total


def _cpu_ticks() -> tuple[int, int]:
    fields = [int(x) for x in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(fields) - fields[3] - fields[4], sum(fields)


def _peer_version(python: Path | None) -> str | None:
    if python is None:
        return None
    code = "import importlib.metadata as m; print(m.version('vllm'))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60, check=True).stdout.strip()


def _points(asked: argparse.Namespace, work: Path) -> list[Point]:
    """The mock on the first core, the clients on the others: each in its own room, as on two machines."""
    cores = tuple(sorted(os.sched_getaffinity(0)))
    mock_prefix = ("taskset", "-c", str(cores[0])) if len(cores) > 1 else ()
    rest = cores[1:]
    peer_prefix = ("taskset", "-c", ",".join(map(str, rest))) if rest and not asked.peer_anywhere else ()
    points = []
    for concurrency in asked.loads:
        for turn in range(asked.rounds):
            runs = {"stream": lambda mock, c=concurrency: ours(mock, c, work, rest)}
            if asked.peer_python:
                runs["vllm bench"] = lambda mock, c=concurrency: vllm_bench(
                    mock, c, work, peer=asked.peer_python, tokenizer=asked.tokenizer, prefix=peer_prefix
                )
            for name in list(runs)[:: 1 if turn % 2 == 0 else -1]:
                print(f"c={concurrency} round {turn + 1}/{asked.rounds}: {name}", file=sys.stderr, flush=True)
                points.append(measure(name, runs[name], concurrency, work, mock_prefix))
    return points


def _median(points: Sequence[Point], client: str, concurrency: int, what: str) -> float:
    values = [getattr(p, what) for p in points if p.client == client and p.concurrency == concurrency]
    return float(np.median(values)) if values else float("nan")


def _bars(points: Sequence[Point]) -> list[Check]:
    """Design section 13. The median of the rounds is held against the bar."""
    bars = [
        (64, "ttft_error_p50_ms", 1.0, "TTFT p50 error", "ms"), (256, "ttft_error_p50_ms", 3.0, "TTFT p50 error", "ms"),
        (256, "lost", 0.03, "requests/s lost", ""), (256, "cpu_us", 15.0, "CPU per output token", "us"),
    ]  # fmt: skip
    checks = []
    for concurrency, what, limit, name, unit in bars:
        found = _median(points, "stream", concurrency, what)
        checks.append(Check(f"{name} at c={concurrency} below {limit:g} {unit}", abs(found) < limit, f"{found:.3f}"))
    peer = _median(points, "vllm bench", 256, "cpu_us")
    if np.isfinite(peer):
        mine = _median(points, "stream", 256, "cpu_us")
        checks.append(Check("CPU per output token below the peer's", mine < peer, f"{mine:.1f} against {peer:.1f} us"))
    return checks


def _run(work: Path, *flags: str, osl: int = 64, n: int = 64, concurrency: int = 16) -> ClientRun:
    with MockProcess(*flags) as mock:
        load = LoadRequest(
            url=mock.url, model="mock", api="chat", prompts=tuple(f"prompt {i}" for i in range(n)), osl=osl,
            concurrency=concurrency, timeout_s=60.0,
        )  # fmt: skip
        return StreamClient().run(load, workdir=work)


def _semantics(work: Path) -> list[Check]:
    return [_role_chunk(work), _four_a_chunk(work), _every_fifth(work), _slowed(work)]


def _role_chunk(work: Path) -> Check:
    run = _run(work, "--role-chunk", "zero")
    ttft = float(np.median([r.chunk_ns[0] - r.sent_ns for r in run.records])) / 1e6
    first_byte = float(np.median([(r.first_byte_ns or 0) - r.sent_ns for r in run.records])) / 1e6
    found = f"TTFT {ttft:.1f} ms, first byte {first_byte:.1f} ms"
    return Check("a role chunk at t=0 is no first token (TTFT 50 ms)", 49.5 < ttft < 53 and first_byte < 25, found)


def _four_a_chunk(work: Path) -> Check:
    run = _run(work, "--tokens-per-chunk", "4")
    per_token = [(r.chunk_ns[-1] - r.chunk_ns[0]) / ((r.completion_tokens or 0) - 1) for r in run.records]
    tpot = float(np.median(per_token)) / 1e6
    gaps = np.concatenate([np.diff(r.chunk_ns) for r in run.records])
    # The mean, because the mock's timer tick moves single chunks by up to 1 ms around their absolute deadlines.
    itl, right = float(np.mean(gaps)) / 1e6, 150 / 63
    told = f"TPOT {tpot:.3f} ms, ITL {itl:.2f} ms"
    return Check(
        "four tokens a chunk: TPOT 150/63 = 2.381 ms, ITL 10 ms", abs(tpot - right) < 0.02 and abs(itl - 10) < 0.2, told
    )


def _every_fifth(work: Path) -> Check:
    run = _run(work, "--error-every", "5", osl=8, n=100)
    failed = sum(not r.ok for r in run.records)
    return Check(
        "every fifth request an error: 20% failed", failed == 20 and len(run.records) == 100, f"{failed} of 100"
    )


def _slowed(work: Path) -> Check:
    """Blocks the client's loop on purpose; an honest client says of itself that this run is not valid."""
    os.environ[SLOW_VARIABLE] = "20"
    try:
        run = _run(work, n=48)
    finally:
        del os.environ[SLOW_VARIABLE]
    honesty = assess(run, requests_asked=48)
    return Check("a client slowed on purpose is invalid", honesty.validity == "invalid", "; ".join(honesty.reasons))


COLUMNS = (
    ("TTFT p50", "ttft_p50_ms", ".2f"), ("error p50", "ttft_error_p50_ms", "+.3f"), ("error p99", "ttft_error_p99_ms", "+.3f"),
    ("arrival p50", "arrival_error_p50_ms", "+.3f"), ("arrival p99", "arrival_error_p99_ms", "+.3f"),
    ("TPOT error p50", "tpot_error_p50_ms", "+.4f"), ("req/s", "request_rate", ".1f"), ("deliverable", "deliverable_rate", ".1f"),
    ("ideal", "ideal_rate", ".1f"), ("lost", "lost", ".2%"), ("CPU us/token", "cpu_us", ".1f"), ("run", "cpu_run_us", ".1f"),
    ("parse", "cpu_parse_us", ".1f"), ("whole process", "cpu_whole_process_us", ".1f"),
)  # fmt: skip
NOTES = """\
Times in ms, medians over rounds. Error: reported TTFT minus (actual first send - actual read of the request), so it
holds the request's way in too. Arrival: first token's time stamp minus its actual send. Lost: of what the mock could
deliver, c / mean served time. CPU: user + system from the first timed request to the process's end, parsing and
summaries included; whole process adds imports and start-up.
"""


def _render(conditions: dict[str, object], points: Sequence[Point], checks: Sequence[Check]) -> str:
    lines = ["# Client honesty", "", *(f"- {name}: {value}" for name, value in conditions.items()), ""]
    lines += [
        "| client | c | n | " + " | ".join(name for name, _, _ in COLUMNS) + " |",
        "|---" * (len(COLUMNS) + 3) + "|",
    ]
    for concurrency in sorted({p.concurrency for p in points}):
        for client in sorted({p.client for p in points}):
            cells = [_cell(_median(points, client, concurrency, what), shape) for _, what, shape in COLUMNS]
            lines.append(f"| {client} | {concurrency} | {requests_at(concurrency)} | " + " | ".join(cells) + " |")
    lines += ["", NOTES, *(f"- {'PASS' if c.passed else 'FAIL'} {c.name}: {c.found}" for c in checks)]
    return "\n".join(lines) + "\n"


def _cell(value: float, shape: str) -> str:
    return format(value, shape) if np.isfinite(value) else "-"


def _save(conditions: dict[str, object], points: Sequence[Point], checks: Sequence[Check], text: str) -> None:
    RESULTS.mkdir(exist_ok=True)
    stem = RESULTS / f"client_honesty-{datetime.date.today().isoformat()}"
    rows = {
        "conditions": conditions,
        "points": [{**dataclasses.asdict(p), "lost": p.lost} for p in points],
        "checks": [dataclasses.asdict(c) for c in checks],
    }
    clean = json.loads(json.dumps(rows), parse_constant=lambda _: None)  # NaN is not JSON
    stem.with_suffix(".json").write_text(json.dumps(clean, indent=1) + "\n")
    stem.with_suffix(".md").write_text(text)


if __name__ == "__main__":
    sys.exit(main())
