"""Is tampering with a finished run found?

    python bench/tamper.py [--clean 100] [--runs 9] [--live 2] [--out bench/results]

Each kind of tampering is done to several finished runs (campaigns on fakes: plain with accuracy questions, with failing
requests, with a race; and a few on live mock servers), twice. Once as it is: every one must be found. Once by an
attacker who then re-hashes the journal, re-derives every file and writes the manifest anew: every one must be found
against the root that was published before, and the share that consistency alone finds is printed. Clean runs must pass.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from yaml import safe_dump

from live_mocks import ACK, config
from profile_and_optimize.analysis.decide import decide
from profile_and_optimize.campaign import conduct
from profile_and_optimize.campaign.evidence_of import load_evidence
from profile_and_optimize.cli.main import run as pao
from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.names import canonical, digest
from profile_and_optimize.evidence.folder import JOURNAL, RunFolder
from profile_and_optimize.evidence.journal import Journal
from profile_and_optimize.evidence.trialfile import decode, encode, is_trial_path
from profile_and_optimize.ops.verify import BAD, VerifyRequest
from profile_and_optimize.ops.verify import run as verify
from profile_and_optimize.optimize.publish import write_aggregates, write_champion, write_report
from profile_and_optimize.report.pages.record import PDF
from profile_and_optimize.report.pages.source import Options
from profile_and_optimize.testing.fakes import FakeClient, FakeClock, FakeEngine, fake_world
from profile_and_optimize.testing.synthetic import SPEEDS, synthetic_plan

Events = list[dict[str, Any]]


class Ticking(FakeClock):
    """Every reading is five seconds after the one before, so that trials lie one after the other."""

    def __call__(self) -> float:
        self.at += 5.0
        return self.at


@dataclass
class Forged:
    """A copy of a finished run in an attacker's hands. `events` are the journal's lines, to be edited."""

    run: Path
    rng: random.Random
    events: Events = field(default_factory=list)

    def __post_init__(self) -> None:
        self.events = [json.loads(line) for line in (self.run / JOURNAL).read_text().splitlines()]
        self.before = canonical(self.events)

    def trials(self, *, arm: str | None = None, stage: str = "b") -> list[str]:
        paths = [e["data"]["path"] for e in self.events if e["kind"] == "wrote"]
        found = sorted({p for p in paths if is_trial_path(p) and f"/raw/{stage}" in p})
        return [p for p in found if arm is None or p.split("/")[1] == arm]

    def candidate(self) -> str:
        plan = json.loads((self.run / "plan.json").read_text())
        ids = [a["id"] for a in plan["arms"] if a["role"] == "candidate" and self.trials(arm=a["id"])]
        return self.rng.choice(ids)

    def pick(self, arm: str | None = None) -> str:
        return self.rng.choice(self.trials(arm=arm))

    def edit(self, path: str, change: Callable[[dict[str, Any]], object]) -> None:
        doc = json.loads((self.run / path).read_text())
        change(doc)
        (self.run / path).write_bytes(canonical(doc) + b"\n")

    def redo(self, path: str, change: Callable[[Any], Any]) -> None:
        """Edit a trial as a value and write it with the product's own encoder."""
        file = decode(json.loads((self.run / path).read_text()), path)
        (self.run / path).write_bytes(encode(change(file)))

    def drop(self, path: str) -> None:
        (self.run / path).unlink()
        self.events = [e for e in self.events if e["data"].get("path") != path]

    def save(self, rehash: bool) -> None:
        if rehash:
            self._rehash()
        elif canonical(self.events) != self.before:
            (self.run / JOURNAL).write_bytes(b"".join(canonical(e) + b"\n" for e in self.events))

    def _rehash(self) -> None:
        """What an attacker who knows the product does: new digests, a new chain, new derived files, a new manifest."""
        (self.run / JOURNAL).unlink()
        journal = Journal(self.run / JOURNAL)
        for e in self.events:
            if e["kind"] == "wrote":
                data = (self.run / e["data"]["path"]).read_bytes()
                e["data"] = {**e["data"], "sha256": digest(data), "bytes": len(data)}
            journal.append(e["kind"], e["at"], **e["data"])
        ev = load_evidence(self.run)
        d = decide(ev)
        for write in (write_aggregates, write_champion, write_report):
            write(ev, d)


