"""Credentials planted where a run could take them up, and settings that bring code where an arm could: what lands, what passes.

    python bench/code_and_secrets.py [--out bench/results]

Each credential goes through four roads: a campaign file (must be refused), the log of a server, an answer of a server, and the
error of a request; afterwards every file of the runs is searched, names too. Each setting goes through a campaign file, through
the start of a server and through the start of a run whose draft says that it was allowed. Exits 1 where one lands or passes.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from code_and_secrets_lists import CREDENTIALS, HARMLESS_SETTINGS, HARMLESS_TEXTS, SETTINGS, Env, Flags
from profile_and_optimize.campaign import conduct
from profile_and_optimize.cli.main import run as pao
from profile_and_optimize.clients.base import LoadRequest
from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.code_settings import allowance_of, bring_code, code_settings
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.records import ClientRun
from profile_and_optimize.engines.base import Server, ServeSpec
from profile_and_optimize.engines.smoke import Answer
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.evidence.redact import redact, starred
from profile_and_optimize.ops.campaigns import create
from profile_and_optimize.testing.fakes import FakeClient, FakeClock, FakeEngine, fake_world
from profile_and_optimize.testing.synthetic import SPEEDS, synthetic_plan

PART = 12  # letters of a credential that are enough to call it landed
CAMPAIGN = "name: n\nmodel: m\nengine: mock\ncells:\n  - cell_id: a\n    role: baseline\n  - cell_id: b\n    lever: |\n"


@dataclass(frozen=True)
class Row:
    what: str
    asked: int
    held: int
    wrong: tuple[str, ...]


@dataclass(frozen=True)
class Talkative(FakeEngine):
    """A server that logs every credential of the list and says them of itself."""

    def start(self, spec: ServeSpec) -> Server:
        spec.log.write_text("\n\n".join(f"INFO {text} (from the environment)" for _, text, _ in CREDENTIALS))
        return super().start(spec)

    def observed(self, server: Server) -> dict[str, str]:
        return {**super().observed(server), "served_model": " ; ".join(text for _, text, _ in CREDENTIALS)}


class Failing(FakeClient):
    """Passes on the error of each failed request as a server worded it."""

    def run(self, load: LoadRequest, *, workdir: Path) -> ClientRun:
        found = super().run(load, workdir=workdir)
        words = [f"HTTP 500: {text} was refused" for _, text, _ in CREDENTIALS]
        told = (replace(r, error=words[i % len(words)]) if r.error else r for i, r in enumerate(found.records))
        return replace(found, records=tuple(told))


def run_of(space: Path, texts: str) -> Path:
    """A campaign on servers that say every credential, with its report."""

    def ask(url: str, model: str, prompt: str, *, api: str = "chat", max_tokens: int = 16) -> Answer:
        return Answer(texts, len(prompt.split()) + 4, 1)

    engine = Talkative(SPEEDS, {"broken": f"ValueError: {texts}"})
    world = replace(fake_world(engine, Failing(error_every=2), FakeClock()), ask=ask)
    path = space / "20260921T141320Z-planted"
    folder = RunFolder(path, world.now)
    conduct.open_draft(folder, synthetic_plan(blocks=3))
    conduct.run(folder, conduct.admit(folder, world), world)
    folder.close()
    quiet(["report_render", str(path)])
    return path


def quiet(argv: list[str]) -> int:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return pao(argv)


def landed(folder: Path) -> Iterator[str]:
    """The credentials of which a file below `folder` holds a part, in its name or its bytes."""
    held = b"\n".join(str(p).encode() + p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file())
    yield from (name for name, _, secret in CREDENTIALS if secret[:PART].encode() in held)


def campaign_file(space: Path, text: str) -> bool:
    """Was a campaign file with this text refused, with nothing written?"""
    config = space.parent / "c.yaml"
    config.write_text(CAMPAIGN + "".join(f"      {line}\n" for line in text.splitlines()))
    code = quiet(["campaign_init", "--config", str(config), "--campaigns-dir", str(space)])
    return code == 2 and not space.exists()


def plan_with(flags: Flags, env: Env, *, allowed: tuple[tuple[str, str], ...] = ()) -> Plan:
    plan = synthetic_plan(blocks=2)
    arms = tuple(replace(a, flags=flags, env=env) if a.id == "fast" else a for a in plan.arms)
    return replace(plan, arms=arms, code_allowed=allowed)


def refused(act: Callable[[], object]) -> bool:
    try:
        act()
    except WrongUse:
        return True
    return False


def by_new_run(space: Path, flags: Flags, env: Env) -> bool:
    return refused(lambda: create(plan_with(flags, env), space, "# Source\n")) and not space.exists()


def by_start_of_server(flags: Flags, env: Env) -> bool:
    return refused(lambda: ServeSpec(Arm("x", "vllm", Role.CANDIDATE, flags, env), "m", "m", 1, Path("log")))


def by_draft_that_allows_itself(flags: Flags, env: Env) -> bool:
    """A draft that somebody wrote by hand, which says that all its settings were allowed."""
    plan = plan_with(flags, env, allowed=tuple((s.name, "me") for s in bring_code(flags, env, "fast")))
    world = fake_world(FakeEngine(SPEEDS, {}), FakeClient(), FakeClock())
    return refused(lambda: conduct.check_flags(plan, world))


def passes_when_named(flags: Flags, env: Env) -> bool:
    """Does it pass with a name for each of its settings, and not with one less?"""
    arm = Arm("x", "vllm", Role.CANDIDATE, flags, env)
    names = list(dict.fromkeys(s.name for s in code_settings(arm)))

    def start(known: list[str]) -> object:
        return ServeSpec(arm, "m", "m", 1, Path("log"), allow_code=allowance_of(",".join(known)))

    return not refused(lambda: start(names)) and refused(lambda: start(names[1:]))


def rows(work: Path) -> list[Row]:
    everything = "\n\n".join(text for _, text, _ in CREDENTIALS)
    found = set(landed(run_of(work / "space", everything)))
    names = [name for name, _, _ in CREDENTIALS]
    passed_file = [n for i, (n, text, _) in enumerate(CREDENTIALS) if not campaign_file(work / f"s{i}", text)]
    alone = [n for n, t, s in CREDENTIALS if any(s[:PART] in hide(t) for hide in (redact, starred))]
    garbled = [t for t in HARMLESS_TEXTS if redact(t) != t]
    out = [
        Row("credentials in a server's log, answers and errors: none in the run", len(names), len(names) - len(found), tuple(found)),
        Row("credentials in a campaign file: refused, nothing written", len(names), len(names) - len(passed_file), tuple(passed_file)),
        Row("credentials alone, taken out and starred", len(names), len(names) - len(alone), tuple(alone)),
        Row("harmless texts that look alike, kept as they are", len(HARMLESS_TEXTS), len(HARMLESS_TEXTS) - len(garbled), tuple(garbled)),
    ]  # fmt: skip
    roads: tuple[tuple[str, Callable[[Flags, Env], bool]], ...] = (
        ("settings that bring code in a new run: refused", lambda f, e: by_new_run(work / "never", f, e)),
        ("settings that bring code at the start of a server: refused", by_start_of_server),
        ("settings that bring code in a draft that allows itself: refused", by_draft_that_allows_itself),
        ("settings that bring code, each named: pass", passes_when_named),
    )
    for what, held in roads:
        wrong = tuple(shown(f, e) for f, e in SETTINGS if not held(f, e))
        out.append(Row(what, len(SETTINGS), len(SETTINGS) - len(wrong), wrong))
    wrong = tuple(shown(f, e) for f, e in HARMLESS_SETTINGS if by_start_of_server(f, e))
    return [*out, Row("harmless settings: pass", len(HARMLESS_SETTINGS), len(HARMLESS_SETTINGS) - len(wrong), wrong)]


def shown(flags: Flags, env: Env) -> str:
    return " ".join([*(f"{k}={v}" for k, v in env), *flags])


def table(found: list[Row]) -> str:
    lines = ["| what | tried | held |", "|---|---:|---:|", *(f"| {r.what} | {r.asked} | {r.held} |" for r in found)]
    return "\n".join([*lines, *(f"\nnot held: {r.what}: {w}" for r in found for w in r.wrong)]) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="pao-planted-") as scratch:
        found = rows(Path(scratch))
    text = table(found)
    print(text)
    kinds = "Lists: `bench/code_and_secrets_lists.py`. Fake servers, one process."
    name = args.out / f"code_and_secrets-{time.strftime('%Y-%m-%d')}.md"
    name.write_text(f"# Credentials and settings that bring code\n\n{kinds}\n\n{text}")
    print(f"{name}  ({time.perf_counter() - began:.0f} s)")
    return int(any(r.wrong for r in found))


if __name__ == "__main__":
    sys.exit(main())
