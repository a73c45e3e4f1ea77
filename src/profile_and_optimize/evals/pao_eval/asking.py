"""The model as lm-eval sees it: requests to one OpenAI server, several at a time, every one of them answered or said."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import new_class
from typing import Any

from .ending import CUT, ended
from .job import Job
from .sampling import Pins, settle, wanted
from .told import NoAnswer, Refused, tell
from .wire import Wire

GIVE_UP_AFTER = 8  # requests of a task without an answer: the server is gone
CHAT_STOPS = 4  # the OpenAI API takes no more; the rest is cut here
DEFAULT_TOKENS = 256  # lm-eval's own


class Said(str):
    """The text of an answer, with how it ended. lm-eval hands answers through as they are."""

    finish: str

    def __new__(cls, text: str, finish: str = "") -> Said:
        made = super().__new__(cls, text)
        made.finish = finish
        return made


class Pinning:
    """What the job's server takes of the pinned sampling: asked with its first question, before that is asked for its answer."""

    def __init__(self, job: Job, wire: Wire) -> None:
        self.job, self.wire = job, wire
        self.found: Pins | None = None

    def settle(self, path: str, body: dict[str, Any]) -> None:
        """Raises NoAnswer where the server is away, or answers this request in no form."""

        def status(more: dict[str, Any]) -> int:
            if (found := self.wire.status(path, body | {"max_tokens": 1} | more)) == 0:
                raise NoAnswer(self.wire.last)
            return found

        if self.found is None:
            self.found = settle(status, wanted(self.job.temperature, self.job.seed))
        if self.found is None:
            raise NoAnswer(self.wire.last)

    def body(self) -> dict[str, Any]:
        assert self.found is not None
        return dict(self.found.body())


class Progress:
    """A line at most once a second."""

    def __init__(self, stage: str, of: int) -> None:
        self.stage, self.of, self.done = stage, of, 0
        self.began = self.told = time.monotonic()
        self.lock = threading.Lock()

    def step(self) -> None:
        with self.lock:
            self.done += 1
            now = time.monotonic()
            if now - self.told >= 1.0 or self.done == self.of:
                self.told = now
                left = (now - self.began) / self.done * (self.of - self.done)
                tell(stage=self.stage, done=self.done, of=self.of, left_s=round(left))


