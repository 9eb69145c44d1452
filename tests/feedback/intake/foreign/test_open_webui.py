"""Open WebUI's exports: a tree of messages, thumbs, and picks."""

from __future__ import annotations

import json
from pathlib import Path

from feedback.intake.foreign import open_webui
from feedback.intake.foreign.converting import Conversion

HERE = Path(__file__).parent


def test_a_regenerated_reply_names_the_one_before_and_a_missing_parent_is_counted() -> None:
    conversion = Conversion()
    turns = {
        turn["turn_id"]: turn
        for turn in (json.loads(line.raw) for line in open_webui.read(HERE / "open-webui.json", conversion))
        if turn["event"] == "turn"
    }
    assert turns["m3"]["replaces"] == "m2"
    assert "replaces" not in turns["m2"]
    assert "replaces" not in turns["n3"], "another model's reply replaces nothing"
    assert conversion.lost == {"a reply whose earlier messages are missing": 1}
