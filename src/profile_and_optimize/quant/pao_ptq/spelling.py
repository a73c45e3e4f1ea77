"""From documents to token ids, with the model's own tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .corpus import Document
from .job import Asked
from .stop import Stop


@dataclass
class Speller:
    """Turns documents into token ids: `encode` takes texts, `render` a conversation, None where plain text is wanted."""

    encode: Callable[[list[str]], list[list[int]]]
    render: Callable[[tuple[tuple[str, str], ...]], str] | None

    def ids(self, documents: list[Document]) -> list[list[int]]:
        texts, places = [], []
        out: list[list[int]] = [[] for _ in documents]
        for i, doc in enumerate(documents):
            if isinstance(doc, tuple) and doc and isinstance(doc[0], int):
                out[i] = [int(t) for t in doc]
            else:
                texts.append(self.text(doc))
                places.append(i)
        for i, ids in zip(places, self.encode(texts) if texts else [], strict=True):
            out[i] = ids
        return out

    def text(self, doc: Document) -> str:
        if isinstance(doc, str):
            if self.render is not None:
                raise Stop(
                    "wrong_use", "an entry of plain text has no turns for the chat template", where="--chat",
                    next='leave --chat out, or give {"messages": [...]} or {"question": ..., "answer": ...}',
                )  # fmt: skip
            return doc
        said: tuple[tuple[str, str], ...] = doc  # type: ignore[assignment]
        return self.render(said) if self.render else "\n".join(text for _, text in said)


def speller_of(job: Asked) -> Speller:
    """With the model's tokenizer. Raises Stop for a folder without one, and for a chat without a template."""
    base, chat = job.base, bool(job.calibration.chat)
    if (base / "tokenizer.json").is_file() and not chat:
        from tokenizers import Tokenizer

        fast = Tokenizer.from_file(str(base / "tokenizer.json"))
        fast.no_truncation()
        fast.no_padding()
        return Speller(lambda texts: [e.ids for e in fast.encode_batch(texts)], None)
    try:
        import transformers
    except ImportError as error:
        raise Stop(
            "wrong_use",
            "this tokenizer, or --chat, wants transformers",
            where=str(base),
            next="run it in the ptq environment",
        ) from error
    slow = transformers.AutoTokenizer.from_pretrained(base, trust_remote_code=job.trust_remote_code)
    if chat and not slow.chat_template:
        raise Stop("wrong_use", "this model has no chat template", where=str(base), next="leave --chat out")

    def render(said: tuple[tuple[str, str], ...]) -> str:
        messages = [{"role": role, "content": text} for role, text in said]
        return str(slow.apply_chat_template(messages, tokenize=False))

    def encode(texts: list[str]) -> list[list[int]]:
        # A template writes its own control tokens.
        return [list(ids) for ids in slow(texts, add_special_tokens=not chat)["input_ids"]]

    return Speller(encode, render if chat else None)
