"""SQLite databases that MLflow opens without a server."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy.engine import ExceptionContext


def check_sqlite(path: Path) -> None:
    """Check that a database can be opened.

    MLflow itself would try for 100 s. During this time, the logger could neither save other records nor close.

    Args:
        path: Path of the database. Its folder is created if necessary.

    Raises:
        ConnectionError: If the folder cannot be created, or if the database cannot be opened.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=1)) as database:
            database.execute("PRAGMA schema_version")
    except (OSError, sqlite3.OperationalError) as error:
        raise ConnectionError(f"the database {path} cannot be opened: {error}") from error


def reopen_after_io_errors() -> None:
    """Make SQLAlchemy close the connections to a SQLite database after an I/O error.

    If SQLite cannot finish a commit, for example because the folder was moved, the connection still shows the rows of this
    commit, and MLflow would not write them again. SQLite removes these rows when the database is opened the next time.
    """
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    if not event.contains(Engine, "handle_error", _disconnect):
        event.listen(Engine, "handle_error", _disconnect)


def _disconnect(context: ExceptionContext) -> None:
    error = context.original_exception
    # Python 3.10 has only the message. It is the same for all of SQLite's I/O errors.
    if isinstance(error, sqlite3.OperationalError) and str(error) == "disk I/O error":
        context.is_disconnect = True
