"""The gate over clusters: known answers by hand, the laws that keep the error, and the looks."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from profile_and_optimize.stats.bounded_mean import Values, p_above, p_below, upper_bound, values_of
from profile_and_optimize.stats.clusters import Posed, clusters_of, counting_order, declared_clusters
from profile_and_optimize.stats.noninferiority import Pair, answer, looks


def flat(*sizes_and_losses: tuple[int, int], name: str = "c") -> list[Pair]:
    """Clusters of (size, lost): the first questions of each are lost, the others are right on both sides."""
    return [
        Pair("a", 1, 0 if i < lost else 1, f"{name}{c}" if size > 1 else "")
        for c, (size, lost) in enumerate(sizes_and_losses)
        for i in range(size)
    ]


# --- the mean of clusters ----------------------------------------------------------------------------------------------------


def test_clusters_of_one_size_are_so_many_observations_of_their_means() -> None:
    """480 questions in 24 clusters without a flip are 24 zeros: 0.9^24 at ten points."""
    found = answer(flat(*[(20, 0)] * 24), tolerance=0.1, planned=480)
    assert (found.clusters, found.n, found.loss) == (24, 480, 0.0)
    assert found.upper == pytest.approx(1 - (0.01 * 0.831234) ** (1 / 24), abs=1e-6)
    alone = answer([Pair("a", 1, 1)] * 480, tolerance=0.1, planned=480)
    assert found.call == "unknown" and alone.call == "pass"


def test_unequal_clusters_weigh_by_their_questions() -> None:
    """One of 4 all lost and three alone: the mean is 4 in 7. With weights 1 and 1/4 the chance that
    (1 - m)(G0 + G1) - m (G2 + G3 + G4) / 4 >= 0, by drawing."""
    seen = values_of([1.0, 0.0, 0.0, 0.0], [1.0, 0.25, 0.25, 0.25])
    assert seen.mean == pytest.approx(4 / 7)
    g = np.random.default_rng(0).exponential(size=(400_000, 5))
    drawn = 0.2 * (g[:, 0] + g[:, 1]) - 0.8 * g[:, 2:].sum(1) / 4 >= 0
    assert p_below(seen, 0.8) == pytest.approx(drawn.mean(), abs=0.003)


def test_equal_weights_are_none_and_give_clopper_and_pearson() -> None:
    seen = values_of([1.0] * 3 + [0.0] * 477, [1.0] * 480)
    assert seen.weights == () and p_below(seen, 0.01) == pytest.approx(beta.sf(0.01, 4, 477), rel=1e-10)


def test_bounds_of_weighted_values_are_where_p_is_the_level() -> None:
    seen = Values((1.0, 0.0, -0.5), (2.0, 90.0, 3.0), (0.2, 1.0, 0.6))
    upper = upper_bound(seen, 0.01)
    assert p_below(seen, upper) == pytest.approx(0.01, rel=1e-4) and upper > seen.mean
    assert p_above(seen, -upper_bound(seen.mirrored(), 0.01)) == pytest.approx(0.01, rel=1e-4)


@pytest.mark.parametrize("weights", [(1.0,), (0.5, 0.0), (0.5, 1.1)])
def test_weights_that_are_none_are_refused(weights: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="weight"):
        Values((0.0, 1.0), (1.0, 1.0), weights)


# --- the gate ----------------------------------------------------------------------------------------------------------------

rows = st.lists(st.sampled_from([(1, 1), (1, 1), (1, 1), (1, 0), (0, 1), (0, 0)]), min_size=10, max_size=80)


@settings(max_examples=15, deadline=None)
@given(rows)
def test_clusters_of_one_question_give_what_questions_give(made: list[tuple[int, int]]) -> None:
    plain = answer([Pair("a", b, c) for b, c in made], tolerance=0.1, planned=len(made))
    own = answer([Pair("a", b, c, f"c{i}") for i, (b, c) in enumerate(made)], tolerance=0.1, planned=len(made))
    assert plain == own and plain.clusters == len(made)


@settings(max_examples=15, deadline=None)
@given(rows, st.integers(2, 5))
def test_a_question_asked_several_times_over_tells_no_more_than_once(made: list[tuple[int, int]], times: int) -> None:
    once = answer([Pair("a", b, c) for b, c in made], tolerance=0.1, planned=len(made))
    copies = [Pair("a", b, c, f"c{i}") for i, (b, c) in enumerate(made) for _ in range(times)]
    told = answer(copies, tolerance=0.1, planned=len(copies))
    assert (told.call, told.loss, told.upper, told.lower) == (once.call, once.loss, once.upper, once.lower)
    assert told.n == times * once.n and told.clusters == once.clusters


def test_a_label_cannot_make_a_loss_small() -> None:
    """Half of all questions lost, all in one cluster: it stays half of the loss and never ships."""
    found = answer(flat(*[(1, 0)] * 400, (400, 400)), tolerance=0.05, planned=800)
    assert found.loss == 0.5 and found.call == "unknown"


def test_one_cluster_of_everything_never_passes_and_names_the_clusters_it_would_take() -> None:
    """A plan without a flip takes 477 observations at one point, as `questions_for` has it."""
    found = answer(flat((480, 0)), tolerance=0.01, planned=480)
    assert (found.call, found.look_at, found.clusters) == ("unknown", (480,), 1)
    assert (found.needed_clusters, found.needed) == (476, 476 * 480)


def test_a_base_that_is_never_right_asks_for_no_more_clusters() -> None:
    found = answer([Pair("a", 0, 0, f"c{i // 5}") for i in range(500)], tolerance=0.01, planned=500)
    assert found.call == "unknown" and found.needed is None


def test_a_cluster_across_tasks_is_one_for_all_and_a_part_for_each() -> None:
    made = [Pair(t, 1, 1, f"c{i}") for i in range(60) for t in ("a", "b", "b")]
    found = answer(made, tolerance=0.1, planned=180)
    assert found.clusters == 60 and [t.clusters for t in found.tasks] == [found.look_at[-1] // 3] * 2
    merged = answer([Pair("all", 1, 1, p.cluster) for p in made], tolerance=0.1, planned=180)
    assert (found.call, found.upper) == (merged.call, merged.upper)


def test_the_largest_cluster_of_the_plan_counts_before_it_was_seen() -> None:
    """The first half holds questions alone, but a cluster of ten is to come: a tenth of them weigh so far."""
    alone, plan = [Pair("a", 1, 1)] * 100, [("a", "")] * 100 + [("a", "c")] * 100
    blind = answer(alone, tolerance=0.2, planned=200)
    told = answer(alone, tolerance=0.2, planned=200, plan=plan)
    assert blind.call == "pass" and told.call == "unknown"


# --- looks and order ---------------------------------------------------------------------------------------------------------


def test_a_look_waits_for_the_end_of_a_cluster() -> None:
    labels = ["x"] * 15 + [""] * 70 + ["y"] * 15
    assert looks(100, labels) == (15, 20, 30, 40, 50, 60, 70, 80, 100)
    assert looks(100, [""] * 100) == looks(100)
    assert looks(40, ["x"] * 40) == (40,)


def test_clusters_stay_together_in_an_order_that_does_not_depend_on_their_size() -> None:
    names = [f"q{i}" for i in range(60)]
    labels = ["big" if i < 20 else f"pair{i // 2}" if i < 40 else "" for i in range(60)]
    order = counting_order(names, labels)
    told = [labels[i] or names[i] for i in order]
    assert sorted(order) == list(range(60))
    assert [x for i, x in enumerate(told) if i == 0 or told[i - 1] != x] == list(dict.fromkeys(told))
    # Alone, the first of a cluster by name stands among the others where its cluster does.
    heads = {x: min(n for n, label in zip(names, labels, strict=True) if label == x) for x in labels if x}
    few = [heads.get(x, x) for x in dict.fromkeys(told)]
    assert [few[i] for i in counting_order(few)] == few
    assert counting_order(names, [""] * 60) == counting_order(names)


def test_declared_names_and_likeness_join_in_chains() -> None:
    passage = " ".join(f"word{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(40))
    made = (
        Posed("a", f"{passage} Who?", "one"), Posed("b", f"{passage} Where was it?"), Posed("a", "What is 3 + 4?", "one"),
        Posed("a", "What is 3 + 5?", "two"), Posed("a", "What is 3 + 6?"), Posed("b", "what is 3+6"),
    )  # fmt: skip
    found = clusters_of(made)
    a, b, c, d, e, f = found.labels
    assert a == b == c != e == f and d == "" and found.sizes == (3, 2, 1)
    assert (found.declared, found.near) == (3, 2)
    assert found.assumption == (
        "assumes that questions of different clusters flip independently: 6 questions in 3 clusters (the largest of 3), "
        "2 near-duplicates found"
    )


def test_where_no_texts_are_known_near_duplicates_are_unknown() -> None:
    found = declared_clusters(["", "x", "", "x"])
    assert found.labels[1] == found.labels[3] != "" == found.labels[0] and found.near is None
    assert "unknown" in found.assumption and found.to_json()["near_duplicates"] is None


def test_clusters_that_flip_together_ship_wrongly_at_most_once_in_a_hundred() -> None:
    """150 gates at a true loss of exactly 20 points, 60 clusters of 5 each, all questions of one flipping together. Told of no
    clusters, the gate ships every fifth of the same answers and more."""
    rng, wrong, blind, size = random.Random(5), 0, 0, 5
    for _ in range(150):
        lost = [rng.random() < 0.2 for _ in range(60)]
        made = [Pair("a", 1, not gone, f"c{i}") for i, gone in enumerate(lost) for _ in range(size)]
        wrong += answer(made, tolerance=0.2, planned=len(made)).call == "pass"
        bare = [Pair(p.task, p.base, p.candidate) for p in made]
        blind += answer(bare, tolerance=0.2, planned=len(bare)).call == "pass"
    # With a chance of 1% each, 6 or more of 150 come once in 200 tests.
    assert wrong <= 5 and blind > 15
