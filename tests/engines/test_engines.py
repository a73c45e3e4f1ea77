"""URLs, flags, logs and the contract of an engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.errors import Unreachable, WrongUse
from profile_and_optimize.engines.base import Counters, Server, ServeSpec, refuse_unknown_flags
from profile_and_optimize.engines.endpoint import EndpointEngine, served_model
from profile_and_optimize.engines.prometheus import parse, server_tpot
from profile_and_optimize.engines.smoke import ask
from profile_and_optimize.engines.urls import checked_url
from profile_and_optimize.engines.vllm import observed_from_log
from profile_and_optimize.testing.fakes import FakeEngine


@pytest.mark.parametrize(("given", "root"), [
    ("http://h:8000", "http://h:8000"), ("http://h:8000/", "http://h:8000"), ("http://h:8000/v1", "http://h:8000"),
    ("https://h/api/v1/", "https://h/api"), ("http://[::1]:80", "http://[::1]:80"),
])  # fmt: skip
def test_urls_are_taken_as_roots(given: str, root: str) -> None:
    assert checked_url(given) == root


@pytest.mark.parametrize("url", [
    "h:8000", "ftp://h", "-x", "", "http://", "http://user:pw@h", "http://169.254.169.254/latest", "http://metadata.google.internal",
    "http://h:99999", "file:///etc/passwd", "http://[::1", "http://2852039166/", "http://0xa9fea9fe/", "http://[::ffff:169.254.169.254]/",
    "http://metadata.google.internal./",
])  # fmt: skip
def test_urls_that_cannot_be_meant_are_refused(url: str) -> None:
    with pytest.raises(WrongUse):
        checked_url(url)


def test_a_flag_the_installed_engine_lacks_is_refused_by_name() -> None:
    engine = FakeEngine(known_flags=frozenset({"--max-num-seqs", "--enforce-eager"}))
    refuse_unknown_flags(engine, ("--max-num-seqs", "4", "--enforce-eager"), "cell x")
    with pytest.raises(WrongUse, match="--warp-speed"):
        refuse_unknown_flags(engine, ("--warp-speed", "9"), "cell x")


def test_histograms_are_read_from_prometheus_text() -> None:
    text = (
        '# HELP x y\nvllm:request_time_per_output_token_seconds_sum{model="a"} 0.5\n'
        'vllm:request_time_per_output_token_seconds_count{model="a"} 20\n'
        'vllm:request_time_per_output_token_seconds_bucket{le="1"} 20\nbroken line here x\nvllm:nan NaN\n'
    )
    assert server_tpot(parse(text)) == pytest.approx(0.025)
    assert server_tpot({}) is None


def test_what_vllm_says_of_its_configuration_is_observed() -> None:
    text = (
        "Initializing a V1 LLM engine (v0.32.0) with config: model='m', dtype=torch.bfloat16, max_seq_len=2048, tensor_parallel_size=1, "
        "quantization=None, enforce_eager=True, kv_cache_dtype=auto, enable_prefix_caching=True\n local_rank=0, core ids=[0, 1]"
    )
    found = observed_from_log(text)
    assert found["dtype"] == "bfloat16" and found["enforce_eager"] == "True" and found["thread_binding"] == "0, 1"
    assert "pp" not in found


def test_the_endpoint_engine_keeps_the_contract(mock_server: Server, tmp_path: Path) -> None:
    engine = EndpointEngine()
    spec = ServeSpec(Arm("a", "endpoint", Role.BASELINE, url=mock_server.url + "/v1"), "", "", 0, tmp_path / "log")
    server = engine.start(spec)
    assert (server.url, server.model) == (mock_server.url, "mock")
    assert engine.observed(server)["served_model"] == "mock"
    before = engine.counters(server)
    ask(server.url, server.model, "hello there")
    assert engine.counters(server).values.keys() >= before.values.keys()
    engine.stop(server)
    assert ask(server.url, server.model, "still there").text


def test_a_url_that_refuses_is_unreachable_with_its_name() -> None:
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9"):
        served_model("http://127.0.0.1:9")


@pytest.mark.parametrize("mock_server", [("--garbage",)], indirect=True)
def test_a_url_that_answers_garbage_is_unreachable(mock_server: Server) -> None:
    with pytest.raises(Unreachable, match="POST /v1"):
        ask(mock_server.url, "mock", "hello")


def test_a_model_the_endpoint_does_not_list_is_refused_and_a_listed_one_is_taken(mock_server: Server) -> None:
    assert served_model(mock_server.url, wanted="mock") == "mock"
    with pytest.raises(Unreachable, match="no model 'lora'"):
        served_model(mock_server.url, wanted="lora")


def test_a_counter_that_was_not_read_before_tells_nothing_about_the_window() -> None:
    assert Counters({"a": 5.0, "b": 7.0}).since(Counters({"a": 2.0})) == {"a": 3.0}
    assert Counters({"a": 1.0}).since(Counters({"a": 2.0})) == {}
