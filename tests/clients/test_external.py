"""The adapters of other tools: they send our prompts, keep secrets out of sight, and invent nothing. The tools are stand-ins."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from profile_and_optimize.clients.aiperf import AiperfClient
from profile_and_optimize.clients.arrivals import Schedule
from profile_and_optimize.clients.base import Client, LoadRequest
from profile_and_optimize.clients.cpu_watch import CpuWatch
from profile_and_optimize.clients.external import (
    PromptIndex,
    counted_by_server,
    stand_in_tokenizer,
    tool_env,
    whole_order,
)
from profile_and_optimize.clients.guidellm import GuidellmClient
from profile_and_optimize.clients.vllm_bench import VllmBenchClient
from profile_and_optimize.core.errors import BrokeMidway, WrongUse
from profile_and_optimize.core.records import ClientRun
from profile_and_optimize.engines.mock.process import MockProcess
from profile_and_optimize.importers.reading import digest_of_text
from profile_and_optimize.stats.foreign import as_told
from profile_and_optimize.stats.summary import summarize
from profile_and_optimize.toolenv.find import ToolEnv

CLIENTS: dict[str, Callable[..., Client]] = {
    "vllm-bench": VllmBenchClient,
    "aiperf": AiperfClient,
    "guidellm": GuidellmClient,
}
COMMANDS = {"vllm-bench": "vllm", "aiperf": "aiperf", "guidellm": "guidellm"}
VERSIONS = (("vllm", "0.32.0"), ("aiperf", "0.13.0"), ("guidellm", "0.8.1"))
QUICK = ("--ttft-ms", "20", "--itl-ms", "2")
SECRET = "sk-secret-123456"
every_client = pytest.mark.parametrize("name", CLIENTS)


def client(name: str, folder: Path, behaviour: str = "", grace_s: float = 60.0) -> Client:
    """An adapter whose tool is the stand-in."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "python").symlink_to(sys.executable)
    script = (Path(__file__).parent / "fake_tool.py").read_text()
    command = folder / COMMANDS[name]
    command.write_text(f"#!{sys.executable}\n{script}")
    command.chmod(0o755)
    (folder / "behaviour").write_text(behaviour)
    env = ToolEnv(COMMANDS[name], folder / "python", VERSIONS, None, None, "user")
    return CLIENTS[name](env, grace_s=grace_s)


def load(url: str, n: int = 9, **changes: Any) -> LoadRequest:
    values: dict[str, Any] = {"model": "mock", "api": "chat", "osl": 8, "concurrency": 3, "timeout_s": 20.0}
    prompts = tuple(f"{i} word of a prompt" for i in range(n))
    return LoadRequest(url=url, **{"prompts": prompts, **values, **changes})


@pytest.fixture(scope="module")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockProcess]:
    with MockProcess(*QUICK, "--stamps", str(tmp_path_factory.mktemp("mock") / "stamps.json")) as running:
        yield running


def run(name: str, tmp_path: Path, mock: MockProcess, behaviour: str = "", **changes: Any) -> ClientRun:
    return client(name, tmp_path / "bin", behaviour).run(load(mock.url, **changes), workdir=tmp_path / "work")


@dataclass(frozen=True)
class Answered:
    """One good run, what the mock sent meanwhile, and what the tool saw of its own start."""

    run: ClientRun
    sent: dict[int, dict[str, Any]]
    argv: list[str]
    env: dict[str, str]
    left: list[Path]


@pytest.fixture(
    scope="module", params=[(name, api) for name in CLIENTS for api in ("chat", "completions")], ids="-".join
)
def answered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, mock: MockProcess) -> Answered:
    (name, api), folder = request.param, tmp_path_factory.mktemp("answered")
    mock.get("/stamps/reset")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HTTP_PROXY", "http://proxy.invalid:1")
        patch.setenv("HF_TOKEN", "hf-of-the-user")
        found = run(name, folder, mock, api=api, cores=(0,), headers=(("Authorization", f"Bearer {SECRET}"),))
    seen = json.loads((folder / "bin/seen.json").read_text())
    sent = {int(row["tag"]): row for row in mock.stamps()}
    return Answered(found, sent, seen["argv"], seen["env"], list((folder / "work").iterdir()))


def test_each_prompt_is_sent_once_and_its_record_carries_its_index(answered: Answered) -> None:
    assert sorted(answered.sent) == [r.index for r in answered.run.records] == list(range(9))
    for r in answered.run.records:
        sent = answered.sent[r.index]
        truth = (sent["chunk_ns"][0] - sent["read_ns"]) / 1e6
        assert r.ok and r.completion_tokens == sent["tokens"] == 8
        # The stand-in reports what it saw: the mock's own wait and the way there, of the very request that was sent.
        assert truth - 1.0 <= (r.chunk_ns[0] - r.sent_ns) / 1e6 < answered.run.probe.wall_s * 1e3
        assert r.intended_ns <= r.sent_ns and r.done_ns >= r.chunk_ns[-1]
    assert answered.left == []


