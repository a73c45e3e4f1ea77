"""What the pages of report.pdf show: every number where it belongs, divided by what it says, and nothing dropped silently."""

from __future__ import annotations

from collections import Counter

import pytest
from page_rows import CPU, GPU, row, source

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.report.pages.axes import axis, linear_ticks, log_ticks, tick_words
from profile_and_optimize.report.pages.build import report_of
from profile_and_optimize.report.pages.fit import cut, ems, wrap
from profile_and_optimize.report.pages.heat import number_words, shade
from profile_and_optimize.report.pages.model import HeatPage, Report, ScatterPage, TextPage
from profile_and_optimize.report.pages.source import Options
from profile_and_optimize.report.pages.variants import variant_of
from profile_and_optimize.testing.smoke import smoke_source

COVERAGE = (
    "Coverage: 40 atlas cells | 38 full sweeps | 1 partial sweeps | 1 failed cells | 232 plot-ready concurrency points"
)


@pytest.fixture(scope="module")
def smoke() -> Report:
    return report_of(smoke_source())


def panes(r: Report) -> list[ScatterPage]:
    return [p for p in r.pages if isinstance(p, ScatterPage)]


def tables(r: Report) -> list[HeatPage]:
    return [p for p in r.pages if isinstance(p, HeatPage)]


def told(r: Report) -> str:
    return " ".join(line.text.strip() for p in r.pages if isinstance(p, TextPage) for line in p.lines)


def test_the_smoke_has_the_seed_s_coverage(smoke: Report) -> None:
    assert smoke.coverage == COVERAGE
    assert [p.kind for p in smoke.pages] == ["scatter", "heat", "champion", "completeness"]
    page = panes(smoke)[0]
    assert COVERAGE in page.lines
    assert [r.head for r in page.rows] == [f"{m} batched tokens" for m in (1024, 2048, 4096, 8192, 16384)]
    assert sum(len(s.dots) for r in page.rows for s in r.left.series) == 232
    assert sum(len(s.dots) for r in page.rows for s in r.right.series) == 232


def test_the_smoke_s_evicted_cells_are_listed_and_not_plotted(smoke: Report) -> None:
    assert "20 MTP context cells evicted" in told(smoke)
    assert "h100-fp8-tp16-ep-mtp-mbt1024" in told(smoke)
    plotted = {s.cell for r in panes(smoke)[0].rows for s in r.left.series}
    assert len(plotted) == 39 and "h100-fp8-tp16-ep-mtp-mbt1024" not in plotted


def test_colour_is_hardware_and_tp_shape_is_ep_or_tp_hollow_is_mtp(smoke: Report) -> None:
    page = panes(smoke)[0]
    assert page.legend.hues == ((0, "H100, TP16"), (1, "B200, TP8"), (2, "GB300, TP4"))
    looks = Counter((s.hue, s.shape, s.fill) for s in page.rows[0].left.series)
    assert looks == Counter({(0, "EP", "full"): 1, (0, "TP", "full"): 1, (1, "EP", "full"): 1, (1, "TP", "full"): 1,
                             (1, "EP", "hollow"): 1, (2, "EP", "full"): 1, (2, "TP", "full"): 1, (2, "EP", "hollow"): 1})  # fmt: skip


def test_loads_1_8_and_32_have_labels(smoke: Report) -> None:
    dots = [d.label for r in panes(smoke)[0].rows for s in r.left.series for d in s.dots if d.label]
    assert set(dots) == {"1", "8", "32"}


def test_the_tables_are_c_8_16_32_by_throughput_and_ttft(smoke: Report) -> None:
    page = tables(smoke)[0]
    assert [t.title for pair in page.pairs for t in pair] == [
        f"C={c}   {what}" for c in (8, 16, 32) for what in ("output tok/s per GPU", "mean TTFT, ms")
    ]
    assert page.pairs[0][0].columns == ("1024", "2048", "4096", "8192", "16384") and len(page.pairs[0][0].rows) == 8
    gray = [
        (t.title[:4].strip(), c.text)
        for pair in page.pairs
        for t in pair
        for r in t.cells
        for c in r
        if c.shade is None
    ]
    assert (
        sorted(gray)
        == [("C=16", "failed")] * 2 + [("C=32", "failed")] * 2 + [("C=32", "partial")] * 2 + [("C=8", "failed")] * 2
    )


