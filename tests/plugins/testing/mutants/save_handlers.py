"""A correct save handler, and mutants with one fault each."""

import os
import secrets
import shutil
import threading
import time
from pathlib import Path

import torch

from glowplug.distributed import rank


class Folder:
    """Writes each checkpoint atomically to a folder."""

    def __init__(self, dirname):
        self.dirname = Path(dirname)
        self.dirname.mkdir(exist_ok=True)

    def path(self, filename):
        if not filename or filename == ".." or Path(filename).name != filename:
            raise ValueError(f"filename must not contain a folder, got {filename!r}")
        return self.dirname / filename

    def temporary(self):
        return self.dirname / f".{secrets.token_hex(8)}.tmp"

    def write(self, checkpoint, path):
        with path.open("wb") as file:
            torch.save(checkpoint, file)
            os.fsync(file.fileno())

    def save(self, checkpoint, filename, metadata=None):
        path, temporary = self.path(filename), self.temporary()
        if rank() != 0:
            return
        try:
            self.write(checkpoint, temporary)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def remove(self, filename):
        self.path(filename).unlink(missing_ok=True)

    def load(self, filename):
        return torch.load(self.path(filename), weights_only=True)

    def list(self):
        complete = (path for path in self.dirname.iterdir() if not path.name.startswith("."))
        return [path.name for path in sorted(complete, key=lambda path: path.stat().st_mtime_ns)]

    def locate(self, filename):
        return self.path(filename)


class LacksLoad(Folder):
    load = None


class ListsByName(Folder):
    def list(self):
        return sorted(super().list())


class ListsOwnSaves(Folder):
    def __init__(self, dirname):
        super().__init__(dirname)
        self.saved = {}

    def save(self, checkpoint, filename, metadata=None):
        super().save(checkpoint, filename, metadata)
        self.saved.pop(filename, None)
        self.saved[filename] = True

    def list(self):
        return list(self.saved)


class LoadsNothing(Folder):
    def load(self, filename):
        return super().load(filename) if self.path(filename).exists() else None


class LocatesItself(Folder):
    def locate(self, filename):
        return self.dirname


class WritesInPlace(Folder):
    def save(self, checkpoint, filename, metadata=None):
        if rank() == 0:
            torch.save(checkpoint, self.path(filename))


class RemovesThePreviousFirst(Folder):
    def save(self, checkpoint, filename, metadata=None):
        self.remove(filename)
        super().save(checkpoint, filename, metadata)


class TakesTwoArguments(Folder):
    def save(self, checkpoint, filename):
        super().save(checkpoint, filename)


class SavesTheModelOnly(Folder):
    def save(self, checkpoint, filename, metadata=None):
        super().save({"model": checkpoint["model"]}, filename, metadata)


class Pickles(Folder):
    def write(self, checkpoint, path):
        torch.save({"content": checkpoint, "by": type(self)}, path)


class KeepsTheFirst(Folder):
    def save(self, checkpoint, filename, metadata=None):
        if not self.path(filename).exists():
            super().save(checkpoint, filename, metadata)


class SavesLater(Folder):
    def save(self, checkpoint, filename, metadata=None):
        thread = threading.Thread(target=self.later, args=(checkpoint, filename))
        thread.start()
        thread.join(0.05)

    def later(self, checkpoint, filename):
        time.sleep(0.2)
        super().save(checkpoint, filename)


class CatchesItsErrors(Folder):
    def save(self, checkpoint, filename, metadata=None):
        try:
            super().save(checkpoint, filename, metadata)
        except Exception:
            return


class CatchesFullDisks(Folder):
    def save(self, checkpoint, filename, metadata=None):
        try:
            super().save(checkpoint, filename, metadata)
        except OSError:
            return


class LeavesItsTemporaries(Folder):
    def save(self, checkpoint, filename, metadata=None):
        path, temporary = self.path(filename), self.temporary()
        if rank() == 0:
            self.write(checkpoint, temporary)
            temporary.replace(path)


class HasOneTemporary(Folder):
    def temporary(self):
        return self.dirname / "saving.tmp"


class RemovesByPrefix(Folder):
    def remove(self, filename):
        for path in self.dirname.glob(f"{filename}*"):
            path.unlink()


class RemovesOnce(Folder):
    def remove(self, filename):
        self.path(filename).unlink()


class LeavesItsFolder(Folder):
    def path(self, filename):
        return self.dirname / filename


class WritesOnEachRank(Folder):
    def save(self, checkpoint, filename, metadata=None):
        temporary = self.temporary()
        time.sleep(0.2 * rank())
        self.write(checkpoint, temporary)
        shutil.move(temporary, self.path(filename))


class ForgetsMetadata(Folder):
    def metadata(self, filename):
        return None if self.path(filename).stat() else {}

    def verify(self, filename):
        return bool(self.load(filename))


class VerifiesTheNameOnly(Folder):
    def save(self, checkpoint, filename, metadata=None):
        super().save(checkpoint, filename, metadata)
        self.known = {filename: metadata}

    def metadata(self, filename):
        return self.known[filename] if self.path(filename).stat() else None

    def verify(self, filename):
        return self.path(filename).stat().st_size > 0


class Prints(Folder):
    def save(self, checkpoint, filename, metadata=None):
        super().save(checkpoint, filename, metadata)
        print("saved", filename)
