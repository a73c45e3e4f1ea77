"""What an op is: a verb with a typed request, a safety class, and a function from request to result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from importlib import import_module
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from profile_and_optimize.core.code_settings import COMMAND_LINE, Allowance, allowance_of
from profile_and_optimize.core.errors import Corrupted, PaoError, Unreachable, WrongUse
from profile_and_optimize.ops import MODULES
from profile_and_optimize.ops.acts import LOUD, Acts, everything
from profile_and_optimize.ops.options import renamed, says
from profile_and_optimize.ops.started import Started

ACK_FLAG = "--i-understand-this-submits-jobs"


class Safety(StrEnum):
    READ_ONLY = "read_only"
    WRITES_ARTIFACTS = "writes_artifacts"
    SUBMITS_JOBS = "submits_jobs"
    MUTATES_CLUSTER = "mutates_cluster"
    PUBLISHES_EXTERNAL = "publishes_external"


# What to do after an error that names nothing itself.
ADVICE: tuple[tuple[type[PaoError], str], ...] = (
    (WrongUse, "pao {verb} --help"),
    (Unreachable, "check that the address is right and the server runs, then repeat the command"),
    (Corrupted, "restore that file from a copy, or measure again; pao verify RUN lists all that differs"),
    (PaoError, "read the file or log that the message names, then repeat the command"),
)
QUIET = (Safety.READ_ONLY, Safety.WRITES_ARTIFACTS)


class Request(BaseModel):
    """Fields are options; those named in an op's `positional` are arguments. Unknown ones are refused by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _old_names(cls, values: Any) -> Any:
        return renamed(cls.model_fields, values) if isinstance(values, dict) else values


class AllowsCode(Request):
    """For ops that start servers. Nothing but the command line, or over MCP the owner's policy, fills these; `allowed_by` is
    no option."""

    allow_code: str | None = Field(
        default=None,
        description="settings that may bring code into a server, by name, separated by commas: LD_PRELOAD,--middleware",
    )
    allowed_by: str = Field(default=COMMAND_LINE, json_schema_extra={"option": False})

    @property
    def allowance(self) -> Allowance:
        return allowance_of(self.allow_code, self.allowed_by)


class Acknowledged(Request):
    """For ops that submit jobs. `dry_run` shows every command and changes nothing, and needs no acknowledgement."""

    i_understand_this_submits_jobs: bool = Field(default=False, description=says("i_understand_this_submits_jobs"))
    dry_run: bool = Field(default=False, description=says("dry_run"))

    def require_ack(self) -> None:
        if not (self.i_understand_this_submits_jobs or self.dry_run):
            raise WrongUse(
                "this starts servers and load on this machine",
                next=f"add {ACK_FLAG}, or --dry-run to see what it would do",
            )


@dataclass(frozen=True)
class Result:
    """`data` is the envelope's result, `text` what a person reads; `refusal` makes the exit code 1 with the data still given."""

    data: dict[str, Any]
    text: str
    warnings: tuple[str, ...] = ()
    refusal: PaoError | None = None


Say = Callable[[str], None]


@dataclass(frozen=True)
class Op:
    """`run` takes the request and a function that shows one line of progress. `safety` is the class of the most that any
    request of the verb may do; `acts` says what a given one does, `started` what it would start (None: it cannot be shown)."""

    verb: str
    help: str
    safety: Safety
    request: type[Request]
    run: Callable[[Any, Say], Result]
    positional: tuple[str, ...] = ()
    mcp_name: str = ""
    examples: tuple[str, ...] = field(default=())
    acts: Callable[[Any], Acts] = everything
    started: Callable[[Any], Started] | None = None


def acts_of(op: Op, request: Request) -> Acts:
    """What this very request does. Raises as the op does for a request that it could not read."""
    return op.acts(request)


def class_of(op: Op, request: Request) -> Safety:
    """The safety class of a request: by what it does, never by the name of its verb."""
    found = acts_of(op, request)
    if found & LOUD:
        return Safety.SUBMITS_JOBS if op.safety in QUIET else op.safety
    return Safety.WRITES_ARTIFACTS if found else Safety.READ_ONLY


def all_ops() -> dict[str, Op]:
    """Every op by verb, in the order of the table."""
    found = [import_module(f"profile_and_optimize.ops.{name}").OP for name in MODULES]
    return {op.verb: op for op in found}


def parse_request(op: Op, values: dict[str, Any]) -> Request:
    """Raises WrongUse naming the option and what is wrong with it."""
    try:
        return op.request(**values)
    except ValidationError as e:
        first = e.errors()[0]
        name = "--" + str(first["loc"][0]).replace("_", "-") if first["loc"] else op.verb
        raise WrongUse(f"{first['msg']}", where=name, next=f"pao {op.verb} --help") from e


def advised(verb: str, error: PaoError) -> PaoError:
    """The error with a next command: its own, or that of its kind."""
    if not error.next:
        error.next = (
            next(advice for kind, advice in ADVICE if isinstance(error, kind)).format(verb=verb).replace("  ", " ")
        )
    return error


def envelope(verb: str, result: Result | None, error: PaoError | None) -> dict[str, Any]:
    """The one JSON form of every answer."""
    failed = error or (result.refusal if result else None)
    shown = None
    if failed is not None:
        failed = advised(verb, failed)
        message = f"{failed.where}: {failed.message}" if failed.where else failed.message
        shown = {"code": failed.code, "message": message, "next": failed.next}
    return {
        "schema": 1,
        "ok": failed is None,
        "verb": verb,
        "result": result.data if result else {},
        "warnings": list(result.warnings) if result else [],
        "error": shown,
    }
