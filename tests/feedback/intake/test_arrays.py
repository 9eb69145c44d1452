"""The elements of a JSON array, however it comes (see also test_event_files.py)."""

from feedback.intake.arrays import begins_array


def test_an_array_of_events_begins_with_a_bracket_and_an_object() -> None:
    assert begins_array(b'  [\n  {"event": "turn"}')
    assert not begins_array(b'{"event": "turn"}')
    assert not begins_array(b"[1, 2]")
