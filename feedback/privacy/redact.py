"""Redaction at the edge: texts, messages and nested JSON without personal data, user ids as a keyed hash.

What counts as personal data is in feedback/privacy/personal_data.py. Redaction does not depend on the key (only `user` does), so
that the hash of a dataset does not either.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping, Sequence
from sys import getsizeof
from typing import Any

import msgspec

from feedback.privacy import personal_data
from feedback.privacy.personal_data import TooMuchWork
from feedback.privacy.remembered import Remembered
from feedback.records import Message

CACHED_BYTES = 32_000_000
CACHED_USERS_BYTES = 4_000_000
NODE_US = 2
MAX_DEPTH = 64

_REGIONS = {
    "de": "DE",
    "es": "ES",
    "fr": "FR",
    "it": "IT",
    "nl": "NL",
    "pl": "PL",
    "pt": "PT",
    "zh": "CN",
    "ja": "JP",
    "ko": "KR",
    "ru": "RU",
    "da": "DK",
    "sv": "SE",
    "nb": "NO",
    "no": "NO",
    "nn": "NO",
    "fi": "FI",
    "cs": "CZ",
    "sk": "SK",
    "hu": "HU",
    "ro": "RO",
    "bg": "BG",
    "el": "GR",
    "tr": "TR",
    "uk": "UA",
    "he": "IL",
    "th": "TH",
    "vi": "VN",
    "id": "ID",
    "hi": "IN",
    "hr": "HR",
    "sl": "SI",
    "sr": "RS",
    "et": "EE",
    "lv": "LV",
    "lt": "LT",
    "is": "IS",
}
_VERBATIM = frozenset({"role", "type", "id", "tool_call_id"})  # in a message: names of things
_BINARY = frozenset({"url", "image_url", "file_data", "data"})  # where a part holds an image, a sound or a file
_BASE64 = r"(?:[A-Za-z0-9+/=_\-]{60,}+\r?\n)*+[A-Za-z0-9+/=_\-]*+"
_DATA_URL = re.compile(rf"(data:[^,]{{0,200}}?)(;base64,{_BASE64}|;bytes=\d{{1,12}};sha256=[0-9a-f]{{64}},)", re.I)
_SOUND = re.compile(rf"(?=[A-Za-z0-9+/=_\-]{{60}}){_BASE64}")
_PHONE_KEY = re.compile(r"phone|mobile|telefon|handy|tel$|móvil|celular|电话|手机", re.I)
_NUMBER_ONLY = re.compile(r"\D{0,3}\d(?:\D{0,3}\d){6,14}\D{0,2}")


class Redactor:
    """Takes personal data out of what people wrote, and remembers texts: a chat's history comes again with every turn."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._remembered = Remembered[str | tuple[str, str], str](CACHED_BYTES)
        self._users = Remembered[str, str](CACHED_USERS_BYTES)
        self._left_us: int | None = None

    def within(self, work_us: int) -> Redactor:
        """This redactor for one call, which raises TooMuchWork where what it does not remember may take longer."""
        limited = object.__new__(Redactor)
        limited.__dict__.update(self.__dict__, _left_us=work_us)
        return limited

    def parts(self, parts: Mapping[str, Any]) -> dict[str, Any]:
        """Parts of an event without personal data, by name: messages, reply, value (a text), or any JSON.

        `locale`, which stays as it is, says where they were written.
        """
        locale = parts.get("locale")
        return {name: self._part(name, value, locale) for name, value in parts.items()}

    def _part(self, name: str, value: Any, locale: str | None) -> Any:
        if name == "locale":
            return value
        if name == "messages":
            return self.messages(value, locale)
        if name == "reply" and not isinstance(value, str):
            return self.message(value, locale)
        return self.text(value, locale) if name in ("reply", "value") else self.value(value, locale)

    def text(self, text: str, locale: str | None = None) -> str:
        """The text with `[email]`, `[phone]`, `[card]`, `[id]`, `[iban]`, `[ip]`, `[mac]` and `[secret]` in place of such data.

        Redacting twice changes nothing. `locale` (BCP 47) adds the phone and id numbers of one country as they are
        written at home; without it, those count that are international, have a telling shape or stand behind a telling word.
        """
        return self._text(text, region_of(locale) if locale else None)

    def _text(self, text: str, region: str | None) -> str:
        key = text if region is None else (text, region)
        plain = self._remembered.get(key)
        if plain is None:
            if self._left_us is not None:
                self._spend(self._left_us, personal_data.work_us(text))
            plain = personal_data.without_personal_data(text, region)
            self._remembered.set(key, plain, getsizeof(text) + (0 if plain is text else getsizeof(plain)))
        return plain

    def _spend(self, left_us: int, work_us: int) -> None:
        self._left_us = left_us - work_us
        if left_us < work_us:
            raise TooMuchWork

    def user(self, raw: str) -> str:
        """The keyed hash that stands for a user id: `u_` and 20 hex digits."""
        hashed = self._users.get(raw)
        if hashed is None:
            digest = hmac.digest(self._key, b"user\0" + raw.encode("utf-8", "surrogatepass"), "sha256")
            hashed = f"u_{digest[:10].hex()}"
            self._users.set(raw, hashed, getsizeof(raw) + getsizeof(hashed))
        return hashed

    def messages(self, messages: Sequence[Message], locale: str | None = None) -> list[Message]:
        """Chat messages without personal data."""
        region, plain = region_of(locale) if locale else None, list[Message]()
        remembered = self._remembered.get
        for message in messages:
            text = message.get("content")
            if len(message) == 2 and type(text) is str and "role" in message:  # nearly all are so: no need to walk
                shown = remembered(text) if region is None else None  # and nearly all of these came before
                if shown is None:
                    shown = self._text(text, region)
                plain.append(message if shown is text else {**message, "content": shown})
            else:
                plain.append(self.message(message, locale))
        return plain

    def message(self, message: Message, locale: str | None = None) -> Message:
        """A chat message without personal data: text, parts and tool calls; a speaker's `name` becomes `[name]`."""
        redacted: Message = self._walk(message, locale, verbatim=_VERBATIM)
        if "name" in message and message.get("role") not in ("tool", "function"):
            redacted["name"] = "[name]"
        return redacted

    def value(self, value: Any, locale: str | None = None) -> Any:
        """Nested JSON without personal data, keys included; what is nested more than 64 deep becomes `[too deep]`."""
        return self._walk(value, locale) if value else value

    def _walk(
        self, value: Any, locale: str | None, verbatim: frozenset[str] = frozenset(), key: str = "", depth: int = 0
    ) -> Any:
        """`key` is the nearest one above `value`; strings under one of `verbatim` stay as they are."""
        if self._left_us is not None:
            self._spend(self._left_us, NODE_US)
        match value:
            case str():
                return value if key in verbatim else self._text_under(key, value, locale)
            case bool():
                return value
            case int() if abs(value) >= 10**6:
                digits = str(value)
                redacted = self._text_under(key, digits, locale)
                return value if redacted == digits else redacted
            case list() | dict() if depth >= MAX_DEPTH:
                return "[too deep]"
            case list():
                return [self._walk(inner, locale, verbatim, key, depth + 1) for inner in value]
            case dict():
                return {
                    name: self._walk(inner, locale, verbatim, name, depth + 1)
                    for inner, name in zip(value.values(), self._names(value, locale), strict=True)
                }
        return value

    def _names(self, members: dict[str, Any], locale: str | None) -> list[str]:
        """The members' keys, redacted; where two become the same, the later are numbered: no value may be lost."""
        names: dict[str, None] = {}
        numbers: dict[str, int] = {}
        for key in members:
            name = plain = self.text(key, locale)
            while name in names:
                number = numbers[plain] = numbers.get(plain, 1) + 1
                name = f"{plain} {number}"
            names[name] = None
        return list(names)

    def _text_under(self, key: str, text: str, locale: str | None) -> str:
        """A text that a JSON object holds under `key`, which may say what it is."""
        if key == "arguments":
            return self._arguments(text, locale)
        if key in _BINARY and (url := _DATA_URL.fullmatch(text)):
            return self.text(url[1], locale) + url[2]
        if key == "data" and _SOUND.fullmatch(text):
            return text
        if _PHONE_KEY.search(key) and _NUMBER_ONLY.fullmatch(text):
            return "[phone]"
        return self.text(text, locale)

    def _arguments(self, text: str, locale: str | None) -> str:
        """A tool call's arguments: JSON in a string, whose escapes would hide what is in it; verbatim if nothing was."""
        try:
            arguments = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return self.text(text, locale)
        redacted = self._walk(arguments, locale)
        return text if redacted == arguments else msgspec.json.encode(redacted).decode()


def region_of(locale: str | None) -> str | None:
    """The country that a locale names or, for languages spoken mostly in one, implies."""
    if not locale:
        return None
    language, *rest = locale.replace("_", "-").split("-")
    named = [part.upper() for part in rest if len(part) == 2 and part.isalpha()]
    return named[0] if named else _REGIONS.get(language.lower())
