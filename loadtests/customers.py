"""What does it cost to respect the customer?

    python loadtests/customers.py [--calls 10000] [--rounds 5] [--customers 1000] [--history 10000]

CPU of a served process per durable decision, on a campaign in which every rule about customers is active
(caps of offers, groups and channels, quiet hours, suppress_after, requires, sensitive and blocked topics,
blocked offers, segments, traits, events, the journey) and nobody is capped:

 * known customers beside anonymous visitors, in Decide and in BatchDecide(100);
 * customers with 10,000 events and as many exposures beside customers with ten of each;
 * a `sticky` answer beside a new decision.

Both sides of a comparison take turns within one run, and choose among equally many offers, which is
checked; so is that each call was answered by the bandit, and recorded once. No customer is asked twice at
the same time: such questions are answered one after the other, and would measure the waiting. Prints its
table and the machine. It says nothing about learning: nothing settles while it runs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from string import Template
from typing import Any
from zoneinfo import ZoneInfo

import grpc
from rich.console import Console
from rich.table import Table

from serving import (
    BATCH_DECIDE,
    BATCH_IN_FLIGHT,
    BATCH_REPORT_OUTCOMES,
    BATCH_SIZE,
    DECIDE,
    Server,
    machine,
    served,
)
from tilbud.v1 import customers_pb2, decisions_pb2

UPDATE_CUSTOMER = "/tilbud.v1.CustomerService/UpdateCustomer"
REPORT_CUSTOMER_EVENT = "/tilbud.v1.CustomerService/ReportCustomerEvent"
Lines = Sequence[Sequence[bytes]]
"""Messages, in lines that are asked beside one another; those of one line are asked one after the other."""

IN_FLIGHT = 32
CAMPAIGN = "manners"
ZONE = "Europe/Copenhagen"
TIERS = ("bronze", "silver", "gold")
EVENTS = ("add_to_cart", "support_case")
FEW = 10  # events, and exposures, of an ordinary customer
CAP_TIMES = 100  # the most that a cap may allow
LONG = "7d"
SHORT = "20ms"  # so that 10,000 exposures, all made within a minute, cap nobody
HISTORIES = 8  # customers of each kind, with a long history and a short one
HISTORY_CALLS = 50  # to each of them in a round: short rounds, since they lengthen the short histories
HISTORY_LAPS = 4  # … and therefore so many of them for each round of the others
OFFERS = 13
FOR_EACH = 10  # seven for everybody, three for known customers only, three for the anonymous only
CONTACT = Template("""\
channels: {app: {caps: [{times: 100, per: $per}]}}
quiet_channels: [app]
""")
MANNERS = Template("""\
campaign: manners
time_zone: Europe/Copenhagen
$sticky
context:
  devices: [mobile]
  channels: [app, email]
  journey_stages: [awareness, consideration, purchase, retention]
  events: [add_to_cart, support_case, purchase]
  traits: {tier: category, value: {kind: number, max_age: 30d}}
journey: {add_to_cart: consideration, purchase: retention}
segments: {big: {value: {gt: 500}}}
groups: {discounts: {caps: [{times: 100, per: $per}]}}
offers:
  - {id: ten-percent-off, group: discounts, topics: [sale], caps: [{times: 100, per: $per}]}
  - {id: bundle, group: discounts, topics: [sale], caps: [{times: 100, per: $per}]}
  - {id: clearance, group: discounts, topics: [sale], caps: [{times: 100, per: $per}]}
  - {id: new-arrivals, topics: [news], caps: [{times: 100, per: $per}], suppress_after: {dismiss: 200ms}}
  - {id: bestsellers, topics: [news], caps: [{times: 100, per: $per}], suppress_after: {dismiss: 200ms}}
  - {id: free-shipping, caps: [{times: 100, per: $per}], suppress_after: {purchase: 30d, dismiss: 200ms}}
  - {id: pay-later, caps: [{times: 100, per: $per}], suppress_after: {purchase: 30d, dismiss: 200ms}}
  # For known customers only: they did it, opted in to it, spend as much.
  - {id: your-basket, requires: {add_to_cart: 2h}, caps: [{times: 100, per: $per}]}
  - {id: family-days, sensitive_topic: family, caps: [{times: 100, per: $per}]}
  - {id: concierge, when: {big: {eq: true}}, caps: [{times: 100, per: $per}]}
  # For the anonymous only: known customers blocked it, blocked its topic, spend too much.
  - {id: join-the-club, caps: [{times: 100, per: $per}]}
  - {id: beer-of-the-month, topics: [alcohol], caps: [{times: 100, per: $per}]}
  - {id: starter-pack, when: {none_of: [{big: {eq: true}}]}, caps: [{times: 100, per: $per}]}
