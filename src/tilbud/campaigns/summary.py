"""What a campaign and a contact policy will do, in words for someone who did not write them.

What holds: every kind of rule that a file declares has a line, and a file that declares none of a kind has
no line of it. Text only; printing it is the command line's business, and what is odd `file_warnings.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from tilbud.bandit.memory import model_bytes
from tilbud.bandit.presets import PRESETS, arguments, challenger
from tilbud.domain.campaign.campaign import BY_DECISION, Campaign, Offer, Variants
from tilbud.domain.campaign.contact_policy import ContactPolicy
from tilbud.domain.campaign.fields import Cap
from tilbud.domain.campaign.offer import Shown, Validity
from tilbud.domain.campaign.sections import OutcomeRule, RewardSection
from tilbud.domain.context import TIME_READ
from tilbud.domain.decision.eligibility import RULES
from tilbud.domain.durations import duration_text
from tilbud.domain.language_tags import cased, nearest
from tilbud.domain.numbers import exact_text

_NAMED_MAX = 8  # enough to recognise them
_CONSENT = {
    "required": "without it the fallback is answered, and nothing personal is used or kept",
    "not_required": "silence is a yes; where it is denied nothing personal is used or kept",
}
_LEARNED = {
    "at_deadline": "learned when the window is over",
    "on_settlement": "learned at a final outcome, else when the window is over",
}
_OWN_LINE = frozenset({"hours", "sensitive_topic", "requires", "suppress_after", "caps"})


def campaign_summary(campaign: Campaign) -> dict[str, str]:
    """Return what a campaign will do: a line of text for each subject."""
    return {**_choice(campaign), **_customer(campaign), **_limits(campaign), **_learning(campaign)}


def contact_summary(policy: ContactPolicy, campaigns: Sequence[Campaign]) -> dict[str, str]:
    """Return what a contact policy will do beside these campaigns (none: it was named alone)."""
    declared = {channel for campaign in campaigns for channel in campaign.context.channels}

    def remark(channel: str) -> str:
        return "" if channel in declared or not campaigns else " (no campaign here declares this channel)"

    lines = {
        channel: f"a customer is contacted {_capped(rule.caps) or 'as often as campaigns like'}"
        f"{remark(channel)}"
        for channel, rule in policy.channels.items()
    }
    where = "in every channel"
    if policy.quiet_channels is not None:
        quiet = _listed(f"{channel}{remark(channel)}" for channel in policy.quiet_channels)
        where = f"in {quiet}" if quiet else "nowhere"
    return {**lines, "quiet hours": f"what a customer set is heeded {where}"}


def _choice(campaign: Campaign) -> dict[str, str]:
    offers = campaign.offers
    lines = {
        "offers": f"{len(offers)}: {_named(offer.id for offer in offers)}",
        "rules": "\n".join(filter(None, map(_rules, offers))) or "none",
        "fallback": _fallback(campaign.fallback),
    }
    return {**lines, **_languages(campaign)}


def _fallback(fallback: Shown) -> str:
    """Return what is answered where no offer may be shown."""
    if fallback.id:
        return fallback.id
    if fallback.payload or fallback.payloads:
        return "a payload without an id"
    return "none: where no offer may be shown, the answer has neither an id nor a payload"


def _rules(offer: Offer) -> str:
    """Return to whom, where and when an offer may be shown; "": everywhere."""
    asked = {key: getattr(offer, key, None) for key in RULES if key not in _OWN_LINE}
    told = [
        f"{key} {_validity(value) if isinstance(value, Validity) else _written(value)}"
        for key, value in asked.items()
        if value is not None
    ]
    return f"{offer.id}: {'; '.join(told)}" if told else ""


def _validity(days: Validity) -> str:
    return f"{days.from_ or ''} … {days.until or ''}".strip()


def _written(value: object) -> str:
    """Return what stands in a file, on one line."""
    if isinstance(value, Mapping):
        return f"{{{_listed(f'{key}: {_written(below)}' for key, below in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{_listed(map(_written, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _languages(campaign: Campaign) -> dict[str, str]:
    """Return what is written in which language, and what is not where another text is."""
    lines = {}
    shown = [offer for offer in (*campaign.offers, campaign.fallback) if offer.payloads is not None]
    languages = sorted({language for offer in shown for language in offer.payloads or ()})
    if languages:
        fallback = f"{cased(campaign.fallback_language)} where no other fits"
        lacking = (_lacking(language, shown) for language in languages)
        lines["languages"] = "; ".join([_listed(map(cased, languages)), fallback, *filter(None, lacking)])
    if campaign.explanations:
        spoken = sorted(campaign.explanations)
        alone = [language for language in spoken if languages and not _is_read(language, languages)]
        remark = f" (no payload is in {_listed(map(cased, alone))})" if alone else ""
        lines["explanations"] = f"one sentence for the customer, in {_listed(map(cased, spoken))}{remark}"
    return lines


def _time_read(campaign: Campaign) -> str:
    return _listed(campaign.context.time) or "nothing"


def _lacking(language: str, shown: Iterable[Shown]) -> str:
    ids = [offer.id or "the fallback" for offer in shown if not _is_read(language, offer.payloads or ())]
    return f"{_named(ids)} {'lacks' if len(ids) == 1 else 'lack'} {cased(language)}" if ids else ""


def _is_read(language: str, texts: Iterable[str]) -> bool:
    """Say whether one of `texts` is in a language that a reader of this one reads."""
    return nearest(language, tuple(texts)) is not None


def _customer(campaign: Campaign) -> dict[str, str]:
    """Return what the campaign knows of customers beside the call itself."""
    context = campaign.context
    lines = {}
    if context.traits:
        traits = (
            f"{name} (if known for at most {duration_text(rule.max_age_us or context.max_age_us)})"
            for name, rule in context.traits.items()
        )
        lines["stored facts"] = _listed(traits)
    if context.events:
        lines["events"] = _listed(context.events)
    if campaign.journey:
        lines["journey"] = _listed(
            f"{event} leads to {stage}" for event, stage in campaign.journey.items()
        )  # fmt: skip
    if campaign.segments:
        lines["segments"] = _listed(campaign.segments)
    if campaign.sticky_us:
        lines["sticky"] = (
            f"a customer is shown the same offer again for {duration_text(campaign.sticky_us)} "
            f"(outcomes count for {duration_text(campaign.reward.window_us)} after the first time)"
        )
    return lines


def _limits(campaign: Campaign) -> dict[str, str]:
    """Return which offers a customer may or may not see, and how often."""
    offers = campaign.offers
    lines = {
        "hours": "\n".join(_hours(offer, campaign.time_zone) for offer in offers if offer.hours),
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
    return {subject: text for subject, text in lines.items() if text}


def _learning(campaign: Campaign) -> dict[str, str]:
    reward, preset = campaign.reward, campaign.exploration.preset
    low, high, default = map(exact_text, (*reward.range, reward.default))
    return {
        "reward": f"{_listed(map(_weighed, reward.outcomes.items()))}; {reward.aggregate} within {low} … "
        f"{high}, {default} where nothing came; {_LEARNED[reward.learn]}{_showing(reward)}",
        "window": f"outcomes count for {duration_text(reward.window_us)} after the offer was shown, and may "
        f"be {duration_text(reward.grace_us)} on their way; a deferred decision waits "
        f"{duration_text(reward.activation_window_us)} to be activated",
        "exploration": f"{preset}, {100 * campaign.exploration.discovery:.4g}% discovery. "
        f"{PRESETS[preset].purpose}",
        **({"time": f"the model reads {_time_read(campaign)}"} if campaign.context.time != TIME_READ else {}),
        "control": _control(campaign.variants),
        "consent": f"{campaign.consent}: {_CONSENT[campaign.consent]}",
        **({"strict": "a call with a value that cannot be used is refused"} if campaign.strict else {}),
        "wishes": "offers, topics and channels a customer blocks, and quiet hours, are always heeded",
        "arguments": _of_policies(campaign, _arguments),
        "memory": _of_policies(campaign, _memory),
    }


def _of_policies(campaign: Campaign, line: Callable[[Campaign, str], str]) -> str:
    """Return a line of each policy that learns; only one of several needs its name."""
    names = campaign.policies
    return "\n".join(f"{f'{name}: ' if len(names) > 1 else ''}{line(campaign, name)}" for name in names)


def _arguments(campaign: Campaign, policy: str) -> str:
    """Return what Vowpal Wabbit is given."""
    given = arguments(campaign.policies[policy], len(campaign.offers))
    pairs = challenger(given, len(campaign.context.features)).removeprefix(given).count("--cubic")
    beside = f"; a second model, used while it predicts better, also has {pairs} pairs by --cubic"
    return f"{given}{beside if pairs else ''}"


def _memory(campaign: Campaign, policy: str) -> str:
    return f"its model takes about {model_bytes(campaign, policy) / 1e6:.1f} MB in each process at most"


def _weighed(outcome: tuple[str, OutcomeRule]) -> str:
    name, rule = outcome
    return f"{name} {exact_text(rule.weight)}{' (final)' if rule.final else ''}"


def _control(variants: Variants) -> str:
    """Return who sees what instead of what the bandit draws."""
    control = variants.control
    if control is None:
        return "none"
    share = f"{100 * control.share:.4g}%"
    served = {"uniform": "any offer, with equal chance", "fallback": "the fallback"}
    seen = served.get(control.serves, control.serves)
    if variants.split == BY_DECISION:
        return f"{share} of decisions see {seen}"
    return (
        f"{share} of customers see {seen}, in every session and channel; and {share} of the visits of "
        "people who are not known"
    )


def _showing(reward: RewardSection) -> str:
    shows = [name for name, rule in reward.outcomes.items() if rule.shows]
    return f"; {_listed(shows)} also activates a decision that waits for it" if shows else ""


def _by_topic(offers: Iterable[Offer]) -> Mapping[str, list[str]]:
    topics: dict[str, list[str]] = {}
    for offer in offers:
        for topic in dict.fromkeys(
            (*offer.topics, *((offer.sensitive_topic,) if offer.sensitive_topic else ()))
        ):
            topics.setdefault(topic, []).append(offer.id)
    return topics


def _hours(offer: Offer, time_zone: str) -> str:
    """Return when an offer is shown, and on whose clocks."""
    assert offer.hours is not None, "asked of offers with hours"
    text = f"{offer.id}: {offer.hours} on the customer's clock"
    if offer.valid:
        text += f"; `valid` counts days on the campaign's ({time_zone})"
    if offer.hours.wrap:
        text += "; a night belongs to the day on which it begins"
    return text


def _caps(campaign: Campaign) -> list[str]:
    lines = [f"{offer.id}: {_capped(offer.caps)}" for offer in campaign.offers if offer.caps]
    for name, group in campaign.groups.items():
        if group.caps:
            ids = _named(offer.id for offer in campaign.offers if offer.group == name)
            lines.append(f"{name} together ({ids or 'no offer is in this group'}): {_capped(group.caps)}")
    return lines


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
