"""What `glowplug doctor` is told of TensorBoard."""

import sys

from glowplug_tensorboard._plugin import glowplug_doctor


def test_event_files_can_be_written():
    """The finding names the version that is installed."""
    (check,) = glowplug_doctor()
    assert check.status == "ok"
    assert "tensorboard 2." in check.message


def test_protobuf_that_does_not_fit(monkeypatch, tmp_path):
    """Whatever the import raises is a finding, with what to do."""
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "tensorboard" / "__init__.py").write_text("raise TypeError('Descriptors cannot be created')")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    (check,) = glowplug_doctor()
    assert (check.status, check.message) == ("error", "TypeError: Descriptors cannot be created")
    assert "pip install --upgrade tensorboard protobuf" in check.remedy
