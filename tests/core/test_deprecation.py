"""Deprecated functions, classes and arguments."""

import inspect
import subprocess
import sys
import warnings

import pytest

from glowplug import deprecation
from glowplug.deprecation import Deprecation, deprecated
from glowplug.exceptions import GlowplugDeprecationWarning, GlowplugWarning


@pytest.fixture(autouse=True)
def deprecations(monkeypatch):
    """The deprecations of one test, which stay out of the list of the process."""
    monkeypatch.setattr(deprecation, "DEPRECATIONS", [])
    return deprecation.DEPRECATIONS


def test_function():
    """A deprecated function works, keeps its name and signature, and each call warns at the line of the caller."""

    @deprecated(since="0.3", removed_in="2.0", use="double")
    def twice(value, *, times=2):
        """Multiply a value."""
        return times * value

    line = inspect.currentframe().f_lineno + 2
    with pytest.warns(GlowplugDeprecationWarning) as caught:
        assert twice(2, times=3) == 6
    (warning,) = caught
    assert (warning.filename, warning.lineno) == (__file__, line)
    assert str(warning.message) == (
        "test_function.<locals>.twice is deprecated since 0.3 and will be removed in 2.0; use double instead"
    )
    assert (twice.__name__, twice.__doc__) == ("twice", "Multiply a value.")
    assert str(inspect.signature(twice)) == "(value, *, times=2)"


def test_method():
    """A deprecated method receives its object and warns with the name of its class."""

    class Engine:
        @deprecated(since="0.3", removed_in="2.0", use="Engine.run")
        def start(self):
            return self

    engine = Engine()
    with pytest.warns(GlowplugDeprecationWarning, match=r"Engine\.start is deprecated"):
        assert engine.start() is engine


def test_class():
    """Creating an object of a deprecated class or of its subclass warns; isinstance does not."""

    @deprecated(since="0.3", removed_in="2.0", use="New")
    class Old:
        def __init__(self, value):
            self.value = value

    class Sub(Old):
        pass

    for cls in (Old, Sub):
        with pytest.warns(GlowplugDeprecationWarning, match="Old is deprecated") as caught:
            created = cls(3)
        assert [warning.filename for warning in caught] == [__file__]
        assert created.value == 3
        assert isinstance(created, Old)


def test_argument():
    """A function warns at the line of its caller if the deprecated argument is used."""
    rate = Deprecation("train(rate=)", since="0.3", removed_in="2.0", use="lr=")

    def train(lr=0.1, rate_=None):
        if rate_ is not None:
            rate.warn()
        return rate_ or lr

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert train() == 0.1
    line = inspect.currentframe().f_lineno + 2
    with pytest.warns(GlowplugDeprecationWarning, match=r"train\(rate=\) is deprecated") as caught:
        assert train(rate_=0.5) == 0.5
    assert [(warning.filename, warning.lineno) for warning in caught] == [(__file__, line)]


def test_deprecations_are_listed(deprecations):
    """Each deprecation is in the list, which the tests of the workspace read."""

    @deprecated(since="0.3", removed_in="2.0", use="double")
    def twice(value):
        return 2 * value

    rate = Deprecation("train(rate=)", since="0.3", removed_in="3.0", use="lr=")
    assert [listed.removed_in for listed in deprecations] == ["2.0", "3.0"]
    assert deprecations[1] is rate


def test_shown_by_default(tmp_path):
    """A script prints the warning although the deprecated function is called in a module that the script imports."""
    (tmp_path / "training.py").write_text(
        "from glowplug.deprecation import deprecated\n"
        "@deprecated(since='0.3', removed_in='2.0', use='double')\n"
        "def twice(value): return 2 * value\n"
        "def train(): return twice(2)\n",
        encoding="utf-8",
    )
    (tmp_path / "script.py").write_text("import training; training.train()\n", encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    assert "training.py:4: GlowplugDeprecationWarning: twice is deprecated since 0.3" in ended.stderr


def test_filters():
    """The filters for all warnings of glowplug and for all deprecations include the warning."""
    assert issubclass(GlowplugDeprecationWarning, GlowplugWarning)
    assert issubclass(GlowplugDeprecationWarning, FutureWarning)
