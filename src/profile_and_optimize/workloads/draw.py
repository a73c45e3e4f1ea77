"""The prompts of one run of a workload, and how many tokens each asks for: all of it follows from a seed and the data."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

from profile_and_optimize.clients.prompts import Calibration, PromptMaker, dataset_prompts
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.workload import OWN, RANDOM, TALKS, Workload
from profile_and_optimize.evidence.given import read_given
from profile_and_optimize.workloads.recorded import read_conversations, require_digest
from profile_and_optimize.workloads.texts import (
    Conversation,
    conversation,
    head_of,
    own_pieces,
    pieces_of,
    require_own_talk,
)

# A question or an answer of fewer tokens is left out, as serving benchmarks do with recorded chats.
LEAST_TALK = 4
# Conversations looked at for one that is used; further on, nothing in the data fits.
PATIENCE = 2000
MOST_TEXT_BYTES = 64 << 20
CHARS_PER_TOKEN = 5


@dataclass(frozen=True, slots=True)
class Drawn:
    """Prompts to warm up with, and the timed ones; no prompt is in both. `osls` are the timed ones' lengths of answer,
    () where each asks for the workload's `osl`."""

    warmup: tuple[str, ...]
    timed: tuple[str, ...]
    osls: tuple[int, ...] = ()


def draw_prompts(
    w: Workload, maker: PromptMaker, slots: int, requests: int, seed: str, start: int = 0, shape: str = ""
) -> Drawn:
    """`slots` prompts for the warm-up and `requests` timed ones. The same arguments give the same prompts.

    `start` is for data from a file: so many prompts of its seeded order are passed over, so that slices of it are
    disjoint. `shape` is a seed for lengths alone: arms that may not share prompts share at least these. Raises WrongUse
    when the data does not hold enough, Corrupted when it is not the data of the plan.
    """
    if w.kind in TALKS:
        return _talks(w, maker, slots, requests, seed, start)
    shape = shape or seed
    isls = _evenly(w.isl_least, w.isl, requests, f"{shape}/isl")
    osls = _evenly(w.osl_least, w.osl, requests, f"{shape}/osl")
    if w.kind == "prompts":
        require_digest(data_path(w), w.sha256)
        found = dataset_prompts(data_path(w), slots + requests, seed, start=start, warm=w.warm)
        return Drawn(found[:slots], found[slots:], osls)
    if w.kind == RANDOM:
        return Drawn(*_random(w, maker, slots, requests, seed, isls), osls)
    make = _TextMaker(w, maker) if w.kind == "text" else _SharedMaker(w, maker, seed)
    first = _different(make(w.isl, f"{seed}/warm-up/{start}/{i}") for i in range(slots))
    timed = _different(make(isl, f"{seed}/{start}/{i}") for i, isl in enumerate(isls or (w.isl,) * requests))
    return Drawn(first, timed, osls)


def data_path(w: Workload) -> Path:
    """Where its data lies: where it was found, else as it was named."""
    return Path(w.file or w.dataset)


def require_readable(w: Workload) -> None:
    """Raises WrongUse for data that is not what its kind is made of, before anything starts."""
    if w.kind == "prompts":
        dataset_prompts(data_path(w), 1, "", warm=True)
    elif w.kind == "text":
        _pieces(w)
    elif w.kind in TALKS:
        next(_conversations(w, ""))


