"""What the score counts and times: one function for each question, each returning plain data."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import manual
from benchmarks.backward import LINES, ByHand, by_hand, correct
from benchmarks.faults import OBLONG, Fault
from benchmarks.networks import Problem, network
from benchmarks.peers import HandWritten, Peer
from benchmarks.trajectory_faults import TrajectoryFault
from compare import Verdict, check_gradients, check_trajectory
from compare.judge.reports.gradient_report import SIDE_EFFECTS
from compare.suite.shallow import shallow_loss

EXAMPLES = 1797  # in the networks that are timed: the digits, the largest set that `backproof verify` has
# n_x and n_h for networks of one output with (about) so many parameters.
TIMED = {17: (2, 4), 1_025: (30, 32), 8_449: (64, 128), 99_841: (193, 512), 1_000_449: (975, 1024)}


def split(by_hand: ByHand, x: Any, y: Any) -> HandWritten:
    return HandWritten(lambda p: by_hand(p, x, y)[0], lambda p: by_hand(p, x, y)[1])


def group(fault: Fault) -> str:
    """Where a fault lives, as the score counts them."""
    if fault.conduct:
        return "conduct"
    if fault.wrong_side == "autodiff" or fault.loss is not shallow_loss:
        return "JAX's side"
    return "loss" if fault.place == "loss" else "backward pass"


@dataclass
class Tally:
    """How many of a group of faults were caught, and of those that can be, placed, explained and attributed."""

    faults: int = 0
    caught: int = 0
    placed: list[int] = field(default_factory=lambda: [0, 0])  # right, of so many
    explained: list[int] = field(default_factory=lambda: [0, 0])
    attributed: list[int] = field(default_factory=lambda: [0, 0])
    remarks: list[str] = field(default_factory=list)

    def count(self, name: str, caught: bool, **answers: tuple[bool, Any, Any] | None) -> None:
        """`answers` by the name of a tally: (right?, what was said, what is true), or None where nothing is true."""
        self.faults += 1
        self.caught += caught
        if not caught:
            self.remarks.append(f"{name}: not caught")
        for what, answer in answers.items():
            if answer is None:
                continue
            right, said, true = answer
            counted = getattr(self, what)
            counted[0] += bool(caught and right)
            counted[1] += 1
            if caught and not right:
                self.remarks.append(f"{name}: {what} as {said}, not {true}")


def judge_faults(faults: Iterable[Fault]) -> dict[str, Tally]:
    """Our judge on the corpus, by group and dtype."""
    tallies: dict[str, Tally] = {}
    for fault in faults:
        tally = tallies.setdefault(f"{group(fault)}, {fault.dtype}", Tally())
        caught, place, side, kinds = False, None, None, set()
        try:
            report = check_gradients(fault.by_hand, fault.loss, *fault.problem(), strict=fault.strict)
        except Exception as error:
            tally.remarks.append(f"{fault.name}: the judge raised {type(error).__name__}: {error}")
        else:
            kinds = {diagnosis.kind for diagnosis in report.diagnoses}
            place, side = report.first_wrong, report.wrong_side
            caught = report.verdict is Verdict.DISAGREE or bool(kinds & SIDE_EFFECTS)
        true = sorted(fault.kinds)
        tally.count(
            fault.name,
            caught,
            # Of the arithmetic, the report says in words where it fails, and no quantity is wrong there.
            placed=(place == fault.place, place, fault.place) if fault.place and not fault.strict else None,
            explained=(bool(kinds & fault.kinds), sorted(kinds), true) if true else None,
            attributed=(side == fault.wrong_side, side, fault.wrong_side),
        )
    return tallies


def judge_trajectories(faults: Iterable[TrajectoryFault]) -> Tally:
    """Our judge on the corpus of training faults; `placed` means step and leaf."""
    tally = Tally()
    for fault in faults:
        caught, step, leaf, kinds = False, None, None, set()
        try:
            report = run_trajectory(fault)
        except Exception as error:
            tally.remarks.append(f"{fault.name}: the judge raised {type(error).__name__}: {error}")
        else:
            caught, step = report.verdict is Verdict.DISAGREE, report.wrong_step
            leaf = str(report.first_wrong).rsplit(".", 1)[-1]
            kinds = {diagnosis.kind for diagnosis in report.diagnoses}
        said, true = (step, leaf), (fault.wrong_step, fault.leaf or leaf)
        tally.count(
            fault.name,
            caught,
            placed=(said == true, said, true),
            explained=(bool(kinds & fault.kinds), sorted(kinds), sorted(fault.kinds)),
        )
    return tally


def run_trajectory(pair: TrajectoryFault) -> Any:
    options = {} if pair.state is None else {"state": pair.state}
    return check_trajectory(pair.manual_step, pair.autodiff_step, pair.parameters, pair.batches, **options)


def peer_missed(peer: Peer, faults: Iterable[Fault]) -> list[str]:
    """The names of the faults that a peer does not notice."""
    missed = []
    for fault in faults:
        parameters, x, y = fault.problem()
        if not peer.notices(split(fault.by_hand, x, y), parameters, x, y):
            missed.append(fault.name)
    return missed


def visible_to_peers(fault: Fault) -> bool:
    """They check one NumPy function in float64, by one call."""
    return fault.dtype == "float64" and group(fault) in ("backward pass", "loss")


def correct_networks(count: int, *, saturated: bool) -> Iterator[Problem]:
    """Correct networks in float64, a few shapes of them, at parameters of ordinary or of large size."""
    random = np.random.default_rng(2 if saturated else 1)
    low, high = (5, 50) if saturated else (0.1, 1)
    shapes = [OBLONG, (2, 4, 1, 30), (8, 16, 2, 50), (20, 5, 1, 200)]
    for i in range(count):
        yield network(random, shapes[i % len(shapes)], scale=float(np.exp(random.uniform(np.log(low), np.log(high)))))


def judge_correct(problems: Iterable[Problem]) -> dict[str, int]:
    """Verdicts of our judge on networks that are right, by name; RAISED where it gave none."""
    verdicts = dict.fromkeys([*(verdict.name for verdict in Verdict), "RAISED"], 0)
    for problem in problems:
        try:
            verdict = check_gradients(correct, shallow_loss, *problem).verdict.name
        except Exception:
            verdict = "RAISED"
        verdicts[verdict] += 1
    return verdicts


def peer_correct(peer: Peer, problems: Iterable[Problem]) -> int:
    """How many networks that are right the peer blames."""
    return sum(peer.notices(split(correct, x, y), parameters, x, y) for parameters, x, y in problems)


def one_entry_off(relative: float) -> ByHand:
    """The largest entry of dW1 is off by so much of itself."""

    def line(v: Any) -> Any:
        gradient = LINES["dW1"](v)
        index = np.unravel_index(np.argmax(np.abs(gradient)), gradient.shape)
        gradient[index] *= 1 + relative
        return gradient

    return by_hand(dW1=line)


def smallest_noticed(notices: Callable[[ByHand, Problem], bool], dtype: str = "float64") -> str | None:
    """The smallest power of ten that is noticed as the relative error of one entry, by bisection."""
    problem = network(np.random.default_rng(0), OBLONG, dtype=dtype)
    low, high = 0, 17  # 10^-low is taken for noticed, 10^-high for not
    while high - low > 1:
        middle = (low + high) // 2
        if notices(one_entry_off(10.0**-middle), problem):
            low = middle
        else:
            high = middle
    return f"1e-{low:02d}" if low else None


def judge_notices(by_hand: ByHand, problem: Problem) -> bool:
    return check_gradients(by_hand, shallow_loss, *problem).verdict is Verdict.DISAGREE


def peer_notices(peer: Peer) -> Callable[[ByHand, Problem], bool]:
    def notices(by_hand: ByHand, problem: Problem) -> bool:
        parameters, x, y = problem
        return peer.notices(split(by_hand, x, y), parameters, x, y)

    return notices


# ---------------------------------------------------------------------------------------- seconds


def timed_problem(size: int) -> Problem:
    n_x, n_h = TIMED[size]
    return network(np.random.default_rng(0), (n_x, n_h, 1, EXAMPLES), scale=1 / n_x**0.5)


def seconds(work: Callable[[], Any], repeats: int) -> float:
    """The median time of `work`."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def time_judge(size: int, repeats: int = 5) -> dict[str, float]:
    """Seconds of the first check, of later ones, and of one gradient by JAX alone, compiled and on its device."""
    parameters, x, y = timed_problem(size)

    def check() -> None:
        report = check_gradients(manual_with_intermediates, shallow_loss, parameters, x, y)
        if report.verdict is not Verdict.AGREE:
            raise RuntimeError(f"a correct network of {size} parameters was not accepted:\n{report}")

    cold = seconds(check, 1)
    warm = seconds(check, repeats)
    with jax.enable_x64(True):
        evaluate = jax.jit(jax.value_and_grad(shallow_loss))
        on_device = jax.tree.map(jnp.asarray, (parameters, x, y))
        jax.block_until_ready(evaluate(*on_device))
        gradient = seconds(lambda: jax.block_until_ready(evaluate(*on_device)), 10 * repeats)
    return {"cold": cold, "warm": warm, "gradient": gradient, "evaluations": warm / gradient}


