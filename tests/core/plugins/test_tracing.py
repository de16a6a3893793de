"""GLOWPLUG_TRACE_PLUGINS=1 prints each step of discovery."""

import pytest

from glowplug import __version__

START = "glowplug plugins: "
ASK = "from glowplug.handlers import Shout"


def steps(site, code=ASK, **settings):
    """Return the steps that a process prints, without their common prefix."""
    ended = site.run("-W", "ignore", "-c", code, **{"GLOWPLUG_TRACE_PLUGINS": "1", **settings})
    lines = [line for line in ended.stderr.splitlines() if line.startswith(START)]
    assert lines, ended.stderr
    return [line.removeprefix(START) for line in lines]


def test_steps_of_a_plugin(site):
    """Discovery, acceptance, import, hooks, offers and requested names are printed in order, one per line."""
    site.add_handler("acme-noise", name="shout", version="4.2", requires=["glowplug>=0.1,<2"])
    told = [step for step in steps(site) if "shout" in step or "Shout" in step]
    expected = [
        f"found shout = 'acme_noise._plugin' of acme-noise 4.2 in {site.folder}",
        f"accepted shout (acme-noise): it requires glowplug>=0.1,<2, and glowplug {__version__} is installed",
        "importing acme_noise._plugin of shout (acme-noise)",
        "registered shout (acme-noise): hooks glowplug_offers; offers Shout -> acme_noise.handler:Shout",
        "requested the handler Shout: offered by acme-noise 4.2",
    ]
    assert [step for step in told if step in expected] == expected
    assert told[-1].startswith("imported acme_noise.handler:Shout in ")
    assert told[-1].endswith(" ms")


def test_time_of_an_import(site):
    """The step of an import shows its duration and the file."""
    site.add("acme-noise", "import time; time.sleep(0.2)\nGLOWPLUG_API = 1\n")
    (step,) = [step for step in steps(site) if step.startswith("imported acme_noise._plugin in ")]
    assert step.endswith(f" ms from {site.folder / 'acme_noise' / '_plugin.py'}")
    assert 200 <= float(step.split()[3]) < 5000


@pytest.mark.parametrize(
    ("settings", "variable"),
    [
        (
            {"GLOWPLUG_DISABLED_PLUGINS": "glowplug-*,acme-noise"},
            "GLOWPLUG_DISABLED_PLUGINS=glowplug-*,acme-noise",
        ),
        ({"GLOWPLUG_PLUGINS": "other"}, "GLOWPLUG_PLUGINS=other"),
    ],
)
def test_blocked(site, settings, variable):
    """The step of a blocked plugin names the variable, and no further step follows."""
    site.add_handler("acme-noise")
    told = [step for step in steps(site, **settings) if "acme" in step]
    assert told[1] == f"blocked acme-noise (acme-noise): {variable}"
    assert not any(step.startswith("importing acme") for step in told)


@pytest.mark.parametrize(
    ("options", "step"),
    [
        (
            {"source": "import acme_nosuch"},
            "failed: plugin 'acme-noise' of acme-noise 1.0 does not work: ModuleNotFoundError",
        ),
        (
            {"requires": ["glowplug>=99"]},
            f"refused acme-noise (acme-noise): the plugin requires glowplug>=99, but glowplug {__version__}",
        ),
        ({"value": "not a module"}, "refused acme-noise (acme-noise): the entry point must name a module"),
        (
            {"source": "def glowplug_offer(): return []\nGLOWPLUG_API = 1"},
            "failed: plugin 'acme-noise' of acme-noise",
        ),
    ],
)
def test_failure(site, options, step):
    """The step of a failing plugin shows the cause."""
    site.add("acme-noise", **options)
    assert any(each.startswith(step) for each in steps(site)), steps(site)


def test_import_that_ends_the_process(site):
    """The last step before the process dies names the plugin being imported."""
    site.add("acme-noise", "import os; os._exit(7)")
    assert steps(site)[-1] == "importing acme_noise._plugin of acme-noise (acme-noise)"


def test_entry_point_in_another_group(site):
    """A distribution that requires glowplug but has other entry-point groups is reported with them."""
    info = site.add("acme-noise", requires=["glowplug>=0.1"])
    (info / "entry_points.txt").write_text("[glowplug.plugins]\nacme-noise = acme_noise._plugin\n")
    assert (
        f"acme-noise 1.0 in {site.folder} requires glowplug and has no entry point in the group 'glowplug';"
        " its groups: glowplug.plugins"
    ) in steps(site)


def test_shadowed_copy(site, tmp_path):
    """A shadowed copy is reported with its folder."""
    site.add_handler("acme-noise", version="2.0")
    older = type(site)(tmp_path / "older")
    older.add_handler("acme-noise", version="1.0")
    code = f"import sys; sys.path.append({str(older.folder)!r})\n{ASK}"
    assert (
        f"ignored acme-noise 1.0 in {older.folder}: acme-noise 2.0 in {site.folder} precedes it in sys.path"
        in steps(site, code)
    )


def test_unknown_name(site):
    """The request of an unknown name is printed."""
    assert steps(site)[-1] == "requested the handler Shout: offered by no plugin"


def test_command_shows_steps_of_its_subprocess(site):
    """`glowplug plugins list` prints the steps of both processes to standard error."""
    site.add_handler("acme-noise")
    ended = site.run("-m", "glowplug", "plugins", "list", GLOWPLUG_TRACE_PLUGINS="1")
    assert f"{START}found acme-noise" in ended.stderr
    assert f"{START}registered acme-noise" in ended.stderr
    assert START not in ended.stdout


@pytest.mark.parametrize("value", ["", "0", "off", None])
def test_silent_by_default(site, value):
    """Without the variable nothing is printed."""
    site.add_handler("acme-noise")
    settings = {} if value is None else {"GLOWPLUG_TRACE_PLUGINS": value}
    ended = site.run("-c", ASK, **settings)
    assert (ended.stderr, ended.returncode) == ("", 0)
