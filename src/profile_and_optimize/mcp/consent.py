"""Asking the person at the client. A model cannot answer: the question goes to the client, which shows it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from mcp.server.mcpserver import Context, Elicit, Resolve
from mcp.server.mcpserver.resolve import ElicitationResult, build_resolver_plans, find_resolved_parameters
from mcp_types import ClientCapabilities
from pydantic import BaseModel, Field

from profile_and_optimize.core.errors import GateRefused
from profile_and_optimize.core.settings import Settings
from profile_and_optimize.mcp.checks import policy_words
from profile_and_optimize.mcp.policy import Policy
from profile_and_optimize.ops.acts import Act
from profile_and_optimize.ops.base import ACK_FLAG, Acknowledged, Op, Request, acts_of
from profile_and_optimize.ops.started import Started
from profile_and_optimize.report.words import plain

QUESTION = "question"
# A long flag holds a JSON of settings; a form with more lines is not read.
MOST_SHOWN, MOST_LINES, MOST_CHARS = 2000, 400, 40_000
# Control, format (direction, zero width, tags), half surrogates, private use, not assigned, line ends, other blanks than ours.
HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})
# Seen as nothing, whatever their category: fillers and the empty braille pattern.
BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0")
_NUMBER = re.compile(r"-[\d.]+")


class Consent(BaseModel):
    agree: bool = Field(description="Start it?")


async def consent(question: str) -> Consent | Elicit[Consent]:
    """An empty question needs no answer."""
    return Elicit(question, Consent) if question else Consent(agree=True)


async def _with_consent(answer: Annotated[ElicitationResult[Consent], Resolve(consent)]) -> None:
    """What the resolver fills; only its signature is used."""


RESOLVED = find_resolved_parameters(_with_consent)
PLANS = build_resolver_plans(RESOLVED, {QUESTION})


def agreed(outcome: Any) -> bool:
    """Only an accepted form with `agree` set. Declined, closed and left empty are a no."""
    data = getattr(outcome, "data", None)
    return getattr(outcome, "action", "") == "accept" and isinstance(data, Consent) and data.agree


def can_ask(capabilities: ClientCapabilities | None) -> bool:
    """Does the client show forms? A bare `elicitation: {}` says so, one for URLs alone does not."""
    asks = capabilities.elicitation if capabilities is not None else None
    return asks is not None and (asks.form is not None or asks.url is None)


def require_can_ask(context: Context[Any, Any], op: Op, policy: Policy) -> None:
    """Raises GateRefused where nobody can be asked: then nothing is started."""
    if not can_ask(context.client_capabilities):
        flag = f" with {ACK_FLAG}" if issubclass(op.request, Acknowledged) else ""
        raise GateRefused(
            "the user must agree first, and this client cannot ask (it has no elicitation)", where=op.verb,
            next=f"the user can type pao {op.verb}{flag}, or the owner can allow the verb in {policy_words(policy)}",
        )  # fmt: skip


def question_of(op: Op, request: Request, policy: Policy, started: Started | None, files: Mapping[str, str]) -> str:
    """What a person agrees to: what the call does, every argument, every setting of every arm, and the files it was read from.

    Raises GateRefused for what cannot be shown whole: nobody can agree to it.
    """
    acts = sorted(acts_of(op, request), key=list(Act).index)
    lines = [f"{op.verb}: {op.help}", f"it {', '.join(acts)}" if acts else "it reads only"]
    lines += [f"workspace: {_quoted('workspace', policy.workspace)}"]
    lines += [line for name, value in request.model_dump(exclude_unset=True).items() for line in _lines(name, value)]
    if started is None and acts_of(op, request) & {Act.STARTS, Act.CODE}:
        raise _unshown(op.verb, "the verb does not say what it would start")
    lines += list(_started(started)) if started else []
    lines += [f"file {_quoted('file', path)}: sha256 {sha}" for path, sha in files.items()]
    if len(lines) > MOST_LINES or sum(map(len, lines)) > MOST_CHARS:
        raise _unshown(op.verb, f"{len(lines)} lines; the user is shown at most {MOST_LINES}")
    return "\n".join(lines)


def _started(started: Started) -> Iterator[str]:
    for name, value in started.about:
        yield f"{name}: {_quoted(name, value)}"
    for name, text in _settings(started.common_env, started.common_flags):
        yield f"every arm, {name}: {_quoted(name, text)}"
    if started.choice and started.arms:
        yield "arms are chosen among these, of our own tables:"
    for arm in started.arms:
        head = f"arm {_quoted('arm', arm.id)}"
        yield f"{head}: {_quoted('engine', arm.engine)}" + (f" at {_quoted('url', arm.url)}" if arm.url else "")
        if arm.checkpoint:
            yield f"{head}, checkpoint: {_quoted('checkpoint', arm.checkpoint)}"
        for name, text in _settings(arm.env, arm.flags):
            yield f"{head}, {name}: {_quoted(name, text)}"


def _settings(env: Settings, flags: Sequence[str]) -> Iterator[tuple[str, str]]:
    """A setting of the environment, or an option with its values, each on its own."""
    for name, value in env:
        yield "environment", f"{name}={value}"
    option: list[str] = []
    for word in flags:
        if word.startswith("-") and not _NUMBER.fullmatch(word) and option:
            yield "flag", " ".join(option)
            option = []
        option.append(word)
    if option:
        yield "flag", " ".join(option)


def _lines(name: str, value: object) -> Iterator[str]:
    """A list one entry a line."""
    if isinstance(value, list | tuple):
        yield from (f"{name}: {_quoted(name, entry)}" for entry in value)
    else:
        yield f"{name}: {_quoted(name, value)}"


def _quoted(name: str, value: object) -> str:
    """Text from outside is one whole quoted line: it cannot speak to the person in our voice. Raises GateRefused for one that is
    too long, or holds what a person does not see."""
    text = str(value)
    if len(text) > MOST_SHOWN:
        raise _unshown(name, f"{len(text)} characters, {plain(text)[:60]!r}...; the user is shown at most {MOST_SHOWN}")
    hidden = [c for c in text if c in BLANK or (c != " " and unicodedata.category(c) in HIDDEN)]
    if hidden:
        raise _unshown(name, f"it holds the character U+{ord(hidden[0]):04X}, which the user does not see as it is")
    # A letter of another script may look like one of ours.
    return repr(text) if text.isascii() else f"{text!r} = {text!a}"


def _unshown(where: str, why: str) -> GateRefused:
    return GateRefused(
        f"the user must agree first, and this cannot be shown: {why}", where=where,
        next="shorten or correct it, or type the command yourself",
    )  # fmt: skip
