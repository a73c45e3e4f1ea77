"""pao export, runs and doctor: what other programs read is what the records give; a damaged run is not exported."""

from __future__ import annotations

import csv
import io
import json
import socket
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

import profile_and_optimize as pao
from profile_and_optimize.analysis.tables import RequestRow, columns, request_rows
from profile_and_optimize.cli.main import run as cli
from profile_and_optimize.core.errors import Corrupted, WrongUse
from profile_and_optimize.evidence.manifest import MANIFEST
from profile_and_optimize.ops.base import Result
from profile_and_optimize.ops.doctor import DoctorRequest
from profile_and_optimize.ops.doctor import run as doctor
from profile_and_optimize.ops.export import ExportRequest, acts, csv_bytes, parquet_bytes, run
from profile_and_optimize.ops.runs import RunsRequest
from profile_and_optimize.ops.runs import run as list_runs
from profile_and_optimize.testing.forge import publish, relist
from profile_and_optimize.testing.synthetic import synthetic_plan, synthetic_run


def export(run_: Path, **fields: object) -> Result:
    return run(ExportRequest(campaign=str(run_), **fields), lambda _: None)


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("name", ["requests", "trials", "effects"])
def test_csv_has_a_row_for_each_record_and_a_column_for_each_field(closed_run: Path, name: str) -> None:
    rows = table(export(closed_run, table=name).data["text"])
    loaded = pao.load(closed_run)
    records = {"requests": loaded.requests_rows(), "trials": loaded.trials(), "effects": loaded.effects()}[name]
    assert len(rows) == len(records) and list(rows[0]) == list(columns(name))
    for row, record in zip(rows, records, strict=True):
        for field, cell in row.items():
            value = getattr(record, field)
            assert cell == ("" if value is None else str(value)), field


def test_a_number_of_the_csv_is_the_effect_of_the_report(closed_run: Path) -> None:
    fast = next(r for r in table(export(closed_run, table="effects").text) if r["variant"] == "fast")
    stored = json.loads((closed_run / "champion_select.json").read_text())["arms"]
    assert float(fast["estimate"]) == next(a for a in stored if a["cell"] == "fast")["effect"]["estimate"]


def test_a_text_that_a_spreadsheet_would_run_is_quoted(closed_run: Path) -> None:
    loaded = pao.load(closed_run)
    row = next(request_rows(loaded._ev, loaded._d))
    values = {name: getattr(row, name) for name in columns("requests")}
    hostile = RequestRow(**{**values, "error": '=HYPERLINK("http://x")', "tpot_ms": -1.5})
    (found,) = table(csv_bytes("requests", [hostile]).decode())
    assert found["error"] == '\'=HYPERLINK("http://x")' and found["tpot_ms"] == "-1.5"


def test_parquet_holds_the_same_as_the_records(closed_run: Path, tmp_path: Path) -> None:
    pq = pytest.importorskip(
        "pyarrow.parquet", reason="pyarrow is not installed: pip install 'profile-and-optimize[export]'"
    )
    for name in ("requests", "trials", "effects"):
        export(closed_run, format="parquet", table=name, out=str(tmp_path / f"{name}.parquet"))
        found = pq.read_table(tmp_path / f"{name}.parquet").to_pylist()
        assert [list(r.values()) for r in found] == [
            [None if c == "" and v is None else v for c, v in zip(row.values(), r.values(), strict=True)]
            for row, r in zip(table(export(closed_run, table=name).text), found, strict=True)
        ]
        assert len(found) == len(table(export(closed_run, table=name).text))


def test_parquet_without_pyarrow_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(WrongUse) as e:
        parquet_bytes("effects", [])
    assert "profile-and-optimize[export]" in e.value.next


def test_parquet_is_not_printed_and_a_run_takes_no_file(closed_run: Path) -> None:
    with pytest.raises(WrongUse, match="binary"):
        export(closed_run, format="parquet")
    with pytest.raises(WrongUse, match="no other files"):
        export(closed_run, out=str(closed_run / "requests.csv"))


def test_what_is_printed_writes_nothing_and_a_file_is_a_write(closed_run: Path, tmp_path: Path) -> None:
    assert not acts(ExportRequest(campaign="x")) and acts(ExportRequest(campaign="x", out="y"))
    out = tmp_path / "requests.csv"
    assert export(closed_run, out=str(out)).data["bytes"] == out.stat().st_size
    assert out.read_text() == export(closed_run).data["text"]


def test_markdown_has_the_answer_the_tables_and_what_did_not_pass(closed_run: Path) -> None:
    page = export(closed_run, format="md").text
    assert page.startswith("### Serve fast (DRAFT)\n")
    assert "| fast | BETTER | +10.9% (+9.6% to +12.3%) | 3 |" in page
    assert "| accuracy | not evaluated |" in page and "356.0 (353.0 to 359.0)" in page
    assert json.loads((closed_run / MANIFEST).read_text())["root"] in page


