"""What every engine must do, said once and held against each: the real ones where their tool environment is installed."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from machine_help import DTYPE_FLAGS, commands
from profile_and_optimize.clients.base import LoadRequest
from profile_and_optimize.clients.stream import StreamClient
from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.context import ARM_FIELDS, ENVIRONMENT_FIELDS, context
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.records import ClientRun
from profile_and_optimize.engines.base import Engine, EngineFailed, Server, ServeSpec, refuse_unknown_flags
from profile_and_optimize.engines.endpoint import EndpointEngine
from profile_and_optimize.engines.mock.engine import MockEngine
from profile_and_optimize.engines.process import available_cores, free_port
from profile_and_optimize.engines.prometheus import cache_use, server_tpot
from profile_and_optimize.engines.reaper import descendants
from profile_and_optimize.engines.smoke import ask
from profile_and_optimize.ops.worlds import make_engine
from profile_and_optimize.testing.fakes import FakeClient, FakeEngine, fake_ask
from profile_and_optimize.toolenv.find import find

DEMO = Path(__file__).parents[2] / "demo/model"
REQUESTS, OSL = 4, 12


@dataclass(frozen=True)
class Kind:
    """One engine to hold against the contract. `spoilt` are flags it cannot start with, `why` a word of its own error.

    `seen` are the context fields that it must show of a running server; `counts` is whether it keeps counters.
    """

    name: str
    make: Callable[[], Engine]
    flags: tuple[str, ...] = ()
    spoilt: tuple[str, ...] = ()
    why: str = ""
    seen: tuple[str, ...] = ("served_model",)
    counts: bool = True
    real: bool = False


def installed(name: str) -> Callable[[], Engine]:
    def make() -> Engine:
        if find(name) is None:
            pytest.skip(f"the {name} tool environment is not installed: pao tools install {name}")
        return make_engine(name, None)

    return make


CONFIGURED = (
    "served_model", "dtype", "tp", "prefix_caching", "max_model_len", "kv_cache_dtype", "thread_binding", "torch_threads",
)  # fmt: skip
FAKE = Kind(
    "fake",
    lambda: FakeEngine(known_flags=frozenset({"--x"}), broken={"broken": "no such device"}),
    why="no such device",
)
MOCK = Kind("mock", MockEngine, ("--itl-ms", "1", "--ttft-ms", "2"), ("--itl-ms", "-1"), "may not be negative")
ENDPOINT = Kind("endpoint", EndpointEngine)
VLLM = Kind(
    "vllm", installed("vllm"), ("--enforce-eager", "--max-model-len", "1024", *DTYPE_FLAGS), ("--dtype", "float3"), "float3",
    CONFIGURED, real=True,
)  # fmt: skip
SGLANG = Kind(
    "sglang", installed("sglang"), ("--context-length", "1024", *DTYPE_FLAGS), ("--dtype", "float3"), "float3",
    (*CONFIGURED, "attention_backend", "memory_fraction", "async_scheduling", "max_num_seqs", "max_num_batched_tokens"), real=True,
)  # fmt: skip
TRANSFORMERS = Kind(
    "transformers", installed("transformers"), DTYPE_FLAGS, ("--quantization", "three-bit"), "three-bit",
    ("served_model", "thread_binding", "torch_threads"), counts=False, real=True,
)  # fmt: skip
ON = [
    FAKE, MOCK, ENDPOINT,
    *(pytest.param(kind, marks=[pytest.mark.engine, pytest.mark.slow]) for kind in (VLLM, SGLANG, TRANSFORMERS)),
]  # fmt: skip


@dataclass
class Served:
    """A running server of a kind; `run` is what our client saw of it between two readings of its counters."""

    kind: Kind
    engine: Engine
    spec: ServeSpec
    server: Server
    run: ClientRun
    counted: dict[str, float]
    stopped: bool = False


@pytest.fixture(scope="module", params=ON, ids=lambda kind: kind.name)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    kind: Kind = request.param
    folder = tmp_path_factory.mktemp(kind.name)
    engine = kind.make()
    url, behind = _endpoint(folder) if kind is ENDPOINT else ("", None)
    spec = spec_of(kind, folder, url=url)
    server = engine.start(spec)
    found = Served(kind, engine, spec, server, *_load(engine, server, folder))
    yield found
    if not found.stopped:
        engine.stop(server)
    if behind is not None:
        MockEngine().stop(behind)


def _endpoint(folder: Path) -> tuple[str, Server]:
    behind = MockEngine().start(replace(spec_of(MOCK, folder), served_name="theirs"))
    return behind.url, behind


def spec_of(
    kind: Kind, folder: Path, *, flags: tuple[str, ...] | None = None, url: str = "", arm: str = "a"
) -> ServeSpec:
    model, name = (str(DEMO), "contract") if kind.real else ("mock", "") if kind is ENDPOINT else ("mock", "contract")
    cores = available_cores()[:1] if kind.real else ()
    return ServeSpec(
        Arm(arm, kind.name, Role.BASELINE, kind.flags if flags is None else flags, url=url), model, name, free_port(),
        folder / "engine.log", cores=cores,
    )  # fmt: skip


def _load(engine: Engine, server: Server, folder: Path) -> tuple[ClientRun, dict[str, float]]:
    """A few streamed answers after a first one, for a server may make its counters with that one."""
    prompts = tuple(f"{word} {word} is how many words?" for word in ("one", "two", "three", "four"))
    load = LoadRequest(
        server.url, server.model, "chat", prompts, OSL, 2, ignore_eos_fields=server.ignore_eos, keep_raw_every=0
    )  # fmt: skip
    if engine.name == "fake":
        return FakeClient().run(load, workdir=folder), {}
    StreamClient().run(replace(load, prompts=("first",), concurrency=1), workdir=folder)
    before = engine.counters(server)
    run = StreamClient().run(load, workdir=folder)
    return run, engine.counters(server).since(before)


def test_it_answers_through_the_chat_route(served: Served) -> None:
    asker = fake_ask if served.kind is FAKE else ask
    answer = asker(served.server.url, served.server.model, "What is 2 + 2?", max_tokens=4)
    assert answer.prompt_tokens and answer.completion_tokens and 0 < answer.completion_tokens <= 4


def test_it_streams_exactly_the_asked_tokens_and_says_how_many(served: Served) -> None:
    records = served.run.records
    assert [r.error for r in records] == [None] * REQUESTS
    assert {r.completion_tokens for r in records} == {OSL} and all(r.prompt_tokens for r in records)
    assert all(len(r.chunk_ns) >= 2 for r in records)


def test_its_counters_rise_with_what_it_serves_or_there_are_none(served: Served) -> None:
    if not served.kind.real:
        return
    assert bool(served.counted) is served.kind.counts
    if served.kind.counts:
        tpot, use = server_tpot(served.counted), cache_use(served.counted)
        assert tpot is not None and tpot > 0
        assert use is not None and 0 <= use.hit <= use.queried == sum(r.prompt_tokens or 0 for r in served.run.records)
        made = [v for k, v in served.counted.items() if k.endswith(":generation_tokens_total")]
        assert made == [REQUESTS * OSL]


def test_what_it_shows_of_a_running_server_has_its_place_in_the_context(served: Served) -> None:
    seen = {**served.engine.version(), **served.server.source, **served.engine.observed(served.server)}
    assert set(seen) <= ARM_FIELDS | ENVIRONMENT_FIELDS
    known = {f.name for f in context({}, seen).fields if f.value != "unknown"}
    assert known >= set(served.kind.seen) and seen["served_model"] == served.server.model
    if served.kind.real:
        assert seen["engine_version"] and seen["engine_lock"] == find(served.kind.name).lock_digest  # type: ignore[union-attr]
        assert seen["thread_binding"] == str(available_cores()[0]) and seen["torch_threads"] == "1"


def test_its_command_is_a_list_on_loopback_without_code_of_the_model(served: Served) -> None:
    if not served.engine.restarts:
        assert served.engine.command(served.spec).argv == ()
        return
    command = served.engine.command(served.spec)
    assert all(isinstance(word, str) and word for word in command.argv) and str(served.spec.port) in command.argv
    assert not [word for word in command.argv if "trust" in word or word == "0.0.0.0"]
    assert "127.0.0.1" in command.argv or not served.kind.real


def test_an_option_it_lacks_is_refused_by_name_and_its_own_is_not(served: Served) -> None:
    if served.engine.flags() is None:
        assert served.kind is ENDPOINT
        return
    refuse_unknown_flags(served.engine, served.spec.arm.flags, "cell a")
    with pytest.raises(WrongUse, match="--warp-speed"):
        refuse_unknown_flags(served.engine, ("--warp-speed", "9"), "cell a")


def test_a_port_in_use_is_refused(served: Served) -> None:
    if served.server.pid is None or served.kind is FAKE:
        return
    with pytest.raises(WrongUse, match="in use"):
        served.engine.start(served.spec)


def test_a_start_that_fails_says_why_in_the_engines_words_and_leaves_nothing(served: Served, tmp_path: Path) -> None:
    if not served.kind.why:
        return
    spec = spec_of(served.kind, tmp_path, flags=served.kind.spoilt, arm="broken")
    with pytest.raises(EngineFailed, match=served.kind.why):
        served.engine.start(spec)
    assert not _naming(f"--port {spec.port}")


def test_stop_leaves_nothing_running(served: Served) -> None:
    tree = descendants(served.server.pid) if served.server.pid and served.kind is not FAKE else []
    served.engine.stop(served.server)
    served.stopped = True
    assert not [pid for pid in tree if Path(f"/proc/{pid}").exists()]
    if served.engine.restarts and served.kind is not FAKE:
        assert tree and not _naming(f"--port {served.spec.port}")
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("127.0.0.1", served.spec.port))
    if served.kind is ENDPOINT:
        assert ask(served.server.url, served.server.model, "still there").text


def _naming(text: str) -> list[str]:
    return [line for line in commands() if text in line and "pytest" not in line]
