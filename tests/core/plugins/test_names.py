"""Names that glowplug.handlers and glowplug.metrics resolve from plugins."""

from pathlib import Path

import pytest

import glowplug.handlers
import glowplug.metrics
from glowplug.exceptions import PluginLoadError, PluginNotFoundError
from glowplug.plugins import FIRST_PARTY, REPLACEMENTS, Registry, use_registry

METRIC = (
    "from glowplug.hookspecs import Offer\nGLOWPLUG_API = 1\n"
    "def glowplug_offers(): return [Offer(name='Loudness', target='acme_loud.metric:Loudness', kind='metric')]\n"
)


@pytest.fixture
def installed(site):
    """Run a script where one handler and one metric are installed."""
    site.add_handler("acme-noise")
    site.add("acme-loud", METRIC, files={"metric.py": "class Loudness: ...\n"})
    with use_registry(Registry.from_entry_points(site.entry_points(), {})) as registry:
        yield registry


class TestModuleAttributes:
    @pytest.mark.parametrize("module", [glowplug.handlers, glowplug.metrics])
    @pytest.mark.parametrize(
        "name", ["__wrapped__", "_private", "_ipython_display_", "pytest_plugins", "setup_module"]
    )
    def test_hasattr(self, installed, module, name):
        """Names that tools probe for are absent, so hasattr() is False."""
        assert not hasattr(module, name)

    def test_private_names(self, monkeypatch):
        """Accessing a dunder name loads no plugin."""
        from glowplug.plugins import _registry

        monkeypatch.setattr(_registry, "_registry", None)
        assert not hasattr(glowplug.handlers, "__wrapped__")
        assert _registry._registry is None

    def test_dir(self, installed):
        """dir() lists the names of plugins and of the core."""
        own = {"create", "global_step_from_engine", "OutputHandler", "OptimizerParamsHandler"}
        own |= {f"{what}{form}Handler" for what in ("Weights", "Grads") for form in ("Scalar", "Hist")}
        assert dir(glowplug.handlers) == sorted({"Shout", *own})
        assert {"Loudness", "Metric", "NotComputableError", "create"} <= set(dir(glowplug.metrics))


class TestImport:
    def test_installed_name(self, installed):
        """A from-import returns the plugin's class."""
        from glowplug.handlers import Shout
        from glowplug.metrics import Loudness

        assert Shout is installed.resolve("handler", "Shout")
        assert Loudness is installed.resolve("metric", "Loudness")

    def test_name_that_is_not_installed(self, installed):
        """Importing a name that is not installed raises an ImportError with the install command."""
        with pytest.raises(ImportError, match="pip install glowplug-mlflow") as caught:
            from glowplug.handlers import MLflowLogger  # noqa: F401 it is the import that is tested
        assert type(caught.value) is PluginNotFoundError
        with pytest.raises(ImportError, match="pip install glowplug-metrics"):
            from glowplug.metrics import Accuracy  # noqa: F401 it is the import that is tested

    def test_name_of_the_other_module(self, installed):
        """Importing a metric from the handlers raises an error that names the right module."""
        with pytest.raises(
            PluginNotFoundError, match=r"It is a metric: from glowplug.metrics import Loudness"
        ):
            from glowplug.handlers import Loudness  # noqa: F401 it is the import that is tested

    @pytest.mark.parametrize(
        ("module", "name", "remedy"),
        [
            (glowplug.handlers, "FBResearchLogger", "write_scalars"),
            (glowplug.handlers, "BaseLogger", "glowplug.loggers.Logger"),
            (glowplug.handlers, "BaseOutputHandler", "OutputHandler"),
            (
                glowplug.metrics,
                "SSIM",
                r"\(pip install glowplug-torchmetrics\):\n.*\n *TorchMetric\(StructuralSimilarityIndexMeasure",
            ),
            (
                glowplug.metrics,
                "MeanError",
                r"Use these lines:\n.*EpochMetric\n *EpochMetric\(lambda y_pred, y:",
            ),
            (glowplug.metrics, "GpuInfo", "DeviceUsage: pip install glowplug-monitors"),
        ],
    )
    def test_name_of_ignite(self, installed, module, name, remedy):
        """Importing a name of ignite that does not exist raises an error that says what to use instead (H-005)."""
        with pytest.raises(
            PluginNotFoundError, match=rf"^no plugin offers the \w+ '{name}'\. .*{remedy}"
        ) as caught:
            getattr(module, name)
        assert "Did you mean" not in str(caught.value)

    def test_every_name_of_ignite(self, installed):
        """No name has both a distribution and a replacement (H-005)."""
        assert not FIRST_PARTY.keys() & REPLACEMENTS.keys()
        assert all(text and not text.endswith(".") for text in REPLACEMENTS.values())

    def test_core_names(self, installed):
        """Names of the core are exported by the same modules as in ignite."""
        from glowplug import engine, loggers
        from glowplug.exceptions import NotComputableError

        for name in set(glowplug.handlers.__all__) - {"create"}:
            assert getattr(glowplug.handlers, name) is getattr(loggers, name)
        assert glowplug.metrics.NotComputableError is NotComputableError
        for name in ("EventEnum", "EventsList", "State", "RunOutcome"):
            assert getattr(engine, name) is getattr(glowplug, name)
        with pytest.raises(ImportError, match="cannot import name 'create_trainer'"):
            from glowplug.engine import create_trainer  # noqa: F401


