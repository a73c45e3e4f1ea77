"""`python -m pao_ptq STEP JOB.json`, also as `python FOLDER/pao_ptq STEP JOB.json` where the folder is not on the path.

A failure is the last line of stderr, `PAO-ERROR {json}`, with exit status 2 (wrong use), 3 (broke midway) or 1 (refused);
STATE.json in the job's folder holds the same.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import sys
import traceback
from pathlib import Path

if not __package__:  # started by the folder's path, which must not be searched for modules: its files have plain names
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    __package__ = "pao_ptq"

from .folder import mark, state_of
from .job import Asked, read_asked, read_job
from .stop import EXIT, Stop

STEPS = ("calibrate", "quantize", "roundtrip", "guard")


def main(arguments: list[str]) -> int:
    step = ""
    job: Asked | None = None
    try:
        step, job = asked(arguments)
        importlib.import_module(f".{step}", __package__).run(job)
        with contextlib.suppress(FileNotFoundError):  # the last step has put the folder away
            mark(job.partial, step, done=True)
        return 0
    except Exception as error:
        if not isinstance(error, Stop) or error.__cause__ is not None:
            traceback.print_exception(error.__cause__ or error)
        fault = error if isinstance(error, Stop) else broken(error, job)
    if job is not None and state_of(job.partial).get("job_digest") == job.job_digest:
        with contextlib.suppress(OSError):  # a full disk: the line below still says so
            mark(job.partial, step, failed=fault.line())
    print("PAO-ERROR " + json.dumps(fault.line()), file=sys.stderr, flush=True)
    return EXIT[fault.code]


def asked(arguments: list[str]) -> tuple[str, Asked]:
    if len(arguments) != 2 or arguments[0] not in STEPS:
        told = f"two arguments: a step ({', '.join(STEPS)}) and JOB.json"
        raise Stop("wrong_use", told, where=" ".join(arguments), next="python -m pao_ptq calibrate JOB.json")
    read = read_asked if arguments[0] == "calibrate" else read_job
    return arguments[0], read(Path(arguments[1]))


def broken(error: Exception, job: Asked | None) -> Stop:
    """What broke, in one line. The libraries' own writers say a full disk in words alone."""
    where = str(job.partial) if job is not None else ""
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
        return Stop("broke", "the disk is full", where=where, next="make room, then run it again: it resumes")
    if isinstance(error, MemoryError):
        return Stop("broke", "out of memory", where=where, next="stop what else runs, or take a machine with more")
    told = f"{type(error).__name__}: {error}".splitlines()[0]
    return Stop("broke", told, where=where, next="the lines above show where; run it again: it resumes")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
