"""What each contract checks."""

from __future__ import annotations

from glowplug.testing.checks import checks_of
from glowplug.testing.logger_checks import DELIVERY_CHECKS

LOGGER_CHECKS = checks_of(*DELIVERY_CHECKS)
HANDLER_CHECKS = checks_of()
METRIC_CHECKS = checks_of()
SAVE_HANDLER_CHECKS = checks_of()

__all__ = ["HANDLER_CHECKS", "LOGGER_CHECKS", "METRIC_CHECKS", "SAVE_HANDLER_CHECKS"]
