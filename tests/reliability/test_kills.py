"""Nothing is lost and nothing is stored twice, however a process ends (L2)."""

import contextlib
import shutil
import signal
import time
from collections import Counter

import pytest

# Seconds in which a killed process may not have saved what it logged.
WINDOW = 0.2
# For a machine that is busy with other tests. A campaign runs alone.
MARGIN = 0.3

ENDINGS = {"SIGKILL": (2, 500), "SIGTERM": (2, 200), "exception": (2, 200)}


@pytest.fixture
def end_one(jobs, tmp_path, moments):
    """Return a function that trains, ends the process at a random moment, delivers the rest, and returns figures."""

    def end_one(make_backend, ending, state, number):
        chance = moments(ending, state, number)
        folder = tmp_path / f"{number}"
        backend = make_backend(folder)
        arguments = {**backend.arguments, "options": {**backend.arguments["options"], "timeout": 3.0}}
        if ending == "exception":
            # The exception is raised before the point of its iteration is logged, and each job must log at least one point.
            in_run, after = {"raise_at": chance.randrange(2, 500)}, {"raise_after": True, "epochs": 1}
            arguments |= in_run if number % 4 else after
        # Sometimes, the backend is down before the first record.
        is_down_first = state == "down" and chance.random() < 0.2
        with contextlib.ExitStack() as fault:
            if is_down_first:
                fault.enter_context(backend.down())
            job = jobs.start(folder, "train", **arguments)
            job.wait_for_calls()
            time.sleep(chance.uniform(0.0, 1.0))
            if state == "down" and not is_down_first:
                fault.enter_context(backend.down())
                time.sleep(chance.uniform(0.0, 0.7))
            if ending == "exception":
                job.wait()
                ages = dict.fromkeys(job.calls(), 0.0)
            else:
                ages = job.kill(signal.Signals[ending])
        if backend.has_spool:
            replay = jobs.run(folder, "replay")
            assert replay.result == {"code": 0}, replay.output
        assert job.code == (1 if ending == "exception" else -signal.Signals[ending]), job.output
        stored = backend.stored()
        # The ages of the points that are lost: SIGTERM and exceptions leave time to save everything.
        lost = [age for step, age in ages.items() if step not in stored]
        window = WINDOW if ending == "SIGKILL" else -1.0
        figures = {
            "points": len(ages),
            "lost": sum(age > window for age in lost),
            "lost_within_window": sum(age <= window for age in lost),
            "oldest_lost": round(max(lost, default=0.0), 3),
            "doubled": sum(number - 1 for number in stored.values()),
            "runs": backend.runs(),
        }
        backend.close()
        shutil.rmtree(folder)
        return figures

    return end_one


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("kind", "states"),
    [
        ("mlflow-server", ["up", "down"]),
        ("mlflow-sqlite", ["up", "down"]),
        ("tensorboard", ["up"]),
        ("jsonl", ["up"]),
        ("csv", ["up"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.timeout(3600)
def test_ended_process(end_one, backends, jobs, count, is_campaign, report, kind, states, ending):
    """Points that were logged 0.2 s before a kill -9 are stored once, after SIGTERM and exceptions all points are (L2)."""
    number = count(*ENDINGS[ending])
    began = time.monotonic()
    make_backend = backends(kind)
    found = jobs.each(lambda i: end_one(make_backend, ending, states[i % len(states)], i), range(number))
    oldest = max(each["oldest_lost"] for each in found)
    figures = {
        key: sum(each[key] for each in found) for key in ("points", "lost", "lost_within_window", "doubled")
    }
    report(
        ended=number,
        **figures,
        oldest_lost_s=oldest,
        statuses=Counter(status for each in found for status in each["runs"]),
        other_than_one_run=sum(len(each["runs"]) != 1 for each in found),
        seconds=round(time.monotonic() - began),
    )
    assert figures["doubled"] == 0
    # A process that was killed at once may have saved nothing.
    assert all(len(each["runs"]) <= 1 for each in found)
    if ending == "SIGKILL":
        assert oldest <= WINDOW + (0 if is_campaign else MARGIN)
    else:
        assert figures["lost"] == 0
