"""Earlier campaigns of the same variants are found and told with the bound that follows; they bar nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.conftest import publish

from profile_and_optimize.campaign.earlier import Earlier, EarlierRun, pair_key, read_earlier, words
from profile_and_optimize.campaign.evidence_of import load_evidence
from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.workload import Point, Workload
from profile_and_optimize.ops.verify import look_at
from profile_and_optimize.testing.fakes import FakeClient, FakeEngine
from profile_and_optimize.testing.forge import Forged
from profile_and_optimize.testing.synthetic import SPEEDS, synthetic_plan, synthetic_run

BUILDS = {"fake": {"engine_version": "1.0"}, "mock": {"engine_version": "2"}}


def run_id(n: int) -> str:
    return f"202609{n:02d}T141320Z-synthetic"


def plan_of(*flags: str, seed: int = 7, blocks: int = 2, **changes: object) -> Plan:
    plan = synthetic_plan(blocks=blocks)
    arms = (*plan.arms[:2], Arm("fast", "fake", Role.CANDIDATE, flags or ("--fast",)))
    return replace(plan, arms=arms, points=plan.points[:1], seed=seed, **changes)


def lines_of(run: Path) -> tuple[str, ...]:
    return words(read_earlier(run), ["fast"])


def test_the_third_campaign_of_the_same_variants_says_so_on_every_page_and_is_barred_from_nothing(
    tmp_path: Path,
) -> None:
    runs = [publish(synthetic_run(tmp_path / run_id(n), plan_of(seed=n, blocks=3))) for n in (1, 2, 3)]
    said = f"fast: third campaign of these variants: at most 3% for a wrong VERDICT among them (before it: {run_id(1)}, {run_id(2)})"
    assert lines_of(runs[2]) == (said,)
    assert lines_of(runs[0]) == ("fast: first campaign of these variants in this workspace",)
    for page in ("report.txt", "report.html", "CHAMPION.md", "champion_select.json"):
        text = " ".join((runs[2] / page).read_text().replace("\\", "").split())
        assert said in text, page
    picks = [json.loads((r / "champion_select.json").read_text())["pick"] for r in runs]
    assert picks == ["fast"] * 3
    assert look_at(runs[2]).problems == []


def test_a_campaign_counts_from_its_first_block_whatever_became_of_it(tmp_path: Path) -> None:
    class Stopped(BaseException):
        """Stands for a kill."""

    class Breaking(FakeClient):
        def run(self, load, *, workdir):  # type: ignore[no-untyped-def]
            if len(self.runs) >= self.most:
                raise Stopped
            return super().run(load, workdir=workdir)

    for n, most in ((1, 3), (2, 10)):  # killed in its first session; killed in its second block
        client = Breaking()
        client.most = most  # type: ignore[attr-defined]
        with pytest.raises(Stopped):
            synthetic_run(tmp_path / run_id(n), plan_of(), client=client)
    third = synthetic_run(tmp_path / run_id(3), plan_of())
    assert [r.run_id for r in read_earlier(third).runs] == [run_id(2)]


def test_other_flags_loads_models_or_nodes_are_other_variants(tmp_path: Path) -> None:
    synthetic_run(tmp_path / run_id(1), plan_of())
    others = (
        plan_of("--other"),
        plan_of(model="another"),
        plan_of(focus="latency"),
        plan_of(common_flags=("--x", "1")),
    )
    point = plan_of().points[0]
    more = (replace(plan_of(), points=(replace(point, concurrency=8),)),)
    for n, plan in enumerate((*others, *more), start=2):
        assert read_earlier(synthetic_run(tmp_path / run_id(n), plan)).runs == ()
    again = synthetic_run(tmp_path / run_id(9), plan_of())
    assert [r.run_id for r in read_earlier(again).runs] == [run_id(1)]


def fast(plan: Plan, node: str = "n", builds: dict[str, dict[str, str]] = BUILDS) -> str:
    return pair_key(plan, plan.arm("fast"), node, builds)


def test_names_seeds_order_and_spelling_of_options_make_no_other_variant() -> None:
    one = fast(plan_of("--a", "1", "--b_c=2"))
    assert fast(plan_of("--b-c", "2", "--a=1", seed=99, blocks=9, slug="other")) == one
    assert fast(plan_of("--a", "1", common_flags=())) != one
    moved = plan_of("--a", "1", "--b-c", "2", "--k", "3")
    base = replace(
        moved, arms=tuple(replace(a, flags=("--k", "3", *a.flags)) if a.id != "fast" else a for a in moved.arms)
    )
    common = replace(plan_of("--a", "1", "--b-c", "2"), common_flags=("--k", "3"))
    assert fast(base) == fast(common)
    assert fast(plan_of("--a", "2", "--b", "1")) != fast(plan_of("--a", "1", "--b", "2"))


def test_node_build_and_weights_make_another_variant_and_the_place_of_known_weights_does_not() -> None:
    one = fast(plan_of())
    assert fast(plan_of(), "m") != one and fast(plan_of(), builds={"fake": {"engine_version": "1.1"}}) != one
    known = {"model_digest": "a" * 64}
    assert fast(plan_of(model="/here", **known)) == fast(plan_of(model="/there", **known)) != one


def test_two_endpoints_are_the_same_two_whichever_is_called_the_baseline_and_from_wherever_they_are_asked() -> None:
    def between(a: str, b: str) -> Plan:
        arms = (
            Arm("a", "endpoint", Role.BASELINE, url=a), Arm("again", "endpoint", Role.AA, url=a),
            Arm("fast", "endpoint", Role.CANDIDATE, url=b),
        )  # fmt: skip
        return Plan("ab", "m", "throughput", arms, (Point(Workload("w", 8, 8), 2, 8),), blocks=2, seed=1)

    assert fast(between("http://x", "http://y"), "here") == fast(between("http://y", "http://x"), "there")
    assert fast(between("http://x", "http://y")) != fast(between("http://x", "http://z"))


def test_damaged_folders_are_counted_and_never_a_crash(tmp_path: Path) -> None:
    for n in (1, 2, 3, 4):
        synthetic_run(tmp_path / run_id(n), plan_of())
    (tmp_path / run_id(1) / "earlier.json").write_text('{"schema": 1, "runs": 3}')
    (tmp_path / run_id(2) / "plan.json").write_bytes(b"\xff\x00")
    (tmp_path / run_id(3) / "earlier.json").unlink()
    (tmp_path / run_id(3) / "earlier.json").symlink_to("/dev/zero")
    (tmp_path / run_id(5)).mkdir()
    (tmp_path / run_id(6)).write_text("a file")
    (tmp_path / run_id(7)).mkdir()
    (tmp_path / run_id(7) / "journal.jsonl").write_bytes(b'{"kind":"wrote","data":[/raw/')
    last = synthetic_run(tmp_path / run_id(8), plan_of())
    kept = read_earlier(last)
    assert [r.run_id for r in kept.runs] == [run_id(4)] and kept.unreadable == 3
    assert "3 folders of the workspace have trials and could not be read" in lines_of(last)[1]


def test_verify_needs_no_other_folder_and_warns_where_those_it_sees_now_differ(tmp_path: Path) -> None:
    first = publish(synthetic_run(tmp_path / run_id(1), plan_of()))
    second = publish(synthetic_run(tmp_path / run_id(2), plan_of()))
    assert not [w for w in look_at(second).warnings if "earlier" in w]
    first.rename(tmp_path / "gone")
    found = look_at(second)
    assert found.problems == [] and any(f"{run_id(1)} are not in this folder any more" in w for w in found.warnings)
    (tmp_path / "gone").rename(first)
    (first / "draft.json").write_text("{}")
    found = look_at(second)
    assert found.problems == [] and any("are not what was listed" in w for w in found.warnings)


def test_a_list_that_was_shortened_is_warned_of_and_one_of_other_variants_is_found(tmp_path: Path) -> None:
    publish(synthetic_run(tmp_path / run_id(1), plan_of()))
    second = publish(synthetic_run(tmp_path / run_id(2), plan_of()))
    forged = Forged(second)
    forged.edit("earlier.json", lambda doc: doc.update(runs=[]))
    forged.save(rehash=True)
    found = look_at(second)
    assert found.problems == [] and any(
        "measured the same variants before and are not listed" in w for w in found.warnings
    )
    forged = Forged(second)
    forged.edit("earlier.json", lambda doc: doc.update(pairs={"fast": "0" * 64}))
    forged.save(rehash=True)
    assert any("its variants are not those of the plan" in p for p in look_at(second).problems)


def test_a_run_that_never_looked_says_unknown_and_the_words_count_on() -> None:
    assert words(None, ["x"]) == ("earlier campaigns of these variants: unknown, this run did not look for any",)
    runs = tuple(EarlierRun(run_id(n), "d", 0.01, ("k",)) for n in range(1, 13))
    kept = Earlier("n", {}, 0.005, {"x": "k", "y": "k", "z": "other"}, runs)
    one, two = words(kept, ["x", "y", "z"])
    assert one.startswith("x, y: campaign number 13 of these variants: at most 12.5% for a wrong VERDICT among them")
    assert one.endswith("and 7 more)") and two == "z: first campaign of these variants in this workspace"


def test_the_root_covers_what_was_found(tmp_path: Path) -> None:
    one = load_evidence(synthetic_run(tmp_path / "a" / run_id(2), plan_of())).root
    assert load_evidence(synthetic_run(tmp_path / "b" / run_id(2), plan_of())).root == one
    synthetic_run(tmp_path / "c" / run_id(1), plan_of(), engine=FakeEngine(SPEEDS))
    assert load_evidence(synthetic_run(tmp_path / "c" / run_id(2), plan_of())).root != one
