"""How many tokens did every answer have? What the server's usage says, where nothing that was seen or asked contradicts it.

A count that is contradicted is unknown: nobody can tell which of the two is wrong, and every rate rests on it. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MISSING = int(np.iinfo(np.int64).min)
# A usage that counts every token twice shows only beside answers of the same server in which every chunk was a token.
LEAST_CHUNKS, LEAST_PLAIN, PLAIN_TO_DOUBLE = 4, 10, 9


@dataclass(frozen=True, slots=True)
class Counts:
    """`output` and `prompt` tokens of every request, MISSING where unknown or the request failed.

    `why` says of the good requests without a known output: reason in words, and how many.
    """

    output: np.ndarray
    prompt: np.ndarray
    why: tuple[tuple[str, int], ...]

    @property
    def unknown(self) -> int:
        return sum(n for _, n in self.why)


def token_counts(
    *, ok: np.ndarray, usage: np.ndarray, prompt: np.ndarray, chunks: np.ndarray, asked: np.ndarray, by_us: np.ndarray,
    finish: Sequence[str | None],
) -> Counts:  # fmt: skip
    """One value per request in each. `usage` and `prompt` are what the server said, `asked` is max_tokens, `by_us` where
    the chunks were counted by our own client: others count an empty first chunk too."""
    chunked = np.where(by_us, chunks, 0)
    limited = asked != MISSING
    to_length = np.array([f == "length" for f in finish], dtype=bool)
    tests = (
        ("the server gave no count of output tokens", usage == MISSING),
        ("its usage reports 0 output tokens, content came", (usage == 0) & (chunks > 0)),
        ("its usage reports fewer output tokens than chunks of content came", usage < chunked),
        ("its usage reports more output tokens than max_tokens allowed", limited & (usage > asked)),
        ("it reports an end at max_tokens, its usage reports fewer", limited & to_length & (usage < asked)),
        ("its usage reports two output tokens a chunk, other answers had one", _doubled(ok, usage, chunked)),
    )
    left, why = ok.copy(), []
    for words, contradicted in tests:
        found = left & contradicted
        if n := int(found.sum()):
            why.append((f"{words}{_example(words, found, usage, chunked, asked)}", n))
            left &= ~contradicted
    return Counts(np.where(left, usage, MISSING), np.where(ok & (prompt > 0), prompt, MISSING), tuple(why))


def _doubled(ok: np.ndarray, usage: np.ndarray, chunks: np.ndarray) -> np.ndarray:
    enough = ok & (chunks >= LEAST_CHUNKS)
    plain, double = enough & (usage == chunks), enough & (usage == 2 * chunks)
    rare = plain.sum() >= max(LEAST_PLAIN, PLAIN_TO_DOUBLE * double.sum())
    return double if rare else np.zeros(len(ok), dtype=bool)


def _example(words: str, found: np.ndarray, usage: np.ndarray, chunks: np.ndarray, asked: np.ndarray) -> str:
    """The numbers of the first one, where there are two to hold against each other."""
    i = int(found.argmax())
    if "max_tokens" in words:
        return f" ({usage[i]} of {asked[i]})"
    return f" ({usage[i]} for {chunks[i]})" if "chunk" in words else ""
