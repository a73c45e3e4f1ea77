"""The word that was probably meant."""

from __future__ import annotations

import pytest

from profile_and_optimize.core.near import did_you_mean, nearest, unknown


@pytest.mark.parametrize(("word", "near"), [
    ("verfiy", "verify"), ("Qwen", "qwen"), ("qwen-chat2", "qwen-chat"), ("zzz", ""), ("", ""),
])  # fmt: skip
def test_the_nearest_word_is_found_or_none(word: str, near: str) -> None:
    assert nearest(word, ["verify", "explain", "qwen", "qwen-chat"]) == near


def test_the_words_stand_behind_what_is_wrong() -> None:
    assert "there is no 'vrify'" + did_you_mean("vrify", ["verify"]) == "there is no 'vrify' (did you mean verify?)"
    assert unknown("verb", "vrify", ["verify"]) == "unknown verb 'vrify' (did you mean verify?); there are verify"
    assert did_you_mean("zzz", ["verify"]) == did_you_mean("verify", []) == ""