class TestCreate:
    def test_options(self, installed):
        """create() passes its options to the constructor."""
        handler = glowplug.handlers.create("Shout", volume=11)
        assert type(handler) is installed.resolve("handler", "Shout")
        assert handler.volume == 11

    def test_metric(self, installed):
        """glowplug.metrics.create() creates metrics, and only metrics."""
        assert type(glowplug.metrics.create("Loudness")) is installed.resolve("metric", "Loudness")
        with pytest.raises(
            PluginNotFoundError, match=r"It is a handler: from glowplug\.handlers import Shout"
        ):
            glowplug.metrics.create("Shout")

    def test_option_called_name(self, site):
        """create() accepts an option called `name`."""
        site.add_handler("acme-noise")
        (site.folder / "acme_noise" / "handler.py").write_text(
            "class Shout:\n    def __init__(self, name): self.name = name\n"
        )
        with use_registry(Registry.from_entry_points(site.entry_points(), {})):
            assert glowplug.handlers.create("Shout", name="x").name == "x"

    def test_unknown_option(self, installed):
        """The error about an unknown option suggests the closest one."""
        with pytest.raises(TypeError) as caught:
            glowplug.handlers.create("Shout", volum=11)
        assert str(caught.value) == (
            "Shout: got an unexpected keyword argument 'volum'. Did you mean volume?"
            " Signature: Shout(volume=1, pitch=2)"
        )

    @pytest.mark.parametrize(
        ("parameters", "options", "reason"),
        [
            (
                "volume, pitch=2",
                {"volum": 11},
                "got an unexpected keyword argument 'volum'. Did you mean volume?",
            ),
            ("volume, pitch=2", {"pitch": 3}, "missing a required argument: 'volume'."),
            (
                "volume, **others",
                {"volum": 11, "xyz": 4},
                "got an unexpected keyword argument 'volum'. Did you mean volume?",
            ),
            ("volume, **others", {"xyz": 4}, "missing a required argument: 'volume'."),
            ("volume, /", {"volume": 11}, "got an unexpected keyword argument 'volume'."),
        ],
    )
    def test_misspelt_required_option(self, site, parameters, options, reason):
        """An unknown option is named, with the closest option, even if a required option is missing because of it."""
        site.add_handler("acme-noise")
        (site.folder / "acme_noise" / "handler.py").write_text(
            f"class Shout:\n    def __init__(self, {parameters}): pass\n"
        )
        with (
            use_registry(Registry.from_entry_points(site.entry_points(), {})),
            pytest.raises(TypeError) as caught,
        ):
            glowplug.handlers.create("Shout", **options)
        assert str(caught.value) == f"Shout: {reason} Signature: Shout({parameters})"

    def test_unknown_name(self, installed):
        """create() with an unknown name raises the error of the import."""
        with pytest.raises(PluginNotFoundError, match=r"Did you mean Shout\?"):
            glowplug.handlers.create("Shot")

    def test_broken_handler(self, site):
        """create() of a broken handler raises an error with the cause."""
        site.add_handler("acme-noise")
        (site.folder / "acme_noise" / "handler.py").write_text("import acme_nosuch")
        with (
            use_registry(Registry.from_entry_points(site.entry_points(), {})),
            pytest.raises(PluginLoadError, match="No module named 'acme_nosuch'"),
        ):
            glowplug.handlers.create("Shout")


def test_replacements_are_documented():
    """The page about ignite lists each handler that has a replacement, by its name or the kind of handler (H-005)."""
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "coming-from-ignite.md").read_text(
        encoding="utf-8"
    )
    page = page[page.index("## What is missing") :]
    kinds = ("TimeProfiler",)
    handlers = [
        name for name, text in REPLACEMENTS.items() if "Metric(" not in text and not name.endswith(kinds)
    ]
    assert [name for name in handlers if f"`{name}`" not in page] == []
