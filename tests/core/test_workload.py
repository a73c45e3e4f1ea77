"""What a workload may be, what it says of itself, and that plans from before the kinds still load."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.workload import Point, Workload, point_from_json

TURNS = {"kind": "multi-turn", "dataset": "own:conversations", "turns": 3, "prefixes": True}


def test_a_plan_from_before_the_kinds_loads_as_random_text_or_as_the_lines_of_a_file() -> None:
    old = {"name": "w", "isl": 64, "osl": 8, "dataset": "random", "api": "chat", "warm": False}
    assert point_from_json({"workload": old, "concurrency": 2, "requests": 8}).workload.kind == "random"
    lines = point_from_json({"workload": {**old, "dataset": "p.jsonl"}, "concurrency": 2, "requests": 8}).workload
    assert (lines.kind, lines.from_file) == ("prompts", True)


def test_what_is_kept_in_a_context_is_as_before_for_random_text_and_names_everything_else_otherwise() -> None:
    assert Workload("chat", 64, 8).asked == "chat random isl=64 osl=8 chat"
    assert Workload("f", 64, 8, "p.jsonl", warm=True).asked == "f p.jsonl isl=64 osl=8 chat"
    talk = Workload("t", 256, 96, file="/home/x/c.json", sha256="ab" * 32, **TURNS)
    assert talk.asked == (
        f"t own:conversations isl=256 osl=96 chat kind=multi-turn prefixes=True turns=3 sha256={'ab' * 32}"
    )


def test_points_survive_json() -> None:
    for w in (
        Workload("t", 256, 96, **TURNS),
        Workload("r", 64, 8, osl_least=4),
        Workload("w", 9, 9, "own:verse", kind="text"),
    ):
        point = Point(w, 2, 8)
        assert point_from_json(asdict(point)) == point


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"kind": "poem"}, "not one of random"),
        ({"isl": 0}, "at least 1"),
        ({"isl": 10**9}, "must not be above"),
        ({"osl_least": 9}, "must not be above isl and osl"),
        ({"isl_least": -1}, "must not be above isl and osl"),
        ({"kind": "text"}, "does not fit kind text"),
        ({"dataset": "own:code", "kind": "random"}, "does not fit kind random"),
        ({**TURNS, "prefixes": False}, "declare it"),
        ({"kind": "shared-prefix", "shared": 8}, "declare it"),
        ({"kind": "shared-prefix", "shared": 64, "prefixes": True}, "shared tokens"),
        ({"shared": 8}, "shared tokens"),
        ({**TURNS, "turns": 1}, "2 to 64 turns"),
        ({"turns": 3}, "2 to 64 turns"),
        ({**TURNS, "isl_least": 4}, "its own lengths"),
        ({"api": "grpc"}, "chat or completions"),
        ({"sha256": "0"}, "not a digest"),
    ],
)
def test_what_cannot_be_is_refused_at_birth_by_name(fields: dict, words: str) -> None:
    with pytest.raises(WrongUse, match=words) as e:
        Workload(**{"name": "w", "isl": 64, "osl": 8, **fields})
    assert "workload w" in e.value.message


def test_the_cache_follows_the_declaration() -> None:
    assert Workload("a", 64, 8).cache_mode == "cold (no prompt repeats in a session)"
    assert Workload("a", 64, 8, warm=True).cache_mode == "warm"
    alike = Workload("a", 64, 8, **TURNS)
    assert (alike.cache_mode, alike.repeats, alike.warm) == ("prefixes repeat (no prompt does)", True, False)
