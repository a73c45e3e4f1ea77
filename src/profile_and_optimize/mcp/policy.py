"""The owner's policy: what a model may ask of this server. Read once, at the start, from a file that no tool can reach."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from profile_and_optimize.core.code_settings import EVERY_ARM, bring_code, code_settings
from profile_and_optimize.core.environment import value
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.evidence.given import read_given
from profile_and_optimize.ops.base import QUIET, Op, Request, Safety, all_ops
from profile_and_optimize.ops.config import first_problem, read_yaml
from profile_and_optimize.ops.started import Started

Decision = Literal["allow", "ask", "deny"]
LOOPBACK = ("127.0.0.1", "localhost", "::1")
DOC = "docs/mcp.md lists the keys"
MOST_BYTES = 1 << 20


class PolicyFile(BaseModel):
    """The keys of mcp-policy.yaml. `allow`, `ask` and `deny` hold verbs or safety classes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    allow: tuple[str, ...] = ()
    ask: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    python: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    models: tuple[str, ...] | None = None
    allow_code: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = LOOPBACK
    budget_minutes: float = Field(default=240.0, gt=0, le=1e6)
    call_minutes: float = Field(default=1440.0, gt=0, le=1e6)
    calls_at_once: int = Field(default=8, ge=1, le=100)


@dataclass(frozen=True, slots=True)
class Policy:
    """`roots` are the folders, links resolved, that paths of a request must lie in; the first is the workspace."""

    file: PolicyFile
    roots: tuple[Path, ...]
    source: str

    @property
    def workspace(self) -> Path:
        return self.roots[0]

    def decides(self, op: Op, safety: Safety) -> Decision:
        """Of a request of that class. A verb by name goes before the class; of two lists the stricter one holds; else by
        the class."""
        return self.listed(op.verb) or self.listed(safety.value) or ("allow" if safety in QUIET else "ask")

    def listed(self, name: str) -> Decision | None:
        """What the file says of a verb or a class, None where it says nothing."""
        return next((d for d in _STRICTEST_FIRST if name in getattr(self.file, d)), None)

    def holds(self, path: Path) -> bool:
        """Does `path`, links resolved, lie in one of the folders? A loop of links lies nowhere."""
        try:
            real = path.resolve()
        except (OSError, RuntimeError, ValueError):
            return False
        return any(real == root or root in real.parents for root in self.roots)

    def runs_python(self, path: Path) -> bool:
        """Links of its folder are resolved and its own is not: that one tells a virtual environment from the system."""
        return _interpreter(path) in {_interpreter(Path(p).expanduser()) for p in self.file.python}

    def knows_image(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.file.images)

    def knows_model(self, name: str) -> bool:
        return self.file.models is None or any(fnmatchcase(name, pattern) for pattern in self.file.models)

    def knows_endpoint(self, scheme: str, host: str) -> bool:
        """http and https by host; anything else only where the policy writes its scheme as well."""
        names = [f"{scheme}://{host}"] + ([host] if scheme in ("http", "https") else [])
        return any(fnmatchcase(name, pattern) for name in names for pattern in self.file.endpoints)


REMOTE_CODE = "trust_remote_code"
_STRICTEST_FIRST: tuple[Decision, ...] = ("deny", "ask", "allow")


def code_settings_of(request: Request, started: Started) -> tuple[str, ...]:
    """The names of the settings of a request, and of what it would start, that bring code. The op refuses by itself what is
    not told here, such as task files."""
    shared = bring_code(started.common_flags, started.common_env, EVERY_ARM)
    arms = (s for arm in started.arms for s in code_settings(arm))
    remote = (REMOTE_CODE,) if getattr(request, REMOTE_CODE, False) else ()
    return tuple(dict.fromkeys((*remote, *(s.name for s in (*shared, *arms)))))


def _interpreter(path: Path) -> Path:
    absolute = Path(os.path.abspath(path))
    return absolute.parent.resolve() / absolute.name


def default_file() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "profile-and-optimize" / "mcp-policy.yaml"


def load_policy(given: str | None, workspace: Path) -> Policy:
    """The policy of a file, or the default one. Raises WrongUse where an agent could change it, or it cannot be read."""
    path = Path(os.path.abspath(Path(given).expanduser())) if given else default_file()
    file = PolicyFile()
    if workspace.resolve() in (Path("/"), Path.home().resolve()):
        raise _too_wide(workspace)
    if given or os.path.lexists(path):
        refuse_reachable(path)
        file = _parsed(path)
    extra = value("PAO_CAMPAIGNS_DIR", os.environ)
    folders = [workspace, *([Path(extra)] if extra else []), *(Path(f).expanduser() for f in file.folders)]
    policy = Policy(
        file, tuple(dict.fromkeys(f.resolve() for f in folders)), str(path) if given or path.exists() else ""
    )
    # Also where there is none yet: a tool could otherwise write the next start's policy.
    if policy.holds(path) or policy.holds(path.parent):
        raise WrongUse(
            "the policy file lies in a folder that tools may write to", where=str(path),
            next="give --workspace a project's folder, and keep the policy outside of it and of `folders`",
        )  # fmt: skip
    return policy


def _too_wide(workspace: Path) -> WrongUse:
    return WrongUse(
        "tools would be free to write anywhere in it",
        where=f"workspace {workspace}",
        next="give --workspace a project's folder",
    )


def refuse_reachable(path: Path) -> None:
    """Raises WrongUse for a policy that is a link, that others own, or that others may write or replace."""
    try:
        found = os.lstat(path)
    except OSError as e:
        raise WrongUse(f"cannot read: {e.strerror}", where=str(path), next="give --policy a file that exists") from e
    if not stat.S_ISREG(found.st_mode):
        raise WrongUse("a link or not a plain file", where=str(path), next="give the file itself")
    if found.st_uid not in (0, os.getuid()):
        raise WrongUse("somebody else owns it", where=str(path), next=f"chown {os.getuid()} {path}")
    if found.st_mode & 0o022:
        raise WrongUse("others may write it", where=str(path), next=f"chmod go-w {path}")
    for folder in path.resolve().parents:
        mode = os.stat(folder).st_mode
        if mode & 0o022 and not mode & stat.S_ISVTX:
            raise WrongUse(
                f"others may replace it, as they may write {folder}", where=str(path), next=f"chmod go-w {folder}"
            )


def _parsed(path: Path) -> PolicyFile:
    try:
        data: Any = read_yaml(read_given(path, MOST_BYTES))
        file = PolicyFile(**(data if data is not None else {}))
    except (yaml.YAMLError, ValidationError, TypeError, ValueError) as e:
        why = first_problem(e) if isinstance(e, ValidationError | TypeError) else f"not YAML: {str(e).splitlines()[0]}"
        raise WrongUse(why, where=str(path), next=DOC) from e
    _known_names(file, path)
    return file


def _known_names(file: PolicyFile, path: Path) -> None:
    """A misspelt verb in `deny` would deny nothing. Raises WrongUse."""
    known = {*all_ops(), *(s.value for s in Safety)}
    lacking = [n for n in (*file.allow, *file.ask, *file.deny) if n not in known]
    if lacking:
        raise WrongUse(f"no such verb or safety class: {', '.join(lacking)}", where=str(path), next=DOC)
    relative = [f for f in (*file.folders, *file.python) if not Path(f).expanduser().is_absolute()]
    if relative:
        raise WrongUse(f"not an absolute path: {relative[0]}", where=str(path), next=DOC)
