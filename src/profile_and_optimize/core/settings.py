"""What an arm may ask of an engine: neither what is ours to set, nor pickles, nor a credential that would be written down.

What brings code is a class of its own, in `code_settings`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from profile_and_optimize.core.argv import OURS, given
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.plain_flags import PLAIN_FLAGS
from profile_and_optimize.core.secret_names import is_secret_name

Settings = tuple[tuple[str, str], ...]

# Load formats of vLLM that unpickle weights.
PICKLED = ("pt", "npcache")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def refuse_settings(flags: tuple[str, ...], env: Settings, where: str) -> None:
    """Raises WrongUse naming an option or a name that is not the arm's to set, or a credential."""
    if any("\0" in f or "\n" in f for f in flags):
        raise WrongUse("a flag holds a control character", where=where, next="remove it")
    for flag in given(flags):
        name = f"--{flag.option}"
        if flag.option in OURS:
            raise WrongUse(f"{name} is not an arm's to set", where=where, next="remove it, or write the flag out")
        if flag.option.endswith("load-format") and any(v.strip("'\"").lower() in PICKLED for v in flag.values):
            raise WrongUse(f"{name} {flag.values[0]} reads pickles, which are refused", where=where, next="remove it")
        if flag.option not in PLAIN_FLAGS:
            _refuse_secret(name, where)
    for name, value in env:
        if not _NAME.fullmatch(name) or "\0" in value:
            raise WrongUse(
                f"{name!r} is not a name that an environment can hold", where=where, next="use letters, digits and _"
            )
        _refuse_secret(name, where)


def options(flags: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """(long option, its value or "") of an argument list, the option as engines compare it."""
    for i, flag in enumerate(flags):
        name, sign, value = flag.partition("=")
        if flag.startswith("--"):
            yield name.replace("_", "-"), value if sign else (flags[i + 1] if i + 1 < len(flags) else "")


def _refuse_secret(name: str, where: str) -> None:
    if is_secret_name(name):
        raise WrongUse(
            f"{name} carries a credential, which would be written into the run",
            where=where, next="set it in your own environment",
        )  # fmt: skip
