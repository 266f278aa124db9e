"""The measurements of `judge_score`: one function for each, which returns plain data."""

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

EXAMPLES = 1797  # of the networks that are timed; as in digits, the largest data set of `backproof verify`
# The numbers of features and hidden units of the networks that are timed, by their number of parameters.
TIMED = {17: (2, 4), 1_025: (30, 32), 8_449: (64, 128), 99_841: (193, 512), 1_000_449: (975, 1024)}


def split(by_hand: ByHand, x: Any, y: Any) -> HandWritten:
    return HandWritten(lambda p: by_hand(p, x, y)[0], lambda p: by_hand(p, x, y)[1])


def group(fault: Fault) -> str:
    """The group in which the score counts a fault."""
    if fault.conduct:
        return "conduct"
    if fault.wrong_side == "autodiff" or fault.loss is not shallow_loss:
        return "JAX's side"
    return "loss" if fault.place == "loss" else "backward pass"


@dataclass
class Tally:
    """Counts for a group of faults.

    `placed`, `explained` and `attributed` are pairs: the number of faults whose place, cause or wrong side was named
    correctly, and the number of faults for which there is a correct answer. `remarks` has a sentence on each miss.
    """

    faults: int = 0
    caught: int = 0
    placed: list[int] = field(default_factory=lambda: [0, 0])
    explained: list[int] = field(default_factory=lambda: [0, 0])
    attributed: list[int] = field(default_factory=lambda: [0, 0])
    remarks: list[str] = field(default_factory=list)

    def count(self, name: str, caught: bool, **answers: tuple[bool, Any, Any] | None) -> None:
        """Count a fault.

        Args:
            name: the name of the fault.
            caught: whether it was caught.
            **answers: by the name of a pair, (whether the answer is right, the answer, the right answer), or None if
                there is no right answer.
        """
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
                self.remarks.append(f"{name}: {what} as {said}, expected {true}")


def judge_faults(faults: Iterable[Fault]) -> dict[str, Tally]:
    """The results of our judge on faults of gradients, by group and dtype."""
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
            # A report on the arithmetic says in a sentence where it fails, and does not name a wrong quantity.
            placed=(place == fault.place, place, fault.place) if fault.place and not fault.strict else None,
            explained=(bool(kinds & fault.kinds), sorted(kinds), true) if true else None,
            attributed=(side == fault.wrong_side, side, fault.wrong_side),
        )
    return tallies


def judge_trajectories(faults: Iterable[TrajectoryFault]) -> Tally:
    """The results of our judge on faults of training. The place of such a fault is a step and a leaf."""
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
    """Whether other checkers can check it: they call one NumPy function in float64, once at each point."""
    return fault.dtype == "float64" and group(fault) in ("backward pass", "loss")


def correct_networks(count: int, *, saturated: bool) -> Iterator[Problem]:
    """Correct networks in float64, of four shapes, with parameters of ordinary size or so large that they saturate."""
    random = np.random.default_rng(2 if saturated else 1)
    low, high = (5, 50) if saturated else (0.1, 1)
    shapes = [OBLONG, (2, 4, 1, 30), (8, 16, 2, 50), (20, 5, 1, 200)]
    for i in range(count):
        yield network(random, shapes[i % len(shapes)], scale=float(np.exp(random.uniform(np.log(low), np.log(high)))))


def judge_correct(problems: Iterable[Problem]) -> dict[str, int]:
    """The number of each verdict of our judge on correct networks; RAISED counts those for which it raised an error."""
    verdicts = dict.fromkeys([*(verdict.name for verdict in Verdict), "RAISED"], 0)
    for problem in problems:
        try:
            verdict = check_gradients(correct, shallow_loss, *problem).verdict.name
        except Exception:
            verdict = "RAISED"
        verdicts[verdict] += 1
    return verdicts


def peer_correct(peer: Peer, problems: Iterable[Problem]) -> int:
    """The number of correct networks that a peer rejects."""
    return sum(peer.notices(split(correct, x, y), parameters, x, y) for parameters, x, y in problems)


def one_entry_off(relative: float) -> ByHand:
    """A network whose largest entry of dW1 has this relative error."""

    def line(v: Any) -> Any:
        gradient = LINES["dW1"](v)
        index = np.unravel_index(np.argmax(np.abs(gradient)), gradient.shape)
        gradient[index] *= 1 + relative
        return gradient

    return by_hand(dW1=line)


def smallest_noticed(notices: Callable[[ByHand, Problem], bool], dtype: str = "float64") -> str | None:
    """The smallest power of ten that is noticed as the relative error of one entry, found by bisection."""
    problem = network(np.random.default_rng(0), OBLONG, dtype=dtype)
    low, high = 0, 17  # 10^-low is assumed to be noticed, and 10^-high not
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
    """The median time of `work` in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def time_judge(size: int, repeats: int = 5) -> dict[str, float]:
    """The seconds of the first check, of later checks, and of one compiled gradient by JAX without transfer of data."""
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
    """Our network, whose loss needs the forward pass only."""
    return HandWritten(
        lambda p: manual.compute_loss(manual.forward_propagation(x, p)[1].Z2, y),
        lambda p: manual.loss_and_gradients(p, x, y)[1],
    )


def time_peer(peer: Peer, sizes: Iterable[int], stop: float, patience: float) -> dict[int, float | None]:
    """The seconds of a peer's check by number of parameters; None for sizes that were not tried.

    A peer is not tried on larger networks after a check of more than `stop` seconds, nor on a network for which
    extrapolation predicts more than `patience` seconds.
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
        if taken < 1:  # measured again, because the first run loads libraries
            taken = seconds(work, 3)
        times[size] = taken
        known.append((size, taken))
    return times


def predicted(known: list[tuple[int, float]], size: int) -> float:
    """The expected seconds at `size`, by a power law through the last two sizes; after one size, its time."""
    n, t = known[-1]
    if len(known) == 1:
        return t
    n_before, t_before = known[-2]
    exponent = np.clip(np.log(t / t_before) / np.log(n / n_before), 0, 2)
    return float(t * (size / n) ** exponent)
