"""The real world of a campaign: where implementations enter by name."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

from profile_and_optimize import clients, engines
from profile_and_optimize.campaign.guard import WAIT_LIMIT_S, Guard
from profile_and_optimize.campaign.machine import LinuxMachine
from profile_and_optimize.campaign.world import World, host_facts
from profile_and_optimize.clients.base import Client
from profile_and_optimize.clients.calibration import Store, default_root, this_node
from profile_and_optimize.clients.external import tool_env
from profile_and_optimize.core.code_settings import NOTHING, Allowance
from profile_and_optimize.core.errors import PaoError, WrongUse
from profile_and_optimize.core.near import unknown
from profile_and_optimize.core.opens import Kind, Opens
from profile_and_optimize.engines.base import Engine
from profile_and_optimize.engines.calls import Headers
from profile_and_optimize.engines.endpoint import EndpointEngine
from profile_and_optimize.engines.process import available_cores, free_port, split_cores
from profile_and_optimize.engines.smoke import Answer, ask, pins_of
from profile_and_optimize.evals.pao_eval.sampling import Pins
from profile_and_optimize.evidence.redact import known_secrets
from profile_and_optimize.ops.base import Say
from profile_and_optimize.ops.plugins import SWITCH, used

NEED_NO_PYTHON = ("endpoint", "mock")


def engine_table() -> dict[str, str]:
    """Name to "module:Class" of every engine, built in or installed by others. Two owners of a name are an error."""
    return _table("engine", engines.BUILT_IN)


def checked_engines(names: str) -> tuple[str, ...]:
    """The engines of a comma-separated list, each once. Raises WrongUse naming those there are."""
    found = tuple(dict.fromkeys(n.strip() for n in names.split(",") if n.strip()))
    others = [n for n in found if n not in engine_table()]
    if not found:
        raise WrongUse(f"no engine is named in {names!r}", where="--engines", next="--engines vllm")
    if others:
        raise WrongUse(unknown("engine", others[0], sorted(engine_table())), where="--engines", next="pao tools list")
    return found


def client_table() -> dict[str, str]:
    """The same of every client."""
    return _table("client", clients.BUILT_IN)


def _table(kind: str, built_in: Mapping[str, str]) -> dict[str, str]:
    table = dict(built_in)
    for plugin in used(kind):
        if plugin.name in table:
            raise WrongUse(
                f"two packages offer the {kind} {plugin.name!r}", where=f"{plugin.target} of {plugin.package}",
                next=f"uninstall one of them, or {SWITCH}=1 to ignore all plugins",
            )  # fmt: skip
        table[plugin.name] = plugin.target
    return table


def make_engine(name: str, python: str | None) -> Engine:
    """Raises WrongUse naming the engines there are, or what to install."""
    target = _target("engine", name, engine_table())
    if name == "endpoint":
        return EndpointEngine(auth_headers())
    made: Engine = _made("engine", name, target, lambda cls: _in_its_environment(cls, python))
    return made


def _in_its_environment(cls: Any, python: str | None) -> Any:
    """One that drives a tool gets the tool's environment, or that of `python`."""
    tool = getattr(cls, "tool", None)
    return cls(tool_env(tool, python)) if tool else cls()


def make_client(name: str, python: str | None = None) -> Client:
    """A client by name. Raises WrongUse naming the clients there are, or what to install."""
    target = _target("client", name, client_table())
    made: Client = _made("client", name, target, lambda cls: _in_its_environment(cls, python))
    return made


def _target(kind: str, name: str, table: Mapping[str, str]) -> str:
    if name not in table:
        raise WrongUse(unknown(kind, name, sorted(table)), next="pao tools list")
    return table[name]


def _made(kind: str, name: str, target: str, make: Callable[[Any], Any]) -> Any:
    """What `make` makes of the class behind "module:Class"."""
    module, _, cls = target.partition(":")
    try:
        return make(getattr(import_module(module), cls))
    except PaoError:
        raise
    except (Exception, SystemExit) as e:  # whatever somebody else's module does while it is imported
        raise WrongUse(
            f"{kind} {name!r} does not load: {type(e).__name__}: {e}", where=target,
            next=f"reinstall or uninstall that package, or {SWITCH}=1 to ignore all plugins",
        ) from e  # fmt: skip


