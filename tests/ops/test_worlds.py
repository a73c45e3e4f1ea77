"""Which Python drives which engine."""

from __future__ import annotations

import pytest

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.ops.worlds import engine_table, pythons


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
    assert caught.value.next == "--python sglang=PATH,vllm=PATH"


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
