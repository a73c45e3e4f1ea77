"""The mock server as an engine, so that whole campaigns run on a machine without one, and say so."""

from __future__ import annotations

import sys

from profile_and_optimize import __version__
from profile_and_optimize.engines.base import Command, Counters, Server, ServeSpec
from profile_and_optimize.engines.mock.options import HELP
from profile_and_optimize.engines.process import Managed, require_free, wait_ready, why_lost
from profile_and_optimize.engines.prometheus import scrape


class MockEngine:
    name = "mock"
    restarts = True

    def version(self) -> dict[str, str]:
        return {"engine_version": f"mock {__version__}", "delivery": "mock: no model behind it"}

    def flags(self) -> frozenset[str] | None:
        return frozenset("--" + name.replace("_", "-") for name in HELP) | {"--port", "--model"}

    def command(self, spec: ServeSpec) -> Command:
        argv = (
            sys.executable, "-P", "-m", "profile_and_optimize.engines.mock.server", "--port", str(spec.port), "--model", spec.served_name,
            *spec.common_flags, *spec.arm.flags,
        )  # fmt: skip
        return Command(argv, (*spec.common_env, *spec.arm.env))

    def start(self, spec: ServeSpec) -> Server:
        require_free(spec.port)
        url = f"http://127.0.0.1:{spec.port}"
        managed = Managed(self.command(spec), spec.log, spec.cores)
        start_s = wait_ready(managed, f"{url}/health", spec.log, min(30.0, spec.start_timeout_s))
        return Server(url=url, model=spec.served_name, start_s=start_s, log=spec.log, pid=managed.pid, process=managed)

    def observed(self, server: Server) -> dict[str, str]:
        return {"served_model": server.model, "prefix_caching": "False"}

    def counters(self, server: Server) -> Counters:
        return scrape(server.url)

    def lost(self, server: Server) -> str:
        return why_lost(server.process, f"{server.url}/health", server.log)

    def stop(self, server: Server) -> None:
        server.process.stop()