fallback: {id: welcome}
reward: {window: 1d, range: [-1, 1], outcomes: {purchase: 1, dismiss: -0.2}}
consent: required
""")


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison: what it asks in a round."""

    name: str
    lines: Lines
    method: str = DECIDE
    new: bool = True  # False: every answer is that of the comparison's first side, again


@dataclass(frozen=True, slots=True)
class Lap:
    """One side's turn: decisions a second, CPU microseconds and eligible offers of each, and their ids."""

    rate: float
    cpu_us: float
    offers: float
    ids: tuple[str, ...]


# What is asked


def anonymous() -> decisions_pb2.DecideRequest:
    """Return a visitor's question, which says itself what is known of a customer from the profile."""
    return decisions_pb2.DecideRequest(
        campaign=CAMPAIGN,
        consent=decisions_pb2.CONSENT_GRANTED,
        context=decisions_pb2.Context(
            device="mobile", channel="app", journey_stage="consideration", time_zone=ZONE, language="da"
        ),
    )


def known(name: str, decision_id: str = "") -> decisions_pb2.DecideRequest:
    """Return a customer's question; consent, language, stage and time zone are the profile's."""
    return decisions_pb2.DecideRequest(
        campaign=CAMPAIGN,
        customer_id=name,
        decision_id=decision_id,
        context=decisions_pb2.Context(device="mobile", channel="app"),
    )


def batch(requests: Iterable[decisions_pb2.DecideRequest]) -> bytes:
    """Return many questions as one message."""
    return decisions_pb2.BatchDecideRequest(requests=requests).SerializeToString()


def profile(name: str, number: int) -> bytes:
    """Return what makes a customer known: every field that a profile has."""
    hour = datetime.now(ZoneInfo(ZONE)).hour
    preferences = customers_pb2.Preferences(
        blocked_offers=["join-the-club"],
        blocked_topics=["alcohol"],
        blocked_channels=["email"],
        opted_in_topics=["family"],
        quiet_hours=f"{(hour + 6) % 24:02}:00-{(hour + 12) % 24:02}:00",
    )
    customer = customers_pb2.Customer(
        id=name,
        consent=decisions_pb2.CONSENT_GRANTED,
        time_zone=ZONE,
        language="da",
        journey_stage="awareness",  # until an event says another
        preferences=preferences,
    )
    customer.traits["tier"].value.category = TIERS[number % len(TIERS)]
    customer.traits["value"].value.number = 501.0 + number % 1_000
    return customers_pb2.UpdateCustomerRequest(customer=customer).SerializeToString()


def event(name: str, number: int) -> bytes:
    """Return one of the things that happened to a customer."""
    return customers_pb2.ReportCustomerEventRequest(
        customer_id=name, event=EVENTS[number % len(EVENTS)], event_id=f"event-{number}"
    ).SerializeToString()


def in_lines(messages: Sequence[bytes], in_flight: int = IN_FLIGHT) -> Lines:
    """Spread messages over lines; each is always in the same one."""
    return [messages[first::in_flight] for first in range(min(in_flight, len(messages)))]


