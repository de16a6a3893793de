"""Checks of a logger: each record is stored once, in order and under its name."""

from __future__ import annotations

import importlib.util
import math
import tempfile
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from glowplug_testing.cases import LoggerCase
from glowplug_testing.checks import CheckSkipped, require
from glowplug_testing.flaky_backend import FlakyBackend
from glowplug_testing.logger_trial import Trial, run_logging, same

ODD_NAMES = (
    "with space", "a.b", "a_b", "a-b", "a:b", "a|b", "a\\b", "a%b", "a,b", 'a"b', "a'b", "a=b", "a{b}", "a#b", "a?b", "a*b",
    "Loss", "loss", "größe", "損失", "..", "a/../b", "a//b", "a/b", "x" * 200 + "1", "x" * 200 + "2",
)  # fmt: skip


def options_are_passed_on(case: LoggerCase) -> None:
    """The constructor accepts all options of the base class Logger and passes them on to the base class."""
    options: dict[str, Any] = {"timeout": 1.5, "capacity": 7, "on_error": "raise", "all_ranks": True}
    with Trial(case) as trial:
        logger = trial.make(**options)
        found = {name: getattr(logger, name) for name in options}
        require(
            found == options,
            f"the logger was created with {options} but has {found}; pass the options on: super().__init__(**options)",
        )


def scalars_are_stored_in_order(case: LoggerCase) -> None:
    """After close(), every scalar is stored once, with its step and value, in the order in which it was logged."""
    with Trial(case) as trial:
        logger = trial.make()
        # 703 is not a multiple of a usual buffer size.
        rows = [("loss", step, 1.5 / (step + 1)) for step in range(703)]
        rows += [("constant", step, 0.25) for step in (3, 4, 5)]
        rows += [
            ("zero", 0, 0.0),
            ("tiny", 1, 1.2345678e-7),
            ("large", 2**31, -123456.78),
            ("Val.acc_1", 7, 1.0),
        ]
        rows += [("again", 5, 0.5), ("again", 2, 0.25), ("again", 9, 0.75)]
        logged = trial.log(logger, rows)
        logger.log_scalars({trial.name("pair/a"): 1.0, trial.name("pair/b"): 2.0}, 11)
        logged += [(trial.name("pair/a"), 11, 1.0), (trial.name("pair/b"), 11, 2.0)]
        logger.close()
        trial.require_stored(
            logged,
            "after close()",
            "Write each record that write_scalars() receives; write buffered records in close_backend(outcome)",
        )


def scalars_are_stored_after_flush(case: LoggerCase) -> None:
    """After flush(), all records logged so far can be read."""
    with Trial(case) as trial:
        logger = trial.make()
        logged = trial.log(logger, [("loss", step, 0.5 * step) for step in range(5)])
        require(logger.flush(), f"flush() did not deliver 5 records{trial.report()}")
        advice = "Define flush_backend(self) and write buffered records there"
        trial.require_stored(logged, "after flush()", advice)
        logged += trial.log(logger, [("loss", 5, 2.5)])
        logger.flush()
        trial.require_stored(logged, "after a second flush()", advice)


def odd_names_stay_distinct(case: LoggerCase) -> None:
    """Scalars with unusual names are stored or counted as dropped, and different names stay distinct."""
    step = 900_001
    with Trial(case) as trial:
        before = _at(case, step)
        logger = trial.make()
        for name in ODD_NAMES:
            logger.log_scalars({trial.name(name): 0.5}, step)
        logger.close()
        new = _at(case, step) - before
        lost = logger.counts.dropped
        require(
            len(new) + lost == len(ODD_NAMES) and new.total() == len(new),
            f"{len(ODD_NAMES)} scalars with different names were logged; {lost} records are counted as dropped and {len(new)} names "
            f"are stored: {', '.join(map(repr, sorted(new)))}. If the backend refuses a name, escape the name such that it stays "
            f"distinct, or raise ValueError{trial.report()}",
        )


def _at(case: LoggerCase, step: int) -> Counter[str]:
    try:
        return Counter(str(name) for name, at, _ in case.read() if at == step)
    except FileNotFoundError:
        return Counter()


def non_finite_values_are_kept(case: LoggerCase) -> None:
    """NaN and infinite values are stored or counted as dropped; a finite value that is logged later is stored."""
    values = {"nan": math.nan, "inf": math.inf, "minus_inf": -math.inf}
    with Trial(case) as trial:
        logger = trial.make()
        for step, (name, value) in enumerate(values.items()):
            logger.log_scalars({trial.name(name): value}, step)
        trial.log(logger, [("finite", 3, 0.5)])
        logger.close()
        stored = {str(name).partition("/")[2]: value for name, _, value in trial.stored()}
        require(
            same(0.5, stored.pop("finite", None)),
            f"a finite value logged after NaN and infinities is not stored{trial.report()}",
        )
        for name, value in stored.items():
            require(
                _represents(values[name], value),
                f"{values[name]} is stored as {value!r}; store the value itself, NaN or null, or raise ValueError",
            )
        trial.require_counted(logger, 4, len(stored) + 1)


def _represents(logged: float, stored: Any) -> bool:
    if stored is None or isinstance(stored, str):
        return True
    value = float(stored)
    if math.isnan(logged) or math.isnan(value):
        return math.isnan(value)
    # A backend without infinities may store its largest float.
    return abs(value) > 1e37 and (value > 0) == (logged > 0)


