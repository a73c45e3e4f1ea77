"""What `bench` prints: a table a person reads; unknown stays unknown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from profile_and_optimize.core.metrics import DISTRIBUTIONS, Metric
from profile_and_optimize.core.records import ClientRun
from profile_and_optimize.stats.honesty import Honesty
from profile_and_optimize.stats.open_load import OpenLoad
from profile_and_optimize.stats.summary import OUTPUT, PROMPT, Dist, TrialSummary

FROM_SEND = ("ttft", "e2e_latency")  # what differs when an open loop is looked at as a closed one would


def text_of(data: dict[str, Any], summary: TrialSummary, honesty: Honesty, from_send: TrialSummary | None) -> str:
    """`from_send` is the same run's summary with latencies from the moment of sending; None for a closed loop."""
    lines = [f"{'':20}{'p50':>10}{'p90':>10}{'p99':>10}{'mean':>10}{'n':>8}"]
    lines += [_row(m.printed, m, summary.dists[m.name]) for m in DISTRIBUTIONS]
    if from_send is not None:
        lines += [
            _row(f"  {m.name} from send", m, from_send.dists[m.name]) for m in DISTRIBUTIONS if m.name in FROM_SEND
        ]
    isl, osl = (num(x, ".1f") for x in (summary.isl_observed, summary.osl_observed))
    rates = f"{num(summary.request_throughput)} req/s, {num(summary.output_throughput)} tok/s"
    lines += [
        f"requests        {summary.completed} completed, {summary.failed} failed of {summary.asked}",
        *(f"failed          {n} x {error}" for error, n in most_first(summary.errors)),
        f"throughput      {rates} ({summary.window} window)",
        f"lengths         isl asked {_asked(data, 'isl')} observed {isl}; osl asked {_asked(data, 'osl')} observed {osl}",
        *unknown_lines(summary),
        *(_open_lines(honesty.open_load, data) if honesty.open_load else ()),
        f"client          {honesty.validity.value}" + (f": {'; '.join(honesty.reasons)}" if honesty.reasons else ""),
    ]
    return "\n".join(lines)


def most_first(errors: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    return sorted(errors, key=lambda e: (-e[1], e[0]))


def unknown_lines(summary: TrialSummary) -> list[str]:
    """A mean over those with a value says how many have none; nothing where all have one, or where there is no mean."""
    places = [("prompt tokens", PROMPT, summary.completed), ("output tokens", OUTPUT, summary.completed)]
    places += [(m.printed, m.name, summary.kept) for m in DISTRIBUTIONS]
    found = [(name, summary.unknown.get(key, 0), of) for name, key, of in places]
    told = ", ".join(f"{name} of {n} of {of}" for name, n, of in found if n)
    lines = [f"unknown         {told} answers; means are over the others"] if told else []
    return lines + [f"tokens unknown  {n} x {why}" for why, n in most_first(summary.unknown_why)]


def length_warnings(summary: TrialSummary, run: ClientRun) -> tuple[str, ...]:
    """Output lengths that are not what was asked, or that nobody knows."""
    found = []
    if summary.unknown_why:
        n = sum(n for _, n in summary.unknown_why)
        why = "; ".join(words for words, _ in most_first(summary.unknown_why))
        rest = "output tok/s is unknown, and so is TPOT of these"
        found.append(f"output tokens unknown of {n} of {summary.completed} answers ({why}): {rest}")
    if run.ignore_eos and summary.short:
        said = f"{summary.short} of {summary.completed} answers have fewer output tokens than asked"
        found.append(f"{said} (mean {num(summary.osl_observed, '.1f')}): the server did not follow ignore_eos")
    return tuple(found)


def _row(name: str, m: Metric, d: Dist | None) -> str:
    cells = (
        [f"{getattr(d, q) * m.scale:10.2f}" for q in ("p50", "p90", "p99", "mean")] if d else [f"{'unknown':>10}"] * 4
    )
    return f"{name:20}{''.join(cells)}{d.n if d else 0:8d}"


def _open_lines(load: OpenLoad, data: dict[str, Any]) -> list[str]:
    lag50, lag99 = (num(None if s is None else s * 1e3) for s in (load.send_lag_p50_s, load.send_lag_p99_s))
    waited = f", {load.waited} found no idle connection" if load.waited else ""
    return [
        "latency         counts from the time a request was meant to be sent; `from send` is what is left of it when the",
        "                client's own lateness is taken out, as a closed loop would show it",
        f"load            {data['load']}",
        f"requested       {_rates(load)}; most in flight {load.max_in_flight}",
        f"send lag        p50 {lag50} ms, p99 {lag99} ms{waited}",
        f"server          {server_words(load)}",
        f"cache           {data['cache_mode']}",
    ]


def _rates(load: OpenLoad) -> str:
    # Only sessions move intended times.
    shifted = load.intended_rate is not None and abs(load.intended_rate / load.requested_rate - 1) > 1e-3
    meant = f", intended {num(load.intended_rate, '.3f')} after sessions waited" if shifted else ""
    return f"{load.requested_rate:.3f} req/s{meant}, delivered {num(load.delivered_rate, '.3f')} req/s"


def server_words(load: OpenLoad) -> str:
    """Did it keep up?"""
    if load.backlog is None:
        return "unknown whether it kept up: fewer than 20 requests"
    told = {
        True: "SATURATED: it fell behind", False: "kept up", None: "unknown whether it kept up: too short a run to tell",
    }  # fmt: skip
    return f"{told[load.saturated]} ({load.backlog.words()})"


def _asked(data: dict[str, Any], which: str) -> str:
    value = data[f"{which}_asked"]
    return f"{value:g}" if value is not None else "varied" if "workload" in data else "as in the trace"


def num(value: float | None, shape: str = ".2f") -> str:
    return "unknown" if value is None else format(value, shape)
