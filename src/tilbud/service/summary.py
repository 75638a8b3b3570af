"""What a campaign and a contact policy will do, in words for someone who did not write them.

What holds: every kind of rule that a file declares has a line, and a file that declares none of a kind has
no line of it. Text only; printing it is the command line's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tilbud.bandit.presets import PRESETS
from tilbud.domain.campaign import Campaign, Offer
from tilbud.domain.contact import ContactPolicy
from tilbud.domain.durations import duration_text
from tilbud.domain.eligibility import RULES
from tilbud.domain.fields import Cap

_NAMED_MAX = 8  # enough to recognise them
_OWN_LINE = frozenset({"sensitive_topic", "requires", "suppress_after", "caps"})


def campaign_summary(campaign: Campaign) -> dict[str, str]:
    """Return what a campaign will do: a line of text for each subject."""
    return {**_choice(campaign), **_customer(campaign), **_limits(campaign), **_learning(campaign)}


def contact_summary(policy: ContactPolicy, campaigns: Sequence[Campaign]) -> dict[str, str]:
    """Return what a contact policy will do beside these campaigns (none: it was named alone)."""
    declared = {channel for campaign in campaigns for channel in campaign.context.channels}
    told = {}
    for channel, rule in policy.channels.items():
        unknown = "" if channel in declared or not campaigns else " (no campaign here declares this channel)"
        told[channel] = f"a customer is met {_capped(rule.caps) or 'as often as campaigns like'}{unknown}"
    quiet = policy.quiet_channels
    where = "in every channel" if quiet is None else f"in {_listed(quiet)}" if quiet else "nowhere"
    return {**told, "quiet hours": f"what a customer set is heeded {where}"}


def _choice(campaign: Campaign) -> dict[str, str]:
    offers = campaign.offers
    rules = [
        key
        for key in RULES
        if key not in _OWN_LINE and any(getattr(offer, key, None) is not None for offer in offers)
    ]
    told = {
        "offers": f"{len(offers)}: {_named(offer.id for offer in offers)}",
        "rules": ", ".join(rules) or "none",
    }
    languages = sorted({
        language for shown in (*offers, campaign.fallback) for language in shown.payloads or ()
    })  # fmt: skip
    if languages:
        told["languages"] = f"{_listed(languages)}; {campaign.fallback_language} where no other fits"
    if campaign.explanations:
        told["explanations"] = f"one sentence for the customer, in {_listed(sorted(campaign.explanations))}"
    return told


def _customer(campaign: Campaign) -> dict[str, str]:
    """Return what the campaign knows of customers beside the call itself."""
    context = campaign.context
    told = {}
    if context.traits:
        traits = (
            f"{name} (if known for at most {duration_text(rule.max_age_us or context.max_age_us)})"
            for name, rule in context.traits.items()
        )
        told["stored facts"] = _listed(traits)
    if context.events:
        told["events"] = _listed(context.events)
    if campaign.journey:
        told["journey"] = _listed(
            f"{event} leads to {stage}" for event, stage in campaign.journey.items()
        )  # fmt: skip
    if campaign.segments:
        told["segments"] = _listed(campaign.segments)
    if campaign.sticky_us:
        told["sticky"] = f"a customer is shown the same offer again for {duration_text(campaign.sticky_us)}"
    return told


def _limits(campaign: Campaign) -> dict[str, str]:
    """Return which offers a customer may or may not see, and how often."""
    offers = campaign.offers
    told = {
        "topics": "\n".join(
            f"{topic}: {_named(ids)}; a customer can block it" for topic, ids in _by_topic(offers).items()
        ),
        "sensitive": "\n".join(
            f"{offer.id}: only for customers who opted in to {offer.sensitive_topic}"
            for offer in offers
            if offer.sensitive_topic
        ),
        "requires": "\n".join(
            f"{offer.id}: only after {_after(offer.requires, 'within')}" for offer in offers if offer.requires
        ),
        "suppressed": "\n".join(
            f"{offer.id}: not after {_after(offer.suppress_after, 'for')}"
            for offer in offers
            if offer.suppress_after
        ),
        "caps": "\n".join(_caps(campaign)),
    }  # fmt: skip
    return {subject: text for subject, text in told.items() if text}


def _learning(campaign: Campaign) -> dict[str, str]:
    reward, preset, control = campaign.reward, campaign.exploration.preset, campaign.variants.control
    low, high = reward.range
    return {
        "reward": f"{', '.join(reward.outcomes)}; {reward.aggregate} within {low:g} … {high:g}; "
        f"learned {reward.learn}",
        "exploration": f"{preset}, {campaign.exploration.discovery:.0%} discovery. {PRESETS[preset].purpose}",
        "control": f"{control.share:.0%} see {control.serves}" if control else "none",
        "consent": campaign.consent,
    }


def _by_topic(offers: Iterable[Offer]) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for offer in offers:
        for topic in dict.fromkeys(
            (*offer.topics, *((offer.sensitive_topic,) if offer.sensitive_topic else ()))
        ):
            found.setdefault(topic, []).append(offer.id)
    return found


def _caps(campaign: Campaign) -> list[str]:
    told = [f"{offer.id}: {_capped(offer.caps)}" for offer in campaign.offers if offer.caps]
    for name, group in campaign.groups.items():
        if group.caps:
            ids = _named(offer.id for offer in campaign.offers if offer.group == name)
            told.append(f"{name} together ({ids or 'no offer is in this group'}): {_capped(group.caps)}")
    return told


def _capped(caps: Iterable[Cap]) -> str:
    often = [
        f"{'once' if cap.times == 1 else f'{cap.times} times'} in {duration_text(cap.per_us)}" for cap in caps
    ]
    return f"at most {_listed(often)}" if often else ""


def _after(durations: Mapping[str, int], word: str) -> str:
    return _listed(f"{name} ({word} {duration_text(each_us)})" for name, each_us in durations.items())


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words)


def _named(words: Iterable[str]) -> str:
    some = [*words]
    return ", ".join(some[:_NAMED_MAX]) + (" …" if len(some) > _NAMED_MAX else "")
