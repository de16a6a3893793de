"""Contract test of TensorboardLogger."""

import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from glowplug_tensorboard import TensorboardLogger
from glowplug_testing import LoggerCase, LoggerContract


def scalars_in(folder):
    """Return every scalar in the event files of a folder, file by file."""
    found = []
    for path in sorted(folder.glob("events.*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "scalars":
                    (number,) = value.tensor.float_val
                    found.append((value.tag, event.step, number))
    return found


class TestTensorboardLogger(LoggerContract):
    @pytest.fixture
    def case(self, tmp_path):
        """Loggers that write to one folder."""
        return LoggerCase(
            make=lambda **options: TensorboardLogger(tmp_path, **options),
            read=lambda: scalars_in(tmp_path),
            plugin="glowplug_tensorboard._plugin",
            heavy=["torch", "tensorboard", "numpy"],
        )
