"""What we lay over a release is named, is part of the environment's digest, and replaces no file."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from test_toolenv_preflight import GOOD

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.toolenv import overlay
from profile_and_optimize.toolenv.find import ToolEnv, find
from profile_and_optimize.toolenv.install import install
from profile_and_optimize.toolenv.lock import Lock, Pin, shipped
from profile_and_optimize.toolenv.provenance import Provenance, as_locked
from profile_and_optimize.toolenv.specs import SGLANG_CPU, SPECS, VLLM_CPU

PIECES = ("pao_sglang_cpu.pth", "pao_sglang_cpu.py", "sgl_kernel")
A = Pin("a", "1.0", "a" * 64, "a-1.0-py3-none-any.whl", 10)


def test_its_bytes_are_in_the_digest_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Lock((A,), None).digest == Lock((A,), None, "").digest != Lock((A,), None, "0123").digest
    for name, text in (("one", "x"), ("two", "x"), ("three", "y")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f.py").write_text(text)
    monkeypatch.setattr(overlay, "FOLDER", tmp_path)
    assert overlay.digest_of_overlay("one") == overlay.digest_of_overlay("two") != overlay.digest_of_overlay("three")
    assert overlay.digest_of_overlay("") == ""
    with pytest.raises(FileNotFoundError):
        overlay.digest_of_overlay("four")


def test_the_lock_of_a_tool_with_an_overlay_knows_it() -> None:
    lock = shipped(SGLANG_CPU, machine="x86_64", python_tag="cp311")
    assert lock is not None and lock.overlay == overlay.digest_of_overlay("sglang_cpu") != ""
    assert f"# overlay {lock.overlay}\n" in lock.text()
    plain = shipped(VLLM_CPU, machine="x86_64", python_tag="cp311")
    assert plain is not None and plain.overlay == ""


def test_it_is_laid_beside_what_is_there_and_over_nothing(tmp_path: Path) -> None:
    overlay.lay("sglang_cpu", tmp_path)
    assert tuple(sorted(p.name for p in tmp_path.iterdir())) == overlay.pieces("sglang_cpu") == PIECES
    with pytest.raises(FileExistsError):
        overlay.lay("sglang_cpu", tmp_path)
    assert overlay.pieces("") == ()


def test_an_environment_that_it_was_laid_over_is_an_overlay_by_name() -> None:
    laid = (*(f"{piece} (ours)" for piece in PIECES), *SGLANG_CPU.apart)
    env = ToolEnv("sglang", Path("p"), (("sglang", "0.5.23"),), "abc", None, "lock", laid)
    seen = Provenance("overlay", "release wheel sglang==0.5.23", "files 12", ("pao_sglang_cpu.pth",))
    found = as_locked(seen, env)
    assert (found.delivery, found.lock, found.changed) == ("overlay", "abc", laid)
    assert found.context()["modified_files"].startswith("4: pao_sglang_cpu.pth (ours), ")
    assert "declares 2.14.1" in found.context()["modified_files"]
    assert as_locked(replace(seen, delivery="release", changed=()), env).delivery == "overlay"


def test_no_word_of_ours_parts_the_list_of_what_is_modified() -> None:
    assert not [text for spec in SPECS.values() for text in spec.apart if ", " in text]


def test_a_tool_that_pip_cannot_resolve_is_refused_where_it_has_no_lock(tmp_path: Path) -> None:
    world = replace(GOOD, target=tmp_path, machine="aarch64")
    with pytest.raises(WrongUse, match="no lock for aarch64, cp311") as caught:
        install("sglang", root=tmp_path / "t", say=lambda line: None, world=world)
    assert "--python PATH" in caught.value.next and not (tmp_path / "t").exists()


def test_the_start_up_module_costs_nothing_until_torchvision_is_looked_for(tmp_path: Path) -> None:
    overlay.lay("sglang_cpu", tmp_path)
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    code = "import sys; sys.path.insert(0, sys.argv[1]); import pao_sglang_cpu, json, numpy; print('quiet')"
    run = [sys.executable, "-c", code, str(tmp_path)]
    assert subprocess.run(run, capture_output=True, text=True).stdout == "quiet\n"
    run[2] += "; import torchvision"
    assert "torch was imported" in subprocess.run(run, capture_output=True, text=True).stderr


@pytest.mark.engine
def test_the_stand_in_puts_every_requests_places_into_its_own_row() -> None:
    env = find("sglang")
    if env is None:
        pytest.skip("no sglang environment here: pao tools install sglang")
    code = (
        "import torch; from sgl_kernel import assign_req_to_token_pool_cpu as put; p = torch.zeros(4, 6, dtype=torch.int32);"
        "put(torch.tensor([2, 0]), p, torch.tensor([1, 3]), torch.tensor([3, 6]), torch.tensor([7, 8, 9, 10, 11]), 6);"
        "print(p.tolist())"
    )
    done = subprocess.run([str(env.python), "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str([[0, 0, 0, 9, 10, 11], [0] * 6, [0, 7, 8, 0, 0, 0], [0] * 6])


@pytest.mark.engine
def test_the_torch_that_sglang_declares_is_the_one_that_we_say() -> None:
    env = find("sglang")
    if env is None:
        pytest.skip("no sglang environment here: pao tools install sglang")
    code = "import importlib.metadata as m; print([r for r in m.requires('sglang') if r.startswith('torch==')], m.version('torch'))"
    done = subprocess.run([str(env.python), "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['torch==2.14.1'] 2.13.0+cpu"
