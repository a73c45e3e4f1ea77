"""Pinned sampling: what a server takes of it, found by asking; what is left to its generation_config is said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from profile_and_optimize.evals.pao_eval.sampling import NEUTRAL, Pins, settle, undecided, wanted, wrong_pins

EVERY = wanted(0.0, 7)
Server = Callable[[dict[str, Any]], int]


def knowing(*names: str) -> Server:
    """Takes numbers for these, and refuses all others."""

    def status(more: dict[str, Any]) -> int:
        return 200 if all(n in names and isinstance(v, int | float) for n, v in more.items()) else 422

    return status


def test_a_server_that_knows_everything_is_sent_everything() -> None:
    found = settle(knowing(*EVERY), EVERY)
    assert found == Pins(tuple(EVERY.items())) and set(EVERY) == {"temperature", *NEUTRAL, "seed"}
    assert found.body() == EVERY and undecided(found, 0.7) == ()


def test_what_a_server_refuses_is_not_sent_and_what_decides_without_it_is_said() -> None:
    """As `transformers serve` does it: three are unknown, and presence_penalty is read by nobody."""
    known = knowing("temperature", "top_p", "seed", "frequency_penalty")

    def status(more: dict[str, Any]) -> int:
        return known({k: v for k, v in more.items() if k != "presence_penalty"})

    found = settle(status, EVERY)
    assert found is not None and set(found.body()) == {
        "temperature",
        "top_p",
        "seed",
        "presence_penalty",
        "frequency_penalty",
    }
    assert found.refused == ("top_k", "min_p", "repetition_penalty") and found.ignored == ("presence_penalty",)
    assert undecided(found, 0.0) == ("repetition_penalty", "presence_penalty")  # nothing is drawn
    assert undecided(found, 0.7) == ("top_k", "min_p", "repetition_penalty", "presence_penalty")


def test_a_server_that_takes_anything_takes_nothing() -> None:
    found = settle(lambda more: 200, EVERY)
    assert found is not None and set(found.ignored) == set(EVERY)
    assert "temperature" in undecided(found, 0.0)


def test_a_server_that_answers_nothing_is_not_settled() -> None:
    assert settle(lambda more: 503, EVERY) is None


@pytest.mark.parametrize(
    "change",
    [
        {"sent": {**EVERY, "top_p": 0.95}}, {"sent": {**EVERY, "seed": 8}}, {"sent": {**EVERY, "top_k": True}}, {"refused": ["top_p"]},
        {"sent": {k: v for k, v in EVERY.items() if k != "min_p"}}, {"ignored": ["mirostat"]}, {"sent": {**EVERY, "mirostat": 1}},
        {"sent": None}, {"sent": {**EVERY, "temperature": "0.0"}},
    ],
)  # fmt: skip
def test_a_record_that_does_not_pin_the_sampling_is_found(change: dict[str, Any]) -> None:
    good = {"sent": EVERY, "refused": [], "ignored": []}
    assert wrong_pins(good, 0.0, 7) == [] and wrong_pins({**good, **change}, 0.0, 7) != []
    assert wrong_pins(None, 0.0, 7) != []
