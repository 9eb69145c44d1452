"""The page /docs: what can be asked of the admin port, from its OpenAPI document. It runs no script and loads nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

Document = Mapping[str, Any]

STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}"
    "h2{font-size:1rem;margin:2rem 0 .25rem;border-top:1px solid #d0d7de;padding-top:1rem}"
    "code,pre{font:14px/1.5 ui-monospace,monospace}pre{background:#f6f8fa;padding:.75rem;overflow-x:auto}"
    "td{padding:.1rem 1rem .1rem 0;vertical-align:top}p{margin:.25rem 0}"
)
POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"
)
"""Content-Security-Policy: this style, and nothing else from anywhere."""


def page(openapi: Document) -> str:
    """The document as a page."""
    operations = "".join(
        _operation(method, path, operation)
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Trimtab</title><style>{STYLE}</style></head><body>'
        f"<h1>{_text(openapi['info']['title'])} {_text(openapi['info']['version'])}</h1>"
        "<p>What this port can be asked, for people. For programs: <code>/openapi.json</code>.</p>"
        f"{operations}</body></html>"
    )


def _operation(method: str, path: str, operation: Document) -> str:
    rows = "".join(
        f"<tr><td><code>{_text(name)}</code></td><td>{_text(kind)}</td><td>{_text(about)}</td></tr>"
        for name, kind, about in (*_parameters(operation), *_fields(operation))
    )
    return (
        f"<h2><code>{method.upper()} {_text(path)}</code></h2>"
        f"<p>{_text(operation.get('description', ''))}</p><table>{rows}</table>"
        f"<pre>{_text(_command(method, path))}</pre>"
    )


def _parameters(operation: Document) -> Iterator[tuple[str, str, str]]:
    for one in operation.get("parameters", ()):
        yield (
            one["name"],
            f"in the {one['in']}{'' if one.get('required') else ', optional'}",
            one.get("description", ""),
        )


def _fields(operation: Document) -> Iterator[tuple[str, str, str]]:
    schema = _body(operation)
    for name, field in schema.get("properties", {}).items():
        needed = name in schema.get("required", ())
        yield name, f"in the body{'' if needed else ', optional'}", field.get("description", "")


def _body(operation: Document) -> Document:
    content: Document = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    schema: Document = content.get("schema", {})
    return schema


def _command(method: str, path: str) -> str:
    """How it is asked on a command line."""
    asked = 'curl -H "Authorization: Bearer $TRIMTAB_KEY"'
    if method != "get":
        asked += f" -X {method.upper()} -H 'Content-Type: application/json' -d '{{…}}'"
    return f"{asked} http://127.0.0.1:8401{path}"


def _text(text: str) -> str:
    return escape(" ".join(text.split()))
