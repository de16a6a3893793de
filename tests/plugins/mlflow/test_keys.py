"""Tests of escaped and shortened names."""

import pytest
from hypothesis import given, strategies as st
from mlflow.utils.validation import _validate_metric_name

from glowplug_mlflow.keys import ALLOWED_IN_FILES, escape, file_name, shorten, unescape

NASTY = st.one_of(
    st.text(),
    st.text(alphabet="_x3DAF/.=-:", max_size=12),
    st.lists(st.sampled_from(["_x3D_", "_x_", "_", "x", "3D", "=", "/", "..", ".", "é"])).map("".join),
)


@given(NASTY)
def test_escape_round_trip(name):
    """MLflow accepts every escaped name, and unescape restores it (L4)."""
    for escaped in (escape(name), escape(name, ALLOWED_IN_FILES)):
        _validate_metric_name(escaped)
        assert unescape(escaped) == name
    assert escape(name, ALLOWED_IN_FILES).isascii()


@pytest.mark.parametrize(
    "name", ["loss", "training/loss", "f1 macro", "lr/group_0", "pos_x1", "a.b-c:d", "größe/всё"]
)
def test_valid_names_are_unchanged(name):
    """Names that MLflow accepts are not changed (L4)."""
    assert escape(name) == name


@given(st.text(min_size=200, max_size=600), st.text(min_size=200, max_size=600))
def test_shorten(first, second):
    """Shortened names are valid and have at most 250 characters; different names remain different (L4)."""
    short = shorten(escape(first))
    assert len(short) <= 250
    _validate_metric_name(short)
    assert (file_name(first) == file_name(second)) == (first == second)
