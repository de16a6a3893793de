"""Tests of how WandbLogger selects a run: with ids, with the arguments of W&B, and on several ranks."""

import pytest
import wandb

from glowplug_wandb import WandbLogger


def make_logger(runs, **options):
    """Return a logger with a timeout that is long enough for a busy machine."""
    return WandbLogger("digits", dir=runs.folder, timeout=60, **options)


def selection(logger):
    """Return the arguments with which the run was started."""
    settings = logger.run.settings
    fork, rewind = settings.fork_from, settings.resume_from
    return logger.run.id, settings.resume, fork and fork.run, rewind and rewind.run


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ("abc", "allow", None, None)),
        ({"resume": "never"}, ("abc", "never", None, None)),
        ({"resume": "must"}, ("abc", "must", None, None)),
        ({"fork_from": "xyz?_step=3"}, ("abc", None, "xyz", None)),
        ({"resume_from": "abc?_step=3"}, ("abc", None, None, "abc")),
    ],
    ids=lambda value: next(iter(value), "") if isinstance(value, dict) else "",
)
def test_selected_run(runs, monkeypatch, options, expected):
    """W&B gets the user's selection, also after a failed attempt; once the run has begun, later processes continue it."""
    init, fails = wandb.init, iter([True])

    def fail_once(**arguments):
        if next(fails, False):
            raise ConnectionError("W&B does not answer")
        return init(**arguments)

    monkeypatch.setattr(wandb, "init", fail_once)
    with make_logger(runs, id="abc", **options) as logger:
        logger.log_scalars({"loss": 1.0}, 1)
        # The first attempt after a failure.
        assert any(logger.flush() for _ in range(3))
        assert selection(logger) == expected
        state = logger.state_dict()
    with make_logger(runs, id="abc", **options) as resumed:
        resumed.load_state_dict(state)
        assert selection(resumed) == ("abc", "allow", None, None)


def test_state_of_a_run_that_never_began(runs, monkeypatch):
    """If W&B never had the run, a resumed script starts the run as the user wants it."""
    monkeypatch.setattr(wandb, "init", lambda **_: 1 / 0)
    logger = make_logger(runs, id="abc", fork_from="xyz?_step=3")
    logger.log_scalars({"loss": 1.0}, 1)
    logger.flush()
    state = logger.state_dict()
    logger.close()
    monkeypatch.undo()
    with make_logger(runs, id="abc", fork_from="xyz?_step=3", mode="offline") as resumed:
        resumed.load_state_dict(state)
        assert selection(resumed) == ("abc", None, "xyz", None)


def test_a_run_for_each_rank(runs, monkeypatch):
    """With all_ranks, each rank has its own run, even with an id, and after loading the state of rank 0."""
    states = {}
    for rank in (0, 1):
        monkeypatch.setenv("RANK", str(rank))
        with make_logger(runs, id="abc", all_ranks=True) as logger:
            logger.log_scalars({"loss": rank}, 1)
            logger.flush()
            states[rank] = logger.state_dict()
    assert [states[rank]["run"]["run_id"] for rank in (0, 1)] == ["abc", "abc-rank1"]
    # The environment of the last process is that of rank 1.
    for options in ({}, {"id": "abc"}):
        for state in states.values():
            with make_logger(runs, all_ranks=True, **options) as resumed:
                resumed.load_state_dict(state)
                resumed.log_scalars({"loss": 1.0}, 1)
                resumed.log_scalars({"loss": 1.0}, 2)
                assert resumed.run.id == "abc-rank1"
                assert resumed.run_key != states[0]["spool"]


def test_shared_mode(runs, monkeypatch):
    """The mode in which W&B does not confirm what it has received is refused, wherever the user chose it."""
    for options in (
        {"mode": "shared"},
        {"settings": {"mode": "shared"}},
        {"settings": wandb.Settings(mode="shared")},
    ):
        with pytest.raises(ValueError, match='does not support mode="shared"'):
            WandbLogger(**options)
    monkeypatch.setenv("WANDB_MODE", "shared")
    with pytest.raises(ValueError, match='does not support mode="shared"'):
        WandbLogger()
    WandbLogger(mode="offline")


@pytest.mark.parametrize("length", [8, 34, 60])
def test_long_names_of_artifacts(runs, tmp_path, length):
    """An artifact is stored, however long the id of the run and the name are."""
    (tmp_path / "best.pt").write_text("weights")
    with make_logger(runs, id="r" * length) as logger:
        logger.log_artifact(tmp_path / "best.pt", "a/" * 100)
        logger.flush()
        assert logger.counts == (1, 0, 0)
