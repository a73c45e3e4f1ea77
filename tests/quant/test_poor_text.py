"""Calibration text that is none: said with its figure, or refused."""

from __future__ import annotations

import random

import pytest

from profile_and_optimize.quant.pao_ptq.poor_text import require_fit
from profile_and_optimize.quant.pao_ptq.stop import Stop


def text(samples: int, kinds: int = 400, seed: int = 0) -> list[list[int]]:
    """Samples of 64 tokens, drawn as words are: the n-th with a weight of 1/n."""
    draw = random.Random(seed)
    return [draw.choices(range(kinds), [1 / (n + 3) for n in range(kinds)], k=64) for _ in range(samples)]


def test_text_as_people_write_it_says_nothing() -> None:
    assert require_fit(text(16), text(4, seed=1), "a file") == ()


@pytest.mark.parametrize(("samples", "says"), [
    ([[1, 2] * 32] * 7 + [[2, 1] * 32], "512 tokens of 2 kinds"), ([list(range(64))] * 8, "all 8 samples are the same"),
])  # fmt: skip
def test_the_absurd_is_refused_with_its_figure(samples: list[list[int]], says: str) -> None:
    with pytest.raises(Stop, match=says):
        require_fit(samples, text(2), "a file")


def test_each_weakness_is_told_with_its_figure() -> None:
    padded = [[*s[:32], *[7] * 32] for s in text(16)]
    assert "token 7 is 5" in require_fit(padded, text(2, seed=1), "f")[0]
    narrow = require_fit(text(64, kinds=20), text(2, seed=1), "f")
    assert any("only 20 kinds of tokens among 4096" in w for w in narrow)
    twice = require_fit([*text(8), *text(8)], text(2, seed=1), "f")
    assert twice == ("8 of 16 samples are repeats of others",)
    seen = text(16)
    assert require_fit(seen, seen[:2], "f") == (
        "100% of the held-out text stands in the calibration text too: KL on it is too good",
    )
