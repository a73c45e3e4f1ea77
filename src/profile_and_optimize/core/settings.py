"""What an arm may ask of an engine: neither what is ours to set, nor code or pickles, nor a credential that would be written down."""

from __future__ import annotations

import re
from collections.abc import Iterator

from profile_and_optimize.core.errors import WrongUse

Settings = tuple[tuple[str, str], ...]

# Ours to set, or dangerous: an arm may not move the server, serve another model, or run code that a model brings.
# A file of options (--config) could hold any of them.
OURS = (
    "--host", "--port", "--model", "--model-path", "--served-model-name", "--trust-remote-code", "--uds", "--config",
)  # fmt: skip
# Load formats of vLLM that unpickle weights.
PICKLED = ("pt", "npcache")
_SECRET = re.compile(r"(?i)((api|access|private|auth)[-_]?key|token$|secret|passw|credential)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def refuse_settings(flags: tuple[str, ...], env: Settings, where: str) -> None:
    """Raises WrongUse naming an option or a name that is not the arm's to set, or a credential."""
    for flag, value in options(flags):
        if flag in OURS:
            raise WrongUse(f"{flag} is not an arm's to set", where=where, next="remove it")
        if flag == "--load-format" and value.lower() in PICKLED:
            raise WrongUse(f"{flag} {value} reads pickles, which are refused", where=where, next="remove it")
        _refuse_secret(flag, where)
    if any("\0" in f or "\n" in f for f in flags):
        raise WrongUse("a flag holds a control character", where=where, next="remove it")
    for name, value in env:
        if not _NAME.fullmatch(name) or "\0" in value:
            raise WrongUse(
                f"{name!r} is not a name that an environment can hold", where=where, next="use letters, digits and _"
            )
        _refuse_secret(name, where)


def options(flags: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """(long option, its value or "") of an argument list, the option as engines compare it."""
    for i, flag in enumerate(flags):
        name, given, value = flag.partition("=")
        if flag.startswith("--"):
            yield name.replace("_", "-"), value if given else (flags[i + 1] if i + 1 < len(flags) else "")


def _refuse_secret(name: str, where: str) -> None:
    if _SECRET.search(name):
        raise WrongUse(
            f"{name} carries a credential, which would be written into the run",
            where=where, next="set it in your own environment",
        )  # fmt: skip