def healthy_run_is_quiet(case: LoggerCase) -> None:
    """With a working backend, the logger reports no fault and counts all records as sent."""
    with Trial(case) as trial:
        logger = trial.make()
        run_logging(trial, logger, [0.5, 0.25, 0.125])
        logger.close()
        require(
            not trial.warnings,
            "a run with a working backend caused warnings; check the signatures write_scalars(scalars, step, timestamp) and "
            f"close_backend(outcome){trial.report()}",
        )
        trial.require_counted(logger, 3, 3)
        without_a_run = trial.make()
        trial.log(without_a_run, [("loss", 4, 0.5)])
        without_a_run.close()
        require(
            not trial.warnings,
            f"close() without a run failed; close_backend(outcome) must accept None{trial.report()}",
        )


def two_loggers_are_independent(case: LoggerCase) -> None:
    """Two loggers that are in use at the same time store each record once."""
    with Trial(case) as trial:
        first, second = trial.make(), trial.make()
        logged = []
        for step in range(6):
            logged += trial.log(first, [("first", step, 1.0)])
            logged += trial.log(second, [("second", step, 2.0)])
        first.flush()
        second.flush()
        first.close()
        logged += trial.log(second, [("second", 6, 2.0)])
        second.close()
        trial.require_stored(
            logged,
            "with two loggers that write to the same file or tracking run",
            "Store the data of a logger in instance attributes (self.rows = [] in __init__), not in the class or module",
        )


def records_of_several_threads_are_stored(case: LoggerCase) -> None:
    """Each record is stored once when several threads log at the same time."""
    with Trial(case) as trial:
        logger = trial.make()
        each = [[(f"thread{number}", step, float(step)) for step in range(25)] for number in range(4)]
        threads = [threading.Thread(target=trial.log, args=(logger, rows)) for rows in each]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        logger.close()
        logged = [(trial.name(name), step, value) for rows in each for name, step, value in rows]
        trial.require_stored(
            logged,
            "after four threads logged",
            "Implement write methods only; Logger provides the queue",
        )


def values_are_captured_when_logged(case: LoggerCase) -> None:
    """Changing an object after it was logged does not change the stored value."""
    with Trial(case) as trial:
        logger = trial.make()
        scalars = {trial.name("loss"): 1.0}
        with FlakyBackend.slow(logger, 0.05):
            logger.log_scalars(scalars, 1)
            scalars[trial.name("loss")] = 2.0
            logger.log_scalars(scalars, 2)
            scalars.clear()
            logger.flush()
        logged = [(trial.name("loss"), 1, 1.0), (trial.name("loss"), 2, 2.0)]
        trial.require_stored(
            logged, "after the logged dict was changed", "Write the values that the write method receives"
        )


def logging_after_close_is_harmless(case: LoggerCase) -> None:
    """A second close() does nothing; records logged after close() are counted as dropped, without an error."""
    with Trial(case) as trial:
        logger = trial.make()
        logged = trial.log(logger, [("loss", 1, 0.5)])
        logger.close()
        logger.close()
        trial.log(logger, [("loss", 2, 0.5)])
        trial.require_stored(logged, "after close()", "Write buffered records in close_backend(outcome)")
        trial.require_counted(logger, 2, 1)


def every_write_method_works(case: LoggerCase) -> None:
    """Each write method of the logger can write a record of its kind, such as an image or a histogram."""
    with Trial(case) as trial, tempfile.TemporaryDirectory() as folder:
        logger = trial.make()
        records = [call for call in _records(trial, Path(folder)) if logger.takes(call[0])]
        if not records:
            raise CheckSkipped("the logger writes scalars only")
        for method, *args in records:
            getattr(logger, method)(*args)
            logger.flush()
            require(
                not logger.counts.dropped and not trial.warnings,
                f"the record of {method}{tuple(args)} was not written; see help(glowplug.loggers.Writer) for the signature, "
                f"or omit the write method if the backend cannot store this kind of record{trial.report()}",
            )
        logger.close()
        trial.require_counted(logger, len(records), len(records))


def _records(trial: Trial, folder: Path) -> list[tuple[Any, ...]]:
    artifact = folder / "artifact.txt"
    artifact.write_text("an artifact\n", encoding="utf-8")
    records: list[tuple[Any, ...]] = [
        (
            "log_params",
            {"optimizer": {"name": "SGD", "lr": 0.1}, "layers": [64, 32], "seed": 7, "none": None},
        ),
        ("log_text", trial.name("text"), "some text, größer", 1),
        ("log_artifact", str(artifact), "files"),
    ]
    if importlib.util.find_spec("numpy") is not None:
        import numpy as np

        image = np.linspace(0, 1, 48, dtype=np.float32).reshape(4, 4, 3)
        records += [
            ("log_histogram", trial.name("weights"), np.linspace(-1, 1, 50), 1),
            ("log_image", trial.name("image"), image, 1),
            ("log_figure", trial.name("figure"), (255 * image).astype(np.uint8), 1),
        ]
    return records


DELIVERY_CHECKS = (
    options_are_passed_on,
    scalars_are_stored_in_order,
    scalars_are_stored_after_flush,
    odd_names_stay_distinct,
    non_finite_values_are_kept,
    healthy_run_is_quiet,
    two_loggers_are_independent,
    records_of_several_threads_are_stored,
    values_are_captured_when_logged,
    logging_after_close_is_harmless,
    every_write_method_works,
)

__all__ = ["DELIVERY_CHECKS"]
