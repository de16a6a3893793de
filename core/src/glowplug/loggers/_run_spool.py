"""The spool of a logger's run, and the steps that earlier processes of the run have logged."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Protocol

from glowplug._folders import spool_folder
from glowplug.loggers._delivery import describe
from glowplug.loggers._payload import finish
from glowplug.loggers._queue import Report
from glowplug.loggers._record import Record
from glowplug.loggers._snapshot import plain
from glowplug.loggers._spool import (
    Spool,
    adopt,
    delete_old,
    highest_steps,
    new_name,
    read_content,
    without_repeated_steps,
)
from glowplug.state import RunOutcome


class SpooledLogger(Protocol):
    """Members of a logger that :class:`RunSpool` uses."""

    state_key: str
    spool: bool | str
    spool_limit: int
    uses_spool: ClassVar[bool]

    def run_info(self) -> Mapping[str, str]:
        """See ``Writer.run_info``."""

    def continue_run(self, info: Mapping[str, str]) -> None:
        """See ``Writer.continue_run``."""

    def replay_options(self) -> Mapping[str, Any] | None:
        """See ``Writer.replay_options``."""

    def logged_steps(self) -> Mapping[str, int]:
        """See ``Writer.logged_steps``."""


class RunSpool:
    """Opens and closes the spool of a logger's run, and omits steps that earlier processes have logged.

    Args:
        logger: The logger.
        resumed: State that the logger had in an earlier process of the run; empty for a new run.
        outcome: Function that returns how the run ended in this process, or ``None`` if this process had no run.
    """

    def __init__(
        self, logger: SpooledLogger, resumed: Mapping[str, Any], outcome: Callable[[], RunOutcome | None]
    ) -> None:
        self._logger = logger
        self._own_outcome = outcome
        self.resumed = resumed
        self.spool: Spool | None = None
        # Known before the spool exists, so that any saved state of the engine leads to it.
        self._name = new_name(logger.state_key)
        # Whether a saved state of the engine leads to the spool.
        self._is_saved = bool(resumed)
        self._is_ending = False
        # Whether a run of an attached engine has ended in this process.
        self.has_ended_run = False
        self._earlier_outcome: RunOutcome | None = None
        self._repeated: Mapping[str, int] | None = None
        # The highest steps in the backend when this process opened it, and when an earlier process that resumed the run did.
        self._sent: Mapping[str, int] = {}
        self._older_sent: Mapping[str, int] = {}
        # The numbers of the last records in the spool of the process that began the run, of the last process that opened the
        # backend, and of all earlier processes.
        self._last_first = self._last_opened = self._last_older = 0

    @property
    def folder(self) -> Path:
        """Folder that contains the spools."""
        option = self._logger.spool
        return spool_folder() if isinstance(option, bool) else Path(option)

    @property
    def run_key(self) -> str:
        """File name of the run's spool, which is the same in all processes of the run."""
        return self.resumed.get("spool") or self._name if self.spool is None else self.spool.path.name

    @property
    def has_earlier_run(self) -> bool:
        """Whether an earlier process has opened the run of the loaded state, or has left a spool."""
        name = Path(self.resumed.get("spool", "")).name
        return bool(self.resumed.get("run") or (name and (self.folder / name).exists()))

    @property
    def outcome(self) -> RunOutcome | None:
        """How the run ended, or ``None`` if the outcome is unknown.

        If this process had no run and logged nothing, this is the outcome that an earlier process saved in the spool.
        """
        own = self._own_outcome()
        return own if self.has_ended_run else self._earlier_outcome or own

    def state(self) -> dict[str, Any]:
        """Return what a later process needs to continue the run."""
        self._is_saved = True
        resumed, spool = self.resumed, self.spool
        return {
            "run": dict(self._logger.run_info() or resumed.get("run", {})),
            "spool": self.run_key,
            "steps": dict(resumed.get("steps", {}) if spool is None else spool.steps),
        }

    def resume(self, state: Mapping[str, Any]) -> bool:
        """Continue the run of a saved state; return whether the run's spool has something left to deliver."""
        self.resumed = dict(state)
        self._repeated = None
        self._is_saved = True
        with suppress(OSError):
            return read_content(self.folder / Path(str(state.get("spool"))).name).is_waiting
        return False

    def open(self, present: Spool | None) -> Spool:
        """Open the spool that an earlier process of the run left, or create a new spool.

        Args:
            present: The spool that is already open, or ``None``. This spool is returned if no earlier process left one.

        Raises:
            OSError: If the spool cannot be created or read.
        """
        logger = self._logger
        run = self.resumed.get("run") or logger.run_info()
        if self.resumed.get("run"):
            # Before the disk of the spool may fail.
            logger.continue_run(run)
        with suppress(OSError):
            delete_old(self.folder)
        spool = adopt(self.folder, self.resumed.get("spool"), run, logger.spool_limit) or present
        if spool is None:
            spool = Spool(self.folder / self._name, logger.spool_limit)
            spool.describe(
                {
                    "logger": f"{type(logger).__module__}:{type(logger).__qualname__}",
                    "host": socket.gethostname(),
                    "process": str(os.getpid()),
                    **self._identity(),
                }
            )
        elif spool is not present:
            self._adopt(spool)
        if self.resumed:
            self._repeated = highest_steps(self.resumed.get("steps", {}), spool.steps)
        self.spool = spool
        return spool

    def _adopt(self, spool: Spool) -> None:
        """Take over the run of an earlier process."""
        last = self._last_older = spool.last_number
        self._last_first = int(spool.about.get("resumed_after", last))
        self._older_sent = json.loads(spool.about.get("sent", "{}"))
        self._last_opened = int(spool.about.get("sent_until") or last) if "sent" in spool.about else 0
        with suppress(OSError):
            spool.describe({"resumed_after": str(self._last_first), "sent_until": str(self._last_opened)})
        if spool.is_waiting:
            outcome = spool.about.get("outcome")
            self._earlier_outcome = RunOutcome(outcome) if outcome else None
        run = json.loads(spool.about.get("run", "{}"))
        if run and not self.resumed.get("run"):
            self._logger.continue_run(run)

    def _identity(self) -> dict[str, str]:
        return {
            "run": json.dumps(dict(self._logger.run_info())),
            "options": json.dumps(plain(self._logger.replay_options())),
        }

    def note_open(self) -> None:
        """Save in the spool that the backend is open, so that a later process can end the run if this process is killed."""
        if self.spool is not None:
            about = self._identity()
            if self._logger.run_info():
                about["backend"] = "open"
            if not self._is_ending and self._earlier_outcome is None:
                about["outcome"] = RunOutcome.INTERRUPTED.value
            # The backend is usable even if the disk of the spool is full.
            with suppress(OSError):
                self.spool.describe(about)

    def note_outcome(self) -> None:
        """Save the outcome of the run in the spool, for a later process that delivers the remaining records."""
        self._is_ending = True
        if self.spool is not None:
            with suppress(OSError):
                self.spool.describe({"outcome": self.outcome.value if self.outcome else ""})

    def note_closed(self) -> None:
        """Save in the spool that the run has ended in the backend."""
        if self.spool is not None:
            with suppress(OSError):
                self.spool.describe({"backend": "closed"})

    def close(self, spool: Spool) -> None:
        """Close the spool, and delete the spool if no later process needs it.

        The spool is retained if records or the end of the run must still be delivered. The spool is also retained if the run can
        be resumed from a saved state, because the spool stores which steps were logged.
        """
        if spool.is_waiting:
            self.note_outcome()
        elif not (self._is_saved and spool.steps):
            spool.delete()
            return
        else:
            with suppress(OSError):
                spool.shrink()
        spool.close()

    def finish(self, report: Report, records: Sequence[Record]) -> list[Record]:
        """Convert records to plain data, and omit values that an earlier process of the run has logged."""
        if self._earlier_outcome is not None:
            # The run goes on, so it no longer has the outcome of the earlier process.
            self._earlier_outcome = None
            if self.spool is not None:
                with suppress(OSError):
                    self.spool.describe({"outcome": RunOutcome.INTERRUPTED.value})
        if self._repeated is None:
            self._repeated = self._read_logged_steps(report) if self.resumed else {}
        finished = []
        for record in records:
            try:
                finished_record = finish(record)
            except Exception as error:  # noqa: BLE001 - libraries may raise anything for an odd array
                report(1, f"{record.label} was refused: {describe(error)}", error)
                continue
            kept = (
                without_repeated_steps(finished_record, self._repeated) if self._repeated else finished_record
            )
            if kept is not None:
                finished.append(kept)
        return finished

    def note_sent(self, steps: Mapping[str, int]) -> None:
        """Save the highest step of each name in the backend, before this process sends anything."""
        self._sent = steps
        if self.spool is not None:
            with suppress(OSError):
                self.spool.describe({"sent": json.dumps(dict(steps)), "sent_until": ""})

    def without_sent(self, records: Sequence[Record]) -> Sequence[Record]:
        """Return records without the values that the backend already had when the process that logged them opened it."""
        if not self._sent:
            return records
        unsent = (without_repeated_steps(record, self._sent_before(record)) for record in records)
        return [record for record in unsent if record is not None]

    def _sent_before(self, record: Record) -> Mapping[str, int]:
        """Return the highest steps that the backend had before it got any record of the process that logged a record."""
        if not 0 < record.number <= self._last_older:
            return self._sent
        if record.number <= self._last_first:
            return {}
        # A process that has not opened the backend has not sent anything either.
        return self._older_sent if record.number <= self._last_opened else self._sent

    def _read_logged_steps(self, report: Report) -> Mapping[str, int]:
        """Return the highest step that the run has logged under each name."""
        steps: Mapping[str, int] = self.resumed.get("steps", {})
        if self._logger.uses_spool:
            # The worker asks the backend when it is open.
            return steps
        try:
            return highest_steps(steps, self._logger.logged_steps())
        except Exception as error:  # noqa: BLE001 - a damaged or missing backend must not end the worker
            report(
                0,
                f"the logged steps of the run could not be read, so values may be logged twice: {describe(error)}",
                error,
            )
            return steps
