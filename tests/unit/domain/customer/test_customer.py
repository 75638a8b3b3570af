"""The keys a customer is kept under: those of an id's form of today, and of the one of before."""

from __future__ import annotations

import unicodedata

from tilbud.domain.customer.customer import customer_key, customer_keys, older_key

KEY = bytes(range(32))
ZOE, ZOE_NFD = "zoé", unicodedata.normalize("NFD", "zoé")


def test_both_forms_of_an_id_are_one_customer() -> None:
    """The key of an id is that of its NFC, which for plain ids is what it always was."""
    assert customer_key(ZOE, KEY) == customer_key(ZOE_NFD, KEY) != older_key(ZOE, KEY)
    assert older_key("anna", KEY) == older_key("", KEY) == older_key("東京", KEY) == b""


def test_the_keys_of_an_id_are_that_of_today_and_then_an_older_one() -> None:
    """The older one only where it is another; of nobody there is none."""
    for said in (ZOE, ZOE_NFD):
        assert customer_keys(said, KEY) == (customer_key(ZOE, KEY), older_key(ZOE, KEY))
    for said in ("anna", "東京"):
        assert customer_keys(said, KEY) == (customer_key(said, KEY),)
    assert customer_keys("", KEY) == ()