def samples(workloads: Iterable[Workload]) -> dict[str, str]:
    """A piece of text of each workload that is no random text, for counting its tokens per word."""
    out = {}
    for w in workloads:
        if w.kind == "text":
            text = _TextMaker(w, PromptMaker(None, Calibration(0.0)))(w.isl, "sample")
        elif w.kind in TALKS:
            text = "\n".join(turn for talk in islice(_conversations(w, "sample"), 8) for turn in talk)
        else:
            continue
        # Half as many words as tokens are asked for: that fits in whatever the workload itself fits in.
        out[w.name] = " ".join(text.split(" ")[: max(8, w.isl // 2)])
    return out


def _random(
    w: Workload, maker: PromptMaker, slots: int, requests: int, seed: str, isls: tuple[int, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    first = maker.make(slots, w.isl, seed + "/warm-up") if slots else ()
    if not isls:
        return first, maker.make(requests, w.isl, seed)
    return first, _different(maker.make(1, isl, f"{seed}/{i}")[0] for i, isl in enumerate(isls))


def _evenly(least: int, most: int, requests: int, seed: str) -> tuple[int, ...]:
    """Lengths drawn evenly from `least` to `most`; () where `least` is 0."""
    rng = random.Random(seed)
    return tuple(rng.randint(least, most) for _ in range(requests)) if least else ()


def _different(prompts: Iterable[str]) -> tuple[str, ...]:
    made = tuple(prompts)
    if len(set(made)) < len(made):
        raise WrongUse("cannot make so many different prompts of so few tokens", next="ask for a longer isl")
    return made


# text


def _pieces(w: Workload) -> tuple[str, ...]:
    if w.dataset.startswith(OWN):
        return own_pieces(w.dataset.removeprefix(OWN))
    path = data_path(w)
    require_digest(path, w.sha256)
    try:
        text = read_given(path, MOST_TEXT_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise WrongUse(f"not UTF-8 text: {e.reason}", where=str(path), next="give another file") from e
    return pieces_of(text, by_line="\n\n" not in text.strip()) or _refuse_empty(path)


def _refuse_empty(path: Path) -> tuple[str, ...]:
    raise WrongUse("no text in it", where=str(path), next="give another file")


class _TextMaker:
    """Prompts of pieces in random order under a first line of their own, cut to length."""

    def __init__(self, w: Workload, maker: PromptMaker) -> None:
        self._maker, self._name, self._pieces = maker, w.name, _pieces(w)
        self._head, self._joint = w.dataset.removeprefix(OWN), "\n" if w.dataset == OWN + "verse" else "\n\n"

    def __call__(self, isl: int, seed: str) -> str:
        rng, chars = random.Random(seed), CHARS_PER_TOKEN * isl + 200
        while True:
            text = self._long(chars, rng)
            if self._maker.tokens(text, self._name) > isl + 1:
                return self._maker.cut(text, isl, seed, self._name)
            chars *= 2

    def _long(self, chars: int, rng: random.Random) -> str:
        """At least so many characters; the pieces come round again when all were used."""
        out = [head_of(self._head, rng)]
        size = len(out[0])
        while size < chars:
            for piece in rng.sample(self._pieces, len(self._pieces)):
                out.append(piece)
                size += len(piece) + len(self._joint)
                if size >= chars:
                    break
        return self._joint.join(out)


class _SharedMaker:
    """Prompts that begin with one of a few prefixes of `shared` tokens and go on with random words of their own."""

    def __init__(self, w: Workload, maker: PromptMaker, seed: str) -> None:
        self._w, self._maker, self._seed, self._turn = w, maker, seed, count()

    def __call__(self, isl: int, seed: str) -> str:
        prefix = f"{self._seed}/prefix/{next(self._turn) % self._w.groups}"
        return self._maker.joined([(prefix, self._w.shared)], isl, seed)


# conversations


@dataclass(frozen=True, slots=True)
class _Turn:
    prompt: str
    osl: int


def _talks(w: Workload, maker: PromptMaker, slots: int, requests: int, seed: str, start: int) -> Drawn:
    """Whole conversations that fit, `start` of those in the seeded order passed over.

    A turn of a multi-turn workload begins with everything that was said before, answers as recorded. Between two turns of
    a conversation come those of as many others as there are slots, or up to twice as many, so that the one before was
    sent earlier.
    """
    fitting = islice(_fitting(w, maker, seed), start, None)
    first = tuple(turns[0].prompt for turns in islice(fitting, slots))
    size = max(slots, min(2 * slots, requests // max(1, w.turns)), 1)
    timed = list(islice(_in_turn(fitting, size), requests))
    if len(first) < slots or len(timed) < requests:
        raise WrongUse(
            f"{len(timed)} prompts of {w.isl} and {w.osl} tokens at most, {requests} needed after {start + slots} others, so that "
            "none repeats on a server", where=str(data_path(w)), next="fewer requests, a larger file, or declare cache: warm",
        )  # fmt: skip
    return Drawn(first, tuple(t.prompt for t in timed), tuple(t.osl for t in timed))


def _in_turn(fitting: Iterator[Sequence[_Turn]], size: int) -> Iterator[_Turn]:
    """One turn of each of `size` conversations, then the next one of each; where one ended, another begins."""
    waiting = deque(islice(fitting, size))
    while waiting:
        turns = waiting.popleft()
        yield turns[0]
        rest = turns[1:] or next(fitting, ())
        if rest:
            waiting.append(rest)


def _fitting(w: Workload, maker: PromptMaker, seed: str) -> Iterator[tuple[_Turn, ...]]:
    """Those whose lengths fit, each first turn once; a warm workload goes round."""
    while True:
        met: set[str] = set()
        passed = 0
        for talk in _conversations(w, seed):
            turns = _turns(w, maker, talk) if talk[0] not in met else ()
            passed = 0 if turns else passed + 1
            if passed > PATIENCE and not w.from_file:
                break
            if turns:
                met.add(talk[0])
                yield turns
        if not w.warm or not met:
            return


def _conversations(w: Workload, seed: str) -> Iterator[Conversation]:
    if not w.from_file:
        require_own_talk(w.dataset.removeprefix(OWN))
        yield from (conversation(random.Random(f"{seed}/talk/{i}"), max(1, w.turns)) for i in count())
        return
    found = list(read_conversations(data_path(w), w.sha256))
    random.Random(seed).shuffle(found)
    yield from found


def _turns(w: Workload, maker: PromptMaker, talk: Conversation) -> tuple[_Turn, ...]:
    """The turns of a conversation that fit one after another; () when not enough do."""
    out: list[_Turn] = []
    told = ""
    for n in range(0, min(len(talk), 2 * max(1, w.turns)), 2):
        told = talk[n] if not w.turns else f"{told}User: {talk[n]}"
        osl = _answer(w, maker, talk[n + 1]) if n + 1 < len(talk) else w.osl
        isl = maker.tokens(told, w.name)
        if osl is None or isl - maker.calibration.overhead < LEAST_TALK or isl > w.isl:
            break
        out.append(_Turn(told, osl))
        told += f"\n\nAssistant: {talk[n + 1]}\n\n" if n + 1 < len(talk) else ""
    return tuple(out) if len(out) >= (2 if w.turns else 1) else ()


def _answer(w: Workload, maker: PromptMaker, text: str) -> int | None:
    """Tokens of a recorded answer; None when it is too short or too long to be used."""
    own = round(maker.tokens(text, w.name) - maker.calibration.overhead)
    return own if LEAST_TALK <= own <= w.osl else None
