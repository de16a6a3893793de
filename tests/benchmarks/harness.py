"""Measure variants in interleaved rounds, so that other work on the machine affects all of them alike."""

import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

FLOOR, IGNITE, LIGHTNING, KERAS, GLOWPLUG = "floor", "ignite", "lightning", "keras", "glowplug"


@dataclass(frozen=True)
class Goal:
    """Upper bound on a time: absolute, a multiple of another variant (``times``), or a time more than it (``above``)."""

    at_most: float
    times: str | None = None
    above: str | None = None

    def __str__(self):
        if self.above is not None:
            return f"<= {self.above} + {self.at_most:g}"
        if self.times is None:
            return f"<= {self.at_most:g}"
        if self.at_most <= 0.5:
            return f"{self.times} / {1 / self.at_most:g}"
        return f"<= {self.at_most:g} x {self.times}"

    def is_reached(self, minima):
        """Return whether glowplug's minimum reaches the goal; disturbances only make rounds longer."""
        base = 0 if self.above is None else minima[self.above]
        return minima[GLOWPLUG] <= base + self.at_most * (1 if self.times is None else minima[self.times])


@dataclass
class Row:
    """One line of the table: a name, the unit, the goals, and one function per variant that measures it once.

    Each function returns the time of one unit of work in ``unit``, without the time for its setup.
    """

    what: str
    variants: dict[str, Callable[[], float]]
    goals: tuple[Goal, ...] = ()
    unit: str = "us"
    rounds: int = 15
    # Whether the table shows the difference to the floor instead of the ratio.
    is_difference: bool = False

    def measure(self):
        """Run all variants in each round, in alternating order; return the results for the table and the JSON file."""
        times = {name: [] for name in self.variants}
        for function in self.variants.values():  # caches, lazy imports
            function()
        for number in range(self.rounds):
            for name in list(times)[:: 1 if number % 2 else -1]:
                gc.collect()
                times[name].append(self.variants[name]())
        medians = {name: statistics.median(values) for name, values in times.items()}
        minima = {name: min(values) for name, values in times.items()}
        return {
            "what": self.what,
            "unit": self.unit,
            "rounds": self.rounds,
            "median": medians,
            "minimum": minima,
            "ratio": {
                name: {
                    "of medians": medians[GLOWPLUG] / medians[name],
                    "of minima": minima[GLOWPLUG] / minima[name],
                }
                for name in self.variants
                if name != GLOWPLUG
            },
            "difference": {
                "of medians": medians[GLOWPLUG] - medians[FLOOR],
                "of minima": minima[GLOWPLUG] - minima[FLOOR],
            }
            if self.is_difference
            else None,
            "goals": [{"goal": str(goal), "reached": goal.is_reached(minima)} for goal in self.goals],
        }


def per_call(function, calls):
    """Return a variant that measures microseconds per call, averaged over many calls."""

    def measure():
        started = time.perf_counter()
        for _ in range(calls):
            function()
        return (time.perf_counter() - started) / calls * 1e6

    return measure


def per_iteration(make, iterations, timer=time.perf_counter):
    """Return a variant that measures microseconds per iteration; ``make()`` returns a function that iterates over data."""
    data = list(range(iterations))

    def measure():
        run = make()
        started = timer()
        run(data)
        return (timer() - started) / iterations * 1e6

    return measure


def in_new_process(code, *arguments, **environment):
    """Run a script in a new process and return the number on its last line."""
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return float(ended.stdout.split()[-1])


def write_json(path, report):
    """Write the measurements as JSON."""
    Path(path).write_text(json.dumps(report, indent=2) + "\n")
