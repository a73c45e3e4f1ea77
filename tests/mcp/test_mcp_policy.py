"""Who decides: the owner's file, read at the start, from where no tool can write."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from mcp_help import policy_file

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.mcp.policy import Policy, default_file, load_policy
from profile_and_optimize.ops.base import Op, Request, Result, Safety, all_ops, class_of

Make = Callable[[str], Policy]


def of(safety: Safety) -> Op:
    return next(op for op in all_ops().values() if op.safety is safety)


def test_without_a_file_reading_and_writing_artifacts_is_allowed_and_the_rest_is_asked(work: Path) -> None:
    policy = load_policy(None, work)
    assert {op.safety: policy.decides(op, op.safety) for op in all_ops().values()}.items() <= {
        Safety.READ_ONLY: "allow", Safety.WRITES_ARTIFACTS: "allow", Safety.SUBMITS_JOBS: "ask", Safety.MUTATES_CLUSTER: "ask",
        Safety.PUBLISHES_EXTERNAL: "ask",
    }.items()  # fmt: skip
    assert (policy.roots, policy.source) == ((work,), "")
    assert not policy.runs_python(Path("/usr/bin/python3")) and not policy.knows_image("any")
    assert policy.knows_endpoint("http", "127.0.0.1") and not policy.knows_endpoint("http", "10.0.0.1")


def test_a_verb_goes_before_its_class_and_the_stricter_list_before_the_other(own_policy: Make) -> None:
    op = of(Safety.SUBMITS_JOBS)
    assert own_policy(f"deny: [submits_jobs]\nallow: [{op.verb}]").decides(op, op.safety) == "allow"
    assert own_policy(f"allow: [{op.verb}]\nask: [{op.verb}]").decides(op, op.safety) == "ask"
    assert own_policy(f"ask: [{op.verb}]\ndeny: [{op.verb}]").decides(op, op.safety) == "deny"
    assert own_policy("deny: [read_only]").decides(op, Safety.READ_ONLY) == "deny"


def test_the_class_is_that_of_the_request_whatever_the_verb(work: Path, own_policy: Make) -> None:
    op = all_ops()["optimize"]
    jobs, shows = (class_of(op, op.request(model="m", dry_run=dry)) for dry in (False, True))
    assert (jobs, shows) == (Safety.SUBMITS_JOBS, Safety.WRITES_ARTIFACTS)
    assert [load_policy(None, work).decides(op, c) for c in (jobs, shows)] == ["ask", "allow"]
    assert own_policy("deny: [submits_jobs]").decides(op, jobs) == "deny"
    assert own_policy("allow: [optimize]").decides(op, jobs) == "allow"


def test_a_verb_that_does_not_say_what_it_does_is_asked_about(work: Path) -> None:
    silent = Op("new", "Something new.", Safety.READ_ONLY, Request, lambda req, say: Result({}, ""))
    assert class_of(silent, Request()) is Safety.SUBMITS_JOBS
    assert load_policy(None, work).decides(silent, class_of(silent, Request())) == "ask"


@pytest.mark.parametrize(("text", "said"), [
    ("deny: [campain_run]", "no such verb or safety class: campain_run"),
    ("alow: []", "unknown key 'alow'"),
    ("budget_minutes: -1", "budget_minutes"),
    ("folders: [here]", "not an absolute path: here"),
    ("python: [python3]", "not an absolute path: python3"),
    ("[", "not YAML"),
    ("- a", "a key is not text|not YAML|argument after"),
])  # fmt: skip
def test_a_policy_that_cannot_be_meant_starts_nothing(own_policy: Make, text: str, said: str) -> None:
    with pytest.raises(WrongUse, match=said):
        own_policy(text)


def test_an_empty_file_is_the_default(own_policy: Make) -> None:
    assert own_policy("").file == own_policy("# nothing\n").file == type(own_policy("").file)()


def test_a_policy_that_others_may_write_is_refused(work: Path) -> None:
    for mode in (0o620, 0o602):
        path = policy_file(work, "")
        path.chmod(mode)
        with pytest.raises(WrongUse, match="others may write it"):
            load_policy(str(path), work)


def test_a_policy_that_others_may_replace_is_refused(work: Path) -> None:
    path = policy_file(work, "")
    path.parent.chmod(0o777)
    with pytest.raises(WrongUse, match="others may replace it"):
        load_policy(str(path), work)
    path.parent.chmod(0o1777)
    load_policy(str(path), work)


def test_a_policy_behind_a_link_is_refused(work: Path) -> None:
    link = work.parent / "link.yaml"
    link.symlink_to(policy_file(work, ""))
    with pytest.raises(WrongUse, match="a link"):
        load_policy(str(link), work)


def test_a_policy_within_reach_of_a_tool_is_refused(work: Path) -> None:
    inside = work / "p.yaml"
    inside.write_text("")
    inside.chmod(0o600)
    with pytest.raises(WrongUse, match="tools may write to"):
        load_policy(str(inside), work)
    path = policy_file(work, "")
    path.write_text(f"folders: [{path.parent}]")
    with pytest.raises(WrongUse, match="tools may write to"):
        load_policy(str(path), work)


def test_nor_may_the_place_of_the_default_one_be_within_reach_before_it_is_there(work: Path) -> None:
    with pytest.raises(WrongUse, match="tools may write to"):
        load_policy(None, default_file().parent.parent.parent)


@pytest.mark.parametrize("wide", ["/", os.path.expanduser("~")])
def test_a_workspace_that_is_everything_is_refused(work: Path, wide: str) -> None:
    with pytest.raises(WrongUse, match="anywhere"):
        load_policy(None, Path(wide))


def test_the_default_file_is_read_when_it_is_there(work: Path) -> None:
    default_file().parent.mkdir(parents=True, mode=0o700)
    default_file().write_text("deny: [read_only]")
    default_file().chmod(0o600)
    policy = load_policy(None, work)
    assert policy.decides(of(Safety.READ_ONLY), Safety.READ_ONLY) == "deny" and policy.source == str(default_file())


def test_a_python_is_known_by_its_own_path_not_by_what_it_links_to(work: Path, own_policy: Make) -> None:
    for name in ("a", "b"):
        (work.parent / name).mkdir()
        (work.parent / name / "python").symlink_to("/usr/bin/env")
    policy = own_policy(f"python: [{work.parent}/a/python]")
    assert policy.runs_python(work.parent / "a/python") and policy.runs_python(work / "../a/python")
    assert not policy.runs_python(work.parent / "b/python") and not policy.runs_python(Path("/usr/bin/env"))
