"""The flags that the installed version of an engine knows, read from its own help and kept, for reading takes ~10 s."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

from profile_and_optimize.core.errors import BrokeMidway
from profile_and_optimize.toolenv.child import Child, child_env, lines_of, run_child
from profile_and_optimize.toolenv.find import ToolEnv, default_root
from profile_and_optimize.toolenv.specs import spec_of

# An option line of argparse is indented by exactly two blanks; help text and examples by more. Click does the same where
# rich draws no boxes round it (TYPER_USE_RICH).
_OPTION_LINE = re.compile(r"  (-\S.*)")
_PLAIN = {"TYPER_USE_RICH": "0", "NO_COLOR": "1", "COLUMNS": "200", "TERMINAL_WIDTH": "200"}
_LONG = re.compile(r"(?<!\S)--[A-Za-z][\w.-]*")


def flags_of(env: ToolEnv, *, root: Path | None = None, child: Child = run_child) -> frozenset[str]:
    """Long option names of its serve command, such as "--max-num-seqs"; "--no-..." forms are listed as their own.

    `root` holds the cache for a user's Python (default: the tools folder). Raises BrokeMidway when the help fails.
    """
    spec = spec_of(env.tool)
    cache, version = _cache_of(env, root), env.version(spec.name) or ""
    known = _read(cache, version)
    if known is not None:
        return known
    doing = f"{spec.name}: {' '.join(spec.help)}"
    argv, plain = [str(env.python), *spec.help], child_env(os.environ) | _PLAIN
    flags = parse_flags(lines_of(child, argv, env=plain | dict(spec.env if env.is_cpu else ()), doing=doing))
    if not flags:
        raise BrokeMidway(f"{doing} named no options", where=str(env.python))
    _write(cache, version, flags)
    return flags


def parse_flags(lines: Iterable[str]) -> frozenset[str]:
    """Long options of an argparse help. Names that only occur in help text do not count."""
    heads = (found.group(1) for line in lines if (found := _OPTION_LINE.fullmatch(line)))
    # Two blanks or more part the option from help text on the same line.
    return frozenset(flag for head in heads for flag in _LONG.findall(re.split(r"\s{2,}", head)[0]))


def _cache_of(env: ToolEnv, root: Path | None) -> Path:
    if env.folder is not None:
        return env.folder / "flags.json"
    identity = "\n".join((str(env.python), *(f"{name}=={version}" for name, version in env.versions)))
    return (root or default_root()) / "flags" / f"{hashlib.sha256(identity.encode()).hexdigest()[:16]}.json"


def _read(cache: Path, version: str) -> frozenset[str] | None:
    try:
        kept = json.loads(cache.read_text())
        return frozenset(kept["flags"]) if kept["version"] == version and kept["flags"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(cache: Path, version: str, flags: frozenset[str]) -> None:
    cache.parent.mkdir(parents=True, exist_ok=True)
    part = cache.with_name(f"{cache.name}.{os.getpid()}")
    part.write_text(json.dumps({"schema": 1, "version": version, "flags": sorted(flags)}, indent=1))
    part.replace(cache)
