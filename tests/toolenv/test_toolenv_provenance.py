"""Where an engine's code comes from: a clean wheel is a release; whatever lies over it is named."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from profile_and_optimize.toolenv import plugin
from profile_and_optimize.toolenv.find import ToolEnv
from profile_and_optimize.toolenv.provenance import Inspector, Provenance, as_locked, named

FILES = {
    "engine/__init__.py": "version = 1\n",
    "engine/core/run.py": "def run(): ...\n",
    "engine/configs/h100.json": "{}\n",
}
COMMIT = "5" * 40


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The site folder of a real, empty virtual environment with the package `engine` of the distribution engine-cpu 2.1."""
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    folder = next((tmp_path / "env/lib").glob("python*/site-packages"))
    for rel, text in FILES.items():
        (folder / rel).parent.mkdir(parents=True, exist_ok=True)
        (folder / rel).write_text(text)
    info = folder / "engine_cpu-2.1.dist-info"
    info.mkdir()
    write_record(info)
    return folder


def write_record(info: Path, hashed: bool = True) -> None:
    digests = {
        r: base64.urlsafe_b64encode(hashlib.sha256(t.encode()).digest()).rstrip(b"=").decode() for r, t in FILES.items()
    }
    lines = [f"{rel},{f'sha256={d}' if hashed else ''},{len(FILES[rel])}" for rel, d in digests.items()]
    (info / "RECORD").write_text(
        "\n".join([*lines, "engine/__pycache__/__init__.cpython-311.pyc,,", f"{info.name}/RECORD,,"]) + "\n"
    )


def look(site: Path, **env: str) -> Provenance:
    return Inspector(site.parents[2] / "bin/python", "engine").look(
        {"PATH": os.environ["PATH"], "PYTHONSAFEPATH": "1", **env}
    )


def direct_url(site: Path, **said: object) -> None:
    (site / "engine_cpu-2.1.dist-info/direct_url.json").write_text(json.dumps(said))


def test_a_clean_wheel_from_an_index_is_a_release_with_its_files_as_the_pin(site: Path) -> None:
    found = look(site)
    assert (found.delivery, found.source_commit, found.changed) == ("release", "release wheel engine-cpu==2.1", ())
    assert found.lock.startswith("files ") and found.context()["modified_files"] == "none"


def test_bytecode_that_python_adds_changes_nothing(site: Path) -> None:
    (site / "engine/__pycache__").mkdir()
    (site / "engine/__pycache__/__init__.cpython-311.pyc").write_bytes(b"x")
    assert look(site).delivery == "release"


def test_an_edited_an_added_and_a_missing_file_are_named(site: Path) -> None:
    (site / "engine/core/run.py").write_text("def run(): fast\n")
    (site / "engine/configs/b200.json").write_text("{}")
    (site / "engine/configs/h100.json").unlink()
    found = look(site)
    assert found.delivery == "overlay"
    assert found.changed == (
        "engine/configs/b200.json (added)",
        "engine/configs/h100.json (missing)",
        "engine/core/run.py",
    )
    assert found.context()["modified_files"].startswith("3: engine/configs/b200.json (added), ")


def test_an_edit_between_two_looks_is_seen_though_hashes_are_kept(site: Path) -> None:
    inspector = Inspector(site.parents[2] / "bin/python", "engine")
    env = {"PATH": os.environ["PATH"], "PYTHONSAFEPATH": "1"}
    assert inspector.look(env).changed == () and inspector.look(env).changed == ()
    (site / "engine/core/run.py").write_text("def run(): xyz\n")  # as long as before
    assert inspector.look(env).changed == ("engine/core/run.py",)


def test_a_record_without_hashes_cannot_tell(site: Path) -> None:
    write_record(site / "engine_cpu-2.1.dist-info", hashed=False)
    found = look(site)
    assert found.changed is None and "modified_files" not in found.context()


@pytest.mark.parametrize(("said", "delivery", "commit"), [
    ({"url": "https://github.com/x/engine", "vcs_info": {"vcs": "git", "commit_id": COMMIT}}, "source", COMMIT),
    ({"url": "https://h/engine_cpu-2.1.whl", "archive_info": {"hashes": {"sha256": "ab"}}}, "release", "release wheel engine-cpu==2.1"),
    ({"url": "file:///w/engine_cpu-2.1.whl", "archive_info": {"hash": "sha256=ab"}}, "local wheel", ""),
    ({"url": "file:///src/engine", "dir_info": {}}, "source", ""),
])  # fmt: skip
def test_what_pip_was_told_to_install_is_what_it_is(
    site: Path, said: dict[str, object], delivery: str, commit: str
) -> None:
    direct_url(site, **said)
    found = look(site)
    assert (found.delivery, found.source_commit, found.changed) == (delivery, commit, ())
    assert ("archive_info" not in said) or found.lock == "sha256 ab"