def faster(file: Any) -> Any:
    """Every time of the records a tenth shorter: the arm looks better, and all of it agrees with itself."""
    shrink = lambda ns: int(ns * 0.9)  # noqa: E731
    records = tuple(
        replace(
            r, intended_ns=shrink(r.intended_ns), sent_ns=shrink(r.sent_ns), done_ns=shrink(r.done_ns),
            first_byte_ns=None if r.first_byte_ns is None else shrink(r.first_byte_ns), chunk_ns=tuple(map(shrink, r.chunk_ns)),
        )
        for r in file.run.records
    )  # fmt: skip
    return replace(file, run=replace(file.run, records=records))


def doubled(file: Any) -> Any:
    return replace(file, run=replace(file.run, records=(*file.run.records, file.run.records[-1])))


def an_hour_later(doc: dict[str, Any]) -> None:
    doc.update(started_at=doc["started_at"] + 3600, ended_at=doc["ended_at"] + 3600)


def without(file: Any, index: int) -> Any:
    return replace(file, run=replace(file.run, records=tuple(r for r in file.run.records if r.index != index)))


def earlier(record: Any) -> Any:
    """The first chunk of a request a millisecond earlier, or the end of one without chunks a little later."""
    if not record.chunk_ns:
        return replace(record, done_ns=record.done_ns + 1)
    return replace(record, chunk_ns=(max(record.sent_ns, record.chunk_ns[0] - 1_000_000), *record.chunk_ns[1:]))


def one_record(f: Forged, change: Callable[[Any], Any]) -> None:
    def edited(file: Any) -> Any:
        at = f.rng.randrange(len(file.run.records))
        return replace(
            file,
            run=replace(file.run, records=tuple(change(r) if i == at else r for i, r in enumerate(file.run.records))),
        )

    f.redo(f.pick(), edited)


def context(f: Forged, name: str, side: str, value: str, path: str | None = None) -> None:
    f.edit(
        path or f.pick(),
        lambda d: (
            d["context"]
            .setdefault(name, {"asked": "unknown", "observed": "unknown", "kind": "environment"})
            .update({side: value})
        ),
    )


def plan(f: Forged, change: Callable[[dict[str, Any]], object]) -> None:
    f.edit("plan.json", change)


def cherry_picked(f: Forged) -> None:
    """The workload that comes last goes from the plan, the draft and the evidence."""
    gone = json.loads((f.run / "plan.json").read_text())["points"][-1]["workload"]["name"]
    for name in ("plan.json", "draft.json"):
        f.edit(
            name, lambda d: d.update(points=[p for p in d["points"] if p["workload"]["name"] != gone] or d["points"])
        )
    for path in [p for p in f.trials() if f"-{gone}." in p]:
        f.drop(path)


def swapped_blocks(f: Forged) -> None:
    """Two blocks of one arm change places: the good one is where it helps."""
    arm = f.candidate()
    one, two = (next(p for p in f.trials(arm=arm) if f"/raw/{b}-" in p) for b in ("b001", "b002"))
    a, b = (json.loads((f.run / p).read_text()) for p in (one, two))
    a["key"]["block"], b["key"]["block"] = b["key"]["block"], a["key"]["block"]
    a["key"]["point"], b["key"]["point"] = b["key"]["point"], a["key"]["point"]
    (f.run / one).write_bytes(canonical(b) + b"\n")
    (f.run / two).write_bytes(canonical(a) + b"\n")


def swapped_arms(f: Forged) -> None:
    """A trial of the baseline and one of a candidate change places."""
    arm = f.candidate()
    mine = f.rng.choice(f.trials(arm=arm))
    base = mine.replace(f"cells/{arm}/", f"cells/{baseline(f)}/")
    a, b = (json.loads((f.run / p).read_text()) for p in (mine, base))
    a["key"]["arm"], b["key"]["arm"] = b["key"]["arm"], a["key"]["arm"]
    (f.run / mine).write_bytes(canonical(b) + b"\n")
    (f.run / base).write_bytes(canonical(a) + b"\n")


def baseline(f: Forged) -> str:
    return next(a["id"] for a in json.loads((f.run / "plan.json").read_text())["arms"] if a["role"] == "baseline")


def dropped_block(f: Forged) -> None:
    for path in [p for p in f.trials() if "/raw/b002-" in p]:
        f.drop(path)


