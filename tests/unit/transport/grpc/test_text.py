"""Whatever form a caller's text comes in, it is the same to rules, to the model and to who a customer is."""

from __future__ import annotations

import unicodedata
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.domain.builders import LIMITS, NOON_US

from tilbud.bandit.features import encode_context
from tilbud.campaigns.source import parse_campaign
from tilbud.domain.context import read_context
from tilbud.domain.customer.customer import customer_key
from tilbud.domain.decision.eligibility import Rules
from tilbud.transport.grpc.converters import decide_request
from tilbud.transport.grpc.customers import profile_update
from tilbud.v1 import customers_pb2, decisions_pb2

TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs", "Cn"]), min_size=1, max_size=30).filter(
    lambda text: text.strip() and not set(text) & set("\u2028\u2029\ufeff")  # at which YAML breaks lines
)
FORMS = st.sampled_from(["NFC", "NFD"])
FILE = """
campaign: c
time_zone: UTC
context:
  channels: ["{0}"]
  features: {{tier: category}}
offers:
  - {{id: here, places: ["{0}"], channels: ["{0}"], when: {{tier: {{in: ["{0}"]}}}}, features: {{at: "{0}"}}}}
reward: {{window: 1m, outcomes: {{click: 1}}}}
consent: not_required
"""


def _escaped(text: str) -> str:
    return "".join(f"\\U{ord(each):08x}" for each in text)


def _asked(text: str) -> decisions_pb2.DecideRequest:
    said = decisions_pb2.Context(place=text, channel=text)
    said.features["tier"].category = text
    return decisions_pb2.DecideRequest(campaign="c", customer_id=text, context=said)


@given(TEXT, FORMS, FORMS)
def test_any_text_matches_itself_in_any_form(text, in_file, in_call):
    """A place, a channel and a feature of a file hold for a call that says them in the other form."""
    written = _escaped(unicodedata.normalize(in_file, text))
    campaign = parse_campaign(FILE.format(written).encode(), "c.yaml")
    read = []
    for form in ("NFC", in_call):
        request = decide_request(_asked(unicodedata.normalize(form, text)))
        context = read_context(request.context, campaign.vocabulary(), NOON_US, LIMITS)
        assert Rules(campaign).check(context).eligible == (0,)
        read.append(
            (
                encode_context(context),
                request.question(b"k", consented=True).fingerprint("d"),
                customer_key(request.customer_id, b"k"),
            )
        )
    assert read[0] == read[1]
    assert campaign.offers[0].features["at"] == unicodedata.normalize("NFC", text)


@given(TEXT, FORMS)
def test_a_profile_says_the_same_in_any_form(text, form):
    """Traits and preferences of a profile are what they are in NFC."""

    def update(said: str) -> Any:
        customer = customers_pb2.Customer(id="anna", journey_stage=said)
        customer.traits[said].value.category = said
        customer.preferences.blocked_topics.append(said)
        customer.preferences.blocked_channels.append(said)
        return profile_update(customers_pb2.UpdateCustomerRequest(customer=customer), LIMITS)

    assert update(unicodedata.normalize(form, text)) == update(unicodedata.normalize("NFC", text))
