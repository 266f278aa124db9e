"""The writer in Python: arrays of NumPy and JAX, trees, and modules of PyTorch."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from compare import Verdict
from compare.check.arrays import DTYPES, read_arrays
from compare.check.recorded_checks import check_recording
from compare.check.recording import recorded_steps
from compare.check.writers import backproof_record
from compare.check.writers.backproof_record import ModuleRecording, Recording


def test_it_knows_the_dtypes_and_parts_that_are_read():
    assert {np.dtype(dtype).name: name for name, dtype in DTYPES.items()} == backproof_record.DTYPES


class Pair(NamedTuple):
    first: Any
    second: Any


def test_trees_are_recorded_by_their_keys_and_arrays_wherever_they_live(tmp_path):
    tree = {
        "layers": [{"W": np.asfortranarray(np.arange(6.0).reshape(2, 3))}, (jnp.ones(2, jnp.bfloat16),)],
        "pair": Pair(np.arange(3, dtype=">i4"), np.arange(9.0)[::-2]),
        "number": 2.5,
    }
    with Recording(tmp_path / "a.safetensors") as record:
        record.tree("parameters", tree)
    found = read_arrays(tmp_path / "a.safetensors")
    names = ["layers/0/W", "layers/1/0", "pair/first", "pair/second", "number"]
    assert list(found) == [f"parameters/{name}" for name in names]
    leaves = [tree["layers"][0]["W"], np.asarray(tree["layers"][1][0]), *tree["pair"], np.array(2.5)]
    for array, leaf in zip(found.values(), leaves, strict=True):
        assert array.dtype == leaf.dtype.newbyteorder("=")
        np.testing.assert_array_equal(array.astype(float), leaf.astype(float))


@pytest.mark.parametrize("dtype", [complex, object, "U3", np.uint16])
def test_a_dtype_that_the_format_lacks_is_refused(dtype, tmp_path):
    with pytest.raises(ValueError, match="'loss' has the dtype"), \
            Recording(tmp_path / "a.safetensors") as record:  # fmt: skip
        record.tensor("loss", np.zeros(2, dtype))
    assert not list(tmp_path.iterdir())


def test_a_run_that_fails_leaves_no_recording_and_not_that_of_an_earlier_run(tmp_path):
    path = tmp_path / "a.safetensors"
    for fails in (False, True):
        try:
            with Recording(path) as record:
                record.tensor("loss", 1.0)
                assert not fails, "the run"
        except AssertionError as error:
            assert str(error).startswith("the run")  # noqa: PT017  # it is raised as it was
        assert path.exists() is not fails
        assert not list(tmp_path.glob("*.part"))


# ------------------------------------------------------------------------------------- modules of PyTorch


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def bits(tensor):
    uint8 = pytest.importorskip("torch").uint8
    return tensor.detach().contiguous().reshape(-1).view(uint8).numpy().tobytes()


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16", "int64", "bool", "float8_e4m3fn"])
@pytest.mark.parametrize("shape", [(), (0, 2), (2, 3)])
def test_tensors_of_every_dtype_are_recorded_bit_for_bit(torch, dtype, shape, tmp_path):
    tensor = (
        torch.randn(shape[::-1]).T.to(getattr(torch, dtype)) if shape else torch.tensor(-1.5).to(getattr(torch, dtype))
    )
    with Recording(tmp_path / "a.safetensors") as record:
        record.tensor("inputs/x", tensor)
    found = read_arrays(tmp_path / "a.safetensors")["inputs/x"]
    assert (found.dtype.name, found.shape, found.tobytes()) == (dtype, tuple(tensor.shape), bits(tensor))


def network(torch):
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).double()
    module[0].bias.requires_grad_(False)
    module.register_buffer("scale", torch.tensor(0.5, dtype=torch.float64))
    module.unused = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    return module


def trained(torch, path, wrong=lambda module, step: None, steps=3):
    """A recording of a network with a frozen bias, a buffer, and a parameter that takes no part."""
    module = network(torch)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    with ModuleRecording(path, module, ["0", "1"]) as record:
        for step in range(1, steps + 1):
            x, y = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)
            record.start(x=x, y=y)
            optimizer.zero_grad()
            h = module[2](torch.tanh(module[1](module[0](x)))) * module.scale
            loss = ((h - y) ** 2).mean()
            loss.backward()
            wrong(module, step)
            record.gradients(loss)
            optimizer.step()
            record.updated()
    assert not any(part._forward_hooks for part in module)
    return read_arrays(path)


def loss_in_jax(parameters, x, y, frozen):
    from compare import tap

    z = tap("0", x @ parameters["0.weight"].T + frozen["0.bias"])
    h = jnp.tanh(tap("1", jnp.tanh(z))) @ parameters["2.weight"].T + parameters["2.bias"]
    return jnp.mean((h * frozen["scale"] - y) ** 2)


def judged(arrays):
    from compare.check.optimizers import update_rule

    return check_recording(recorded_steps(arrays), loss_in_jax, optimizer=update_rule("adamw:lr=0.1"))


TRAINED = ("unused", "0.weight", "2.weight", "2.bias")


def test_a_module_is_recorded_and_judged(torch, tmp_path):
    arrays = trained(torch, tmp_path / "a.safetensors")
    first = [name.removeprefix("step.1/") for name in arrays if name.startswith("step.1/")]
    assert first == [
        *(f"parameters/{name}" for name in TRAINED),
        *("inputs/x", "inputs/y", "inputs/frozen/0.bias", "inputs/frozen/scale", "values/0", "values/1"),
        *("loss", "intermediates/1", "intermediates/0"),
        *(f"gradients/{name}" for name in TRAINED),
        *(f"next/{name}" for name in TRAINED[1:]),
    ]  # fmt: skip
    assert bits(network(torch)[0].weight) == arrays["step.1/parameters/0.weight"].tobytes()
    np.testing.assert_allclose(np.tanh(arrays["step.2/values/0"]), arrays["step.2/values/1"])
    report = judged(arrays)
    assert report.verdict is Verdict.AGREE, str(report)
    assert report.notes == []


def test_a_gradient_that_is_changed_in_the_second_step_is_found(torch, tmp_path):
    def wrong(module, step):
        if step == 2:
            module[2].weight.grad[0, 1] *= 1.001

    report = judged(trained(torch, tmp_path / "a.safetensors", wrong))
    assert (report.wrong_step, report.first_wrong) == (2, "2.weight")


def test_a_parameter_that_is_not_reached_has_no_gradient(torch, tmp_path):
    def wrong(module, step):
        module[2].bias.grad = None

    report = judged(trained(torch, tmp_path / "a.safetensors", wrong))
    assert (report.wrong_step, report.first_wrong) == (1, "2.bias")
    assert "no gradient arrives" in report.sentence


def test_sparse_gradients_are_recorded(torch, tmp_path):
    table = torch.nn.Embedding(4, 2, sparse=True)
    with ModuleRecording(tmp_path / "a.safetensors", table) as record:
        record.start(ids=torch.tensor([1, 1]))
        loss = table(torch.tensor([1, 1])).sum()
        loss.backward()
        record.gradients(loss)
    np.testing.assert_array_equal(
        read_arrays(tmp_path / "a.safetensors")["step.1/gradients/weight"], [[0] * 2, [2] * 2, *[[0] * 2] * 2]
    )


def test_modules_that_cannot_be_recorded_are_refused(torch, tmp_path):
    def run(module, names, *given):
        with ModuleRecording(tmp_path / "a.safetensors", module, names) as record:
            record.start()
            for x in given:
                module(x)

    for name in ("3", ""):
        with pytest.raises(ValueError, match=f"has no module '{name}'; it has 0, 1, 2"):
            run(network(torch), [name])
    x = torch.zeros(2, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match="the module '0' is called twice in one step"):
        run(network(torch), ["0"], x, x)
    lstm = torch.nn.ModuleDict({"lstm": torch.nn.LSTM(3, 2)})
    lstm.forward = lambda given: lstm["lstm"](given)
    with pytest.raises(ValueError, match="'lstm' returns a tuple; choose one that returns a tensor"):
        run(lstm, ["lstm"], torch.zeros(2, 3))
    assert not list(tmp_path.iterdir())
