"""Who was kept under another form of their id before ids were read in one form stays who they were."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from tests.wiring import DRAW_KEY, Wired

from tilbud.domain.context import Consent
from tilbud.domain.customer.customer import customer_key, older_key
from tilbud.domain.customer.profile_update import ProfileUpdate
from tilbud.domain.errors import UnknownCustomer

FILE = """
campaign: c
offers: [{id: a}]
reward: {outcomes: {click: 1}}
consent: not_required
"""
ZOE, ZOE_NFD = "zoé", unicodedata.normalize("NFD", "zoé")
DENIED = ProfileUpdate(consent=Consent.DENIED)


@pytest.mark.parametrize("said", [ZOE, ZOE_NFD])
async def test_a_customer_of_before_is_found_in_any_form_and_erased(tmp_path: Path, said: str) -> None:
    """A denial kept under the NFD form holds for both forms; an erasure takes it."""
    wired = await Wired(FILE, tmp_path).start()
    older, now = older_key(ZOE, DRAW_KEY), wired.clock.now()
    await wired.ledger.update_customer(older, lambda each: DENIED.apply(each, now.wall_us, wired.limits), now)
    assert wired.customers.get(said).consent is Consent.DENIED
    assert await wired.customers.erase(said) == 1
    with pytest.raises(UnknownCustomer):
        wired.customers.get(said)
    for key in (older, customer_key(said, DRAW_KEY)):
        assert wired.ledger.customer(key).erased


def test_both_forms_of_an_id_are_one_customer() -> None:
    """The key of an id is that of its NFC, which for plain ids is what it always was."""
    assert customer_key(ZOE, DRAW_KEY) == customer_key(ZOE_NFD, DRAW_KEY) != older_key(ZOE, DRAW_KEY)
    assert older_key("anna", DRAW_KEY) == older_key("", DRAW_KEY) == older_key("東京", DRAW_KEY) == b""
