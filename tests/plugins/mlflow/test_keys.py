"""The escaping of names: MLflow takes each one, and each one can be read back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name

from glowplug_mlflow.keys import ALLOWED_IN_FILES, escape, file_name, shorten, unescape

NASTY = st.one_of(
    st.text(),
    st.text(alphabet="_x3DAF/.=-:", max_size=12),
    st.lists(st.sampled_from(["_x3D_", "_x_", "_", "x", "3D", "=", "/", "..", ".", "é"])).map("".join),
)


@given(NASTY)
def test_L4_any_name_is_taken_and_read_back(name):
    """MLflow's own validator takes each escaped name, and unescape gives the name again; so for files."""
    for escaped in (escape(name), escape(name, ALLOWED_IN_FILES)):
        _validate_metric_name(escaped)
        assert unescape(escaped) == name
    assert escape(name, ALLOWED_IN_FILES).isascii()


@pytest.mark.parametrize(
    "name", ["loss", "training/loss", "f1 macro", "lr/group_0", "pos_x1", "a.b-c:d", "größe/всё"]
)
def test_L4_good_names_stay_as_they_are(name):
    """What MLflow takes is not changed."""
    assert escape(name) == name


@given(st.text(min_size=200, max_size=600), st.text(min_size=200, max_size=600))
def test_L4_long_names_fit_and_stay_different(first, second):
    """A shortened name has at most 250 characters and is still valid; different names stay different."""
    short = shorten(escape(first))
    assert len(short) <= 250
    _validate_metric_name(short)
    assert (file_name(first) == file_name(second)) == (first == second)
