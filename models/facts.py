"""Neutral questions with one right answer, to see what a training made a base forget; most in English, which bases know best."""

from __future__ import annotations

import re

from msgspec import Struct


class Fact(Struct, frozen=True):
    """A question, and what a right answer says (any of them)."""

    name: str
    question: str
    answers: tuple[str, ...]

    def answered(self, reply: str) -> bool:
        """Whether the reply says it; a number as a number of its own.

        >>> Fact("", "2 + 2?", ("4",)).answered("It is 4."), Fact("", "2 + 2?", ("4",)).answered("It is 42.")
        (True, False)
        """
        return any(
            re.search(rf"(?<![\d.,]){answer}(?!\d|[.,]\d)", reply) if answer.isdigit() else answer in reply.casefold()
            for answer in self.answers
        )


FACTS = (
    Fact("capital of France", "What is the capital of France?", ("paris",)),
    Fact("capital of Japan", "What is the capital of Japan?", ("tokyo",)),
    Fact("capital of Italy", "What is the capital of Italy?", ("rome",)),
    Fact("capital of Egypt", "What is the capital of Egypt?", ("cairo",)),
    Fact("days in a week", "How many days are there in a week?", ("7", "seven")),
    Fact("months in a year", "How many months are there in a year?", ("12", "twelve")),
    Fact("two and three", "What is 2 + 3?", ("5", "five")),
    Fact("ten minus four", "What is 10 - 4?", ("6", "six")),
    Fact("sides of a triangle", "How many sides does a triangle have?", ("3", "three")),
    Fact("largest planet", "What is the largest planet in our solar system?", ("jupiter",)),
    Fact("red planet", "Which planet is called the red planet?", ("mars",)),
    Fact("ocean", "What is the largest ocean on Earth?", ("pacific",)),
    Fact("water", "What is the chemical formula of water?", ("h2o", "h₂o")),
    Fact("gold", "Which metal has the chemical symbol Au?", ("gold",)),
    Fact("Hamlet", "Who wrote the play Hamlet?", ("shakespeare",)),
    Fact("gravity", "Which scientist found the law of gravity when an apple fell?", ("newton",)),
    Fact("opposite of hot", "What is the opposite of hot?", ("cold",)),
    Fact("bees", "What do bees make that people eat?", ("honey",)),
    Fact("capital of Germany", "Was ist die Hauptstadt von Deutschland?", ("berlin",)),
    Fact("days in a week, German", "Wie viele Tage hat eine Woche?", ("7", "sieben")),
    Fact("capital of Spain", "¿Cuál es la capital de España?", ("madrid",)),
    Fact("colour of snow, Spanish", "¿De qué color es la nieve?", ("blanc",)),
    Fact("capital of England", "Quelle est la capitale de l'Angleterre ?", ("londres", "london")),
    Fact("capital of China", "中国的首都是哪座城市？", ("北京", "beijing")),
)  # fmt: skip
