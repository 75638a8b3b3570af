"""A batch of calls as one SQLite transaction, in which a call that is at fault falls alone.

What holds: either the transaction commits and each call has its result, or nothing of the batch is left
and each call has LedgerUnavailable. A call that fails by itself (a mistake of ours) is undone alone and
gets its own exception. Every commit remembers the service clock. What a call means is `statements.py`'s.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tilbud.domain.clock import Now
from tilbud.domain.decisions import Contact, Decision
from tilbud.domain.errors import LedgerUnavailable
from tilbud.ledger.statements import Statements

# What one call can cause by what it carries. Any other error of SQLite is the store's.
_OF_THE_CALL = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError)


@dataclass(frozen=True, slots=True)
class Recording:
    """Decisions to record; the recordings of a batch are written together."""

    decisions: Sequence[Decision]
    rows: Sequence[tuple[Any, ...]]
    contacts: Sequence[Contact | None]  # one for each decision
    now: Now


@dataclass(frozen=True, slots=True)
class Work:
    """Anything else to do in a transaction."""

    run: Callable[[Statements], Any]
    now: Now


class Batches:
    """Commits batches on one connection; for one thread."""

    def __init__(self, connection: sqlite3.Connection, statements: Statements) -> None:
        self._connection = connection
        self._statements = statements

    def commit(self, calls: Sequence[Recording | Work]) -> list[Any]:
        """Return each call's result, or the exception it shall raise."""
        try:
            try:
                return self._transaction(calls, self._together)
            except sqlite3.Error as error:
                if not isinstance(error, _OF_THE_CALL):
                    raise
            except Exception:  # noqa: BLE001, S110 - some call is at fault: the second try tells which
                pass
            return self._transaction(calls, self._one_by_one)
        except sqlite3.Error as error:
            return [LedgerUnavailable(f"the ledger cannot commit: {error}") for _ in calls]

    def _transaction(
        self, calls: Sequence[Recording | Work], run: Callable[[Sequence[Recording | Work]], list[Any]]
    ) -> list[Any]:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            results = run(calls)
            self._statements.finish(max(call.now.service_us for call in calls))
            self._connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # what failed may have rolled back already
                self._connection.execute("ROLLBACK")
            self._statements.forget()
            raise
        self._statements.keep()
        return results

    def _together(self, calls: Sequence[Recording | Work]) -> list[Any]:
        """Record first, in one go: none of the batch was acknowledged, so their order is ours."""
        recordings = [call for call in calls if isinstance(call, Recording)]
        recorded = iter(self._record(recordings)) if recordings else iter(())
        return [
            next(recorded) if isinstance(call, Recording) else call.run(self._statements) for call in calls
        ]

    def _one_by_one(self, calls: Sequence[Recording | Work]) -> list[Any]:
        results: list[Any] = []
        for call in calls:
            self._connection.execute("SAVEPOINT call")
            mark = self._statements.mark()
            try:
                alone = self._record([call])[0] if isinstance(call, Recording) else call.run(self._statements)
            except Exception as error:
                if isinstance(error, sqlite3.Error) and not isinstance(error, _OF_THE_CALL):
                    raise
                self._connection.execute("ROLLBACK TO call")
                self._statements.back_to(mark)
                results.append(error)
            else:
                results.append(alone)
            self._connection.execute("RELEASE call")
        return results

    def _record(self, recordings: Sequence[Recording]) -> list[list[Decision | None]]:
        """Return what is stored for each decision of each recording."""
        if len(recordings) == 1:
            [only] = recordings
            return [self._statements.record(only.decisions, only.rows, only.contacts, only.now)]
        stored = iter(
            self._statements.record(
                [decision for recording in recordings for decision in recording.decisions],
                [row for recording in recordings for row in recording.rows],
                [contact for recording in recordings for contact in recording.contacts],
                recordings[-1].now,
            )
        )
        return [[next(stored) for _ in recording.decisions] for recording in recordings]
