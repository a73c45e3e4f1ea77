"""A plugin is given to the one server that needs it, is named with its digest there, and to no other."""

from __future__ import annotations

import importlib.util
import json
import sys
from enum import Enum
from importlib.metadata import PathDistribution
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.code_settings import allowance_of
from profile_and_optimize.engines.base import ServeSpec
from profile_and_optimize.engines.vllm import VllmEngine
from profile_and_optimize.toolenv import plugin
from profile_and_optimize.toolenv.find import ToolEnv
from profile_and_optimize.toolenv.overlay import digest_of_folder

FOLDER = plugin.folder_of(plugin.VLLM_NVFP4_CPU)
NVFP4 = {"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}}
INT8 = {
    "quantization_config": {
        "quant_method": "compressed-tensors",
        "config_groups": {"group_0": {"weights": {"type": "int", "num_bits": 8}, "input_activations": {"num_bits": 8}}},
    }
}


def pythonpath(tmp_path: Path, config: dict[str, Any], *, build: str = "0.32.0+cpu", **env: str) -> str | None:
    """What a vLLM of that build is started with for that checkpoint."""
    (tmp_path / "config.json").write_text(json.dumps(config))
    engine = VllmEngine(ToolEnv("vllm", Path("bin/python"), (("vllm", build),), None, None, "user"))
    arm = Arm("a", "vllm", Role.BASELINE, env=tuple(env.items()))
    spec = ServeSpec(arm, str(tmp_path), "m", 1, tmp_path / "log", allow_code=allowance_of("PYTHONPATH"))
    return dict(engine.command(spec).env).get("PYTHONPATH")


def test_only_an_nvfp4_checkpoint_on_a_cpu_gets_it(tmp_path: Path) -> None:
    assert pythonpath(tmp_path, NVFP4) == str(FOLDER)
    assert pythonpath(tmp_path, INT8) is None and pythonpath(tmp_path, {}) is None
    assert pythonpath(tmp_path, NVFP4, build="0.32.0") is None
    assert pythonpath(tmp_path, NVFP4, PYTHONPATH="/own") == f"{FOLDER}:/own"


def test_it_is_named_by_the_digest_of_its_bytes_and_no_other_path_is() -> None:
    assert plugin.label(str(FOLDER)) == f"vllm_nvfp4_cpu {digest_of_folder(FOLDER)} (ours)"
    assert plugin.label(str(FOLDER.parent)) is None and plugin.label("/elsewhere/vllm_nvfp4_cpu") is None
    with pytest.raises(FileNotFoundError):
        plugin.folder_of("nothing")


def test_vllm_finds_it_by_its_entry_point() -> None:
    found = PathDistribution(next(FOLDER.glob("*.dist-info")))
    point = next(iter(found.entry_points))
    assert (point.group, point.value) == ("vllm.general_plugins", "pao_vllm_nvfp4_cpu:register")


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """As much of vLLM as the plugin touches when it is registered."""
    platform = Enum("PlatformEnum", ["CPU", "CUDA"])
    linear = ModuleType("vllm.model_executor.kernels.linear")
    kept = SimpleNamespace(linear=linear, platform=platform)
    linear.__dict__.update(
        _POSSIBLE_NVFP4_KERNELS={platform.CUDA: ["own"]}, EmulationNvFp4LinearKernel="slow", MarlinNvFp4LinearKernel="m"
    )
    platforms = ModuleType("vllm.platforms")
    platforms.__dict__["PlatformEnum"] = platform
    kernels = ModuleType("vllm.model_executor.kernels")
    kernels.__dict__["linear"] = linear
    for module in (ModuleType("vllm"), ModuleType("vllm.model_executor"), kernels, linear, platforms):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return kept


def test_registered_twice_it_is_there_once_and_leaves_other_devices_alone(
    vllm: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.spec_from_file_location("plugin", FOLDER / "pao_vllm_nvfp4_cpu.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "kernels", lambda: ("both", "weights"))
    module.register()
    module.register()
    table = vllm.linear._POSSIBLE_NVFP4_KERNELS
    assert table == {vllm.platform.CUDA: ["own"], vllm.platform.CPU: ["both", "slow"]}
    assert vllm.linear.MarlinNvFp4LinearKernel == "weights"
