"""A client run against the mock at a load, its error measured, and the calibrations that this machine keeps."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Protocol

from profile_and_optimize.clients.base import Client, LoadRequest
from profile_and_optimize.core.errors import BrokeMidway, Corrupted, Unreachable, WrongUse
from profile_and_optimize.core.records import ClientRun
from profile_and_optimize.engines.calls import get
from profile_and_optimize.engines.mock.process import MockProcess
from profile_and_optimize.evidence.atomic import write_atomic
from profile_and_optimize.stats.client_error import ClientError, RunError, client_error_from_json, run_error, sent_of
from profile_and_optimize.toolenv.find import data_dir

ASK_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Shape:
    """What the mock is told to be, and what is asked of it: `isl` is words of the prompt. Seconds and tokens."""

    ttft_s: float = 0.050
    itl_s: float = 0.010
    osl: int = 64
    isl: int = 128
    api: str = "chat"

    def __post_init__(self) -> None:
        if min(self.osl, self.isl) < 1 or min(self.ttft_s, self.itl_s) < 0:
            raise ValueError("osl and isl are at least 1, times not negative")

    @property
    def mock_flags(self) -> tuple[str, ...]:
        return "--ttft-ms", f"{self.ttft_s * 1e3:g}", "--itl-ms", f"{self.itl_s * 1e3:g}", "--osl", str(self.osl)


class Mock(Protocol):
    """A running mock server with stamps."""

    url: str

    def stamps(self) -> list[dict[str, Any]]: ...

    def reset(self) -> None: ...


class OurMock(MockProcess):
    """A mock of ours on given cores; the stamps are written into `folder` too."""

    def __init__(self, shape: Shape, folder: Path, cores: tuple[int, ...] = ()) -> None:
        prefix = ("taskset", "-c", ",".join(map(str, cores))) if cores else ()
        super().__init__(*shape.mock_flags, "--stamps", str(folder / "stamps.json"), prefix=prefix)

    def reset(self) -> None:
        self.get("/stamps/reset")


class RunningMock:
    """A mock that somebody else runs. Raises WrongUse when what answers there keeps no stamps."""

    def __init__(self, url: str) -> None:
        self.url = url
        if not has_stamps(url):
            raise WrongUse("no mock with stamps answers there", where=url, next="pao mock --stamps FILE")

    def stamps(self) -> list[dict[str, Any]]:
        return list(_get(self.url + "/stamps")["requests"])

    def reset(self) -> None:
        _get(self.url + "/stamps/reset")


def has_stamps(url: str) -> bool:
    """Whether a mock with stamps answers at `url`; whatever else answers there has no such page."""
    try:
        return isinstance(_get(url + "/stamps").get("requests"), list)
    except (BrokeMidway, AttributeError):
        return False


def _get(url: str) -> Any:
    try:
        answer = get(url, timeout_s=ASK_WITHIN_S)
        if answer.status != 200:
            raise ValueError(f"it answered {answer.status}")
        return answer.json()
    except (Unreachable, ValueError) as error:
        said = error.message if isinstance(error, Unreachable) else error
        raise BrokeMidway(f"the mock did not answer: {said}", where=url) from None


def requests_at(concurrency: int) -> int:
    """Enough waves that the start and the end of a run weigh little, and enough requests for a p99."""
    return max(96, 6 * concurrency)


def load_for(
    url: str, shape: Shape, concurrency: int, *, model: str = "mock", cores: tuple[int, ...] = (),
    headers: tuple[tuple[str, str], ...] = (),
) -> LoadRequest:  # fmt: skip
    """Prompts that begin with their own index, so that each is found again in the mock's stamps."""
    prompts = tuple(f"{i} " + "word " * (shape.isl - 1) for i in range(requests_at(concurrency)))
    return LoadRequest(
        url=url, model=model, api=shape.api, prompts=prompts, osl=shape.osl, concurrency=concurrency, timeout_s=60.0, cores=cores,
        headers=headers,
    )  # fmt: skip


def run_once(
    client: Client, mock: Mock, shape: Shape, concurrency: int, workdir: Path, cores: tuple[int, ...] = ()
) -> RunError:
    """One run and its error. Raises BrokeMidway when the client's run and the mock's stamps do not belong together."""
    return error_of(run_client(client, mock, shape, concurrency, workdir, cores), mock)


def run_client(
    client: Client, mock: Mock, shape: Shape, concurrency: int, workdir: Path, cores: tuple[int, ...] = ()
) -> ClientRun:
    mock.reset()
    return client.run(load_for(mock.url, shape, concurrency, cores=cores), workdir=workdir)