def duplicated_block(f: Forged) -> None:
    """The records of block 1 stand once more as block 2."""
    for path in [p for p in f.trials() if "/raw/b001-" in p]:
        other = path.replace("/raw/b001-", "/raw/b002-")
        if (f.run / other).exists():
            doc = json.loads((f.run / path).read_text())
            doc["key"]["block"] = 2
            (f.run / other).write_bytes(canonical(doc) + b"\n")


def failed_arm_gone(f: Forged) -> None:
    for name in ("plan.json", "draft.json"):
        doc = json.loads((f.run / name).read_text())
        gone = {a["id"] for a in doc["failed"]} or {"broken"}
        f.edit(name, lambda d, gone=gone: d.update(failed=[], arms=[a for a in d["arms"] if a["id"] not in gone]))
    f.events = [e for e in f.events if e["kind"] != "arm_failed"]


def failures_gone(f: Forged) -> None:
    """Failed requests are taken out and the rest numbered anew."""
    path = next((p for p in f.trials() if any(json.loads((f.run / p).read_text())["columns"]["error"])), f.pick())

    def edited(file: Any) -> Any:
        good = [r for r in file.run.records if r.ok]
        good = good[:-1] if len(good) == len(file.run.records) else good
        return replace(file, run=replace(file.run, records=tuple(replace(r, index=i) for i, r in enumerate(good))))

    f.redo(path, edited)


def event_gone(f: Forged) -> None:
    at = f.rng.choice([i for i, e in enumerate(f.events) if e["kind"] in ("block", "session", "race_block")])
    del f.events[at]


def events_swapped(f: Forged) -> None:
    at = [i for i, e in enumerate(f.events) if e["kind"] == "wrote" and is_trial_path(e["data"]["path"])]
    i, j = f.rng.sample(at, 2)
    f.events[i]["data"], f.events[j]["data"] = f.events[j]["data"], f.events[i]["data"]


def raw_edited(f: Forged) -> None:
    found = sorted(f.run.glob("cells/*/raw/*.raw.json"))
    path = str(f.rng.choice(found).relative_to(f.run)) if found else f.pick()
    if found:
        f.edit(path, lambda d: d["responses"][0].update(reads=[]))
    else:
        f.edit(path, lambda d: d["probe"].update(reads=d["probe"]["reads"] + 1))


def log_or_command(f: Forged) -> None:
    f.edit(f"cells/{f.candidate()}/commands/serve.json", lambda d: d.update(argv=[*d["argv"], "--faster"]))


def answers(f: Forged) -> None:
    found = sorted(f.run.glob("cells/*/raw/accuracy.json"))
    if found:
        f.edit(str(f.rng.choice(found).relative_to(f.run)), lambda d: d["answers"][0].update(said="something else"))
    else:
        f.edit(f"cells/{f.candidate()}/admission.json", lambda d: d["smoke"].update(answer="something else"))


def derived(f: Forged, name: str, old: bytes, new: bytes) -> None:
    path = f.run / name
    data = path.read_bytes()
    path.write_bytes(data.replace(old, new, 1) if old in data else data + b" ")


def linked(f: Forged) -> None:
    path = f.run / f.pick()
    path.unlink()
    path.symlink_to("/etc/hostname")


