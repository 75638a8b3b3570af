"""A batch of calls as one SQLite transaction, in which a call that is at fault falls alone.

What holds: either the transaction commits and each call has its result, or nothing of the batch is left
and each call has LedgerUnavailable. A call that fails by itself (a mistake of ours) is undone alone and
gets its own exception. Every commit proves the service clock, and no call in it happened later than that
clock says: whoever read it before an outage was found, read too late a time. A commit is told of only when
it was counted beside the file, and the file is still the one that was opened. A ledger that is lost or
damaged is not written any more. After a commit that failed, one counts for proof only if it found room for
`limits.probe_bytes`. What a call means is `decisions.py`'s.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from tilbud.domain.clock import Now
from tilbud.domain.decision.records import Decision, ExposureEffect
from tilbud.domain.errors import LedgerUnavailable
from tilbud.domain.limits import Limits
from tilbud.ledger.sqlite.acknowledged import AcknowledgedFile
from tilbud.ledger.sqlite.condition import Condition, is_damage
from tilbud.ledger.sqlite.decisions import Statements
from tilbud.ledger.sqlite.rows import decision_row
from tilbud.ledger.sqlite.same_file import SameFiles
from tilbud.ledger.sqlite.service_clock import Proof

# What one call can cause by what it carries. Any other error of SQLite is the store's.
_OF_THE_CALL = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError)


@dataclass(frozen=True, slots=True)
class Recording:
    """Decisions to record; the recordings of a batch are written together."""

    decisions: Sequence[Decision]
    rows: Sequence[tuple[Any, ...]]
    contacts: Sequence[ExposureEffect | None]  # one for each decision
    now: Now


@dataclass(frozen=True, slots=True)
class Work:
    """Anything else to do in a transaction."""

    run: Callable[[Statements, Now], Any]  # told when it happens, which may be before `now`
    now: Now


@dataclass(frozen=True, slots=True)
class Watched:
    """What is asked of the files at each commit of a service."""

    files: SameFiles
    acknowledged: AcknowledgedFile


class _Lost(Exception):
    """The files are no longer those that were opened."""


class Batches:
    """Commits batches on one connection; for one thread."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        statements: Statements,
        proof: Proof,
        *,
        condition: Condition,
        limits: Limits,
        watched: Watched | None = None,
    ) -> None:
        self._connection = connection
        self._statements = statements
        self._proof = proof
        self._condition = condition
        self._limits = limits
        self._watched = watched
        self._failed = False

    def commit(self, calls: Sequence[Recording | Work]) -> list[Any]:
        """Return each call's result, or the exception it shall raise."""
        condition = self._condition
        if condition.refusal:
            return [LedgerUnavailable(condition.refusal) for _ in calls]
        condition.began()
        error = ""
        try:
            return self._either_way(calls)
        except (sqlite3.Error, OSError, _Lost) as failure:
            self._failed = True
            error = f"the ledger cannot commit: {failure}"
            if isinstance(failure, _Lost):
                condition.lost(str(failure))
            elif isinstance(failure, sqlite3.Error) and is_damage(failure):
                condition.damaged(str(failure))
            return [LedgerUnavailable(condition.refusal or error) for _ in calls]
        finally:
            condition.ended(error)

    def _either_way(self, calls: Sequence[Recording | Work]) -> list[Any]:
        """Commit the calls together, or one by one where some call is at fault."""
        try:
            return self._transaction(calls, self._together)
        except sqlite3.Error as error:
            if not isinstance(error, _OF_THE_CALL):
                raise
        except (OSError, _Lost):
            raise
        except Exception:  # noqa: BLE001, S110 - some call is at fault: the second try tells which
            pass
        return self._transaction(calls, self._one_by_one)

    def _transaction(
        self, calls: Sequence[Recording | Work], run: Callable[[Sequence[Recording | Work]], list[Any]]
    ) -> list[Any]:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            now_us = self._proof.begin()
            self._check_log()
            if self._failed:
                self._probe()
            done = calls if now_us is None else [_not_after(call, now_us) for call in calls]
            results = run(done)
            self._statements.finish()
            number = self._proof.finish(
                max(call.now.service_us for call in calls) if now_us is None else now_us,
                calls[-1].now.steady_us,
            )
            self._connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # what failed may have rolled back already
                self._connection.execute("ROLLBACK")
            self._statements.forget()
            self._proof.forget()
            raise
        self._statements.keep()
        self._proof.keep()
        if self._watched is not None:
            if lost := self._watched.files.lost():
                raise _Lost(lost)
            self._watched.acknowledged.write(number)
        self._failed = False
        return list(map(_as_asked, calls, done, results))

    def _check_log(self) -> None:
        """See that the log was not cut, while no other process can shorten it: a commit would hide that."""
        if self._watched is not None and (cut := self._watched.files.log_cut()):
            raise _Lost(cut)

    def _probe(self) -> None:
        """Find out whether there is room for more than the few bytes of a commit without rows."""
        self._connection.execute(
            "INSERT OR REPLACE INTO meta VALUES ('probe', zeroblob(?))", (self._limits.probe_bytes,)
        )
        self._connection.execute("DELETE FROM meta WHERE key = 'probe'")

    def _together(self, calls: Sequence[Recording | Work]) -> list[Any]:
        """Record first, in one go: none of the batch was acknowledged, so their order is ours."""
        recordings = [call for call in calls if isinstance(call, Recording)]
        recorded = iter(self._record(recordings)) if recordings else iter(())
        return [
            next(recorded) if isinstance(call, Recording) else call.run(self._statements, call.now)
            for call in calls
        ]

    def _one_by_one(self, calls: Sequence[Recording | Work]) -> list[Any]:
        results: list[Any] = []
        for call in calls:
            self._connection.execute("SAVEPOINT call")
            mark = self._statements.mark()
            try:
                alone = (
                    self._record([call])[0]
                    if isinstance(call, Recording)
                    else call.run(self._statements, call.now)
                )
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


def _as_asked(call: Recording | Work, done: Recording | Work, result: Any) -> Any:
    """Return the result with the decisions that were handed over, where they were stored as `done` says.

    Who recorded a decision knows by it that no earlier one stood there.
    """
    if call is done or isinstance(call, Work) or isinstance(done, Work) or isinstance(result, Exception):
        return result
    asked = {id(moved): decision for moved, decision in zip(done.decisions, call.decisions, strict=True)}
    return [asked.get(id(stored), stored) for stored in result]


def _not_after(call: Recording | Work, now_us: int) -> Recording | Work:
    """Return the call as one that happened no later than `now_us` on the service clock."""
    late_us = call.now.service_us - now_us
    if late_us <= 0:
        return call
    now = replace(call.now, service_us=now_us)
    if isinstance(call, Work):
        return Work(call.run, now)
    decisions = [
        decision._replace(
            closes_service_us=decision.closes_service_us - late_us,
            due_service_us=decision.due_service_us - late_us,
        )
        for decision in call.decisions
    ]
    return Recording(decisions, [decision_row(decision) for decision in decisions], call.contacts, now)
