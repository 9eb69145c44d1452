"""Secrets: keys and tokens of well-known make, and what is said to be a password."""

from __future__ import annotations

import re
from collections.abc import Iterator

import re2

from feedback.privacy.network import Span

_RUN = r"[A-Za-z0-9_\-]"
KEYS = (
    rf"sk-{_RUN}{{16,}}|[spr]k_(?:live|test)_[A-Za-z0-9]{{10,}}|whsec_[A-Za-z0-9]{{16,}}"
    r"|(?:AKIA|ASIA|AGPA|AROA|AIDA)[A-Z0-9]{16}|gh[opsur]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}"
    rf"|glpat-{_RUN}{{16,}}|xox[abeprs]-[A-Za-z0-9\-]{{10,}}|xapp-[A-Za-z0-9\-]{{10,}}|AIza{_RUN}{{30,}}|ya29\.{_RUN}{{20,}}"
    rf"|hf_[A-Za-z0-9]{{20,}}|npm_[A-Za-z0-9]{{20,}}|pypi-{_RUN}{{20,}}|SG\.{_RUN}{{16,}}\.{_RUN}{{16,}}|gsk_[A-Za-z0-9]{{20,}}"
    rf"|dop_v1_[a-f0-9]{{32,}}|shp(?:at|ss|ca|pa)_[A-Za-z0-9]{{20,}}|r8_[A-Za-z0-9]{{20,}}|EAACEdEose0cBA[A-Za-z0-9]+"
    rf"|(?:SK|AC)[0-9a-f]{{32}}|key-[0-9a-f]{{32}}|lin_api_[A-Za-z0-9]{{20,}}|hvs\.{_RUN}{{20,}}|sq0[a-z]{{3}}-{_RUN}{{20,}}"
    rf"|[0-9]{{8,10}}:AA{_RUN}{{30,}}|xai-{_RUN}{{20,}}|pplx-[A-Za-z0-9]{{20,}}|AGE-SECRET-KEY-1[A-Z0-9]{{20,}}"
    rf"|eyJ{_RUN}{{8,}}\.{_RUN}{{8,}}(?:\.{_RUN}*)*"
    r"|-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----(?:[A-Za-z0-9+/=:,.\s\\]|-[A-Za-z0-9])*(?:-----END (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----)?"
)
_BLANK = re.compile(rb"\s")
_LONGEST_RUN = 200
_KEYS = re2.compile(KEYS.encode())
_NAMES = (
    r"passwor[dt]|passwd|passphrase|pass ?code|pwd|kennwort|passwort|contraseña|clave secreta|mot de passe|mdp|senha"
    r"|palavra-passe|wachtwoord|hasło|lösenord|adgangskode|passord|salasana|heslo|jelszó|parolă|parola|пароль|şifre"
    r"|api[ _-]?key|api[ _-]?token|access[ _-]?token|auth[ _-]?token|secret(?:[ _-](?:access[ _-])?key)?|client[ _-]?secret"
    r"|private[ _-]?key|access[ _-]?key|bearer|密码|密碼|口令|パスワード|비밀번호|暗証番号"
)
CUES = f"{_NAMES}|://[^ /:@]+:[^ /:@]+@"
"""What a text with `passwords` has at least one of."""
_CUE = re2.compile(f"(?i)(?:{_NAMES})")
_CUE_ASCII = re2.compile(f"(?i)(?:{'|'.join(name for name in _NAMES.split('|') if name.isascii())})".encode())
_SAID = re.compile(
    r"(?:[\"'`*]{0,2} ?(?:[:=]|は|是|为|為|은|는) ?|[\"'`]? (?:is|ist|es|est|è|é|jest|är|er|on|lautet|to)(?: ?:)? )[\"'`“«*]{0,2}"
    r"([^\s\"'`,;<>\[\]”»]{4,200})",
    re.I,
)
_SECRETLY = re.compile(r" [\"'`]?((?=[^\s]*\d)(?=[^\s]*[A-Za-z])[A-Za-z0-9+/=_\-.]{16,200})")
_URL = re.compile(r"://[^\s/:@\[\]]{1,64}:([^\s/:@\[\]]{1,128})@")
_NO_SECRET = re.compile(
    r"(?:not|too|wrong|incorrect|invalid|required|expired|weak|strong|correct|never|always|only|still|also|being|falsch|zu|nicht"
    r"|abgelaufen|incorrecta|incorrecto|incorrect|incorrecte|trop|pas|muy|expirado|inválida|errata|scaduta|null|none|true|false|empty|missing|reset"
    r"|changed|forgotten|vergessen|required|stored|saved|case-sensitive|correcta|onjuist|verlopen|nieprawidłowe|for|the|that|what|very|in|on|an?"
    r"|same|different|gone|lost|safe|here|there|blank|hashed|encrypted|set|about|just|my|your|our|needed|eine?[sr]?|un[ae]?|\*+|x+|•+|\.+)[.!?)]*",
    re.I,
)


def keys(data: bytes, text: str) -> Iterator[Span]:
    """Keys and tokens that show by their make what they are."""
    for match in _KEYS.finditer(data):
        start, end = match.span()
        if not (start and text[start - 1].isascii() and (text[start - 1].isalnum() or text[start - 1] == "_")):
            yield start, end, "[secret]"


def passwords(data: bytes, text: str) -> Iterator[Span]:
    """What stands behind a word such as "password", if the text says that it is one."""
    done = 0
    for match in _apart(data) if text.isascii() else _CUE.finditer(text):
        if match.start() < done:
            continue
        if (said := _SAID.match(text, match.end())) and not _NO_SECRET.fullmatch(said[1]):
            start, end = said.span(1)
            end -= len(said[1]) - len(said[1].rstrip(".!?)。*"))
            if end > start:
                done = end
                yield start, end, "[secret]"
        elif said := _SECRETLY.match(text, match.end()):
            yield *said.span(1), "[secret]"
    for found in _URL.finditer(text) if "://" in text else ():
        yield *found.span(1), "[secret]"


def _apart(data: bytes) -> Iterator[re.Match[bytes]]:
    """The words of an ASCII text, of those that follow each other without a blank the first: the others are its secret."""
    position = 0
    while match := _CUE_ASCII.search(data, position):
        yield match
        blank = _BLANK.search(data, match.end(), match.end() + _LONGEST_RUN + 1)
        position = match.end() if blank is not None else match.end() + _LONGEST_RUN
