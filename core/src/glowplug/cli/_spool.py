"""The command ``glowplug spool``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from glowplug._folders import spool_folder
from glowplug.cli._table import print_table

if TYPE_CHECKING:
    from glowplug.loggers import Logger

__all__ = ["spool"]

DELIVERED = "delivered"

_folder = click.option(
    "--folder",
    type=click.Path(path_type=Path),
    help="Folder of the spools. Defaults to the user's state folder, or to GLOWPLUG_HOME.",
)


@click.group()
def spool() -> None:
    """Show, deliver or delete logged records that wait on disk.

    A logger stores its records in a spool, a file on disk, until the backend has accepted them. If the run is killed or the
    backend is unreachable, the records stay in the spool. They are delivered by the next process that continues the run, or by
    the command glowplug spool replay. After all records are delivered, an empty spool may remain for 30 days, because the run
    may be resumed from an older state.
    """


@spool.command("list")
@_folder
@click.option("--all", "is_all", is_flag=True, help="Also list the spools of delivered runs.")
def list_spools(folder: Path | None, *, is_all: bool) -> None:
    """List the spools that still contain something to deliver.

    Exit code: 0 for success; 2 for incorrect usage.
    """
    rows = [row for row in map(_row, _paths(folder)) if is_all or row[-1] != DELIVERED]
    if rows:
        print_table(("name", "logger", "run", "records", "bytes", "status"), rows)
    else:
        what = "There are no spools" if is_all else "No records wait"
        click.echo(f"{what} in {folder or spool_folder()}.")


@spool.command()
@_folder
@click.option("--most", default=20, show_default=True, help="Maximum number of records to show.")
@click.argument("name")
def show(name: str, folder: Path | None, most: int) -> None:
    """Show a spool and the first records that wait in it.

    Exit code: 0 for success; 2 if the usage is incorrect, or if the spool does not exist or is in use.
    """
    from glowplug.loggers import Damaged

    with closing(_open(_path(name, folder))) as opened:
        for field, value in {**opened.about, "records": opened.pending, "bytes": opened.size}.items():
            click.echo(f"{field}: {value}")
        for record in opened.read(after=0, most=most):
            click.echo(record.reason if isinstance(record, Damaged) else _line(record))


@spool.command()
@_folder
@click.option("--timeout", default=60.0, show_default=True, help="Maximum number of seconds for each spool.")
@click.option(
    "--option",
    "options",
    multiple=True,
    metavar="NAME=VALUE",
    help="Argument of the logger, such as an address with a password, which spools never contain. May be repeated.",
)
@click.argument("names", nargs=-1)
def replay(names: tuple[str, ...], folder: Path | None, timeout: float, options: tuple[str, ...]) -> None:
    """Deliver the records of the given spools to their backends.

    Without NAMES, the command delivers the records of all spools that no running process uses.

    Exit code: 0 if everything was delivered; 1 if a spool could not be delivered completely; 2 for incorrect usage.
    """
    given = _parsed(options)
    paths = [_path(name, folder) for name in dict.fromkeys(names)] or list(filter(_waits, _paths(folder)))
    failed = False
    for path in paths:
        try:
            click.echo(f"{path.stem}: {_deliver(path, given, timeout)}")
        except Exception as error:  # noqa: BLE001 - a backend may raise anything; the other spools are delivered too
            failed = True
            click.echo(f"{path.stem}: {error}", err=True)
    if failed:
        raise SystemExit(1)


@spool.command()
@_folder
@click.confirmation_option(prompt="Delete the waiting records?")
@click.argument("names", nargs=-1, required=True)
def discard(names: tuple[str, ...], folder: Path | None) -> None:
    """Delete spools and the records that wait in them.

    Exit code: 0 for success; 2 if the usage is incorrect, or if a spool does not exist or is in use.
    """
    from glowplug.loggers import Spool, SpoolInUseError

    for path in [_path(name, folder) for name in names]:
        try:
            opened = Spool(path)
        except SpoolInUseError as error:
            raise click.UsageError(str(error)) from error
        except OSError as error:
            Spool.delete_unread(path)
            click.echo(f"{path.stem}: deleted without reading it: {error}")
            continue
        count = opened.pending
        opened.delete()
        click.echo(f"{path.stem}: {_counted(count)} deleted")


def _deliver(path: Path, given: Mapping[str, Any], timeout: float) -> str:
    """Deliver the records of one spool, end its run, and return a description of the result."""
    from glowplug.state import RunOutcome

    with closing(_open(path)) as opened:
        about, count = dict(opened.about), opened.pending
        if not opened.is_waiting:
            return "nothing waits"
    logger = _make_logger(about, given)
    logger.spool, logger.timeout = str(path.parent), timeout
    logger.load_state_dict({"last_number": 0, "spool": path.name, "run": json.loads(about.get("run", "{}"))})
    # The process that began the run did not end it if it was killed.
    outcome = about.get("outcome", RunOutcome.INTERRUPTED.value)
    try:
        logger.ensure_open(timeout)
        logger.flush(timeout)
    finally:
        logger.close(RunOutcome(outcome) if outcome else None)
    sent, dropped, pending = logger.counts
    if dropped or pending:
        raise RuntimeError(f"{_counted(sent)} delivered, {dropped} refused, {pending} still wait")
    if not _is_done(path):
        raise RuntimeError(
            f"{_counted(sent)} delivered, but the run could not be ended in the backend; try again later"
        )
    return f"{_counted(sent)} delivered" if count else f"the run was ended as {outcome or 'completed'}"


def _counted(records: int) -> str:
    return f"{records} record{'' if records == 1 else 's'}"


def _make_logger(about: Mapping[str, str], given: Mapping[str, Any]) -> Logger:
    """Create a logger from the class and the options that are saved in a spool."""
    module, _, name = about.get("logger", "").partition(":")
    options = json.loads(about.get("options", "null"))
    if options is None:
        raise RuntimeError(
            f"the command cannot create the logger, because {name}.replay_options() returned None; to deliver the records, run "
            "the script again with the saved state of the engine, and implement replay_options() for future runs"
        )
    try:
        cls: Any = import_module(module)
        for part in name.split("."):
            cls = getattr(cls, part)
    except (ImportError, AttributeError) as error:
        raise RuntimeError(f"its logger {module}:{name} cannot be imported: {error}") from error
    logger: Logger = cls(**{**options, **given})
    return logger


def _parsed(options: Iterable[str]) -> dict[str, str]:
    parsed = {}
    for option in options:
        name, separator, value = option.partition("=")
        if not separator:
            raise click.BadParameter(f"{option!r} is not NAME=VALUE", param_hint="--option")
        parsed[name] = value
    return parsed


def _paths(folder: Path | None) -> list[Path]:
    from glowplug.loggers import spools_in

    return spools_in(folder or spool_folder())


def _path(name: str, folder: Path | None) -> Path:
    from difflib import get_close_matches

    paths = {path.stem: path for path in _paths(folder)}
    if name not in paths:
        close = get_close_matches(name, paths, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise click.UsageError(f"there is no spool {name!r} in {folder or spool_folder()}.{hint}")
    return paths[name]


def _waits(path: Path) -> bool:
    """Return whether a spool may contain something to deliver and is not in use by a running process."""
    from glowplug.loggers import SpoolInUseError, read_content

    try:
        return read_content(path).is_waiting
    except SpoolInUseError:
        return False
    except OSError:
        # Delivering it reports the reason.
        return True


def _is_done(path: Path) -> bool:
    """Return whether a spool has nothing left to deliver."""
    from glowplug.loggers import read_content

    try:
        return not path.exists() or not read_content(path).is_waiting
    except OSError:
        # A backend that hangs still uses the spool.
        return False


def _open(path: Path) -> Any:
    from glowplug.loggers import Spool

    try:
        return Spool(path)
    except OSError as error:
        raise click.UsageError(str(error)) from error


def _row(path: Path) -> tuple[str, ...]:
    from glowplug.loggers import SpoolInUseError, read_content

    try:
        content = read_content(path)
    except SpoolInUseError:
        return path.stem, "", "", "", "", "in use"
    except OSError as error:
        return path.stem, "", "", "", "", f"unreadable: {error}"
    about, records, size = content
    run = ", ".join(json.loads(about.get("run", "{}")).values())
    status = "waiting" if records else "run not ended" if content.is_waiting else DELIVERED
    return path.stem, about.get("logger", "").rpartition(":")[2], run, str(records), f"{size:,}", status


def _line(record: Any) -> str:
    step = "" if record.step is None else f" step {record.step}"
    return f"{record.number} {record.kind}{step} {record.name or ''} {record.payload}".replace("  ", " ")
