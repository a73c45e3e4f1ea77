"""The package's suites: what is in them, what they cost, what a name means, and which points they make."""

from __future__ import annotations

from pathlib import Path

import pytest

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.workload import KINDS, Workload
from profile_and_optimize.workloads.suites import bare_points, is_present, points_of_suite, suite, suites


def test_every_suite_of_the_package_can_be_read_and_no_two_workloads_share_a_name() -> None:
    names = [e.workload.name for s in suites().values() for e in s.entries]
    assert len(set(names)) == len(names) and {"canonical", "demo", "demo-short", "prefixes"} <= set(suites())
    assert {e.workload.kind for s in suites().values() for e in s.entries} == set(KINDS) - {"prompts"}
    assert not set(names) & set(suites()) - {"random-128-64"}, "a name is a suite or a workload"


def test_the_canonical_suite_has_the_shapes_that_artificial_analysis_publishes() -> None:
    shapes = {w.name: (w.isl, w.osl) for w in suite("canonical")}
    assert (shapes["aa-1k"], shapes["aa-10k"], shapes["aa-100k"]) == ((1000, 1000), (10_000, 1500), (100_000, 2000))
    assert set(shapes) == {"aa-1k", "aa-10k", "aa-100k", "sonnet", "sharegpt", "random", "code"}


def test_a_session_of_the_demo_suite_asks_for_no_more_than_a_minute_of_tokens_and_fits_2048() -> None:
    points = points_of_suite("demo")
    assert max(p.workload.isl + p.workload.osl for p in points) <= 2048
    # At 300 output tokens a second; lengths of conversations are about half of the most.
    assert sum(p.requests * p.workload.osl for p in points) / 300 < 35
    assert all(p.requests >= 3 * p.concurrency for p in points), "fewer show no steady window"


def test_make_demo_keeps_the_one_workload_that_it_had() -> None:
    assert [(p.key, p.requests, p.workload.isl, p.workload.osl) for p in points_of_suite("demo-short")] == [
        ("short-chat.c8", 32, 64, 64)
    ]


def test_points_have_the_suites_load_unless_another_is_given() -> None:
    assert [(p.key, p.requests) for p in points_of_suite("demo-longest")] == [("demo-longest.c2", 6)]
    assert [(p.key, p.requests) for p in points_of_suite("demo-longest", 4)] == [("demo-longest.c4", 16)]
    assert [(p.key, p.requests) for p in points_of_suite("demo-longest", requests=10)] == [("demo-longest.c2", 10)]
    assert {p.concurrency for p in points_of_suite("demo", 2)} == {2}


def test_an_unknown_name_is_refused_with_what_there_is() -> None:
    with pytest.raises(WrongUse, match=r"'demmo'.*canonical.*demo-chat"):
        points_of_suite("demmo")


def test_ones_own_file_takes_the_place_of_a_text_and_the_plan_can_be_held_against_the_file_again(
    tmp_path: Path,
) -> None:
    poem = tmp_path / "poem.txt"
    poem.write_text("a line of a poem\nanother line of it\n")
    (point,) = points_of_suite("sonnet", data={"sonnet": str(poem)})
    w = point.workload
    assert (w.dataset, w.file, len(w.sha256)) == (str(poem), str(poem), 64)
    assert bare_points((point,))[0].workload == Workload("sonnet", 550, 150, str(poem), kind="text"), (
        "what a campaign file fixes has no digest of what lies beside it"
    )


def test_data_that_nobody_asked_for_is_refused() -> None:
    with pytest.raises(WrongUse, match="data for novels, which is not one of sonnet"):
        points_of_suite("sonnet", data={"novels": "x"})
    with pytest.raises(WrongUse, match="takes no data"):
        points_of_suite("random", data={"random": "x"})


def test_aa_is_there_when_all_three_of_its_shapes_are() -> None:
    measured = suite("canonical")
    assert all(is_present(name, measured) for name in ("aa", "sonnet", "sharegpt", "random", "code"))
    assert not is_present("aa", [w for w in measured if w.name != "aa-100k"])


def test_another_shape_under_a_canonical_name_is_not_what_is_meant() -> None:
    assert not is_present("sonnet", [Workload("sonnet", 128, 32, "own:verse", kind="text")])
    assert not is_present("code", [Workload("code", 2048, 512)]), "random words are no code"
    assert is_present("my-load", [Workload("my-load", 10, 10)]) and not is_present("my", [Workload("my-load", 10, 10)])