def repeated(lines: Lines, calls: int) -> Lines:
    """Go through each line again and again, until they have about so many calls together."""
    each = calls // len(lines)
    return [[line[number % len(line)] for number in range(each)] for line in lines]


# Asking


def ask(port: int, method: str, lines: Lines) -> tuple[list[list[bytes]], float]:
    """Send all messages; return the answers in their order, and the seconds. Any status but OK raises."""

    async def send() -> tuple[list[list[bytes]], float]:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call: Any = channel.unary_unary(method)

            async def through(line: Sequence[bytes]) -> list[bytes]:
                return [await call(message) for message in line]

            await channel.channel_ready()
            started = time.perf_counter()
            answers = await asyncio.gather(*(through(line) for line in lines))
            return answers, time.perf_counter() - started

    return asyncio.run(send())


def decisions_of(method: str, answers: list[list[bytes]]) -> list[decisions_pb2.DecideResponse]:
    """Return the decisions in answers; each must be the bandit's own, and recorded."""
    flat = [answer for line in answers for answer in line]
    if method == DECIDE:
        decisions = [decisions_pb2.DecideResponse.FromString(answer) for answer in flat]
    else:
        batches = [decisions_pb2.BatchDecideResponse.FromString(answer).results for answer in flat]
        decisions = [result.decision for results in batches for result in results]
    strange = [
        each
        for each in decisions
        if not each.recorded or each.reason != decisions_pb2.DECISION_REASON_PERSONALIZED
    ]
    assert not strange, f"{len(strange)} of {len(decisions)} were not decided and recorded, as: {strange[0]}"
    return decisions


def measure(server: Server, side: Side) -> Lap:
    """Let one side have its turn."""
    counters = ("tilbud_decisions_total", "tilbud_excluded_offers_total", "tilbud_redecided_decisions_total")
    counted = [server.counted(each) for each in counters]
    before_s = server.cpu_s()
    answers, seconds = ask(server.port, side.method, side.lines)
    cpu_s = server.cpu_s() - before_s
    recorded, excluded, again = (
        server.counted(each) - count for each, count in zip(counters, counted, strict=True)
    )
    decisions = decisions_of(side.method, answers)
    count = len(decisions)
    assert recorded == (count if side.new else 0), f"{side.name}: {count} answers, {recorded} recorded"
    assert not again, f"{side.name}: {again} were decided again, since their customer changed meanwhile"
    return Lap(
        rate=count / seconds,
        cpu_us=cpu_s / count * 1e6,
        offers=OFFERS - excluded / count,
        ids=tuple(each.decision_id for each in decisions),
    )


def compare(server: Server, rounds: Iterable[Sequence[Side]], goal: str, table: Table) -> None:
    """Let the sides take turns, of which the first warms up; ratios are to the first side, by round."""
    sides: Sequence[Side] = ()
    laps: list[list[Lap]] = []
    for sides in rounds:
        taken = [measure(server, side) for side in sides]
        for side, lap in zip(sides, taken, strict=True):
            if side.new:
                assert lap.offers == FOR_EACH, f"{side.name}: chose among {lap.offers} offers, not {FOR_EACH}"
            else:
                assert lap.ids == taken[0].ids, f"{side.name}: not the decision that was made before"
        laps.append(taken)
    for number, side in enumerate(sides):
        own = [taken[number] for taken in laps[1:]]
        ratio = statistics.median(taken[number].cpu_us / taken[0].cpu_us for taken in laps[1:])
        table.add_row(
            side.name,
            str(len(side.lines)),
            f"{statistics.median(lap.rate for lap in own):,.0f}",
            f"{statistics.median(lap.cpu_us for lap in own):.0f}",
            f"{statistics.fmean(lap.offers for lap in own):.2f}" if side.new else "",
            f"{ratio:.2f}" if number else "1",
            goal if number else "",
        )
    table.add_section()


# Who asks


