"""Times of sending: exact where they are constant, of the right spread where they are drawn, the same for the same seed."""

from __future__ import annotations

import statistics
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profile_and_optimize.clients.arrivals import Schedule, draw
from profile_and_optimize.core.errors import WrongUse

N = 4001


def gaps(schedule: Schedule) -> list[int]:
    return [b - a for a, b in pairwise(schedule.at_ns)]


def spread(schedule: Schedule) -> float:
    """Coefficient of variation of the gaps."""
    found = gaps(schedule)
    return statistics.pstdev(found) / statistics.fmean(found)


def test_constant_arrivals_are_exactly_one_over_the_rate_apart() -> None:
    assert draw("constant", 4.0, 5, "any").at_ns == (0, 250_000_000, 500_000_000, 750_000_000, 1_000_000_000)
    # Thirds of a second are rounded each on its own: no error adds up.
    assert draw("constant", 3.0, 4, "any").at_ns == (0, 333_333_333, 666_666_667, 1_000_000_000)


@pytest.mark.parametrize(("arrival", "burstiness"), [("poisson", 1.0), ("gamma", 0.25), ("gamma", 4.0)])
def test_drawn_arrivals_begin_at_zero_and_last_exactly_as_long_as_asked(arrival: str, burstiness: float) -> None:
    found = draw(arrival, 8.0, 41, "seed", burstiness)
    assert found.at_ns[0] == 0
    assert found.at_ns[-1] == pytest.approx(40 / 8 * 1e9, abs=1)
    assert min(gaps(found)) >= 0


@pytest.mark.parametrize(("arrival", "burstiness", "wanted"), [
    ("poisson", 1.0, 1.0), ("gamma", 1.0, 1.0), ("gamma", 0.25, 2.0), ("gamma", 4.0, 0.5),
])  # fmt: skip
def test_the_spread_of_the_gaps_is_one_over_the_root_of_the_burstiness(
    arrival: str, burstiness: float, wanted: float
) -> None:
    assert spread(draw(arrival, 50.0, N, "seed", burstiness)) == pytest.approx(wanted, rel=0.08)


def test_poisson_gaps_are_exponential() -> None:
    """A share 1 - exp(-x) of them is shorter than x mean gaps: 63.2% than one, 39.3% than half of one."""
    found = gaps(draw("poisson", 10.0, N, "seed"))
    for x, share in ((0.5, 0.393), (1.0, 0.632), (2.0, 0.865)):
        assert sum(g < x * 1e8 for g in found) / len(found) == pytest.approx(share, abs=0.025)


def test_the_same_seed_gives_the_same_times_and_another_one_others() -> None:
    assert draw("poisson", 10.0, 50, "a") == draw("poisson", 10.0, 50, "a")
    assert draw("poisson", 10.0, 50, "a") != draw("poisson", 10.0, 50, "b")


@settings(deadline=None)  # a busy machine is no failure
@given(st.sampled_from(["constant", "poisson", "gamma"]), st.floats(0.01, 1e4), st.integers(2, 60), st.floats(0.1, 50))
def test_any_schedule_ascends_and_has_the_asked_rate(arrival: str, rate: float, count: int, burstiness: float) -> None:
    found = draw(arrival, rate, count, "seed", burstiness)
    assert len(found.at_ns) == count
    assert (count - 1) / found.span_s == pytest.approx(rate, rel=1e-3)


@pytest.mark.parametrize(("rate", "count", "burstiness", "word"), [
    (0.0, 5, 1.0, "rate"), (-1.0, 5, 1.0, "rate"), (float("nan"), 5, 1.0, "rate"), (float("inf"), 5, 1.0, "rate"),
    (1.0, 0, 1.0, "requests"), (1.0, 10**9, 1.0, "requests"), (1.0, 5, 0.0, "burstiness"), (1.0, 5, 1e9, "burstiness"),
])  # fmt: skip
def test_what_is_no_load_is_refused_by_name(rate: float, count: int, burstiness: float, word: str) -> None:
    with pytest.raises(WrongUse, match=word):
        draw("gamma", rate, count, "seed", burstiness)


def test_a_schedule_waits_only_for_earlier_requests() -> None:
    times = (0, 5, 9)
    assert Schedule("replay", 1.0, times, (None, 0, 1), (0, 0, 0)).longest_chain == 3
    for after in ((None, 2, None), (0, None, None), (None, -1, None)):
        with pytest.raises(ValueError):
            Schedule("replay", 1.0, times, after, (0, 0, 0))
    with pytest.raises(ValueError):
        Schedule("replay", 1.0, (0, 9, 5))
    with pytest.raises(ValueError):
        Schedule("closed", 1.0, times)
