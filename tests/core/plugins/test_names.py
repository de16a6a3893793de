"""glowplug.handlers and glowplug.metrics: modules whose names come from the plugins."""

import pytest

import glowplug.handlers
import glowplug.metrics
from glowplug.exceptions import PluginLoadError, PluginNotFoundError
from glowplug.plugins import Registry, use_registry

METRIC = (
    "from glowplug.hookspecs import Offer\nGLOWPLUG_API = 1\n"
    "def glowplug_offers(): return [Offer(name='Loudness', target='acme_loud.metric:Loudness', kind='metric')]\n"
)


@pytest.fixture
def installed(site):
    """A process in which one handler and one metric are installed."""
    site.add_handler("acme-noise")
    site.add("acme-loud", METRIC, files={"metric.py": "class Loudness: ...\n"})
    with use_registry(Registry.from_entry_points(site.entry_points(), {})) as registry:
        yield registry


def test_import_of_an_installed_name(installed):
    """A from-import gives the plugin's class."""
    from glowplug.handlers import Shout
    from glowplug.metrics import Loudness

    assert Shout is installed.resolve("handler", "Shout")
    assert Loudness is installed.resolve("metric", "Loudness")


def test_import_of_a_name_that_is_not_installed(installed):
    """MLflowLogger is an ImportError that names the line to install it."""
    with pytest.raises(ImportError, match="pip install glowplug-mlflow") as caught:
        from glowplug.handlers import MLflowLogger  # noqa: F401 it is the import that is tested
    assert type(caught.value) is PluginNotFoundError
    with pytest.raises(ImportError, match="pip install glowplug-metrics"):
        from glowplug.metrics import Accuracy  # noqa: F401 it is the import that is tested


def test_import_of_a_metric_from_the_handlers(installed):
    """A name that is elsewhere is pointed to."""
    with pytest.raises(PluginNotFoundError, match=r"It is a metric: from glowplug.metrics import Loudness"):
        from glowplug.handlers import Loudness  # noqa: F401 it is the import that is tested


@pytest.mark.parametrize("module", [glowplug.handlers, glowplug.metrics])
@pytest.mark.parametrize(
    "name", ["__wrapped__", "_private", "_ipython_display_", "pytest_plugins", "setup_module"]
)
def test_tools_may_probe_the_modules(installed, module, name):
    """Names that tools look for are simply absent, so that hasattr works."""
    assert not hasattr(module, name)


def test_private_names_do_not_load_the_plugins(monkeypatch):
    """A probe for a dunder name loads nothing."""
    from glowplug.plugins import _registry

    monkeypatch.setattr(_registry, "_registry", None)
    assert not hasattr(glowplug.handlers, "__wrapped__")
    assert _registry._registry is None


def test_dir_lists_the_names(installed):
    """Completion in a shell sees the names of the plugins and those of the core."""
    own = {"create", "global_step_from_engine", "OutputHandler", "OptimizerParamsHandler"}
    own |= {f"{what}{form}Handler" for what in ("Weights", "Grads") for form in ("Scalar", "Hist")}
    assert dir(glowplug.handlers) == sorted({"Shout", *own})
    assert {"Loudness", "Metric", "NotComputableError"} <= set(dir(glowplug.metrics))


def test_names_of_the_core(installed):
    """The core's own names are served where ignite has them: beside the handlers and the metrics, and in the engine's module."""
    from glowplug import engine, loggers
    from glowplug.exceptions import NotComputableError

    for name in set(glowplug.handlers.__all__) - {"create"}:
        assert getattr(glowplug.handlers, name) is getattr(loggers, name)
    assert glowplug.metrics.NotComputableError is NotComputableError
    for name in ("EventEnum", "EventsList", "State", "RunOutcome"):
        assert getattr(engine, name) is getattr(glowplug, name)
    with pytest.raises(ImportError, match="cannot import name 'create_trainer'"):
        from glowplug.engine import create_trainer  # noqa: F401


def test_create_makes_a_handler_from_its_name(installed):
    """The options of a configuration file reach the constructor."""
    handler = glowplug.handlers.create("Shout", volume=11)
    assert type(handler) is installed.resolve("handler", "Shout")
    assert handler.volume == 11


def test_create_takes_an_option_called_name(site):
    """A handler may have an option of any name."""
    site.add_handler("acme-noise")
    (site.folder / "acme_noise" / "handler.py").write_text(
        "class Shout:\n    def __init__(self, name): self.name = name\n"
    )
    with use_registry(Registry.from_entry_points(site.entry_points(), {})):
        assert glowplug.handlers.create("Shout", name="x").name == "x"


def test_create_with_an_unknown_option_says_which_there_are(installed):
    """A slip in an option is pointed out."""
    with pytest.raises(TypeError) as caught:
        glowplug.handlers.create("Shout", volum=11)
    assert str(caught.value) == (
        "Shout: got an unexpected keyword argument 'volum'. Did you mean volume?"
        " Its options: Shout(volume=1, pitch=2)"
    )


def test_create_with_an_unknown_name(installed):
    """The error is that of the import."""
    with pytest.raises(PluginNotFoundError, match=r"Did you mean Shout\?"):
        glowplug.handlers.create("Shot")


def test_create_of_a_broken_handler(site):
    """The cause is told."""
    site.add_handler("acme-noise")
    (site.folder / "acme_noise" / "handler.py").write_text("import acme_nosuch")
    with (
        use_registry(Registry.from_entry_points(site.entry_points(), {})),
        pytest.raises(PluginLoadError, match="No module named 'acme_nosuch'"),
    ):
        glowplug.handlers.create("Shout")
