"""Contract test of WandbLogger, with offline runs."""

import pytest

from glowplug_testing import LoggerCase, LoggerContract
from glowplug_wandb import WandbLogger

OWN = ("_", "glowplug/")


class TestWandbLogger(LoggerContract):
    @pytest.fixture
    def case(self, runs):
        """Describe how to create a logger and how to read what it wrote."""

        def read():
            return [
                (name, row["glowplug/step"], float(value))
                for records in runs.read()
                for row in runs.rows(records)
                for name, value in row.items()
                if not name.startswith(OWN) and "._" not in name
            ]

        def borrowed():
            run = runs.start()
            return WandbLogger(run=run), lambda: not run._is_finished

        return LoggerCase(
            make=lambda **options: WandbLogger("digits", dir=runs.folder, **options),
            read=read,
            borrowed=borrowed,
            plugin="glowplug_wandb._plugin",
        )
