"""Counters and histograms for the path of a decision: the loop's thread adds, a scrape reads.

The client library takes a lock for every number and looks for a histogram's bucket one by one, which is
a tenth of a decision. What holds: one thread adds, so that no lock is needed; a scrape in another may see
one observation in a bucket and not yet in the sum, never a number that falls.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import cache, lru_cache, partial
from itertools import accumulate
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from tilbud.domain.limits import Limits

Child = TypeVar("Child")


class FastCounter:
    """One number that grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, by: float = 1.0) -> None:
        """Add what is not below 0."""
        self.value += by


class FastHistogram:
    """One histogram: how many observations fell up to each bound, and their sum."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value


class Written(Metric):
    """A family that writes its samples as text, and makes the library's objects of them only where asked to.

    Objects take ten times as long to make and write, and a service may have some hundred thousand samples.
    """

    def __init__(self, metric: Metric, samples: Callable[[], Metric], lines: Callable[[], str]) -> None:
        self._samples = samples
        self.lines = lines
        """Returns the lines of the samples, the same in both of Prometheus's formats."""
        super().__init__(metric.name, metric.documentation, metric.type)

    @property
    def samples(self) -> list[Sample]:
        """Return the samples as they are now."""
        return self._samples().samples

    @samples.setter
    def samples(self, _: list[Sample]) -> None:
        """Do nothing: the library begins with none."""


class _Family(Collector, Generic[Child]):
    """The children of one name, by their labels' values."""

    def __init__(
        self,
        name: str,
        text: str,
        labels: Sequence[str],
        registry: CollectorRegistry,
        make: Callable[[], Child],
    ) -> None:
        self._name, self._text, self._labels = name, text, labels
        self._order = sorted(range(len(labels)), key=lambda place: labels[place])
        self._make = make
        self._children: dict[tuple[str, ...], Child] = {}
        registry.register(self)

    def labels(self, *values: str) -> Child:
        """Return the child with these labels' values, made at its first use."""
        child = self._children.get(values)
        if child is None:
            assert len(values) == len(self._labels), (self._name, values)
            child = self._children[values] = self._make()
        return child

    def remove(self, label: str, value: str) -> None:
        """Drop the children where this label has this value; who kept one counts into nothing."""
        place = self._labels.index(label)
        for values in [values for values in self._children if values[place] == value]:
            del self._children[values]

    def keep_offers(self, campaign: str, offers: Collection[str]) -> None:
        """Drop the children of a campaign's other offers, likewise."""
        campaign_at, offer_at = self._labels.index("campaign"), self._labels.index("offer")
        for values in list(self._children):
            if values[campaign_at] == campaign and values[offer_at] not in offers:
                del self._children[values]

    def _written(self, values: tuple[str, ...]) -> tuple[str, ...]:
        """Return the labels' values as they are written, in the order of the labels' names."""
        return tuple([_escaped(values[place]) for place in self._order])

    def _now(self) -> Iterable[tuple[tuple[str, ...], Child]]:
        return list(self._children.items())  # in one step: the loop's thread may add a child


class FastCounters(_Family[FastCounter]):
    """A counter."""

    def __init__(self, name: str, text: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        self._line = _line(f"{name}_total", labels)
        super().__init__(name, text, labels, registry, FastCounter)

    def collect(self) -> Iterator[Metric]:
        """Yield the counter as it is when it is read."""
        yield Written(self._empty(), self._as_samples, self._as_lines)

    def _empty(self) -> CounterMetricFamily:
        return CounterMetricFamily(self._name, self._text, labels=self._labels)

    def _as_samples(self) -> Metric:
        family = self._empty()
        for values, counter in self._now():
            family.add_metric(values, counter.value)
        return family

    def _as_lines(self) -> str:
        line, written = self._line, self._written
        return "".join([line % (*written(values), _number(counter.value)) for values, counter in self._now()])


class FastSums(_Family[list[float]]):
    """Several counters with the same labels: a child has a number for each, in their order.

    So their labels are kept once, and written once a scrape, which is most of what a counter costs.
    """

    def __init__(
        self, families: Sequence[tuple[str, str]], labels: Sequence[str], registry: CollectorRegistry
    ) -> None:
        self._families = families
        self._marks = _line("", labels).removesuffix(" %s\n")
        name, text = families[0]
        super().__init__(name, text, labels, registry, lambda: [0.0] * len(families))

    def collect(self) -> Iterator[Metric]:
        """Yield each counter as it is when it is read."""
        marked = cache(lambda: [(self._marks % self._written(values), sums) for values, sums in self._now()])
        for place in range(len(self._families)):
            yield Written(
                self._empty(place), partial(self._as_samples, place), partial(self._as_lines, place, marked)
            )

    def _empty(self, place: int) -> CounterMetricFamily:
        name, text = self._families[place]
        return CounterMetricFamily(name, text, labels=self._labels)

    def _as_samples(self, place: int) -> Metric:
        family = self._empty(place)
        for values, sums in self._now():
            family.add_metric(values, sums[place])
        return family

    def _as_lines(self, place: int, marked: Callable[[], list[tuple[str, list[float]]]]) -> str:
        name = f"{self._families[place][0]}_total"
        return "".join([f"{name}{marks} {_number(sums[place])}\n" for marks, sums in marked()])


class FastHistograms(_Family[FastHistogram]):
    """A histogram; its bounds ascend."""

    def __init__(
        self,
        name: str,
        text: str,
        bounds: Sequence[float],
        labels: Sequence[str],
        registry: CollectorRegistry,
    ) -> None:
        self._words = [
            floatToGoString(bound)  # type: ignore[no-untyped-call]  # the library's
            for bound in (*bounds, float("inf"))
        ]
        self._lines = [
            *(_line(f"{name}_bucket", labels, f'le="{word}"') for word in self._words),
            _line(f"{name}_count", labels),
            _line(f"{name}_sum", labels),
        ]
        super().__init__(name, text, labels, registry, lambda: FastHistogram(bounds))

    def collect(self) -> Iterator[Metric]:
        """Yield the histogram as it is when it is read."""
        yield Written(self._empty(), self._as_samples, self._as_lines)

    def _empty(self) -> HistogramMetricFamily:
        return HistogramMetricFamily(self._name, self._text, labels=self._labels)

    def _as_samples(self) -> Metric:
        family = self._empty()
        for values, histogram in self._now():
            up_to = accumulate(list(histogram.counts))
            family.add_metric(values, list(zip(self._words, up_to, strict=True)), histogram.total)
        return family

    def _as_lines(self) -> str:
        parts: list[str] = []
        for values, histogram in self._now():
            words = self._written(values)
            up_to = list(accumulate(list(histogram.counts)))
            numbers = (*up_to, up_to[-1], histogram.total)
            parts += [
                line % (*words, _number(number)) for line, number in zip(self._lines, numbers, strict=True)
            ]
        return "".join(parts)


def _line(name: str, labels: Sequence[str], more: str = "") -> str:
    """Return a sample's line with places for the labels' values, by the labels' names, and for its number.

    `more` is one more label, with its value.
    """
    places = sorted([*(f'{label}="%s"' for label in labels), *filter(None, [more])])
    return f"{name}{{{','.join(places)}}} %s\n"


@lru_cache(maxsize=Limits.escaped_labels_cached_max)
def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    return floatToGoString(value) if value else "0.0"  # type: ignore[no-untyped-call]  # the library's
