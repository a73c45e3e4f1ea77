"""Prompts of an asked length: exact through the model's tokenizer, else words calibrated on the server's usage."""

from __future__ import annotations

import random
import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.evidence.given import read_given

if TYPE_CHECKING:
    from tokenizers import Tokenizer

POOL_MIN = 50
ADJUSTMENTS = 400
# Characters around the place where the tokenizer says that a token ends; cut there, text may count one more or less.
NEAR = 48
Ask = Callable[[str], int | None]
"""Sends a prompt for one token and gives the server's count of prompt tokens, None without usage."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """The server counts `overhead` tokens beyond the prompt's own (chat template, BOS); `tokens_per_word` without a tokenizer.

    `texts` are the tokens per word of texts that are no random words, by workload.
    """

    overhead: float
    tokens_per_word: float = 1.0
    exact: bool = False
    texts: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        found = {"overhead": self.overhead, "tokens_per_word": self.tokens_per_word, "exact": self.exact}
        return found | ({"texts": dict(sorted(self.texts.items()))} if self.texts else {})

    def per_word(self, text_of: str) -> float:
        return self.texts.get(text_of, self.tokens_per_word)


class PromptMaker:
    """Random prompts. With a tokenizer every prompt has exactly the asked tokens; without, words of a fixed pool."""

    def __init__(self, tokenizer: Tokenizer | None, calibration: Calibration) -> None:
        self.tokenizer = tokenizer
        self.calibration = calibration
        self.pool = _pool(tokenizer) if tokenizer else _syllables()
        self._costs: dict[str, int] = {}

    def make(self, count: int, isl: int, seed: str) -> tuple[str, ...]:
        """`count` different prompts of `isl` tokens as the server counts them. The same seed gives the same prompts."""
        own = self._own(isl)
        rng = random.Random(seed)
        made: dict[str, None] = {}
        for _ in range(count * 20):
            if len(made) == count:
                return tuple(made)
            made[self._one(round(own) if self.tokenizer else own, rng)] = None
        raise WrongUse(f"cannot make {count} different prompts of {isl} tokens", next="ask for a longer isl")

    def tokens(self, text: str, text_of: str = "") -> int:
        """Tokens of a text as a prompt, with what the template adds; without a tokenizer an estimate from its words."""
        if self.tokenizer is None:
            own = len(text.split()) * self.calibration.per_word(text_of)
        else:
            own = len(self.tokenizer.encode(text, add_special_tokens=False).ids)
        return round(own + self.calibration.overhead)

    def cut(self, text: str, isl: int, seed: str, text_of: str = "") -> str:
        """The beginning of a text, cut to a prompt of `isl` tokens. It never begins or ends with a blank.

        Raises WrongUse when the text is too short, or when this tokenizer gives no such length.
        """
        own = round(self._own(isl))
        if self.tokenizer is None:
            ends = [m.end() for m in re.finditer(r"\S+", text)]
            wanted = max(1, round(own / self.calibration.per_word(text_of)))
            if len(ends) < wanted:
                raise WrongUse(f"a text of {len(ends)} words for a prompt of {wanted}")
            return text[: ends[wanted - 1]].lstrip()
        return self._cut(text.lstrip(), own, random.Random(seed))

    def _cut(self, text: str, own: int, rng: random.Random) -> str:
        assert self.tokenizer is not None
        found = self.tokenizer.encode(text, add_special_tokens=False)
        if len(found.ids) < own:
            raise WrongUse(f"a text of {len(found.ids)} tokens for a prompt of {own}")
        end = found.offsets[own - 1][1]
        near = sorted(range(max(1, end - NEAR), min(len(text), end + NEAR) + 1), key=lambda k: abs(k - end))
        for k in near:
            if not text[k - 1].isspace() and self._count([text[:k]]) == own:
                return text[:k]
        base = text[: found.offsets[max(0, own - 9)][1]].rstrip()
        for _ in range(ADJUSTMENTS):  # a few words of random text at the end, until they meet the count
            ended = base
            while (counted := self._count([ended])) < own:
                ended += " " + rng.choice(self.pool)
            if counted == own:
                return ended
        raise WrongUse(f"this tokenizer does not cut a text to exactly {own} tokens", next="leave out --tokenizer")

    def joined(self, pieces: Sequence[tuple[str, int]], isl: int, seed: str) -> str:
        """A prompt of `isl` tokens that begins with the texts of `pieces` (key, tokens), cut to length; the rest is `seed`'s.

        The same key gives the same text, and a shorter piece of it is the beginning of a longer one.
        """
        left = own = int(self._own(isl))
        words: list[str] = []
        for key, tokens in pieces:
            words += self._words(key, min(tokens, left))
            left = max(0, left - tokens)
            if left == 0:
                seed = key  # no flags of its own: equal pieces and lengths make equal prompts
                break
        return self._to_length(words + self._words(seed, left), own, random.Random(seed + "/end"))

    def _own(self, isl: int) -> float:
        """Tokens of the prompt itself, without what the chat template adds."""
        own = isl - self.calibration.overhead
        if own < 1:
            raise WrongUse(
                f"isl {isl} is below what the chat template alone takes ({self.calibration.overhead:g} tokens)"
            )
        return own

    def _words(self, key: str, tokens: int) -> list[str]:
        """The first words of an endless text of that key, up to so many tokens."""
        rng = random.Random(key)
        if self.tokenizer is None:
            return rng.choices(self.pool, k=round(tokens / self.calibration.tokens_per_word))
        words = rng.choices(self.pool, k=tokens)
        upto = accumulate(self._cost(word) for word in words)
        return [word for word, count in zip(words, upto, strict=True) if count <= tokens]

    def _cost(self, word: str) -> int:
        """Tokens of a word that follows another."""
        if word not in self._costs:
            self._costs[word] = self._count(["a", word]) - self._count(["a"])
        return self._costs[word]

    def _to_length(self, words: list[str], own: int, rng: random.Random) -> str:
        """Words off or on at the end, so that what prompts share at their beginning stays."""
        if self.tokenizer is None:
            wanted = max(1, round(own / self.calibration.tokens_per_word))
            return " ".join((words + rng.choices(self.pool, k=max(0, wanted - len(words))))[:wanted])
        for _ in range(ADJUSTMENTS):
            off = own - self._count(words) if words else own
            if off == 0:
                return " ".join(words)
            if off > 0:
                words.append(rng.choice(self.pool))
            else:  # more than the one that was too long: words of unequal length must meet every count
                del words[-rng.randint(1, 3) :]
        raise WrongUse(f"this tokenizer does not give a prompt of exactly {own} tokens", next="leave out --tokenizer")

    def _one(self, own: float, rng: random.Random) -> str:
        if self.tokenizer is None:
            return " ".join(rng.choices(self.pool, k=max(1, round(own / self.calibration.tokens_per_word))))
        words = rng.choices(self.pool, k=int(own))
        words = words[: max(1, int(own) * len(words) // self._count(words))]
        for _ in range(ADJUSTMENTS):
            off = int(own) - self._count(words)
            if off == 0:
                return " ".join(words)
            # One word on or off at a time, drawn anew: with words of unequal length this walk meets every count.
            if off > 0 or len(words) == 1:
                words.append(rng.choice(self.pool))
            if off < 0:
                words.pop(rng.randrange(len(words)))
        raise WrongUse(
            f"this tokenizer does not give a prompt of exactly {int(own)} tokens", next="leave out --tokenizer"
        )

    def _count(self, words: list[str]) -> int:
        assert self.tokenizer is not None
        return max(1, len(self.tokenizer.encode(" ".join(words), add_special_tokens=False).ids))


def calibrate(tokenizer: Tokenizer | None, ask: Ask, texts: Mapping[str, str] | None = None) -> Calibration:
    """Two small questions tell what the server adds and, without a tokenizer, how many tokens a word takes.

    `texts` are samples of what is no random text, by workload: without a tokenizer one question more for each.
    Raises WrongUse when the server gives no usage: lengths could then not be known.
    """
    bare = PromptMaker(tokenizer, Calibration(0.0))
    short, long = bare.make(1, 16, "calibrate-16")[0], bare.make(1, 96, "calibrate-96")[0]
    low, high = ask(short), ask(long)
    if low is None or high is None:
        raise WrongUse(
            "the server gives no usage, so token counts are unknown", next="enable usage (stream_options.include_usage)"
        )
    if tokenizer is not None:
        # A constant offset is the template; anything else means that this is another tokenizer than the server's.
        if low - 16 != high - 96:
            raise WrongUse(
                f"the server counts {low} and {high} tokens where this tokenizer counts 16 and 96: it is another tokenizer",
                next="give the served model's folder as --tokenizer, or leave it out",
            )
        return Calibration(float(low - 16), exact=True)
    per_word = (high - low) / (len(long.split()) - len(short.split()))
    if per_word <= 0:
        counted = f"it counts {low} tokens for 16 words and {high} for 96"
        raise WrongUse(
            f"the server's usage does not follow the prompt: {counted}", next="check what stands before the server"
        )
    overhead = low - per_word * len(short.split())
    return Calibration(overhead, per_word, texts={k: _rate(ask(t), t, overhead) for k, t in (texts or {}).items()})


def _rate(counted: int | None, text: str, overhead: float) -> float:
    """Tokens per word of a sample."""
    if counted is None or counted <= overhead:
        raise WrongUse(
            "the server gives no usage for a text, so token counts are unknown", next="give the model's --tokenizer"
        )
    return (counted - overhead) / len(text.split())


def load_tokenizer(where: str) -> Tokenizer:
    """The tokenizer of a model folder, of a tokenizer.json, or of a Hugging Face id. Raises WrongUse naming what is missing."""
    path = Path(where) / "tokenizer.json" if Path(where).is_dir() else Path(where)
    try:
        from tokenizers import Tokenizer

        if path.is_file():
            return Tokenizer.from_file(str(path))
        if _is_hub_id(where):
            return Tokenizer.from_pretrained(where)
    except Exception as e:  # the library raises bare Exception on a malformed file or an unreachable hub
        raise WrongUse(f"no usable tokenizer: {str(e)[:200]}", where=where, next="give the model's folder") from e
    raise WrongUse("no tokenizer.json there", where=where, next="give the model's folder")


def _is_hub_id(text: str) -> bool:
    return text.count("/") == 1 and not text.startswith((".", "/", "-")) and not Path(text).exists()


def dataset_prompts(path: Path, count: int, seed: str, *, start: int = 0, warm: bool = False) -> tuple[str, ...]:
    """Prompts `start`..`start + count` of a JSONL file ({"prompt": ...} or {"question": ...} a line) in seeded order.

    None twice: raises WrongUse when the file is too small. A warm workload goes round instead.
    """
    prompts = list(dict.fromkeys(_prompt_lines(path)))
    if len(prompts) < start + count and not warm:
        needed = f"{len(prompts)} different prompts, {start + count} needed so that none repeats on a server"
        raise WrongUse(needed, where=str(path), next="fewer requests, a larger file, or declare the workload warm")
    random.Random(seed).shuffle(prompts)
    return tuple(prompts[(start + i) % len(prompts)] for i in range(count))


def _prompt_lines(path: Path) -> list[str]:
    if not path.exists():
        raise WrongUse("no such file", where=str(path), next='give "random" or a JSONL file of prompts')
    lines = [line for line in read_given(path).splitlines() if line.strip()]
    try:
        rows = [orjson.loads(line) for line in lines]  # refuses what no text can hold, half surrogates among it
        found = [r.get("prompt") or r.get("question") for r in rows]
    except (ValueError, AttributeError) as e:
        raise WrongUse(f"not a JSONL file of objects: {e}", where=str(path), next='a line is {"prompt": "..."}') from e
    if not found or not all(isinstance(p, str) and p for p in found):
        raise WrongUse("a line without a prompt", where=str(path), next='a line is {"prompt": "..."}')
    return [str(p) for p in found]


def _pool(tokenizer: Tokenizer) -> list[str]:
    """Words that are one token wherever they stand after a space; the fallback is short syllables of any tokenizer."""
    texts = tokenizer.decode_batch([[i] for i in range(tokenizer.get_vocab_size())], skip_special_tokens=True)
    words = {t[1:] for t in texts if t[:1] == " "} | {
        t.lstrip("\u0120\u2581") for t in tokenizer.get_vocab() if t[:1] in "\u0120\u2581"
    }
    words = {w for w in words if w.isascii() and w.isalpha() and 2 <= len(w) <= 12}
    encode = tokenizer.encode
    # Twice in a row after another word: one token more each time, or it is no single token there.
    counts = {
        w: [len(encode(" ".join(["a"] + [w] * k), add_special_tokens=False).ids) for k in (1, 2)]
        for w in sorted(words)[:20000]
    }
    single = [w for w, (one, two) in counts.items() if two - one == 1]
    return single if len(single) >= POOL_MIN else _syllables()


def _syllables() -> list[str]:
    """Short words of two to four letters: unequal lengths, so that any token count can be met."""
    consonants = [c for c in string.ascii_lowercase[1:20] if c not in "aeiou"]
    return [c + v + d for c in consonants for v in "aeiou" for d in ("", "n", "r", "st")]
