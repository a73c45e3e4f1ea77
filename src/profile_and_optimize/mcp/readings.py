"""All that a program may read from one text: quotes, JSON and percent escapes taken off, lists taken apart.

For texts whose field says nothing of what they are, and for flags, which are another program's to read.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from profile_and_optimize.core.errors import WrongUse

ROUNDS, MOST_READINGS = 4, 400
# Of one reading: paths with blanks and commas in them have several words.
MOST_WORDS, LONGEST_PATH_WORDS = 400, 12
# What may stand around a path: a list's commas, an option's =, quotes and brackets, the marks of files of arguments.
APART = re.compile(r"[\s,;:=|\"'`{}\[\]()<>@&?#]+")
# Of JSON, YAML and C.
_ESCAPE = re.compile(r"\\(?:u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|x[0-9A-Fa-f]{2}|[0-7]{3}|[/\"'\\bfnrt])")
_VARIABLE = re.compile(r"\$\{?[A-Za-z_]")
# A path after a short option (-I/etc), or after a mark that no name of a folder ends in.
_GLUED = re.compile(r"^-[A-Za-z]+(?=/)|[+*!^\\$](?=/)")
_HOME = re.compile(r"~(?:/|$|[A-Za-z_][\w.-]*(?:/|$))")


def readings(text: str) -> Iterator[str]:
    """The text, and each one inside it, every one once. Raises WrongUse for a text that holds too many to judge."""
    seen, new = {text: None}, [text]
    for _ in range(ROUNDS):
        new = [inner for outer in new for inner in _unwrapped(outer) if inner not in seen]
        seen.update(dict.fromkeys(new))
        if len(seen) > MOST_READINGS:
            raise WrongUse("this text holds too many values to be judged", next="give fewer, or shorter ones")
    if new and any(inner not in seen for outer in new for inner in _unwrapped(outer)):
        raise WrongUse("this text is escaped too many times to be judged", next="write it plainly")
    return iter(seen)


def _unwrapped(text: str) -> Iterator[str]:
    if text != text.strip():
        yield text.strip()
    if "%" in text:
        yield unquote(text)
    if _ESCAPE.search(text):
        yield _ESCAPE.sub(_unescaped, text)
    if any(c in text for c in "\\'\""):
        yield from _shell(text)
    if text.lstrip()[:1] in ('"', "{", "["):
        yield from _inside(_json(text))
    if "=" in text:
        yield text.partition("=")[2]


def _unescaped(hit: re.Match[str]) -> str:
    code = hit.group()[1:]
    if code[0] in "uUx":
        number = int(code[1:], 16)
        return chr(number) if number < 0x110000 else ""
    return chr(int(code, 8)) if code.isdecimal() else {"b": "", "f": " ", "n": "\n", "r": " ", "t": " "}.get(code, code)


def _shell(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return []


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _inside(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _inside(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _inside(inner)
    elif isinstance(value, str):
        yield value


def paths_in(text: str, workspace: str) -> Iterator[str]:
    """What in a text could be a path: the whole, each word, and words side by side, as a path may hold blanks and commas.

    Raises WrongUse for a text with slashes and too many words, and for one with a variable of the environment.
    """
    if _VARIABLE.search(text):
        raise WrongUse(
            "the policy cannot judge a variable of the environment, which a program may put there",
            next="write its value",
        )
    # A workspace whose own name holds blanks is no two words.
    text = re.sub(rf"(?:(?<=^)|(?<=[\s,;:=|\"'`{{}}\[\]()<>@&?#])){re.escape(workspace)}/+", "./", text)
    if len(text) < 4096 and "\n" not in text:
        yield text
    words = [m.span() for m in re.finditer(r"[^\s,;:=|\"'`{}\[\]()<>@&?#]+", text)]
    if len(words) > MOST_WORDS and os.sep in text:
        raise WrongUse("this text is too long to be judged for paths", next="give fewer words, or no slashes")
    side_by_side = LONGEST_PATH_WORDS if len(words) <= MOST_WORDS else 1
    for i, (start, end) in enumerate(words):
        if not text[start:end].strip(os.sep):
            continue
        for _, stop in words[i : i + side_by_side]:
            part = text[start:stop]
            for hit in _GLUED.finditer(part):
                yield part[hit.end() :]
            if os.sep in part or ".." in part or is_home(part) or os.path.lexists(os.path.join(workspace, part)):
                yield part


def is_home(text: str) -> bool:
    """Would a program that expands ~ take it for somebody's home?"""
    return _HOME.match(text) is not None
