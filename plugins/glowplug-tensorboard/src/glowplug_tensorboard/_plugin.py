"""Plugin hooks of this distribution; this module imports only the hook specifications."""

from glowplug.hookspecs import Finding, Offer, hookimpl

GLOWPLUG_API = 1


@hookimpl
def glowplug_offers() -> list[Offer]:
    """Return the names that this distribution offers."""
    return [
        Offer(
            "TensorboardLogger",
            "glowplug_tensorboard.logger:TensorboardLogger",
            kind="logger",
            summary="Writes scalars, histograms and images to TensorBoard event files.",
        ),
    ]


@hookimpl
def glowplug_doctor() -> list[Finding]:
    """Check that TensorBoard is installed with a compatible protobuf and can write event files."""
    try:
        from tensorboard import version
        from tensorboard.compat.proto import event_pb2
    except Exception as error:  # noqa: BLE001 - protobuf raises various exceptions
        message, remedy = f"{type(error).__name__}: {error}", "pip install --upgrade tensorboard protobuf"
        return [Finding(name="event files", status="error", message=message, remedy=remedy)]
    event_pb2.Event(step=1).SerializeToString()
    return [
        Finding(
            name="event files", status="ok", message=f"tensorboard {version.VERSION} can write event files"
        )
    ]
