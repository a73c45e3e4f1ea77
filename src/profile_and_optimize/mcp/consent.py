"""Asking the person at the client. A model cannot answer: the question goes to the client, which shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from mcp.server.mcpserver import Context, Elicit, Resolve
from mcp.server.mcpserver.resolve import ElicitationResult, build_resolver_plans, find_resolved_parameters
from mcp_types import ClientCapabilities
from pydantic import BaseModel, Field

from profile_and_optimize.core.errors import GateRefused, PaoError
from profile_and_optimize.core.names import canonical, digest
from profile_and_optimize.mcp.checks import policy_words, run_of
from profile_and_optimize.mcp.policy import Policy
from profile_and_optimize.mcp.schema import acknowledged
from profile_and_optimize.ops.base import ACK_FLAG, Op, Request
from profile_and_optimize.ops.campaigns import plan_at
from profile_and_optimize.report.words import plain

QUESTION = "question"
MOST_SHOWN = 200
MOST_ARMS = 12


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
        typed = f"a person can type pao {op.verb}" + (f" with {ACK_FLAG}" if acknowledged(op) else "")
        raise GateRefused(
            "a person must agree first, and this client cannot ask one (it has no elicitation)",
            where=op.verb, next=f"{typed}, or the owner can allow the verb in {policy_words(policy)}",
        )  # fmt: skip


def question_of(op: Op, request: Request, policy: Policy) -> str:
    """What a person agrees to: the verb, every argument that was given, the folder, and the arms of the run."""
    given = request.model_dump(exclude_unset=True)
    lines = [f"{op.verb}: {op.help}", f"workspace: {_quoted(policy.workspace)}"]
    lines += [f"{name}: {_quoted(value)}" for name, value in given.items()]
    return "\n".join([*lines, *_arms(policy, request.model_dump())])


def _arms(policy: Policy, given: Mapping[str, Any]) -> list[str]:
    """The run's own plan, so that an answer given to one plan is no answer to another."""
    run = run_of(policy, given)
    if run is None:
        return []
    try:
        plan = plan_at(Path(run))
    except (PaoError, OSError, ValueError):
        return []
    head = [
        f"run: {_quoted(run)}",
        f"plan: sha256 {digest(canonical(plan.to_json()))[:16]}",
        f"model: {_quoted(plan.model)}",
    ]
    head += [
        f"budget: {plan.budget_s / 60:g} minutes",
        f"for all arms: {_settings(plan.common_env, plan.common_flags)}",
    ]
    rows = [f"arm {_quoted(a.id)}: {_settings(a.env, (a.engine, a.url, *a.flags))}" for a in plan.arms[:MOST_ARMS]]
    more = [f"and {len(plan.arms) - MOST_ARMS} more arms"] if len(plan.arms) > MOST_ARMS else []
    return [*head, *rows, *more]


def _settings(env: Sequence[tuple[str, str]], words: Sequence[str]) -> str:
    return _quoted(" ".join([*(f"{name}={value}" for name, value in env), *filter(None, words)]))


def _quoted(value: object) -> str:
    """Text from outside stays one short quoted line: it cannot speak to the person in our voice."""
    text = plain(value)
    return repr(text[:MOST_SHOWN] + ("..." if len(text) > MOST_SHOWN else ""))