def _python_parts(given: str | None, table: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """(PATH by ENGINE, every PATH without one)."""
    parts = [part.strip() for part in (given or "").split(",") if part.strip()]
    found = dict(part.partition("=")[::2] for part in parts if part.partition("=")[0] in table and "=" in part)
    return found, [part for part in parts if not ("=" in part and part.partition("=")[0] in table)]


def python_paths(given: str) -> tuple[str, ...]:
    """Every interpreter that `pythons` may take from --engine-python."""
    found, plain = _python_parts(given, engine_table())
    return (*found.values(), *plain)


ENGINE_PYTHON = Opens(Kind.PYTHON, python_paths)


def pythons(given: str | None, names: Iterable[str]) -> dict[str, str]:
    """The Python of each engine from --engine-python: a PATH where one engine is driven from an environment, else
    ENGINE=PATH, several parted by commas. Raises WrongUse for a PATH that could mean several, and for another engine's name.
    """
    table = engine_table()
    mine = sorted(n for n in set(names) if n in table and n not in NEED_NO_PYTHON)
    found, plain = _python_parts(given, table)
    strange = sorted(set(found) - set(mine))
    if strange:
        raise WrongUse(f"no arm runs on {', '.join(strange)}", where=f"--engine-python {given}", next="leave it out")
    if plain and (found or len(plain) > 1 or len(mine) > 1):
        shown = ",".join(f"{name}=PATH" for name in mine)
        raise WrongUse(
            f"{plain[0]!r} could be the Python of several engines",
            where="--engine-python",
            next=f"--engine-python {shown}",
        )
    return {name: plain[0] for name in mine} if plain else found


def make_world(
    engines: Iterable[str],
    say: Say,
    python: str | None = None,
    client: str = "stream",
    allowed: Allowance = NOTHING,
) -> World:
    """`python` as `pythons` reads it."""
    engines = sorted(set(engines))
    own = pythons(python, engines)
    ours, its = split_cores(available_cores())
    headers = auth_headers()

    made = make_client(client)
    return World(
        engines={name: make_engine(name, own.get(name)) for name in engines}, client=made, now=time.time, ask=_Asker(headers),
        host=host_facts, say=say, pick_port=free_port, engine_cores=ours,
        client_cores=its, headers=headers, secrets=known_secrets(os.environ), guard=Guard(LinuxMachine(), time.sleep, quiet_limit_s()),
        client_errors=Store(default_root()).all_of(this_node(), made.name, made.version),
        allow_code=allowed,
    )  # fmt: skip


class _Asker:
    """Remembers what each server takes of the pinned sampling; another question, such as the smoke test of a server that starts at
    the address of an earlier one, has it asked anew."""

    def __init__(self, headers: Headers) -> None:
        self._headers, self._pins = headers, dict[tuple[str, str, str], Pins]()
        self._lock = threading.Lock()

    def __call__(
        self, url: str, model: str, prompt: str, *, api: str = "chat", max_tokens: int = 16, pinned: bool = False
    ) -> Answer:
        key = (url, model, api)
        with self._lock:
            if pinned and key not in self._pins:
                self._pins[key] = pins_of(url, model, api=api, headers=self._headers)
            if not pinned:
                self._pins.pop(key, None)
            pins = self._pins.get(key)
        return ask(url, model, prompt, api=api, max_tokens=max_tokens, headers=self._headers, pins=pins)


def quiet_limit_s() -> float:
    """Seconds to wait at most for a quiet machine before a session: PAO_QUIET_WAIT_S, 0 to never wait. Raises WrongUse."""
    given = os.environ.get("PAO_QUIET_WAIT_S", "")
    try:
        limit = float(given) if given else WAIT_LIMIT_S
    except ValueError:
        limit = -1.0
    if not 0 <= limit < 1e6:
        raise WrongUse(
            f"PAO_QUIET_WAIT_S {given!r} is not a number of seconds", next="unset it, or give a number from 0 up"
        )
    return limit


def auth_headers() -> tuple[tuple[str, str], ...]:
    """The bearer token of OPENAI_API_KEY, if there is one; it is handed to the client and never written."""
    key = os.environ.get("OPENAI_API_KEY")
    return (("Authorization", f"Bearer {key}"),) if key else ()
