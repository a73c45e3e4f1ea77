"""Does our client tell the truth, and what does it cost? Beside it, in the same run, the clients of others.

    python bench/client_honesty.py --clients stream,vllm-bench,aiperf,guidellm   # tools of `pao tools install`

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
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from client_open_loop import OpenSection, open_checks, open_lines, open_section
from client_points import Point, measure
from profile_and_optimize.clients.base import Client, LoadRequest
from profile_and_optimize.clients.calibration import requests_at
from profile_and_optimize.clients.dialer import SLOW_VARIABLE
from profile_and_optimize.clients.stream import StreamClient
from profile_and_optimize.core.records import ClientRun
from profile_and_optimize.engines.mock.process import MockProcess
from profile_and_optimize.ops.worlds import make_client
from profile_and_optimize.stats.honesty import assess

RESULTS = Path(__file__).parent / "results"
LOADS = (1, 16, 64, 256)
RATES = (20.0, 200.0)
QUIET_SHARE = 0.05  # of the machine's CPU that others may use before a run


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    passed: bool
    found: str


def main() -> int:
    asked = _arguments()
    clients = [make_client(name) for name in asked.clients]
    busy = _others_cpu_share()
    conditions = {**_conditions(asked, clients), "others_cpu_share": busy}
    if busy > QUIET_SHARE and not asked.force:
        print(f"others use {busy:.0%} of the CPU: not a quiet machine (--force runs anyway)")
        return 2
    with tempfile.TemporaryDirectory() as work:
        points = _points(asked, clients, Path(work))
        section = _open_loop(asked, clients, Path(work))
        checks = [*_bars(points), *(Check(*c) for c in open_checks(section)), *_semantics(Path(work))]
    text = _render(conditions, points, section, checks)
    print(text)
    if not asked.no_save:
        _save(conditions, points, section, checks, text)
    return 0 if all(check.passed for check in checks) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--clients", type=_names, default=["stream"], help="with commas; stream is ours and always first"
    )
    parser.add_argument("--rounds", type=int, default=2, help="runs of each client at each load, in turn")
    parser.add_argument("--loads", type=int, nargs="+", default=LOADS, help="concurrencies")
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="requests a second of the open loop")
    parser.add_argument("--open-s", type=float, default=10.0, help="seconds of arrivals of each open-loop run")
    parser.add_argument("--peer-anywhere", action="store_true", help="let the peers use all cores, not ours only")
    parser.add_argument("--force", action="store_true", help="run although other processes use the CPU")
    parser.add_argument("--no-save", action="store_true", help="print only")
    return parser.parse_args()


def _names(text: str) -> list[str]:
    return list(dict.fromkeys(("stream", *(name.strip() for name in text.split(",")))))


def _conditions(asked: argparse.Namespace, clients: Sequence[Client]) -> dict[str, object]:
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_model(), "cores": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version(),
        "load_average": os.getloadavg(),
        "profile_and_optimize": version("profile-and-optimize"), "uvloop": version("uvloop"),
        **{client.name: client.version for client in clients if client.name != "stream"},
        "rounds": asked.rounds, "peers_on_all_cores": asked.peer_anywhere,
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


def _points(asked: argparse.Namespace, clients: Sequence[Client], work: Path) -> list[Point]:
    mock, rest = _rooms()
    points = []
    for concurrency in asked.loads:
        for turn in range(asked.rounds):
            for client in clients[:: 1 if turn % 2 == 0 else -1]:
                print(f"c={concurrency} round {turn + 1}/{asked.rounds}: {client.name}", file=sys.stderr, flush=True)
                cores = () if asked.peer_anywhere and client.name != "stream" else rest
                points.append(measure(client, concurrency, work, mock, cores))
    return points


def _rooms() -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The mock on the first core, the clients on the others: each in its own room, as on two machines."""
    every = tuple(sorted(os.sched_getaffinity(0)))
    return (every[:1], every[1:]) if len(every) > 1 else ((), ())


def _open_loop(asked: argparse.Namespace, clients: Sequence[Client], work: Path) -> OpenSection:
    mock, rest = _rooms()
    return open_section(clients, work, mock, rest, rates=asked.rates, seconds=asked.open_s, rounds=asked.rounds)


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
    mine = _median(points, "stream", 256, "cpu_us")
    for name in sorted({p.client for p in points} - {"stream"}):
        peer = _median(points, name, 256, "cpu_us")
        if np.isfinite(peer):
            found = f"{mine:.1f} against {peer:.1f} us"
            checks.append(Check(f"CPU per output token below that of {name}", mine < peer, found))
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
    ("TPOT error p50", "tpot_error_p50_ms", "+.4f"), ("E2E error p50", "e2e_error_p50_ms", "+.3f"),
    ("req/s", "request_rate", ".1f"), ("deliverable", "deliverable_rate", ".1f"),
    ("ideal", "ideal_rate", ".1f"), ("lost", "lost", ".2%"), ("CPU us/token", "cpu_us", ".1f"), ("run", "cpu_run_us", ".1f"),
    ("parse", "cpu_parse_us", ".1f"), ("whole process", "cpu_whole_process_us", ".1f"),
)  # fmt: skip
NOTES = """\
Times in ms, medians over rounds. Error: reported TTFT minus (actual first send - actual read of the request), so it
holds the request's way in too. Arrival: first token's time stamp minus its actual send. Lost: of what the mock could
deliver, c / mean served time. CPU: user + system from the first request to the process's end, parsing and
summaries included; whole process adds imports and start-up. "-" is unknown: a client that keeps its times on the wall
clock only has no arrival error.
"""


def _render(
    conditions: dict[str, object], points: Sequence[Point], section: OpenSection, checks: Sequence[Check]
) -> str:
    lines = ["# Client honesty", "", *(f"- {name}: {value}" for name, value in conditions.items()), ""]
    lines += [
        "| client | c | n | " + " | ".join(name for name, _, _ in COLUMNS) + " |",
        "|---" * (len(COLUMNS) + 3) + "|",
    ]
    for concurrency in sorted({p.concurrency for p in points}):
        for client in sorted({p.client for p in points}):
            cells = [_cell(_median(points, client, concurrency, what), shape) for _, what, shape in COLUMNS]
            lines.append(f"| {client} | {concurrency} | {requests_at(concurrency)} | " + " | ".join(cells) + " |")
    lines += [
        "",
        NOTES,
        *open_lines(section),
        *(f"- {'PASS' if c.passed else 'FAIL'} {c.name}: {c.found}" for c in checks),
    ]
    return "\n".join(lines) + "\n"


def _cell(value: float, shape: str) -> str:
    return format(value, shape) if np.isfinite(value) else "-"


def _save(
    conditions: dict[str, object], points: Sequence[Point], section: OpenSection, checks: Sequence[Check], text: str
) -> None:
    RESULTS.mkdir(exist_ok=True)
    stem = RESULTS / f"client_honesty-{datetime.date.today().isoformat()}"
    rows = {
        "conditions": conditions,
        "points": [dataclasses.asdict(p) for p in points],
        **section.rows(),
        "checks": [dataclasses.asdict(c) for c in checks],
    }
    clean = json.loads(json.dumps(rows), parse_constant=lambda _: None)  # NaN is not JSON
    stem.with_suffix(".json").write_text(json.dumps(clean, indent=1) + "\n")
    stem.with_suffix(".md").write_text(text)


if __name__ == "__main__":
    sys.exit(main())
