"""A CSV with a reply in each row: `--map field=column` says which column is what; delimiter and encoding are found out."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from feedback.intake.contract import MAX_EVENT_BYTES
from feedback.intake.event_files import Line
from feedback.intake.foreign.converting import Conversion, NotThis, guess, name_of

FIELDS = ("prompt", "reply", "rating", "comment", "user", "conversation", "time", "model", "locale")
NEEDED = ("prompt", "reply")
SAMPLE_BYTES = 64_000
WANTED = {"1": True, "true": True, "yes": True, "up": True, "good": True, "like": True, "👍": True}
UNWANTED = {
    "0": False,
    "-1": False,
    "false": False,
    "no": False,
    "down": False,
    "bad": False,
    "dislike": False,
    "👎": False,
}
THUMBS = WANTED | UNWANTED


def read(path: Path, conversion: Conversion) -> Iterator[Line]:
    """The events of a file; raises NotThis, naming the columns that there are where a needed one is missing."""
    guess(path)
    csv.field_size_limit(MAX_EVENT_BYTES)
    encoding, dialect = _sniffed(path)
    with path.open(encoding=encoding, newline="", errors="replace") as file:
        table = csv.DictReader(file, dialect=dialect)
        columns = _columns(path, table, conversion)
        stars = _stars(path, encoding, dialect, columns)
        while True:
            try:
                row = next(table)
            except StopIteration:
                return
            except csv.Error as error:  # a field beyond all measure: the rows behind it still come
                conversion.lose(f"a row that can't be read: {error}", f"line {table.line_num}")
                continue
            yield from _row(row, columns, stars, table.line_num, conversion)


def _columns(path: Path, table: csv.DictReader[str], conversion: Conversion) -> dict[str, str]:
    """Field to column: as mapped, else the column of the field's own name."""
    try:
        there = [name for name in table.fieldnames or [] if name]
    except csv.Error as error:
        raise NotThis(f"{path.name} is no CSV: {error}") from None
    known = {name.strip().lower(): name for name in there}
    columns = {field: known[field] for field in FIELDS if field in known}
    columns |= conversion.mapping
    missing = [f"{field}={columns[field]}" if field in columns else field for field in {**columns, **dict.fromkeys(NEEDED)}
               if columns.get(field) not in there]  # fmt: skip
    if missing:
        raise NotThis(
            f"{path.name} has no column for {', '.join(missing)}; its columns are {', '.join(map(repr, there[:40])) or 'none'}: "
            f"name them with --map, for example --map prompt={there[0] if there else 'COLUMN'}"
        )
    return columns


def _stars(path: Path, encoding: str, dialect: type[csv.Dialect], columns: dict[str, str]) -> bool:
    """Whether the ratings of the whole file are stars: 1 to 5, and at least one that no thumb is."""
    if "rating" not in columns:
        return False
    with path.open(encoding=encoding, newline="", errors="replace") as file:
        table, said = csv.DictReader(file, dialect=dialect), set[str]()
        while True:
            try:
                said.add((next(table).get(columns["rating"]) or "").strip().lower())
            except StopIteration:
                break
            except csv.Error:  # counted when the rows are read
                continue
    return bool(said & set("2345"))


def _row(
    row: dict[str, str], columns: dict[str, str], stars: bool, number: int, conversion: Conversion
) -> Iterator[Line]:
    said = {field: (row.get(column) or "").strip() for field, column in columns.items()}
    if not said["prompt"] or not said["reply"]:
        conversion.lose("a row without a prompt or a reply", f"line {number}")
        return
    name = name_of("csv", {field: said[field] for field in sorted(said) if field not in ("rating", "comment")})
    at: str | float | None = said.get("time") or None
    common = {
        "turn_id": name, "conversation_id": said.get("conversation") or name, "occurred_at": _time(at),
        "user_id": said.get("user") or None, "locale": said.get("locale") or None,
    }  # fmt: skip
    messages = [{"role": "user", "content": said["prompt"]}]
    policy = said.get("model") or conversion.policy
    made = [
        conversion.event(
            number, **common, event="turn", event_id=name, messages=messages, reply=said["reply"], policy=policy
        )
    ]
    rating = said.get("rating", "").lower()
    value: bool | int | None = THUMBS.get(rating) if not stars else int(rating) if rating in set("12345") else None
    if rating and value is None:
        conversion.lose("a rating that is neither a thumb nor 1 to 5 stars", f"line {number}")
    elif value is not None:
        kind = "stars" if stars else "thumbs"
        made.append(conversion.event(
            number, **common, event="rating", event_id=f"{name}/{kind}", source="user", kind=kind, value=value))  # fmt: skip
    if said.get("comment"):
        made.append(conversion.event(
            number, **common, event="rating", event_id=f"{name}/comment", source="user", kind="comment", value=said["comment"]))  # fmt: skip
    yield from filter(None, made)


def _time(text: str | float | None) -> str | float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return text


def _sniffed(path: Path) -> tuple[str, type[csv.Dialect]]:
    with path.open("rb") as file:
        sample = file.read(SAMPLE_BYTES)
    encoding = "utf-16" if sample[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = sample.decode(encoding)
    except UnicodeDecodeError as error:
        if error.start < len(sample) - 4:
            encoding = "cp1252"
        text = sample.decode(encoding, "replace")
    header: TextIO = io.StringIO(text)
    first = header.readline()

    class Found(csv.excel):
        delimiter = max(",;\t|", key=first.count)

    return encoding, Found
