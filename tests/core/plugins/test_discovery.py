"""Discovery from metadata alone: order, blocking, compatibility and damaged metadata."""

import sys

import pytest

import glowplug
from glowplug.exceptions import PluginIncompatibleError, PluginLoadError
from glowplug.plugins import _discovery
from glowplug.plugins._discovery import describe_entry_points, installed_plugins


def describe(site, **settings):
    """Describe the plugins of the folder under the given settings."""
    return describe_entry_points(site.entry_points(), settings)


def acme(environ=None):
    """Return the descriptions of the test's plugins."""
    return [plugin for plugin in installed_plugins(environ or {}) if plugin.distribution.startswith("acme")]


class TestCompatibility:
    @pytest.mark.parametrize(
        "requirement",
        ["glowplug>=99", "glowplug<0.0.1", "Glowplug (>=99)", "glowplug>=99; python_version>'3'"],
    )
    def test_other_core_version(self, site, requirement):
        """A plugin that requires another core version is incompatible."""
        site.add("acme-noise", requires=["numpy>=1", requirement])
        (plugin,) = describe(site)
        assert isinstance(plugin.problem, PluginIncompatibleError)
        assert f"glowplug {glowplug.__version__} is installed" in str(plugin.problem)

    @pytest.mark.parametrize(
        "requires",
        [
            [],
            ["glowplug"],
            ["glowplug>=0.1,<2"],
            ["glowplug-mlflow>=99"],
            ["glowplug.mlflow>=99"],
            ["glowplug>=99; extra == 'dev'"],
            ["glowplug>=99; python_version < '3'"],
        ],
    )
    def test_irrelevant_requirements(self, site, requires):
        """Requirements of extras, of other Pythons and on other distributions are ignored."""
        site.add("acme-noise", requires=requires)
        assert describe(site)[0].loadable

    def test_development_version_of_the_core(self, site, monkeypatch):
        """A development version of the core satisfies requirements on its release."""
        monkeypatch.setattr(_discovery, "__version__", "0.3.0.dev1")
        site.add("acme-noise", requires=["glowplug>=0.2,<2"])
        assert describe(site)[0].loadable


class TestBlocking:
    @pytest.mark.parametrize(
        "settings",
        [
            {"GLOWPLUG_DISABLED_PLUGINS": "shout"},
            {"GLOWPLUG_DISABLED_PLUGINS": "acme-noise"},
            {"GLOWPLUG_DISABLED_PLUGINS": "ACME_Noise"},
            {"GLOWPLUG_DISABLED_PLUGINS": "other, shout ,"},
            {"GLOWPLUG_DISABLED_PLUGINS": "acme-*"},
            {"GLOWPLUG_DISABLED_PLUGINS": "*"},
            {"GLOWPLUG_PLUGINS": ""},
            {"GLOWPLUG_PLUGINS": " , "},
            {"GLOWPLUG_PLUGINS": "shou"},
            {"GLOWPLUG_PLUGINS": "shout", "GLOWPLUG_DISABLED_PLUGINS": "acme-noise"},
        ],
    )
    def test_name_distribution_or_pattern(self, site, settings):
        """Both settings match plugin name, distribution and pattern, and the block list overrides the allow list (S4)."""
        site.add("acme-noise", name="shout")
        (plugin,) = describe(site, **settings)
        assert not plugin.loadable
        assert plugin.blocked_by == "=".join(list(settings.items())[-1])

    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"GLOWPLUG_PLUGINS": "shout"},
            {"GLOWPLUG_PLUGINS": "x,Acme.Noise"},
            {"GLOWPLUG_PLUGINS": "*"},
            {"GLOWPLUG_DISABLED_PLUGINS": ""},
            {"GLOWPLUG_DISABLED_PLUGINS": "shou,acme"},
        ],
    )
    def test_not_blocked(self, site, settings):
        """No allow list allows all, an empty block list blocks none, and partial names do not match (S4)."""
        site.add("acme-noise", name="shout")
        assert describe(site, **settings)[0].loadable

    def test_damaged_plugin(self, site):
        """A damaged plugin that is blocked is reported as blocked, not as failed (S4)."""
        info = site.add("acme-noise")
        (info / "entry_points.txt").write_text("[glowplug]\nthis is no entry\n")
        (plugin,) = acme({"GLOWPLUG_DISABLED_PLUGINS": "acme-noise"})
        assert plugin.blocked_by == "GLOWPLUG_DISABLED_PLUGINS=acme-noise"
        assert plugin.problem is None


class TestDamagedMetadata:
    @pytest.mark.parametrize(
        ("damage", "word"),
        [
            ({"METADATA": b"\xff\xfe\x00"}, "METADATA file is damaged"),
            ({"METADATA": b""}, "METADATA file"),
            ({"METADATA": b"Name: acme-noise\n"}, "lacks the field Name or Version"),
            (
                {"METADATA": b"Name: acme-noise\nVersion: 1.0\nRequires-Dist: glowplug >>> 1\n"},
                "InvalidRequirement",
            ),
            ({"entry_points.txt": b"[glowplug]\nshout = not a module\n"}, "must name a module"),
            ({"entry_points.txt": b"[glowplug]\nshout = acme_noise._plugin:plugin\n"}, "must name a module"),
            ({"entry_points.txt": b"[glowplug]\nthis is no entry\n"}, "entry_points.txt is damaged"),
            ({"entry_points.txt": b"\xff[glowplug]\n"}, "entry_points.txt is damaged"),
        ],
    )
    def test_affects_one_plugin(self, site, damage, word):
        """Damaged metadata is reported for that plugin with its distribution, and other plugins are found (P1)."""
        site.add("acme-before", name="a")
        info = site.add("acme-noise", name="shout")
        site.add("acme-zebra", name="z")
        for file, content in damage.items():
            (info / file).write_bytes(content)
        plugins = {plugin.distribution: plugin for plugin in acme()}
        assert sorted(plugins) == ["acme-before", "acme-noise", "acme-zebra"]
        assert plugins["acme-before"].loadable
        assert plugins["acme-zebra"].loadable
        assert isinstance(plugins["acme-noise"].problem, PluginLoadError)
        assert word in str(plugins["acme-noise"].problem)
        assert plugins["acme-noise"].version == "1.0"

    def test_other_distributions(self, site):
        """A damaged distribution that is not a plugin is ignored (P1)."""
        info = site.add("acme-unrelated", requires=["numpy"])
        (info / "entry_points.txt").write_bytes(b"\xff\xfe")
        assert acme() == []


class TestOrder:
    def test_sorted_by_name_and_distribution(self, site):
        """Plugins are sorted by name and distribution, whatever the order of the file system."""
        site.add("acme-b", name="shout")
        site.add("acme-a", name="shout")
        site.add("acme-c", name="alpha")
        assert [(plugin.name, plugin.distribution) for plugin in describe(site)] == [
            ("alpha", "acme-c"),
            ("shout", "acme-a"),
            ("shout", "acme-b"),
        ]

    def test_first_distribution_on_the_path(self, site, tmp_path, monkeypatch):
        """An older copy of a distribution later on the path is ignored."""
        site.add("acme-noise", version="2.0")
        older = type(site)(tmp_path / "older")
        older.add("acme-noise", version="1.0")
        monkeypatch.setattr(sys, "path", [*sys.path, str(older.folder)])
        assert [plugin.version for plugin in acme()] == ["2.0"]


def test_discovery_imports_no_plugin(site):
    """Discovery imports no plugin."""
    site.add("acme-noise", "raise RuntimeError('imported')")
    assert acme()[0].loadable
    assert not [module for module in sys.modules if module.startswith("acme")]
