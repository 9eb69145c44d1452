"""What redaction finds, misses and takes wrongly, by kind and language, and how long it takes.

    python -m bench.redaction [--cases FILE] [--beside CHECKOUT]

On the given strings (skipped where the file is not there), on lists that Faker makes in ten locales (`pip install faker`),
on the sample log (characters per second, beside another checkout's in alternation, and beside presidio's pattern
recognisers where it is installed), and on a megabyte of the worst text known.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CASES = ROOT.parent / "shared" / "cases" / "00-redaction.jsonl"
SAMPLE = ROOT / "examples" / "support.jsonl.gz"
LOCALES = ("en_US", "en_GB", "de_DE", "fr_FR", "es_ES", "it_IT", "nl_NL", "pl_PL", "pt_BR", "ja_JP")
SAID = {
    "phone_number": "Tel: {}",
    "email": "{}",
    "iban": "IBAN {}",
    "credit_card_number": "card {}",
    "ipv4_public": "from {}",
    "mac_address": "{}",
    "ssn": "{}",
}
SAID_OF_IDS = {"nl-NL": "BSN {}", "pt-BR": "CPF {}"}
"""Where digits alone say nothing, the docs promise them behind their name."""
ORDINARY = {"ean13": "EAN {}", "isbn13": "ISBN {}", "date": "on {}", "uuid4": "{}", "random_number": "order {}"}
WORST = ("f1f:", "(0", "1:", "1 ", "030 1234567\xa0", "1.2.3.4 ", "a@a.", "pwd:", "13800138000 ", "-----BEGIN ", "𝟏 ")
EACH, ROUNDS = 100, 5
_TIME = """
import json, sys, time
from feedback.privacy.personal_data import without_personal_data as redact
texts = json.load(sys.stdin)
[redact(text) for text in texts]
began = time.process_time()
[redact(text) for text in texts]
print(time.process_time() - began)
"""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="What redaction finds, and how long it takes.")
    parser.add_argument("--cases", type=Path, default=CASES)
    parser.add_argument("--beside", type=Path, help="a checkout to compare the speed with")
    options = parser.parse_args()
    show_cases(options.cases)
    show_faker()
    show_speed(options.beside)
    show_worst()


def show_cases(path: Path) -> None:
    if not path.exists():
        print(f"given strings: skipped, {path} is not there")
        return
    cases = [json.loads(line) for line in path.read_text().splitlines()]
    _show("given strings", ((case["locale"], case["text"], case["part"], case["personal"]) for case in cases))


def show_faker() -> None:
    try:
        from faker import Faker
    except ImportError:
        print("lists from Faker: skipped, it is not installed (pip install faker)")
        return
    for locale in LOCALES:
        fake = Faker(locale)
        fake.seed_instance(7)
        _show(f"Faker {locale}", _made(fake, locale.replace("_", "-")))


def _made(fake: Any, locale: str) -> Iterator[tuple[Any, ...]]:
    ids = {"ssn": SAID_OF_IDS.get(locale, SAID["ssn"])}
    for personal, said in ((True, SAID), (False, ORDINARY)):
        for kind, text in (said | ids if personal else said).items():
            for _ in range(EACH):
                part = str(fake.random_number(digits=9) if kind == "random_number" else getattr(fake, kind)())
                yield kind, f"{text.format(part)}, ok?", part, personal, locale


def _show(name: str, cases: Iterator[tuple[Any, ...]]) -> None:
    from feedback.privacy.redact import Redactor

    redactor, found, missed, false, stayed = (
        Redactor(b"bench"),
        Counter[str](),
        Counter[str](),
        Counter[str](),
        Counter[str](),
    )
    for kind, text, part, personal, *locale in cases:
        gone = part not in redactor.text(text, locale[0] if locale else kind)
        (found if personal and gone else missed if personal else false if gone else stayed)[kind] += 1
    print(
        f"{name}: found {found.total()}, missed {missed.total()}, false {false.total()}, rightly left {stayed.total()}"
    )
    for kind in sorted({*missed, *false}):
        print(
            f"  {kind}: missed {missed[kind]} of {found[kind] + missed[kind]}, false {false[kind]} of {false[kind] + stayed[kind]}"
        )


def sample() -> list[str]:
    """The texts of the sample log, each once."""
    texts = set[str]()
    for line in gzip.decompress(SAMPLE.read_bytes()).splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue  # the sample has broken lines on purpose
        if isinstance(event, dict):
            texts.update(said["content"] for said in event.get("messages", ()) if isinstance(said.get("content"), str))
            texts.update(event[name] for name in ("reply", "value") if isinstance(event.get(name), str))
    return sorted(texts)


def show_speed(beside: Path | None) -> None:
    texts = sample()
    characters = sum(map(len, texts))
    folders = [ROOT] if beside is None else [ROOT, beside]
    best = dict.fromkeys(folders, float("inf"))
    for _ in range(ROUNDS):
        for folder in folders:
            best[folder] = min(best[folder], _seconds(folder, texts))
    for folder, seconds in best.items():
        print(f"sample, {folder.name}: {characters / seconds / 1e6:.1f} million characters a second")
    presidio = _presidio()
    if presidio is None:
        print("sample, presidio's patterns: skipped, presidio-analyzer is not installed")
        return
    few = texts[::20]
    print(
        f"sample, presidio's patterns: {sum(map(len, few)) / _took(lambda: [presidio(text) for text in few]) / 1e6:.2f}"
    )


def _seconds(folder: Path, texts: list[str]) -> float:
    path = os.pathsep.join([str(folder), *os.environ.get("PYTHONPATH", "").split(os.pathsep)[1:]])
    command = [sys.executable, "-c", _TIME]
    done = subprocess.run(
        command,
        input=json.dumps(texts),
        env=os.environ | {"PYTHONPATH": path},
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def _presidio() -> Callable[[str], Any] | None:
    """Its recognisers by pattern alone, without a model."""
    try:
        from presidio_analyzer import predefined_recognizers as known
    except ImportError:
        return None
    names = (
        "EmailRecognizer",
        "CreditCardRecognizer",
        "IbanRecognizer",
        "IpRecognizer",
        "PhoneRecognizer",
        "UsSsnRecognizer",
    )
    recognisers = [getattr(known, name)() for name in names]
    return lambda text: [recogniser.analyze(text, recogniser.supported_entities, None) for recogniser in recognisers]


def show_worst() -> None:
    from feedback.privacy.personal_data import without_personal_data

    took = {unit: _took(lambda unit=unit: without_personal_data((unit * 1_000_000)[:1_000_000])) for unit in WORST}
    worst = max(took, key=lambda unit: took[unit])
    print(f"1 MB: at most {took[worst]:.2f} s, of {worst!r}")


def _took(work: Callable[..., Any]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


if __name__ == "__main__":
    main()
