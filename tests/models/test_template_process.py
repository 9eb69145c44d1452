"""What the process of templates answers, line by line."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import Any

from models.template_process import serve


def answers(*asked: dict[str, Any]) -> list[dict[str, Any]]:
    out = io.BytesIO()
    serve(io.BytesIO(b"".join(json.dumps(one).encode() + b"\n" for one in asked)), out, 60, 600)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_it_answers_each_line_with_a_text_or_with_why_there_is_none() -> None:
    asked = {"variables": {"messages": []}, "day": None}
    found = answers(
        asked | {"template": "{{ 1 + 1 }}"},
        asked | {"template": "{{ 1 + 1 }}", "variables": None},
        asked | {"template": "{{ strftime_now('%Y') }}", "day": "2001-02-03"},
        asked | {"template": "{{ raise_exception('never') }}"},
        asked | {"template": "{{ 9 ** 9 ** 9 }}"},
    )
    assert found[:4] == [{"text": "2"}, {"text": ""}, {"text": "2001"}, {"error": "never", "stopped": False}]
    assert found[4]["stopped"]


def test_it_ends_with_its_stdin_and_brings_in_no_torch() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "models.template_process", "5", "60", str(1 << 30)]
    done = subprocess.run(command, input=b"", capture_output=True, timeout=60, check=False)
    assert done.returncode == 0
    assert b"torch" not in done.stderr
