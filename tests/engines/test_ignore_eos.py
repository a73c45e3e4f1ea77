"""Every answer is as long as was asked, in the words that each server understands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from profile_and_optimize.clients.base import LoadRequest
from profile_and_optimize.clients.external import refuse_unlike
from profile_and_optimize.clients.payload import request_bytes
from profile_and_optimize.clients.target import parse_target
from profile_and_optimize.clients.wire import read_load, write_load
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.engines.base import IGNORE_EOS
from profile_and_optimize.engines.transformers_serve import IGNORE_EOS as BY_CONFIG


def load(**change: object) -> LoadRequest:
    return LoadRequest("http://127.0.0.1:1", "m", "chat", ("p",), 8, 1, **change)  # type: ignore[arg-type]


def body(asked: LoadRequest) -> dict[str, object]:
    (sent,) = request_bytes(asked, parse_target(asked.url))
    return dict(json.loads(sent.partition(b"\r\n\r\n")[2]))


def test_the_usual_word_is_sent_unless_a_server_has_its_own() -> None:
    assert body(load())["ignore_eos"] is True
    own = body(load(ignore_eos_fields=BY_CONFIG))
    assert "ignore_eos" not in own and json.loads(str(own["generation_config"])) == {"eos_token_id": -1}
    assert not {"ignore_eos", "generation_config"} & set(body(load(ignore_eos=False, ignore_eos_fields=BY_CONFIG)))


@pytest.mark.parametrize("fields", [IGNORE_EOS, BY_CONFIG])
def test_it_reaches_the_process_that_sends(tmp_path: Path, fields: tuple[tuple[str, str | int | bool], ...]) -> None:
    asked = load(ignore_eos_fields=fields)
    assert read_load(tmp_path / "load.json", write_load(tmp_path / "load.json", asked)) == asked


def test_a_client_that_cannot_send_it_is_refused_and_not_let_answer_short() -> None:
    refuse_unlike(load(), "aiperf")
    with pytest.raises(WrongUse, match="ignore_eos"):
        refuse_unlike(load(ignore_eos_fields=BY_CONFIG), "aiperf")
