"""An arm of a campaign, which is also a cell of its atlas: one engine with every flag."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.names import checked_id, not_an_option
from profile_and_optimize.core.settings import refuse_settings


class Role(StrEnum):
    BASELINE = "baseline"
    AA = "aa"
    CANDIDATE = "candidate"
    PICK_TWIN = "pick-twin"  # the pick served a second time, for its proof


@dataclass(frozen=True, slots=True)
class Arm:
    """`flags` are arguments for the engine beyond the campaign's common ones, `env` its environment settings.

    `lever` says in words what this arm changes, `predicts` what it should move and why, `predicted` the expected
    range of the primary endpoint as ratios to the baseline (0.9, 1.2), written before anything is measured.
    For the endpoint engine `url` is the server's root. `checkpoint` is a folder with other weights of the campaign's model,
    such as quantized ones ("": the model itself), `checkpoint_digest` its content, known from admission on.
    """

    id: str
    engine: str
    role: Role
    flags: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    lever: str = ""
    predicts: str = ""
    predicted: tuple[float, float] | None = None
    url: str = ""
    checkpoint: str = ""
    checkpoint_digest: str = ""

    def __post_init__(self) -> None:
        checked_id(self.id, "cell id")
        checked_id(self.engine, "engine")
        refuse_settings(self.flags, self.env, f"cell {self.id}")
        if self.checkpoint:
            not_an_option(self.checkpoint, f"checkpoint of cell {self.id}")
        if self.predicted is not None and not 0 < self.predicted[0] <= self.predicted[1]:
            raise WrongUse(f"cell {self.id}: predicted {self.predicted} is not a range of ratios")
        if self.role is Role.AA and self.lever:
            raise WrongUse(f"cell {self.id}: an A/A arm changes nothing, so it has no lever")


def check_arms(arms: tuple[Arm, ...]) -> tuple[Arm, ...]:
    """One baseline, unique ids, at most one A/A arm identical to the baseline. Raises WrongUse."""
    seen: set[str] = set()
    for arm in arms:
        if arm.id in seen:
            raise WrongUse(f"cell id {arm.id!r} is used twice")
        seen.add(arm.id)
    base = [a for a in arms if a.role is Role.BASELINE]
    if len(base) != 1:
        raise WrongUse(f"a campaign needs exactly one baseline cell, this one has {len(base)}")
    _check_twins(arms, Role.AA, base[0])
    candidates = [a for a in arms if a.role is Role.CANDIDATE]
    if any(a.role is Role.PICK_TWIN for a in arms):
        if len(candidates) != 1:
            raise WrongUse(f"the twin of a pick stands beside one candidate, this campaign has {len(candidates)}")
        _check_twins(arms, Role.PICK_TWIN, candidates[0])
    return arms


def _check_twins(arms: tuple[Arm, ...], role: Role, original: Arm) -> None:
    """At most one arm of this role, and it serves what its original serves."""
    twins = [a for a in arms if a.role is role]
    if len(twins) > 1:
        raise WrongUse(f"at most one {_TWIN_WORDS[role]} cell")
    for twin in twins:
        if serves(twin) != serves(original):
            raise WrongUse(
                f"{_TWIN_WORDS[role]} cell {twin.id!r} must equal the {original.role} in engine, flags, environment and checkpoint"
            )


_TWIN_WORDS = {Role.AA: "A/A", Role.PICK_TWIN: "pick-twin"}


def serves(arm: Arm) -> tuple[object, ...]:
    """What two arms have in common that are one configuration under two names."""
    return arm.engine, arm.flags, arm.env, arm.url, arm.checkpoint
