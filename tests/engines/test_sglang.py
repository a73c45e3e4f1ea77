"""SGLang's command on CPU and elsewhere, and what its server says of how it runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.engines.base import ServeSpec
from profile_and_optimize.engines.installed import thread_settings, threads_seen
from profile_and_optimize.engines.sglang import CPU_KV_TOKENS, SglangEngine, kv_tokens, observed_from_info
from profile_and_optimize.engines.transformers_serve import TransformersEngine, cpu_flags
from profile_and_optimize.toolenv.find import ToolEnv

CPU = (("sglang", "0.5.23"), ("transformers", "5.19.0"), ("torch", "2.13.0+cpu"))
CUDA = (("sglang", "0.5.23"), ("transformers", "5.19.0"), ("torch", "2.14.1"))


def env(tool: str, versions: tuple[tuple[str, str], ...]) -> ToolEnv:
    return ToolEnv(tool, Path("/e/bin/python"), versions, None, None, "user")


def spec(model: Path | str, *flags: str, cores: tuple[int, ...] = (0, 1), **settings: str) -> ServeSpec:
    arm = Arm("a", "sglang", Role.BASELINE, flags, tuple(settings.items()))
    return ServeSpec(arm, str(model), "served", 8123, Path("log"), ("--common", "1"), (("COMMON", "1"),), cores)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    shape = {
        "num_hidden_layers": 16,
        "num_key_value_heads": 4,
        "num_attention_heads": 8,
        "head_dim": 64,
        "hidden_size": 768,
    }
    (tmp_path / "config.json").write_text(json.dumps(shape))
    return tmp_path


def test_on_a_cpu_it_gets_cpu_flags_which_an_arm_may_overrule(model: Path) -> None:
    argv = SglangEngine(env("sglang", CPU)).command(spec(model, "--attention-backend", "intel_amx")).argv
    assert argv[1:3] == ("-m", "sglang.launch_server") and argv[argv.index("--model-path") + 1] == str(model)
    assert argv[argv.index("--host") + 1] == "127.0.0.1" and "--enable-metrics" in argv
    assert argv.index("--device") < argv.index("--common") < len(argv) - 2 and argv[-2:] == (
        "--attention-backend",
        "intel_amx",
    )


def test_elsewhere_device_and_threads_are_its_own_matter(model: Path) -> None:
    command = SglangEngine(env("sglang", CUDA)).command(spec(model))
    assert "--device" not in command.argv and "--max-total-tokens" not in command.argv
    assert "OMP_NUM_THREADS" not in dict(command.env) and "SGLANG_USE_CPU_ENGINE" not in dict(command.env)


@pytest.mark.parametrize("engine", [SglangEngine(env("sglang", CPU)), TransformersEngine(env("transformers", CPU))])
def test_threads_are_said_and_an_arm_has_the_last_word(model: Path, engine: SglangEngine) -> None:
    assert dict(engine.command(spec(model, cores=(0, 1, 2))).env)["OMP_NUM_THREADS"] == "2"
    assert dict(engine.command(spec(model, cores=(5,))).env)["OMP_NUM_THREADS"] == "1"
    assert dict(engine.command(spec(model, OMP_NUM_THREADS="7")).env)["OMP_NUM_THREADS"] == "7"
    assert dict(engine.command(spec(model)).env)["PYTHONSAFEPATH"] == "1"
    assert thread_settings(spec(model, cores=())) == ()


def test_of_a_model_on_a_hub_only_safetensors_are_read(model: Path) -> None:
    sglang = SglangEngine(env("sglang", CPU))
    assert sglang.command(spec("owner/name")).argv[-2:] == ("--load-format", "safetensors")
    assert "--load-format" not in sglang.command(spec(model)).argv
    with pytest.raises(WrongUse, match="limited to safetensors"):
        TransformersEngine(env("transformers", CPU)).command(spec("owner/name"))


def test_its_cache_holds_as_many_bytes_as_the_other_engines(model: Path) -> None:
    assert kv_tokens(str(model)) == (2 << 30) // (2 * 2 * 16 * 4 * 64)  # key and value, two bytes, layers, heads, size
    (model / "config.json").write_text('{"num_hidden_layers": 0}')
    assert kv_tokens(str(model)) == kv_tokens("owner/name") == CPU_KV_TOKENS


def test_transformers_takes_four_gibibytes_and_not_nine_tenths_of_the_machine() -> None:
    for memory, share in ((16 << 30, "0.2500"), (4 << 30, "0.5000")):
        flags = cpu_flags(memory)
        assert flags[flags.index("--cb-max-memory-percent") + 1] == share


def test_what_the_server_says_becomes_context_in_the_words_of_the_other_engine() -> None:
    info = {
        "dtype": "bfloat16", "tp_size": 1, "internal_states": [{"effective_max_running_requests_per_dp": 64}],
        "chunked_prefill_size": 2048, "mem_fraction_static": 0.85,
        "disable_radix_cache": False, "disable_overlap_schedule": True, "attention_backend": "torch_native", "kv_cache_dtype": "auto",
        "api_key": "secret", "quantization": None,
    }  # fmt: skip
    assert observed_from_info(info) == {
        "dtype": "bfloat16", "tp": "1", "max_num_seqs": "64", "max_num_batched_tokens": "2048", "memory_fraction": "0.85",
        "prefix_caching": "True", "async_scheduling": "False", "attention_backend": "torch_native", "kv_cache_dtype": "auto",
        "quantization": "None",
    }  # fmt: skip
    assert observed_from_info({}) == {}


def test_a_dtype_taken_from_the_weights_is_read_off_the_cache_or_unknown() -> None:
    log = "[x] KV Cache is allocated. dtype: torch.float16, #tokens: 16384\n"
    auto = {"dtype": "auto", "kv_cache_dtype": "auto"}
    assert observed_from_info(auto, log)["dtype"] == "float16"
    assert "dtype" not in observed_from_info(auto) and "dtype" not in observed_from_info(
        auto | {"kv_cache_dtype": "fp8_e5m2"}, log
    )


@pytest.mark.skipif(not Path("/proc").exists(), reason="no /proc here")
def test_threads_and_cores_are_seen_on_the_processes_and_a_contradiction_is_unknown() -> None:
    core = min(os.sched_getaffinity(0))
    code = f"import os, subprocess, sys; os.sched_setaffinity(0, [{core}]); e = dict(os.environ, OMP_NUM_THREADS=sys.argv[1]);"
    code += "p = [subprocess.Popen(['sleep', '60'], env=dict(e, OMP_NUM_THREADS=n)) for n in sys.argv[1:]]; print(1, flush=True);"
    code += "sys.stdin.read(); [x.kill() for x in p]"
    for told, seen in ((["3", "3"], {"torch_threads": "3"}), (["3", "4"], {})):
        with subprocess.Popen([sys.executable, "-c", code, *told], stdin=-1, stdout=-1, text=True) as root:
            assert root.stdout is not None and root.stdout.readline() == "1\n"
            wanted, end = {**seen, "thread_binding": str(core)}, time.monotonic() + 10
            while threads_seen(root.pid) != wanted and time.monotonic() < end:
                time.sleep(0.05)  # a child shows its settings once it has become the other program
            assert threads_seen(root.pid) == wanted
            root.communicate("")
    assert threads_seen(None) == {}