KINDS: dict[str, Callable[[Forged], object]] = {
    "dropped trial": lambda f: f.drop(f.pick()),
    "dropped block": dropped_block,
    "cherry-picked workload": cherry_picked,
    "duplicated block": duplicated_block,
    "blocks of an arm swapped": swapped_blocks,
    "trials of two arms swapped": swapped_arms,
    "all times of a trial a tenth shorter": lambda f: f.redo(f.pick(f.candidate()), faster),
    "one chunk a millisecond earlier": lambda f: one_record(f, earlier),
    "token count edited": lambda f: one_record(f, lambda r: replace(r, completion_tokens=(r.completion_tokens or 1) + 1)),
    "a request taken out": lambda f: f.redo(f.pick(), lambda file: without(file, 1)),
    "a request twice": lambda f: f.redo(f.pick(), doubled),
    "failed requests taken out": failures_gone,
    "failed arm taken out": failed_arm_gone,
    "swapped node": lambda f: context(f, "node", "observed", "another-node"),
    "another source commit": lambda f: context(f, "source_commit", "observed", "f" * 40),
    "cache mode": lambda f: context(f, "cache_mode", "asked", "warm"),
    "flags asked": lambda f: context(f, "flags", "asked", "--turbo"),
    "dtype observed": lambda f: context(f, "dtype", "observed", "float8"),
    "load asked": lambda f: context(f, "load", "asked", "closed loop, concurrency 64, 16 requests"),
    "clock of one trial shifted": lambda f: f.edit(f.pick(), an_hour_later),
    "a trial made to end before it began": lambda f: f.edit(f.pick(), lambda d: d.update(ended_at=d["started_at"] - 60)),
    "server counters edited": lambda f: f.edit(f.pick(), lambda d: d.update(counters={**d["counters"], "generation_tokens": 1.0})),
    "busy machine made quiet": lambda f: f.edit(f.pick(), lambda d: d["machine"].update(foreign_cores=0.0, steal_share=0.0, extra=1.0)),
    "client lag made small": lambda f: f.edit(f.pick(), lambda d: d["probe"].update(loop_lag_ns=[1] * 8)),
    "prompts digest edited": lambda f: f.edit(f.pick(), lambda d: d.update(prompts_digest="0" * 64)),
    "margin edited": lambda f: plan(f, lambda d: d.update(margin=0.0)),
    "blocks edited": lambda f: plan(f, lambda d: d.update(blocks=d["blocks"] - 1)),
    "seed edited": lambda f: plan(f, lambda d: d.update(seed=d["seed"] + 1)),
    "admission edited": lambda f: f.edit(f"cells/{f.candidate()}/admission.json", lambda d: d.update(start_s=d["start_s"] + 1)),
    "accuracy or smoke answer edited": answers,
    "kept bytes edited": raw_edited,
    "command edited": log_or_command,
    "journal event taken out": event_gone,
    "journal entries swapped": events_swapped,
    "verdict edited": lambda f: derived(f, "verdict.json", b'"DRAFT"', b'"VERDICT"'),
    "page edited": lambda f: derived(f, "report.html", b"BETTER", b"BEST"),
    "PDF edited": lambda f: derived(f, PDF, b"stream\n", b"stream \n"),
    "atlas edited": lambda f: derived(f, "atlas.jsonl", b"0.0", b"0.1"),
    "trial truncated": lambda f: (p := f.run / f.pick()).write_bytes(p.read_bytes()[:400]),
    "trial replaced by a link": linked,
    "stranger in the folder": lambda f: (f.run / "cells" / f.candidate() / "raw" / "b099-extra.json").write_text("{}"),
}  # fmt: skip
# What an attacker undoes himself by deriving anew, or cannot re-hash.
NOT_REHASHED = frozenset(
    {
        "verdict edited",
        "page edited",
        "PDF edited",
        "atlas edited",
        "trial truncated",
        "trial replaced by a link",
        "stranger in the folder",
    }
)


def finished(path: Path, seed: int) -> Path:
    """A published campaign on fakes; every third has accuracy questions, failing requests, or a race."""
    plan = replace(synthetic_plan(blocks=3), seed=seed)
    client = FakeClient(noise=0.004)
    if seed % 3 == 0:
        questions = path.parent / "questions.jsonl"
        questions.write_text(
            "\n".join(json.dumps({"question": f"say word{i}", "answer": f"word{i}"}) for i in range(40))
        )
        plan = replace(plan, questions=str(questions))
    elif seed % 3 == 1:
        client.error_every = 29
    else:
        plan = replace(
            plan, arms=(*plan.arms, *(Arm(f"x{i}", "fake", Role.CANDIDATE) for i in range(3))), race_rounds=2
        )
    clock = Ticking()
    world = fake_world(FakeEngine(SPEEDS, {"broken": "ValueError: not supported"}), client, clock)
    folder = RunFolder(path, clock)
    try:
        conduct.open_draft(folder, plan)
        conduct.run(folder, conduct.admit(folder, world), world)
    finally:
        folder.close()
    return publish(path, Options() if seed % 4 == 0 else None)


def publish(run: Path, pdf: Options | None = None) -> Path:
    """Every derived file; a fourth of the runs has a PDF, which takes a second to draw again each time."""
    ev = load_evidence(run)
    d = decide(ev)
    write_aggregates(ev, d)
    write_champion(ev, d)
    write_report(ev, d, pdf)
    return run


