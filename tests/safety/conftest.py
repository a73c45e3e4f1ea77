"""One campaign in which everything that came from outside is an attack, published."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hostile import FOLDER, HOSTILE

from profile_and_optimize.campaign import conduct
from profile_and_optimize.clients.base import LoadRequest
from profile_and_optimize.core.cell import Role
from profile_and_optimize.core.records import ClientRun
from profile_and_optimize.engines.base import Server, ServeSpec
from profile_and_optimize.engines.smoke import Answer
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.ops.campaigns import source_text
from profile_and_optimize.testing.fakes import FakeClient, FakeClock, FakeEngine, fake_world
from profile_and_optimize.testing.forge import publish
from profile_and_optimize.testing.synthetic import SPEEDS, synthetic_plan


@dataclass(frozen=True)
class HostileEngine(FakeEngine):
    def version(self) -> dict[str, str]:
        return dict.fromkeys(super().version(), HOSTILE)

    def observed(self, server: Server) -> dict[str, str]:
        return {"served_model": HOSTILE, "prefix_caching": HOSTILE, "dtype": HOSTILE}

    def start(self, spec: ServeSpec) -> Server:
        spec.log.write_text(HOSTILE)
        return super().start(spec)


class HostileClient(FakeClient):
    """Fails some requests of every trial, and says so in a server's words; one trial it does not answer at all."""

    def run(self, load: LoadRequest, *, workdir: Path) -> ClientRun:
        found = super().run(load, workdir=workdir)
        records = tuple(replace(r, error=HOSTILE, finish_reason=HOSTILE) if r.error else r for r in found.records)
        return replace(found, records=records)


def hostile_ask(
    url: str, model: str, prompt: str, *, api: str = "chat", max_tokens: int = 16, pinned: bool = False
) -> Answer:
    return Answer(HOSTILE, len(prompt.split()) + 4, 1, HOSTILE)


@pytest.fixture(scope="session")
def hostile_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    questions = tmp_path_factory.mktemp("q") / "q.jsonl"
    questions.write_text('{"question": "2 + 2", "answer": "4"}\n')
    engine = HostileEngine(SPEEDS, {"broken": HOSTILE})
    host = {"node": HOSTILE, "hardware": HOSTILE, "driver": HOSTILE, "kernel": HOSTILE, "python": HOSTILE}
    fakes = fake_world(engine, HostileClient(error_every=97), FakeClock())
    world = replace(fakes, ask=hostile_ask, host=lambda: host)
    plan = synthetic_plan(blocks=3, questions=str(questions))
    arms = tuple(replace(a, lever=HOSTILE, predicts=HOSTILE) if a.role is Role.CANDIDATE else a for a in plan.arms)
    plan = replace(plan, model=HOSTILE.replace("\0", ""), suite=HOSTILE, arms=arms, tokenizer="")
    run = tmp_path_factory.mktemp("space") / FOLDER
    folder = RunFolder(run, world.now)
    folder.write("SOURCE.md", source_text(plan, f"campaign_init --config {HOSTILE}").encode(), producer="campaign_init")
    conduct.open_draft(folder, plan)
    conduct.run(folder, conduct.admit(folder, world), world)
    folder.event("block_given_up", block=9, reason=HOSTILE)
    folder.close()
    (run / "cells/fast/raw/b001-long-in.c4-a1.json").write_text(HOSTILE)
    return publish(run)