class Endpoint:
    """The model as lm-eval sees it; `served` joins it with lm-eval's own base class."""

    def __init__(self, job: Job, pinning: Pinning, name: str, sample: int) -> None:
        super().__init__()
        self.job, self.name, self.sample = job, name, sample
        self.chat = job.api == "chat"
        self.pinning, self.wire = pinning, pinning.wire

    @property
    def tokenizer_name(self) -> str:
        return "the server's"

    def chat_template(self, chat_template: bool | str = False) -> str:
        return ""

    def apply_chat_template(self, chat_history: Any, add_generation_prompt: bool = True) -> str:
        return json.dumps([add_generation_prompt, chat_history], ensure_ascii=False)

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        asked = [r.args for r in requests]
        if asked:
            try:
                self.pinning.settle(*self._request(asked[0][0]))
            except NoAnswer as e:
                raise Refused("unanswered", f"the first question got no answer: {e}", "read the server's log") from e
        return self._all(asked, self._generate)

    def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        if self.chat:
            raise Refused(
                "needs_logprobs", f"{self.name} compares the probabilities of given answers, which the chat API does not tell",
                "leave out --chat, or take a task whose answers are generated",
            )  # fmt: skip
        return self._all([r.args for r in requests], self._likelihood)

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
        raise Refused("kind", f"{self.name} gives no score per question", "a task of questions")

    def _all(self, asked: list[Any], one: Any) -> list[Any]:
        """Every request answered, in order. A question without an answer would be a question scored wrong."""
        progress = Progress(self.name, len(asked))
        missing: list[str] = []

        def safe(index: int) -> Any:
            if len(missing) >= GIVE_UP_AFTER:
                return None
            try:
                return one(index, *asked[index])
            except NoAnswer as e:
                missing.append(str(e))
                return None
            finally:
                progress.step()

        with ThreadPoolExecutor(self.job.concurrency) as pool:
            found = list(pool.map(safe, range(len(asked))))
        if missing:
            more = f"{len(missing)} or more" if len(missing) >= GIVE_UP_AFTER else str(len(missing))
            raise Refused(
                "unanswered",
                f"{more} of {len(asked)} requests got no answer: {missing[0]}",
                "read the server's log",
            )
        return found

    def _generate(self, index: int, prompt: str, settings: dict[str, Any]) -> str:
        stops = settings.get("until") or []
        stops = [s for s in ([stops] if isinstance(stops, str) else stops) if s]
        limit = self._tokens(settings)
        path, body = self._request(prompt)
        body |= {"max_tokens": limit, **self._drawn(index), **({"stop": stops[:CHAT_STOPS]} if stops else {})}
        answer = self.wire.post(path, body)
        choice = first_choice(answer)
        text = (choice.get("message") or {}).get("content") if self.chat else choice.get("text")
        return stopped(str(text or ""), stops, answer, limit)

    def _request(self, prompt: str) -> tuple[str, dict[str, Any]]:
        if not self.chat:
            return "/v1/completions", {"model": self.job.model, "prompt": prompt}
        fresh, messages = json.loads(prompt)
        # Not fresh: the task has begun the answer itself.
        begun = {} if fresh else {"add_generation_prompt": False, "continue_final_message": True}
        return "/v1/chat/completions", {"model": self.job.model, "messages": messages, **begun}

    def _tokens(self, settings: dict[str, Any]) -> int:
        own = settings.get("max_gen_toks") or settings.get("max_tokens") or DEFAULT_TOKENS
        return int(self.job.max_tokens or own)

    def _drawn(self, index: int) -> dict[str, Any]:
        """The pinned sampling; where answers are drawn, with a seed of its own: the same one for every sample would draw the
        same answer."""
        body: dict[str, Any] = self.pinning.body()
        if self.job.temperature and "seed" in body:
            text = f"{self.job.seed}/{self.name}/{index}/{self.sample}"
            body["seed"] = int(hashlib.sha256(text.encode()).hexdigest()[:7], 16)
        return body

    def _likelihood(self, index: int, context: str, answer: str) -> tuple[float, bool]:
        """(log probability of the answer after the context, is it the greedy one), as vLLM and SGLang tell them."""
        blanks = len(context) - len(context.rstrip())
        if blanks:  # a blank belongs to the word after it
            context, answer = context[:-blanks], context[-blanks:] + answer
        whole, before = self._ids(context + answer), len(self._ids(context))
        body = {
            "model": self.job.model,
            "prompt": whole,
            "max_tokens": 1,
            "temperature": 0.0,
            "logprobs": 1,
            "echo": True,
        }
        told = first_choice(self.wire.post("/v1/completions", body)).get("logprobs") or {}
        chances, tops = told.get("token_logprobs"), told.get("top_logprobs")
        if not isinstance(chances, list) or not isinstance(tops, list) or len(chances) < len(whole) or before < 1:
            raise self._lacking("it does not tell the log probabilities of a prompt")
        mine, best = chances[before : len(whole)], tops[before : len(whole)]
        if not mine or None in mine:
            raise NoAnswer("no token of the answer has a log probability")
        greedy = all(chance >= max(top.values()) for chance, top in zip(mine, best, strict=True) if top)
        return sum(mine), greedy

    def _ids(self, text: str) -> list[int]:
        try:
            found = self.wire.post("/tokenize", {"model": self.job.model, "prompt": text}).get("tokens")
        except NoAnswer as e:
            raise self._lacking(str(e)) from e
        if not isinstance(found, list):
            raise self._lacking("its /tokenize gives no tokens")
        return found

    def _lacking(self, why: str) -> Refused:
        return Refused(
            "needs_logprobs", f"{self.name} compares the probabilities of given answers, which this server cannot tell: {why}",
            "serve it with vLLM, or take a task whose answers are generated",
        )  # fmt: skip


def served(job: Job, pinning: Pinning, name: str, sample: int) -> Any:
    """Made late: the base class is lm-eval's."""
    from lm_eval.api.model import LM

    return new_class("Served", (Endpoint, LM))(job, pinning, name, sample)


def stopped(text: str, stops: list[str], answer: dict[str, Any], limit: int) -> Said:
    """The text up to its stop. An answer that came to one was whole, whatever went on behind it."""
    usage = answer.get("usage")
    finish = ended(
        first_choice(answer).get("finish_reason"),
        usage.get("completion_tokens") if isinstance(usage, dict) else None,
        limit,
    )
    whole = text
    for stop in stops:
        text = text.split(stop)[0]
    return Said(text, "stop" if finish == CUT and text != whole else finish)


def first_choice(answer: dict[str, Any]) -> dict[str, Any]:
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise NoAnswer(f"not a completion: {str(answer)[:100]}")
    return choices[0]
