"""The main job on several devices, here on the one that the tests have."""

import pytest

from compare import Verdict
from compare.errors import BadInput
from compare.verify.sharded import verify_parallel

pytestmark = pytest.mark.usefixtures("brief_rounds")


@pytest.mark.sweep
@pytest.mark.parametrize("name", ["shallow", "mlp"])
def test_what_devices_compute_is_what_one_does(name):
    result = verify_parallel(name, {"iterations": 2}, dtype="float32")
    assert result.verdict is Verdict.AGREE
    assert list(result.gradients) == ["derived by hand", "by all devices", "by all devices, parameters sharded"]
    assert "AGREE: on 1 device in 1 process" in str(result)
    assert result.to_dict()["training"]["steps"] == 2


@pytest.mark.campaign
def test_a_wrong_exchange_is_seen(monkeypatch):
    import compare.verify.sharding as parallel

    right = parallel.gathered
    halved = {"count": 0}

    def wrong(tree):
        loss, gradients = right(tree)
        if isinstance(gradients, dict) and "W1" in gradients:
            halved["count"] += 1
            gradients = gradients | {"W1": gradients["W1"] / 2}
        return loss, gradients

    monkeypatch.setattr(parallel, "gathered", wrong)
    result = verify_parallel("shallow", {"iterations": 1})
    assert halved["count"]
    assert result.verdict is Verdict.DISAGREE
    assert result.gradients["derived by hand"].verdict is Verdict.AGREE
    assert result.gradients["by all devices"].first_wrong == "W1"


def test_options_that_there_are_not():
    with pytest.raises(BadInput, match=r"--dataset .* mlp"):
        verify_parallel("mlp", {"dataset": "digits"})
