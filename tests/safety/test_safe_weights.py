"""Weights are safetensors and pickles are refused; code that a model brings is never run."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest

from profile_and_optimize.clients.prompts import load_tokenizer
from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.engines.base import ServeSpec
from profile_and_optimize.engines.vllm import VllmEngine
from profile_and_optimize.evidence.modelfolder import model_digest
from profile_and_optimize.ops.model import check_model
from profile_and_optimize.toolenv.find import ToolEnv

SAFE = (2).to_bytes(8, "little") + b"{}"


class Bomb:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (self.path, "w")


def model(folder: Path, **files: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    tokenizer = {"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}
    for name, data in {"config.json": b"{}", "tokenizer.json": json.dumps(tokenizer).encode(), **files}.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.pt", "model.pth", "model.pkl", "model.pickle", "last.ckpt"]
)
def test_a_folder_with_pickles_only_is_refused_by_name_and_none_is_opened(tmp_path: Path, name: str) -> None:
    folder = model(tmp_path / "m", **{name: pickle.dumps(Bomb(tmp_path / "pwned"))})
    with pytest.raises(WrongUse, match=f"pickles .{name}."):
        check_model(str(folder))
    assert not (tmp_path / "pwned").exists()


def test_pickles_beside_safetensors_are_left_alone_and_are_no_part_of_the_model_s_digest(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", **{"model.safetensors": SAFE})
    alone = model_digest(str(folder))
    model(folder, **{"pytorch_model.bin": pickle.dumps(Bomb(tmp_path / "pwned")), "training_args.bin": b"x"})
    assert check_model(str(folder)) == str(folder) and model_digest(str(folder)) == alone
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"\x80\x04.", b"PK\x03\x04" + bytes(60), (1 << 40).to_bytes(8, "little") + b"{}"]
)
def test_what_only_has_the_name_of_safetensors_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(WrongUse, match="not a safetensors file"):
        check_model(str(model(tmp_path / "m", **{"model.safetensors": data})))


def test_a_pipe_and_a_folder_under_the_name_of_weights_are_not_waited_for(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", **{"model.safetensors": SAFE})
    before = model_digest(str(folder))
    os.mkfifo(folder / "more.safetensors")
    (folder / "folder.safetensors").mkdir()
    assert check_model(str(folder)) == str(folder) and model_digest(str(folder)) == before


@pytest.mark.parametrize("data", [b"[" * 100_000, b"\xff", b""])
def test_a_config_that_cannot_be_read_is_named(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(WrongUse, match="not JSON"):
        check_model(str(model(tmp_path / "m", **{"config.json": data})))


def test_code_that_a_model_brings_is_not_run(tmp_path: Path) -> None:
    code = f"open({str(tmp_path / 'pwned')!r}, 'w')".encode()
    config = (
        b'{"auto_map": {"AutoConfig": "modeling.Evil", "AutoTokenizer": ["modeling.Evil", null]}, "model_type": "evil"}'
    )
    names = ("modeling.py", "configuration.py", "tokenization.py", "__init__.py", "sitecustomize.py", "setup.py")
    folder = model(tmp_path / "m", **{"config.json": config, "model.safetensors": SAFE, **dict.fromkeys(names, code)})
    assert check_model(str(folder)) and model_digest(str(folder)) and load_tokenizer(str(folder))
    assert not (tmp_path / "pwned").exists()


def argv(tmp_path: Path, name: str, *flags: str) -> tuple[str, ...]:
    env = ToolEnv("vllm", tmp_path / "bin/python", (("vllm", "0.32.0"),), None, None, "user")
    return (
        VllmEngine(env)
        .command(ServeSpec(Arm("a", "vllm", Role.BASELINE, flags), name, "model", 1, tmp_path / "log"))
        .argv
    )


@pytest.mark.parametrize("flags", [(), ("--load-format", "auto"), ("--load_format=hf",)])
def test_of_a_model_on_a_hub_vllm_may_read_safetensors_only(tmp_path: Path, flags: tuple[str, ...]) -> None:
    """Left to itself it takes *.bin and *.pt where there is nothing else; the last of two equal options counts."""
    assert argv(tmp_path, "owner/name", *flags)[-2:] == ("--load-format", "safetensors")


def test_a_folder_that_was_looked_at_and_a_safe_format_stay_as_asked(tmp_path: Path) -> None:
    assert "--load-format" not in argv(tmp_path, str(model(tmp_path / "m", **{"model.safetensors": SAFE})))
    assert argv(tmp_path, "owner/name", "--load-format", "dummy")[-2:] == ("--load-format", "dummy")
    assert not [a for a in argv(tmp_path, "owner/name") if "trust" in a]
