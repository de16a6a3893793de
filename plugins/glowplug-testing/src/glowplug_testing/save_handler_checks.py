"""Checks of a save handler: saving, listing, loading, removing, failing."""

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

from glowplug.typing import VerifyingSaveHandler
from glowplug_testing.cases import SaveHandlerCase
from glowplug_testing.checks import CheckFailed, CheckSkipped, require
from glowplug_testing.engine_play import equal
from glowplug_testing.ranks import on_two_ranks
from glowplug_testing.surroundings import full_disk, unchanged_process

METADATA = {"basename": "model", "score_name": "accuracy", "priority": 0.5}


def content(number: float = 1.0) -> dict[str, Any]:
    """Return a checkpoint with all types of values that a checkpoint can contain."""
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
    """The location to which the save handlers of a case write."""

    def __init__(self, case: SaveHandlerCase) -> None:
        self.handler = case.make()
        missing = [name for name in METHODS if not callable(getattr(self.handler, name, None))]
        require(
            not missing,
            f"{type(self.handler).__name__} must implement glowplug.typing.SaveHandler; missing: {', '.join(missing)}",
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
        """Require that the checkpoint of this name equals the expected one."""
        try:
            found = self.handler.load(filename)
        except Exception as error:
            raise CheckFailed(
                f"{when}, loading {filename!r} raised {type(error).__name__}: {error}. {advice}"
            ) from error
        require(
            equal(found, expected), f"{when}, {filename!r} does not contain the expected checkpoint. {advice}"
        )

    def files(self) -> set[str]:
        """Return the paths of all files and subfolders in the folder."""
        return set() if self.folder is None else {str(path) for path in self.folder.rglob("*")}


ATOMIC = "Write to a temporary file in the same folder, call os.fsync and os.replace, and remove the temporary file on failure"


def save_and_load_are_inverse(case: SaveHandlerCase) -> None:
    """save(checkpoint, filename, metadata) stores the checkpoint, and load(filename) returns an equal one."""
    store = Store(case)
    saved = content()
    try:
        store.handler.save(saved, "first.pt", METADATA)
    except TypeError as error:
        raise CheckFailed(
            f"save(checkpoint, filename, metadata) raised TypeError: {error}; save() must accept these three arguments"
        ) from error
    store.require_stored(
        "first.pt", saved, "after save()", "Store the whole checkpoint in a format that load() can read"
    )
    require(equal(saved, content()), "save() changed the checkpoint that it received; work on a copy")


def second_save_replaces_the_first(case: SaveHandlerCase) -> None:
    """A second save under the same name replaces the first and does not affect other checkpoints."""
    store = Store(case)
    store.handler.save(content(1.0), "first.pt", METADATA)
    store.handler.save(content(2.0), "other.pt", METADATA)
    store.handler.save(content(3.0), "first.pt", METADATA)
    store.require_stored("first.pt", content(3.0), "after a second save under this name")
    store.require_stored("other.pt", content(2.0), "after a save under another name")


def list_returns_loadable_names(case: SaveHandlerCase) -> None:
    """list() returns the names of all checkpoints, oldest first, even if another save handler saved them at this location."""
    store = Store(case)
    found = list(store.handler.list())
    require(not found, f"list() must return an empty sequence before the first save, got {found}")
    for name in ("second.pt", "first.pt", "third.pt"):
        store.handler.save(content(), name, METADATA)
        time.sleep(case.seconds_between_saves)
    store.handler.save(content(2.0), "second.pt", METADATA)
    expected = ["first.pt", "third.pt", "second.pt"]
    for handler, which in (
        (store.handler, "the save handler"),
        (case.make(), "another save handler for the same location"),
    ):
        found = list(handler.list())
        require(
            found == expected,
            f"list() of {which} returned {found} instead of {expected}; sort the names by the time of their last save, "
            "oldest first",
        )
        for name in found:
            handler.load(name)
    missing = "never.pt"
    require(
        not store.has(missing),
        f"load({missing!r}) must raise an error because this name was never saved",
    )


def locate_returns_the_address(case: SaveHandlerCase) -> None:
    """locate(filename) returns a path or address that ends with the file name."""
    store = Store(case)
    store.handler.save(content(), "first.pt", METADATA)
    located = store.handler.locate("first.pt")
    require(
        isinstance(located, (str, os.PathLike)) and str(located).endswith("first.pt"),
        f"locate('first.pt') must return a path or address that ends with the file name, got {located!r}",
    )


def save_is_complete_when_it_returns(case: SaveHandlerCase) -> None:
    """save() stores the values at the time of the call, even if the next step overwrites the tensors."""
    store = Store(case)
    saved = content()
    store.handler.save(saved, "first.pt", METADATA)
    saved["model"]["weight"].fill_(7.0)
    saved["number"] = 7.0
    store.require_stored(
        "first.pt",
        content(),
        "after the model changed",
        "Finish the save before returning, or copy the tensors first",
    )


class Refuses:
    """An object that raises an error when it is pickled."""

    def __reduce__(self) -> Any:
        raise RuntimeError("this cannot be saved")


def failed_save_keeps_the_previous(case: SaveHandlerCase) -> None:
    """A failed save() raises an error, keeps the previous checkpoint of the same name, and leaves no new files."""
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
                f"pickling the checkpoint raised a RuntimeError, but save() raised {error!r} instead; let the original exception "
                "propagate"
            ) from error
        raise CheckFailed(
            "save() raised no error for a checkpoint that cannot be pickled, so ModelCheckpoint would treat the checkpoint as "
            "saved and remove older checkpoints. Let the exception propagate"
        )
    store.require_stored("first.pt", content(1.0), "after a failed save under this name", ATOMIC)
    require(
        not store.has("new.pt"),
        f"a failed save under a new name left a checkpoint that can be loaded. {ATOMIC}",
    )
    require(
        store.files() == before, f"a failed save left the files {sorted(store.files() - before)}. {ATOMIC}"
    )


