"""Questions that flip together are one observation: those of one declared cluster, and near-duplicates of one another.

A label or a likeness only joins, it never separates: what is joined wrongly costs questions, what is missed costs error.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

from profile_and_optimize.stats.near_duplicates import near_duplicates

EXAMPLES, SHOWN = 3, 80


@dataclass(frozen=True, slots=True)
class Posed:
    """A question as far as clusters go: its task, its text, the cluster that was declared with it ("" for none)."""

    task: str
    text: str
    cluster: str = ""


@dataclass(frozen=True, slots=True)
class Clusters:
    """`labels[i]` says which questions belong together, "" where question i is alone. `near` counts questions that are nearly the
    same as another one before them, `declared` those that carry a cluster; None where texts were not recorded and nobody
    looked. `instructions` are tasks in which long shared text was taken for an instruction; `examples` a few pairs of
    near-duplicates, their beginnings."""

    labels: tuple[str, ...]
    declared: int
    near: int | None
    instructions: tuple[str, ...] = ()
    examples: tuple[tuple[str, str], ...] = ()

    @property
    def sizes(self) -> tuple[int, ...]:
        """Questions of every cluster, largest first."""
        joined: dict[str, int] = defaultdict(int)
        for label in self.labels:
            if label:
                joined[label] += 1
        alone = sum(not label for label in self.labels)
        return tuple(sorted((*joined.values(), *[1] * alone), reverse=True))

    @property
    def assumption(self) -> str:
        """What the gate's error rests on, in words."""
        n, sizes = len(self.labels), self.sizes
        near = "near-duplicates unknown (texts were not recorded)" if self.near is None else _found(self.near)
        largest = f" (the largest of {sizes[0]})" if sizes and sizes[0] > 1 else ""
        told = f"assumes that questions of different clusters flip independently: {n} questions in {len(sizes)} clusters{largest}, {near}"
        if self.instructions:
            names = ", ".join(name or "the questions" for name in self.instructions)
            told += f"; long text that more than half of {names} share was taken for an instruction"
        return told

    def to_json(self) -> dict[str, Any]:
        sizes = self.sizes
        return {
            "questions": len(self.labels), "clusters": len(sizes), "largest": sizes[0] if sizes else 0, "declared": self.declared,
            "near_duplicates": self.near, "instructions": list(self.instructions),
            "examples": [list(pair) for pair in self.examples], "assumes": self.assumption,
        }  # fmt: skip


def _found(near: int) -> str:
    return f"{near} near-duplicate{'' if near == 1 else 's'} found"


@lru_cache(maxsize=16)
def clusters_of(posed: tuple[Posed, ...]) -> Clusters:
    """Declared clusters and near-duplicates joined, across tasks too; chains are one cluster."""
    alike = near_duplicates([q.text for q in posed], [q.task for q in posed])
    keys = [
        [("alike", str(g))] + ([("declared", q.cluster)] if q.cluster else [])
        for g, q in zip(alike.groups, posed, strict=True)
    ]
    pairs = ((posed[g].text[:SHOWN], posed[i].text[:SHOWN]) for i, g in enumerate(alike.groups) if g != i)
    return Clusters(
        _labels(keys),
        sum(bool(q.cluster) for q in posed),
        alike.found,
        alike.instructions,
        tuple(islice(pairs, EXAMPLES)),
    )


def declared_clusters(names: Sequence[str]) -> Clusters:
    """By declared names alone, where no texts are known."""
    keys = [[("alone", str(i)), *([("declared", name)] if name else [])] for i, name in enumerate(names)]
    return Clusters(_labels(keys), sum(map(bool, names)), None)


def _labels(keys: Sequence[Sequence[Hashable]]) -> tuple[str, ...]:
    """A label per question, the same for questions that a chain of common keys joins; "" for those alone."""
    at: dict[Hashable, Hashable] = {}

    def top(key: Hashable) -> Hashable:
        while (up := at.setdefault(key, key)) != key:
            at[key] = key = at[up]
        return key

    for own in keys:
        for other in own[1:]:
            at[top(other)] = top(own[0])
    tops = [top(own[0]) for own in keys]
    size: dict[Hashable, int] = defaultdict(int)
    for one in tops:
        size[one] += 1
    names = {one: str(i) for i, one in enumerate(dict.fromkeys(tops))}
    return tuple(names[one] if size[one] > 1 else "" for one in tops)


def counting_order(questions: Sequence[str], labels: Sequence[str] = ()) -> list[int]:
    """The order in which questions count: by the digest of their text or id, tasks mixed, whatever was answered.

    Looks are honest only if every beginning is a random draw from the plan; data sets are sorted by subject. The same question
    has the same place in every run. A cluster stays together, where the first of its questions by name would stand: a
    place that does not depend on its size."""
    marks = [_mark(q) for q in questions]
    first: dict[str, str] = {}
    for q, label in zip(questions, labels or [""] * len(questions), strict=True):
        if label:
            first[label] = min(first.get(label, q), q)
    places = [
        _mark(first[label]) if label else mark for label, mark in zip(labels or [""] * len(marks), marks, strict=True)
    ]
    return sorted(range(len(marks)), key=lambda i: (places[i], marks[i]))


def _mark(question: str) -> bytes:
    return hashlib.sha256(question.encode()).digest()


def whole_end(labels: Sequence[str], n: int) -> int:
    """The first place at or after n that splits no cluster which stands together."""
    while 0 < n < len(labels) and labels[n] and labels[n] == labels[n - 1]:
        n += 1
    return n