def test_what_alters_imports_makes_an_overlay(site: Path, tmp_path: Path) -> None:
    assert look(site, PYTHONPATH=str(tmp_path)).changed == (f"PYTHONPATH={tmp_path}",)
    ours = plugin.folder_of(plugin.VLLM_NVFP4_CPU)
    given = look(site, PYTHONPATH=f"{ours}:{tmp_path}")
    assert given.delivery == "overlay" and given.changed == (plugin.label(str(ours)), f"PYTHONPATH={tmp_path}")
    (site / "patch.pth").write_text("import engine_patch\n")
    # Debian's own Python has a sitecustomize in its standard library, which comes before a site's.
    (site / "usercustomize.py").write_text("")
    (site / "vendor-1.0.dist-info").mkdir()
    (site / "vendor-1.0.dist-info/entry_points.txt").write_text("[engine.general_plugins]\nfast = vendor:patch\n")
    found = look(site)
    assert found.delivery == "overlay" and found.changed is not None
    assert found.changed[0].endswith("usercustomize.py")
    assert found.changed[1:] == ("patch.pth", "plugin vendor-1.0 (engine.general_plugins)")


def test_a_pth_file_that_a_distribution_brings_is_its_own_business(site: Path) -> None:
    (site / "other.pth").write_text("/opt/other\n")
    (site / "other-1.dist-info").mkdir()
    (site / "other-1.dist-info/RECORD").write_text("other.pth,sha256=xx,10\n")
    assert look(site).delivery == "release"


def git(folder: Path, *args: str) -> str:
    config = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false")
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"}
    return subprocess.run(
        ["git", *config, *args], cwd=folder, check=True, capture_output=True, text=True, env=env
    ).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    (folder / "engine").mkdir(parents=True)
    (folder / "engine/__init__.py").write_text("version = 'main'\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "x")
    return folder


def test_an_editable_install_is_its_commit_and_what_differs_from_it(site: Path, checkout: Path) -> None:
    for rel in FILES:
        (site / rel).unlink()
    (site / "engine_cpu-2.1.dist-info/RECORD").write_text("__editable__.engine.pth,sha256=xx,10\n")
    (site / "__editable__.engine.pth").write_text(f"{checkout}\n")
    (site / "engine").rename(site / "gone")
    direct_url(site, url=f"file://{checkout}", dir_info={"editable": True})
    clean = look(site)
    assert (clean.delivery, clean.source_commit, clean.changed) == ("source", git(checkout, "rev-parse", "HEAD"), ())
    (checkout / "engine/__init__.py").write_text("version = 'patched'\n")
    (checkout / "engine/new.py").write_text("")
    dirty = look(site)
    assert (dirty.delivery, set(dirty.changed or ())) == ("source", {"engine/__init__.py", "engine/new.py"})


def test_a_folder_of_the_same_name_where_we_stand_is_not_taken(
    site: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkout)
    assert look(site).delivery == "release"
    unsafe = Inspector(site.parents[2] / "bin/python", "engine").look({"PATH": os.environ["PATH"]})
    assert unsafe.delivery == "source"  # without PYTHONSAFEPATH the engine would run the checkout, and we say so


def test_an_environment_inside_somebodys_working_tree_is_not_that_commit(site: Path, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (site / "engine_cpu-2.1.dist-info/RECORD").unlink()
    assert look(site).delivery == "unknown" and look(site).context() == {}


def test_a_python_that_does_not_answer_or_lacks_the_package_is_unknown(site: Path, tmp_path: Path) -> None:
    assert Inspector(tmp_path / "none", "engine").look({}) == Provenance("unknown")
    assert Inspector(site.parents[2] / "bin/python", "nothing_here").look({}) == Provenance("unknown")


def env_of(source: str, *versions: tuple[str, str]) -> ToolEnv:
    return ToolEnv("vllm", Path(sys.executable), versions, "abc" if source == "lock" else None, None, source)


def test_a_locked_environment_is_pinned_by_its_lock_and_a_later_version_is_an_overlay() -> None:
    seen = Provenance("release", "release wheel engine-cpu==2.1", "files 12", ())
    assert as_locked(seen, env_of("lock", ("engine-cpu", "2.1"))).lock == "abc"
    later = as_locked(seen, env_of("lock", ("engine-cpu", "2.0")))
    assert (later.delivery, later.changed) == ("overlay", ("engine-cpu 2.1 where the lock has 2.0",))
    assert as_locked(seen, env_of("user")) == seen


def test_many_changes_are_counted_and_the_first_ten_named() -> None:
    text = named([f"f{i}.py" for i in range(12)])
    assert text.startswith("12: f0.py, f1.py") and text.endswith("f9.py and 2 more") and named([]) == "none"


@pytest.mark.engine
def test_the_installed_engine_is_what_its_lock_says() -> None:
    from profile_and_optimize.toolenv.find import find

    env = find("vllm")
    if env is None:
        pytest.skip("no vllm environment here: pao tools install vllm")
    found = as_locked(Inspector(env.python, "vllm").look({"PATH": os.environ["PATH"], "PYTHONSAFEPATH": "1"}), env)
    assert (found.delivery, found.changed) == ("release", ())
