"""Is the calibration text fit to take ranges from? Few tokens, one that is everywhere, samples that repeat, held-out text that is in
the calibration text: said with their figures, and the absurd refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from .stop import Stop

# Below these nothing of a model's inputs is seen. Prose, code and dialogues of a million tokens have tens of thousands of kinds.
FEWEST_KINDS, ENOUGH_TOKENS = 8, 512
ONE_TOKEN, REPEATED, WITHIN = 0.3, 0.1, 0.5
RUN = 16


def require_fit(samples: Sequence[Sequence[int]], heldout: Sequence[Sequence[int]], where: str) -> tuple[str, ...]:
    """Warnings, each with its figure. Raises Stop for text of a handful of tokens, or of one sample over and over."""
    counted = Counter(token for sample in samples for token in sample)
    total = sum(counted.values())
    if total >= ENOUGH_TOKENS and len(counted) < FEWEST_KINDS:
        told = f"{total} tokens of {len(counted)} kinds: ranges of nothing else would be taken"
        raise Stop("wrong_use", told, where=where, next="give text of the kind that the model will see (--calib)")
    kinds = len({tuple(sample) for sample in samples})
    if total >= ENOUGH_TOKENS and kinds == 1 and len(samples) > 1:
        told = f"all {len(samples)} samples are the same"
        raise Stop("wrong_use", told, where=where, next="give more text (--calib), or --samples 1")
    return tuple(_warnings(counted, total, len(samples), kinds, samples, heldout))


def _warnings(
    counted: Counter[int],
    total: int,
    count: int,
    kinds: int,
    samples: Sequence[Sequence[int]],
    heldout: Sequence[Sequence[int]],
) -> list[str]:
    found = []
    token, times = counted.most_common(1)[0]
    if times > ONE_TOKEN * total:
        found.append(f"token {token} is {times / total:.0%} of the calibration text: padding, or a separator?")
    if total >= ENOUGH_TOKENS and len(counted) < total**0.5:
        found.append(f"only {len(counted)} kinds of tokens among {total}: a narrow text calibrates for nothing else")
    if count - kinds > REPEATED * count:
        found.append(f"{count - kinds} of {count} samples are repeats of others")
    within = _within(samples, heldout)
    if within > WITHIN:
        found.append(f"{within:.0%} of the held-out text stands in the calibration text too: KL on it is too good")
    return found


def _within(samples: Sequence[Sequence[int]], heldout: Sequence[Sequence[int]]) -> float:
    """Share of the held-out runs of `RUN` tokens that the calibration text has too."""
    there = {hash(tuple(s[i : i + RUN])) for s in samples for i in range(len(s) - RUN + 1)}
    asked = [hash(tuple(s[i : i + RUN])) for s in heldout for i in range(0, len(s) - RUN + 1, RUN)]
    return sum(run in there for run in asked) / len(asked) if asked else 0.0
