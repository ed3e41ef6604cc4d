"""Which device computes, and what is written down of it."""

import datetime
import json
import platform

import pytest
import torch

import fragile_utils
from fragile_utils._base import devices

CPU = torch.device("cpu")


def test_what_is_written_down_of_a_computation():
    found = devices.environment(CPU, "numpy")
    assert json.loads(json.dumps(found)) == found
    assert (found["device"], found["hardware"]) == ("cpu", devices.processor())
    import numpy

    expected = {"fragile_utils": fragile_utils.__version__, "python": platform.python_version()}
    expected |= {"torch": torch.__version__.split("+")[0], "numpy": numpy.__version__}
    assert found["versions"] | {"torch": found["versions"]["torch"].split("+")[0]} == expected
    written = datetime.datetime.strptime(found["finished"], "%Y-%m-%dT%H:%M:%S%z")
    assert abs(datetime.datetime.now(datetime.timezone.utc) - written) < datetime.timedelta(minutes=1)


def test_a_gpu_is_called_by_its_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"NVIDIA {device.index}")
    assert devices.hardware(torch.device("cuda:1")) == "NVIDIA 1"


@pytest.mark.parametrize("name", ["abacus", "meta", "cuda:77"])
def test_a_device_that_is_not_here_is_refused_in_one_line(name):
    with pytest.raises(ValueError, match=rf"^--device: '{name}' is not available here: .+$") as raised:
        devices.pick_device(name, "--device")
    assert "\n" not in str(raised.value)


def test_an_error_without_a_message_is_called_by_its_type(monkeypatch):
    monkeypatch.setattr(torch, "ones", lambda *_, **__: throw())
    with pytest.raises(ValueError, match="'cpu' is not available here: AssertionError"):
        devices.pick_device("cpu")


def throw():
    raise AssertionError
