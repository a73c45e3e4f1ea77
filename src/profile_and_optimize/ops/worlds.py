"""The real world of a campaign: where implementations enter by name."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

from profile_and_optimize.campaign.world import World, host_facts
from profile_and_optimize.clients.stream import StreamClient
from profile_and_optimize.core.errors import PaoError, WrongUse
from profile_and_optimize.engines import BUILT_IN
from profile_and_optimize.engines.base import Engine
from profile_and_optimize.engines.endpoint import EndpointEngine
from profile_and_optimize.engines.process import available_cores, free_port, split_cores
from profile_and_optimize.engines.smoke import Answer, ask
from profile_and_optimize.engines.vllm import VllmEngine, require_vllm
from profile_and_optimize.ops.base import Say
from profile_and_optimize.toolenv.find import find, from_python

GROUP = "profile_and_optimize.engines"


def engine_table() -> dict[str, str]:
    """Name to "module:Class" of every engine, built in or installed by others. Two owners of a name are an error."""
    table = dict(BUILT_IN)
    for point in entry_points(group=GROUP):
        if point.name in table:
            raise WrongUse(
                f"two packages offer an engine {point.name!r}", where=point.value, next="uninstall one of them"
            )
        table[point.name] = point.value
    return table


def make_engine(name: str, python: str | None) -> Engine:
    """Raises WrongUse naming the engines there are, or what to install."""
    table = engine_table()
    if name not in table:
        raise WrongUse(f"unknown engine {name!r}; there are {', '.join(sorted(table))}")
    if name == "endpoint":
        return EndpointEngine(auth_headers())
    if name == "vllm":
        return VllmEngine(from_python(Path(python)) if python else require_vllm(find("vllm")))
    module, _, cls = table[name].partition(":")
    try:
        made: Engine = getattr(import_module(module), cls)()
    except PaoError:
        raise
    except Exception as e:
        raise WrongUse(
            f"engine {name!r} does not load: {e}", where=table[name], next="reinstall or uninstall that package"
        ) from e
    return made


def make_world(engines: Iterable[str], say: Say, python: str | None = None) -> World:
    ours, client = split_cores(available_cores())
    headers = auth_headers()

    def asker(url: str, model: str, prompt: str, *, api: str = "chat", max_tokens: int = 16) -> Answer:
        return ask(url, model, prompt, api=api, max_tokens=max_tokens, headers=headers)

    return World(
        engines={name: make_engine(name, python) for name in sorted(set(engines))}, client=StreamClient(), now=time.time, ask=asker,
        host=host_facts, say=say, pick_port=free_port, engine_cores=ours, client_cores=client, headers=headers,
    )  # fmt: skip


def auth_headers() -> tuple[tuple[str, str], ...]:
    """The bearer token of OPENAI_API_KEY, if there is one; it is handed to the client and never written."""
    key = os.environ.get("OPENAI_API_KEY")
    return (("Authorization", f"Bearer {key}"),) if key else ()
