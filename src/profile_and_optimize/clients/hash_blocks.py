"""How many tokens a hash id of a trace stands for: asked for, or read from its lines; never assumed.

A prompt of n tokens in blocks of s has ceil(n / s) ids. Every line so leaves a range of sizes, and the right one lies in
all of them. Replayed with half the size, half of what the trace shares would be lost without a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from profile_and_optimize.core.errors import WrongUse

# Block sizes of caches are powers of two: where several sizes fit, the only one of these is taken, and said.
USUAL = tuple(2**k for k in range(17))
OPTION = "--block-tokens"


@dataclass(frozen=True, slots=True)
class HashedPrompt:
    """The ids of one line, and the tokens of its prompt."""

    line: int
    isl: int
    ids: int

    @property
    def least(self) -> int:
        """The smallest size with which so many ids hold the prompt."""
        return -(-self.isl // self.ids)

    @property
    def most(self) -> int | None:
        """The largest one: with more, the prompt would have fewer ids. None for a single id, which takes any."""
        return None if self.ids == 1 else -(-self.isl // (self.ids - 1)) - 1


def block_tokens(prompts: Sequence[HashedPrompt], asked: int | None, where: str) -> int:
    """The size that all lines agree in. Raises WrongUse for a line that contradicts it, and where several would do."""
    if asked is not None:
        return _agreed(prompts, asked, where, "as asked")
    least = max(prompts, key=lambda p: p.least)
    capped = [p for p in prompts if p.most is not None]
    most = min(capped, key=lambda p: p.most or 0) if capped else None
    if most is not None and (most.most or 0) < least.least:
        _refuse_pair(least, most, where)
    fitting = [s for s in USUAL if s >= least.least and (most is None or s <= (most.most or 0))]
    if most is not None and most.most == least.least:
        return least.least
    if len(fitting) == 1:
        return fitting[0]
    sizes = f"{least.least} tokens and more" if most is None else f"{least.least} to {most.most} tokens"
    raise WrongUse(
        f"hash blocks of {sizes} fit all its lines, so their size cannot be read", where=where,
        next=f"{OPTION} N",
    )  # fmt: skip


def _agreed(prompts: Sequence[HashedPrompt], size: int, where: str, why: str) -> int:
    for p in prompts:
        blocks = -(-p.isl // size)
        if blocks != p.ids:
            raise WrongUse(
                f"{p.ids} hash_ids for {p.isl} tokens; in blocks of {size} ({why}) there are {blocks}",
                where=f"{where}:{p.line}", next=f"leave out {OPTION} to read the size from the lines",
            )  # fmt: skip
    return size


def _refuse_pair(least: HashedPrompt, most: HashedPrompt, where: str) -> None:
    raise WrongUse(
        f"{most.ids} hash_ids for {most.isl} tokens are blocks of at most {most.most}, and line {least.line} has {least.ids} for "
        f"{least.isl}, which are blocks of at least {least.least}: no size fits both",
        where=f"{where}:{most.line}", next="every id of a line stands for the same number of tokens, the last may be cut",
    )  # fmt: skip
