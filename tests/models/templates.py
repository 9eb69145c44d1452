"""Chat templates of our own that behave as families of bases do: what they take, refuse, add and leave out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from models.chat import Chat
from models.tokenizer import Tokenizer

_ALTERNATE = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('turns must alternate, beginning with the user') }}{% endif %}{% endfor %}"
)
_OPEN = "{% if add_generation_prompt %}<|assistant|>{% endif %}"
_EACH = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>\n{% endfor %}"

FAMILIES = {
    # takes every sequence of roles, and has a system message of its own where there is none
    "chatml": "{% if messages[0].role != 'system' %}<|system|>You help.<|end|>\n{% endif %}" + _EACH + _OPEN,
    # a beginning of the sequence, texts without blanks around them, the date in a system turn that is always there
    "llama 3": (
        "{{ bos_token }}{% set first = messages[0].content if messages[0].role == 'system' else '' %}"
        "{% set rest = messages[1:] if messages[0].role == 'system' else messages %}"
        "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
        "<|system|>Today: {{ date_string }}\n{{ first | trim }}<|end|>"
        "{% for m in rest %}<|{{ m.role }}|>\n{{ m.content | trim }}<|end|>{% endfor %}" + _OPEN.replace("|>{", "|>\n{")
    ),
    # no system role, strict alternation, the assistant under another name
    "gemma": (
        "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        + _ALTERNATE
        + _EACH.replace("{{ m.role }}", "{{ 'assistant' if m.role == 'assistant' else m.role }}")
        + _OPEN
    ),
    # strict alternation behind a system message, which stands in the last user turn; a reply ends with the eos token alone
    "mistral": (
        "{% set system = messages[0].content if messages[0].role == 'system' else none %}"
        "{% set messages = messages[1:] if system is not none else messages %}"
        + _ALTERNATE
        + "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}<|user|> "
        "{% if loop.last or loop.index0 == messages | length - 2 %}"
        "{% if system is not none and not (loop.index0 == messages | length - 2 and messages[-1].role == 'user') %}"
        "{{ system }}\n\n{% endif %}{% endif %}{{ m.content }}<|assistant|>"
        "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
    ),
    # leaves a system message out without a word
    "no system, silently": "{% for m in messages if m.role != 'system' %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    + _OPEN,
    # one system message, and it is the first
    "system first": "{% for m in messages %}{% if m.role == 'system' and not loop.first %}"
    "{{ raise_exception('a system message must be the first') }}{% endif %}{% endfor %}" + _EACH + _OPEN,
    # forgets earlier thoughts, marks the last reply as without one, and may be told not to think
    "qwen 3": (
        "{% for m in messages %}<|{{ m.role }}|>"
        "{% if m.role == 'assistant' %}{% if loop.last %}<think>\n\n</think>\n\n{% endif %}"
        "{{ m.content.split('</think>')[-1].lstrip('\n') }}{% else %}{{ m.content }}{% endif %}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>"
        "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
    ),
    # always opens a thought
    "opens a thought": _EACH + _OPEN.replace("<|assistant|>", "<|assistant|><think>\n"),
    # tells the day, and nobody can tell it another
    "a date of its own": "<|system|>It is {{ strftime_now('%Y-%m-%d') }}.<|end|>" + _EACH + _OPEN,
}


def chat_of(path: Path, tokenizer: Any, template: Any, date: str | None = None) -> Chat:
    """The chat of a base in `path`, as it is loaded: this tokenizer's files with another template."""
    tokenizer.save_pretrained(path)
    fast = AutoTokenizer.from_pretrained(path)
    fast.add_special_tokens({"bos_token": "<s>"})
    fast.add_tokens(["<think>", "</think>"])
    fast.chat_template = template
    fast.save_pretrained(path)
    return Chat(Tokenizer(path), date)


PICKY = (
    "{{ strftime_now('%Y') }}{% if add_generation_prompt and messages[-1].role == 'assistant' %}"
    "{{ raise_exception('the last message must be a question') }}{% endif %}" + FAMILIES["gemma"]
)
"""As gemma's, and refuses one conversation that nothing can be done about; it tells the day, too."""
