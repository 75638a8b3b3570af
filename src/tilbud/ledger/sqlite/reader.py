"""What can be read of a ledger's file, while a service writes it or after.

What holds: nothing here can change the file; every read is of one moment and sees every commit before it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from tilbud.domain.clock import Absence, Clocks, Now
from tilbud.domain.customer.customer import NOTHING_HAPPENED
from tilbud.domain.decision.facts import NOTHING_SEEN, Facts, LookUp
from tilbud.domain.decision.records import Decision, InternedText, Settlement
from tilbud.domain.errors import LedgerUnavailable
from tilbud.domain.limits import Limits
from tilbud.domain.pauses import Pause
from tilbud.ledger.answers import Standing
from tilbud.ledger.sqlite import look_up as answers
from tilbud.ledger.sqlite.condition import Condition
from tilbud.ledger.sqlite.customers_reader import SqliteCustomersReading
from tilbud.ledger.sqlite.lease import LEASED_UNTIL
from tilbud.ledger.sqlite.pause_cache import PauseCache
from tilbud.ledger.sqlite.rows import SETTLEMENT_COLUMNS, STORED_DECISION, recorded_decision
from tilbud.ledger.sqlite.schema import connect

CAMPAIGN = "(SELECT no FROM campaigns WHERE id = ?)"
# One statement, since nearly every id that a caller made is looked for, and is new.
FIND = (
    f"SELECT {STORED_DECISION}, NULL, NULL FROM decisions d "  # noqa: S608 - only constants
    f"WHERE d.campaign_no = {CAMPAIGN} AND d.decision_id = ? UNION ALL "
    f"SELECT {STORED_DECISION}, r.fingerprint, r.payload FROM repeats r "
    "JOIN decisions d ON d.no = r.decision_no "
    f"WHERE r.campaign_no = {CAMPAIGN} AND r.decision_id = ? LIMIT 1"
)
_SETTLEMENTS = (
    f"SELECT {SETTLEMENT_COLUMNS} FROM settlements s LEFT JOIN decisions d ON d.no = s.decision_no "  # noqa: S608
    f"WHERE s.campaign_no = {CAMPAIGN} AND s.sequence > ? ORDER BY s.sequence LIMIT ?"
)
_SEQUENCES = (
    "SELECT coalesce((SELECT min(sequence) FROM settlements WHERE campaign_no = c.no), last_sequence + 1), "
    "last_sequence FROM campaigns c WHERE id = ? AND last_sequence > 0"
)
_OLDEST_DUE = (
    f"SELECT min(due_service_us) FROM windows WHERE campaign_no = {CAMPAIGN} "  # noqa: S608
    "AND due_service_us IS NOT NULL"
)
_STANDINGS = (
    "SELECT id, last_sequence, erasures, open, CASE WHEN open > 0 THEN "
    "(SELECT min(due_service_us) + c.absences_us FROM windows "
    "WHERE campaign_no = c.no AND due_service_us IS NOT NULL) END "
    "FROM campaigns c"
)
_UNDER_OTHER_RULES = (
    "SELECT count(*) FROM windows w JOIN decisions d ON d.no = w.decision_no "  # noqa: S608 - only constants
    f"WHERE w.campaign_no = {CAMPAIGN} AND w.due_service_us IS NOT NULL AND d.rules IS NOT NULL "
    "AND d.rules <> ?"
)
_ABSENCE = "SELECT absences_us, away_since_us FROM campaigns WHERE id = ?"
_EVERY_PAUSE = (
    "SELECT campaign, offer_id, reason, since_us, until_us FROM switches ORDER BY campaign, offer_id"
)


class SqliteReading(SqliteCustomersReading):
    """Reads the file at `path`; `open_reading` first, for one thread."""

    def __init__(self, path: Path, *, limits: Limits, condition: Condition | None = None) -> None:
        super().__init__(path, limits=limits, condition=condition)
        self._pause_cache = PauseCache(path, self.every_pause)
        self._standings: tuple[int, dict[str, Standing]] | None = None  # and the file's version before it

    def find(self, campaign: str, decision_id: str) -> Decision | None:
        """Return the recorded decision, or the earlier one that a repeat stands for."""
        with self._reads() as (reading, records):
            row = reading.execute(FIND, 2 * (campaign, decision_id)).fetchone()
            return recorded_decision(records, campaign, row) if row else None

    def look_up(self, looks: Sequence[LookUp]) -> list[Facts]:
        """Return what decisions need to know, as it is at one moment."""
        pauses = {campaign: self._pause_cache.of(campaign) for campaign in {look.campaign for look in looks}}
        if not any(look.decision_id or look.keys for look in looks):
            return [Facts(pauses[look.campaign]) for look in looks]
        # A transaction costs as much as a statement, and two that are not of one moment do no harm: what is
        # newer than the customer's version is caught when the decision is recorded.
        with (self._reads_one_moment if answers.asks_much(looks) else self._reads)() as (reading, records):
            earlier = answers.earlier(reading, records, looks)
            stored = answers.customers(reading, list({key: None for look in looks for key in look.keys}))
            keys = [answers.known_as(look, stored) for look in looks]
            numbers = [stored[key][0] if key in stored else 0 for key in keys]
            happened = answers.happened(reading, looks, numbers)
            exposures = answers.exposures(reading, looks, numbers, self._limits)
            sticky = answers.sticky(reading, records, looks, numbers)
        return [
            Facts(
                pauses[look.campaign],
                earlier.get(place),
                key,
                self._customer_of(stored.get(key)),
                happened.get(place, NOTHING_HAPPENED),
                exposures.get(place, NOTHING_SEEN),
                sticky.get(place),
            )
            for place, (look, key) in enumerate(zip(looks, keys, strict=True))
        ]

    def settlements(self, campaign: str, after: int, limit: int) -> list[Settlement]:
        """Return settlements with sequence > `after`, in order."""
        with self._reads() as (reading, records):
            rows = reading.execute(_SETTLEMENTS, (campaign, after, limit)).fetchall()
            return [records.settlement(campaign, row) for row in rows]

    def sequences(self, campaign: str) -> tuple[int, int]:
        """Return the first and the last retained sequence."""
        with self._reads() as (reading, _):
            row: tuple[int, int] | None = reading.execute(_SEQUENCES, (campaign,)).fetchone()
            return row or (0, 0)

    def pauses(self, campaign: str) -> tuple[Pause, ...]:
        """Return the pauses of a campaign."""
        return self._pause_cache.of(campaign)

    def pauses_changed(self) -> None:
        """Tell every process that a pause changed; raises OSError where the disk refuses."""
        self._pause_cache.changed()

    def every_pause(self) -> tuple[Pause, ...]:
        """Return the pauses of every campaign."""
        with self._reads() as (reading, _):
            return tuple([Pause(*row) for row in reading.execute(_EVERY_PAUSE)])

    def erasures(self, campaign: str) -> int:
        """Return how many erasures removed settlements of the campaign."""
        with self._reads() as (reading, _):
            row = reading.execute("SELECT erasures FROM campaigns WHERE id = ?", (campaign,)).fetchone()
            return int(row[0]) if row else 0

    def campaigns(self) -> list[str]:
        """Return every campaign the ledger has rows of."""
        with self._reads() as (reading, _):
            return [row[0] for row in reading.execute("SELECT id FROM campaigns ORDER BY id")]

    def clocks(self, campaign: str, now: Now) -> Clocks:
        """Return the campaign's clocks."""
        with self._reads() as (reading, _):
            row = reading.execute(_ABSENCE, (campaign,)).fetchone()
            return Absence(*(row or ())).clocks(now, int(self._limits.campaign_away_max_s * 1e6))

    def pending(self, campaign: str) -> int:
        """Return how many decisions wait for activation or settlement."""
        with self._reads() as (reading, _):
            row = reading.execute("SELECT open FROM campaigns WHERE id = ?", (campaign,)).fetchone()
            return int(row[0]) if row else 0

    def count_other_rules(self, campaign: str, rules: InternedText) -> int:
        """Return how many open decisions were made with other rules; on a connection of its own."""
        try:
            with closing(connect(self._path, read_only=True)) as connection:
                [count] = connection.execute(_UNDER_OTHER_RULES, (campaign, rules.digest)).fetchone()
                return int(count)
        except sqlite3.Error as error:
            raise LedgerUnavailable(f"the ledger cannot be read: {error}") from error

    def oldest_due_service_us(self, campaign: str) -> int | None:
        """Return when the next decision settles or expires."""
        with self._reads() as (reading, _):
            due_service_us: int | None = reading.execute(_OLDEST_DUE, (campaign,)).fetchone()[0]
            return due_service_us

    def standings(self) -> dict[str, Standing]:
        """Return where every campaign stands; what was read before where nobody committed since."""
        with self._reads() as (reading, _):
            [version] = reading.execute("PRAGMA data_version").fetchone()
            if self._standings is None or self._standings[0] != version:
                rows = reading.execute(_STANDINGS).fetchall()
                self._standings = version, {name: Standing(*row) for name, *row in rows}
            return self._standings[1]

    def leased_until_us(self) -> int:
        """Return when the lease to settle runs out."""
        with self._reads() as (reading, _):
            [until_us] = reading.execute(LEASED_UNTIL).fetchone()
            return int(until_us)
