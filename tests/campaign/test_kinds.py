"""Campaigns on every kind of workload: they verify, their gates follow what is declared, and prompts are drawn again."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tests.conftest import publish
from tests.workloads_data import chats

from profile_and_optimize.analysis.decide import decide, incomparable
from profile_and_optimize.campaign.asked import made_prompts
from profile_and_optimize.campaign.evidence_of import load_evidence
from profile_and_optimize.clients.prompts import Calibration, PromptMaker
from profile_and_optimize.core.errors import Corrupted, PaoError, WrongUse
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.trial import TrialKey
from profile_and_optimize.core.workload import Point, Workload
from profile_and_optimize.ops.kept import prompts_words
from profile_and_optimize.ops.verify import check
from profile_and_optimize.testing.forge import Forged
from profile_and_optimize.testing.living import living_run
from profile_and_optimize.testing.synthetic import synthetic_plan
from profile_and_optimize.workloads.suites import found_points, suite

RUN = "20261121T090000Z-synthetic"
KINDS = [w for name in ("demo", "prefixes") for w in suite(name) if w.name != "demo-longest"]


def plan_of(*workloads: Workload, blocks: int = 2) -> Plan:
    return replace(synthetic_plan(blocks=blocks), client="stream", points=tuple(Point(w, 2, 8) for w in workloads))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every made kind in one campaign; do not write into it."""
    return publish(living_run(tmp_path_factory.mktemp("space") / RUN, plan_of(*KINDS)))


def test_a_campaign_on_every_kind_verifies_and_all_its_prompts_are_drawn_again(run: Path) -> None:
    problems, facts = check(run)
    assert problems == []
    assert set(facts["prompts"]["drawn_again"]) == {f"{w.name}.c2" for w in KINDS}
    assert prompts_words(facts["prompts"]) == [f"prompts of {len(KINDS)} points drawn again from the plan's seed"]


def test_answers_are_as_long_as_each_request_asked_for(run: Path) -> None:
    ev = load_evidence(run)
    trials = [t for t in ev.trials if t.key.point == "demo-conversations.c2"]
    for t in trials:
        tokens = [r.completion_tokens for r in t.file.run.records]
        assert len(set(tokens)) > 2 and max(tokens) <= 96
    # Other lengths in another block are no difference between the arms.
    assert incomparable(ev.plan, decide(ev).selection) == {}


def test_cache_mode_and_gates_follow_the_declaration(run: Path) -> None:
    ev = load_evidence(run)
    modes = {t.key.point: t.file.context["cache_mode"]["asked"] for t in ev.trials}
    assert modes["multi-turn.c2"] == "prefixes repeat (no prompt does)" and modes["demo-code.c2"].startswith("cold")
    gates = {g.name: g for g in decide(ev).gates}
    assert gates["unique prompts"].passed
    assert "shared prefixes, multi-turn.c2: the cache is not counted" in gates["cache state"].reason


@pytest.mark.parametrize("point", ["demo-verse.c2", "multi-turn.c2", "shared-prefix.c2", "demo-random.c2"])
def test_other_prompts_than_the_seed_gives_are_found_for_every_kind(point: str, run: Path, tmp_path: Path) -> None:
    f = Forged.copy_of(run, tmp_path)
    for path in [p for p in f.trials(block=1) if f"-{point}-" in p]:
        f.edit(path, lambda d: d.update(prompts_digest="0" * 64, prompt_ids=[f"{i:012x}" for i in range(10)]))
    f.save(rehash=True)
    assert any("other prompts than the plan's seed gives" in p for p in check(f.run)[0])


def test_an_answer_longer_than_its_own_request_asked_for_is_found(run: Path, tmp_path: Path) -> None:
    f = Forged.copy_of(run, tmp_path)
    path = next(p for p in f.trials(block=1, arm="fast") if "-demo-conversations.c2-" in p)
    longest = max(f.read(path)["columns"]["completion_tokens"])
    f.edit(path, lambda d: d["columns"].update(completion_tokens=[longest] * 8))
    f.save(rehash=True)
    assert any(f"has {longest} output tokens, it asked for" in p for p in check(f.run)[0])