def test_output_is_divided_by_the_gpus_and_says_so() -> None:
    page = panes(report_of(source(row("a", GPU, output=800.0), row("b", {**GPU, "dp": "2"}, output=800.0))))[0]
    found = {s.cell: s.dots[0].y for s in page.rows[0].right.series}
    assert found == {"a": 200.0, "b": 100.0}
    assert page.rows[0].right_axes[1].label == "output tok/s per GPU"


def test_a_cpu_node_is_divided_by_nothing_and_says_so() -> None:
    page = panes(report_of(source(row("a", CPU, output=800.0))))[0]
    assert page.rows[0].right.series[0].dots[0].y == 800.0
    assert page.rows[0].right_axes[1].label == "output tok/s per node (CPU)" and page.heads[1].endswith(
        "per node (CPU)"
    )


def test_an_unknown_number_of_gpus_divides_nothing_and_stands_on_a_page_of_its_own() -> None:
    without = {k: v for k, v in GPU.items() if k != "tp"}
    r = report_of(source(row("a", GPU), row("b", without)))
    assert [p.heads[1] for p in panes(r)] == [
        "tok/s/user against tok/s per GPU",
        "tok/s/user against tok/s whole deployment, GPUs unknown",
    ]
    assert panes(r)[1].rows[0].right.series[0].dots[0].y == 800.0
    assert "1 cell: the number of GPUs, so that throughput is not divided" in told(r)


def test_unknown_batched_tokens_have_a_row_and_a_column_of_their_own_at_the_end() -> None:
    r = report_of(source(row("a", {k: v for k, v in GPU.items() if k != "max_num_batched_tokens"}), row("b", GPU)))
    assert [x.head for x in panes(r)[0].rows] == ["2048 batched tokens", "batched tokens unknown"]
    assert tables(r)[0].pairs[0][0].columns == ("2048", "unknown")


def test_what_nobody_knows_is_called_unknown() -> None:
    r = report_of(source(row("a", {}, engine="endpoint"), row("b", {}, engine="endpoint")))
    page = panes(r)[0]
    assert page.legend.hues == ((-1, "hardware unknown, TP unknown"),)
    assert (page.legend.shapes, page.legend.fills) == (("unknown",), ("half",))
    for what in ("max_num_batched_tokens", "hardware", "tensor parallelism", "EP or TP", "MTP"):
        assert f"every cell: {what}" in told(r)


@pytest.mark.parametrize(("engine", "flags", "seen", "strategy", "spec"), [
    ("vllm", "engine defaults", {"tp": "8"}, "TP", "off"),
    ("vllm", "--enable-expert-parallel", {"tp": "8"}, "EP", "off"),
    ("vllm", '--speculative-config {"method":"deepseek_mtp"}', {"tp": "8"}, "TP", "MTP"),
    ("sglang", "--ep-size 4 --speculative-algorithm EAGLE3", {"tp": "4"}, "EP", "EAGLE3"),
    ("sglang", "--ep-size=1", {"tp": "4"}, "TP", "off"),
    ("vllm", "engine defaults", {}, "unknown", "off"),
    ("endpoint", "engine defaults", {"tp": "8"}, "unknown", "unknown"),
    ("vllm", "engine defaults", {"tp": "8", "ep": "True"}, "EP", "off"),
])  # fmt: skip
def test_ep_and_mtp_come_from_what_was_seen_or_asked(
    engine: str, flags: str, seen: dict[str, str], strategy: str, spec: str
) -> None:
    v = variant_of(row("a", seen, engine=engine, flags=flags))
    assert (v.strategy, v.spec) == (strategy, spec)


def test_data_parallel_attention_of_sglang_shares_the_gpus_of_tp() -> None:
    seen = {"hardware": "gpu:H100", "tp": "8"}
    assert variant_of(row("a", seen, engine="sglang", flags="--dp-size 8 --enable-dp-attention")).gpus == 8
    assert variant_of(row("a", seen, engine="sglang", flags="--dp-size 2")).gpus == 16


