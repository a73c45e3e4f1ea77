"""Where an engine's code comes from: its installed package against the hashes of its own wheel, and what else alters it.

`release` is said of a wheel from an index whose files are all what its RECORD says, with nothing laid over it. What is
not looked at: compiled bytecode beside the sources, and the packages that the engine imports (the lock pins those).
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from profile_and_optimize.toolenv.find import ToolEnv
from profile_and_optimize.toolenv.plugin import label as plugin_label
from profile_and_optimize.toolenv.record import Install, content_digest, differing, files_of, owner, signature, text_of

RELEASE, SOURCE, OVERLAY, LOCAL_WHEEL, UNKNOWN = "release", "source", "overlay", "local wheel", "unknown"
MOST_NAMED = 10
# Laid into every environment by virtualenv and uv; it mends distutils and nothing else.
_HARMLESS_PTH = frozenset({"_virtualenv.pth", "distutils-precedence.pth"})
# Run by the engine's own Python, in the environment that the engine gets. `find_spec` of a top-level name imports nothing.
_PROBE = """
import importlib.util as u, json, sys, sysconfig
def where(name):
    try:
        spec = u.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None
    return None if spec is None else spec.origin or next(iter(spec.submodule_search_locations or ()), None)
sites = [p for p in sys.path if p.endswith(("site-packages", "dist-packages"))]
print(json.dumps({"package": where(sys.argv[1]), "stdlib": sysconfig.get_path("stdlib"), "sites": sites,
                  "custom": [c for c in map(where, ("sitecustomize", "usercustomize")) if c]}))
"""


@dataclass(frozen=True, slots=True)
class Provenance:
    """`delivery` is release, source, overlay, local wheel or unknown; "" is unknown in the other texts.

    `changed` names what is not as released or committed (files, and what alters imports); None could not be checked.
    `lock` pins the bytes: the digest of a lock, of a wheel, or of the package's file hashes.
    """

    delivery: str
    source_commit: str = ""
    lock: str = ""
    changed: tuple[str, ...] | None = None

    def context(self) -> dict[str, str]:
        """As context fields; what is unknown is left out."""
        found = {"delivery": self.delivery, "source_commit": self.source_commit, "engine_lock": self.lock}
        if self.changed is not None:
            found["modified_files"] = named(self.changed)
        return {k: v for k, v in found.items() if v and v != UNKNOWN}


def as_locked(found: Provenance, env: ToolEnv) -> Provenance:
    """What was seen, held against the lock that the environment was built from; an environment without one is left as seen.

    A version that the lock does not name was installed later, and is an overlay whatever its RECORD says.
    """
    if env.source != "lock" or found.delivery in (UNKNOWN, SOURCE):
        return found
    if env.laid_over:
        seen = [what for what in found.changed or () if f"{what} (ours)" not in env.laid_over]
        found = replace(found, delivery=OVERLAY, changed=(*seen, *env.laid_over))
    name, _, version = found.source_commit.rpartition(" ")[2].partition("==")
    if version and env.version(name) != version:
        later = f"{name} {version} where the lock has {env.version(name) or 'none'}"
        return replace(found, delivery=OVERLAY, changed=(*(found.changed or ()), later))
    return replace(found, lock=env.lock_digest or found.lock)


def named(changed: Sequence[str]) -> str:
    """ "none", or how many and the first ten of them."""
    if not changed:
        return "none"
    more = f" and {len(changed) - MOST_NAMED} more" if len(changed) > MOST_NAMED else ""
    return f"{len(changed)}: {', '.join(changed[:MOST_NAMED])}{more}"


class Inspector:
    """Looks at one package of one Python. File hashes are kept as long as no file changes its size or time."""

    def __init__(self, python: Path, module: str) -> None:
        self._python, self._module = python, module
        self._hashed: dict[str, tuple[str, ...] | None] = {}

    def look(self, env: Mapping[str, str]) -> Provenance:
        """As it would be imported with `env` as the whole environment. Never raises: what cannot be seen is unknown."""
        try:
            return self._look(env)
        except (OSError, subprocess.SubprocessError, ValueError, LookupError):
            return Provenance(UNKNOWN)

    def _look(self, env: Mapping[str, str]) -> Provenance:
        seen = self._probe(env)
        found = self._package(_folder(Path(seen["package"]))) if seen["package"] else Provenance(UNKNOWN)
        altered = tuple(_altered(seen, env, found_name(found), self._module))
        if not altered:
            return found
        delivery = OVERLAY if found.delivery in (RELEASE, LOCAL_WHEEL) else found.delivery
        return replace(found, delivery=delivery, changed=(*(found.changed or ()), *altered))

    def _probe(self, env: Mapping[str, str]) -> dict[str, Any]:
        argv = [str(self._python), "-c", _PROBE, self._module]
        done = subprocess.run(argv, env=dict(env), capture_output=True, text=True, timeout=60, check=True)
        return dict(json.loads(done.stdout.splitlines()[-1]))

    def _package(self, package: Path) -> Provenance:
        install = owner(package)
        if install is not None:
            return self._installed(install, package)
        # Tracked, not merely inside: an environment often lies within somebody's working tree.
        tracked = _git(package, "ls-files", "--error-unmatch", "__init__.py")
        return from_checkout(package) if tracked else Provenance(UNKNOWN)

    def _installed(self, install: Install, package: Path) -> Provenance:
        changed = self._against_record(install, package)
        direct = install.direct_url
        pin = f"files {content_digest(install, package.name)[:12]}"
        wheel = f"release wheel {install.name}=={install.version}"
        if not direct:
            told = Provenance(RELEASE, wheel, pin, changed)
        elif commit := str(direct.get("vcs_info", {}).get("commit_id", "")):
            told = Provenance(SOURCE, commit, pin, changed)
        elif "archive_info" in direct:
            remote = str(direct.get("url", "")).startswith("https://")
            told = Provenance(
                RELEASE if remote else LOCAL_WHEEL, wheel if remote else "", _archive(direct) or pin, changed
            )
        else:
            told = Provenance(SOURCE, "", pin, changed)
        return replace(told, delivery=OVERLAY) if changed and told.delivery in (RELEASE, LOCAL_WHEEL) else told

    def _against_record(self, install: Install, package: Path) -> tuple[str, ...] | None:
        present = files_of(package)
        key = signature(present)
        if key not in self._hashed:
            self._hashed = {key: differing(install, package, present)}
        return self._hashed[key]


def found_name(found: Provenance) -> str:
    """The distribution that a release wheel's text names, "" for others: its own plugins alter nothing."""
    return found.source_commit.rpartition(" ")[2].partition("==")[0] if "==" in found.source_commit else ""


