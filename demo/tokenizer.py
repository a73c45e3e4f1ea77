"""The demo tokenizer: ASCII, digits one by one, whole words, and no token that prints as nothing.

    python -m demo.tokenizer --out DIR

Benchmarks count streamed chunks. A token that decodes to "" (a special token, half a UTF-8 character) makes a chunk
vanish in some servers, so the chat markers are ordinary added tokens and there are no byte tokens. The end of a turn
is named in config.json alone: an `eos_token` in the tokenizer's own configuration would make it special again.
"""

import argparse
import json
import string
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models

from demo.words import whole_words

SYSTEM, USER, ASSISTANT, END = "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"
MARKERS = (SYSTEM, USER, ASSISTANT, END)
ALPHABET = [chr(code) for code in range(32, 127)] + ["\n"]
UNKNOWN = "?"  # whatever is not in the alphabet reads as this
MAX_LENGTH = 2048

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

# Log probabilities (the segmentation with the best sum wins): a word beats its spelling, " fox" beats " " + "fox".
WORD_SCORE, CHARACTER_SCORE = -2.0, -8.0


def build_tokenizer() -> Tokenizer:
    """The tokenizer, the same at every call. `" " + word` is one token for every word of `whole_words`."""
    words = whole_words()
    pieces = [(character, CHARACTER_SCORE) for character in ALPHABET]
    pieces += [(form, WORD_SCORE) for word in words for form in (word, " " + word)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=ALPHABET.index(UNKNOWN), byte_fallback=False))
    tokenizer.decoder = decoders.Fuse()  # without a decoder the library would put spaces between tokens
    tokenizer.add_tokens([AddedToken(marker, normalized=False, special=False) for marker in MARKERS])
    return tokenizer


def chat_prompt(question: str) -> str:
    """What the chat template makes of one user message with the generation prompt added."""
    return f"{USER}{question}{END}{ASSISTANT}"


def save_tokenizer(folder: Path) -> Tokenizer:
    """Writes tokenizer.json and tokenizer_config.json (with the chat template) into `folder`."""
    tokenizer = build_tokenizer()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": MAX_LENGTH,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    return tokenizer


def is_printable(text: str) -> bool:
    """Whether a token's text is something: not empty, ASCII, and free of control characters but the newline."""
    return bool(text) and all(character in string.printable for character in text)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the demo tokenizer.")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    tokenizer = save_tokenizer(arguments.out)
    print(f"{tokenizer.get_vocab_size()} tokens in {arguments.out}")


if __name__ == "__main__":
    main()
