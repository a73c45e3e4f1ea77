"""What others wrote can be anything: a result or one clear refusal, never a traceback and never an endless read."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from profile_and_optimize.analysis.lint import lint
from profile_and_optimize.analysis.lint.finding import Given
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.importers import read, reading

DATA = Path(__file__).parents[1] / "data/importers"
BYTES = {
    "empty": b"",
    "spaces": b"  \n ",
    "not json": b"TTFT 12 ms",
    "broken off": b'{"num_prompts": 3, "dura',
    "binary": bytes(range(256)),
    "not text": b'{"a": "\xff\xfe"}',
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "deep lines": b"{}\n" + b"[" * 100_000,
    "many digits": b'{"num_prompts": ' + b"9" * 5000 + b"}",
    "a number": b"12",
    "null": b"null",
    "stranger": b'{"tokens_per_second": 12}',
    "strangers": b"[1, 2, 3]",
    "one line bad": b'{"a": 1}\n{"b": ',
    "no benchmarks": b'{"benchmarks": []}',
}
CAPTURES = (
    "vllm-good1.json", "sglang-good.jsonl", "guidellm-errors.json", "aiperf-errors/profile_export_aiperf.json",
    "aiperf-errors/profile_export.jsonl", "aiperf-errors/inputs.json",
)  # fmt: skip


@pytest.mark.parametrize("name", BYTES)
def test_a_file_that_is_no_result_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_bytes(BYTES[name])
    with pytest.raises(WrongUse) as e:
        read(file)
    assert "\n" not in e.value.message and str(file) in e.value.where
    with pytest.raises(WrongUse):
        read(tmp_path)


def test_the_refusal_names_what_is_known(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    for path in (tmp_path, tmp_path / "x.json"):
        with pytest.raises(WrongUse, match=r"vllm bench serve.*sglang.*aiperf.*guidellm.*pao bench"):
            read(path)


def test_places_that_are_no_files_are_refused(tmp_path: Path) -> None:
    os.symlink(tmp_path / "loop", tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe.json")
    for path in (tmp_path / "none.json", tmp_path / "loop", tmp_path / "pipe.json", "/dev/zero", "a\0b", "x" * 5000):
        with pytest.raises(WrongUse):
            read(path)


def test_a_folder_that_links_to_itself_is_walked_once(tmp_path: Path) -> None:
    os.symlink(tmp_path, tmp_path / "again")
    (tmp_path / "r.json").write_bytes((DATA / "vllm-good1.json").read_bytes())
    os.symlink(tmp_path / "r.json", tmp_path / "s.json")
    assert len(read(tmp_path)) == 1


def test_too_large_and_too_many_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(tmp_path / "x.json", "wb") as f:
        f.truncate(reading.MAX_BYTES + 1)
    with pytest.raises(WrongUse, match="bytes"):
        read(tmp_path / "x.json")
    monkeypatch.setattr(reading, "MAX_FILES", 0)
    with pytest.raises(WrongUse, match="files"):
        read(tmp_path)


def test_a_broken_file_beside_a_result_is_a_fact_of_it(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes((DATA / "vllm-good1.json").read_bytes())
    (tmp_path / "b.json").write_text('{"num_prompts": 3, "dura')
    (run,) = read(tmp_path)
    assert "b.json" in run.facts["unreadable_beside"]


def test_one_bad_figure_costs_its_metric_and_is_named_and_not_the_file(tmp_path: Path) -> None:
    for value in (float("nan"), float("inf"), -1.0, "12", True, 1e30, [1], {}):
        doc = json.loads((DATA / "vllm-good1.json").read_text()) | {"median_ttft_ms": value}
        (tmp_path / "x.json").write_text(json.dumps(doc))
        (run,) = read(tmp_path / "x.json")
        assert run.stat("ttft").empty and run.stat("tpot").p50 == pytest.approx(0.050, rel=0.02), value
        assert [u.split(":")[0] for u in run.unread] == ["median_ttft_ms"], value


def test_lists_of_different_lengths_are_no_list_of_the_run(tmp_path: Path) -> None:
    doc = json.loads((DATA / "vllm-good1.json").read_text())
    doc["ttfts"].pop()
    (tmp_path / "x.json").write_text(json.dumps(doc))
    (run,) = read(tmp_path / "x.json")
    assert "different lengths: input_lens 16" in run.unlisted and "ttfts 15" in run.unlisted
    assert run.requests == () and run.records == () and run.stat("ttft").p50 is not None


def test_a_line_that_broke_off_costs_itself_and_is_said(tmp_path: Path) -> None:
    whole = (DATA / "sglang-two.jsonl").read_text()
    (tmp_path / "x.jsonl").write_text(whole[: len(whole) - 200])
    (run,) = read(tmp_path / "x.jsonl")
    assert "line 2" in run.facts["unreadable_beside"]


ANYTHING: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(min_value=10**300, max_value=10**301), st.floats(), st.text(max_size=5),
    st.just("\ud800"), st.just([]), st.just({}), st.just([[1]]), st.just({"value": "x"}), st.just([None]), st.just(-5),
)  # fmt: skip


def places(doc: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place of a document that holds a value."""
    below = doc.items() if isinstance(doc, dict) else enumerate(doc) if isinstance(doc, list) else ()
    return [here] * bool(here) + [p for k, v in below for p in places(v, (*here, k))]


def spoiled(doc: Any, place: tuple[Any, ...], value: Any) -> Any:
    doc = copy.deepcopy(doc)
    at = doc
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    return doc


@pytest.mark.parametrize("name", CAPTURES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(data=st.data())
def test_any_one_value_of_a_capture_may_be_anything_for_reader_and_lint(
    name: str, data: st.DataObject, tmp_path: Path
) -> None:
    lines = [json.loads(line) for line in (DATA / name).read_text().splitlines()]
    doc = lines[0]
    place = data.draw(st.sampled_from(places(doc)))
    value = data.draw(ANYTHING)
    target = tmp_path / Path(name).name
    for beside in (DATA / name).parent.iterdir() if "/" in name else ():
        (tmp_path / beside.name).write_bytes(beside.read_bytes())
    target.write_text("\n".join(json.dumps(d) for d in [spoiled(doc, place, value), *lines[1:]]))
    try:
        runs = read(tmp_path / "profile_export_aiperf.json" if "/" in name else target)
        "".join(f.seen + f.result for f in lint([Given("it", runs)]).findings).encode()
    except WrongUse as e:
        str(e).encode(errors="strict")
