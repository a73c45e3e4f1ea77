"""The model as lm-eval sees it: requests to one OpenAI server, several at a time, every one of them answered or said."""

from __future__ import annotations

import hashlib
import json
import os
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from told import NoAnswer, Refused, tell

MOST_BYTES = 64 << 20
WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0)  # before each further try of a request
GIVE_UP_AFTER = 8  # requests of a task without an answer: the server is gone
CHAT_STOPS = 4  # the OpenAI API takes no more; the rest is cut here
DEFAULT_TOKENS = 256  # lm-eval's own


class Wire:
    """POSTs to the one server of the job: past any proxy, no redirect followed, answers bounded in size and time."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.url, self.timeout_s = job["url"], job["timeout_s"]
        self.local = threading.local()

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Raises NoAnswer: at once where the server refuses the request, after every try where it is away or busy."""
        why = ""
        for wait in (*WAITS_S, None):
            status, text = self._once(path, body)
            if status == 200:
                return as_object(text)
            why = f"POST {path} answered {status}: {text[:200]}" if status else text
            if wait is None or (status and status < 500 and status not in (408, 425, 429)):
                break
            time.sleep(wait)
        raise NoAnswer(why)

    def _once(self, path: str, body: dict[str, Any]) -> tuple[int, str]:
        import requests

        session = getattr(self.local, "session", None)
        if session is None:
            session = self.local.session = requests.Session()
            session.trust_env = False
            session.verify = (
                ssl.get_default_verify_paths().cafile or True
            )  # the system's authorities, as our other calls
        key = os.environ.get("OPENAI_API_KEY")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            with session.post(
                self.url + path, json=body, headers=headers, timeout=self.timeout_s, allow_redirects=False, stream=True
            ) as answer:
                return answer.status_code, bounded(answer, time.monotonic() + self.timeout_s)
        except (requests.RequestException, ValueError) as e:
            why = "it takes no connection" if isinstance(e, requests.ConnectionError) else str(e)[:200]
            return 0, f"POST {path}: {type(e).__name__}: {why}"


def bounded(answer: Any, until: float) -> str:
    data = b""
    for piece in answer.iter_content(1 << 16):
        data += piece
        if len(data) > MOST_BYTES or time.monotonic() > until:
            raise ValueError("an answer that does not end")
    return data.decode(errors="replace")


def as_object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise NoAnswer(f"not a completion: {text[:100]}")
    return found


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


def endpoint_class() -> Any:
    """The model as lm-eval sees it; made late, because its base class is lm-eval's."""
    from lm_eval.api.model import LM

    class Endpoint(LM):
        def __init__(self, job: dict[str, Any], name: str, sample: int) -> None:
            super().__init__()
            self.job, self.name, self.sample = job, name, sample
            self.chat = job["api"] == "chat"
            self.wire, self.cut = Wire(job), 0
            self.lock = threading.Lock()

        @property
        def tokenizer_name(self) -> str:
            return "the server's"

        def chat_template(self, chat_template: bool | str = False) -> str:
            return ""

        def apply_chat_template(self, chat_history: Any, add_generation_prompt: bool = True) -> str:
            return json.dumps([add_generation_prompt, chat_history], ensure_ascii=False)

        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
            return self._all([r.args for r in requests], self._generate)

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

            with ThreadPoolExecutor(self.job["concurrency"]) as pool:
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
            body = {"model": self.job["model"], "max_tokens": self._tokens(settings), **self._drawn(index)}
            if stops:
                body["stop"] = stops[:CHAT_STOPS]
            if self.chat:
                fresh, messages = json.loads(prompt)
                body["messages"] = messages
                if not fresh:  # the task has begun the answer itself
                    body |= {"add_generation_prompt": False, "continue_final_message": True}
                choice = first_choice(self.wire.post("/v1/chat/completions", body))
                text = (choice.get("message") or {}).get("content") or ""
            else:
                choice = first_choice(self.wire.post("/v1/completions", body | {"prompt": prompt}))
                text = choice.get("text") or ""
            if choice.get("finish_reason") == "length":
                with self.lock:
                    self.cut += 1
            for stop in stops:
                text = str(text).split(stop)[0]
            return str(text)

        def _tokens(self, settings: dict[str, Any]) -> int:
            own = settings.get("max_gen_toks") or settings.get("max_tokens") or DEFAULT_TOKENS
            return int(self.job["max_tokens"] or own)

        def _drawn(self, index: int) -> dict[str, Any]:
            """Greedy, or drawn with a seed of its own: the same one for every sample would draw the same answer."""
            if not self.job["temperature"]:
                return {"temperature": 0.0}
            text = f"{self.job['seed']}/{self.name}/{index}/{self.sample}"
            return {
                "temperature": self.job["temperature"],
                "seed": int(hashlib.sha256(text.encode()).hexdigest()[:7], 16),
            }

        def _likelihood(self, index: int, context: str, answer: str) -> tuple[float, bool]:
            """(log probability of the answer after the context, is it the greedy one), as vLLM and SGLang tell them."""
            blanks = len(context) - len(context.rstrip())
            if blanks:  # a blank belongs to the word after it
                context, answer = context[:-blanks], context[-blanks:] + answer
            whole, before = self._ids(context + answer), len(self._ids(context))
            body = {
                "model": self.job["model"],
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
                found = self.wire.post("/tokenize", {"model": self.job["model"], "prompt": text}).get("tokens")
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

    return Endpoint


def first_choice(answer: dict[str, Any]) -> dict[str, Any]:
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise NoAnswer(f"not a completion: {str(answer)[:100]}")
    return choices[0]
