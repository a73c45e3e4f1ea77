"""An argument list as an engine may read it: every spelling of an option, whole names for abbreviations, its values.

Read wider than any one parser does (quotes, blanks, dashes of other scripts), for what is told here is refused or asked about.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from profile_and_optimize.core import code_flags
from profile_and_optimize.core.names import word_set
from profile_and_optimize.core.plain_flags import PLAIN_FLAGS

# Ours to set: an arm may not move the server or serve another model. A file of options (config) could hold any of them.
OURS = word_set("host port model model-path served-model-name uds config")
_JUDGED = frozenset(
    {*code_flags.CODE_FLAGS, *code_flags.VALUE_FLAGS, *code_flags.KEYED_FLAGS, *code_flags.CREDENTIAL_FLAGS, *OURS}
)
_LONG = re.compile(r"(?<![\w-])--[A-Za-z][\w.-]*")
_SHORT = re.compile(r"-[A-Za-z].*", re.S)
_MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True, slots=True)
class Given:
    """One option: its whole name without dashes, the keys of `--name.key.key`, and the words that follow it."""

    option: str
    keys: tuple[str, ...]
    values: tuple[str, ...]


def given(flags: Sequence[str]) -> Iterator[Given]:
    """Every option however it is spelled: `--a=b`, `--a b c`, `-ab`, quoted, with blanks, several in one argument. Words
    before the first option belong to one without a name."""
    name, values = "", list[str]()
    for token in (part for flag in flags for part in _parts(flag)):
        head, sign, value = token.partition("=")
        words = head.split(maxsplit=1)
        long = words[0] if words and words[0].startswith("--") else _short(head.strip())
        if long:
            if name or values:
                yield _given(name, values)
            rest = [*words[1:], *([value.strip()] if sign else [])]
            name, values = long, [w for w in rest if w]
        elif token not in ("=", ""):
            values.append(token if values else token.removeprefix("=").strip())
    if name or values:
        yield _given(name, values)


def last_value(flags: Sequence[str], option: str) -> str | None:
    """What the last option of this name (without dashes) was given, its words joined; None where it is not there."""
    return next((" ".join(g.values) for g in reversed(tuple(given(flags))) if g.option == option), None)


def option_name(text: str) -> str:
    """One spelling of an option: no dashes in front, none of its underscores, small letters."""
    return text.strip().lstrip("-").replace("_", "-").casefold()


def _given(name: str, values: Sequence[str]) -> Given:
    first, *keys = name.split(".")
    return Given(whole(first), tuple(k.removesuffix("+") for k in keys), tuple(values))


def whole(text: str) -> str:
    """The option that this one is, or the judged one that argparse could take its beginning for."""
    name = option_name(text).removesuffix("+")
    if name in PLAIN_FLAGS or name in _JUDGED or name.removeprefix("no-") in PLAIN_FLAGS or len(name) < 2:
        return name
    return next((full for full in sorted(_JUDGED) if full.startswith(name)), name)


def _parts(flag: str) -> list[str]:
    """An argument without quotes and blanks around it, cut before every option in it."""
    text = _ascii_dashes(unicodedata.normalize("NFKC", flag)).strip().strip("'\"`").strip()
    if text.startswith(("{", "[")):
        return [text]
    starts = [m.start() for m in _LONG.finditer(text)]
    cuts = [0, *(s for s in starts if s)] if starts else [0]
    return [text[a:b].strip().rstrip("'\"`") for a, b in zip(cuts, [*cuts[1:], len(text)], strict=True)]


def _ascii_dashes(text: str) -> str:
    """Dashes of other scripts as hyphens; a long one in front, as word processors make of two, as two."""
    if text[:1] in ("\N{EM DASH}", "\N{EN DASH}", "\N{HORIZONTAL BAR}"):
        text = "--" + text[1:]
    return "".join("-" if c == _MINUS or unicodedata.category(c) == "Pd" else c for c in text)


def _short(head: str) -> str:
    """The long option that a short one stands for, also where its value is attached; "" where no table has it."""
    if head.startswith("--") or not _SHORT.fullmatch(head):
        return ""
    word, _, dotted = head[1:].partition(".")
    hits = [long for short, long in code_flags.SHORT.items() if word == short or word.startswith(short)]
    hits += [long for short, long in code_flags.SHORT.items() if short.startswith(word)]
    return f"--{hits[0]}" + (f".{dotted}" if dotted else "") if hits else ""
