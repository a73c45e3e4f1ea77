"""What this machine lacks for a tool environment, and the command that brings each piece: before any download."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.toolenv.find import default_root
from profile_and_optimize.toolenv.specs import VLLM_CPU, Spec, spec_of
from profile_and_optimize.toolenv.world import World, observe

SEVERITIES = ("missing", "warning", "ok")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `command` brings what is missing; empty when no command can."""

    name: str
    severity: str
    message: str
    command: str = ""

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise ValueError(f"severity {self.severity!r}: one of {', '.join(SEVERITIES)}")

    @property
    def ok(self) -> bool:
        return self.severity == "ok"


def check(world: World, spec: Spec = VLLM_CPU) -> tuple[Finding, ...]:
    """All findings, the good ones too. On a system without wheels the first finding says so and is the only one."""
    system = _system(world, spec)
    if not system.ok:
        return (system,)
    special = {"cpu": _cpu, "libnuma": _libnuma, "compiler": _compiler}
    findings = (_glibc, _python, _venv, *(special[name] for name in spec.needs), _disk, _memory, _cores)
    return (system, *(finding(world, spec) for finding in findings))


def require(findings: Iterable[Finding], *, tool: str = "vllm") -> None:
    """Raises WrongUse that lists every missing piece with its command; warnings pass."""
    missing = [finding for finding in findings if finding.severity == "missing"]
    if not missing:
        return
    told = "; ".join(f"{f.name}: {f.message}" + (f" -> {f.command}" if f.command else "") for f in missing)
    raise WrongUse(f"missing for {tool}: {told}", next=_together(missing, spec_of(tool)))


def _together(missing: list[Finding], spec: Spec) -> str:
    """One line to paste: the apt packages in one call, then the rest; what runs without it where no command helps."""
    apt = "apt-get install -y "
    commands = [f.command for f in missing if f.command]
    packages = [command.removeprefix(apt) for command in commands if command.startswith(apt)]
    rest = [command for command in commands if not command.startswith(apt)]
    joined = ([apt + " ".join(packages)] if packages else []) + rest
    return " && ".join(joined) if all(f.command for f in missing) else spec.instead


def _system(world: World, spec: Spec) -> Finding:
    if world.system != "Linux":
        known = {"Darwin": "macOS"}.get(world.system, world.system)
        return Finding(
            "system", "missing", f"there are no {spec.requirement} wheels for {known}, only Linux; {spec.instead}"
        )
    if world.machine not in ("x86_64", "aarch64"):
        return Finding("system", "missing", f"no {spec.requirement} wheels for {world.machine}; {spec.instead}")
    return Finding("system", "ok", f"Linux {world.machine}")


def _glibc(world: World, spec: Spec) -> Finding:
    wanted = "{}.{}".format(*spec.glibc_min)
    if world.glibc is None:
        return Finding("glibc", "missing", f"not a glibc system (musl?); the wheels need glibc {wanted} or newer")
    have = "{}.{}".format(*world.glibc)
    if world.glibc < spec.glibc_min:
        return Finding("glibc", "missing", f"{have}, the wheels need {wanted}: a newer distribution or container")
    return Finding("glibc", "ok", have)


def _python(world: World, spec: Spec) -> Finding:
    have = ".".join(map(str, world.python_version))
    if not spec.python_min <= world.python_version[:2] < spec.python_below:
        wanted = "Python {}.{} to below {}.{}".format(*spec.python_min, *spec.python_below)
        return Finding("python", "missing", f"{have}, needs {wanted} (--python PATH)", "apt-get install -y python3.11")
    return Finding("python", "ok", have)


def _venv(world: World, spec: Spec) -> Finding:
    if not world.has_venv:
        package = "python{}.{}-venv".format(*world.python_version)
        return Finding("venv", "missing", "this Python cannot make environments", f"apt-get install -y {package}")
    return Finding("venv", "ok", "python -m venv works")


def _cpu(world: World, spec: Spec) -> Finding:
    if world.machine != "x86_64":
        return Finding("cpu", "ok", "bf16" if "bf16" in world.cpu_flags else "no bf16 instructions")
    if "avx2" not in world.cpu_flags:
        return Finding("cpu", "missing", f"no AVX2 on this processor; {spec.instead}")
    wide = "AVX-512" if "avx512f" in world.cpu_flags else "no AVX-512"
    bf16 = "bf16" if "avx512_bf16" in world.cpu_flags else "no bf16 instructions (bfloat16 is emulated, slower)"
    return Finding("cpu", "ok", f"AVX2, {wide}, {bf16}")


def _libnuma(world: World, spec: Spec) -> Finding:
    if not world.has_libnuma:
        return Finding("libnuma", "missing", "the wheel links libnuma.so.1", "apt-get install -y libnuma1")
    return Finding("libnuma", "ok", "libnuma.so.1 loads")


def _compiler(world: World, spec: Spec) -> Finding:
    if world.compiler is None:
        told = "no C++ compiler: compiled arms will be refused; --enforce-eager arms run"
        return Finding("compiler", "warning", told, "apt-get install -y g++")
    return Finding("compiler", "ok", world.compiler)


def _disk(world: World, spec: Spec) -> Finding:
    # A fifth on top: engines write compile caches and logs beside the environment.
    needed, free = spec.peak_bytes * 1.2, world.disk_free_bytes
    told = f"{free / 1e9:.1f} GB free at {world.target}, {needed / 1e9:.1f} GB needed while installing"
    if free < needed:
        return Finding("disk", "missing", f"{told}: free some, or choose another folder with PAO_TOOLS_DIR")
    return Finding("disk", "ok", told)


def _memory(world: World, spec: Spec) -> Finding:
    free = world.memory_free_bytes
    if free is None:
        return Finding("memory", "warning", "free memory unknown here")
    purpose = "serve the demo model" if spec.serves else f"run {spec.name}"
    told = f"{free / 1e9:.1f} GB free, {spec.memory_wanted_bytes / 1e9:.0f} GB wanted to {purpose}"
    if free < spec.memory_floor_bytes:
        return Finding("memory", "missing", f"{told}: close other programs or use a larger machine")
    return Finding("memory", "ok" if free >= spec.memory_wanted_bytes else "warning", told)


def _cores(world: World, spec: Spec) -> Finding:
    if world.cores < 2:
        return Finding("cores", "warning", "1 core: client and server share it, and timings will show it")
    return Finding("cores", "ok", f"{world.cores} cores")


def main() -> int:
    """`python -m profile_and_optimize.toolenv.preflight`: needs nothing but the standard library, so it runs before any install."""
    python = Path(sys.executable)
    findings = check(observe(target=default_root(), python=python))
    for finding in findings:
        command = f"  ->  {finding.command}" if finding.command else ""
        print(f"{finding.severity:8} {finding.name}: {finding.message}{command}")
    try:
        require(findings)
    except WrongUse as e:
        print(f"error: {e}", file=sys.stderr)
        return e.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