def test_recorded_conversations_are_told_by_their_digest_and_not_drawn_again(tmp_path: Path) -> None:
    data = str(chats(tmp_path / "chats.jsonl", 400))
    chat = Workload("chat", 96, 64, data, kind="conversations")
    turns = Workload("turns", 400, 64, data, kind="multi-turn", turns=3, prefixes=True)
    plan = plan_of(chat, turns)
    run = publish(living_run(tmp_path / RUN, replace(plan, points=found_points(plan.points))))
    problems, facts = check(run)
    assert problems == [] and facts["prompts"]["drawn_again"] == []
    (line,) = prompts_words(facts["prompts"])
    sha = load_evidence(run).frozen.points[0].workload.sha256
    assert (
        line.startswith("prompts of chat.c2, turns.c2 not drawn again") and f"chats.jsonl (sha256 {sha[:12]})" in line
    )
    moved = shutil.move(tmp_path / "chats.jsonl", tmp_path / "elsewhere")
    assert check(run)[0] == [] and moved, "nothing outside of the run is opened"


def test_with_a_tokenizer_prompts_are_cut_by_it_and_verify_says_that_it_lacks_it(tmp_path: Path) -> None:
    tokenizer = Path(__file__).parents[2] / "demo/model"
    names = ("demo-code", "demo-conversations", "multi-turn")
    plan = replace(plan_of(*(w for w in KINDS if w.name in names)), tokenizer=str(tokenizer))
    run = publish(living_run(tmp_path / RUN, plan))
    problems, facts = check(run)
    assert problems == [] and facts["prompts"]["drawn_again"] == []
    (line,) = prompts_words(facts["prompts"])
    assert line.endswith("only compared by their digests: that takes the model's tokenizer")
    assert load_evidence(run).calibration["exact"] is True


def test_a_session_stops_when_the_data_changed_under_the_campaign(tmp_path: Path) -> None:
    path = chats(tmp_path / "chats.jsonl", 200)
    plan = plan_of(Workload("chat", 96, 64, str(path), kind="conversations"))
    found = replace(plan, points=found_points(plan.points))
    path.write_text(path.read_text().replace("words", "verbs"))
    with pytest.raises(Corrupted, match="the plan was made with"):
        living_run(tmp_path / RUN, found)


def test_too_few_conversations_are_named_before_a_prompt_repeats(tmp_path: Path) -> None:
    plan = plan_of(Workload("chat", 96, 64, str(chats(tmp_path / "chats.jsonl", 7)), kind="conversations"))
    with pytest.raises(WrongUse, match="needed after"):
        living_run(tmp_path / RUN, replace(plan, points=found_points(plan.points)))


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "own:../../pyproject"},
        {"dataset": "own:novel"},
        {"isl": 3, "osl": 3},
        {"isl": 9_999_999},
        {"kind": "text", "dataset": "/etc/hostname"},
        {"kind": "nothing"},
    ],
)
def test_a_plan_made_to_harm_is_a_line_of_verify_and_opens_nothing(
    change: dict[str, object], run: Path, tmp_path: Path
) -> None:
    f = Forged.copy_of(run, tmp_path)
    for name in ("plan.json", "draft.json"):
        f.edit(name, lambda d: next(
            p for p in d["points"] if p["workload"]["name"] == "demo-conversations"
        )["workload"].update(change))  # fmt: skip
    with contextlib.suppress(PaoError, ValueError):  # he may not get as far as new derived files
        f.save(rehash=True)
    assert check(f.run)[0] != []


def test_arms_that_get_their_own_prompts_still_get_the_same_lengths() -> None:
    plan, maker = plan_of(next(w for w in KINDS if w.name == "demo-random")), PromptMaker(None, Calibration(0.0))
    one, two = (
        made_prompts(plan, maker, plan.points[0], TrialKey(1, "a", plan.points[0].key), arm) for arm in ("a", "b")
    )
    assert not {*one.timed} & {*two.timed} and one.osls == two.osls
    assert [len(p.split()) for p in one.timed] == [len(p.split()) for p in two.timed]
