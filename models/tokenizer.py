"""A base's tokenizer as its `tokenizer.json` has it, with its chat template. No torch: a gateway that only asks engines needs none.

Training, evaluation and serving read it here. It offers what models.chat.Chat needs of a tokenizer, in transformers' words.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from feedback.records import Message
from models.bases import Base, chat_template
from models.chat import Chat
from models.errors import JobFailed
from models.template import Template

_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_LISTED = ("additional_special_tokens", "extra_special_tokens")


def load_chat(base: Base, date: str | None = None) -> Chat:
    """The base's tokenizer with its chat template, which says that it is `date` (YYYY-MM-DD; None: today).

    Raises JobFailed where it can't be read.
    """
    return Chat(Tokenizer(Path(base.path)), date)


class Tokenizer:
    """The tokenizer in the directory `path`. Any thread may call."""

    is_fast = True

    def __init__(self, path: Path) -> None:
        """Raises JobFailed where it can't be read."""
        self.chat_template = chat_template(path)
        config = _json(path / "special_tokens_map.json") | _json(path / "tokenizer_config.json")
        self.special_tokens_map = {name: _text(config[name]) for name in _NAMED if config.get(name) is not None}
        # two of them: whether special tokens are found in a text is a state of the backend, which threads would share
        self._marked, self._plain = (_backend(path, config, self.special_tokens_map) for _ in range(2))
        self._plain.encode_special_tokens = True
        try:
            self._template = Template(self.chat_template or "")
        except jinja2.TemplateError as error:
            raise JobFailed(f"the chat template of the base model {path} can't be read: {error}") from None
        added = self._marked.get_added_tokens_decoder()
        self.all_special_tokens = [token.content for token in added.values() if token.special]
        self.all_special_ids = [number for number, token in added.items() if token.special]
        self._added = {token.content: number for number, token in added.items()}

    @property
    def eos_token_id(self) -> int | None:
        """What ends a sequence."""
        return self._id("eos_token")

    @property
    def pad_token_id(self) -> int | None:
        """What fills up a row."""
        return self._id("pad_token")

    def get_vocab(self) -> dict[str, int]:
        """Every token and its id."""
        return self._marked.get_vocab()

    def get_added_vocab(self) -> dict[str, int]:
        """The tokens that are found in a text before it is split into words, and their ids."""
        return self._added

    def apply_chat_template(
        self,
        messages: Sequence[Message],
        *,
        tokenize: bool = False,
        add_generation_prompt: bool = False,
        **variables: Any,
    ) -> str:
        """The conversation as text. Raises as models.template.Template.rendered."""
        assert not tokenize, "text and markers are tokenised apart: models.chat.Chat"
        given = {"messages": messages, "tools": None, "documents": None, "add_generation_prompt": add_generation_prompt}
        now = variables.pop("strftime_now", None)
        day = None if now is None else now("%Y-%m-%d")
        return self._template.rendered(given | self.special_tokens_map | variables, day)

    def __call__(
        self, text: str, *, add_special_tokens: bool = False, split_special_tokens: bool = False
    ) -> dict[str, list[int]]:
        """Ids of a text, in which special tokens are found or (`split_special_tokens`) are text like any other."""
        backend = self._plain if split_special_tokens else self._marked
        # a batch of one, since `encode` keeps the interpreter to itself until a long text is through
        return {"input_ids": backend.encode_batch_fast([text], add_special_tokens=add_special_tokens)[0].ids}

    def decode(
        self, ids: Sequence[int], *, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool = False
    ) -> str:
        """Text of these ids."""
        assert not clean_up_tokenization_spaces, "what was said is told as it was said"
        return self._marked.decode(list(ids), skip_special_tokens=skip_special_tokens)

    def _id(self, name: str) -> int | None:
        token = self.special_tokens_map.get(name)
        return None if token is None else self._marked.token_to_id(token)


def _backend(path: Path, config: dict[str, Any], named: dict[str, str]) -> Backend:
    try:
        backend = Backend.from_file(str(path / "tokenizer.json"))
    except Exception as error:  # the library raises nothing more special
        raise JobFailed(
            f"the tokenizer of the base model {path} can't be read ({error}): restore tokenizer.json"
        ) from None
    backend.no_truncation()
    backend.no_padding()
    for _, token in sorted(config.get("added_tokens_decoder", {}).items(), key=lambda item: int(item[0])):
        if backend.token_to_id(_text(token)) is None:
            backend.add_tokens([AddedToken(**token)])
    listed = [token for name in _LISTED for token in _listed(config.get(name))]
    special = {token.content for token in backend.get_added_tokens_decoder().values() if token.special}
    backend.add_special_tokens([token for token in dict.fromkeys([*named.values(), *listed]) if token not in special])
    return backend


def _listed(value: Any) -> list[str]:
    """Of special tokens without a name: a list of them, or by a name of the model's own."""
    return [_text(token) for token in (value.values() if isinstance(value, dict) else value or ())]


def _text(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
