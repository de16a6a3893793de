"""Tests of the check of `glowplug doctor`."""

import pytest

from glowplug_wandb.doctor import check_api_key


@pytest.fixture(autouse=True)
def environment(tmp_path, monkeypatch):
    """Remove W&B's settings of the user."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def test_no_key():
    """Without an API key, the finding says where records wait and what to do."""
    finding = check_api_key()
    assert (finding.status, finding.message) == (
        "warning",
        "no API key for https://api.wandb.ai is configured, so records wait on disk",
    )
    assert "wandb login" in finding.remedy


def test_key_in_the_environment(monkeypatch):
    """A key in the environment is found and not shown."""
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    finding = check_api_key()
    assert finding.status == "ok"
    assert "secret" not in finding.message


def test_key_of_a_login(tmp_path, monkeypatch):
    """A key that `wandb login` has stored is found for its own server only."""
    (tmp_path / "netrc").write_text("machine wandb.example.com login user password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    assert check_api_key().status == "warning"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.com")
    assert check_api_key().status == "ok"


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_offline(monkeypatch, mode):
    """Without uploads, no key is needed."""
    monkeypatch.setenv("WANDB_MODE", mode)
    assert check_api_key().status == "ok"


@pytest.mark.parametrize("key", ["", "secret"])
def test_password_in_the_address(monkeypatch, key):
    """A password in the address of the server is not shown."""
    monkeypatch.setenv("WANDB_BASE_URL", "https://user:canary@wandb.example.com:8080")
    monkeypatch.setenv("WANDB_API_KEY", key)
    message = check_api_key().message
    assert "https://wandb.example.com:8080" in message
    assert "canary" not in message
