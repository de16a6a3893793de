"""The checks of each contract."""

from __future__ import annotations

from glowplug_testing.checks import checks_of
from glowplug_testing.handler_checks import ENGINE_CHECKS
from glowplug_testing.handler_state_checks import STATE_CHECKS
from glowplug_testing.logger_checks import DELIVERY_CHECKS
from glowplug_testing.logger_fault_checks import FAULT_CHECKS
from glowplug_testing.logger_run_checks import RUN_CHECKS
from glowplug_testing.metric_checks import METRIC_CHECK_FUNCTIONS
from glowplug_testing.plugin_checks import plugin_module_is_light
from glowplug_testing.save_handler_checks import SAVE_HANDLER_CHECK_FUNCTIONS

HANDLER_CHECKS = checks_of(*ENGINE_CHECKS, *STATE_CHECKS, plugin_module_is_light)
LOGGER_CHECKS = checks_of(*DELIVERY_CHECKS, *RUN_CHECKS, *FAULT_CHECKS, plugin_module_is_light)
METRIC_CHECKS = checks_of(*METRIC_CHECK_FUNCTIONS, plugin_module_is_light)
SAVE_HANDLER_CHECKS = checks_of(*SAVE_HANDLER_CHECK_FUNCTIONS, plugin_module_is_light)

__all__ = ["HANDLER_CHECKS", "LOGGER_CHECKS", "METRIC_CHECKS", "SAVE_HANDLER_CHECKS"]
