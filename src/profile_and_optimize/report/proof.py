"""What is shown of the proof of the pick: its answer, its interval, its spread, and every block and session."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import stdev

from profile_and_optimize.analysis.decide import ratio_words
from profile_and_optimize.campaign.proof import Proof
from profile_and_optimize.core.trial import Stage
from profile_and_optimize.report.words import count, percent
from profile_and_optimize.stats.proof import TABLE


@dataclass(frozen=True)
class ProofBlock:
    """One block: pick and twin over baseline and A/A arm, and each of the pick's two sessions, as signed percentages."""

    block: int
    ratio: str
    above: bool
    sessions: tuple[str, ...]


@dataclass(frozen=True)
class ProofView:
    """`answer` is proven, open, stands (by the interval, as a DRAFT), falls, or too few blocks to say."""

    pick: str
    answer: str
    sentence: str
    meaning: str
    blocks: tuple[ProofBlock, ...]


def proof_view(proof: Proof | None) -> ProofView | None:
    if proof is None:
        return None
    answer, s = _answer(proof), proof.signs
    spread = f"; its sessions spread by {stdev(proof.sessions.values()):.2%} (sd)" if len(proof.sessions) > 1 else ""
    lost = f", {count(s.lost, 'block')} lost and counted as not above" if s.lost else ""
    fresh = (
        "on fresh blocks"
        if proof.stage is Stage.PROVE
        else "on the blocks from the first on, since it is the only candidate"
    )
    rule = ", ".join(f"{wins} of {n}" for n, wins in TABLE[:3])
    sentence = (
        f"{proof.pick}, {fresh}: {s.wins} of {count(s.blocks, 'block')} above the margin (it takes {rule}; e {s.e_value:.3g} of "
        f"{s.enough:g}), {ratio_words(proof.effect)} over them{spread}{lost}"
    )
    edge = math.log1p(proof.plan.margin)
    rows = tuple(
        ProofBlock(
            b, percent(d), d > edge, tuple(percent(v) for (block, _), v in sorted(proof.sessions.items()) if block == b)
        )
        for b, d in sorted(proof.differences.items())
    )
    return ProofView(proof.pick, answer, sentence, MEANING[answer], rows)


def _answer(proof: Proof) -> str:
    if proof.signs.proven:
        return "proven"
    if proof.open:
        return "open"
    return {True: "stands", False: "falls", None: "too few blocks"}[proof.stands]


MEANING = {
    "proven": "the median session is better than the baseline by more than the margin, for any noise that is independent between "
    "blocks; the interval of the mean rests on the t model",
    "open": "blocks of it are still to be run; the pick is a DRAFT until then",
    "stands": "the DRAFT stands by the interval of these blocks; their signs do not prove it",
    "falls": "the DRAFT falls by these blocks: the baseline stands",
    "too few blocks": "the pick is a DRAFT that rests on the exploration",
}
