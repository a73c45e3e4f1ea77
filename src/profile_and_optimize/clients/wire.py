"""What passes between the client and its worker process: the load as a file, secrets by pipe, the run as a file."""

from __future__ import annotations

import base64
import dataclasses
from pathlib import Path
from typing import Any

import orjson

from profile_and_optimize.clients.arrivals import Schedule
from profile_and_optimize.clients.base import LoadRequest
from profile_and_optimize.core.errors import BrokeMidway, PaoError, Unreachable, WrongUse
from profile_and_optimize.core.records import ClientProbe, ClientRun, RawResponse, RequestRecord

ERRORS: dict[str, type[PaoError]] = {e.code: e for e in (WrongUse, Unreachable, BrokeMidway)}


def write_load(path: Path, load: LoadRequest) -> bytes:
    """Write the load without its header values; returns the line that carries those through a pipe."""
    path.write_bytes(orjson.dumps(dataclasses.replace(load, headers=())))
    return orjson.dumps(load.headers) + b"\n"


def read_load(path: Path, headers: bytes) -> LoadRequest:
    fields = orjson.loads(path.read_bytes())
    fields |= {name: tuple(fields[name]) for name in ("prompts", "cores", "osls")}
    fields["ignore_eos_fields"] = tuple((name, value) for name, value in fields["ignore_eos_fields"])
    if fields["schedule"] is not None:
        fields["schedule"] = _schedule(fields["schedule"])
    return LoadRequest(**fields | {"headers": tuple((name, value) for name, value in orjson.loads(headers))})


def _schedule(fields: dict[str, Any]) -> Schedule:
    lists = {name: tuple(fields[name]) for name in ("at_ns", "after", "think_ns")}
    return Schedule(**fields | lists)


def write_run(path: Path, run: ClientRun) -> None:
    """Temporary file, then rename: a result is whole or absent."""
    raw = [[kept.index, [(at, base64.b64encode(data).decode()) for at, data in kept.reads]] for kept in run.raw]
    _replace(path, orjson.dumps({"run": dataclasses.replace(run, raw=()), "raw": raw}))


def write_error(path: Path, error: PaoError) -> None:
    said = {"code": error.code, "message": error.message, "where": error.where, "next": error.next}
    _replace(path, orjson.dumps({"error": said}))


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(data)
    temporary.replace(path)


def read_run(path: Path) -> ClientRun:
    """The run. Raises the worker's own error."""
    result = orjson.loads(path.read_bytes())
    if "error" in result:
        said = result["error"]
        raise ERRORS.get(said["code"], BrokeMidway)(said["message"], where=said["where"], next=said["next"])
    fields = result["run"]
    probe = fields["probe"]
    probe |= {"loop_lag_ns": tuple(probe["loop_lag_ns"]), "cores": tuple(probe["cores"])}
    records = tuple(RequestRecord(**{**r, "chunk_ns": tuple(r["chunk_ns"])}) for r in fields["records"])
    raw = tuple(RawResponse(i, tuple((at, base64.b64decode(d)) for at, d in reads)) for i, reads in result["raw"])
    return ClientRun(**fields | {"probe": ClientProbe(**probe), "records": records, "raw": raw})
