"""Whoever does not agree starts, writes and sends nothing: for every verb of the table, by requests made from its types."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Literal, get_args, get_origin

import pytest
from mcp_help import CAMPAIGN, in_time
from mcp_types import ElicitRequestParams, ElicitResult
from pydantic_core import PydanticUndefined

from mcp import Client
from profile_and_optimize.core.opens import Kind, Opens
from profile_and_optimize.engines.reaper import descendants
from profile_and_optimize.mcp import schema, tools
from profile_and_optimize.mcp.policy import Policy, load_policy
from profile_and_optimize.mcp.server import build
from profile_and_optimize.ops.base import LOUD, Op, Safety, acts_of, all_ops, class_of, parse_request

Make = Callable[[str], Policy]
JOBS, ARTIFACTS, READS = Safety.SUBMITS_JOBS, Safety.WRITES_ARTIFACTS, Safety.READ_ONLY
# A value for each kind of thing that a field opens, and for plain texts by their field: see `place`.
BY_KIND = {
    Kind.PATH: "text.jsonl", Kind.TREE: "text.jsonl", Kind.OUT: "out.pdf", Kind.RUN: "two-mocks", Kind.MODEL: "model",
    Kind.DATA: "text.jsonl",    Kind.PLACE: "model", Kind.CAMPAIGN: "c.yaml", Kind.ARMS: "arms.tsv", Kind.FLAGS: "--max-num-seqs 4",
}  # fmt: skip
BY_FIELD = {"cell": "base", "target": "int8", "tasks": "demo"}
# Richer ones by hand, with the class of each: requests of one verb differ. Every verb has an entry; one without fails.
RICH: dict[str, list[tuple[dict[str, Any], Safety]]] = {
    "ab": [({"budget_minutes": 1}, ARTIFACTS), ({}, JOBS), ({"budget_minutes": 1, "blocks": 50}, JOBS)],
    "accuracy_gate": [({}, ARTIFACTS)],
    "atlas_aggregate": [({}, ARTIFACTS)],
    "bench": [
        ({}, ARTIFACTS), ({"requests": 100_000}, JOBS), ({"request_rate": 1, "duration_s": 3600}, JOBS), ({"osl": 4000}, JOBS),
        ({"workload": "random-128-64"}, JOBS), ({"replay": "text.jsonl"}, JOBS), ({"client": "aiperf"}, JOBS),
        ({"request_rate": 0.01, "requests": 2}, JOBS), ({"request_rate": 4, "duration_s": 10}, ARTIFACTS),
    ],
    "bench_all_workloads": [({}, JOBS)],
    "workloads": [({"model": "model"}, READS)],
    "mock": [({"port": 0}, JOBS)],
    "optimize": [
        ({"model": "model"}, JOBS), ({"model": "model", "dry_run": True}, ARTIFACTS), ({"resume": "two-mocks", "dry_run": True}, JOBS),
        ({"model": "model", "quant_target": "int8"}, JOBS),
    ],
    "levers": [({}, READS)],
    "run_variant_ab": [({"model": "model"}, JOBS), ({"model": "model", "dry_run": True}, ARTIFACTS)],
    "run_controlled_ab": [({"model": "model", "flags": "--enforce-eager"}, JOBS)],
    "quantize": [({}, JOBS), ({"dry_run": True}, ARTIFACTS), ({"render_only": True}, ARTIFACTS)],
    "calibration_prepare": [({}, ARTIFACTS), ({"samples": 10_000_000}, JOBS), ({"chat": True}, JOBS)],
    "pad_experts": [({}, JOBS)],
    "quant_compare": [({}, JOBS), ({"dry_run": True}, ARTIFACTS)],
    "campaign_init": [({}, ARTIFACTS)],
    "campaign_run": [({}, JOBS), ({"extend": 2}, JOBS), ({"dry_run": True}, ARTIFACTS)],
    "cell_run": [({}, JOBS), ({"dry_run": True}, ARTIFACTS)],
    "import_variant_ab": [({"bundle": "bundle"}, ARTIFACTS)],
    "champion_select": [({}, ARTIFACTS)],
    "report_render": [({}, ARTIFACTS)],
    "report_smoke": [({}, ARTIFACTS)],
    "verify": [({}, READS)],
    "explain": [({}, READS)],
    "export": [({}, READS), ({"format": "md"}, READS), ({"out": "out.csv"}, ARTIFACTS)],
    "runs": [({}, READS)],
    "doctor": [({}, READS)],
    "lint": [({}, READS)],
    "calibrate": [({}, JOBS)],
    "tools": [({"action": "list"}, READS), ({"action": "install", "tool": "vllm"}, JOBS), ({"action": "check", "tool": "vllm"}, READS)],
    "evaluate": [({"model": "model"}, JOBS), ({"model": "model", "engine_flags": "--max-num-seqs 4"}, JOBS)],
    "serve_matrix": [({}, JOBS), ({"flags": "--enforce-eager"}, JOBS), ({"dry_run": True}, ARTIFACTS)],
}  # fmt: skip
OPS = list(all_ops().values())


@contextmanager
def listening() -> Iterator[tuple[str, list[str]]]:
    """A server that remembers what was asked of it."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            self.send_error(500)

        do_POST = do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@pytest.fixture
