"""Flags come from the option lines of the installed tool's own help, once per version."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from profile_and_optimize.core.errors import BrokeMidway
from profile_and_optimize.toolenv.find import ToolEnv
from profile_and_optimize.toolenv.flags import flags_of, parse_flags

# Lines of `vllm serve --help=all`, 0.32.0.
HELP = """\
usage: vllm serve [model_tag] [options]

Search by using: `--help=<ConfigGroup>` to explore options by section (e.g.,
--help=ModelConfig, --help=Frontend)

options:
  --api-server-count API_SERVER_COUNT, -asc API_SERVER_COUNT
                        How many API server processes to run.
  --enable-log-requests, --no-enable-log-requests
                        - INFO: Request ID, parameters and LoRA request.
  --grpc                Launch the gRPC server on --port instead. Cannot be combined
                        with --grpc-port, which enables the Rust frontend's
  -h, --help            show this help message and exit

When passing JSON CLI arguments, the following sets of arguments are equivalent:
   --json-arg '{"key1": "value1", "key2": {"key3": "value2"}}'
"""
KNOWN = {"--api-server-count", "--enable-log-requests", "--no-enable-log-requests", "--grpc", "--help"}


class Help:
    """A child that prints a help and counts how often it was asked."""

    def __init__(self, text: str) -> None:
        self.text, self.asked = text, 0

    def __call__(self, argv: Sequence[str], *, env: Mapping[str, str], on_line: Callable[[str], None]) -> int:
        self.asked += 1
        for line in self.text.splitlines():
            on_line(line)
        return 0


def user_env(version: str) -> ToolEnv:
    return ToolEnv("vllm", Path("/somewhere/bin/python"), (("vllm", version),), None, None, "user")


def test_names_in_help_text_and_examples_are_no_flags() -> None:
    assert parse_flags(HELP.splitlines()) == KNOWN


def test_flags_are_read_once_per_version(tmp_path: Path) -> None:
    child = Help(HELP)
    assert flags_of(user_env("1"), root=tmp_path, child=child) == KNOWN
    assert flags_of(user_env("1"), root=tmp_path, child=child) == KNOWN
    assert child.asked == 1
    flags_of(user_env("2"), root=tmp_path, child=child)
    assert child.asked == 2


CLICK = """\
Usage: transformers serve [OPTIONS] [FORCE_MODEL]

Options:
  --continuous-batching / --no-continuous-batching
                                  Configure with --cb-* flags.
  --cb-block-size INTEGER         KV cache block size.
"""


def test_each_engine_is_asked_in_its_own_way_and_without_boxes(tmp_path: Path) -> None:
    seen: list[tuple[list[str], str | None, str | None]] = []

    def child(argv: Sequence[str], *, env: Mapping[str, str], on_line: Callable[[str], None]) -> int:
        seen.append((list(argv[1:]), env.get("TYPER_USE_RICH"), env.get("SGLANG_USE_CPU_ENGINE")))
        for line in CLICK.splitlines():
            on_line(line)
        return 0

    for torch, on_cpu in (("2.13.0+cpu", "1"), ("2.14.1", None)):
        versions = (("transformers", "5.19.0"), ("sglang", "0.5.23"), ("torch", torch))
        for tool in ("transformers", "sglang"):
            env = ToolEnv(tool, Path("/e/bin/python"), versions, None, None, "user")
            found = flags_of(env, root=tmp_path / f"{tool}{on_cpu}", child=child)
            assert found == {"--continuous-batching", "--no-continuous-batching", "--cb-block-size"}
        assert seen[-2] == (["-m", "transformers.cli.transformers", "serve", "--help"], "0", None)
        assert seen[-1] == (["-m", "sglang.launch_server", "--help"], "0", on_cpu)


def test_a_broken_cache_is_read_anew(tmp_path: Path) -> None:
    flags_of(user_env("1"), root=tmp_path, child=Help(HELP))
    next((tmp_path / "flags").glob("*.json")).write_text('{"flags": []')
    assert flags_of(user_env("1"), root=tmp_path, child=Help(HELP)) == KNOWN


def test_a_help_without_options_is_an_error_and_not_an_empty_answer(tmp_path: Path) -> None:
    with pytest.raises(BrokeMidway, match="named no options"):
        flags_of(user_env("1"), root=tmp_path, child=Help("usage: nothing"))