class Kills:
    """An object that kills its process when it is pickled."""

    def __reduce__(self) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)
        return (str, ())


def killed_save_keeps_the_previous(case: SaveHandlerCase) -> None:
    """If the process is killed during a save, the previous checkpoint of the same name remains."""
    if not hasattr(os, "fork"):
        raise CheckSkipped("this check needs os.fork(), which this system lacks")
    store = Store(case)
    store.handler.save(content(1.0), "first.pt", METADATA)
    kills = {**content(2.0), "kills": Kills()}
    # Rank 0 is killed by the save.
    with suppress(CheckFailed):
        on_two_ranks(lambda rank: None if rank else store.handler.save(kills, "first.pt", METADATA), 10.0)
    store.require_stored(
        "first.pt", content(1.0), "after the process was killed during a save under this name", ATOMIC
    )


def full_disk_keeps_the_previous(case: SaveHandlerCase) -> None:
    """If the disk is full, save() raises an error and keeps the previous checkpoint of the same name."""
    store = Store(case)
    if store.folder is None:
        raise CheckSkipped(
            "this check needs SaveHandlerCase(folder=...); pass this argument if your save handler writes files"
        )
    store.handler.save(content(1.0), "first.pt", METADATA)
    before = store.files()
    raised = False
    with full_disk():
        try:
            store.handler.save(content(2.0), "first.pt", METADATA)
        except Exception:  # noqa: BLE001 - each backend has its own error for a full disk
            raised = True
    require(
        raised,
        "save() raised no error while the disk was full, so ModelCheckpoint would treat the checkpoint as saved and remove older "
        "checkpoints. Let the exception propagate",
    )
    store.require_stored("first.pt", content(1.0), "after a save to a full disk", ATOMIC)
    require(
        store.files() == before, f"a failed save left the files {sorted(store.files() - before)}. {ATOMIC}"
    )
    store.handler.save(content(3.0), "first.pt", METADATA)
    store.require_stored("first.pt", content(3.0), "after a save when the disk had space again")


def remove_affects_one_checkpoint(case: SaveHandlerCase) -> None:
    """remove(filename) removes only the checkpoint of this name; removing a missing checkpoint is not an error."""
    store = Store(case)
    for name in ("first.pt", "first.pt.bak", "second.pt"):
        store.handler.save(content(), name, METADATA)
    store.handler.remove("first.pt")
    require(not store.has("first.pt"), "first.pt can still be loaded after remove('first.pt')")
    for name in ("first.pt.bak", "second.pt"):
        store.require_stored(name, content(), "after another checkpoint was removed")
    try:
        store.handler.remove("first.pt")
    except Exception as error:
        raise CheckFailed(
            f"a second remove('first.pt') raised {error!r}; remove() must ignore checkpoints that do not exist"
        ) from error
    listed = set(store.handler.list())
    require(
        listed == {"first.pt.bak", "second.pt"},
        f"after remove('first.pt'), list() returned {sorted(listed)} instead of first.pt.bak and second.pt",
    )