@contextlib.contextmanager
def shop(per: str, sticky: str = "") -> Iterator[Server]:
    """Serve the campaign with such cap windows, from an empty data directory."""
    with tempfile.TemporaryDirectory() as directory:
        campaigns = Path(directory) / "campaigns"
        campaigns.mkdir()
        (campaigns / "manners.yaml").write_text(MANNERS.substitute(per=per, sticky=sticky))
        (campaigns / "contact.yaml").write_text(CONTACT.substitute(per=per))
        with served(Path(directory) / "data", campaigns=campaigns) as server:
            yield server


def introduce(port: int, names: list[str], history: int = FEW) -> tuple[float, float]:
    """Make customers known, each with so many events, exposures, and a dismissed offer.

    Returns the seconds that events and exposures took.
    """
    ask(port, UPDATE_CUSTOMER, in_lines([profile(name, number) for number, name in enumerate(names)]))
    events = [event(name, number) for number in range(history) for name in names]
    _, events_s = ask(port, REPORT_CUSTOMER_EVENT, in_lines(events))
    groups = [names[first : first + BATCH_SIZE] for first in range(0, len(names), BATCH_SIZE)]
    lines = [[batch(known(name) for name in group * FEW)] * (history // FEW) for group in groups]
    answers, exposures_s = ask(port, BATCH_DECIDE, lines)
    for group, line in zip(groups, answers, strict=True):
        shown = decisions_of(BATCH_DECIDE, [line])[-len(group) :]
        outcomes = [
            decisions_pb2.ReportOutcomeRequest(
                campaign=CAMPAIGN, decision_id=each.decision_id, outcome="dismiss"
            )
            for each in shown
        ]
        message = decisions_pb2.BatchReportOutcomesRequest(requests=outcomes).SerializeToString()
        ask(port, BATCH_REPORT_OUTCOMES, [[message]])
    time.sleep(0.5)  # until what was dismissed may be shown again
    return events_s, exposures_s


def named(kind: str, count: int) -> list[str]:
    """Return the ids of so many customers."""
    return [f"{kind}-{number}" for number in range(count)]


# The comparisons


def known_or_not(calls: int, rounds: int, customers: int, table: Table) -> None:
    """Measure known customers beside the anonymous."""
    with shop(LONG) as server:
        names = named("single", customers)
        introduce(server.port, names)
        lines = in_lines([known(name).SerializeToString() for name in names])
        sides = (
            Side("Decide, anonymous", repeated([[anonymous().SerializeToString()]] * len(lines), calls)),
            Side("Decide, known customer", repeated(lines, calls)),
        )
        compare(server, [sides] * (rounds + 1), "≤ 1.5", table)

        names = named("batched", customers)
        introduce(server.port, names)
        groups = [names[first : first + BATCH_SIZE] for first in range(0, customers, BATCH_SIZE)]
        lines = in_lines([batch(known(name) for name in group) for group in groups], BATCH_IN_FLIGHT)
        nobody = batch([anonymous()] * BATCH_SIZE)
        title = f"BatchDecide({BATCH_SIZE}), decisions"
        sides = (
            Side(
                f"{title}, anonymous",
                repeated([[nobody]] * len(lines), calls // BATCH_SIZE),
                BATCH_DECIDE,
            ),
            Side(f"{title}, known", repeated(lines, calls // BATCH_SIZE), BATCH_DECIDE),
        )
        compare(server, [sides] * (rounds + 1), "≤ 1.5", table)


def short_or_long(rounds: int, history: int, table: Table) -> str:
    """Measure long histories beside short ones; return how long it took to make them.

    Those with a short history are others in each round, since being asked makes it longer.
    """
    laps = rounds * HISTORY_LAPS + 1
    with shop(SHORT) as server:
        old = named("old", HISTORIES)
        events_s, exposures_s = introduce(server.port, old, history)
        young = named("young", HISTORIES * laps)
        introduce(server.port, young)

        def asked(names: Sequence[str]) -> Lines:
            return [[known(name).SerializeToString()] * HISTORY_CALLS for name in names]

        sides = [
            (
                Side(f"Decide, {FEW} events and exposures", asked(young[lap::laps])),
                Side(f"Decide, {history:,} events and exposures", asked(old)),
            )
            for lap in range(laps)
        ]
        compare(server, sides, "≤ 1.2", table)
    return (
        f"{HISTORIES} customers got {history:,} events in {events_s:.0f} s and as many exposures in "
        f"{exposures_s:.0f} s; each customer was asked {HISTORY_CALLS} times a round, those with {FEW} only "
        f"in one round; a round of theirs is one of {rounds * HISTORY_LAPS}"
    )


def again_or_new(rounds: int, customers: int, table: Table) -> None:
    """Measure sticky answers beside the decisions they repeat; other customers in each round."""

    def sides(kind: str) -> Iterator[Side]:
        names = named(kind, customers)
        questions = [known(name).SerializeToString() for name in names]
        with_ids = [known(name, f"{name}-again").SerializeToString() for name in names]
        yield Side("sticky: a new decision", in_lines(questions))
        yield Side("sticky: the same answer", in_lines(questions), new=False)
        yield Side("sticky: the same, for an id of its own", in_lines(with_ids), new=False)

    with shop(LONG, "sticky: 24h") as server:
        kinds = [f"sticky-{number}" for number in range(rounds + 1)]
        for kind in kinds:
            names = named(kind, customers)
            ask(server.port, UPDATE_CUSTOMER, in_lines([profile(name, i) for i, name in enumerate(names)]))
            ask(server.port, REPORT_CUSTOMER_EVENT, in_lines([event(name, 0) for name in names]))
        compare(server, [tuple(sides(kind)) for kind in kinds], "", table)


def check(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Refuse what would cap customers while they are measured, or not fill lines and batches."""
    if options.customers % BATCH_SIZE or options.customers <= 0:
        parser.error(f"--customers must be a multiple of {BATCH_SIZE}")
    if options.calls < BATCH_SIZE * BATCH_IN_FLIGHT or options.rounds < 1:
        parser.error(f"--calls must be at least {BATCH_SIZE * BATCH_IN_FLIGHT}, --rounds at least 1")
    if options.history % FEW or options.history <= 0:
        parser.error(f"--history must be a multiple of {FEW}")
    batches = options.customers // BATCH_SIZE
    lines = min(BATCH_IN_FLIGHT, batches)
    each = max(  # in the shortest line, where turns come round soonest
        math.ceil(options.calls // IN_FLIGHT / (options.customers // IN_FLIGHT)),
        math.ceil(options.calls // BATCH_SIZE // lines / (batches // lines)),
    )
    each = FEW + (options.rounds + 1) * each
    if each >= CAP_TIMES:
        parser.error(
            f"each customer would be asked up to {each} times, and caps are {CAP_TIMES}: "
            "more --customers, or fewer --calls or --rounds"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=10_000, help="decisions a round, of each side")
    parser.add_argument("--rounds", type=int, default=5, help="rounds; the table shows medians")
    parser.add_argument("--customers", type=int, default=1_000, help="known customers who take turns")
    parser.add_argument("--history", type=int, default=10_000, help="events and exposures of a long history")
    options = parser.parse_args()
    check(options, parser)
    table = Table(
        "what", "in flight", "a second", "CPU µs each", "offers", "ratio", "goal",
        title="Durable decisions with every customer rule active",
    )  # fmt: skip
    known_or_not(options.calls, options.rounds, options.customers, table)
    loaded = short_or_long(options.rounds, options.history, table)
    again_or_new(options.rounds, options.customers, table)
    console = Console(width=110)
    console.print(table)
    console.print(loaded)
    console.print(
        f"medians of {options.rounds} rounds after one to warm up, ratios of CPU within a round; "
        f"server and client on one machine: {machine()}"
    )


if __name__ == "__main__":
    main()
