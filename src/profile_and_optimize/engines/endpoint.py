"""An endpoint that somebody else runs: nothing is started or stopped, so restart variance stays unknown."""

from __future__ import annotations

import time

from profile_and_optimize.core.errors import Unreachable
from profile_and_optimize.engines.base import Command, Counters, Server, ServeSpec
from profile_and_optimize.engines.calls import Headers, get
from profile_and_optimize.engines.prometheus import scrape
from profile_and_optimize.engines.urls import checked_url


class EndpointEngine:
    """`headers` carry the user's authorization; they are sent and never written."""

    name = "endpoint"
    restarts = False

    def __init__(self, headers: Headers = ()) -> None:
        self.headers = headers

    def version(self) -> dict[str, str]:
        return {}

    def flags(self) -> frozenset[str] | None:
        return None

    def command(self, spec: ServeSpec) -> Command:
        return Command(())

    def start(self, spec: ServeSpec) -> Server:
        """Nothing is started: the endpoint must answer already. Raises Unreachable naming it."""
        url = checked_url(spec.arm.url)
        return Server(url=url, model=served_model(url, self.headers, spec.served_name or None), start_s=0.0)

    def observed(self, server: Server) -> dict[str, str]:
        seen = {"url": server.url, "served_model": server.model}
        try:
            answer = get(f"{server.url}/version", self.headers, timeout_s=5.0)
            if answer.status == 200:
                seen["engine_version"] = str(answer.json().get("version", ""))[:80]
        except (Unreachable, ValueError, AttributeError):
            pass
        return seen

    def counters(self, server: Server) -> Counters:
        return scrape(server.url, self.headers)

    def lost(self, server: Server) -> str:
        """It must refuse three times: one refusal may be a proxy's."""
        for last in (False, False, True):
            try:
                served_model(server.url, self.headers)
                return ""
            except Unreachable as e:
                if last:
                    return e.message
                time.sleep(1.0)
        return ""

    def stop(self, server: Server) -> None:
        return None


def served_model(url: str, headers: Headers = (), wanted: str | None = None) -> str:
    """The wanted model if the server lists it, else its first. Raises Unreachable when it refuses, redirects or lists other models."""
    try:
        answer = get(f"{url}/v1/models", headers)
    except Unreachable as e:
        raise Unreachable(
            f"cannot be reached: {e.message}", where=url, next="start the server or correct the URL"
        ) from e
    try:
        if answer.status != 200:
            raise Unreachable(
                f"GET /v1/models answered {answer.status}",
                where=url,
                next="check the URL; it is the root, without /v1",
            )
        listed = [str(m["id"]) for m in answer.json()["data"]]
        if wanted is not None and wanted not in listed:
            raise Unreachable(
                f"no model {wanted!r}; it serves {', '.join(m[:80] for m in listed[:5])}",
                where=url,
                next="correct --model",
            )
        return wanted or listed[0]
    except (ValueError, KeyError, IndexError, TypeError) as e:
        raise Unreachable(
            "its /v1/models is not an OpenAI model list",
            where=url,
            next="give the root of an OpenAI server, and --model",
        ) from e
