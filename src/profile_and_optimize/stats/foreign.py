"""What a run of a foreign client is worth: never valid on its own word, degraded with its measured error, else invalid.

A foreign client does not say how late its own loop ran, so nothing in its records tells a late client from a slow
server. Only a calibration of that client, on that machine, at that load, says how far it is off.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from profile_and_optimize.core.records import ClientRun
from profile_and_optimize.core.trial import Validity
from profile_and_optimize.stats.client_error import ClientError
from profile_and_optimize.stats.honesty import Honesty, assess
from profile_and_optimize.stats.summary import WHOLE, TrialSummary

OURS = "stream"
# The clients that tell nothing of themselves, so that a campaign with one is refused before it starts.
FOREIGN = ("vllm-bench", "aiperf", "guidellm")


def calibrate_command(client: str, concurrency: int) -> str:
    return f"pao calibrate --client {client} --concurrency {concurrency}"


def calibration_for(
    calibrations: Iterable[ClientError], client: str, version: str, concurrency: int
) -> ClientError | None:
    """The newest that fits."""
    fitting = [c for c in calibrations if c.fits(client, version, concurrency)]
    return max(fitting, key=lambda c: c.at_unix_s, default=None)


def assess_client(
    run: ClientRun, *, client: str, version: str, calibrations: Iterable[ClientError], requests_asked: int,
    server_tpot_mean_s: float | None = None,
) -> Honesty:  # fmt: skip
    """The honesty block of a run by whichever client: ours answers for itself, another by its calibration.

    Load that is missing beyond what the calibration found lost makes a run invalid all the same.
    """
    sampled = bool(run.probe.loop_lag_ns) or client == OURS
    if sampled:
        return assess(run, requests_asked=requests_asked, server_tpot_mean_s=server_tpot_mean_s)
    known = calibration_for(calibrations, client, version, run.concurrency)
    lost = known.lost if known else 0.0
    found = assess(run, requests_asked=requests_asked, server_tpot_mean_s=server_tpot_mean_s, known_lost=lost)
    if known is None:
        command = calibrate_command(client, run.concurrency)
        why = f"{client} {version} is not calibrated at concurrency {run.concurrency}: {command}"
        validity = Validity.INVALID
    else:
        why, validity = known.words(), max(found.validity, Validity.DEGRADED, key=_BADNESS.index)
    return replace(found, validity=validity, reasons=(why, *found.reasons), send_lag_p99_s=_send_lag(run, found))


_BADNESS = (Validity.VALID, Validity.DEGRADED, Validity.INVALID)


def _send_lag(run: ClientRun, found: Honesty) -> float | None:
    """Unknown for a client that does not say when it meant to send: its records intend what they did."""
    return found.send_lag_p99_s if any(r.intended_ns != r.sent_ns for r in run.records) else None


def as_told(run: ClientRun, summary: TrialSummary) -> TrialSummary:
    """The summary without what the client did not tell: with only the ends of a stream known there are no gaps, no
    tokens per chunk, and no rate of a window within the run."""
    if run.probe.chunks_known:
        return summary
    return replace(
        summary, dists={**summary.dists, "itl": None}, tokens_per_chunk=None, window=WHOLE, window_s=summary.wall_s,
        output_throughput=summary.whole_output_throughput, unknown={**summary.unknown, "itl": 0},
    )  # fmt: skip
