"""What questions for the judge will come to, before any is asked: calls, tokens, money, time. Pure.

Tokens are counted by bytes and an answer's usual length, for nobody has the judge's tokenizer here: within a third or so. `most_usd`
is what the ledger sets aside for the same questions, and no try of each costs more.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import Struct

from feedback.judge.call import Tokens, price_usd, worst
from feedback.judge.client import prompts_of
from feedback.judge.prompt import MAX_REPLY_CHARACTERS, Prompt
from feedback.judge.rubric import Rubric
from feedback.records import JudgeRequest
from feedback.settings import JudgeSettings

BYTES_PER_TOKEN = 4
ANSWER_TOKENS = 120
CALL_S = 2.0
"""What an answer takes, more or less: judge.parallel of them at once."""


class Estimate(Struct, frozen=True):
    """What so many questions come to; money in US dollars."""

    questions: int = 0
    edits: int = 0
    """How many of them are about edits by people without a name."""
    calls: int = 0
    """A comparison takes two."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0
    most_usd: float = 0.0
    seconds: float = 0.0
    """With judge.parallel calls at once, CALL_S each."""


def estimate(requests: Iterable[JudgeRequest], rubric: Rubric, settings: JudgeSettings) -> Estimate:
    """What these questions come to; those that are too long to be asked are not among them."""
    questions = edits = calls = 0
    usual, most = Tokens(), Tokens()
    for request in requests:
        if max(len(request.reply), len(request.other_reply or "")) > MAX_REPLY_CHARACTERS:
            continue
        prompts = prompts_of(request, rubric)
        questions, edits, calls = questions + 1, edits + (request.edit is not None), calls + len(prompts)
        for prompt in prompts:
            usual += _usual(prompt, settings.max_tokens)
            most += worst(prompt, settings.max_tokens)
    return Estimate(
        questions=questions,
        edits=edits,
        calls=calls,
        prompt_tokens=usual.prompt,
        completion_tokens=usual.completion,
        usd=price_usd(settings, usual),
        most_usd=price_usd(settings, most),
        seconds=-(-calls // settings.parallel) * CALL_S,
    )


def _usual(prompt: Prompt, max_tokens: int) -> Tokens:
    asked = sum(len(text.encode()) for message in prompt.messages for text in message.values())
    asked += len(msgspec.json.encode(prompt.schema))
    return Tokens(asked // BYTES_PER_TOKEN, min(ANSWER_TOKENS, max_tokens))
