"""The benchmark of many devices: its prediction, and that it measures what it says."""

import json
from dataclasses import replace

import pytest

from benchmarks import scaling

GPT = scaling.JOBS[1]


def test_one_device_exchanges_nothing():
    alone = scaling.predicted(GPT, 1)
    assert alone["exchange"] == 0
    assert alone["efficiency"] == 1


def test_the_exchange_is_that_of_a_ring():
    free = replace(scaling.H100, latency=0.0)
    near = scaling.predicted(GPT, 8, free)
    assert near["exchange"] == pytest.approx(2 * 7 / 8 * 4 * GPT.parameters / free.near_bandwidth)
    assert scaling.predicted(GPT, 9, free)["exchange"] > near["exchange"]  # the slowest link is the ring's speed
    waits = scaling.predicted(GPT, 8)["exchange"] - near["exchange"]
    assert waits == pytest.approx(2 * 7 * scaling.H100.latency)


def test_more_devices_are_never_predicted_to_be_more_efficient():
    shares = [scaling.predicted(GPT, devices)["efficiency"] for devices in (1, 2, 8, 64, 1024)]
    assert shares == sorted(shares, reverse=True)


@pytest.mark.campaign
@pytest.mark.usefixtures("quickly")
def test_devices_made_from_the_cpu_are_timed(tmp_path, capsys):
    path = tmp_path / "scaling.json"
    sizes = ["--features", "3", "--hidden", "2", "--examples", "5"]
    assert scaling.main(["--devices", "1,3", *sizes, "--json", str(path)]) == 0
    one, three = json.loads(path.read_text())
    assert (one["devices"], three["devices"]) == (1, 3)
    assert three["examples"] == 15
    assert len(three["rounds"]) == scaling.ROUNDS
    assert one["times_ideal"] == 1
    assert "Weak scaling, 3x2, 5 examples a device" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--devices", "1,two"], ["--devices", "0"], ["--examples", "0"]])
def test_what_cannot_be_measured_is_refused(arguments, capsys):
    with pytest.raises(SystemExit):
        scaling.main(arguments)
    assert "must be" in capsys.readouterr().err
