"""Levers on top of a quantized checkpoint: arms that change both, so that the pick may be both. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from profile_and_optimize.core.cell import Arm

MOST_BY_DEFAULT = 2
Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class OnTop:
    """`arms` are the levers on top of `base`'s checkpoint, in the order of the levers; `left` are the levers that found no
    room, `others` the checkpoints that get no lever."""

    base: Arm
    arms: tuple[Arm, ...]
    left: tuple[str, ...]
    others: tuple[str, ...]

    def words(self) -> tuple[str, ...]:
        """What is tried and what is not, said before anything starts."""
        names = ", ".join(a.id for a in self.arms)
        told = [f"on top of {self.base.id}, {_why(self.base, self.others)}: {names or 'no lever, as there is no room'}"]
        if self.left:
            more = ", ".join(self.left[:6]) + (f" and {len(self.left) - 6} more" if len(self.left) > 6 else "")
            told.append(f"not on top of it: {more}; --max-arms makes room, --levers names others")
        if self.others:
            told.append(f"no lever on top of {', '.join(self.others)}: one campaign tunes one checkpoint")
        return tuple(told)


def on_top(checkpoints: Sequence[Arm], levers: Sequence[Arm], most: int) -> OnTop:
    """The first `most` levers on top of the checkpoint that promises most.

    Nothing is measured yet, so the promise is the prediction written beforehand: the middle of its range (geometric), 1 where
    none was written, the first named of equal ones. Raises ValueError without a checkpoint.
    """
    if not checkpoints:
        raise ValueError("no checkpoint to put levers on")
    base = max(checkpoints, key=_promise)
    made = tuple(_both(base, lever) for lever in levers[:most])
    return OnTop(base, made, tuple(a.id for a in levers[most:]), tuple(a.id for a in checkpoints if a is not base))


def _promise(arm: Arm) -> float:
    return math.sqrt(arm.predicted[0] * arm.predicted[1]) if arm.predicted else 1.0


def _both(base: Arm, lever: Arm) -> Arm:
    """One arm of two changes. Its prediction is the product of theirs: that they do not get in each other's way."""
    return replace(
        base, id=f"{base.id}-{lever.id}", flags=(*base.flags, *lever.flags), env=(*base.env, *lever.env),
        lever=f"{base.lever}; on top of it: {lever.lever}", predicts=f"{base.predicts}; and {lever.predicts}",
        predicted=_product(base.predicted, lever.predicted),
    )  # fmt: skip


def _product(one: Span | None, two: Span | None) -> Span | None:
    return None if one is None or two is None else (one[0] * two[0], one[1] * two[1])


def _why(base: Arm, others: Sequence[str]) -> str:
    if not others:
        return "the one checkpoint of ours"
    told = f"x{base.predicted[0]:g} to x{base.predicted[1]:g}" if base.predicted else "nothing is predicted of any"
    return f"which promises most of {len(others) + 1} ({told})"
