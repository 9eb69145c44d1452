from deploy.gateway.recent import Recent


def test_the_oldest_goes_when_there_is_no_more_room() -> None:
    recent = Recent[str, int](2)
    for name, value in (("a", 1), ("b", 2), ("a", 3), ("c", 4)):
        recent.set(name, value)
    assert [recent.get(name) for name in "abc"] == [3, None, 4]
    recent.drop("a")
    recent.drop("a")
    assert recent.get("a") is None
