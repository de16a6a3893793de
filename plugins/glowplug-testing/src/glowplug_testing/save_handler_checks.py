"""Checks of save handlers: whatever was saved can be listed and loaded, and nothing else changes."""

from __future__ import annotations

import copy
import importlib.util
import os
import secrets
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from glowplug_testing.cases import SaveHandlerCase
from glowplug_testing.checks import CheckFailed, CheckSkipped, require
from glowplug_testing.engine_play import equal
from glowplug_testing.ranks import on_two_ranks
from glowplug_testing.surroundings import full_disk, left_as_it_was

METADATA = {"basename": "model", "score_name": "accuracy", "priority": 0.5}


def content(number: float = 1.0) -> dict[str, Any]:
    """Return what is saved: of all kinds that a checkpoint is made of."""
    if importlib.util.find_spec("torch") is None:
        raise CheckSkipped("checkpoints need torch")
    import torch

    return {
        "model": {"weight": torch.full((200, 100), number), "bias": torch.arange(3)},
        "optimizer": {"state": {0: {"step": 5}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        "none": None,
        "text": "größe",
        "number": number,
    }


METHODS = ("save", "load", "list", "remove", "locate")


class Store:
    """The location that a case's save handlers write to."""

    def __init__(self, case: SaveHandlerCase) -> None:
        self.handler = case.make()
        missing = [name for name in METHODS if not callable(getattr(self.handler, name, None))]
        require(
            not missing,
            f"{type(self.handler).__name__} has no {', '.join(missing)}; implement glowplug.typing.SaveHandler",
        )
        folder = case.folder or getattr(self.handler, "dirname", None)
        self.folder = None if folder is None else Path(folder)

    def has(self, filename: str) -> bool:
        """Return whether a checkpoint of this name can be loaded."""
        try:
            self.handler.load(filename)
        except Exception:  # noqa: BLE001 - each backend has its own error for a missing checkpoint
            return False
        return True

    def require_stored(self, filename: str, expected: Any, when: str, advice: str = "") -> None:
        """Require that this is what is stored under a name."""
        try:
            found = self.handler.load(filename)
        except Exception as error:
            raise CheckFailed(
                f"{when}, {filename!r} cannot be loaded: {type(error).__name__}: {error}. {advice}"
            ) from error
        require(equal(found, expected), f"{when}, {filename!r} holds something else. {advice}")

    def files(self) -> set[str]:
        """Return the files of the folder."""
        return set() if self.folder is None else {str(path) for path in self.folder.rglob("*")}


ATOMIC = (
    "Write to a temporary file in the same folder, bring it to the disk (os.fsync), and give it its name with os.replace; remove "
    "it if anything fails"
)


def save_and_load_are_inverse(case: SaveHandlerCase) -> None:
    """save(checkpoint, filename, metadata) stores the checkpoint, and load(filename) returns an equal one."""
    store = Store(case)
    saved = content()
    try:
        store.handler.save(saved, "first.pt", METADATA)
    except TypeError as error:
        raise CheckFailed(
            f"save(checkpoint, filename, metadata) raised {error}; accept these three arguments"
        ) from error
    store.require_stored(
        "first.pt", saved, "after a save", "Store the checkpoint whole, and only what load() reads back"
    )
    require(equal(saved, content()), "the save changed the checkpoint that it was given")


def second_save_replaces_the_first(case: SaveHandlerCase) -> None:
    """A second save under a name replaces the first, and leaves other names alone; a new handler sees them all."""
    store = Store(case)
    store.handler.save(content(1.0), "first.pt", METADATA)
    store.handler.save(content(2.0), "other.pt", METADATA)
    store.handler.save(content(3.0), "first.pt", METADATA)
    store.require_stored("first.pt", content(3.0), "after a second save under the same name")
    store.require_stored("other.pt", content(2.0), "after a save under another name")


def list_returns_loadable_names(case: SaveHandlerCase) -> None:
    """list() returns the names of all checkpoints, oldest first, also from another handler of the location."""
    store = Store(case)
    found = list(store.handler.list())
    require(not found, f"list() returned {found} before anything was saved")
    for name in ("second.pt", "first.pt", "third.pt"):
        store.handler.save(content(), name, METADATA)
        # File systems date files to some milliseconds.
        time.sleep(0.02)
    store.handler.save(content(2.0), "second.pt", METADATA)
    expected = ["first.pt", "third.pt", "second.pt"]
    for handler, which in ((store.handler, "the handler"), (case.make(), "another handler of the location")):
        found = list(handler.list())
        require(found == expected, f"{which} listed {found} instead of {expected}, in the order of the saves")
        for name in found:
            handler.load(name)
    missing = "never.pt"
    require(
        not store.has(missing),
        f"load({missing!r}) returned something, though it was never saved; raise instead",
    )


def locate_returns_the_address(case: SaveHandlerCase) -> None:
    """locate(filename) returns a path or address that ends with the file name."""
    store = Store(case)
    store.handler.save(content(), "first.pt", METADATA)
    located = store.handler.locate("first.pt")
    require(
        isinstance(located, (str, os.PathLike)) and str(located).endswith("first.pt"),
        f"locate('first.pt') returned {located!r}; return a path or address that ends with the file name",
    )


def save_is_complete_when_it_returns(case: SaveHandlerCase) -> None:
    """What was in the tensors when it was called is stored, though the next step overwrites them."""
    store = Store(case)
    saved = content()
    store.handler.save(saved, "first.pt", METADATA)
    saved["model"]["weight"].fill_(7.0)
    saved["number"] = 7.0
    store.require_stored(
        "first.pt",
        content(),
        "after the model had changed",
        "Be done when the call returns, or copy the tensors in it",
    )


class Refuses:
    """Fails when it is pickled, in the middle of a save."""

    def __reduce__(self) -> Any:
        raise RuntimeError("this cannot be saved")


def failed_save_keeps_the_previous(case: SaveHandlerCase) -> None:
    """A checkpoint that cannot be saved raises, the former one of that name is whole, and nothing is left over."""
    store = Store(case)
    store.handler.save(content(1.0), "first.pt", METADATA)
    before = store.files()
    for name in ("first.pt", "new.pt"):
        try:
            store.handler.save({**content(2.0), "refuses": Refuses()}, name, METADATA)
        except RuntimeError:
            continue
        except Exception as error:
            raise CheckFailed(
                f"a save that failed with RuntimeError raised {error!r} instead; let it through"
            ) from error
        raise CheckFailed(
            "a checkpoint that cannot be saved was taken without an error: older ones are removed after that"
        )
    store.require_stored("first.pt", content(1.0), "after a save under this name had failed", ATOMIC)
    require(
        not store.has("new.pt"), f"a save under a new name failed, and there is something under it. {ATOMIC}"
    )
    require(store.files() == before, f"a save that failed left {sorted(store.files() - before)}. {ATOMIC}")


class Kills:
    """Ends its process when it is pickled, in the middle of a save."""

    def __reduce__(self) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)
        return (str, ())


def killed_save_keeps_the_previous(case: SaveHandlerCase) -> None:
    """When the process is killed in a save, the former checkpoint of that name is whole."""
    if not hasattr(os, "fork"):
        raise CheckSkipped("this system has no fork")
    store = Store(case)
    store.handler.save(content(1.0), "first.pt", METADATA)
    kills = {**content(2.0), "kills": Kills()}
    with suppress(CheckFailed):  # rank 0 is killed, which is the point
        on_two_ranks(lambda rank: None if rank else store.handler.save(kills, "first.pt", METADATA), 10.0)
    store.require_stored(
        "first.pt", content(1.0), "after the process was killed in a save under this name", ATOMIC
    )


def full_disk_keeps_the_previous(case: SaveHandlerCase) -> None:
    """When the disk is full a save raises, and the former checkpoint of that name is whole."""
    store = Store(case)
    if store.folder is None:
        raise CheckSkipped("SaveHandlerCase(folder=...) would have it checked, for one that writes files")
    store.handler.save(content(1.0), "first.pt", METADATA)
    before = store.files()
    raised = False
    with full_disk():
        try:
            store.handler.save(content(2.0), "first.pt", METADATA)
        except Exception:  # noqa: BLE001 - any error says that it is not stored
            raised = True
    require(
        raised, "the disk was full, and the save raised nothing: older checkpoints are removed after that"
    )
    store.require_stored("first.pt", content(1.0), "after a save for which the disk had no room", ATOMIC)
    require(store.files() == before, f"a save that failed left {sorted(store.files() - before)}. {ATOMIC}")
    store.handler.save(content(3.0), "first.pt", METADATA)
    store.require_stored("first.pt", content(3.0), "after a save when there was room again")


def remove_affects_one_checkpoint(case: SaveHandlerCase) -> None:
    """remove(filename) removes that checkpoint and no other; a missing one is not an error."""
    store = Store(case)
    for name in ("first.pt", "first.pt.bak", "second.pt"):
        store.handler.save(content(), name, METADATA)
    store.handler.remove("first.pt")
    require(not store.has("first.pt"), "after remove('first.pt') it is still there")
    for name in ("first.pt.bak", "second.pt"):
        store.require_stored(name, content(), "after another one was removed")
    try:
        store.handler.remove("first.pt")
    except Exception as error:
        raise CheckFailed(
            f"a second remove('first.pt') raised {error!r}; it is gone already, which is what was wanted"
        ) from error
    listed = set(store.handler.list())
    require(
        listed == {"first.pt.bak", "second.pt"},
        f"after remove('first.pt') list() returned {sorted(listed)} instead of first.pt.bak and second.pt",
    )


def names_cannot_leave_the_folder(case: SaveHandlerCase) -> None:
    """No name leads out of the folder, neither to write nor to remove: such a name is refused."""
    store = Store(case)
    if store.folder is None:
        raise CheckSkipped("SaveHandlerCase(folder=...) would have it checked, for one that writes files")
    guarded = store.folder.parent / f"guarded-{secrets.token_hex(8)}.pt"
    guarded.write_bytes(b"not yours")
    out_and_away = f"../{guarded.name}"
    try:
        for name in (out_and_away, f"folder/../{out_and_away}", str(guarded), "..", ".", ""):
            with suppress(Exception):
                store.handler.save(content(), name, METADATA)
        with suppress(
            Exception
        ):  # this name alone: what one that is faulty would do to ".." is not to be found out
            store.handler.remove(out_and_away)
        require(
            guarded.exists() and guarded.read_bytes() == b"not yours",
            f"a file beside the folder was overwritten or removed with a name such as {out_and_away!r} or {str(guarded)!r}; refuse "
            "names for which Path(name).name != name",
        )
    finally:
        guarded.unlink(missing_ok=True)


def several_threads_can_save(case: SaveHandlerCase) -> None:
    """Saves at the same time, under different names or the same, each leave a whole checkpoint."""
    store = Store(case)
    errors: list[BaseException] = []

    def save(number: int, name: str) -> None:
        try:
            store.handler.save(content(number), name, METADATA)
        except Exception as error:  # noqa: BLE001 - told below
            errors.append(error)

    jobs = [(number, f"model_{number}.pt") for number in range(4)] + [
        (number, "same.pt") for number in range(4)
    ]
    threads = [threading.Thread(target=save, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    require(
        not errors,
        f"of saves at the same time one raised {errors[:1]}; give temporary files names of their own",
    )
    for number in range(4):
        store.require_stored(f"model_{number}.pt", content(number), "after saves at the same time")
    found = store.handler.load("same.pt")
    require(
        any(equal(found, content(number)) for number in range(4)),
        "of saves under one name at the same time a mixture is left",
    )


def one_rank_writes(case: SaveHandlerCase) -> None:
    """Of two ranks that save, rank 0 writes what it was given."""
    content()

    def save_on(rank: int) -> None:
        case.make().save(content(float(rank)), "first.pt", METADATA)

    on_two_ranks(save_on)
    Store(case).require_stored(
        "first.pt",
        content(0.0),
        "after two ranks had saved, each its own",
        "Write where glowplug.distributed.rank() is 0",
    )


def process_is_unchanged(case: SaveHandlerCase) -> None:
    """A save leaves signals, logging, random numbers, output and threads as they were."""
    saved = content()
    with left_as_it_was():
        copy.copy(Store(case)).handler.save(saved, "first.pt", METADATA)


SAVE_HANDLER_CHECK_FUNCTIONS = (
    save_and_load_are_inverse,
    second_save_replaces_the_first,
    list_returns_loadable_names,
    locate_returns_the_address,
    save_is_complete_when_it_returns,
    failed_save_keeps_the_previous,
    killed_save_keeps_the_previous,
    full_disk_keeps_the_previous,
    remove_affects_one_checkpoint,
    names_cannot_leave_the_folder,
    several_threads_can_save,
    one_rank_writes,
    process_is_unchanged,
)
