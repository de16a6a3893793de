"""Tests of the TensorBoard finding of `glowplug doctor`."""

import sys

from glowplug_tensorboard._plugin import glowplug_doctor


def test_working_tensorboard():
    """The finding contains the installed version."""
    (check,) = glowplug_doctor()
    assert check.status == "ok"
    assert "tensorboard 2." in check.message


def test_broken_import(monkeypatch, tmp_path):
    """An exception during the import becomes a finding with a remedy."""
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "tensorboard" / "__init__.py").write_text("raise TypeError('Descriptors cannot be created')")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    (check,) = glowplug_doctor()
    assert (check.status, check.message) == ("error", "TypeError: Descriptors cannot be created")
    assert "pip install --upgrade tensorboard protobuf" in check.remedy