def names_cannot_leave_the_folder(case: SaveHandlerCase) -> None:
    """save() and remove() do not change files outside the folder, whatever file name they get."""
    store = Store(case)
    if store.folder is None:
        raise CheckSkipped(
            "this check needs SaveHandlerCase(folder=...); pass this argument if your save handler writes files"
        )
    guarded = store.folder.parent / f"guarded-{secrets.token_hex(8)}.pt"
    guarded.write_bytes(b"guarded")
    outside = f"../{guarded.name}"
    try:
        for name in (outside, f"folder/../{outside}", str(guarded), "..", ".", ""):
            with suppress(Exception):
                store.handler.save(content(), name, METADATA)
        # Only this name: a faulty handler could remove the parent folder if it were given "..".
        with suppress(Exception):
            store.handler.remove(outside)
        require(
            guarded.exists() and guarded.read_bytes() == b"guarded",
            f"save() or remove() changed a file outside the folder when it got a name such as {outside!r} or {str(guarded)!r}; "
            "raise ValueError if Path(name).name != name",
        )
    finally:
        guarded.unlink(missing_ok=True)


def several_threads_can_save(case: SaveHandlerCase) -> None:
    """Concurrent saves leave complete checkpoints, whether their file names are different or the same."""
    store = Store(case)
    errors: list[BaseException] = []

    def save(number: int, name: str) -> None:
        try:
            store.handler.save(content(number), name, METADATA)
        except Exception as error:  # noqa: BLE001 - reported below
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
        f"a concurrent save raised {errors[:1]}; use a unique name for each temporary file",
    )
    for number in range(4):
        store.require_stored(f"model_{number}.pt", content(number), "after concurrent saves")
    found = store.handler.load("same.pt")
    require(
        any(equal(found, content(number)) for number in range(4)),
        "concurrent saves under one name left a mixture of checkpoints; use a unique name for each temporary file",
    )


def one_rank_writes(case: SaveHandlerCase) -> None:
    """If two ranks save, only rank 0 writes the checkpoint."""
    content()

    def save_on(rank: int) -> None:
        case.make().save(content(float(rank)), "first.pt", METADATA)

    on_two_ranks(save_on)
    Store(case).require_stored(
        "first.pt",
        content(0.0),
        "after two ranks saved different checkpoints",
        "Write only if glowplug.distributed.rank() is 0",
    )


def metadata_and_damage_are_known(case: SaveHandlerCase) -> None:
    """If the save handler has metadata() and verify(), the first returns what save() got, and the second detects changed bytes."""
    store = Store(case)
    if not isinstance(store.handler, VerifyingSaveHandler):
        raise CheckSkipped("the save handler does not implement glowplug.typing.VerifyingSaveHandler")
    store.handler.save(content(), "first.pt", METADATA)
    found = store.handler.metadata("first.pt")
    require(
        found is not None and dict(found) == METADATA,
        f"metadata('first.pt') returned {found} instead of the metadata that save() got; store them with the checkpoint",
    )
    for method in (store.handler.metadata, store.handler.verify):
        try:
            method("never.pt")
        except FileNotFoundError:
            continue
        except Exception as error:
            raise CheckFailed(
                f"for a missing checkpoint, {method} raised {error!r} instead of FileNotFoundError"
            ) from error
        raise CheckFailed(f"for a missing checkpoint, {method} must raise FileNotFoundError")
    if not store.handler.verify("first.pt"):
        raise CheckSkipped("verify() returned False: the checkpoints have no digest")
    path = Path(store.handler.locate("first.pt"))
    if not path.is_file():
        raise CheckSkipped("this check changes a byte of the checkpoint, which must be a file")
    changed = bytearray(path.read_bytes())
    changed[len(changed) // 2] ^= 1
    path.write_bytes(changed)
    try:
        store.handler.verify("first.pt")
    except Exception:  # noqa: BLE001 - each save handler has its own error for damage
        return
    raise CheckFailed(
        "verify('first.pt') raised no error after a bit of the checkpoint was changed; compare all bytes"
    )


def process_is_unchanged(case: SaveHandlerCase) -> None:
    """save() does not print, leave threads running, or change global state such as signal handlers or random generators."""
    saved = content()
    with unchanged_process():
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
    metadata_and_damage_are_known,
    process_is_unchanged,
)
