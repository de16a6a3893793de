"""Tests of file names and patterns."""

import ntpath
import os
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from torch import nn

from glowplug import Events
from glowplug.testing import FakeEngine
from glowplug_model_checkpoint import Checkpoint, DiskSaver, ModelCheckpoint
from glowplug_model_checkpoint.filenames import check_filename, check_part, check_pattern, has_prefix, render

VALUES = {"filename_prefix": "best", "name": "model", "score_name": "acc", "score": 0.12345, "global_step": 7}

# Fragments of attacks on paths and format strings, mixed with arbitrary text.
HOSTILE = st.lists(
    st.sampled_from(
        [
            "..",
            "/",
            "\\",
            "\0",
            "~",
            "C:",
            "model",
            "{",
            "}",
            "{name}",
            "{name.__class__}",
            "{0}",
            "\n",
            ".",
            " ",
        ]
    )
    | st.text(max_size=3),
    max_size=6,
).map("".join)


def saved_name(fake, **kwargs):
    """Return the file name that a checkpoint uses."""
    saved = []
    checkpoint = Checkpoint(
        {"model": nn.Linear(1, 1)}, lambda content, filename: saved.append(filename), **kwargs
    )
    fake.add_event_handler(Events.EPOCH_COMPLETED, checkpoint)
    fake.fire(Events.EPOCH_COMPLETED)
    return saved[0]


@pytest.mark.parametrize(
    ("with_score", "with_name", "with_step", "expected"),
    [
        (False, False, False, "model_6.pt"),
        (False, False, True, "model_3.pt"),
        (True, False, False, "model_3_0.1235.pt"),
        (True, False, True, "model_3_0.1235.pt"),
        (True, True, False, "model_3_acc=0.1235.pt"),
        (False, True, False, "model_3_acc=0.5000.pt"),
        (True, True, True, "model_3_acc=0.1235.pt"),
        (False, True, True, "model_3_acc=0.5000.pt"),
    ],
)
def test_default_names(fake, with_score, with_name, with_step, expected):
    """Each combination of score, score name and step gives ignite's default name; a score brings the epoch (H-019)."""
    fake.state.metrics = {"acc": 0.5}
    name = saved_name(
        fake,
        score_function=(lambda engine: 0.12345) if with_score else None,
        score_name="acc" if with_name else None,
        global_step_transform=(lambda engine, event: engine.state.epoch) if with_step else None,
    )
    assert name == expected


def test_integer_score_and_prefix(fake):
    """An integer score is written without decimals, and the prefix comes first (H-019)."""
    assert saved_name(fake, score_function=lambda engine: 3, filename_prefix="best") == "best_model_3_3.pt"


def test_pattern_fields():
    """All fields can be used; formats are applied; a missing score is written as None (H-021)."""
    pattern = "{filename_prefix}-{name}-{global_step:04d}-{score_name}-{score:.2f}.{ext}"
    assert render(check_pattern(pattern), **VALUES) == "best-model-0007-acc-0.12.pt"
    assert render("{name}_{score}.{ext}", **{**VALUES, "score": None}) == "model_None.pt"
    assert render("{{{name}}}", **VALUES) == "{model}"


def test_setup_filename_pattern():
    """The patterns equal ignite's; contradictory parts raise errors (H-022)."""
    setup = Checkpoint.setup_filename_pattern
    assert setup() == "{filename_prefix}_{name}_{global_step}_{score_name}={score}.{ext}"
    assert setup(False, True, False, False) == "{name}_{score}.{ext}"
    assert setup(True, False, False, True) == "{filename_prefix}_{name}_{global_step}.{ext}"
    with pytest.raises(ValueError, match="with_score_name"):
        setup(with_score=False)
    with pytest.raises(ValueError, match="both False"):
        setup(with_score=False, with_score_name=False, with_global_step=False)


@pytest.mark.parametrize(
    "pattern",
    [
        "{name.__class__}.pt",
        "{name[0]}.pt",
        "{0}.pt",
        "{}.pt",
        "{name!r}.pt",
        "{secret}.pt",
        "{name:{score}}.pt",
        "{name:99999999}.pt",
        "{global_step:999d}.pt",
        "{score:.999f}.pt",
        "{name",
        "../{name}.pt",
        "{name}/{global_step}.pt",
        "",
    ],
)
def test_unsafe_patterns_are_refused(pattern):
    """Attributes, indexes, conversions, unknown fields, huge widths and paths are refused at construction (S2)."""
    with pytest.raises(ValueError, match=r"filename_pattern|checkpoint name"):
        Checkpoint({"model": nn.Linear(1, 1)}, print, filename_pattern=pattern)


