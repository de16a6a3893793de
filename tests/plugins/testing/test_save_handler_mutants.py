"""Mutants of a save handler: each fails its check, and the correct one passes all checks."""

import pickle
from dataclasses import replace

import pytest
import torch  # noqa: F401 - collection skips this file without torch

from glowplug_testing import SaveHandlerCase, SaveHandlerContract, checks as kit
from glowplug_testing.check_lists import SAVE_HANDLER_CHECKS

from .mutants import save_handlers

CHECKS = {check.name: check for check in SAVE_HANDLER_CHECKS}


def case_of(kind, folder):
    """Return the case of a save handler that writes to a folder."""
    return SaveHandlerCase(make=lambda: kind(folder / "checkpoints"))


class TestFolder(SaveHandlerContract):
    @pytest.fixture
    def case(self, tmp_path):
        """Return the case of the correct save handler."""
        return case_of(save_handlers.Folder, tmp_path)


class InMemory:
    def __init__(self, files):
        self.files = files

    def save(self, checkpoint, filename, metadata=None):
        content = pickle.dumps(checkpoint)
        self.files.pop(filename, None)
        self.files[filename] = content

    def load(self, filename):
        return pickle.loads(self.files[filename])

    def list(self):
        return list(self.files)

    def remove(self, filename):
        self.files.pop(filename, None)

    def locate(self, filename):
        return filename


class TestInMemory(SaveHandlerContract):
    @pytest.fixture
    def case(self):
        """Return the case of a save handler without a folder."""
        files = {}
        return SaveHandlerCase(make=lambda: InMemory(files))

    expected_failures = {"one_rank_writes": "processes do not share memory"}


class Coarse(save_handlers.Folder):
    """A correct save handler whose timestamps have a resolution of a fifth of a second."""

    resolution = 0.2

    def list(self):
        paths = [self.path(name) for name in super().list()]
        return [path.name for path in sorted(paths, key=lambda path: (self.time_of(path), path))]

    def time_of(self, path):
        return path.stat().st_mtime // self.resolution


class Coarser(Coarse):
    """The same with a resolution of a day."""

    resolution = 24 * 3600


def test_resolution_of_timestamps(tmp_path):
    """The case says how long the check of list() waits between two saves, because some locations record only whole seconds."""
    case = replace(case_of(Coarse, tmp_path), seconds_between_saves=0.21)
    assert kit.run_check(CHECKS["list_returns_loadable_names"], case).status == "passed"
    (tmp_path / "quick").mkdir()
    too_quick = kit.run_check(CHECKS["list_returns_loadable_names"], case_of(Coarser, tmp_path / "quick"))
    assert too_quick.status == "failed"


MUTANTS = {
    "LacksLoad": "save_and_load_are_inverse",
    "ListsByName": "list_returns_loadable_names",
    "ListsOwnSaves": "list_returns_loadable_names",
    "LoadsNothing": "list_returns_loadable_names",
    "LocatesItself": "locate_returns_the_address",
    "WritesInPlace": "failed_save_keeps_the_previous",
    "RemovesThePreviousFirst": "killed_save_keeps_the_previous",
    "TakesTwoArguments": "save_and_load_are_inverse",
    "SavesTheModelOnly": "save_and_load_are_inverse",
    "Pickles": "save_and_load_are_inverse",
    "KeepsTheFirst": "second_save_replaces_the_first",
    "SavesLater": "save_is_complete_when_it_returns",
    "CatchesItsErrors": "failed_save_keeps_the_previous",
    "CatchesFullDisks": "full_disk_keeps_the_previous",
    "LeavesItsTemporaries": "failed_save_keeps_the_previous",
    "HasOneTemporary": "several_threads_can_save",
    "RemovesByPrefix": "remove_affects_one_checkpoint",
    "RemovesOnce": "remove_affects_one_checkpoint",
    "LeavesItsFolder": "names_cannot_leave_the_folder",
    "WritesOnEachRank": "one_rank_writes",
    "ForgetsMetadata": "metadata_and_damage_are_known",
    "VerifiesTheNameOnly": "metadata_and_damage_are_known",
    "Prints": "process_is_unchanged",
}


@pytest.mark.parametrize(("mutant", "check"), MUTANTS.items())
def test_mutants_are_caught(mutant, check, tmp_path):
    """A mutant fails the check of its fault."""
    result = kit.run_check(CHECKS[check], case_of(getattr(save_handlers, mutant), tmp_path))
    assert result.status == "failed", result


def test_all_mutants_are_in_the_table():
    """Every mutant is in the table."""
    mutants = {
        name
        for name, kind in vars(save_handlers).items()
        if getattr(kind, "__module__", "") == save_handlers.__name__
    }
    assert mutants - {"Folder"} == set(MUTANTS)
