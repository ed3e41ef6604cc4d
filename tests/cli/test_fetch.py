"""``fragile fetch``: what it asks for, what it says, and what it does without a network."""

import pytest
from command_line import assert_refused

from fragile_utils import data, models
from fragile_utils.cli import fetch
from fragile_utils.data import cifar
from fragile_utils.data._downloads import Download


def test_each_thing_is_asked_for_with_a_download(fragile, monkeypatch):
    asked = []

    def note(name):
        return lambda *given, **options: asked.append((name, given, options))

    for name in ("cifar10", "flowers"):
        monkeypatch.setattr(data, name, note(name))
    for name in ("squeezenet", "inception"):
        monkeypatch.setattr(models, name, note(name))
    status, out, err = fragile("fetch", *fetch.THINGS)
    assert (status, err) == (0, "")
    assert [line.split(":")[0] for line in out.splitlines()] == list(fetch.THINGS)
    options = {"limit": 1, "download": True, "progress": False}
    expected = [("cifar10", (), options), ("flowers", (), options), ("squeezenet", ("torchvision",), {})]
    assert asked == [*expected, ("inception", (), {})]


def test_what_cannot_be_downloaded_is_one_clear_line(fragile, monkeypatch, tmp_path):
    monkeypatch.setenv("FRAGILE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cifar, "CIFAR10", Download("http://127.0.0.1:9/c.tgz", "0", 1))
    assert_refused(fragile("fetch", "cifar10"), "cannot download http://127.0.0.1:9/c.tgz")
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_unknown_name_is_refused_with_the_known_ones(fragile, capsys):
    with pytest.raises(SystemExit):
        fragile("fetch", "imagenet")
    assert "invalid choice: 'imagenet' (choose from" in capsys.readouterr().err
