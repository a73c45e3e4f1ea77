"""Every error ends with what to do next, whether or not the place that raised it knew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from profile_and_optimize.cli import command
from profile_and_optimize.cli.main import run as pao
from profile_and_optimize.core import errors
from profile_and_optimize.core.errors import PaoError, WrongUse
from profile_and_optimize.ops.base import Result, all_ops, envelope

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PaoError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_an_error_without_a_next_command_gets_one_in_text_and_in_json(
    kind: type[PaoError], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.failed("verify", kind("what"), False) == kind.exit_code
    line = capsys.readouterr().err.strip()
    assert "error: what -- next: " in line and not line.endswith("next:")
    assert envelope("verify", None, kind("what"))["error"]["next"]
    assert envelope("verify", Result({}, "", (), kind("what")), None)["error"]["next"]


def test_wrong_use_of_a_verb_leads_to_its_help_and_its_own_advice_is_kept() -> None:
    for verb in all_ops():
        assert envelope(verb, None, WrongUse("what"))["error"]["next"] == f"pao {verb} --help"
    assert envelope("ab", None, WrongUse("what", next="this"))["error"]["next"] == "this"


@pytest.mark.parametrize(("text", "then"), [
    ("name: x\nmodel: mock\nengine: mock\nworkloads: [{name: w, isl: 16, osl: 4}]\nconcurrencies: [2]\ncells: [{cell_id: a, role: aa}]\n",
     "correct c.yaml; docs/campaign.md lists its keys"),
    ("name: [", "correct the file"),
])  # fmt: skip
def test_a_campaign_file_that_cannot_be_leads_back_to_the_file(
    text: str, then: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(text)
    assert pao(["campaign_init", "--config", "c.yaml", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["next"] == then
