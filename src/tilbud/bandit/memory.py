"""What the model of a policy takes in memory, reckoned from its campaign, before there is one.

    counts + regressions · (VW itself + 2^bits weights + parsed offers)

What holds: it is what a model takes that has met many situations and whose regressions have both answered;
one that has learned little takes less, since memory counts where it is written to.

What it does not do: measure; nor what a campaign takes beside its models, which is small.
"""

from __future__ import annotations

from tilbud.bandit import counts, presets
from tilbud.domain.campaign.campaign import Campaign

_VW_BYTES = 780_000  # measured: a workspace, whatever its arguments
_EXAMPLE_BYTES = 33_000  # measured: an offer parsed; VW has room for every namespace there could be
_WORD_BYTES = 4  # a float32


def model_bytes(campaign: Campaign, policy: str) -> int:
    """Return about how many bytes a policy's model takes at most, in each process that serves it."""
    offers = len(campaign.offers)
    arguments = presets.arguments(campaign.policies[policy], offers)
    regressions = 2 if presets.challenger(arguments, len(campaign.context.features)) else 1
    table = _WORD_BYTES << counts.BITS
    return table + regressions * (_VW_BYTES + weights_bytes(arguments) + offers * _EXAMPLE_BYTES)


def weights_bytes(arguments: str) -> int:
    """Return the bytes of VW's weights with these arguments: so many numbers for each of 2^bits."""
    words = arguments.split()
    bits = int(words[words.index("--bit_precision") + 1])
    return (_WORD_BYTES * _numbers(words)) << bits


def _numbers(words: list[str]) -> int:
    """Return how many numbers an optimiser has beside each weight, and with it, as a power of two."""
    if "--coin" in words:
        return 8
    plain = "--invariant" in words and not {"--adaptive", "--normalized"} & set(words)
    return 1 if plain else 4
