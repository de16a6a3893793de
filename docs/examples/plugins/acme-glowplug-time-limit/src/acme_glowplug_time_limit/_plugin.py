"""Plugin hooks of this distribution; imports only the hook specifications."""

from glowplug.hookspecs import Offer, hookimpl

GLOWPLUG_API = 1


@hookimpl
def glowplug_offers() -> list[Offer]:
    """Return the names that this distribution offers."""
    return [
        Offer(
            "TimeLimit",
            "acme_glowplug_time_limit.handler:TimeLimit",
            kind="handler",
            summary="Terminates a run after a number of seconds.",
        ),
        Offer(
            "TimeLimitEvents",
            "acme_glowplug_time_limit.handler:TimeLimitEvents",
            kind="event",
            summary="Defines REACHED, which fires before TimeLimit terminates a run.",
        ),
    ]
