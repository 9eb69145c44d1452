"""Ids that say who somebody is become keyed hashes, and all others stay as they are."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.digests import MASK, masked
from feedback.privacy.ids import PersonalIds, is_personal

IDS = PersonalIds(b"key")


@pytest.mark.parametrize(
    "raw",
    [
        "+491701234567", "00491701234567", "wamid.491700000001", "491701234567@c.us", "whatsapp:+34612345678",
        "tel:+1-415-555-2671", "ana.maria@example.org", "ana%40example.org", "e-x2-ana.maria@example.org", "192.168.1.10",
        "fe80::1ff:fe23:4567:890a", "DE89370400440532013000", "4539578763621486",
    ],
)  # fmt: skip
def test_an_id_with_a_number_or_an_address_in_it_becomes_a_hash_of_the_key(raw: str) -> None:
    kept = IDS.kept(raw)
    assert kept == IDS.kept(raw) == IDS.kept(kept) != PersonalIds(b"another").kept(raw)
    assert masked(kept) == MASK
    assert raw not in kept


@pytest.mark.parametrize(
    "raw",
    [
        "1", "t-17", "conv_2026-11-28_0003", "1764000006", "1764000006123", "chatcmpl-AbC123xyz", "order-K-472", "a:b:c",
        "99e8c2ca-3f33-44c3-b86f-116416750671", "c-9e4ebe03829779430868913186ca8ac3",
        "2462963A644A61738806475B3EBACD5A", "tt2-" + "x1_2-" * 20, MASK, f"{MASK}-{'0' * 31}",
    ],
)  # fmt: skip
def test_other_ids_stay_as_they_are(raw: str) -> None:
    assert IDS.kept(raw) == masked(raw) == raw


@given(st.uuids())
def test_a_uuid_stays_as_it_is(name: uuid.UUID) -> None:
    assert IDS.kept(str(name)) == str(name)


@given(st.text(max_size=60))
def test_what_is_kept_holds_nothing_personal_and_stays_so(raw: str) -> None:
    kept = IDS.kept(raw)
    assert kept == IDS.kept(kept)
    assert not is_personal(kept) or kept == raw
