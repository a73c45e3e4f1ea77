"""Was the client itself in time? The honesty block of a run, and valid | degraded | invalid with reasons.

Thresholds: a 10 ms sleep probe read p50 0.07 ms on a good run at concurrency 256 and 12.7 ms on one whose
client was saturated, so 1 ms separates them; a p99 above 10% of TPOT blurs single tokens without moving medians.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from profile_and_optimize.core.records import ClientRun
from profile_and_optimize.core.trial import Validity
from profile_and_optimize.stats.columns import MISSING, Records
from profile_and_optimize.stats.open_load import OpenLoad, open_load
from profile_and_optimize.stats.summary import NS, delivered_concurrency, quantiles

LAG_P50_INVALID_S = 1e-3
LAG_P99_DEGRADED_S = 2e-3
LAG_P99_DEGRADED_OF_TPOT = 0.10
SEND_LAG_P50_INVALID_S = 1e-3
DELIVERED_INVALID = 0.98
COALESCED_DEGRADED = 0.10
RUN_QUEUE_DEGRADED = 0.10
LITTLE_DEGRADED = 0.02
SERVER_TPOT_FIFO = 0.02
SERVER_TPOT_OTHER = 0.05


@dataclass(frozen=True, slots=True)
class Honesty:
    """Seconds and shares; None is unknown. `server_tpot_ratio` is client mean TPOT over the server's own histogram mean.

    `delivered_of_requested` is about concurrency in a closed loop, about the rate in an open one. Its `open_load` also
    says whether the server kept up, which is no fault of the client's and no reason here.
    """

    validity: Validity
    reasons: tuple[str, ...]
    loop_lag_p50_s: float | None
    loop_lag_p99_s: float | None
    send_lag_p99_s: float | None
    delivered_of_requested: float | None
    coalesced_share: float | None
    run_queue_share: float | None
    little_residual: float | None
    client_cpu_share: float | None
    cpu_us_per_token: float | None
    server_tpot_ratio: float | None
    scheduler: str
    open_load: OpenLoad | None = None

    def to_json(self) -> dict[str, Any]:
        ms = {
            "loop_lag_p50_ms": self.loop_lag_p50_s, "loop_lag_p99_ms": self.loop_lag_p99_s, "send_lag_p99_ms": self.send_lag_p99_s,
        }  # fmt: skip
        plain = (
            "delivered_of_requested", "coalesced_share", "run_queue_share", "little_residual", "client_cpu_share",
            "cpu_us_per_token", "server_tpot_ratio", "scheduler",
        )  # fmt: skip
        return {
            "validity": self.validity.value,
            "reasons": list(self.reasons),
            **{k: None if v is None else v * 1e3 for k, v in ms.items()},
            **{k: getattr(self, k) for k in plain},
            **({"open_loop": self.open_load.to_json()} if self.open_load else {}),
        }


def unknown_honesty(reason: str, scheduler: str) -> Honesty:
    """Of a run that cannot be judged: invalid."""
    return Honesty(
        validity=Validity.INVALID, reasons=(reason,), loop_lag_p50_s=None, loop_lag_p99_s=None, send_lag_p99_s=None,
        delivered_of_requested=None, coalesced_share=None, run_queue_share=None, little_residual=None, client_cpu_share=None,
        cpu_us_per_token=None, server_tpot_ratio=None, scheduler=scheduler,
    )  # fmt: skip


def assess(
    run: ClientRun, *, requests_asked: int, server_tpot_mean_s: float | None = None, known_lost: float | None = None
) -> Honesty:
    """The honesty block of one run. `server_tpot_mean_s` is the engine's own mean time per output token.

    `known_lost`: the client cannot be asked for its own lag, and this is the share of the load that it is known to lose
    (`stats.foreign`); so much less may be delivered. None: a client that answers for itself.
    """
    rows = Records.of(run.records)
    run, each = replace(run, records=rows), rows.tpots
    known = each[~np.isnan(each)]
    tpot_p50 = float(np.median(known)) if len(known) else None
    lag50, lag99 = _quantiles(run.probe.loop_lag_ns)
    load = open_load(run)
    measures: dict[str, Any] = {
        "loop_lag_p50_s": lag50,
        "loop_lag_p99_s": lag99,
        "send_lag_p99_s": _send_lag(rows),
        "delivered_of_requested": load.delivered_of_requested if load else _delivered_slots(run, requests_asked),
        "coalesced_share": _share(run.probe.coalesced_reads, run.probe.reads),
        "run_queue_share": _share(run.probe.run_queue_wait_s, run.probe.wall_s),
        "little_residual": _little(run, rows),
        "server_tpot_ratio": float(np.mean(known)) / server_tpot_mean_s if len(known) and server_tpot_mean_s else None,
    }
    invalid = _invalid(measures, load, recorded=len(run.records), asked=requests_asked, known_lost=known_lost)
    degraded = _degraded(measures, load, tpot_p50, run.probe.scheduler)
    validity = Validity.INVALID if invalid else Validity.DEGRADED if degraded else Validity.VALID
    return Honesty(
        validity=validity, reasons=tuple(invalid + degraded), scheduler=run.probe.scheduler,
        client_cpu_share=_share(run.probe.cpu_s, run.probe.wall_s),
        cpu_us_per_token=_cpu_per_token(run, rows), open_load=load, **measures,
    )  # fmt: skip


def _invalid(
    m: dict[str, Any], load: OpenLoad | None, *, recorded: int, asked: int, known_lost: float | None
) -> list[str]:
    found = []
    least = DELIVERED_INVALID - max(0.0, known_lost or 0.0)
    if recorded != asked:
        found.append(f"{recorded} records for {asked} requests")
    if m["loop_lag_p50_s"] is None:
        found += ["the client's own lag was not sampled"] if known_lost is None else []
    elif m["loop_lag_p50_s"] > LAG_P50_INVALID_S:
        found.append(f"client event loop was {m['loop_lag_p50_s'] * 1e3:.1f} ms late at the median (limit 1 ms)")
    if m["delivered_of_requested"] is not None and m["delivered_of_requested"] < least:
        of = "rate" if load else "concurrency"
        found.append(f"delivered {m['delivered_of_requested']:.1%} of the requested {of} (limit {least:.0%})")
    if load and load.send_lag_p50_s is not None and load.send_lag_p50_s > SEND_LAG_P50_INVALID_S:
        found.append(f"requests left {load.send_lag_p50_s * 1e3:.1f} ms late at the median (limit 1 ms){_why(load)}")
    return found


def _why(load: OpenLoad) -> str:
    return f"; {load.waited} found no idle connection" if load.waited else ""


def _degraded(m: dict[str, Any], load: OpenLoad | None, tpot_p50: float | None, scheduler: str) -> list[str]:
    found = []
    limit = max(LAG_P99_DEGRADED_S, LAG_P99_DEGRADED_OF_TPOT * (tpot_p50 or 0.0))
    if m["loop_lag_p99_s"] is not None and m["loop_lag_p99_s"] > limit:
        found.append(f"client event loop p99 lag {m['loop_lag_p99_s'] * 1e3:.1f} ms (limit {limit * 1e3:.1f} ms)")
    if load and load.send_lag_p99_s is not None and load.send_lag_p99_s > limit:
        found.append(
            f"requests left {load.send_lag_p99_s * 1e3:.1f} ms late at the p99 (limit {limit * 1e3:.1f} ms){_why(load)}"
        )
    if m["coalesced_share"] is not None and m["coalesced_share"] > COALESCED_DEGRADED:
        found.append(f"{m['coalesced_share']:.0%} of reads carried more than one chunk (limit 10%)")
    if m["run_queue_share"] is not None and m["run_queue_share"] > RUN_QUEUE_DEGRADED:
        found.append(f"client waited for a core {m['run_queue_share']:.0%} of the time (limit 10%)")
    if m["little_residual"] is not None and m["little_residual"] > LITTLE_DEGRADED:
        found.append(f"Little's law residual {m['little_residual']:.1%} (limit 2%)")
    limit = SERVER_TPOT_FIFO if scheduler == "fifo" else SERVER_TPOT_OTHER
    if m["server_tpot_ratio"] is not None and abs(m["server_tpot_ratio"] - 1) > limit:
        found.append(
            f"client mean TPOT is {m['server_tpot_ratio']:.3f} of the server's histogram (limit 1 +- {limit:.0%})"
        )
    return found


def _quantiles(lags_ns: tuple[int, ...]) -> tuple[float | None, float | None]:
    if not lags_ns:
        return None, None
    p50, p99 = quantiles(np.array(lags_ns), (0.5, 0.99))
    return p50 * NS, p99 * NS


def _delivered_slots(run: ClientRun, requests_asked: int) -> float | None:
    delivered = delivered_concurrency(run.records)
    return None if delivered is None else delivered / min(run.concurrency, requests_asked)


def _send_lag(rows: Records) -> float:
    return quantiles(rows.sent_ns - rows.intended_ns, (0.99,))[0] * NS if len(rows) else 0.0


def _share(part: float | None, whole: float | None) -> float | None:
    return None if part is None or whole is None or whole <= 0 else part / whole


def _little(run: ClientRun, rows: Records) -> float | None:
    """|in-flight integral seen by the client - sum of latencies| / sum: two independent counts of the same area."""
    area = int((rows.done_ns - rows.sent_ns).sum()) * NS
    seen = run.probe.in_flight_s
    return None if seen is None or area <= 0 else abs(seen - area) / area


def _cpu_per_token(run: ClientRun, rows: Records) -> float | None:
    told = rows.counts.output[rows.counts.output != MISSING]
    tokens, cpu, parse = int(told.sum()), run.probe.cpu_s, run.probe.parse_cpu_s
    return None if cpu is None or parse is None or not tokens else (cpu + parse) / tokens * 1e6
