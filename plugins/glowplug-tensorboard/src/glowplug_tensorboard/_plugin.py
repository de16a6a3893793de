"""Offers of this distribution; imports nothing but the hooks."""

from glowplug.hookspecs import Finding, Offer, hookimpl

GLOWPLUG_API = 1


@hookimpl
def glowplug_offers() -> list[Offer]:
    """Offer the names of this distribution."""
    return [
        Offer(
            "TensorboardLogger",
            "glowplug_tensorboard.logger:TensorboardLogger",
            kind="logger",
            summary="Writes scalars, histograms and images as TensorBoard event files.",
        ),
    ]


@hookimpl
def glowplug_doctor() -> list[Finding]:
    """Look whether TensorBoard's event files can be written: with a protobuf that does not fit they cannot."""
    try:
        from tensorboard import version
        from tensorboard.compat.proto import event_pb2
    except Exception as error:  # noqa: BLE001 protobuf raises errors of its own
        message, remedy = f"{type(error).__name__}: {error}", "pip install --upgrade tensorboard protobuf"
        return [Finding(name="event files", status="error", message=message, remedy=remedy)]
    event_pb2.Event(step=1).SerializeToString()
    return [Finding(name="event files", status="ok", message=f"tensorboard {version.VERSION} writes them")]