def place(work: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace that holds what minimal requests name."""
    (work / "model").mkdir()
    (work / "model/config.json").write_text('{"architectures": ["X"]}')
    (work / "model/tokenizer.json").write_text("{}")
    (work / "text.jsonl").write_text('{"question": "2 + 2", "answer": "4"}\n')
    (work / "arms.tsv").write_text("arm\tengine\tflags\tenv\tlever\nbase\tvllm\t--a 1\tX=2\tnone\n")
    shutil.copytree(work / "model", work / "bundle")
    shutil.copy(work / "arms.tsv", work / "bundle")
    (work / "c.yaml").write_text(CAMPAIGN)
    op = all_ops()["campaign_init"]
    op.run(parse_request(op, {"config": "c.yaml"}), lambda _: None)
    return work


def minimal(op: Op, url: str) -> dict[str, Any]:
    """A value for every field that has to be given, by its type."""
    return {name: _value(name, f, url) for name, f in op.request.model_fields.items() if f.default is PydanticUndefined}


def _value(name: str, field: Any, url: str) -> Any:
    if get_origin(field.annotation) is Literal:
        return get_args(field.annotation)[0]
    mark = next((m for m in field.metadata if isinstance(m, Opens)), None)
    if name in BY_FIELD:
        return BY_FIELD[name]
    assert mark is not None, f"{name}: what does it open? Say so in its type, or give a value for it here"
    one = url if mark.kind is Kind.URL else BY_KIND[mark.kind]
    return (one,) if get_origin(field.annotation) is tuple else one


def requests(url: str) -> list[tuple[Op, dict[str, Any], Safety]]:
    return [(op, {**minimal(op, url), **more}, safety) for op in OPS for more, safety in RICH[op.verb]]


class Answering:
    def __init__(self, action: str, agree: bool) -> None:
        self.asked: list[str] = []
        self.answer = ElicitResult(action=action, content={"agree": agree} if action == "accept" else None)  # type: ignore[arg-type]

    async def __call__(self, context: Any, params: ElicitRequestParams) -> ElicitResult:
        self.asked.append(params.message)
        return self.answer


def calls(policy: Policy, person: Answering | None, mode: str, url: str) -> list[tuple[Op, dict[str, Any], Safety]]:
    """Every request of the table through one client, with its answer."""

    async def main() -> list[Any]:
        async with Client(build(policy), elicitation_callback=person, mode=mode) as client:
            return [
                (op, (await client.call_tool(schema.tool_name(op), values)).structured_content, safety)
                for op, values, safety in requests(url)
            ]

    found: list[tuple[Op, dict[str, Any], Safety]] = in_time(main)
    return found


def test_every_verb_has_an_entry() -> None:
    assert set(RICH) == set(all_ops())


def test_a_request_is_of_the_class_of_what_it_does(place: Path) -> None:
    with listening() as (url, _):
        for op, values, safety in requests(url):
            assert class_of(op, parse_request(op, values)) is safety, (op.verb, values)


def test_no_request_does_more_than_its_verb_says(place: Path) -> None:
    """The hints that a client is given are the verb's."""
    order = list(Safety)
    for op, values, _ in requests("http://127.0.0.1:1"):
        assert order.index(class_of(op, parse_request(op, values))) <= order.index(op.safety), (op.verb, values)


def test_what_starts_servers_or_runs_code_can_show_what(place: Path) -> None:
    for op, values, _ in requests("http://127.0.0.1:1"):
        assert op.started is not None or not acts_of(op, parse_request(op, values)) & LOUD, op.verb


PEOPLE = [None, ("decline", False), ("cancel", False), ("accept", False)]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize("who", PEOPLE, ids=["cannot-ask", "no", "cancels", "empty"])
def test_whoever_does_not_agree_to_any_verb_starts_writes_and_sends_nothing(
    place: Path, own_policy: Make, no_child_left: None, mode: str, who: tuple[str, bool] | None
) -> None:
    """All verbs are put under `ask`, so that the quiet ones are tried as well."""
    policy = own_policy(f"ask: {json.dumps([op.verb for op in OPS])}")
    person = Answering(*who) if who else None
    before = {p: p.stat().st_mtime_ns for p in place.parent.rglob("*")}
    children = set(descendants(os.getpid()))
    with listening() as (url, seen):
        ends = calls(policy, person, mode, url)
    for op, end, _ in ends:
        said = "cannot ask" if who is None else "did not agree"
        assert end["error"]["code"] == "refused" and said in end["error"]["message"], (op.verb, end)
        assert end["error"]["next"]
    assert seen == [] and set(descendants(os.getpid())) <= children
    assert {p: p.stat().st_mtime_ns for p in place.parent.rglob("*")} == before
    assert person is None or len(person.asked) == len(ends)


def test_by_default_a_client_that_cannot_ask_gets_no_loud_call_of_any_verb(
    place: Path, monkeypatch: pytest.MonkeyPatch, no_child_left: None
) -> None:
    ran = recorded(monkeypatch)
    with listening() as (url, _):
        ends = calls(load_policy(None, place), None, "auto", url)
    asked = [(op.verb, safety) for op, end, safety in ends if end["error"] and "cannot ask" in end["error"]["message"]]
    assert asked == [(op.verb, safety) for op, _, safety in ends if safety is JOBS]
    assert ran == [op.verb for op, _, safety in ends if safety is not JOBS]


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Instead of a process for every call, its verb."""
    ran: list[str] = []

    async def run(asked: Any, report: Any, most_s: float) -> tuple[dict[str, Any], str]:
        ran.append(asked["verb"])
        return {"schema": 1, "ok": True, "verb": asked["verb"], "result": {}, "warnings": [], "error": None}, ""

    monkeypatch.setattr(tools, "run_job", run)
    return ran


def test_whoever_agrees_has_every_one_of_them_run(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So it was the answer that stopped them, and no mistake in the requests."""
    ran, person = recorded(monkeypatch), Answering("accept", True)
    with listening() as (url, _):
        ends = calls(load_policy(None, place), person, "legacy", url)
    assert all(end["ok"] for _, end, _ in ends), [(op.verb, e["error"]) for op, e, _ in ends if not e["ok"]]
    assert ran == [op.verb for op, _, _ in ends]
    assert len(person.asked) == len([1 for _, _, safety in ends if safety is JOBS])