def test_what_a_foreign_client_does_not_say_of_itself_is_unknown(answered: Answered) -> None:
    probe = answered.run.probe
    assert (probe.loop_lag_ns, probe.in_flight_s, probe.run_queue_wait_s) == ((), None, None)
    assert (probe.connections, probe.reads, probe.scheduler) == (None, None, "unknown")
    assert probe.wall_s > 0 and probe.cores == (0,)
    if sys.platform.startswith("linux"):
        assert probe.cpu_s is not None and probe.parse_cpu_s is not None and probe.cpu_s >= 0


def test_secrets_and_prompts_stay_out_of_the_process_list_and_our_environment_stays_with_us(answered: Answered) -> None:
    assert SECRET in answered.env.values()
    assert not [a for a in answered.argv if SECRET in a or "word of a prompt" in a]
    assert not {"HTTP_PROXY", "HF_TOKEN"} & set(answered.env) and answered.env["HOME"] != os.environ["HOME"]
    assert answered.env["HF_ENDPOINT"] == "http://127.0.0.1:9"


@every_client
def test_failed_requests_are_records_with_their_reason(name: str, tmp_path: Path) -> None:
    with MockProcess(*QUICK, "--error-every", "3") as failing:
        found = run(name, tmp_path, failing)
    failed = [r for r in found.records if not r.ok]
    assert len(found.records) == 9 and len(failed) == 3 and {r.error for r in failed} == {"HTTP 500"}
    assert sorted(r.index for r in found.records) == list(range(9))


@every_client
def test_loads_that_no_adapter_can_make_are_refused_before_anything_starts(name: str, tmp_path: Path) -> None:
    made = client(name, tmp_path / "bin")
    poisson = Schedule("constant", 10.0, tuple(range(9)))
    for changes, why in (
        ({"schedule": poisson}, "closed loop only"),
        ({"headers": (("X-Team", "a"),)}, "X-Team"),
        ({"model": "-rm"}, "not a model name"),
        ({"model": "{{ x }}"}, "not a model name"),
    ):
        with pytest.raises(WrongUse, match=why):
            made.run(load("http://127.0.0.1:1", **changes), workdir=tmp_path / "work")
    assert not (tmp_path / "bin/seen.json").exists()


def test_lengths_per_prompt_go_to_the_tools_that_take_them(tmp_path: Path, mock: MockProcess) -> None:
    osls = (20, 2, 18, 3, 16, 4, 14, 5, 12)  # so that they end in another order
    for name in ("aiperf", "guidellm"):
        found = run(name, tmp_path / name, mock, osls=osls)
        assert tuple(r.completion_tokens for r in found.records) == osls
    with pytest.raises(WrongUse, match="one osl"):
        run("vllm-bench", tmp_path / "vllm", mock, osls=osls)


@pytest.mark.parametrize(
    ("name", "behaviour", "why"),
    [
        ("vllm-bench", "crash", "ended with 3: ValueError: the tokenizer cannot be read"),
        ("aiperf", "boxed", "ended with 1: Error Running no phases given"),
        *((name, "garbage", "left no result that can be read") for name in CLIENTS),
        ("aiperf", "half", "reported 4 of 9 requests"),
        ("guidellm", "die", "ended with"),
    ],
)
def test_a_tool_that_breaks_is_quoted_and_its_files_stay(
    name: str, behaviour: str, why: str, tmp_path: Path, mock: MockProcess
) -> None:
    with pytest.raises(BrokeMidway, match=why):
        run(name, tmp_path, mock, behaviour, headers=(("Authorization", f"Bearer {SECRET}"),))
    kept = [p for p in (tmp_path / "work").rglob("*") if p.is_file()]
    assert any(p.name == "log.txt" for p in kept)
    assert not [p for p in kept if SECRET in p.read_text(errors="replace")]


def test_a_tool_that_hangs_is_killed_with_all_its_children(tmp_path: Path) -> None:
    made = client("aiperf", tmp_path / "bin", "hang", grace_s=2.0)
    with pytest.raises(BrokeMidway, match="did not end within 2 s"):
        made.run(load("http://127.0.0.1:1", timeout_s=1e-6), workdir=tmp_path / "work")
    grandchild = int((tmp_path / "bin/grandchild").read_text())
    for _ in range(100):
        if not Path(f"/proc/{grandchild}").exists():
            break
        time.sleep(0.05)
    assert not Path(f"/proc/{grandchild}").exists()


@pytest.mark.parametrize("name", ["aiperf", "guidellm"])
def test_an_answer_to_a_prompt_that_is_not_ours_breaks_the_run(name: str, tmp_path: Path, mock: MockProcess) -> None:
    with pytest.raises(BrokeMidway, match="that was not sent"):
        run(name, tmp_path, mock, "stranger")


