"""`import profile_and_optimize as pao`: what a run shows in Python is what its records give, and nothing can be set in it."""

from __future__ import annotations

import asyncio
import inspect
import logging
import subprocess
import sys
import tarfile
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import profile_and_optimize as pao
from profile_and_optimize.analysis.decide import decide
from profile_and_optimize.analysis.tables import RequestRow
from profile_and_optimize.api import function_of
from profile_and_optimize.campaign.evidence_of import load_evidence
from profile_and_optimize.core.errors import Corrupted, GateRefused, PaoError, WrongUse
from profile_and_optimize.engines.base import Server
from profile_and_optimize.testing.forge import publish
from profile_and_optimize.testing.synthetic import synthetic_plan, synthetic_run


@pytest.fixture(scope="module")
def run(closed_run: Path) -> pao.Run:
    return pao.load(closed_run)


def in_a_new_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert (
        in_a_new_python("import sys, profile_and_optimize; print({'numpy', 'pydantic', 'httpx'} & set(sys.modules))")
        == "set()"
    )


def test_optimize_stays_a_function_when_modules_of_the_folder_of_that_name_are_imported() -> None:
    code = (
        "from profile_and_optimize.optimize import levers; import profile_and_optimize as pao; "
        "print(callable(pao.optimize), levers.__name__)"
    )
    assert in_a_new_python(code) == "True profile_and_optimize.optimize.levers"


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="profile_and_optimize"):
        pao.optimise  # noqa: B018


@pytest.mark.parametrize("verb", ["bench", "ab", "optimize"])
def test_a_function_takes_the_fields_of_its_command(verb: str) -> None:
    op = import_module(f"profile_and_optimize.ops.{verb}").OP
    parameters = inspect.signature(getattr(pao, verb)).parameters
    assert set(parameters) == set(op.request.model_fields) - {"allowed_by"}
    for name, p in parameters.items():
        field = op.request.model_fields[name]
        assert p.default is inspect.Parameter.empty if field.is_required() else p.default == field.default
        assert (p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD) == (name in op.positional)
    assert op.help in (getattr(pao, verb).__doc__ or "")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: pao.bench("http://127.0.0.1:1", sped=1), "pao.bench: no such argument: sped; did you mean speed?"),
        (lambda: pao.bench("http://127.0.0.1:1", isl="many"), "pao.bench, isl: "),
        (lambda: pao.bench(), "pao.bench, url: "),
        (lambda: pao.ab("http://127.0.0.1:1", "http://127.0.0.1:2", allowed_by="me"), "no such argument: allowed_by"),
        (lambda: pao.load("nothing-of-this-name", "no-such-folder"), "no run"),
    ],
)
def test_a_wrong_call_raises_and_says_which_argument(call: Any, said: str) -> None:
    with pytest.raises(WrongUse) as e:
        call()
    assert said in str(e.value) and e.value.next


def test_a_positional_argument_too_many_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        pao.bench("http://127.0.0.1:1", 8)


def test_the_verdict_is_the_decision_of_the_records(run: pao.Run, closed_run: Path) -> None:
    d = decide(load_evidence(closed_run))
    v = run.verdict
    assert (v.pick, v.tier, v.why, v.gates) == (d.pick, d.tier, d.why, d.gates) and v.pick == "fast"
    assert v.effect is not None and v.effect.estimate == pytest.approx(np.expm1(d.effects["fast"].estimate))
    assert {g.passed for g in v.not_passed} == {None} and v.answer.startswith("Serve fast (DRAFT).")
    assert run.path == closed_run and run.plan.baseline.id == v.baseline == "baseline"


def test_effects_name_every_variant_and_unknown_stays_none(run: pao.Run) -> None:
    found = {e.variant: e for e in run.effects()}
    assert list(found) == ["baseline", "aa", "fast", "slow", "broken"]
    assert [e.variant for e in run.effects() if e.pick] == ["fast"]
    assert (found["baseline"].call, found["aa"].call, found["slow"].call, found["broken"].estimate) == (
        None,
        None,
        "WORSE",
        None,
    )
    assert "--explode" in (found["broken"].failure or "")


def test_requests_that_count_give_the_numbers_of_their_trial(tmp_path: Path) -> None:
    """Long enough for a start-up to be looked for; the median and mean by hand are those of the trial."""
    run = pao.load(publish(synthetic_run(tmp_path / "20261121T090000Z-synthetic", synthetic_plan(blocks=3))))
    rows = run.requests_rows()
    for t in run.trials():
        mine = [r for r in rows if r.source == t.source]
        assert len(mine) == t.requests_asked and {r.counts for r in mine} <= {t.counts, False}
        for name in ("ttft_ms", "tpot_ms", "e2e_latency_ms"):
            values = [v for r in mine if r.counts or not t.counts for v in [getattr(r, name)] if v is not None]
            assert np.median(values) == pytest.approx(getattr(t, f"{name}_p50")), (t.source, name)
            assert np.mean(values) == pytest.approx(getattr(t, f"{name}_mean")), (t.source, name)
    first = rows[0]
    assert first.tpot_ms == pytest.approx(
        (first.last_chunk_ns - first.first_chunk_ns) / (first.output_tokens - 1) / 1e6
    )


def test_the_start_up_of_a_trial_does_not_count(run: pao.Run) -> None:
    """A trial whose first four requests are left out, as a block does it."""
    ev, d = run._ev, run._d
    from dataclasses import replace

    from profile_and_optimize.analysis.tables import request_rows

    key = next(iter(d.counted)).key
    blocks = {
        b: {a: {p: t.without(4) if t.key == key else t for p, t in points.items()} for a, points in arms.items()}
        for b, arms in d.selection.blocks.items()
    }
    cut = replace(d, selection=replace(d.selection, blocks=blocks))
    before, after = (
        [r.counts for r in request_rows(ev, x) if (r.variant, r.block, r.point) == (key.arm, key.block, key.point)]
        for x in (d, cut)
    )
    assert sum(before) - sum(after) == 4 and all(before)


