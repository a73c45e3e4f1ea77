"""Is what a request says within the owner's policy? Every text in it is judged by what it could mean, whatever its field.

A text that could be a path must lie in the policy's folders, links resolved; one that could be a URL must have a host that
the policy names. That holds for campaign files and plans that a request leads to as well.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from profile_and_optimize.core.errors import GateRefused, PaoError, WrongUse
from profile_and_optimize.evidence.folder import find_run, workspace
from profile_and_optimize.evidence.given import read_given
from profile_and_optimize.evidence.reading import read_json
from profile_and_optimize.mcp.policy import Policy
from profile_and_optimize.ops.base import Op, Request, Safety
from profile_and_optimize.ops.config import read_yaml
from profile_and_optimize.report.words import plain

LONGEST_TEXT = 1 << 16
MOST_FILE_BYTES = 1 << 20
MOST_DEPTH = 40
PLANS = ("plan.json", "draft.json")
# Files that say what is to be run: by the field that names them, or by their kind.
SAYING, KINDS = ("config", "arms"), (".yaml", ".yml", ".tsv")
_NEGATIVE = re.compile(r"-\d[\d.]*%?")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^\s\"'<>]*)")
# What may stand around a path in a longer text: a list's commas, an option's =, quotes and brackets of JSON.
_APART = re.compile(r"[\s,;:=|\"'`{}\[\]()<>]+")
_PYTHON = re.compile(r"(?:.*_)?python")
_IMAGE = re.compile(r"(?:.*_)?images?")
_MODEL = re.compile(r"model|tokenizer")
_MINUTES = {"budget_minutes": 1.0, "budget_s": 1 / 60}


def refuse_hostile(values: Mapping[str, Any]) -> None:
    """Raises WrongUse for a text that no option can mean: NUL, endless, or one that another program would take for an option."""
    for where, text in _texts(values):
        if "\0" in text:
            raise WrongUse("holds a NUL character", where=where, next="remove it")
        if len(text) > LONGEST_TEXT:
            raise WrongUse(f"{len(text)} characters; at most {LONGEST_TEXT} are read", where=where, next="give a file")
        if text.startswith("-") and not _NEGATIVE.fullmatch(text):
            raise WrongUse(f"{plain(text)[:80]!r} begins with '-'", where=where, next="give a value, not an option")


def check_request(policy: Policy, op: Op, request: Request) -> None:
    """Raises GateRefused naming the field, the value and the policy's key. `request` is parsed, so its defaults count too."""
    given = request.model_dump()
    Checker(policy).every(given)
    run = run_of(policy, given)
    if op.safety is Safety.READ_ONLY:
        return
    for name, value in _texts(given):
        path = policy.workspace / value
        if (name in SAYING or path.suffix in KINDS) and os.path.isfile(path):
            Checker(policy, f"{value}: ").every(_content(path, name == "arms" or path.suffix == ".tsv"))
    for rel in PLANS:
        if run and (run / rel).is_file():
            Checker(policy, f"{rel}: ").every(read_json(run / rel))


def run_of(policy: Policy, given: Mapping[str, Any]) -> Path | None:
    """The run that a request works on, None where there is none yet. Raises GateRefused when it lies elsewhere."""
    name = given.get("campaign") or given.get("resume")
    if not isinstance(name, str):
        return None
    own = policy.workspace / name
    space = policy.workspace / workspace(given.get("campaigns_dir"))
    try:
        run = find_run(str(own) if os.path.isdir(own) else name, space)
    except (PaoError, OSError, ValueError):
        return None  # the op says it in its own words
    if not policy.holds(run):
        raise _outside("campaign", name, policy)
    return run


def _content(path: Path, table: bool) -> Any:
    """A campaign file as its values, a table as its lines. What cannot be read is for the op to refuse."""
    try:
        data = read_given(path, MOST_FILE_BYTES)
        return [_words(line) for line in data.decode(errors="replace").splitlines()] if table else read_yaml(data)
    except (yaml.YAMLError, ValueError, WrongUse):
        return None


def _words(line: str) -> list[str]:
    """A line as it stands and as a shell's quoting reads it: an arm's flags may be quoted anyhow."""
    try:
        return [line, *shlex.split(line)]
    except ValueError:
        return [line]


class Checker:
    """Walks values with the names of their fields. `prefix` says which file they stand in."""

    def __init__(self, policy: Policy, prefix: str = "") -> None:
        self.policy = policy
        self.prefix = prefix

    def every(self, value: Any, name: str = "", depth: int = 0) -> None:
        if depth > MOST_DEPTH:
            raise WrongUse("nested too deeply", where=self.prefix + name)
        if isinstance(value, Mapping):
            for key, inner in value.items():
                self.every(inner, str(key), depth + 1)
        elif isinstance(value, list | tuple):
            for inner in value:
                self.every(inner, name, depth + 1)
        elif isinstance(value, str):
            self._text(name, value)
        elif isinstance(value, int | float) and name in _MINUTES:
            self._minutes(name, value * _MINUTES[name])

    def _minutes(self, name: str, minutes: float) -> None:
        most = self.policy.file.budget_minutes
        if minutes > most:
            raise self._refused(name, f"{minutes:g} minutes, the policy's budget_minutes is {most:g}")

    def _text(self, name: str, text: str) -> None:
        if not text:
            return
        if _PYTHON.fullmatch(name):
            if not self.policy.runs_python(self.policy.workspace / text):
                raise self._refused(name, f"{_shown(text)} is not in the policy's python")
            return
        if _IMAGE.fullmatch(name):
            if not self.policy.knows_image(text):
                raise self._refused(name, f"{_shown(text)} is not in the policy's images")
            return
        if _MODEL.fullmatch(name) and not self.policy.knows_model(text):
            raise self._refused(name, f"{_shown(text)} is not in the policy's models")
        for scheme, rest in _URL.findall(text):
            self._url(name, scheme.lower(), rest)
        for part in _paths(_URL.sub(" ", text)):
            if not self._inside(part):
                raise self._refused(name, f"{_shown(part)} lies outside of the workspace and the policy's folders")

    def _url(self, name: str, scheme: str, rest: str) -> None:
        try:
            host = urlsplit(f"{scheme}://{rest}").hostname or ""
        except ValueError:
            host = ""
        if not self.policy.knows_endpoint(scheme, host.lower()):
            raise self._refused(name, f"{_shown(f'{scheme}://{host}')} is not in the policy's endpoints")

    def _inside(self, text: str) -> bool:
        if text.startswith("~"):
            return False
        return self.policy.holds(self.policy.workspace / text)

    def _refused(self, name: str, why: str) -> GateRefused:
        return GateRefused(why, where=self.prefix + name, next=f"the owner can allow it in {policy_words(self.policy)}")


def policy_words(policy: Policy) -> str:
    return policy.source or "a policy file (docs/mcp.md)"


def _outside(name: str, text: str, policy: Policy) -> GateRefused:
    return Checker(policy)._refused(name, f"{_shown(text)} lies outside of the workspace and the policy's folders")


def _paths(text: str) -> Iterator[str]:
    """The whole text, and what in it begins like a path to elsewhere. A lone slash, as in 3 / 4, is none."""
    if len(text) < 4096 and "\n" not in text:
        yield text
    for part in _APART.split(text):
        if part != text and part.strip("/") and (part.startswith("~") or ".." in part or os.sep in part):
            yield part


def _texts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(inner, str(key))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner, name)
    elif isinstance(value, str):
        yield name, value


def _shown(text: str) -> str:
    return repr(plain(text)[:120])
