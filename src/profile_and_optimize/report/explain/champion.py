"""The decision: what was picked, how firmly, and the effect that carries it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from profile_and_optimize.core.cell import Role
from profile_and_optimize.report.explain.effects import CHOICE, family
from profile_and_optimize.report.explain.number import Case, Number, Place, Story, Table

KNOWN_GOOD = "known_good_config.json"


def numbers(case: Case) -> Iterator[Number]:
    d, pick = case.d, case.view.pick
    chosen = partial(_story, case)
    yield Number("champion.pick", d.pick, "the arm to serve", chosen, (Place(CHOICE, ("pick",), d.pick),))
    tier = (Place(CHOICE, ("tier",), d.tier.value),)
    yield Number("champion.tier", d.tier.value, "DRAFT, or VERDICT when every gate passed", chosen, tier)
    if pick.role == Role.BASELINE.value:
        stored, meaning = (Place(CHOICE, ("pick",), d.pick),), "the pick is the baseline, without an effect of its own"
        yield Number("champion.effect", "the reference", meaning, chosen, stored)
        return
    for n in family(case, pick, f"effect.{pick.id}"):
        ending = n.name.removeprefix(f"effect.{pick.id}")
        if not ending.startswith(".block."):
            good = tuple(Place(KNOWN_GOOD, ("effect", p.path[-1]), p.value) for p in n.places if "effect" in p.path)
            yield replace(n, name=f"champion.effect{ending}", places=n.places + good, same_as=n.name)


def _story(case: Case) -> Story:
    d = case.d
    rows = tuple((a.id, a.state, a.effect_text or "the reference", a.blocks) for a in case.view.arms)
    gates = tuple((g.name, g.state, g.reason) for g in case.view.gates)
    return Story(
        formula=(
            "pick = the arm called BETTER with the largest effect; without one, the baseline",
            f"pick = {d.pick}: {d.why}",
            "tier = VERDICT when every gate passed, else DRAFT",
            f"tier = {d.tier.value}: {case.view.headline.caveat}",
        ),
        tables=(Table("The arms", ("arm", "call", "effect", "n"), rows), Table("The gates", ("gate", "state", "why"), gates)),
        arms=tuple(dict.fromkeys((d.pick, case.view.baseline))),
        see=tuple(f"effect.{a}" for a in d.effects),
    )  # fmt: skip
