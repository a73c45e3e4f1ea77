"""Which questions are nearly the same text? Literal words count, never a template: 90 + 7 and 90 + 8 are two questions.

Two texts belong together when one of these holds, words being compared without case, spacing and sentence punctuation:

- the same words (a number in front of the question apart);
- the shorter one, of `WHOLE` words or more, stands word for word in the longer;
- `PASSAGE` words in a row stand in both: questions on one passage;
- both have `LONG` words or more and share `ALIKE` of their runs of three words (Jaccard; as Lee et al. 2022, arXiv:2107.06499).

In a short question one word makes another question, so only the first two rules join short ones. A run of `WHOLE` words that
more than half of a task's questions have is an instruction or a template: the last two rules leave it out, and the answer names
the tasks where it is as long as a passage.
Exact (no hashing by chance, no seed), and the same whatever the order of the questions.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

WHOLE, PASSAGE, LONG = 8, 30, 20
RUN, ALIKE = 3, 0.8
# Among fewer questions "more than half" says nothing.
FEWEST_FOR_INSTRUCTION = 20

_NUMBERED = re.compile(r"\s*(?:(?:question|problem|item|number|no|nr|q)\s*\.?\s*)?#?\(?\d{1,6}\s*[.:)]\s+")
# Scripts without spaces between words: every sign is a word.
_WORD = re.compile(r"\d+(?:[.,]\d+)*|[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W\d_]+|[^\w\s]|_")
_PUNCTUATION = frozenset(".,;:?\"'`\u2018\u2019\u201c\u201d\u00ab\u00bb\u2026")


@dataclass(frozen=True, slots=True)
class Alike:
    """`groups[i]` is the first question that question i belongs with, i itself where it is alone. `instructions` are the tasks in
    which text that more than half of the questions share was taken for an instruction."""

    groups: tuple[int, ...]
    instructions: tuple[str, ...]

    @property
    def found(self) -> int:
        """Questions that are nearly the same as one before them."""
        return sum(group != i for i, group in enumerate(self.groups))


def near_duplicates(texts: Sequence[str], tasks: Sequence[str]) -> Alike:
    """The groups of questions that are nearly the same text, chains of pairs being one group."""
    words = [words_of(text) for text in texts]
    groups = _Groups(len(texts))
    once = _join_same(words, groups)
    _join_contained(words, once, groups)
    corpus = _Corpus([words[i] for i in once], [tasks[i] for i in once])
    for one, two in _neighbours(corpus.runs(PASSAGE)):
        groups.join(once[one], once[two])
    _join_alike(corpus.runs(RUN), once, groups)
    return Alike(tuple(map(groups.first, range(len(texts)))), corpus.instructions)


def words_of(text: str) -> tuple[str, ...]:
    """What is compared: numbers, words and signs, without case, spacing and sentence punctuation."""
    plain = unicodedata.normalize("NFC", text).casefold()
    number = _NUMBERED.match(plain)
    found = tuple(w for w in _WORD.findall(plain, number.end() if number else 0) if w not in _PUNCTUATION)
    return found or (plain.strip(),)


class _Groups:
    """Union by the smaller number, so that the first question names its group."""

    def __init__(self, n: int) -> None:
        self._at = list(range(n))

    def first(self, i: int) -> int:
        while (up := self._at[i]) != i:
            self._at[i] = self._at[up]
            i = self._at[i]
        return i

    def join(self, i: int, j: int) -> None:
        one, two = sorted((self.first(i), self.first(j)))
        self._at[two] = one


def _join_same(words: Sequence[tuple[str, ...]], groups: _Groups) -> list[int]:
    """The first of every text."""
    seen: dict[tuple[str, ...], int] = {}
    for i, own in enumerate(words):
        groups.join(seen.setdefault(own, i), i)
    return list(seen.values())


def _join_contained(words: Sequence[tuple[str, ...]], once: Sequence[int], groups: _Groups) -> None:
    """Texts by how they begin and how long they are, so that each place of a longer text is looked up."""
    beginnings: dict[tuple[str, ...], dict[int, dict[tuple[str, ...], int]]] = defaultdict(lambda: defaultdict(dict))
    for i in once:
        if len(words[i]) >= WHOLE:
            beginnings[words[i][:WHOLE]][len(words[i])][words[i]] = i
    for i in once:
        own = words[i]
        for at in range(len(own) - WHOLE + 1):
            by_length = beginnings.get(own[at : at + WHOLE], {})
            for length, texts in by_length.items():
                if at + length <= len(own) and (other := texts.get(own[at : at + length])) is not None:
                    groups.join(i, other)


class _Corpus:
    """Texts as numbers of their words, one after another; who each place belongs to; which places are of an instruction."""

    def __init__(self, words: Sequence[tuple[str, ...]], tasks: Sequence[str]) -> None:
        self._ids = np.array([_number(w) for own in words for w in own], dtype=np.uint64)
        self._owner = np.repeat(np.arange(len(words)), [len(w) for w in words])
        self._names = sorted(set(tasks))
        place = {name: i for i, name in enumerate(self._names)}
        self._task = np.array([place[t] for t in tasks], dtype=np.int64)
        self._instruction = np.zeros(len(self._ids), bool)
        self._instruction = self._of_most(WHOLE)

    def runs(self, k: int) -> np.ndarray:
        """Rows of (run, text), each once and ordered by run, of runs of k words that no instruction reaches into."""
        runs, whole = self._runs(k)
        return _unique(runs[whole], self._owner[: len(runs)][whole].astype(np.uint64))

    @property
    def instructions(self) -> tuple[str, ...]:
        """Tasks in which an instruction is as long as a passage."""
        places = max(0, len(self._ids) - PASSAGE + 1)
        within = _sums(self._instruction, PASSAGE) == PASSAGE
        same = self._owner[:places] == self._owner[len(self._ids) - places :]
        return tuple(self._names[t] for t in np.unique(self._task[self._owner[:places][within & same]]))

    def _runs(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """At every place the run of k words that begins there, as the polynomial of their digests, and whether it lies within one
        text and outside of instructions."""
        places = max(0, len(self._ids) - k + 1)
        found = np.zeros(places, np.uint64)
        for j in range(k if places else 0):
            found = found * np.uint64(0x9E3779B97F4A7C15) + self._ids[j : j + places]
        same = self._owner[:places] == self._owner[len(self._ids) - places :]
        return found, same & (_sums(self._instruction, k) == 0)

    def _of_most(self, k: int) -> np.ndarray:
        """Is a place within a run of k words that more than half of the questions of its task have?"""
        runs, whole = self._runs(k)
        at = np.flatnonzero(whole)
        _, run = np.unique(runs[at], return_inverse=True)
        key = run * len(self._names) + self._task[self._owner[at]]
        once = _unique(key.astype(np.uint64), self._owner[at].astype(np.uint64))
        having = np.bincount(once[:, 0].astype(np.int64), minlength=int(key.max(initial=-1)) + 1)[key]
        sizes = np.bincount(self._task, minlength=len(self._names))[self._task[self._owner[at]]]
        found = np.zeros(len(self._ids), bool)
        for j in range(k):
            found[at[(having >= FEWEST_FOR_INSTRUCTION) & (2 * having > sizes)] + j] = True
        return found


def _sums(marks: np.ndarray, k: int) -> np.ndarray:
    """How many of the k places from each on are marked."""
    total = np.concatenate([[0], np.cumsum(marks)])
    return total[k:] - total[:-k] if len(marks) >= k else np.zeros(0, np.int64)


def _unique(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Rows (one, two) in their order, each once: `np.unique` over rows takes eight times as long."""
    order = np.lexsort((two, one))
    one, two = one[order], two[order]
    first = np.ones(len(one), bool)
    first[1:] = (one[1:] != one[:-1]) | (two[1:] != two[:-1])
    return np.column_stack([one[first], two[first]])


