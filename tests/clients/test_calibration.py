"""A calibration finds what a client adds; it is kept per node, client, version and concurrency, and damage is named."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from profile_and_optimize.clients.base import LoadRequest
from profile_and_optimize.clients.calibration import (
    Conditions,
    OurMock,
    RunningMock,
    Shape,
    Store,
    calibration_of,
    default_root,
    error_of,
    has_stamps,
    run_client,
    run_once,
)
from profile_and_optimize.clients.stream import StreamClient
from profile_and_optimize.core.errors import BrokeMidway, Corrupted, WrongUse
from profile_and_optimize.core.records import ClientRun, RequestRecord
from profile_and_optimize.engines.mock.process import MockProcess
from profile_and_optimize.stats.client_error import ClientError

SHAPE = Shape(ttft_s=0.01, itl_s=0.002, osl=4, isl=4)
CONDITIONS = Conditions("n1", 1000.0, (), 0.0, ())


class Late:
    """Ours, but it says that every chunk came 20 ms later than it did."""

    name, version = "late", "1"

    def run(self, load: LoadRequest, *, workdir: Path) -> ClientRun:
        self.seen = StreamClient().run(replace(load, fifo=False), workdir=workdir)
        return replace(self.seen, records=tuple(map(self._later, self.seen.records)))

    def _later(self, r: RequestRecord) -> RequestRecord:
        return replace(r, chunk_ns=tuple(c + 20_000_000 for c in r.chunk_ns), done_ns=r.done_ns + 20_000_000)


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> ClientError:
    """The late client, two rounds at 4 slots."""
    folder = tmp_path_factory.mktemp("calibrated")
    with OurMock(SHAPE, folder) as mock:
        runs = [run_once(Late(), mock, SHAPE, 4, folder) for _ in range(2)]
    return calibration_of(Late(), SHAPE, 4, runs, CONDITIONS)


def test_what_a_client_adds_is_found_in_ttft_and_latency_and_not_in_tpot(tmp_path: Path) -> None:
    client = Late()
    with OurMock(SHAPE, tmp_path) as mock:
        late = error_of(run_client(client, mock, SHAPE, 4, tmp_path), mock)
        own = error_of(client.seen, mock)
    assert late.ttft_error_p50_s - own.ttft_error_p50_s == pytest.approx(0.020)
    assert late.e2e_error_p50_s - own.e2e_error_p50_s == pytest.approx(0.020)
    assert late.tpot_error_p50_s is not None and late.tpot_error_p50_s == pytest.approx(own.tpot_error_p50_s)


def test_a_calibration_counts_its_rounds_and_fits_its_own_concurrency(calibrated: ClientError) -> None:
    assert calibrated.ttft_error_p50_s > 0.020 and calibrated.e2e_error_p50_s > 0.020
    assert (calibrated.requests, calibrated.rounds, calibrated.failed) == (96, 2, 0)
    assert calibrated.fits("late", "1", 4) and not calibrated.fits("late", "1", 8)


def test_a_calibration_is_kept_and_found_again_for_its_like_only(calibrated: ClientError, tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.save(calibrated)
    assert store.find("n1", "late", "1", 4) == calibrated
    for other in (("n2", "late", "1", 4), ("n1", "soon", "1", 4), ("n1", "late", "2", 4), ("n1", "late", "1", 8)):
        assert store.find(*other) is None
    store.save(replace(calibrated, lost=0.5))
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]
    assert store.find("n1", "late", "1", 4) == replace(calibrated, lost=0.5)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 1, "kind": "client calibration"}'])
def test_a_damaged_one_is_named(calibrated: ClientError, text: str, tmp_path: Path) -> None:
    Store(tmp_path).save(calibrated).write_text(text)
    with pytest.raises(Corrupted, match=r"c4\.json"):
        Store(tmp_path).find("n1", "late", "1", 4)


def test_one_that_was_put_in_anothers_place_is_refused(calibrated: ClientError, tmp_path: Path) -> None:
    Store(tmp_path).save(calibrated).write_text(json.dumps(replace(calibrated, node="n2").to_json()))
    with pytest.raises(Corrupted, match="something else"):
        Store(tmp_path).find("n1", "late", "1", 4)


def test_names_from_outside_stay_inside_the_folder(calibrated: ClientError, tmp_path: Path) -> None:
    strange = replace(calibrated, node="../../x", client="a/b", version="..")
    path = Store(tmp_path / "root").save(strange)
    assert (tmp_path / "root") in path.parents and ".." not in path.relative_to(tmp_path).parts
    assert Store(tmp_path / "root").find("../../x", "a/b", "..", 4) == strange


def test_the_folder_follows_the_environment() -> None:
    assert default_root({"PAO_CALIBRATIONS_DIR": "/a/b"}) == Path("/a/b")
    assert default_root({"XDG_DATA_HOME": "/d"}) == Path("/d/profile-and-optimize/calibrations")


def test_a_mock_that_runs_already_serves_when_it_keeps_stamps(tmp_path: Path) -> None:
    with MockProcess(*SHAPE.mock_flags, "--stamps", str(tmp_path / "s.json")) as mock:
        found = run_once(Late(), RunningMock(mock.url), SHAPE, 2, tmp_path)
        assert found.requests == 96 and found.ttft_error_p50_s > 0.020
    with MockProcess(*SHAPE.mock_flags) as silent:
        assert not has_stamps(silent.url)
        with pytest.raises(WrongUse, match="no mock with stamps"):
            RunningMock(silent.url)
    assert not has_stamps("http://127.0.0.1:9")


def test_strangers_on_the_mock_spoil_the_calibration_aloud(tmp_path: Path) -> None:
    class Meddled(Late):
        def run(self, load: LoadRequest, *, workdir: Path) -> ClientRun:
            StreamClient().run(replace(load, prompts=("who is there",), concurrency=1, fifo=False), workdir=workdir)
            return super().run(load, workdir=workdir)

    with OurMock(SHAPE, tmp_path) as mock, pytest.raises(BrokeMidway, match="cannot be held against the mock"):
        run_once(Meddled(), mock, SHAPE, 2, tmp_path)


def test_rounds_give_medians_and_one_that_does_not_know_makes_the_value_unknown(tmp_path: Path) -> None:
    with OurMock(SHAPE, tmp_path) as mock:
        one = run_once(Late(), mock, SHAPE, 2, tmp_path)
    runs = [replace(one, e2e_error_p50_s=s, cpu_us_per_token=c) for s, c in ((1.0, 5.0), (9.0, 7.0), (2.0, None))]
    found = calibration_of(Late(), SHAPE, 2, runs, CONDITIONS)
    assert found.e2e_error_p50_s == 2.0 and found.cpu_us_per_token is None and found.rounds == 3
    assert time.gmtime(found.at_unix_s).tm_year == 1970
