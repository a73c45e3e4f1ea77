"""Samples of one length from documents laid end to end, in an order of the seed's."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from .corpus import LONGEST_DOCUMENT, Document
from .spelling import Speller

# Of a larger corpus its first part is read: more would take memory and give the same samples.
MOST_CHARS, CHARS_A_TOKEN = 64_000_000, 24
CHARS_OF_A_TOKEN = 4
BATCH = 64


def drawn(documents: Iterable[Document], seed: int, wanted_chars: int) -> list[Document]:
    """Different documents in an order of the seed's; of a large corpus those of its first part."""
    kept: dict[Document, None] = {}
    size = 0
    for whole in documents:
        for doc in cut(whole, LONGEST_DOCUMENT) if isinstance(whole, str) else [whole]:
            if doc not in kept:
                kept[doc] = None
                size += len(doc) if isinstance(doc, str) else sum(len(str(part)) for part in doc)
        if size >= max(MOST_CHARS, wanted_chars):
            break
    found = list(kept)
    random.Random(seed).shuffle(found)
    return found


def cut(text: str, most: int) -> list[str]:
    """Its parts of at most `most` characters, cut at line ends where there are any."""
    parts = []
    while len(text) > most:
        at = text.rfind("\n", most // 2, most) + 1 or most
        parts.append(text[:at])
        text = text[at:]
    return [*parts, text] if text else parts


def in_rounds(documents: Iterable[Document], seq_len: int) -> Iterator[tuple[int, Document]]:
    """(place of its document, part): one part of each document, then a second of each that has one, and so on. A part is about
    one sample of text. Otherwise a few long documents would be all that a model is calibrated on."""
    queue: list[tuple[int, Document, list[str]]] = []
    for i, doc in enumerate(documents):
        parts = cut(doc, max(256, seq_len * CHARS_OF_A_TOKEN)) if isinstance(doc, str) else []
        yield i, parts[0] if parts else doc
        if len(parts) > 1:
            queue.append((i, doc, parts[1:]))
    while queue:
        yield from ((i, parts[0]) for i, _, parts in queue)
        queue = [(i, doc, parts[1:]) for i, doc, parts in queue if len(parts) > 1]


@dataclass
class Pack:
    """Samples of one length, cut from text laid end to end. `left` is what fills no sample yet; `sources` are the places of
    the documents that gave tokens."""

    samples: list[list[int]]
    left: list[int]
    seq_len: int
    sources: set[int]
    tokens: int = 0

    def take(self, ids: list[int], source: int) -> None:
        self.sources.add(source)
        self.tokens += len(ids)
        self.left += ids
        whole = len(self.left) // self.seq_len * self.seq_len
        self.samples += [self.left[i : i + self.seq_len] for i in range(0, whole, self.seq_len)]
        self.left = self.left[whole:]


def filled(
    wanted: int, seq_len: int, documents: Iterable[Document], speller: Speller, say: Callable[[int], None]
) -> Pack:
    """The wanted samples, or as many as the documents give."""
    pack, parts = Pack([], [], seq_len, set()), in_rounds(documents, seq_len)
    while len(pack.samples) < wanted:
        some = [part for _, part in zip(range(min(BATCH, wanted - len(pack.samples))), parts, strict=False)]
        if not some:
            break
        for (source, _), ids in zip(some, speller.ids([part for _, part in some]), strict=True):
            pack.take(ids, source)
        say(len(pack.samples))
    del pack.samples[wanted:]
    return pack


def set_aside(wanted: int, seq_len: int, documents: list[Document], speller: Speller) -> Pack:
    """Held-out samples of an eighth of the documents, or of more where those do not suffice: the rest is for calibration."""
    count = max(1, len(documents) // 8)
    while True:
        pack = filled(wanted, seq_len, documents[:count], speller, lambda _: None)
        if len(pack.samples) >= wanted or count >= len(documents):
            return pack
        count *= 2
