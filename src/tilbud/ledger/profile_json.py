"""A customer's profile as the JSON that is stored, and back.

What holds: what is read back is what was written, its text in NFC; what does not fit raises LedgerInvalid,
and no error quotes a profile. Nothing here reads a file.
"""

from __future__ import annotations

import json

from tilbud.domain.context import Consent
from tilbud.domain.customer.customer import Preferences, Profile, Trait
from tilbud.domain.durations import Hours
from tilbud.domain.errors import LedgerInvalid
from tilbud.domain.text import nfc

LISTS = ("blocked_offers", "blocked_topics", "blocked_channels", "opted_in_topics")
TEXTS = ("time_zone", "language", "journey_stage")
_NUMBERS = ("journey_stage_us", "updated_us", "changes")


def profile_text(profile: Profile) -> str:
    """Return a profile as the JSON that is stored."""
    preferences = profile.preferences
    quiet = preferences.quiet_hours
    fields: dict[str, object] = {"consent": int(profile.consent)}
    fields |= {name: getattr(profile, name) for name in (*TEXTS, *_NUMBERS)}
    fields |= {name: sorted(getattr(preferences, name)) for name in LISTS}
    fields["traits"] = {name: [trait.value, trait.updated_us] for name, trait in profile.traits.items()}
    if profile.removed_traits:
        fields["removed_traits"] = dict(profile.removed_traits)
    if profile.traits_cleared_us:
        fields["traits_cleared_us"] = profile.traits_cleared_us
    fields["quiet_hours"] = quiet and [quiet.from_minute, quiet.until_minute]
    return json.dumps(fields, separators=(",", ":"), allow_nan=False)


def parse_profile(text: str) -> Profile:
    """Return the profile `profile_text` made a text of; raises LedgerInvalid on any other."""
    try:
        fields = json.loads(text)
        quiet = fields["quiet_hours"]
        lists = {name: frozenset(map(_text, fields[name])) for name in LISTS}
        return Profile(
            consent=Consent(_whole(fields["consent"])),
            time_zone=_text(fields["time_zone"]),
            language=_text(fields["language"]),
            journey_stage=_text(fields["journey_stage"]),
            journey_stage_us=_whole(fields["journey_stage_us"]),
            traits={nfc(name): _trait(*pair) for name, pair in fields["traits"].items()},
            # These two are of later versions than the first, and often empty.
            removed_traits={name: _whole(at) for name, at in fields.get("removed_traits", {}).items()},
            traits_cleared_us=_whole(fields.get("traits_cleared_us", 0)),
            preferences=Preferences(
                **lists, quiet_hours=None if quiet is None else Hours(*map(_whole, quiet))
            ),
            updated_us=_whole(fields["updated_us"]),
            changes=_whole(fields["changes"]),
        )
    except (ValueError, TypeError, LookupError, AttributeError):
        # Without the cause, whose message may quote the profile.
        raise LedgerInvalid("a customer's profile is damaged: restore a backup") from None


def _trait(value: object, updated_us: object) -> Trait:
    if not isinstance(value, str | float | int):
        raise TypeError("a trait is a text, a number or a flag")
    return Trait(nfc(value) if isinstance(value, str) else value, _whole(updated_us))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return nfc(value)


def _whole(value: object) -> int:
    if type(value) is not int:
        raise TypeError("not a whole number")
    return value