def test_a_failed_cell_is_gray_and_named_with_its_reason() -> None:
    lost = row("lost", {}, status="failed", output=None, ttft=None, tpot=None, requests=None) | {
        "reason": "out of memory"
    }
    r = report_of(source(row("a", GPU), row("b", {**GPU, "max_num_batched_tokens": "8192"}), lost))
    table = tables(r)[0].pairs[0][0]  # a and b are one variant at two numbers of batched tokens
    assert table.columns == ("2048", "8192") and len(table.rows) == 2
    assert [c.text for c in table.cells[table.rows.index(("lost", ""))]] == ["failed", "failed"]
    assert "lost: out of memory" in told(r)


@pytest.mark.parametrize("status", ["failed", "raced", "evicted"])
def test_numbers_of_cells_that_do_not_count_are_not_plotted(status: str) -> None:
    r = report_of(source(row("a", GPU), row("gone", GPU, status=status)))
    assert [s.cell for s in panes(r)[0].rows[0].left.series] == ["a"]
    assert "1 plot-ready concurrency points" in r.coverage


def test_missing_partial_and_unknown_are_words_not_colours_alone() -> None:
    wide = {**GPU, "max_num_batched_tokens": "8192"}
    r = report_of(source(
        row("a1", GPU), row("a2", wide, load=16), row("b1", {**GPU, "tp": "8"}, status="partial"),
        row("b2", {**wide, "tp": "8"}, ttft=None),
    ))  # fmt: skip
    c8 = {
        n[0]: [c.text for c in cells]
        for n, cells in zip(tables(r)[0].pairs[0][1].rows, tables(r)[0].pairs[0][1].cells, strict=True)
    }
    assert c8 == {"TP4": ["100", "missing"], "TP8": ["100", "unknown"]}
    marks = [c for cells in tables(r)[0].pairs[0][1].cells for c in cells if c.state == "partial"]
    assert [(c.sub, c.shade) for c in marks] == [("partial", None)]


def test_arms_that_differ_in_other_flags_only_have_rows_of_their_own_and_columns_by_load() -> None:
    both = [row("baseline", CPU), row("eager", CPU, output=700.0), row("eager", CPU, output=900.0, load=16)]
    page = tables(report_of(source(*both)))[0]
    left, right = page.pairs[0]
    assert left.rows == (("baseline", "2048 batched tokens"), ("eager", "2048 batched tokens")) and right.rows == ()
    assert (left.columns, left.title, right.title) == (("C=8", "C=16"), "output tok/s per node (CPU)", "mean TTFT, ms")
    assert [[c.text for c in cells] for cells in left.cells] == [["800", "missing"], ["700", "900"]]
    assert "All rows: vllm, CPU EPYC, TP unknown, EP/TP unknown." in page.lines


def test_where_all_points_have_one_load_the_cells_are_named() -> None:
    page = panes(report_of(source(row("baseline", CPU), row("eager", CPU))))[0]
    assert [d.label for s in page.rows[0].left.series for d in s.dots] == ["baseline", "eager"]


def test_imported_numbers_never_stand_among_ours() -> None:
    other = row("a", GPU, output=900.0, n=1) | {"source": "imported", "tool": "vllm bench"}
    r = report_of(source(row("a", GPU), other))
    assert len(panes(r)) == len(tables(r)) == 2
    assert any("imported from vllm bench: another client, DRAFT" in x for x in panes(r)[1].lines)


def test_several_workloads_share_a_page_each_with_its_own_axes() -> None:
    r = report_of(source(row("a", CPU), row("a", CPU, workload="code", requests=400.0)))
    page = panes(r)[0]
    assert [x.head for x in page.rows] == ["chat, 2048 batched tokens", "code, 2048 batched tokens"]
    assert page.rows[0].left_axes[0] != page.rows[1].left_axes[0]
    assert [p[0].title for p in tables(r)[0].pairs] == [
        f"{w}   C=8   output tok/s per node (CPU)" for w in ("chat", "code")
    ]


def test_an_open_loop_is_called_by_its_rate() -> None:
    r = report_of(source(row("a", CPU, load=None, rate=2.5)))
    assert tables(r)[0].pairs[0][0].title.startswith("2.5 req/s")


