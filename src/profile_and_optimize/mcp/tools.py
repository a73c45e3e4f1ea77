"""One op as a tool: the arguments judged, a person asked where the policy says so, the op run, its answer given."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.to_thread
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.resolve import resolve_arguments
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase, FuncMetadata
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, InputRequiredResult, TextContent, ToolAnnotations
from pydantic import PrivateAttr

from profile_and_optimize.core.code_settings import plain_name
from profile_and_optimize.core.errors import BrokeMidway, GateRefused, PaoError, WrongUse
from profile_and_optimize.core.opens import Kind
from profile_and_optimize.evidence.bound import holding
from profile_and_optimize.evidence.redact import known_secrets
from profile_and_optimize.mcp import schema
from profile_and_optimize.mcp.answers import Answer, answer, failed, safe_text
from profile_and_optimize.mcp.checks import check_request, fields_of, policy_words, refuse_hostile
from profile_and_optimize.mcp.consent import PLANS, QUESTION, RESOLVED, agreed, question_of, require_can_ask
from profile_and_optimize.mcp.job import module_of
from profile_and_optimize.mcp.policy import Decision, Policy, code_settings_of
from profile_and_optimize.mcp.running import run_job
from profile_and_optimize.ops.acts import LONGEST_S, LOUD, Act
from profile_and_optimize.ops.base import QUIET, AllowsCode, Op, Request, acts_of, class_of, parse_request
from profile_and_optimize.ops.options import renamed
from profile_and_optimize.ops.started import Started

ACK, OWNER = "i_understand_this_submits_jobs", "the owner's policy"
# To start and to end a call that takes a minute.
GRACE_S = 30.0
MOST_LINE = 500


@dataclass
class Office:
    """What all tools share: the owner's policy, and how many calls run now."""

    policy: Policy
    modules: Mapping[str, str]
    running: int = field(default=0)


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request within the policy. `question` is empty where nobody has to be asked; `files` are the sha256 of those that were
    read for it, by absolute path; `most_s` is how long it may take."""

    request: Request
    question: str
    files: Mapping[str, str]
    most_s: float


class OpTool(Tool):
    """A tool whose arguments are an op's request."""

    _op: Op = PrivateAttr()
    _office: Office = PrivateAttr()

    async def run(self, arguments: dict[str, Any], context: Context[Any, Any], convert_result: bool = False) -> Any:
        """Whatever happens is an envelope; only errors of the protocol itself, and cancellation, pass through."""
        try:
            return await self._called(arguments, context)
        except PaoError as e:
            return told(failed(self._op.verb, e))
        except MCPError:
            raise
        except ToolError:
            refused = GateRefused(
                "the client gave no valid answer to the question", where=self._op.verb, next="ask the person again"
            )
            return told(failed(self._op.verb, refused))
        except Exception as e:
            # A mistake of ours: its text may hold anything, so it goes to the server's log alone.
            traceback.print_exc(file=sys.stderr)
            error = BrokeMidway(
                f"{type(e).__name__} in the server", where=self._op.verb, next="report this with the server's log"
            )
            return told(failed(self._op.verb, error))

    async def _called(
        self, arguments: dict[str, Any], context: Context[Any, Any]
    ) -> CallToolResult | InputRequiredResult:
        admitted = admit(self._office.policy, self._op, arguments)
        if admitted.question:
            require_can_ask(context, self._op, self._office.policy)
        # Under the newest protocol this returns the question first, and the client calls again with the answer.
        given = {QUESTION: admitted.question}
        found = await resolve_arguments(self.resolved_params, self.resolver_plans, given, context)
        if isinstance(found, InputRequiredResult):
            return found
        if not agreed(found["answer"]):
            raise GateRefused(
                "the person at the client did not agree", where=self._op.verb, next="ask the person what to do instead"
            )
        if admitted.question and admit(self._office.policy, self._op, arguments) != admitted:
            raise GateRefused("what was asked about has changed meanwhile", where=self._op.verb, next="call again")
        return told(await self._answer(admitted, context))

    async def _answer(self, admitted: Admitted, context: Context[Any, Any]) -> Answer:
        office = self._office
        if office.running >= office.policy.file.calls_at_once:
            raise WrongUse(
                f"{office.running} calls run already", where=self._op.verb, next="wait for one of them, or cancel it"
            )
        office.running += 1
        try:
            asked = {
                "verb": self._op.verb, "module": office.modules[self._op.verb], "workspace": str(office.policy.workspace),
                "values": _values(self._op, admitted.request, office.policy), "files": dict(admitted.files),
            }  # fmt: skip
            found, text = await run_job(asked, _reporter(context), admitted.most_s)
            return await anyio.to_thread.run_sync(answer, found, text)
        finally:
            office.running -= 1


