"""The calibration of a campaign's client as evidence of the run: written at admission, read whenever a trial is judged."""

from __future__ import annotations

from pathlib import Path

from profile_and_optimize.campaign import PRODUCER
from profile_and_optimize.campaign.world import World
from profile_and_optimize.core.errors import Corrupted, GateRefused, WrongUse
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.evidence.folder import RunFolder, read_json
from profile_and_optimize.stats.client_error import ClientError, client_error_from_json
from profile_and_optimize.stats.foreign import FOREIGN, calibrate_command, calibration_for

FILE = "client_calibration.json"


def keep(folder: RunFolder, plan: Plan, world: World) -> None:
    """Put what this machine knows of the client into the run, before any server starts.

    Raises GateRefused for a foreign client that was not calibrated at a load of the plan: all its trials would be invalid.
    Raises WrongUse when the world's client is not the plan's.
    """
    if (folder.path / FILE).exists():
        return
    client, loads = world.client, sorted({p.concurrency for p in plan.points})
    foreign = plan.client in FOREIGN
    if foreign and client.name != plan.client:
        raise WrongUse(f"the plan asks for the client {plan.client}, this is {client.name}", where=str(folder.path))
    if foreign and any(p.request_rate is not None for p in plan.points):
        raise WrongUse(
            f"{plan.client} is driven in a closed loop only", where=str(folder.path), next="leave out client:"
        )
    found = {c: calibration_for(world.client_errors, client.name, client.version, c) for c in loads}
    missing = [c for c, known in found.items() if known is None]
    if missing and foreign:
        raise GateRefused(
            f"{client.name} {client.version} is not calibrated on this machine at concurrency {', '.join(map(str, missing))}",
            where=str(folder.path), next=calibrate_command(client.name, missing[0]),
        )  # fmt: skip
    points = [known.to_json() for known in found.values() if known is not None]
    if points:
        folder.write_json(FILE, {"schema": 1, "points": points}, producer=PRODUCER)


def read(run: Path) -> tuple[ClientError, ...]:
    """Those of a run; none where nothing is known of its client. Raises Corrupted naming the file."""
    path = run / FILE
    if not path.exists():
        return ()
    try:
        return tuple(client_error_from_json(point) for point in read_json(path)["points"])
    except (KeyError, TypeError, ValueError) as e:
        raise Corrupted(f"not a client calibration: {e}", where=str(path), next=f"pao verify {run}") from e