@cache
def _number(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def _neighbours(rows: np.ndarray) -> Iterator[tuple[int, int]]:
    """Texts one after another in the list of a run that both have, each pair once."""
    same = rows[1:, 0] == rows[:-1, 0]
    pairs = _unique(rows[:-1, 1][same], rows[1:, 1][same])
    yield from ((int(a), int(b)) for a, b in pairs)


def _join_alike(rows: np.ndarray, once: Sequence[int], groups: _Groups) -> None:
    """Long texts whose runs of three words are mostly the same. Two such texts share one of their rarest runs (prefix filter,
    Chaudhuri et al. 2006), so only texts that do are compared."""
    text, runs, rare = _rarest(rows)
    begins = np.searchsorted(text, np.arange(len(once) + 1))

    @cache
    def own(i: int) -> frozenset[int]:
        return frozenset(runs[begins[i] : begins[i + 1]].tolist())

    posted: dict[int, list[int]] = defaultdict(list)
    for i, run in zip(text[rare].tolist(), runs[rare].tolist(), strict=True):
        for j in posted[run]:
            if groups.first(once[i]) != groups.first(once[j]) and _alike(own(i), own(j)):
                groups.join(once[i], once[j])
        posted[run].append(i)


def _rarest(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Texts and their runs, text by text and the rarest first; and which rows two long texts that are alike may share."""
    _, where, counts = np.unique(rows[:, 0], return_inverse=True, return_counts=True)
    order = np.lexsort((rows[:, 0], counts[where], rows[:, 1]))
    text, runs, often = rows[order, 1].astype(np.int64), rows[order, 0], counts[where][order]
    n = np.bincount(text)[text] if len(text) else text
    rank = np.arange(len(text)) - np.searchsorted(text, text)
    few = np.floor((1 - ALIKE) * n + 1e-9).astype(np.int64) + 1
    return text, runs, (rank < few) & (n >= LONG - RUN + 1) & (often > 1)


def _alike(one: frozenset[int], two: frozenset[int]) -> bool:
    small, large = sorted((len(one), len(two)))
    return small >= ALIKE * large and len(one & two) >= ALIKE * len(one | two)
