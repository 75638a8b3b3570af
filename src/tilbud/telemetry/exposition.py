"""What a scrape reads, in the format it asks for.

The client library makes an object of each sample before it writes it, which takes seconds where a thousand
campaigns begin all their counters at 0, and holds the interpreter meanwhile. What holds: families that know
how to write themselves (see `fast.py`) do, the others are the library's, and the text is as the library's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from tilbud.telemetry.fast import Written

_END = b"# EOF\n"  # of OpenMetrics; nothing may follow it


def exposition(registry: Collector, accept: str) -> tuple[bytes, str]:
    """Return the metrics of a registry in the best format that is accepted, and its name."""
    encode, content_type = choose_encoder(accept)
    written: list[bytes] = []
    others: list[Metric] = []
    for metric in registry.collect():
        if isinstance(metric, Written):
            head = encode(_Collected([Metric(metric.name, metric.documentation, metric.type)]))
            written += [head.removesuffix(_END), metric.lines().encode()]
        else:
            others.append(metric)
    return b"".join([*written, encode(_Collected(others))]), content_type


class _Collected(Collector):
    """Metrics that were collected already."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics
