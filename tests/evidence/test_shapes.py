"""Credentials by their words and by their looks: those of the list in bench/ are taken out, and what looks alike stays."""

from __future__ import annotations

import base64
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.secret_names import Says, says
from profile_and_optimize.evidence.folder import new_run_id
from profile_and_optimize.evidence.redact import known_secrets, redact, starred


def _lists() -> Any:
    spec = importlib.util.spec_from_file_location(
        "lists", Path(__file__).parents[2] / "bench/code_and_secrets_lists.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LISTS = _lists()


@pytest.mark.parametrize(
    ("text", "secret"), [(t, s) for _, t, s in LISTS.CREDENTIALS], ids=[n for n, _, _ in LISTS.CREDENTIALS]
)
def test_a_credential_is_taken_out_alone_in_a_sentence_and_in_json(text: str, secret: str) -> None:
    for whole in (text, f"ERROR 12: {text} was refused", json.dumps({"error": {"message": text}})):
        assert secret[:12] not in redact(whole) and secret[:12] not in starred(whole)
        assert len(starred(whole)) == len(whole) and redact(redact(whole)) == redact(whole)


@pytest.mark.parametrize("text", LISTS.HARMLESS_TEXTS)
def test_what_only_looks_alike_is_kept(text: str) -> None:
    assert redact(text) == text == starred(text)


def test_stars_leave_json_and_line_breaks_as_they_are() -> None:
    pem = "-----BEGIN PRIVATE KEY-----\nMIIE1234\n-----END PRIVATE KEY-----"
    assert json.loads(starred(json.dumps({"pem": pem, "n": 3}))) == {"pem": "*" * (len(pem) + 2), "n": 3}
    assert [len(line) for line in starred(pem).split("\n")] == [len(line) for line in pem.split("\n")]


SURELY = "password PGPASSWORD dbPassword passwd pwd tkn MY_TKN apikey api_key x-api-key AccountKey client_secret creds GITHUB_TOKEN"
MAYBE = "pass DB_PASS userpass pat GITHUB_PAT auth AUTH_HEADER basicAuth token cred sig jwt"
NOTHING = (
    "compass bypass author authentic monkey keyboard key primary_key cache_key max_tokens tokenizer pad_token_id eos_token first_token "
    "pattern path passed passes forward_pass pass_config signal secretary accredited TOKENIZERS_PARALLELISM"
)


@pytest.mark.parametrize(("names", "told"), [(SURELY, Says.SURELY), (MAYBE, Says.MAYBE), (NOTHING, Says.NOTHING)])
def test_a_name_says_by_its_words(names: str, told: Says) -> None:
    assert {n: says(n) for n in names.split()} == dict.fromkeys(names.split(), told)


def test_no_run_is_named_after_a_credential() -> None:
    assert new_run_id("nightly", 0.0) == "19700101T000000Z-nightly"
    for name in ("ghp_Zx9Qw7Er5Ty3Ui1O", "DB_PASS=Zx9Qw7Er5"):
        with pytest.raises(WrongUse, match="looks like a credential"):
            new_run_id(name, 0.0)


def test_our_own_credential_is_found_within_base64_whatever_stands_before_it() -> None:
    """Of "u:" + s, "us:" + s and "use:" + s: the letters shift with every byte before."""
    value = "plantedPlanted0123"
    secrets = known_secrets({"MY_TKN": value})
    for before in ("u:", "us:", "use:"):
        text = base64.b64encode(f"{before}{value}".encode()).decode()
        assert text[8:20] not in redact(f"sent {text} there", secrets)


def test_the_folder_of_a_shell_is_no_password() -> None:
    folder = "/home/me/my-project-2"
    env = {"PWD": folder, "OLDPWD": folder, "GIT_ASKPASS": "/usr/lib/git/askpass", "DB_PWD": "s3cr3t-of-mine"}
    assert "s3cr3t-of-mine" in known_secrets(env)
    assert (
        redact(f"Model: {folder}/demo, /usr/lib/git/askpass", known_secrets(env))
        == f"Model: {folder}/demo, /usr/lib/git/askpass"
    )
