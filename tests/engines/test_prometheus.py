"""The prefix cache as servers count it."""

from __future__ import annotations

import pytest

from profile_and_optimize.engines.prometheus import CacheUse, cache_use, parse

VLLM = """
# TYPE vllm:prefix_cache_queries_total counter
vllm:prefix_cache_queries_total{engine="0",model_name="m"} 800.0
vllm:prefix_cache_queries_total{engine="1",model_name="m"} 200.0
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 96.0
vllm:prefix_cache_hits_total{engine="1",model_name="m"} 4.0
vllm:prefix_cache_queries_created{engine="0",model_name="m"} 1.79e9
"""


def test_look_ups_and_hits_are_summed_over_the_engines_of_a_server() -> None:
    assert cache_use(parse(VLLM)) == CacheUse(1000.0, 100.0)


def test_what_a_connector_held_counts_as_well() -> None:
    assert cache_use(parse(VLLM + "vllm:external_prefix_cache_hits_total 50\n")) == CacheUse(1000.0, 150.0)


def test_sglang_counts_prompt_and_cached_tokens() -> None:
    text = 'sglang:prompt_tokens_total{m="x"} 400\n'
    text += 'sglang:cached_tokens_total{cache_source="device"} 30\nsglang:cached_tokens_total{cache_source="host"} 10\n'
    use = cache_use(parse(text))
    assert use is not None and use.share == pytest.approx(0.1)


def test_sglang_shows_a_cold_cache_as_cold_before_there_ever_was_a_hit() -> None:
    text = 'sglang:prompt_tokens_total{m="x"} 400\nsglang:prompt_tokens_histogram_sum{m="x"} 400\n'
    assert cache_use(parse(text + 'sglang:uncached_prompt_tokens_histogram_sum{m="x"} 400\n')) == CacheUse(400.0, 0.0)
    assert cache_use(parse(text + 'sglang:uncached_prompt_tokens_histogram_sum{m="x"} 300\n')) == CacheUse(400.0, 100.0)
    assert cache_use(parse(text)) is None


def test_without_counters_it_is_unknown_and_without_look_ups_there_is_no_share() -> None:
    assert cache_use({"vllm:prefix_cache_queries_total": 5.0}) is None and cache_use({}) is None
    assert CacheUse(0.0, 0.0).share is None