def manual_with_intermediates(parameters: Any, x: Any, y: Any) -> Any:
    _, cache = manual.forward_propagation(x, parameters)
    intermediates: dict[str, Any] = {}
    gradients = manual.backpropagation(parameters, cache, x, y, intermediates=intermediates)
    return manual.compute_loss(cache.Z2, y), gradients, intermediates


def _sparing(x: Any, y: Any) -> HandWritten:
    """Our network, with a forward pass alone where only the loss is asked for."""
    return HandWritten(
        lambda p: manual.compute_loss(manual.forward_propagation(x, p)[1].Z2, y),
        lambda p: manual.loss_and_gradients(p, x, y)[1],
    )


def time_peer(peer: Peer, sizes: Iterable[int], stop: float, patience: float) -> dict[int, float | None]:
    """Seconds by number of parameters; None where it was not tried.

    A peer stops after a check that took longer than `stop`, and where growth as seen so far predicts more than
    `patience`.
    """
    times: dict[int, float | None] = {}
    known: list[tuple[int, float]] = []
    for size in sizes:
        if known and (known[-1][1] > stop or predicted(known, size) > patience):
            times[size] = None
            continue
        parameters, x, y = timed_problem(size)
        work = partial(peer.notices, _sparing(x, y), parameters, x, y)
        taken = seconds(work, 1)
        if taken < 1:  # not the first run, which loads libraries
            taken = seconds(work, 3)
        times[size] = taken
        known.append((size, taken))
    return times


def predicted(known: list[tuple[int, float]], size: int) -> float:
    """Seconds at `size`, from the growth between the last two sizes; no growth is known after only one."""
    n, t = known[-1]
    if len(known) == 1:
        return t
    n_before, t_before = known[-2]
    exponent = np.clip(np.log(t / t_before) / np.log(n / n_before), 0, 2)
    return float(t * (size / n) ** exponent)
