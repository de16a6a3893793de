"""What each contract checks."""

from __future__ import annotations

from glowplug.testing.checks import checks_of
from glowplug.testing.logger_checks import DELIVERY_CHECKS
from glowplug.testing.logger_fault_checks import FAULT_CHECKS
from glowplug.testing.logger_run_checks import RUN_CHECKS
from glowplug.testing.plugin_checks import plugin_module_is_light

LOGGER_CHECKS = checks_of(*DELIVERY_CHECKS, *RUN_CHECKS, *FAULT_CHECKS, plugin_module_is_light)
HANDLER_CHECKS = checks_of(plugin_module_is_light)
METRIC_CHECKS = checks_of(plugin_module_is_light)
SAVE_HANDLER_CHECKS = checks_of(plugin_module_is_light)

__all__ = ["HANDLER_CHECKS", "LOGGER_CHECKS", "METRIC_CHECKS", "SAVE_HANDLER_CHECKS"]
