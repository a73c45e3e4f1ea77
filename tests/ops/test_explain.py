"""explain: what it prints can be followed by hand to the printed number, and a number that was changed is found out."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy import stats as st
from tests.campaign.test_looks import extended, plan_of, run_at
from tests.conftest import publish
from tests.report.report_help import hostile

from profile_and_optimize.analysis.decide import decide
from profile_and_optimize.campaign.evidence_of import load_evidence
from profile_and_optimize.campaign.selection import Judged
from profile_and_optimize.cli.main import run as pao
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.workload import Point, Workload
from profile_and_optimize.ops.base import Result
from profile_and_optimize.ops.explain import ExplainRequest, run
from profile_and_optimize.optimize.publish import derived
from profile_and_optimize.report.explain.agree import checks
from profile_and_optimize.report.explain.catalogue import catalogue, find
from profile_and_optimize.report.explain.draw import text
from profile_and_optimize.report.explain.number import Case, Number
from profile_and_optimize.report.explain.page import explain, to_json
from profile_and_optimize.testing.synthetic import synthetic_plan, synthetic_run

TRIAL = "cells/fast/raw/b001-short-chat.c4-a1.json"
TPOT = "cells.fast.short-chat.c4.tpot_ms.p50"


@cache
def everything(run_: Path) -> Case:
    """Of a run that nobody writes into."""
    ev = load_evidence(run_)
    return Case.of(ev, decide(ev))


@cache
def numbers_of(run_: Path) -> dict[str, Number]:
    return catalogue(everything(run_))


def told(run_: Path, name: str) -> dict:
    return to_json(explain(everything(run_), numbers_of(run_)[name]))


def page(run_: Path, name: str) -> str:
    return text(explain(everything(run_), numbers_of(run_)[name]))


def ask(run_: Path, number: str | None = None) -> Result:
    return run(ExplainRequest(campaign=str(run_), number=number), print)


def section(shown: str, title: str) -> list[list[str]]:
    """The rows under a heading of the printed page, taken apart where two blanks stand."""
    lines = shown.split("\n")
    start = next(i for i, line in enumerate(lines) if line.startswith(title))
    end = next((i for i in range(start, len(lines)) if not lines[i]), len(lines))
    return [re.split(r" {2,}", line.strip()) for line in lines[start + 1 : end]]


def printed_values(shown: str) -> dict[str, float]:
    return {row[0]: float(row[1]) for row in section(shown, "Values on the way") if len(row) == 3}


@pytest.fixture(scope="module")
def raced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    speeds = {f"x{i}": 10.0 - 0.3 * i for i in range(6)}
    return publish(run_at(tmp_path_factory.mktemp("raced"), plan_of(*speeds, race_rounds=4), speeds))


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten questions; the fake server answers with their last word, which is wrong for two of them."""
    folder = tmp_path_factory.mktemp("asked")
    rows = [{"question": f"say w{i}", "answer": "x" if i < 2 else f"w{i}"} for i in range(10)]
    (folder / "q.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return publish(synthetic_run(folder / "20261121T090000Z-asked", synthetic_plan(questions=str(folder / "q.jsonl"))))


@pytest.mark.parametrize("name", ["effect.fast", "effect.slow", "aa.effect"])
def test_the_printed_formula_leads_from_the_printed_values_to_the_printed_number(closed_run: Path, name: str) -> None:
    shown = page(closed_run, name)
    v, rows = printed_values(shown), section(shown, "y of every arm")
    arms = [h.removeprefix("y(").removesuffix(")") for h in rows[0][1:-2]]
    y = np.array([[float(c) for c in row[1 : 1 + len(arms)]] for row in rows[1:]])
    arm = {"effect.fast": "fast", "effect.slow": "slow", "aa.effect": "aa"}[name]
    d = y[:, arms.index(arm)] - y[:, arms.index("baseline")]
    left = y - y.mean(axis=0) - y.mean(axis=1, keepdims=True) + y.mean()
    n, a = y.shape
    own, pooled = d.std(ddof=1) / math.sqrt(n), math.sqrt(2 * (left**2).sum() / ((n - 1) * (a - 1)) / n)
    level = v["Holm"] * v["share"] if "Holm" in v else v["alpha"]
    t = st.t.isf(level, v["df"])
    by_hand = (n, d.mean(), own, pooled, max(own, pooled), level, t)
    assert by_hand == pytest.approx([v[k] for k in ("n", "m", "own", "pooled", "SE", "level", "t")], rel=1e-6)
    half = v["t"] * v["SE"]
    for part, log_ratio in (("", d.mean()), (".lower", d.mean() - half), (".upper", d.mean() + half)):
        assert told(closed_run, name + part)["printed"] == f"{round(math.expm1(log_ratio), 3) + 0.0:+.1%}"


def test_the_log_ratios_of_a_block_average_to_its_difference(closed_run: Path) -> None:
    shown = page(closed_run, "champion.effect")
    rows = [[int(r[0]), *map(float, r[3:])] for r in section(shown, "d(b) is the mean")[1:]]
    d = {int(r[0]): float(r[5]) for r in section(shown, "y of every arm")[1:]}
    for block in (1, 2, 3):
        here = [r for r in rows if r[0] == block]
        assert np.mean([math.log(r[1] / r[2]) for r in here]) == pytest.approx(d[block], rel=1e-7)
        assert np.mean([r[3] for r in here]) == pytest.approx(d[block], rel=1e-7)


def test_a_cell_follows_from_its_blocks_and_a_block_from_its_trial(closed_run: Path) -> None:
    shown = page(closed_run, TPOT)
    x = [float(r[1]) for r in section(shown, "x(b)")[1:]]
    logs = np.log(x)
    half = st.t.ppf(0.975, len(x) - 1) * logs.std(ddof=1) / math.sqrt(len(x))
    ends = [math.exp(v) for v in (logs.mean(), logs.mean() - half, logs.mean() + half)]
    assert [told(closed_run, TPOT + part)["printed"] for part in ("", ".lower", ".upper")] == [f"{e:.3f}" for e in ends]
    for name, value in zip(told(closed_run, TPOT)["see"], x, strict=True):
        v = printed_values(page(closed_run, name))
        assert v["v8"] + 0.5 * (v["v9"] - v["v8"]) == pytest.approx(value)


def test_the_records_shown_are_those_of_the_file_and_give_the_value_by_hand(closed_run: Path) -> None:
    record = told(closed_run, "trials.fast.b001-short-chat.c4-a1.tpot_ms.p50")["records"][0]
    columns = json.loads((closed_run / TRIAL).read_text())["columns"]
    at = columns["index"].index(record["index"])
    assert [record[k] for k in ("sent_ns", "first_chunk_ns", "done_ns", "output_tokens", "chunks")] == [
        columns[k][at] for k in ("sent_ns", "first_chunk_ns", "done_ns", "completion_tokens", "chunks")
    ]
    by_hand = (record["last_chunk_ns"] - record["first_chunk_ns"]) / (record["output_tokens"] - 1) / 1e6
    assert record["by_hand"] == [
        f"tpot = (last chunk - first chunk) / (output tokens - 1) = ({record['last_chunk_ns']} - {record['first_chunk_ns']}) ns / "
        f"({record['output_tokens']} - 1) = {by_hand:.10g} ms"
    ]


def test_an_output_rate_is_the_tokens_inside_over_the_seconds(closed_run: Path) -> None:
    name = "trials.fast.b001-short-chat.c4-a1.output_throughput_tok_s"
    v = printed_values(page(closed_run, name))
    assert f"{v['tokens'] / v['seconds']:.1f}" == told(closed_run, name)["printed"]
    # Sixteen requests in four slots: the first four finish where the window begins, the last four start where it ends.
    assert v["tokens"] == 8 * 16


def test_accuracy_follows_from_the_answers(asked: Path) -> None:
    data = told(asked, "accuracy.fast")
    assert (data["printed"], data["values"]["right"]["value"]) == ("80.0%", 8)
    ends = [f"{q:.1%}" for q in (st.beta.ppf(0.025, 8, 3), st.beta.ppf(0.975, 9, 2))]
    assert [told(asked, f"accuracy.fast.{end}")["printed"] for end in ("lower", "upper")] == ends
    assert data["tables"][0]["rows"][0] == {"question": 1, "expected": "x", "said": "w0"}
    loss = told(asked, "accuracy.fast.loss")
    assert loss["printed"].startswith("+0.00 (") and [loss["values"][k]["value"] for k in ("lost", "won")] == [0, 0]


def test_a_race_follows_by_least_squares_from_the_blocks_shown(raced: Path) -> None:
    data = told(raced, "race.x1")
    rows = next(t["rows"] for t in data["tables"] if "every race block" in t["title"])
    arms, blocks = sorted({r["arm"] for r in rows} - {"baseline"}), sorted({r["block"] for r in rows})
    x = np.array([[r["arm"] == a for a in arms] + [r["block"] == b for b in blocks] for r in rows], float)
    found = np.linalg.lstsq(x, np.array([r["y"] for r in rows]), rcond=None)[0][arms.index("x1")]
    assert data["printed"] == f"{math.expm1(found):+.1%}"
    assert {t["path"] for t in data["trials"]} == {
        str(p.relative_to(raced)) for p in raced.glob("cells/*/raw/r*-a1.json")
    }
    lost = told(raced, "effect.x0")
    assert lost["printed"] == "unknown" and "left in the race" in lost["formula"][0] and "race.x0" in lost["see"]
    assert all("race" in t["note"] for t in lost["do_not_count"]) and lost["do_not_count"]


def test_an_end_taken_from_an_earlier_look_says_so(tmp_path: Path) -> None:
    run_ = run_at(tmp_path, plan_of("near", blocks=3), {"near": 9.9}, noise=0.02)
    extended(run_, 1)
    data = told(publish(run_), "effect.near.lower")
    looks = next(t["rows"] for t in data["tables"] if t["title"].startswith("The looks"))
    assert [r["after block"] for r in looks] == [2, 3, 4] and data["values"]["n"]["value"] == 4
    line = next(x for x in data["formula"] if x.startswith("lower"))
    assert "of the look after block 3" in line and looks[1]["lower"] == data["printed"] != looks[2]["lower"]


def test_a_failed_arm_says_why_there_is_no_number(closed_run: Path) -> None:
    for name in ("effect.broken", "cells.broken.long-in.c4.tpot_ms.p50"):
        data = ask(closed_run, name).data
        assert data["printed"] == "unknown" and data["agrees"] and data["trials"] == []
        assert data["formula"][0] == "there is no number: ValueError: --explode is not supported on this device"
        assert "failed for good in phase admission" in data["formula"][1]


def test_one_block_gives_its_ratio_and_no_effect(tmp_path: Path) -> None:
    run_ = publish(synthetic_run(tmp_path / "20261121T090000Z-one", synthetic_plan(blocks=1)))
    assert "fewer than 2 blocks" in told(run_, "effect.fast")["formula"][0]
    assert told(run_, "effect.fast.block.1")["printed"] == "+10.6%"
    assert "no interval: a single block" in told(run_, TPOT)["formula"][-1]
    assert told(run_, "champion.effect")["printed"] == "the reference"


def test_a_run_without_any_whole_block_lists_what_it_has(tmp_path: Path) -> None:
    run_ = synthetic_run(tmp_path / "20261121T090000Z-none", synthetic_plan())
    lines = (run_ / "journal.jsonl").read_bytes().split(b"\n")
    cut = next(i for i, line in enumerate(lines) if b"b001-" in line and b'"kind":"wrote"' in line) + 1
    (run_ / "journal.jsonl").write_bytes(b"\n".join(lines[:cut]) + b"\n")
    data, effect = ask(run_).data, ask(run_, "effect.fast")
    assert "effect.fast" in {n["name"] for n in data["numbers"]} and effect.data["printed"] == "unknown"
    assert effect.data["checks"] == [] and effect.data["agrees"] is None and "COMPUTED anew" in effect.text
    assert [r["note"].split(" lacks ")[0] for r in ask(run_, "cost.trials").data["do_not_count"]] == ["block 1:"]


def check_pages(case: Case) -> int:
    """A number of every sort: it can be told, in at most 100 columns and without a character that acts on a terminal."""
    numbers = catalogue(case)
    sorts = {(n.tell.func, re.sub(r"\d+", "", n.name.split(".")[-1])): n for n in numbers.values()}
    for n in sorts.values():
        assert set(n.tell().see) <= numbers.keys()
        shown = text(explain(case, n))
        assert max(map(len, shown.split("\n"))) <= 100, n.name
        assert not [c for c in shown if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")], n.name
    return len(sorts)


def test_every_sort_of_number_can_be_told_on_every_kind_of_run(closed_run: Path, raced: Path, asked: Path) -> None:
    for run_ in (closed_run, raced, asked):
        assert check_pages(everything(run_)) > 40


def test_outside_text_stays_text(closed_run: Path) -> None:
    ev = hostile(load_evidence(closed_run))
    assert check_pages(Case.of(ev, decide(ev))) > 40


def test_two_arms_whose_names_fall_together_keep_their_numbers(tmp_path: Path) -> None:
    run_ = run_at(tmp_path, plan_of("a", "a.lower"), {"a": 9.0, "a.lower": 20.0})
    numbers = numbers_of(run_)
    assert numbers["effect.a.lower"].text.startswith("+") and numbers["effect.a.lower~2"].text == "-50.0%"


def test_the_list_has_names_that_can_be_guessed_with_values_as_printed(closed_run: Path) -> None:
    data = ask(closed_run).data
    printed = {n["name"]: n["printed"] for n in data["numbers"]}
    report = (closed_run / "report.txt").read_text()
    assert f"{printed['effect.fast']} ({printed['effect.fast.lower']} to {printed['effect.fast.upper']})" in report
    assert f"{printed[TPOT]} ({printed[TPOT + '.lower']} to {printed[TPOT + '.upper']})" in report
    assert f"{printed['aa.effect']} ({printed['aa.effect.lower']} to {printed['aa.effect.upper']})" in report
    assert printed["champion.effect"] == printed["effect.fast"]
    assert {"gate.slo", "cost.trials", "plan.margin", "cells.slow.long-in.c4.output_throughput_tok_s"} <= printed.keys()
    some = ask(closed_run, "effect.fa").data["numbers"]
    assert some and all(n["name"].startswith("effect.fast") for n in some)


def test_every_figure_of_the_report_has_a_name(closed_run: Path) -> None:
    printed = " ".join(n.text for n in numbers_of(closed_run).values())
    shown = (closed_run / "report.txt").read_text()
    tables = shown[shown.index("Workloads:") : shown.index("Accuracy:")]
    figures = set(re.findall(r"[+-]?\d+\.\d+%?", re.sub(r"ISL.*|.*tokens asked.*", "", tables)))
    assert len(figures) > 100 and {f for f in figures if f not in printed} == set()


@pytest.mark.parametrize(("value", "names"), [
    ("+10.9%", ["effect.fast", "effect.fast.block.3"]), ("10.9%", ["effect.fast", "effect.fast.block.3"]),
    ("\u221250.0%", ["effect.slow", "effect.slow.block.2"]), ("10.9", ["effect.fast", "effect.fast.block.3"]),
    ("-50", ["effect.slow", "effect.slow.block.2"]), ("50", ["effect.slow", "effect.slow.block.2"]),
    ("+11%", ["effect.fast", *(f"effect.fast.block.{i}" for i in (1, 2, 3)), "effect.fast.short-chat.c4.output_throughput_tok_s"]),
])  # fmt: skip
def test_a_value_that_several_print_lists_them(closed_run: Path, value: str, names: list[str]) -> None:
    data = ask(closed_run, value).data
    assert [n["name"] for n in data["numbers"]] == names


@pytest.mark.parametrize("value", ["356.0", "356.0 tok/s", "356", "356 tok/s"])
def test_a_value_that_one_prints_is_explained(closed_run: Path, value: str) -> None:
    assert ask(closed_run, value).data["name"] == "cells.fast.short-chat.c4.output_throughput_tok_s"


@pytest.mark.parametrize(
    ("asked_for", "near"),
    [
        ("8.98", TPOT),
        ("+10.5%", "effect.fast.block.1"),
        ("efect.fast", "effect.fast"),
        ("11.1", "effect.fast ("),
        ("+50.0%", "effect."),
        ("356%", "effect."),
        ("1e400", "lists them all"),
        ("0x10", "lists them all"),
    ],
)
def test_what_nobody_prints_is_refused_with_what_is_near(closed_run: Path, asked_for: str, near: str) -> None:
    with pytest.raises(WrongUse, match=re.escape(near)):
        ask(closed_run, asked_for)


@pytest.mark.parametrize(("shown", "asked_for", "finds"), [
    ("+11.6%", "11.6", True), ("+11.6%", "11.6%", True), ("+11.6%", "12", True), ("+11.6%", "-11.6", False), ("-11.6%", "+11.6", False),
    ("1.16", "1.16%", False), ("412.7", "413", True), ("412.7", "412", False), ("412.7", "410", False), ("1234.5", "1,234.5", True),
    ("12.5", "12", True), ("12.5", "13", True), ("413", "412.9", False), ("+0.40 (-1.20 to +2.00)", "0.4", True), ("unknown", "0", False),
])  # fmt: skip
def test_what_is_typed_finds_the_digits_that_are_printed(shown: str, asked_for: str, finds: bool) -> None:
    number = Number("a", shown, "", lambda: None)  # type: ignore[arg-type, return-value]
    if finds:
        assert find({"a": number}, asked_for).one == number
    else:
        with pytest.raises(WrongUse):
            find({"a": number}, asked_for)


def test_an_exact_match_is_not_lost_among_those_that_round_to_it() -> None:
    exact, near = (Number(n, t, "", lambda: None) for n, t in (("a", "11.6 ms"), ("b", "11.62 ms")))  # type: ignore[arg-type, return-value]
    assert find({"a": exact, "b": near}, "11.6").one == exact


def swap(name: str, old: str, new: str) -> Callable[[Path], object]:
    def change(r: Path) -> None:
        assert old in (r / name).read_text()
        (r / name).write_text((r / name).read_text().replace(old, new))

    return change


def edit_choice(r: Path) -> None:
    doc = json.loads((r / "champion_select.json").read_text())
    next(a for a in doc["arms"] if a["cell"] == "fast")["effect"]["estimate"] += 0.001
    (r / "champion_select.json").write_text(json.dumps(doc))


TAMPERED: dict[str, tuple[str, Callable[[Path], object]]] = {
    "the stored choice": ("champion_select.json", edit_choice),
    "the text": ("report.txt", swap("report.txt", "+10.9% (", "+11.9% (")),
    "the page": ("report.html", swap("report.html", "+10.9%", "+11.9%")),
    "the line is gone": ("CHAMPION.md", swap("CHAMPION.md", "+10.9%", "")),
    "a record": (TRIAL, swap(TRIAL, '"sent_ns":[0,', '"sent_ns":[1,')),
    "the plan": ("plan.json", swap("plan.json", '"budget_s": 600.0', '"budget_s": 601.0')),
    "the root": ("manifest.json", swap("manifest.json", '"evidence_root": "', '"evidence_root": "0')),
    "the journal": ("journal.jsonl", lambda r: (r / "journal.jsonl").open("ab").write(b"{}\n")),
}  # fmt: skip


@pytest.mark.parametrize("kind", TAMPERED)
def test_a_number_that_does_not_agree_is_said_aloud(
    run_copy: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file, change = TAMPERED[kind]
    change(run_copy)
    code = pao(["explain", str(run_copy), "effect.fast"])
    shown = capsys.readouterr()
    assert code == 1 and "DOES NOT AGREE" in shown.out and file in shown.out and "pao verify" in shown.err


def test_a_fault_elsewhere_is_a_warning_and_the_number_still_agrees(run_copy: Path) -> None:
    swap("report.txt", "fake-model", "other-model")(run_copy)
    result = ask(run_copy, "effect.fast")
    assert result.refusal is None and result.data["agrees"] and any("report.txt" in w for w in result.warnings)


def test_files_of_another_version_are_compared_by_what_they_store(run_copy: Path) -> None:
    swap("manifest.json", '"rendered_by": "', '"rendered_by": "0.0.')(run_copy)
    swap("report.txt", "+10.9% (", "about 11% (")(run_copy)
    result = ask(run_copy, "effect.fast")
    assert result.refusal is None and [c["file"] for c in result.data["checks"]] == ["champion_select.json"]
    edit_choice(run_copy)
    assert ask(run_copy, "effect.fast").refusal is not None


def test_what_it_tells_to_type_works_and_nothing_is_written(
    closed_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {p: p.read_bytes() for p in closed_run.rglob("*") if p.is_file()}
    for line in told(closed_run, "effect.fast")["again"]:
        assert pao(line.split()[1:]) == 0, line
    assert pao(["explain", str(closed_run), "-50.0%", "--json"]) == 0
    out = capsys.readouterr().out
    numbers = json.loads(out[out.rindex('{\n "schema"') :])["result"]["numbers"]
    assert [n["name"] for n in numbers] == ["effect.slow", "effect.slow.block.2"]
    assert pao(["explain", str(closed_run), "--nonsense"]) == 2
    assert before == {p: p.read_bytes() for p in closed_run.rglob("*") if p.is_file()}


def test_context_command_and_root_stand_beside_the_number(closed_run: Path) -> None:
    data = told(closed_run, "effect.fast")
    context = {c["name"]: c for c in data["context"]}
    assert context["flags"]["differs"] and context["node"]["values"][0]["observed"] == "fake-node"
    assert "driver" in data["unknown"]["environment"] and data["commands"]["fast"]["argv"][-1] == "--fast"
    assert data["evidence_root"] == json.loads((closed_run / "manifest.json").read_text())["evidence_root"]
    assert len(data["trials"]) == 12 and data["do_not_count"] == []


def test_an_open_loop_counts_from_the_intended_time_and_an_slo_shows_its_bounds(tmp_path: Path) -> None:
    point = Point(Workload("w", isl=16, osl=8), 4, 30, request_rate=50.0)
    plan = replace(synthetic_plan(blocks=2, focus="latency"), points=(point,), slo=(("ttft", 0.2),))
    run_ = publish(synthetic_run(tmp_path / "20261121T090000Z-open", plan))
    record = told(run_, "trials.fast.b001-w.r50-a1.ttft_ms.p50")["records"][1]
    assert record["by_hand"][0].startswith(
        f"ttft = first chunk - intended = {record['first_chunk_ns']} - {record['intended_ns']} ns"
    )
    rows = told(run_, "gate.slo")["tables"][0]["rows"]
    assert [(r["metric"], r["values"], r["upper bound"], r["limit"]) for r in rows] == [
        ("ttft_ms", 30, None, 200.0)
    ] * 2
    assert ask(run_, "cells.fast.w.r50.ttft_ms.p50").data["checks"][0]["agrees"]


def test_what_was_held_back_says_by_what(tmp_path: Path) -> None:
    run_ = run_at(tmp_path, plan_of("fast", blocks=3), {"fast": 7.0, "aa": 9.0})
    formula = "\n".join(told(run_, "effect.fast")["formula"])
    assert "after block 3 the interval lay beyond the margin, but: vetoed" in formula
    assert "veto: the baseline differed from itself by +1" in formula
    assert "VETO" in told(run_, "aa.effect")["formula"][-1]


def test_an_arm_that_may_not_be_compared_says_what_differs(closed_run: Path) -> None:
    ev = load_evidence(closed_run)
    moved = tuple(elsewhere(t) if t.key.arm == "fast" else t for t in ev.trials)
    case = Case.of(replace(ev, trials=moved), decide(replace(ev, trials=moved)))
    data = to_json(explain(case, catalogue(case)["effect.fast"]))
    assert data["printed"] == "unknown"
    assert "it may not be compared with baseline: node: fake-node | other" in data["formula"]


def elsewhere(t: Judged) -> Judged:
    context = {**t.file.context, "node": {"kind": "environment", "asked": "unknown", "observed": "other"}}
    return replace(t, file=replace(t.file, context=context))


def test_every_number_agrees_with_every_place_that_holds_it(closed_run: Path, raced: Path) -> None:
    for run_ in (closed_run, raced):
        case = everything(run_)
        given = {path: data for path, (_, data) in derived(case.ev, case.d).items()}
        found = {n.name: checks(n, given, given, pages=False) for n in numbers_of(run_).values()}
        assert [name for name, places in found.items() if not all(c.agrees for c in places)] == []
        stored = ("gate.slo", "champion.effect.coverage", "aa.effect.upper", "cells.aa.long-in.c4.failed")
        assert [name for name in stored if not found[name]] == []
