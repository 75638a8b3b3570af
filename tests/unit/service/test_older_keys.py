"""Who was kept under another form of their id before ids were read in one form stays who they were."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from tests.wiring import DRAW_KEY, Wired

from tilbud.domain.context import Consent
from tilbud.domain.customer.customer import CustomerKey, customer_keys
from tilbud.domain.customer.profile_update import ProfileUpdate
from tilbud.domain.errors import UnknownCustomer

FILE = """
campaign: c
offers: [{id: a}]
reward: {outcomes: {click: 1}}
consent: not_required
"""
ZOE, ZOE_NFD = "zoé", unicodedata.normalize("NFD", "zoé")
TODAY, OLDER = customer_keys(ZOE, DRAW_KEY)


async def say(wired: Wired, key: CustomerKey, consent: Consent) -> None:
    """Keep a consent under a key."""
    update, now = ProfileUpdate(consent=consent), wired.clock.now()
    await wired.ledger.update_customer(key, lambda each: update.apply(each, now.wall_us, wired.limits), now)


@pytest.mark.parametrize("said", [ZOE, ZOE_NFD])
async def test_a_customer_of_before_is_found_in_any_form_and_erased(tmp_path: Path, said: str) -> None:
    """A denial kept under the NFD form holds for both forms; an erasure takes it."""
    wired = await Wired(FILE, tmp_path).start()
    await say(wired, OLDER, Consent.DENIED)
    assert (await wired.customers.get(said)).consent is Consent.DENIED
    assert await wired.customers.erase(said) == 1
    with pytest.raises(UnknownCustomer):
        await wired.customers.get(said)
    assert [(await wired.ledger.customer(key)).erased for key in (OLDER, TODAY)] == [True, True]


async def test_who_is_known_under_the_key_of_today_is_found_there(tmp_path: Path) -> None:
    """Whatever an older key says; an erasure takes both."""
    wired = await Wired(FILE, tmp_path).start()
    await say(wired, OLDER, Consent.DENIED)
    await say(wired, TODAY, Consent.GRANTED)
    assert (await wired.customers.get(ZOE_NFD)).consent is Consent.GRANTED
    assert await wired.customers.erase(ZOE) == 2
    assert [(await wired.ledger.customer(key)).erased for key in (OLDER, TODAY)] == [True, True]


async def test_an_erasure_leaves_nothing_under_a_key_that_nobody_was_kept_under(tmp_path: Path) -> None:
    """A tombstone is of the key of today alone where no older one is known."""
    wired = await Wired(FILE, tmp_path).start()
    await say(wired, TODAY, Consent.GRANTED)
    await wired.customers.erase(ZOE)
    assert not (await wired.ledger.customer(OLDER)).number
