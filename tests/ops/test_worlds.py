"""Which Python drives which engine."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.ops.worlds import _Asker, engine_table, pythons

sys.path.insert(0, str(Path(__file__).parents[1] / "evals"))
from answering import answering, is_probe


def test_a_path_alone_is_that_of_the_only_engine_that_takes_one() -> None:
    assert (
        pythons("/e/bin/python", ["vllm"])
        == pythons("/e/bin/python", ["vllm", "mock", "endpoint"])
        == {"vllm": "/e/bin/python"}
    )
    assert pythons(None, ["vllm", "sglang"]) == pythons("", ["vllm"]) == {}


def test_a_path_alone_with_two_engines_is_refused_with_the_form_that_says_which() -> None:
    with pytest.raises(WrongUse) as caught:
        pythons("/e/bin/python", ["vllm", "sglang", "sglang"])
    assert caught.value.next == "--engine-python sglang=PATH,vllm=PATH"


def test_each_engine_may_have_its_own() -> None:
    assert pythons("sglang=/s/python", ["vllm", "sglang"]) == {"sglang": "/s/python"}
    assert pythons("vllm=/v, sglang=/s=1", ["vllm", "sglang"]) == {"vllm": "/v", "sglang": "/s=1"}
    assert pythons("/odd=name/python", ["vllm"]) == {"vllm": "/odd=name/python"}


@pytest.mark.parametrize("given", ["sglang=/s", "vllm=/v,/w", "/v,/w"])
def test_another_engines_name_and_two_paths_are_refused(given: str) -> None:
    with pytest.raises(WrongUse):
        pythons(given, ["vllm"])


def test_the_engines_are_in_the_table() -> None:
    assert {"vllm", "sglang", "transformers", "endpoint", "mock"} <= set(engine_table())


def test_a_question_that_a_gate_rests_on_is_asked_with_what_its_server_takes_found_once() -> None:
    with answering() as server:
        server.unknown, server.finish = ("top_k",), lambda said: "length"
        ask = _Asker(())
        said = [ask(server.url, "sums", f"What is {i} + 2?", api="completions", pinned=True) for i in range(3)]
        probes = [body for _, body, _ in server.seen if is_probe(body)]
        asked = [body for _, body, _ in server.seen if not is_probe(body)]
    assert [a.text for a in said] == ["2", "3", "4"] and {a.finish for a in said} == {"length"}
    assert all("top_k" not in b and b["top_p"] == 1.0 and b["repetition_penalty"] == 1.0 for b in asked)
    assert said[0].pins is not None and said[0].pins.refused == ("top_k",) and len(asked) == 3
    # All of them, none, each of the eight, and an impossible value of the seven that it takes.
    assert len(probes) == 17


def test_a_question_that_no_gate_rests_on_is_greedy_and_nothing_is_probed() -> None:
    with answering() as server:
        ask = _Asker(())
        assert ask(server.url, "sums", "What is 1 + 2?", api="completions").pins is None
        (body,) = [body for _, body, _ in server.seen]
        assert body["temperature"] == 0.0 and "top_p" not in body
        ask(server.url, "sums", "What is 1 + 2?", api="completions", pinned=True)
        before = len(server.seen)
        ask(server.url, "sums", "What is 1 + 2?", api="completions")  # a server that starts at this address
        ask(server.url, "sums", "What is 1 + 2?", api="completions", pinned=True)
        assert len(server.seen) - before > 10