@every_client
def test_a_missing_tool_says_how_it_is_installed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAO_TOOLS_DIR", str(tmp_path))
    with pytest.raises(WrongUse) as caught:
        tool_env(COMMANDS[name])
    assert caught.value.next == f"pao tools install {COMMANDS[name]}"


def test_a_tool_that_vanished_is_not_a_traceback(tmp_path: Path) -> None:
    made = client("aiperf", tmp_path / "bin")
    (tmp_path / "bin/aiperf").unlink()
    with pytest.raises(WrongUse, match="no command there"):
        made.run(load("http://127.0.0.1:1"), workdir=tmp_path / "work")


def test_without_usage_no_count_is_taken_from_the_tools_own_tokenizer(tmp_path: Path) -> None:
    with MockProcess(*QUICK, "--no-usage") as silent:
        for name in ("vllm-bench", "aiperf"):
            found = run(name, tmp_path / name, silent)
            assert {r.completion_tokens for r in found.records} == {None} == {r.prompt_tokens for r in found.records}
    asked = load("http://x", osl=8)
    assert counted_by_server(asked, 0, 8) == 8 and counted_by_server(asked, 0, 5) is None
    assert counted_by_server(load("http://x", osl=8, ignore_eos=False), 0, 8) is None


def test_of_guidellm_gaps_and_the_rate_of_a_window_are_unknown_and_the_ends_of_a_stream_are_not(
    tmp_path: Path, mock: MockProcess
) -> None:
    found = run("guidellm", tmp_path, mock, n=12)
    assert not found.probe.chunks_known and {len(r.chunk_ns) for r in found.records} == {2}
    raw = summarize(found.records, asked=12, concurrency=3)
    told = as_told(found, raw)
    assert raw.dists["itl"] is not None and told.dists["itl"] is None and told.tokens_per_chunk is None
    assert told.dists["tpot"] == raw.dists["tpot"] and told.output_throughput == raw.whole_output_throughput
    whole = replace(found, probe=replace(found.probe, chunks_known=True))
    assert as_told(whole, raw) == raw


def test_the_stand_in_tokenizer_makes_five_tokens_of_any_text(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(str(stand_in_tokenizer(tmp_path) / "tokenizer.json"))
    assert [len(tokenizer.encode(text).ids) for text in ("a", "many words here", "x" * 5000)] == [5, 5, 5]


def test_equal_prompts_take_their_indexes_in_order_and_strange_ones_none() -> None:
    where = PromptIndex(("a", "b", "a"))
    chat, plain = digest_of_text([{"role": "user", "content": "a"}]), digest_of_text("a")
    assert [where.take(chat), where.take(plain), where.take(plain), where.take("?"), where.take(None)] == [
        0, 2, None, None, None,
    ]  # fmt: skip


def test_failed_requests_without_a_prompt_take_the_indexes_that_are_left() -> None:
    assert whole_order([2, None, 0], 4, name="x", failed=[False, True, False]) == [2, 1, 0]
    with pytest.raises(BrokeMidway, match="2 of 2"):
        whole_order([0, None], 2, name="x", failed=[False, False])


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no /proc here: CPU time of a tree is unknown")
def test_the_cpu_of_children_is_counted_after_they_ended_too() -> None:
    import subprocess

    watch = CpuWatch(os.getpid())
    watch.start()
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    begin = time.perf_counter_ns()
    subprocess.run(
        [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"], check=True
    )
    time.sleep(0.1)
    watch.stop()
    assert watch.total_s is not None
    assert 0.25 < watch.total_s < (time.perf_counter_ns() - begin) / 1e9 * (os.cpu_count() or 1) + 0.1
    assert watch.at(begin - 10**9) == 0.0 and watch.at(time.perf_counter_ns()) == watch.total_s
    middle = watch.at(begin + 10**8)
    assert middle is not None and 0.0 <= middle <= watch.total_s


@pytest.mark.slow
@every_client
def test_the_real_tool_sends_our_prompts_and_its_records_match_the_mock(
    name: str, tmp_path: Path, mock: MockProcess
) -> None:
    try:
        env = tool_env(COMMANDS[name])
    except WrongUse as e:
        pytest.skip(f"{e.message}: {e.next}")
    mock.get("/stamps/reset")
    found = CLIENTS[name](env).run(
        load(mock.url, 24, headers=(("Authorization", f"Bearer {SECRET}"),)), workdir=tmp_path / "work"
    )
    sent = {int(row["tag"]): row for row in mock.stamps()}
    assert sorted(sent) == [r.index for r in found.records] == list(range(24))
    for r in found.records:
        truth = (sent[r.index]["chunk_ns"][0] - sent[r.index]["read_ns"]) / 1e6
        assert r.ok and r.completion_tokens == 8 and (r.chunk_ns[0] - r.sent_ns) / 1e6 > truth - 1.0
