"""Tests of request sizes."""

import json

from hypothesis import given, strategies as st

from glowplug_mlflow.requests import MAX_BYTES, MAX_PARAMS, slices

SIZES = st.lists(st.tuples(st.integers(1, 250), st.integers(0, 6000)), max_size=400)


@given(SIZES, st.sampled_from(["x", "é", "\U0001f600"]))
def test_size_limit(sizes, character):
    """No request exceeds MLflow's limits, and all items are kept in order (L4)."""
    params = [
        {"key": character * (name // 2) + str(number), "value": character * text}
        for number, (name, text) in enumerate(sizes)
    ]
    parts = list(slices(((each["key"], each["value"], each) for each in params), MAX_PARAMS))
    assert [each for part in parts for each in part] == params
    for part in parts:
        assert 0 < len(part) <= MAX_PARAMS
        assert len(part) == 1 or len(json.dumps({"run_id": "0" * 32, "params": part})) <= MAX_BYTES


def test_count_limit():
    """Small items are split by their number only (L4)."""
    assert [len(part) for part in slices((("a", "", n) for n in range(2500)), 1000)] == [1000, 1000, 500]
