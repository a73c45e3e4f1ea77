"""Numbers and texts as printed, on values one can check by hand."""

from __future__ import annotations

import math

import pytest

from profile_and_optimize.core.verdict import Call, Effect
from profile_and_optimize.report.contexts import context_rows
from profile_and_optimize.report.forest import LEFT, RIGHT, Axis, ticks
from profile_and_optimize.report.html import minus
from profile_and_optimize.report.markdown import esc
from profile_and_optimize.report.text import COLUMNS, wrap
from profile_and_optimize.report.words import (
    coverage,
    decimals_for,
    effect_parts,
    interval_words,
    number,
    plain,
    span,
    width,
)

SURE = Effect("a", math.log(1.1), math.log(1.05), math.log(1.16), 0.005, 5, 0.001, Call.BETTER, "so")
NOT_SURE = Effect("a", None, None, None, 0.01, 1, None, Call.UNKNOWN, "one block", 3)


@pytest.mark.parametrize(
    ("value", "text"), [(None, "unknown"), (319.652, "319.7"), (9.0381, "9.038"), (12345.6, "12346"), (0.0, "0")]
)
def test_four_significant_digits(value: float | None, text: str) -> None:
    assert number(value) == text


def test_a_column_has_the_decimals_of_its_smallest_number() -> None:
    assert decimals_for([100.2, 45.19]) == 2
    assert decimals_for([None, 0.0]) == 0


def test_effect_and_its_coverage() -> None:
    assert effect_parts(SURE) == ("+10.0%", "+5.0% to +16.0%")
    assert coverage(SURE) == "99%"
    assert effect_parts(NOT_SURE) == ("unknown", "") and coverage(NOT_SURE) == "unknown"


def test_one_block_has_no_interval() -> None:
    assert interval_words({"estimate": 5.0, "lower": None, "upper": None, "n": 1}, 1) == ("5.0", "no interval (n=1)")
    assert interval_words(None, 1) == ("unknown", "")


def test_span_is_unknown_where_any_is() -> None:
    assert span([36.0, 36.0]) == "36.0"
    assert span([35.9, 36.2]) == "35.9 to 36.2"
    assert span([36.0, None]) == span([]) == "unknown"


def test_hidden_characters_are_gone_and_lines_joined() -> None:
    assert plain("a\x1b[31mb\u202ec\u200bd\ne\u2028f\x9b") == "a[31mbcd e f"


def test_wide_characters_take_two_columns() -> None:
    assert width("模型a") == 5
    assert all(width(line) <= COLUMNS for line in wrap("模型 " * 90))


def test_minus_signs_only_before_numbers() -> None:
    assert minus("-0.8% to +1.2%, --max-num-seqs 1 b-1") == "\u22120.8% to +1.2%, --max-num-seqs 1 b-1"


def test_markdown_stays_text() -> None:
    assert esc("<img src=x>|`a`[b](c)") == "&lt;img src=x&gt;\\|\\`a\\`\\[b\\]\\(c\\)"


def test_axis_ends_where_it_says() -> None:
    axis = Axis(-0.1, 0.1)
    assert (axis.x(-0.1), axis.x(0.1), axis.x(9.9)) == (LEFT, RIGHT, RIGHT)
    assert "0%" in [t.text for t in ticks(axis)] and len(ticks(axis)) <= 9


@pytest.mark.parametrize(("low", "high"), [(-13.2, 16.4), (-40.0, 40.0), (-900.0, 900.0), (-0.01, 3.2), (-0.2, 1e6)])
def test_an_interval_of_millions_of_percent_has_nine_ticks_and_no_more(low: float, high: float) -> None:
    """Two blocks of a loud machine: +15.8% (-100.0% to +213278198.5%) made half a gigabyte of ticks."""
    words = [t.text for t in ticks(Axis(low, high))]
    assert 2 <= len(words) <= 9 and "0%" in words and len(set(words)) == len(words)


def test_ticks_beyond_percentages_are_powers_of_ten() -> None:
    assert [t.text for t in ticks(Axis(math.log(0.0005), math.log(2e5)))] == ["×0.01", "0%", "×100", "×10000"]


def test_a_field_differs_only_within_a_workload() -> None:
    def row(cell: str, workload: str, flags: str) -> dict[str, object]:
        context = {"flags": {"asked": flags, "observed": "unknown"}, "load": {"asked": workload, "observed": "unknown"}}
        return {"cell": cell, "workload": workload, "concurrency": 1, "context": context}

    found = {
        r.name: r
        for r in context_rows([row("a", "w", "x"), row("a", "v", "x"), row("b", "w", "y"), row("b", "v", "y")])
    }
    assert found["flags"].differs and not found["load"].differs
    assert [v.holders for v in found["load"].values] == ["every arm at w.c1", "every arm at v.c1"]
    assert [v.holders for v in found["flags"].values] == ["a", "b"]
