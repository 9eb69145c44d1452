"""`--engine URL --model NAME`: an engine for this run, for `trimtab up` and `trimtab gateway`."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from deploy.settings import variable


def engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options; whoever gives them has set the environment, for this process and those that it starts."""

    @click.option(
        "--engine",
        "urls",
        multiple=True,
        metavar="URL",
        help="An OpenAI-compatible server or hosted API that answers the chats in this run, with its /v1; once for each of several.",
    )
    @click.option("--model", metavar="NAME", help="What that engine calls its model.")
    @click.option(
        "--engine-key-file",
        "key_file",
        type=click.Path(path_type=Path, dir_okay=False, exists=True),
        help="A file that holds the engine's key [default: TRIMTAB_ENGINE__API_KEY in the environment].",
    )
    @functools.wraps(command)
    def wrapper(*args: Any, urls: tuple[str, ...], model: str | None, key_file: Path | None, **kwargs: Any) -> Any:
        os.environ.update(_named(urls, model, key_file))
        return command(*args, **kwargs)

    return wrapper


def _named(urls: tuple[str, ...], model: str | None, key_file: Path | None) -> dict[str, str]:
    """What the options say, as the environment says it."""
    if not urls:
        for option, value in (("--model", model), ("--engine-key-file", key_file)):
            if value is not None:
                raise click.UsageError(f"{option} says something of the engine that --engine names: give both")
        return {}
    if not model:
        raise click.UsageError("--engine needs --model NAME: what that server calls its model (its /models lists them)")
    if key_file is not None and os.environ.get(variable("engine.api_key")):
        raise click.UsageError(
            f"the engine's key is in {variable('engine.api_key')} and in --engine-key-file: give one"
        )
    said = {"kind": "openai", "urls": json.dumps(urls), "model": model}
    if key_file is not None:
        said["api_key_file"] = str(key_file.absolute())
    return {variable(f"engine.{key}"): value for key, value in said.items()}
