"""Asks a server the questions of lm-eval's tasks: `python -m pao_eval evaluate JOB.json`, by the Python that has lm-eval.

lm-eval gives the tasks: data, prompts, extraction, metrics (tasks.py, scoring.py). The asking is done here (asking.py), because
its own endpoint models follow redirects, send one seed with every sample, and lose a whole run to one failed request.

Writes per entry of the job `OUT/NUMBER.json`, {"name", "tasks": [...]} or {"name", "failed": {"code", "message", "next"}}, and
`OUT/asked.json`, what was sent with every question; each whole or not there. A line `PAO {...}` on stdout is progress; all
other output is a log.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
from pathlib import Path
from typing import Any

from .identity import worker_sha256
from .job import Entry, Job, read_job
from .told import Refused, tell

LOOK_S = 4.0
USAGE = "usage: python -m pao_eval evaluate JOB.json"


def main(argv: list[str]) -> int:
    if len(argv) != 2 or argv[0] not in STEPS:
        print(USAGE, file=sys.stderr)
        return 2
    try:
        job = read_job(argv[1])
    except (OSError, ValueError, KeyError, TypeError) as e:
        print(f"{argv[1]}: not a job: {type(e).__name__}: {e}", file=sys.stderr)
        return 2
    if job.worker_sha256 != (own := worker_sha256()):
        print(f"{argv[1]}: written for the worker {job.worker_sha256[:12]}, this is {own[:12]}", file=sys.stderr)
        return 2
    return STEPS[argv[0]](job)


def evaluate(job: Job) -> int:
    """Every entry asked, one after the other; what one cannot give does not keep the others from being asked."""
    if not all(entry.is_local for entry in job.tasks) and not hub_answers(*job.hub):
        os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}  # what is kept from the hub still reads
    from .asking import Pinning  # after the settings above: the hub's library reads them once
    from .scoring import rows_of
    from .wire import Wire

    stay_with(job.host, job.addresses)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    pinning = Pinning(job, Wire(job))
    for number, entry in enumerate(job.tasks):
        tell(stage=entry.name, says="reading the task")
        try:
            told: dict[str, Any] = {"name": entry.name, "tasks": rows_of(job, entry, pinning)}
        except Refused as e:
            told = {"name": entry.name, "failed": {"code": e.code, "message": str(e), "next": e.then}}
        except Exception as e:  # whatever a task's own code does
            told = {"name": entry.name, "failed": explained(entry, e)}
        if pinning.found is not None:
            write(Path(job.out) / "asked.json", pinning.found.to_json())
        write(Path(job.out) / f"{number}.json", told)
    return 0


STEPS = {"evaluate": evaluate}


def stay_with(name: str, addresses: tuple[str, ...]) -> None:
    """The server's name stands for the addresses that were judged, however often it is looked up: a second look-up could
    give another answer."""
    found = socket.getaddrinfo

    def judged(host: Any, port: Any, *args: Any, **more: Any) -> Any:
        if host != name or not addresses:
            return found(host, port, *args, **more)
        return [entry for address in addresses for entry in found(address, port, *args, **more)]

    socket.getaddrinfo = judged


def write(path: Path, value: Any) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, ensure_ascii=True, default=str))
    os.replace(part, path)


def hub_answers(host: str, port: int) -> bool:
    """Is there anybody at the hub's address? Its library would try for half a minute a task."""
    if any(os.environ.get(name) for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")):
        return True
    try:
        socket.create_connection((host, port), LOOK_S).close()
    except OSError:
        return False
    return True


def explained(entry: Entry, e: Exception) -> dict[str, str]:
    """A failed task in words: its data cannot be had, it needs a package, or its own code failed."""
    kind, text = type(e).__name__, " ".join(str(e).split())[:300]
    gated = any(word in text.lower() for word in ("gated", "authenticated", "401", "403"))
    away = kind in (
        "ConnectionError",
        "OfflineModeIsEnabled",
        "DatasetNotFoundError",
        "LocalEntryNotFoundError",
        "HfHubHTTPError",
    )
    if (away or "Hub" in text) and not entry.splits:
        what = "needs an account at the hub" if gated else "cannot be reached from here"
        then = f"--data {entry.name}=FILE.jsonl, a local copy with the same fields" + (
            ", or set HF_TOKEN" if gated else ""
        )
        return {"code": "data", "message": f"its data {what}: {text}", "next": then}
    if isinstance(e, ModuleNotFoundError):
        then = f"install {e.name} into an environment of yours with lm_eval[api], and give its Python as --python"
        return {"code": "needs", "message": f"it needs the package {e.name}", "next": then}
    then = f"compare the fields of its data: {kind} {text}" if entry.splits else "read the log of the run"
    return {"code": "task", "message": f"{kind}: {text}", "next": then}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