@pytest.mark.parametrize(("fail_if", "failing"), [("worse", ["slow"]), ("not-better", ["slow"]), ("unknown", [])])
def test_junit_fails_the_variants_that_were_asked_for(closed_run: Path, fail_if: str, failing: list[str]) -> None:
    root = ET.fromstring(export(closed_run, format="junit", fail_if=fail_if).data["text"])
    variants, checks = root.findall("testsuite")
    cases = {c.get("name", "").split()[0]: c for c in variants}
    assert [name for name, c in cases.items() if c.find("failure") is not None] == failing
    assert list(cases) == ["fast", "slow", "broken"] and cases["broken"].find("error") is not None
    assert (variants.get("failures"), variants.get("errors")) == (str(len(failing)), "1")
    skipped = {c.get("name") for c in checks if c.find("skipped") is not None}
    assert (
        skipped == {g.name for g in pao.load(closed_run).verdict.gates if g.passed is None}
        and checks.get("failures") == "0"
    )


def test_a_damaged_run_is_not_exported(run_copy: Path) -> None:
    (run_copy / "plan.json").write_text((run_copy / "plan.json").read_text() + " ")
    with pytest.raises(Corrupted, match=r"damaged: plan\.json"):
        export(run_copy)


def test_the_command_prints_the_table_alone(closed_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(["export", str(closed_run), "--table", "effects"]) == 0
    assert [r["variant"] for r in table(capsys.readouterr().out)] == ["baseline", "aa", "fast", "slow", "broken"]


def runs(space: Path, **fields: str) -> list[dict]:
    return list_runs(RunsRequest(campaigns_dir=str(space), **fields), lambda _: None).data["runs"]


def test_runs_are_listed_newest_first_with_pick_and_tier(tmp_path: Path) -> None:
    publish(synthetic_run(tmp_path / "20261121T090000Z-zulu"))
    synthetic_run(tmp_path / "20261122T090000Z-alpha", synthetic_plan(blocks=3))
    (tmp_path / "20261120T090000Z-empty").mkdir()
    (tmp_path / "not-a-run").mkdir()
    found = runs(tmp_path)
    assert [(r["run"][17:], r["date"], r["pick"], r["tier"], r["state"]) for r in found] == [
        ("alpha", "2026-11-22 09:00", None, None, "open"), ("zulu", "2026-11-21 09:00", "fast", "DRAFT", "closed"),
        ("empty", "2026-11-20 09:00", None, None, "open"),
    ]  # fmt: skip
    assert (found[1]["model"], found[1]["engines"]) == ("fake-model", ("fake",))
    assert [r["run"][17:] for r in runs(tmp_path, sort="name")] == ["alpha", "empty", "zulu"]


def test_a_pick_that_is_not_what_was_written_is_not_shown(tmp_path: Path) -> None:
    run_ = publish(synthetic_run(tmp_path / "20261121T090000Z-a", synthetic_plan(blocks=3)))
    choice = run_ / "champion_select.json"
    choice.write_text(choice.read_text().replace('"pick": "fast"', '"pick": "slow"'))
    (found,) = runs(tmp_path)
    assert (found["state"], found["pick"]) == ("altered", None) and "champion_select.json" in found["note"]
    relist(run_)  # who re-hashes it is found by verify alone, as the last line says
    assert runs(tmp_path)[0]["pick"] == "slow"
    assert "pao verify RUN" in list_runs(RunsRequest(campaigns_dir=str(tmp_path)), lambda _: None).text


def test_an_empty_workspace_says_how_to_begin(tmp_path: Path) -> None:
    found = list_runs(RunsRequest(campaigns_dir=str(tmp_path / "none")), lambda _: None)
    assert found.data["runs"] == [] and "pao ab" in found.text


def test_the_doctor_gives_each_thing_once_and_a_command_for_what_is_missing(tmp_path: Path) -> None:
    found = doctor(
        DoctorRequest(tools_dir=str(tmp_path / "tools"), campaigns_dir=str(tmp_path / "runs")), lambda _: None
    )
    by_name = {f["name"]: f for f in found.data["findings"]}
    assert len(by_name) == len(found.data["findings"])
    assert {"python", "compiler", "libnuma", "gpu", "cpu", "memory", "disk", "ports", "workspace", "chromium"} <= set(
        by_name
    )
    assert by_name["tool vllm"]["severity"] == "missing" and by_name["tool vllm"]["command"] == "pao tools install vllm"
    assert "->  pao tools install vllm" in found.text and "cannot serve a model yet" in found.text
    assert (
        by_name["workspace"]["severity"] == "ok"
        and not (tmp_path / "runs").exists()
        and not (tmp_path / "tools").exists()
    )


def test_the_doctor_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the doctor used the network")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse, raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert doctor(DoctorRequest(tools_dir=str(tmp_path)), lambda _: None).data["findings"]


def test_the_doctor_says_so_of_a_workspace_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    found = doctor(DoctorRequest(tools_dir=str(tmp_path), campaigns_dir=str(tmp_path / "runs")), lambda _: None)
    assert next(f for f in found.data["findings"] if f["name"] == "workspace")["severity"] == "missing"
