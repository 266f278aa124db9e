"""Checks recordings of a GPT with four layers: two steps of AdamW, by programs in C and in PyTorch.

    python -m benchmarks.recorded_gpt

Each correct recording must agree. Then each tensor of the second step is changed in turn, and the report must name it.
Finally, faults are planted in the C program, and each must be found at its place. The command needs a C compiler for
one program and PyTorch for the other, skips a program that cannot run, and takes some minutes.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

import compare.check.writers
from benchmarks.recorded.gpt_loss import loss
from compare.check.arrays import read_arrays
from compare.check.optimizers import update_rule
from compare.check.recorded_checks import RecordingReport, check_recording
from compare.check.recording import recorded_steps
from compare.judge.reports.verdict import Verdict

Arrays = dict[str, np.ndarray]
LAYERS = 4
SOURCE = Path(__file__).parent / "recorded" / "gpt.c"
WRITERS = Path(compare.check.writers.__file__).parent


class Fault(NamedTuple):
    """A fault in gpt.c: a line, its replacement, and the beginning of the name of the first wrong quantity.

    The program records the gradient of the output of each block. A fault that all blocks have is therefore found in the
    last block, where the backward pass begins.
    """

    right: str
    wrong: str
    first_wrong: str
    of_update: bool = False


FAULTS = {
    "layer norm without its second mean": Fault(
        "(g - mean - x_hat[n * C + c] * along)", "(g - mean)", "blocks.3"),
    "layer norm without its mean": Fault("(g - mean - x_hat", "(g - x_hat", "blocks.3"),
    "layer norm's weight twice": Fault(
        "w.weight->g[c] += dy[n * C + c] * x_hat[n * C + c]",
        "w.weight->g[c] += w.weight->p[c] * dy[n * C + c] * x_hat[n * C + c]", "norm.weight"),
    "GELU without the 3 of its cube": Fault("(1 + 3 * 0.044715f", "(1 + 0.044715f", "blocks.3"),
    "attention without its scale": Fault("(drow[u] - along) / sqrtf(D)", "(drow[u] - along)", "blocks.3"),
    "softmax without its sum": Fault("row[u] * (drow[u] - along)", "row[u] * drow[u]", "blocks.3"),
    "values that are overwritten": Fault("dv[d] += row[u] * g[d]", "dv[d] = row[u] * g[d]", "blocks.3"),
    "keys in the place of queries": Fault("dk[d] += dscore * q[d]", "dk[d] += dscore * k[d]", "blocks.3"),
    "a bias that is overwritten": Fault(
        "w.bias->g[o] += dy[n * out + o]", "w.bias->g[o] = dy[n * out + o]", "blocks.3"),
    "a tied embedding without its head": Fault(
        "token->g[v * C + c] += dlogits[n][v] * last[n * C + c];", "", "token.weight"),
    "an embedding that is overwritten": Fault(
        "token->g[ids[n] * C + c] += dx", "token->g[ids[n] * C + c] = dx", "token.weight"),
    "positions of the first sequence only": Fault(
        "position->g[n % T * C + c] += dx", "if (n < T) position->g[n * C + c] += dx", "position.weight"),
    "a loss that is not averaged": Fault("(v == targets[n])) / N", "(v == targets[n]))", ""),
    "weight decay in the gradient": Fault(
        "float g = all[i].g[j], *p", "float g = all[i].g[j] + decay * all[i].p[j], *p", "", True),
    "epsilon inside of the root": Fault("(sqrtf(v_hat) + epsilon)", "sqrtf(v_hat + epsilon)", "", True),
    "no bias correction of the first moment": Fault("*m / (float)(1 - pow(0.9, step))", "*m", "", True),
    "steps that are counted from 0": Fault("1 - pow(0.999, step)", "1 - pow(0.999, step + 1)", "", True),
    "momentum that is not carried on": Fault("*m = beta1 * *m + (1", "*m = (1", "", True),
}  # fmt: skip


def recorded_by_c(folder: Path, text: str | None = None) -> Arrays:
    """The recording of gpt.c, or of another program text. Raises CalledProcessError if it cannot be compiled."""
    program = folder / "gpt"
    command = ["cc", "-std=c99", "-O1", f"-I{WRITERS}", "-x", "c", "-", "-o", str(program), "-lm"]
    subprocess.run(command, input=text or SOURCE.read_text(encoding="utf-8"), text=True, check=True)
    subprocess.run([program, folder / "c.safetensors"], check=True)
    return read_arrays(folder / "c.safetensors")


def recorded_by_torch(folder: Path, layers: int = LAYERS) -> Arrays:
    """The recording of gpt_torch.py. Raises ImportError without PyTorch."""
    from benchmarks.recorded.gpt_torch import record

    record(folder / "torch.safetensors", layers=layers)
    return read_arrays(folder / "torch.safetensors")


def judged(arrays: Arrays) -> RecordingReport:
    return check_recording(recorded_steps(arrays), loss, optimizer=update_rule("adamw:lr=0.01"))


def planted(arrays: Arrays, of_step: int = 2) -> Iterator[tuple[str, Arrays]]:
    """Recordings with one wrong tensor each: the name of a tensor that a step computed, and the recording.

    The largest entry of the tensor is 1% too large.
    """
    for name, array in arrays.items():
        part = name.removeprefix(f"step.{of_step}/")
        if part != name and not part.startswith(("inputs/", "values/")):
            wrong = array.copy()
            wrong.flat[np.abs(wrong).argmax()] *= 1.01
            yield part, arrays | {name: wrong}


def is_named(report: RecordingReport, part: str) -> bool:
    """Whether a report says that this tensor of the second step is wrong."""
    kind, _, leaf = part.partition("/")
    if report.verdict is not Verdict.DISAGREE:
        return False
    if kind == "parameters":
        return f"parameters/{leaf} of step 2 differs from next/{leaf} of step 1." in report.notes
    if kind == "next":
        return report.wrong_step is None and report.first_wrong == leaf and "step 2, " in report.sentence
    return report.wrong_step == 2 and report.first_wrong == (leaf or part) and "step 2" in report.sentence


def is_placed(report: RecordingReport, fault: Fault) -> bool:
    """Whether a report names the place of a fault of the program."""
    found = (report.first_wrong or "").startswith(fault.first_wrong) and (report.wrong_step is None) is fault.of_update
    return report.verdict is Verdict.DISAGREE and found


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recordings = {}
        if shutil.which("cc"):
            recordings["C"] = recorded_by_c(folder)
        try:
            recordings["PyTorch"] = recorded_by_torch(folder)
        except ImportError:
            print("PyTorch is not installed, so its recording is skipped.")
        for writer, arrays in recordings.items():
            print(f"{writer}: {judged(arrays).sentence}", flush=True)
            missed, count = [], 0
            for part, changed in planted(arrays):
                count += 1
                report = judged(changed)
                if not is_named(report, part):
                    missed.append(part)
                    print(f"  missed: {part}: {report.sentence}", flush=True)
            print(f"{writer}: of {count} wrong tensors of the second step, {count - len(missed)} are named.")
        if "C" in recordings:
            text, placed = SOURCE.read_text(encoding="utf-8"), 0
            for name, fault in FAULTS.items():
                report = judged(recorded_by_c(folder, text.replace(fault.right, fault.wrong)))
                placed += is_placed(report, fault)
                print(f"  {'found ' if is_placed(report, fault) else 'MISSED'} {name}: {report.sentence}", flush=True)
            print(f"C: of {len(FAULTS)} faults in the program, {placed} are found at their place.")


if __name__ == "__main__":
    main()
