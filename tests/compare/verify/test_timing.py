"""Time per step, measured with a clock that the tests turn themselves, so that every number is known."""

import re
import time
from types import SimpleNamespace

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compare.verify import timing
from compare.verify.timing import ROUND_SECONDS, ROUNDS, StepTime, TrainingTimes, time_training


class Clock:
    def __init__(self):
        self.now = 100.0
        self.calls = []

    def side(self, name, seconds, *, before=lambda steps: 0.0):
        """Training that takes `seconds` a step (or what the function says for each call) and `before(steps)`."""
        calls = 0

        def train(steps):
            nonlocal calls
            self.calls.append((name, steps))
            per_step = seconds(calls) if callable(seconds) else seconds
            calls += 1
            self.now += before(steps) + steps * per_step

        return train


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


def once(seconds):
    """Compilation: the first call takes longer."""
    pending = [seconds]
    return lambda steps: pending.pop() if pending else 0.0


@pytest.mark.parametrize("by_hand", [1e-6, 1e-4, 0.3])
@pytest.mark.parametrize("by_jax", [1e-6, 1e-4, 0.3])
def test_each_side_has_its_own_time_and_compilation_is_apart(clock, by_hand, by_jax):
    times = time_training(
        {"manual": clock.side("manual", by_hand), "autodiff": clock.side("autodiff", by_jax, before=once(2.5))}
    )
    for measured, true in ((times.sides["manual"], by_hand), (times.sides["autodiff"], by_jax)):
        assert (measured.median, measured.fastest, measured.slowest) == pytest.approx((true, true, true), rel=1e-6)
    assert times.compilation == pytest.approx(2.5)


def test_rounds_alternate_and_last_about_as_long_as_they_should(clock):
    costs = {"manual": 1e-4, "autodiff": 1e-5}
    time_training({name: clock.side(name, cost) for name, cost in costs.items()})
    rounds = clock.calls[-2 * ROUNDS :]
    assert [name for name, _ in rounds] == ["manual", "autodiff"] * ROUNDS
    for name, steps in rounds:
        assert costs[name] * steps == pytest.approx(ROUND_SECONDS, rel=0.01)


def test_a_step_longer_than_a_round_is_still_a_round(clock):
    times = time_training({"manual": clock.side("manual", 7.0), "autodiff": clock.side("autodiff", 7.0)})
    assert {steps for _, steps in clock.calls} == {1}
    assert times.sides["manual"].median == pytest.approx(7.0)


def test_a_third_side_has_its_turns_too(clock):
    costs = {"manual": 3.0, "manual-fast": 2.0, "autodiff": 1.0}
    times = time_training({name: clock.side(name, cost) for name, cost in costs.items()})
    assert {name: seconds.median for name, seconds in times.sides.items()} == pytest.approx(costs)
    assert [name for name, _ in clock.calls[-3 * times.rounds :]] == list(costs) * times.rounds


def test_median_fastest_and_slowest_are_those_of_the_rounds(clock):
    # The rounds are the last calls. Before them there are at most a few, all of the first speed.
    speeds = [1.0, 5.0, 2.0, 9.0, 3.0]
    probe = Clock()
    warm = len([call for call in _calls(probe) if call[0] == "manual"]) - ROUNDS
    times = time_training(
        {
            "manual": clock.side("manual", lambda call: speeds[call - warm] if call >= warm else 1.0),
            "autodiff": clock.side("autodiff", 1.0),
        }
    )
    assert times.sides["manual"] == StepTime(3.0, 1.0, 9.0)
    assert times.sides["autodiff"] == StepTime(1.0, 1.0, 1.0)


def _calls(clock):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: clock.now))
        time_training({"manual": clock.side("manual", 1.0), "autodiff": clock.side("autodiff", 1.0)})
    return clock.calls


def test_compiling_again_for_another_number_of_steps_is_not_time_per_step(clock):
    """A program whose length is fixed when it is compiled is compiled anew for each length."""
    lengths = set()

    def compiles(steps):
        new = steps not in lengths
        lengths.add(steps)
        return 0.05 * new

    times = time_training(
        {"manual": clock.side("manual", 1e-4), "autodiff": clock.side("autodiff", 1e-4, before=compiles)}
    )
    assert times.sides["autodiff"].slowest == pytest.approx(1e-4)
    assert dict(clock.calls)["autodiff"] * 1e-4 == pytest.approx(ROUND_SECONDS, rel=0.01)


def test_compilation_is_never_negative(clock):
    times = time_training(
        {"manual": clock.side("manual", 1.0), "autodiff": clock.side("autodiff", lambda call: 1.0 + call)}
    )
    assert times.compilation == 0


def test_results_are_awaited(clock):
    """JAX returns before it has computed; what is timed is until the result is there."""

    class Pending:
        def block_until_ready(self):
            clock.now += 2.0

    def train(steps):
        clock.now += 1.0
        return {"W1": Pending()}, [Pending()]

    times = time_training({"manual": clock.side("manual", 1.0), "autodiff": train})
    assert times.sides["autodiff"].median == pytest.approx(5.0)


def test_a_real_computation_takes_time(monkeypatch):
    monkeypatch.setattr(timing, "ROUND_SECONDS", 0.02)

    @jax.jit
    def count(steps):
        return jax.lax.fori_loop(0, steps, lambda i, total: total + i, 0)

    times = time_training({"manual": lambda steps: time.sleep(1e-3 * steps), "autodiff": count})
    assert 1e-3 <= times.sides["manual"].fastest <= times.sides["manual"].median <= times.sides["manual"].slowest
    assert 0 < times.sides["autodiff"].median < times.sides["manual"].median
    assert times.compilation >= 0


# ----------------------------------------------------------------------------------------------- text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (12.34, "12.3 s"),
        (1.0, "1 s"),
        (0.25, "250 ms"),
        (1e-3, "1 ms"),
        (250e-6, "250 µs"),
        (1.5e-6, "1.5 µs"),
        # What rounds up to a thousand is one of the next unit.
        (0.9996, "1 s"),
        (0.9996e-3, "1 ms"),
    ],
)
def test_times_are_readable(seconds, text):
    assert str(StepTime(seconds, seconds, seconds)) == f"{text} ({text} to {text})"


@given(st.floats(1e-8, 999))
def test_readable_times_are_right_to_three_digits_and_have_no_exponent(seconds):
    text = str(StepTime(seconds, 1.0, 1.0)).split(" (")[0]
    number, unit = text.split()
    assert re.fullmatch(r"\d+(\.\d+)?", number)
    assert float(number) * {"s": 1, "ms": 1e-3, "µs": 1e-6}[unit] == pytest.approx(seconds, rel=0.006)


@pytest.mark.parametrize(
    ("page", "fast", "by_jax", "verdict"),
    [
        (4e-3, 3e-3, 1e-3, "JAX is 3.0 times as fast as manual-fast"),
        (1e-3, 2e-3, 2.5e-3, "manual is 2.5 times as fast as JAX"),
        (1e-3, 1e-3, 1e-3, "JAX is 1.0 times as fast as manual"),
    ],
)
def test_the_faster_side_is_named(page, fast, by_jax, verdict):
    seconds = {"manual": page, "manual-fast": fast, "autodiff": by_jax}
    times = TrainingTimes({side: StepTime(s, s, s) for side, s in seconds.items()}, compilation=0.5)
    lines = str(times).splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == list(seconds)
    assert lines[-1] == f"{verdict}, after 0.50 s of compilation."
