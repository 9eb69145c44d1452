from typing import get_args, get_type_hints

import pytest
from msgspec import Meta, Struct
from msgspec.structs import fields

from feedback.intake.wire import WireRating, WireTurn
from feedback.records import Rating, Turn


@pytest.mark.parametrize(("wire", "record"), [(WireTurn, Turn), (WireRating, Rating)])
def test_wire_and_record_agree_on_every_field(wire: type[Struct], record: type[Struct]) -> None:
    theirs, ours = get_type_hints(wire), get_type_hints(record)
    defaults = {field.name: field.default for field in fields(record)}
    for field in fields(wire):
        if field.name not in ("schema", "occurred_at"):
            assert theirs[field.name] == ours[field.name]
            assert field.name == "tenant" or field.default == defaults[field.name]


@pytest.mark.parametrize("wire", [WireTurn, WireRating])
def test_every_field_tells_those_who_send_it_what_it_is(wire: type[Struct]) -> None:
    for name, hint in get_type_hints(wire, include_extras=True).items():
        (meta,) = [extra for extra in get_args(hint) if isinstance(extra, Meta)]
        assert (meta.description or "").endswith("."), name
