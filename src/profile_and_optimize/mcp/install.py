"""Entering the server into a client's configuration. What is there stays; a file that cannot be read is not touched."""

from __future__ import annotations

import difflib
import json
import os
import re
import shutil
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.evidence.atomic import write_atomic
from profile_and_optimize.evidence.given import read_given
from profile_and_optimize.evidence.reading import strict_json
from profile_and_optimize.mcp import EXECUTABLE, KEY

MOST_BYTES = 16 << 20
# Codex gives up on a tool after a minute by default; a campaign takes as long as its budget.
CODEX_TIMES = {"startup_timeout_sec": 30, "tool_timeout_sec": 86_400}


@dataclass(frozen=True, slots=True)
class Client:
    """Where a client keeps its servers, and how its file is changed: (text, entry) to text."""

    place: Callable[[], Path]
    change: Callable[[str, Mapping[str, Any]], str]


@dataclass(frozen=True, slots=True)
class Change:
    path: Path
    before: str
    after: str

    @property
    def diff(self) -> str:
        names = (str(self.path), str(self.path))
        return "".join(difflib.unified_diff(self.before.splitlines(True), self.after.splitlines(True), *names))


def entry(workspace: str | None, policy: str | None) -> dict[str, Any]:
    """The command of this installation, by its absolute path: a client has another PATH than a shell."""
    args: list[str] = []
    for option, value in (("--workspace", workspace), ("--policy", policy)):
        if value is not None:
            args += [option, os.path.abspath(Path(value).expanduser())]
    return {"command": str(executable()), "args": args}


def executable() -> Path:
    """Beside the Python that runs, else on the PATH. Raises WrongUse when it is in neither place."""
    beside = Path(sys.executable).with_name(EXECUTABLE)
    found = str(beside) if beside.exists() else shutil.which(EXECUTABLE)
    if found is None:
        raise WrongUse("not found", where=EXECUTABLE, next="install the package with pip, then try again")
    return Path(os.path.abspath(found))


def planned(client: str, config: str | None, new: Mapping[str, Any]) -> Change:
    """The change to a client's file, not yet made. Raises WrongUse for a file that cannot be parsed."""
    known = CLIENTS[client]
    path = (Path(config).expanduser() if config else known.place()).resolve()
    before = _text(path)
    try:
        after = known.change(before, new)
    except (ValueError, TypeError) as e:
        raise WrongUse(
            f"cannot be read: {e}", where=str(path), next="correct the file, or enter the server by hand (docs/mcp.md)"
        ) from e
    return Change(path, before, after)


def write(change: Change) -> None:
    """Whole or not at all, with the rights that the file had; a new one is the user's alone."""
    mode = change.path.stat().st_mode & 0o777 if change.path.exists() else 0o600
    old = os.umask(0o077)
    try:
        write_atomic(change.path, change.after.encode())
        change.path.chmod(mode)
    finally:
        os.umask(old)


def _text(path: Path) -> str:
    if not path.exists():
        return ""
    try:
        return read_given(path, MOST_BYTES).decode()
    except ValueError as e:
        raise WrongUse(f"not text: {e}", where=str(path), next="correct the file") from e


def _json_change(text: str, new: Mapping[str, Any]) -> str:
    """`mcpServers` of a JSON file. Other keys of our own entry, such as env, stay."""
    data = strict_json(text) if text.strip() else {}
    servers = data.setdefault("mcpServers", {}) if isinstance(data, dict) else None
    if not isinstance(servers, dict) or not isinstance(servers.get(KEY, {}), dict):
        raise ValueError("mcpServers is not an object")
    merged = {"type": "stdio", **servers.get(KEY, {}), **new}
    if servers.get(KEY) == merged:
        return text
    servers[KEY] = merged
    return json.dumps(data, indent=_indent(text), ensure_ascii=False) + "\n"


def _indent(text: str) -> str:
    """As the file has it, so that the change is the entry alone."""
    found = re.search(r"\n([ \t]+)\"", text)
    return found.group(1) if found else "  "


def _toml_change(text: str, new: Mapping[str, Any]) -> str:
    """The table [mcp_servers.KEY] of a TOML file; every other line stays as it is, comments too.

    Raises ValueError when the result would not read as the old file with just this entry changed.
    """
    before = tomllib.loads(text)
    servers = before.get("mcp_servers", {})
    own = servers.get(KEY, {}) if isinstance(servers, dict) else None
    if not isinstance(own, dict):
        raise ValueError("mcp_servers is not a table")
    merged = {**CODEX_TIMES, **own, **new}
    if own == merged:
        return text
    block = f"[mcp_servers.{KEY}]\n" + "".join(
        f"{k} = {_toml(v)}\n" for k, v in merged.items() if not isinstance(v, dict)
    )
    found = _TABLE.search(text)
    gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
    after = text[: found.start()] + block + text[found.end() :] if found else text + gap + block
    expected = {**before, "mcp_servers": {**servers, KEY: merged}}
    if tomllib.loads(after) != expected:
        raise ValueError(f"its mcp_servers is written in a way that cannot be changed line by line; add:\n{block}")
    return after


# Our table's header and the lines up to the next header or the end.
_TABLE = re.compile(
    rf"^[ \t]*\[\s*mcp_servers\s*\.\s*(?:\"{KEY}\"|{KEY})\s*\][^\n]*\n(?:(?![ \t]*\[)[^\n]*(?:\n|\Z))*?(?=^[ \t]*\[|^\s*\Z|\Z)",
    re.M,
)


def _toml(value: Any) -> str:
    """A value as TOML. A JSON text without escapes beyond TOML's own is one; what is neither is refused."""
    if isinstance(value, bool | int | float | str):
        return json.dumps(value, ensure_ascii=True).replace("\\/", "/")
    if isinstance(value, list) and all(isinstance(v, str | int | float | bool) for v in value):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    raise ValueError(f"{value!r} of the old entry cannot be kept")


def _codex_home() -> Path:
    return Path(os.environ.get("CODEX_HOME") or Path.home() / ".codex")


CLIENTS = {
    "claude": Client(lambda: Path(".mcp.json"), _json_change),
    "codex": Client(lambda: _codex_home() / "config.toml", _toml_change),
    "cursor": Client(lambda: Path(".cursor") / "mcp.json", _json_change),
}