def op_tool(op: Op, office: Office) -> OpTool:
    tool = OpTool(
        fn=_unused, name=schema.tool_name(op), title=op.verb.replace("_", " "), description=schema.description(op),
        parameters=schema.input_schema(op), fn_metadata=FuncMetadata(arg_model=ArgModelBase, output_schema=schema.output_schema()),
        is_async=True, context_kwarg=None, resolved_params=dict(RESOLVED), resolver_plans=dict(PLANS),
        annotations=ToolAnnotations.model_validate(schema.hints(op)),
    )  # fmt: skip
    tool._op, tool._office = op, office
    return tool


def office_of(policy: Policy) -> Office:
    return Office(policy, {op.verb: module_of(op.verb) for op in schema.tool_ops().values()})


async def _unused() -> None:
    """A tool needs a function; `OpTool.run` stands in its place."""


def admit(policy: Policy, op: Op, arguments: Mapping[str, Any]) -> Admitted:
    """The request behind a call. Raises WrongUse for what no option means, GateRefused for what the policy refuses."""
    theirs = [name for name in schema.NOT_THEIRS if name in arguments]
    if theirs:
        raise WrongUse(
            "a model cannot give this: the user is asked, or the owner's policy decides", where=theirs[0],
            next="call again without it",
        )  # fmt: skip
    if policy.listed(op.verb) == "deny":
        raise _denied(op, policy)
    arguments = renamed(op.request.model_fields, arguments)
    refuse_hostile(arguments, fields_of(op.request, Kind.FLAGS))
    request = parse_request(op, dict(arguments))
    files = check_request(policy, op, request)
    # What is shown is read again, by the op: it has to be what was judged.
    with holding(files):
        return _admitted(policy, op, request, files)


def _admitted(policy: Policy, op: Op, request: Request, files: Mapping[str, str]) -> Admitted:
    safety = class_of(op, request)
    decision = policy.decides(op, safety)
    if decision == "deny":
        raise _denied(op, policy)
    started = op.started(request) if op.started and safety not in QUIET else None
    _refuse_code(policy, op, code_settings_of(request, started or Started()))
    question = question_of(op, request, policy, started, files) if decision == "ask" else ""
    return Admitted(request, question, files, _most_s(policy, op, request, decision))


def _denied(op: Op, policy: Policy) -> GateRefused:
    return GateRefused(
        "the owner's policy denies it", where=op.verb, next=f"the owner can allow it in {policy_words(policy)}"
    )


def _refuse_code(policy: Policy, op: Op, names: tuple[str, ...]) -> None:
    """Raises GateRefused for settings that bring code: those are the owner's to allow, by name, and no person's at a client."""
    allowed = {plain_name(name) for name in policy.file.allow_code}
    others = [name for name in names if plain_name(name) not in allowed]
    if others:
        raise GateRefused(
            f"{others[0]} brings code into a server", where=op.verb,
            next=f"the owner can add allow_code: [{others[0]}] to {policy_words(policy)}",
        )  # fmt: skip


def _most_s(policy: Policy, op: Op, request: Request, decision: Decision) -> float:
    """Nobody is asked about a load that should end within a minute: one that does not is stopped."""
    most = policy.file.call_minutes * 60
    unasked = decision == "allow" and policy.listed(op.verb) != "allow" and Act.SENDS in acts_of(op, request)
    return min(most, LONGEST_S + GRACE_S) if unasked and not acts_of(op, request) & LOUD else most


def _values(op: Op, request: Request, policy: Policy) -> dict[str, Any]:
    """What the op gets. That this submits jobs was understood by whoever was asked, or by who wrote the policy; which code may
    be brought, the policy alone says."""
    given = request.model_dump(mode="json", exclude_unset=True)
    if issubclass(op.request, AllowsCode):
        given |= {"allow_code": ",".join(policy.file.allow_code), "allowed_by": OWNER}
    return given | ({ACK: True} if ACK in op.request.model_fields else {})


def _reporter(context: Context[Any, Any]) -> Any:
    said, secrets = 0, known_secrets(os.environ)

    async def report(line: str) -> None:
        nonlocal said
        said += 1
        await context.report_progress(said, None, safe_text(line[: 2 * MOST_LINE], secrets)[:MOST_LINE])

    return report


def told(found: Answer) -> CallToolResult:
    text = TextContent(type="text", text=found.text)
    return CallToolResult(content=[text], structured_content=found.structured, is_error=not found.ok)
