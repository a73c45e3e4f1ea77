"""The environment variables that we read: one table, which docs/environment.md shows and a test holds against the code."""

from __future__ import annotations

from collections.abc import Mapping

OURS = {
    "PAO_CAMPAIGNS_DIR": "folder of the runs, where `--campaigns-dir` is not given; default: `./campaigns`",
    "PAO_TOOLS_DIR": "folder of the tool environments (`pao tools`); default: `profile-and-optimize/tools` in the user's data folder",
    "PAO_DATA_DIR": "folder of data sets that were fetched; default: `profile-and-optimize/data` in the user's data folder",
    "PAO_CALIBRATIONS_DIR": "folder of `pao calibrate`'s results; default: `profile-and-optimize/calibrations` in the user's data folder",
    "PAO_QUIET_WAIT_S": "most seconds to wait for a quiet machine before a session; `0` never waits",
    "PAO_NO_PLUGINS": "`1` ignores the plugins of other packages",
    "PAO_TORCH_INDEX": "package index that torch is installed from by `pao tools install`",
    "PAO_MCP_TOKEN": "bearer token of `pao mcp serve --http`; default: one is made and shown",
    "PAO_COMPLETE": "set by the script of `pao completion` for the call that one Tab makes",
    "PAO_I_UNDERSTAND_THIS_SUBMITS_JOBS": "`yes` lets the script of a quantization bundle start (`pao quantize --render-only`)",
    "PAO_INSTALL": "`1` lets the script of a bundle install the pinned packages first",
    "PAO_PTQ_PYTHON": "Python that the script of a bundle runs",
    "PAO_JOB": "job file that the script of a bundle reads; default: the one beside it",
    "PAO_CLIENT_KEY": "set for aiperf's process: the key of the endpoint, which then stands in no file",
    "PAO_STREAM_TEST_SLOW_MS": "for tests of the load generator: every request is sent this late",
}
# What ours were called before.
OLD = {"PERFREPORT_CAMPAIGNS_DIR": "PAO_CAMPAIGNS_DIR"}
OTHERS = {
    "OPENAI_API_KEY": "key of the endpoints that are measured; it is written into no run",
    "HF_TOKEN": "token for gated models and data sets of the Hugging Face hub",
    "HF_ENDPOINT": "another address of the hub",
    "XDG_DATA_HOME": "the user's data folder; default: `~/.local/share`",
    "XDG_CONFIG_HOME": "folder of the MCP policy file; default: `~/.config`",
    "XDG_CACHE_HOME": "folder of MCP answers that were too long; default: `~/.cache`",
    "CODEX_HOME": "folder of Codex's configuration, for `pao mcp install --client codex`; default: `~/.codex`",
    "HTTPS_PROXY, ALL_PROXY": "proxy for downloads (lower case too); never for requests that are measured",
}


def value(name: str, environ: Mapping[str, str]) -> str:
    """What one of our variables holds, under its name or its old one; "" where it is not set."""
    assert name in OURS, name
    return next((environ[n] for n in (name, *(old for old, new in OLD.items() if new == name)) if environ.get(n)), "")


def page() -> str:
    """docs/environment.md."""
    old = [f"| `{was}` | the old name of `{now}`, still read |" for was, now in OLD.items()]
    return "\n".join([
        "# Environment variables", "",
        "Written by `pao reference --write docs/reference`; a test compares. An option takes precedence over a variable.", "",
        "| ours | |", "|---|---|", *(f"| `{name}` | {says} |" for name, says in OURS.items()), *old, "",
        "| of others | |", "|---|---|", *(f"| `{name}` | {says} |" for name, says in OTHERS.items()), "",
    ])  # fmt: skip
