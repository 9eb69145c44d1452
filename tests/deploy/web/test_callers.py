"""Who asks: a key opens what its scopes say; without one only this machine is let in, where none is required."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import Request
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from deploy.control.keys import SCOPES, Key
from deploy.errors import Failed
from deploy.web.callers import Caller, Callers
from deploy.web.errors import ApiError
from feedback.intake.wire import DEFAULT_TENANT
from tests.fakes import ManualClock

KEY = Key("k-1", "app", "acme", frozenset({"chat", "read"}), 0, None, None)
WHOLE = Key("k-3", "on-call", None, frozenset({"read", "operate", "approve", "chat"}), 0, None, None)
OLD = Key("k-4", "old on-call", "acme", frozenset({"read", "operate", "approve"}), 0, None, None)
TOKEN = "tt_good"
HERE = {"host": "127.0.0.1:8400"}


class OneKey:
    """Knows one token; `stored`: there is a key that was not revoked."""

    away = False
    stored = False

    async def key(self, token: str, now_us: int) -> Key | None:
        if self.away:
            raise Failed("the control database at 10.0.0.7 can't be used")
        return {TOKEN: KEY, "tt_whole": WHOLE, "tt_old": OLD}.get(token)

    async def keyed(self) -> bool:
        if self.away:
            raise Failed("the control database at 10.0.0.7 can't be used")
        return self.stored


def request(peer: str | None = "127.0.0.1", **headers: str) -> Request:
    raw = [(name.encode(), value.encode("utf-8", "surrogatepass")) for name, value in headers.items()]
    client = (peer, 1) if peer is not None else None
    return Request(
        {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": raw, "client": client}
    )


def callers(
    *,
    require_keys: bool = False,
    trust_loopback: bool = False,
    origins: tuple[str, ...] = (),
    keys: OneKey | None = None,
) -> Callers:
    return Callers(
        keys or OneKey(), ManualClock(), require_keys=require_keys, trust_loopback=trust_loopback, origins=origins
    )


def stored() -> OneKey:
    """There is a key."""
    keys = OneKey()
    keys.stored = True
    return keys


async def refused(callers: Callers, *scopes: str, **headers: str) -> tuple[int, str]:
    with pytest.raises(ApiError) as raised:
        await callers.caller(request(**headers), *scopes or ("chat",))
    return raised.value.status, raised.value.code


@pytest.mark.parametrize("require_keys", [True, False])
@pytest.mark.parametrize("authorization", [f"Bearer {TOKEN}", f"bearer   {TOKEN} ", f"BEARER {TOKEN}"])
async def test_a_key_is_its_tenant_and_scopes_from_wherever_it_comes(require_keys: bool, authorization: str) -> None:
    asked = request(authorization=authorization, host="evil.example", origin="https://evil.example")
    caller = await callers(require_keys=require_keys).caller(asked, "chat")
    assert caller == Caller("acme", frozenset({"chat", "read"}), KEY)
    assert caller.actor == "key app (k-1)"


async def test_one_of_several_scopes_is_enough_and_the_first_is_named_where_all_are_missing() -> None:
    asked = request(authorization=f"Bearer {TOKEN}")
    assert (await callers().caller(asked, "label", "read")).key is KEY
    with pytest.raises(ApiError, match="the key 'app' lacks the scope approve") as raised:
        await callers().caller(asked, "approve", "operate")
    assert (raised.value.status, raised.value.code) == (403, "insufficient_scope")


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer ", "Bearer x", "Basic dHRf", f"Basic {TOKEN}", TOKEN])
async def test_where_keys_are_required_whatever_is_none_is_refused(authorization: str) -> None:
    strict = callers(require_keys=True)
    assert await refused(strict, authorization=authorization, **HERE) == (401, "invalid_api_key")


async def test_a_key_without_a_tenant_acts_on_the_deployment_and_sends_what_is_the_default_tenants() -> None:
    caller = await callers().caller(request(authorization="Bearer tt_whole"), "approve")
    assert (caller.tenant, caller.bound) == (DEFAULT_TENANT, False)
    caller.need_unbound()


@pytest.mark.parametrize("scope", ["operate", "approve"])
async def test_a_key_of_an_earlier_version_that_is_bound_to_a_tenant_acts_on_no_deployment(scope: str) -> None:
    asked = request(authorization="Bearer tt_old")
    with pytest.raises(ApiError, match=r"old on-call.*keys create --name … --scope.*keys revoke k-4") as raised:
        await callers().caller(asked, scope)
    assert (raised.value.status, raised.value.code) == (403, "tenant_bound")
    reads = await callers().caller(asked, "read", "operate")
    assert reads.scopes == {"read"}
    with pytest.raises(ApiError, match="about the whole deployment: ask with a key without a tenant"):
        reads.need_unbound()


ON_ANY_PORT = pytest.mark.parametrize("require_keys", [True, False])


@pytest.mark.parametrize("authorization", ["", "Bearer anything"])
async def test_with_any_key_in_the_store_this_machine_needs_one_too(authorization: str) -> None:
    keyed = callers(keys=stored())
    assert await refused(keyed, authorization=authorization, **HERE) == (401, "invalid_api_key")
    assert (await keyed.caller(request(authorization=f"Bearer {TOKEN}"), "chat")).key is KEY


async def test_the_refusal_says_how_this_machine_is_let_in_without() -> None:
    with pytest.raises(ApiError, match=r"keys create.*--trust-loopback"):
        await callers(keys=stored()).caller(request(**HERE), "chat")


@ON_ANY_PORT
async def test_loopback_that_is_trusted_needs_none_on_any_port(require_keys: bool) -> None:
    trusting = callers(require_keys=require_keys, trust_loopback=True, keys=stored())
    assert (await trusting.caller(request(**HERE), "approve")).actor == "loopback"
    assert (await trusting.caller(request("::ffff:127.0.0.1", **HERE), "approve")).actor == "loopback"


@ON_ANY_PORT
@pytest.mark.parametrize("peer", ["203.0.113.9", "10.0.0.1", "2001:db8::1", "", "unix", None])
async def test_who_does_not_ask_from_this_machine_is_never_trusted_as_if_they_did(
    require_keys: bool, peer: str | None
) -> None:
    for trust in (True, False):
        asked = callers(require_keys=require_keys, trust_loopback=trust)
        with pytest.raises(ApiError) as raised:
            await asked.caller(request(peer, **HERE), "chat")
        assert raised.value.status == (401 if require_keys else 403)


@ON_ANY_PORT
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("forwarded", "for=127.0.0.1"), ("x-forwarded-for", "127.0.0.1"), ("X-Forwarded-For", ""), ("x-real-ip", "::1"),
        ("via", "1.1 nginx"), ("x-forwarded-host", "localhost"), ("x-forwarded-proto", "http"),
        ("cf-connecting-ip", "127.0.0.1"), ("true-client-ip", "127.0.0.1"), ("x-client-ip", "127.0.0.1"),
    ],
)  # fmt: skip
async def test_what_was_forwarded_is_never_from_this_machine(require_keys: bool, name: str, value: str) -> None:
    for trust in (True, False):
        asked = callers(require_keys=require_keys, trust_loopback=trust)
        headers = HERE | {name: value}
        assert (await refused(asked, **headers))[0] == (401 if require_keys else 403)
        key = request(authorization=f"Bearer {TOKEN}", **headers)
        assert (await asked.caller(key, "chat")).key is KEY


async def test_who_sent_no_key_may_still_be_known_by_something_else() -> None:
    assert await callers(require_keys=True).known(request(**HERE)) is None


@pytest.mark.parametrize("require_keys", [True, False])
async def test_a_token_that_looks_like_ours_and_is_none_is_refused_on_this_machine_too(require_keys: bool) -> None:
    asked = {"authorization": "Bearer tt_revoked"} | HERE
    assert await refused(callers(require_keys=require_keys), **asked) == (401, "invalid_api_key")


async def test_keys_that_can_not_be_read_are_a_503_that_says_when_to_come_back_and_not_why() -> None:
    keys = OneKey()
    keys.away = True
    with pytest.raises(ApiError, match="keys can't be read now") as raised:
        await callers(keys=keys).known(request(authorization=f"Bearer {TOKEN}"))
    assert (raised.value.status, raised.value.retry_after_s) == (503, 5)
    with pytest.raises(ApiError, match="keys can't be read now"):
        await callers(keys=keys).known(request(**HERE))


@pytest.mark.parametrize(
    "headers",
    [
        HERE,
        {"host": "localhost"},
        {"host": "LOCALHOST:1"},
        {"host": "[::1]:8400"},
        {"host": "127.8.8.8:8400"},
        {"host": "127.0.0.1:8400", "origin": "http://127.0.0.1:8400"},
        {"host": "127.0.0.1:8400", "authorization": "Bearer anything"},
        {"host": "127.0.0.1:8400", "origin": "https://shop.example"},
    ],
    ids=str,
)
async def test_somebody_on_this_machine_may_do_everything_without_a_key(headers: dict[str, str]) -> None:
    caller = await callers(origins=("https://shop.example",)).caller(request(**headers), "approve")
    assert caller == Caller(DEFAULT_TENANT, frozenset(SCOPES))
    assert caller.actor == "loopback"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": ""},
        {"host": "evil.example"},
        {"host": "evil.example:127.0.0.1"},
        {"host": "127.0.0.1.evil.example"},
        {"host": "[::1"},
        {"host": "127.0.0.1", "origin": "null"},
        {"host": "127.0.0.1", "origin": ""},
        {"host": "127.0.0.1:8400", "origin": "http://127.0.0.1:3000"},
        {"host": "127.0.0.1", "origin": "https://evil.example"},
        {"host": "127.0.0.1", "origin": "https://shop.example.evil.example"},
        {"host": "127.0.0.1", "origin": "http://[::1"},
    ],
    ids=str,
)
async def test_a_rebound_host_name_and_another_sites_page_may_not(headers: dict[str, str]) -> None:
    assert await refused(callers(origins=("https://shop.example",)), **headers) == (403, "forbidden")


PIECES = st.lists(st.sampled_from(["127.0.0.1", "localhost", "[", "]", ":", "/", "@", "#", "?", "\\", "::1", "℀", "x"]))
TEXTS = PIECES.map("".join) | st.text(max_size=12)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(["host", "origin", "authorization"], TEXTS)), st.booleans())
async def test_whatever_the_headers_say_somebody_is_let_in_or_refused(headers: dict[str, str], strict: bool) -> None:
    try:
        caller = await callers(require_keys=strict).caller(request(**headers), "chat")
    except ApiError as error:
        refusal: int | None = error.status
    else:
        refusal = None
        assert not strict
        assert caller.key is None
    assert refusal in (None, 401, 403)


ANN = Key("k-2", "other", "acme", frozenset({"chat"}), 0, None, None)


def come_through(callers: Callers, caller: Caller | None, user: str | None = None, peer: str = "203.0.113.9") -> bool:
    """Whether one more request of theirs is let through."""
    asked = Request({"type": "http", "method": "POST", "path": "/", "headers": [], "client": (peer, 1)})
    try:
        callers.count(asked, caller, user)
    except ApiError as error:
        return (error.status, error.code, error.retry_after_s) != (429, "rate_limit_exceeded", 60)
    return True


def limited(**options: Any) -> Callers:
    """One request a minute."""
    return Callers(OneKey(), ManualClock(), require_keys=True, per_minute=1, **options)


def test_with_a_key_the_limit_is_the_users_else_the_keys() -> None:
    callers, key, other = limited(), Caller("acme", frozenset(), KEY), Caller("acme", frozenset(), ANN)
    assert come_through(callers, key, "ann")
    assert come_through(callers, key, "bob")
    assert not come_through(callers, other, "ann"), "one user is one caller, by whichever key"
    assert come_through(callers, key)
    assert not come_through(callers, key)
    assert come_through(callers, other)


def test_users_of_two_tenants_are_two() -> None:
    callers = limited()
    assert come_through(callers, Caller("acme", frozenset(), KEY), "ann")
    assert come_through(callers, Caller("umbrella", frozenset(), KEY), "ann")


def test_without_a_key_the_limit_is_the_addresss_whoever_is_named() -> None:
    callers, anybody = limited(), Caller(DEFAULT_TENANT, frozenset(SCOPES))
    assert come_through(callers, None)
    assert not come_through(callers, anybody, "ann")
    assert not come_through(callers, None, "bob")
    assert come_through(callers, None, peer="203.0.113.10")


async def test_who_tries_keys_is_told_to_wait_and_counted() -> None:
    before = REGISTRY.get_sample_value("trimtab_http_refused_total", {"reason": "rate"}) or 0.0
    callers = limited()
    assert await refused(callers, authorization="Bearer tt_guessed") == (401, "invalid_api_key")
    assert await refused(callers, authorization="Bearer tt_guessed") == (429, "rate_limit_exceeded")
    assert await refused(callers) == (429, "rate_limit_exceeded")
    assert await callers.caller(request(authorization=f"Bearer {TOKEN}"), "chat") == Caller(
        "acme", frozenset({"chat", "read"}), KEY
    )
    assert REGISTRY.get_sample_value("trimtab_http_refused_total", {"reason": "rate"}) == before + 2


def test_without_a_setting_there_is_no_limit() -> None:
    assert all(come_through(callers(), None) for _ in range(100))
