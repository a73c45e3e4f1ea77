"""Who is asked: a server that runs already, or a model folder that is served for as long as it takes."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from profile_and_optimize.core.argv import last_value
from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.code_settings import NOTHING, Allowance
from profile_and_optimize.core.urls import parse_url
from profile_and_optimize.engines.base import Engine, Server, ServeSpec, refuse_unknown_flags
from profile_and_optimize.engines.endpoint import EndpointEngine, served_model
from profile_and_optimize.engines.process import available_cores, free_port, split_cores
from profile_and_optimize.engines.urls import addresses, checked_url
from profile_and_optimize.evals.conversation import Conversation, read_conversation
from profile_and_optimize.evidence.modelfolder import model_digest
from profile_and_optimize.ops.base import Say
from profile_and_optimize.ops.model import check_model
from profile_and_optimize.ops.worlds import auth_headers, make_engine

MOCK = "mock"
UNKNOWN = "unknown"
_INSTRUCT = re.compile(r"(?i)(?:^|[-_./ ])(?:it|instruct|chat)(?:$|[-_./ ])")


@dataclass(frozen=True, slots=True)
class How:
    """What serves a folder: the engine, its flags, its Python; `served` is the name to ask an endpoint for."""

    engine: str = "vllm"
    flags: tuple[str, ...] = ()
    python: str | None = None
    served: str | None = None
    allowed: Allowance = NOTHING


@dataclass(frozen=True, slots=True)
class Target:
    """A server that answers. `model` is the folder or the hub's name, "unknown" behind somebody else's endpoint; `engine` are
    context fields; `instruct` says in words why the model wants a chat template, "" where nothing tells so; `asked_by` is what its
    folder says of how it is asked, None behind an endpoint."""

    url: str
    served: str
    model: str
    model_digest: str
    endpoint: str
    engine: dict[str, str] = field(default_factory=dict)
    instruct: str = ""
    addresses: tuple[str, ...] = ()
    asked_by: Conversation | None = None


def is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


@contextmanager
def target(place: str, how: How, log: Path, say: Say) -> Iterator[Target]:
    """The server at a URL, or one of that folder, stopped whatever happens. Raises WrongUse, Unreachable, EngineFailed."""
    if is_url(place):
        yield _endpoint(place, how)
        return
    model = place if how.engine == MOCK else check_model(place)
    engine = make_engine(how.engine, how.python)
    refuse_unknown_flags(engine, how.flags, "--engine-flags")
    asked_by = read_conversation(Path(model), last_value(how.flags, "chat-template"))
    spec = ServeSpec(
        arm=Arm("model", how.engine, Role.BASELINE, how.flags), model=model, served_name="model", port=free_port(), log=log,
        cores=split_cores(available_cores())[0], allow_code=how.allowed,
    )  # fmt: skip
    say(f"starting {how.engine} with {model}")
    server = engine.start(spec)
    try:
        say(f"{how.engine} is ready after {server.start_s:.0f} s")
        yield replace(_served(model, engine, server, how), asked_by=asked_by)
    finally:
        engine.stop(server)


def flags_of(text: str | None) -> tuple[str, ...]:
    return tuple(shlex.split(text or ""))


def _endpoint(url: str, how: How) -> Target:
    url = checked_url(url)
    parts = parse_url(url)
    judged = addresses(parts.host, parts.port, url)
    name = served_model(url, auth_headers(), how.served)
    seen = EndpointEngine(auth_headers()).observed(Server(url=url, model=name, start_s=0.0))
    version = {k: v for k, v in seen.items() if k == "engine_version"}
    why = f"the name {name} says so" if _INSTRUCT.search(name) else ""
    return Target(url, name, UNKNOWN, UNKNOWN, url, {"name": "endpoint", **version}, why, judged)


def _served(model: str, engine: Engine, server: Server, how: How) -> Target:
    told = {"name": engine.name, **engine.version(), **server.source, **engine.observed(server)}
    flags = {"flags": " ".join(how.flags)} if how.flags else {}
    return Target(
        server.url, server.model, model, model_digest(model), "served for this run", {**told, **flags}, instruct(model)
    )


def instruct(model: str) -> str:
    """Why this model wants a chat template, in words; "" where neither its name nor its tokenizer tells so."""
    folder = Path(model)
    if (folder / "chat_template.jinja").is_file() or _has_template(folder / "tokenizer_config.json"):
        return "its tokenizer has a chat template"
    return f"the name {folder.name} says so" if _INSTRUCT.search(folder.name) else ""


def _has_template(path: Path) -> bool:
    try:
        return bool(json.loads(path.read_text()).get("chat_template"))
    except (OSError, ValueError, AttributeError):
        return False