def error_of(run: ClientRun, mock: Mock) -> RunError:
    try:
        return run_error(run, sent_of(mock.stamps()))
    except ValueError as error:
        raise BrokeMidway(f"the run cannot be held against the mock: {error}", where=mock.url) from None


@dataclass(frozen=True, slots=True)
class Conditions:
    """The machine during a calibration; see `ClientError` for the fields."""

    node: str
    at_unix_s: float
    client_cores: tuple[int, ...]
    others_cores: float | None
    loud: tuple[str, ...]


def calibration_of(
    client: Client, shape: Shape, concurrency: int, runs: Sequence[RunError], c: Conditions
) -> ClientError:
    """The medians of the rounds."""
    return ClientError(
        client=client.name, version=client.version, node=c.node, concurrency=concurrency, requests=runs[0].requests, rounds=len(runs),
        at_unix_s=c.at_unix_s, client_cores=c.client_cores, cores_total=os.cpu_count(), others_cores=c.others_cores,
        load_average_1m=os.getloadavg()[0] if hasattr(os, "getloadavg") else None, loud=c.loud,
        ttft_s=shape.ttft_s, itl_s=shape.itl_s, osl=shape.osl, isl=shape.isl, api=shape.api, failed=max(r.failed for r in runs),
        ttft_error_p50_s=_mid(runs, lambda r: r.ttft_error_p50_s), ttft_error_p99_s=_mid(runs, lambda r: r.ttft_error_p99_s),
        tpot_error_p50_s=_known(runs, lambda r: r.tpot_error_p50_s), e2e_error_p50_s=_mid(runs, lambda r: r.e2e_error_p50_s),
        e2e_error_p99_s=_mid(runs, lambda r: r.e2e_error_p99_s), lost=_mid(runs, lambda r: r.lost),
        request_rate=_mid(runs, lambda r: r.request_rate), cpu_us_per_token=_known(runs, lambda r: r.cpu_us_per_token),
    )  # fmt: skip


def _mid(runs: Sequence[RunError], value: Callable[[RunError], float]) -> float:
    return float(median(value(r) for r in runs))


def _known(runs: Sequence[RunError], value: Callable[[RunError], float | None]) -> float | None:
    """None when a round does not know."""
    values = [value(r) for r in runs]
    known = [v for v in values if v is not None]
    return float(median(known)) if len(known) == len(values) else None


def this_node() -> str:
    return platform.node() or "unknown"


def default_root(environ: Mapping[str, str] = os.environ) -> Path:
    """Where calibrations are kept: PAO_CALIBRATIONS_DIR, else beside the tool environments."""
    if chosen := environ.get("PAO_CALIBRATIONS_DIR"):
        return Path(chosen).expanduser().absolute()
    return data_dir(environ) / "calibrations"


@dataclass(frozen=True, slots=True)
class Store:
    """One file per node, client, version and concurrency; a newer calibration takes the place of the older."""

    root: Path

    def save(self, found: ClientError) -> Path:
        path = self._path(found.node, found.client, found.version, found.concurrency)
        write_atomic(path, (json.dumps(found.to_json(), indent=1, sort_keys=True) + "\n").encode())
        return path

    def find(self, node: str, client: str, version: str, concurrency: int) -> ClientError | None:
        """None when there is none. Raises Corrupted for one that is damaged or another's."""
        path = self._path(node, client, version, concurrency)
        try:
            found = client_error_from_json(json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise Corrupted(
                f"not a calibration: {error}", where=str(path), next="calibrate again: pao calibrate"
            ) from None
        if not found.fits(client, version, concurrency) or found.node != node:
            raise Corrupted("a calibration of something else lies here", where=str(path), next="remove it")
        return found

    def all_of(self, node: str, client: str, version: str) -> tuple[ClientError, ...]:
        """Of every concurrency. Raises Corrupted."""
        files = self._path(node, client, version, 1).parent.glob("c*.json")
        loads = sorted(int(f.stem[1:]) for f in files if f.stem[1:].isdecimal())
        return tuple(e for c in loads if (e := self.find(node, client, version, c)) is not None)

    def _path(self, node: str, client: str, version: str, concurrency: int) -> Path:
        return self.root / _plain(node) / f"{_plain(client)}-{_plain(version)}" / f"c{concurrency}.json"


def stored_for(client: Client, concurrency: int | None) -> ClientError | None:
    """What this machine keeps of a client at a load; None for an open loop, or when there is none. Raises Corrupted."""
    if concurrency is None:
        return None
    return Store(default_root()).find(this_node(), client.name, client.version, concurrency)


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._+-]", "_", name).lstrip(".") or "_"