def live(space: Path, number: int) -> Path:
    """A campaign on mock servers through the command line."""
    os.environ["PAO_QUIET_WAIT_S"] = "0"
    file = space / f"live{number}.yaml"
    file.write_text(safe_dump({**config(0.1, 50 + number), "name": f"live{number}", "blocks": 3}))
    where = ("--campaigns-dir", str(space))
    for argv in (
        ("campaign_init", "--config", str(file)),
        ("campaign_run", f"live{number}", ACK),
        ("report_render", f"live{number}"),
    ):
        if pao([*argv, *where]) != 0:
            raise SystemExit(f"the live campaign failed at {argv[0]}")
    return publish(next(p for p in space.iterdir() if p.name.endswith(f"-live{number}")))


def problems(run: Path, against: str | None = None) -> int:
    return len(verify(VerifyRequest(campaign=str(run), against=against), lambda _: None).data["problems"])


def root_of(run: Path) -> str:
    return str(json.loads((run / "manifest.json").read_text())["root"])


@dataclass
class Row:
    kind: str
    plain: int = 0
    consistent: int = 0
    against: int = 0
    rehashed: int = 0
    tried: int = 0


def attack(run: Path, scratch: Path, kind: str, seed: int, row: Row) -> None:
    row.tried += 1
    for rehash in (False, True) if kind not in NOT_REHASHED else (False,):
        copy = Path(shutil.copytree(run, scratch / run.name, symlinks=True))
        forged = Forged(copy, random.Random(f"{kind}{seed}"))
        KINDS[kind](forged)
        try:
            forged.save(rehash)
            made = True
        except BAD:  # what the attacker made cannot even be read back: it cannot be passed off as a run
            made = False
        if not rehash:
            row.plain += problems(copy) > 0
        else:
            row.rehashed += 1
            row.consistent += not made or problems(copy) > 0
            row.against += problems(copy, root_of(run)) > 0
        shutil.rmtree(copy)


def table(rows: list[Row], clean: tuple[int, int], bases: int, lives: int) -> str:
    tried, plain = sum(r.tried for r in rows), sum(r.plain for r in rows)
    again, against, consistent = (sum(getattr(r, n) for r in rows) for n in ("rehashed", "against", "consistent"))
    passed = plain == tried and against == again and clean[0] == clean[1]
    lines = [
        "# Tampering", "",
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, Python {platform.python_version()}; {len(rows)} kinds on {bases} runs, "
        f"{lives} of them on live mock servers.", "",
        f"- As it is: {plain} of {tried} found.",
        f"- Re-hashed and re-derived: {against} of {again} found against the root published before; "
        f"{consistent} ({consistent / again:.0%}) by consistency alone.",
        f"- Clean runs: {clean[0]} of {clean[1]} pass.",
        f"- Bar (100%, 100%, 100%): {'PASS' if passed else 'FAIL'}.", "",
        "| kind | as it is | re-hashed, by consistency alone | re-hashed, against the root |", "|---|---|---|---|",
    ]  # fmt: skip
    for r in rows:
        again_words = (
            (f"{r.consistent} of {r.rehashed}", f"{r.against} of {r.rehashed}")
            if r.rehashed
            else ("undone by re-deriving, or cannot be", "")
        )
        lines.append(f"| {r.kind} | {r.plain} of {r.tried} | {again_words[0]} | {again_words[1]} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clean", type=int, default=100)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--live", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pao-tamper-") as name:
        space = Path(name)
        bases = [finished(space / f"2026112{seed % 10}T{seed // 10:06d}Z-fakes", seed) for seed in range(args.runs)]
        bases += [live(space, i) for i in range(args.live)]
        held = sum(problems(b) == 0 for b in bases)
        for seed in range(len(bases), args.clean):
            run = finished(space / f"20261201T{seed:06d}Z-clean", seed)
            held += problems(run) == 0
            shutil.rmtree(run)
        scratch = space / "scratch"
        rows = []
        for kind in KINDS:
            row = Row(kind)
            for i, run in enumerate(b for b in bases if kind != "PDF edited" or (b / PDF).is_file()):
                attack(run, scratch, kind, i, row)
            rows.append(row)
            print(row, flush=True)
    text = table(rows, (held, max(args.clean, len(bases))), len(bases), args.live)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / f"tamper-{time.strftime('%Y-%m-%d')}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