@pytest.mark.parametrize(
    "value", ["../x", "a/b", "a\\b", "..", ".", "/etc", "C:x", "a\0b", "a\nb", "\ud800", "a/"]
)
@pytest.mark.parametrize("what", ["filename_prefix", "score_name", "key"])
def test_unsafe_names_are_refused(tmp_path, value, what):
    """A prefix, score name or key of to_save that could leave the folder raises an error that names it (S2)."""
    to_save = {value if what == "key" else "model": nn.Linear(1, 1)}
    arguments = {} if what == "key" else {what: value}
    expected = "a key of to_save" if what == "key" else what
    with pytest.raises(ValueError, match=f"^{expected} becomes part of a file name"):
        Checkpoint(to_save, print, **arguments)
    with pytest.raises(ValueError, match=f"^{expected} becomes part of a file name"):
        ModelCheckpoint(tmp_path / "new", to_save=to_save, **arguments)


def unless_refused(check, value, otherwise):
    """Return the value if it passes the check, else a safe one, so that the other values are still tested."""
    try:
        return check(value)
    except ValueError:
        return otherwise


@settings(max_examples=10_000 if os.environ.get("GLOWPLUG_CAMPAIGN") == "1" else 1_000, deadline=None)
@given(prefix=HOSTILE, score_name=HOSTILE, key=HOSTILE, pattern=HOSTILE)
def test_fuzzed_names(prefix, score_name, key, pattern):
    """Any values that pass the checks give a file name without a path, or an error (S2)."""
    parts = [unless_refused(partial(check_part, "part"), part, "x") for part in (prefix, score_name, key)]
    checked = unless_refused(check_pattern, pattern, "{filename_prefix}{name}{score_name}")
    values = dict(zip(("filename_prefix", "score_name", "name"), parts, strict=True))
    try:
        name = render(checked, **values, score=1.5, global_step=1)
    except ValueError:
        return
    assert os.path.normpath(f"/root/folder/{name}") == f"/root/folder/{name}"
    assert ntpath.basename(name) == name
    assert "\0" not in name
    # The name contains no repr of an attribute.
    assert "<" not in name or "<" in "".join((*parts, checked))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prefix=HOSTILE, score_name=HOSTILE, key=HOSTILE)
def test_fuzzed_writes(tmp_path, names, prefix, score_name, key):
    """Saves with any names write only inside the given folder (S2)."""
    folder = tmp_path / "a" / "b"
    fake = FakeEngine()
    fake.state.metrics = {score_name: 1.0}
    try:
        checkpoint = ModelCheckpoint(
            folder, prefix, score_name=score_name, require_empty=False, to_save={key: nn.Linear(1, 1)}
        )
        checkpoint(fake)
    except (ValueError, OSError):
        # The name is refused, or too long for the file system.
        pass
    assert names(tmp_path) in ([], ["a"])
    assert not (tmp_path / "a").exists() or names(tmp_path / "a") == ["b"]


def test_disk_saver_refuses_unsafe_names(tmp_path):
    """A DiskSaver refuses paths, empty names and reserved temporary names (S2)."""
    saver = DiskSaver(tmp_path)
    for name in ("../x.pt", "/x.pt", "", ".glowplug-0123456789abcdef.tmp"):
        for call in (lambda name=name: saver({}, name), lambda name=name: saver.remove(name)):
            with pytest.raises(ValueError):
                call()
    assert list(tmp_path.iterdir()) == []


def test_names_must_be_strings():
    """A name of another type raises a TypeError that contains it."""
    with pytest.raises(TypeError, match="got 3"):
        check_filename(3)
    with pytest.raises(TypeError, match="filename_pattern must be a string"):
        check_pattern(3)


def test_prefix_ends_with_an_underscore():
    """The prefix "best" matches neither files with the prefix "best2" nor files that are not checkpoints."""
    assert has_prefix("best_model_1.pt", "best")
    assert not has_prefix("best2_model_1.pt", "best")
    assert not has_prefix("best_model_1.txt", "best")