def test_a_run_cannot_be_changed(run: pao.Run) -> None:
    for change in (
        lambda: setattr(run, "path", "x"),
        lambda: setattr(run, "_d", None),
        lambda: setattr(run.effects()[0], "pick", True),
    ):
        with pytest.raises((AttributeError, TypeError)):
            change()


def test_requests_without_pandas_name_what_to_use_instead(run: pao.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(WrongUse, match=r"pandas.*requests_rows\(\)"):
        run.requests()


def test_requests_are_a_data_frame_with_a_column_for_each_field(run: pao.Run) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed: pip install 'profile-and-optimize[export]'")
    frame = run.requests()
    assert list(frame.columns) == [f.name for f in fields(RequestRow)] and len(frame) == len(run.requests_rows())
    ((value,),) = frame[frame.source == run.trials()[0].source][["ttft_ms"]].median().to_numpy().reshape(1, 1)
    assert value == pytest.approx(run.trials()[0].ttft_ms_p50)


def test_a_damaged_run_is_not_loaded(run_copy: Path) -> None:
    file = run_copy / "cells/fast/raw/b001-short-chat.c4-a1.json"
    file.write_bytes(file.read_bytes().replace(b"200", b"201", 1))
    with pytest.raises(Corrupted, match=r"damaged: cells/fast/raw/b001-short-chat\.c4-a1\.json") as e:
        pao.load(run_copy)
    assert e.value.next.startswith("pao verify")


def test_a_rendered_file_that_was_changed_is_damage_too(run_copy: Path) -> None:
    (run_copy / "report.txt").write_text("all is well")
    with pytest.raises(Corrupted, match=r"report\.txt"):
        pao.load(run_copy)


def test_a_run_that_is_not_closed_says_so(tmp_path: Path) -> None:
    open_run = synthetic_run(tmp_path / "20261121T090000Z-open")
    with pytest.raises(WrongUse, match="not closed") as e:
        pao.load(open_run)
    assert e.value.next.startswith("pao report_render")


def test_a_run_of_an_older_format_is_loaded(tmp_path: Path) -> None:
    with tarfile.open(Path(__file__).parent / "data/runs/schema-1.tar.xz") as kept:
        kept.extractall(tmp_path, filter="data")
    (found,) = tmp_path.rglob("manifest.json")
    run = pao.load(found.parent)
    assert run.verdict.pick == "fast" and sum(r.counts for r in run.requests_rows()) == 336


def test_race_trials_do_not_count(tmp_path: Path) -> None:
    from tests.campaign.test_looks import plan_of, run_at

    speeds = {f"x{i}": 10.0 - 0.3 * i for i in range(6)}
    run = pao.load(publish(run_at(tmp_path, plan_of(*speeds, race_rounds=4), speeds)))
    stages = {t.stage: {x.counts for x in run.trials() if x.stage == t.stage} for t in run.trials()}
    assert stages == {"race": {False}, "confirm": {True}}
    assert not any(r.counts for r in run.requests_rows() if r.stage == "race")


def test_bench_runs_inside_an_event_loop_as_notebooks_have_one(mock_server: Server) -> None:
    async def cell() -> pao.BenchResult:
        return pao.bench(mock_server.url, isl=8, osl=8, concurrency=2, requests=12)

    assert asyncio.run(cell()).requests_completed == 12


def test_a_run_is_found_by_its_slug_in_a_workspace(closed_run: Path) -> None:
    assert pao.load("synthetic", closed_run.parent).path == closed_run


def test_the_notebook_shows_the_answer_and_the_table_and_escapes_text_from_outside(
    run: pao.Run, tmp_path: Path
) -> None:
    page = run._repr_html_()
    assert "Serve fast (DRAFT)" in page and "<td>+10.9% (+9.6% to +12.3%)</td>" in page
    assert repr(run).startswith("20261121T090000Z-synthetic: Serve fast (DRAFT).")
    hostile = synthetic_plan(blocks=3)
    from dataclasses import replace

    hostile = replace(hostile, suite="<script>alert(1)</script>")
    page = pao.load(publish(synthetic_run(tmp_path / "20261121T090000Z-hostile", hostile)))._repr_html_()
    assert "<script>" not in page and "&lt;script&gt;" in page


def test_bench_gives_typed_figures(mock_server: Server, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "profile_and_optimize"):
        found = pao.bench(mock_server.url, isl=8, osl=8, concurrency=2, requests=12, seed=1)
    assert (found.requests_completed, found.requests_failed, found.data["seed"]) == (12, 0, 1)
    assert found.ttft_ms is not None and found.ttft_ms.p50 == found.data["metrics"]["ttft_ms"]["p50"] > 0
    assert found.output_throughput_tok_s == found.data["output_throughput_tok_s"] and found.client in (
        "valid",
        "degraded",
    )
    assert "ttft" in repr(found) and found._repr_html_().startswith("<pre>") and caplog.records


def test_what_the_command_line_refuses_raises_with_the_figures_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from profile_and_optimize import api
    from profile_and_optimize.ops.base import Result

    refused = Result({}, "the table", refusal=GateRefused("the client was too slow"))
    with pytest.raises(PaoError, match="too slow") as e:
        api._succeeded(refused)
    assert e.value.__notes__ == ["the table"]


def test_a_function_is_made_once() -> None:
    assert function_of("bench") is pao.bench