def from_checkout(folder: Path) -> Provenance:
    """A source tree under git: its commit, and what differs from it. Compiled files that git ignores are not looked at."""
    commit = _git(folder, "rev-parse", "HEAD")
    status = _git(folder, "status", "--porcelain", "--untracked-files=normal") if commit else None
    if not commit or status is None:
        return Provenance(SOURCE)
    changed = tuple(line[3:] for line in status.splitlines())
    return Provenance(SOURCE, commit, f"git {commit[:12]}", changed)


def _git(folder: Path, *args: str) -> str | None:
    """The answer of git, None without one. A repository's own monitor program is not run, and nothing is written."""
    argv = ["git", "-c", "core.fsmonitor=false", "-C", str(folder), *args]
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=60, check=True, env={"PATH": _PATH, "GIT_OPTIONAL_LOCKS": "0"}
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.rstrip("\n")


_PATH = "/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin"


def _altered(seen: Mapping[str, Any], env: Mapping[str, str], own: str, module: str) -> Iterator[str]:
    """What could change the package without touching its files."""
    for path in filter(None, env.get("PYTHONPATH", "").split(":")):
        yield plugin_label(path) or f"PYTHONPATH={path}"
    yield from (c for c in seen["custom"] if not Path(c).is_relative_to(Path(seen["stdlib"])))
    for site in map(Path, seen["sites"]):
        pth = [p.name for p in sorted(site.glob("*.pth")) if p.name not in _HARMLESS_PTH]
        records = [text_of(record) for record in site.glob("*.dist-info/RECORD")] if pth else []
        yield from (name for name in pth if not any(f"{name}," in text for text in records))
        yield from _plugins(site, own, module)


def _plugins(site: Path, own: str, module: str) -> Iterator[str]:
    """Other distributions that an engine loads by itself at start, such as those of the group `vllm.general_plugins`."""
    for points in sorted(site.glob("*.dist-info/entry_points.txt")):
        name = points.parent.name.partition("-")[0].replace("_", "-")
        groups = [line.strip("[] ") for line in text_of(points).splitlines() if line.startswith("[")]
        mine = [g for g in groups if g.startswith(f"{module}.") and "plugin" in g]
        if mine and name not in (own, module):
            yield f"plugin {points.parent.name.removesuffix('.dist-info')} ({mine[0]})"


def _archive(direct: Mapping[str, Any]) -> str:
    info = direct.get("archive_info") or {}
    hashes = info.get("hashes") or {}
    return f"sha256 {hashes['sha256']}" if "sha256" in hashes else str(info.get("hash", "")).replace("=", " ")


def _folder(origin: Path) -> Path:
    return origin if origin.is_dir() else origin.parent
