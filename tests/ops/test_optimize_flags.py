"""`optimize`: flags of every variant, and the limit for a first start that compiles."""

from __future__ import annotations

from typing import Any

import pytest

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.ops.optimize import OptimizeRequest, _start_limit, run, started
from profile_and_optimize.optimize.levers import table


def dry(**more: Any) -> dict[str, Any]:
    asked = OptimizeRequest(model="mock", engines="mock", suite="demo-short", dry_run=True, **more)
    return run(asked, lambda _: None).data


def test_engine_flags_stand_on_every_variant_and_in_the_plan() -> None:
    found = dry(engine_flags="--prefill-ms 3")
    assert list(found["plan"]["common_flags"]) == ["--prefill-ms", "3"]
    assert all("--prefill-ms" in c["argv"] for c in found["commands"])
    assert started(OptimizeRequest(engines="mock", engine_flags="--prefill-ms 3")).common_flags == ("--prefill-ms", "3")


def test_flags_that_bring_code_are_refused_on_every_variant_too() -> None:
    with pytest.raises(WrongUse, match="trust-remote-code"):
        dry(engine_flags="--trust-remote-code")


def test_a_limit_for_the_first_start_takes_the_flags_of_the_lever_eager() -> None:
    found = _start_limit(OptimizeRequest(eager_after_s=100.0), ("vllm",))
    eager = next(lever for lever in table("vllm") if lever.id == "eager")
    assert (
        found == {"start_limit_s": 100.0, "slow_start_flags": eager.flags}
        and _start_limit(OptimizeRequest(), ("mock",)) == {}
    )
    for engines in (("sglang",), ("vllm", "sglang")):
        with pytest.raises(WrongUse, match="only vllm alone"):
            _start_limit(OptimizeRequest(eager_after_s=100.0), engines)
