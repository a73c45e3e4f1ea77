"""Racing: least squares by hand, who survives, and that the finalists hold the best."""

from __future__ import annotations

import numpy as np
import pytest

from profile_and_optimize.stats.race import ENOUGH, Prior, posterior, standing

EDGE = float(np.log1p(0.01))


def blocks(effects: dict[str, float], sizes: list[list[str]], sd: float, seed: int = 0) -> list[dict[str, float]]:
    rng = np.random.default_rng(seed)
    return [
        {a: effects[a] + shift + rng.normal(0, sd) for a in arms} for arms in sizes for shift in [rng.normal(0, 1.0)]
    ]


def test_without_noise_the_effects_come_back_whatever_the_blocks_were() -> None:
    truth = {"base": 0.0, "a": 0.3, "b": -0.2, "c": 0.05}
    found = posterior(blocks(truth, [["base", "a", "b"], ["base", "c"], ["base", "a"]], 0.0), "base", Prior())
    assert dict(zip(found.arms, found.mean, strict=True)) == pytest.approx({"a": 0.3, "b": -0.2, "c": 0.05})
    assert found.df == 4 + 7 - 6  # 7 values, 3 arms and 3 blocks


def test_one_round_ends_a_race_with_a_clear_winner() -> None:
    truth = {"base": 0.0} | {f"x{i}": 0.3 - 0.1 * i for i in range(6)}
    arms = [["base", "x0", "x1", "x2"], ["base", "x3", "x4", "x5"]]
    s = standing(posterior(blocks(truth, arms, 0.005), "base", Prior()), "base", EDGE, 1)
    assert s.decided and s.finalists == ("x0",) and s.covered >= ENOUGH and sum(s.p_best.values()) == pytest.approx(1)


def test_arms_that_cannot_be_told_apart_race_on_and_losers_leave() -> None:
    truth = {"base": 0.0, "a": 0.30, "b": 0.31, "c": 0.29, "d": -0.5, "e": -0.4}
    s = standing(
        posterior(blocks(truth, [["base", "a", "b", "c"], ["base", "d", "e"]], 0.02), "base", Prior()), "base", EDGE, 1
    )
    assert not s.decided and set(s.survivors) == {"a", "b", "c"}


def test_a_baseline_that_leads_still_meets_its_nearest_rival() -> None:
    truth = {"base": 0.0, "a": -0.2, "b": -0.5}
    s = standing(posterior(blocks(truth, [["base", "a", "b"]] * 2, 0.005), "base", Prior()), "base", EDGE, 1)
    assert s.finalists == ("a",) and s.decided


def test_the_same_records_and_seed_give_the_same_standing() -> None:
    rows = blocks({"base": 0.0, "a": 0.02, "b": 0.01}, [["base", "a", "b"]] * 3, 0.02)
    one, two = (standing(posterior(rows, "base", Prior()), "base", EDGE, 5) for _ in range(2))
    assert one == two


def test_the_best_is_among_the_finalists_as_often_as_is_said() -> None:
    rng, held = np.random.default_rng(2), 0
    for seed in range(150):
        effects = {"base": 0.0} | {f"x{i}": float(e) for i, e in enumerate(rng.normal(0, 0.05, 6))}
        arms = [["base", "x0", "x1", "x2"], ["base", "x3", "x4", "x5"]] * 2
        s = standing(posterior(blocks(effects, arms, 0.01, seed), "base", Prior()), "base", EDGE, seed)
        if not s.decided:
            held += 1
            continue
        held += max(effects[a] for a in ("base", *s.finalists)) >= max(effects.values()) - EDGE
    assert held >= 0.95 * 150
