"""`trimtab init`: a trimtab.toml in which every key stands with its meaning and its default, commented out."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from deploy.cli.common import Context, pass_context, print_json, stdout
from deploy.errors import Failed
from deploy.settings import Settings
from feedback.settings import Section

HEAD = """\
# What Trimtab does otherwise than by default. Every key stands here with its default: take the # away before one, and change it.
# `trimtab config check` explains mistakes. The environment wins: TRIMTAB_TRAIN__EVERY_S=3600; secrets come from there only.
"""
WIDTH = 120


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@pass_context(looks=True)
def init(context: Context, file: Path | None, force: bool) -> None:
    """Write a commented trimtab.toml (or FILE) to begin with.

    \b
    Examples:
      trimtab init
      trimtab init /etc/trimtab.toml
    """
    path = file or context.config_path or Path("trimtab.toml")
    try:
        with path.open("w" if force else "x", encoding="utf-8") as opened:
            opened.write(template())
    except FileExistsError:
        raise Failed(f"{path} is there already: --force writes over it") from None
    if context.as_json:
        print_json({"file": str(path)})
    else:
        stdout.print(f"wrote {path}; next: trimtab config check, then trimtab up", markup=False, soft_wrap=True)


def template() -> str:
    """The file's text."""
    return HEAD + "".join(map("".join, (_section(name, field) for name, field in Settings.model_fields.items())))


def _section(name: str, field: FieldInfo) -> Iterator[str]:
    kind = field.annotation
    assert isinstance(kind, type)
    assert issubclass(kind, Section)
    yield f"\n[{name}]\n{_comment((kind.__doc__ or '').split(chr(10) + chr(10))[0])}"
    for key, detail in kind.model_fields.items():
        yield "\n" + _comment(detail.description or "")
        if SecretStr in (detail.annotation, *getattr(detail.annotation, "__args__", ())):
            yield f"# {key}: from the environment only, TRIMTAB_{name.upper()}__{key.upper()}\n"
        elif detail.default is None:
            yield f"# {key} =\n"
        else:
            yield f"# {key} = {json.dumps(detail.default, ensure_ascii=False)}\n"


def _comment(text: str) -> str:
    lines = textwrap.wrap(" ".join(text.split()), WIDTH, initial_indent="# ", subsequent_indent="# ")
    return "".join(f"{line}\n" for line in lines)