def test_a_single_block_says_that_it_has_no_interval() -> None:
    r = report_of(source(row("a", CPU, n=1)))
    assert "n = 1 everywhere" in tables(r)[0].note
    assert tables(r)[0].pairs[0][0].cells[0][0].sub == ""
    mixed = report_of(source(row("a", CPU, n=1), row("b", CPU)))
    assert [c[0].sub for c in tables(mixed)[0].pairs[0][0].cells] == ["n=1", "±10% n=3"]


def test_nothing_measured_is_a_report_too() -> None:
    r = report_of(source(row("a", {}, status="partial", output=None, ttft=None, tpot=None, requests=None)))
    assert [p.kind for p in r.pages] == ["completeness"]
    assert "0 plot-ready concurrency points" in r.coverage


@pytest.mark.slow
def test_a_thousand_cells_are_paged_so_that_they_can_be_read() -> None:
    r = report_of(smoke_source(copies=25))
    assert r.coverage.startswith("Coverage: 1000 atlas cells | 950 full")
    assert {len(p.pairs[0][0].cells) <= 40 and len(p.pairs) == 1 for p in tables(r)} == {True}
    assert len({n[0] for p in tables(r) for n in p.pairs[0][0].rows}) == 1000
    assert all(len(p.rows) <= 5 and p.rows[0].left.note == "200 cells" for p in panes(r))
    assert "only those that nothing beats on both axes have labels" in panes(r)[0].note
    assert {len(p.lines) <= 58 for p in r.pages if isinstance(p, TextPage)} == {True}


def test_more_than_seven_colours_are_continued_on_another_page() -> None:
    r = report_of(source(*(row(f"c{i}", {**GPU, "tp": str(i)}) for i in range(1, 10))))
    assert [len(p.legend.hues) for p in panes(r)] == [7, 2]
    assert panes(r)[0].title.endswith("(part 1 of 2)")


def test_typed_lines_stand_on_the_page_and_are_called_typed() -> None:
    r = report_of(source(row("a", CPU), options=Options("Variants: mine", "Data source: theirs")))
    assert panes(r)[0].lines[:2] == ("Variants: mine", "Data source: theirs")
    assert "--variants-line Variants: mine" in told(r) and "not derived from the evidence" in told(r)
    for bad in ("two\nlines", "x" * 500, "\x1b[31m"):
        with pytest.raises(WrongUse):
            Options(bad)


def test_a_longer_text_is_cut_in_its_middle_and_never_wider_than_asked() -> None:
    assert cut("short", 10) == "short"
    found = cut("baseline-with-a-very-long-name-x1", 8)
    assert found.startswith("base") and found.endswith("x1") and "…" in found and ems(found) <= 8
    assert all(ems(line) <= 12 for line in wrap("one two " + "W" * 100 + " three", 12))
    assert wrap("a  b", 10) == ["a  b"] and wrap("", 5) == [""]


def test_axes_have_round_ticks() -> None:
    assert linear_ticks(0.0, 10.0, 6) == [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    assert log_ticks(1.0, 100.0, 7) == [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]
    assert [tick_words(v) for v in (0.25, 40, 1500, 20000, 3e6)] == ["0.25", "40", "1.5k", "20k", "3M"]
    wide = axis("x", [1.0, 100.0], 5)
    assert wide.log and wide.low < 1 and wide.high > 100
    for values in ([5.0], [1e-9, 1e12], [3.0, 3.0000001], []):
        found = axis("x", values, 5)
        assert found.low < found.high and len(found.ticks) <= 6


def test_darker_is_better_whatever_the_quantity() -> None:
    assert [shade(v, [1.0, 10.0, 100.0], True) for v in (1.0, 10.0, 100.0)] == [0.0, 0.5, 1.0]
    assert [shade(v, [1.0, 10.0, 100.0], False) for v in (1.0, 10.0, 100.0)] == [1.0, 0.5, 0.0]
    assert [number_words(v) for v in (0.3123, 9.84, 45.12, 812.3, 2435.2)] == ["0.312", "9.84", "45.1", "812", "2,435"]


def test_the_digest_holds_against_the_last_digits_and_changes_with_a_number() -> None:
    one, near, other = (report_of(source(row("a", CPU, output=v))).digest for v in (800.0, 800.0 * (1 + 1e-13), 801.0))
    assert one == near != other
