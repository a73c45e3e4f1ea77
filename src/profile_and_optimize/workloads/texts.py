"""Texts of the package itself (own verse, code and conversations), and a user's text file, as pieces to draw from."""

from __future__ import annotations

import random
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from profile_and_optimize.core.errors import WrongUse

FOLDER = "texts"
# Texts that stand beside this module, and what the first line of a prompt made of them says.
HEADS = {"verse": "Verses, page {tag}", "code": "# file {tag}.py"}
TALK = "conversations"
OTHER_HEAD = "Text {tag}"
Conversation = tuple[str, ...]
"""What is said, in turns: the user's first, then the assistant's, and so on."""


def own_pieces(name: str) -> tuple[str, ...]:
    """Pieces of a text of ours: verses by the line, everything else by the paragraph. Raises WrongUse naming what there is."""
    if name not in HEADS:
        raise WrongUse(f"no text {name!r} in the package; there are {', '.join(HEADS)}")
    return pieces_of(_read(f"{name}.txt"), by_line=name == "verse")


def require_own_talk(name: str) -> None:
    """Raises WrongUse for conversations that the package does not have."""
    if name != TALK:
        raise WrongUse(f"no conversations {name!r} in the package; there are {TALK}")


def pieces_of(text: str, *, by_line: bool = False) -> tuple[str, ...]:
    """Its different lines, or paragraphs (between empty lines), in their order."""
    parts = text.splitlines() if by_line else text.split("\n\n")
    return tuple(dict.fromkeys(p.strip("\n") for p in parts if p.strip()))


def head_of(name: str, rng: random.Random) -> str:
    """The first line of a prompt. No two are alike, so that a prefix cache finds nothing in a cold workload."""
    return HEADS.get(name, OTHER_HEAD).format(tag=f"{rng.getrandbits(48):012x}")


def conversation(rng: random.Random, turns: int = 1) -> Conversation:
    """One made of our own sentences. It begins with a number of its own, and its lengths have a long tail."""
    said: list[str] = []
    for turn in range(turns):
        first = _filled("asks" if turn == 0 else "follow", rng)
        opening = f"Note {rng.getrandbits(32)}: {first}" if turn == 0 else first
        said += [
            " ".join([opening, *_sentences("details", "user", rng)]),
            " ".join(_sentences("answers", "assistant", rng)),
        ]
    return tuple(said)


def _sentences(what: str, who: str, rng: random.Random) -> list[str]:
    """None or more of the user's, one or more of the assistant's."""
    shape = talk()["lengths"][who]
    count = min(int(rng.lognormvariate(shape["mean"], shape["sd"])), shape["most"])
    return [_filled(what, rng) for _ in range(max(count, who == "assistant"))]


def _filled(what: str, rng: random.Random) -> str:
    words = talk()["words"]
    names = {"n": rng.randint(2, 9999), "name": rng.choice(words["names"]), "topic": rng.choice(words["topics"])}
    return str(rng.choice(words[what])).format(**names)


@cache
def talk() -> Mapping[str, Any]:
    """How many sentences a turn has, and the sentences."""
    return tomllib.loads(_read(f"{TALK}.toml"))


def _read(name: str) -> str:
    return (resources.files(__package__) / FOLDER / name).read_text(encoding="utf-8")
