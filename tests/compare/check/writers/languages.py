"""The writers of all languages, driven by one script: `step N`, or a name and an array."""

import functools
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import compare.check.writers
from compare.check.arrays import DTYPES
from compare.check.writers.backproof_record import Recording

WRITERS = Path(compare.check.writers.__file__).parent
HERE = Path(__file__).parent
NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")


def compiler(name):
    """The path of a compiler; without it the test is skipped."""
    return shutil.which(name) or pytest.skip(f"{name} is not installed, so that what is written for it is not compiled")


def compiled_c(source, to, *options):
    command = [compiler("cc"), *STRICT, "-O1", f"-I{WRITERS}", str(source), "-o", str(to), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return to


def compiled_rust(source, to):
    text = Path(source).read_text().replace("RECORDER", (WRITERS / "backproof_record.rs").as_posix())
    command = [compiler("rustc"), "--edition", "2021", "-D", "warnings", "-o", str(to), "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return to


@functools.cache
def driver(language, folder):
    make = {"c": compiled_c, "rust": compiled_rust}[language]
    return make(HERE / {"c": "driver.c", "rust": "driver.rs"}[language], folder / f"driver-{language}")


def record(language, folder, path, script):
    """What a writer does with a script. Returns what it said, which is nothing if all went well."""
    if language == "python":
        return _in_python(path, script)
    lines, numbers = [], b""
    for word, value in script:
        if isinstance(value, np.ndarray):
            sizes = " ".join(map(str, value.shape))
            lines.append(f"tensor {word} {NAMES[value.dtype]} {value.itemsize} {value.ndim} {sizes}".strip())
            numbers += value.tobytes()
        else:
            lines.append(f"{word} {value}")
    (folder / "script").write_text("".join(f"{line}\n" for line in lines))
    (folder / "numbers").write_bytes(numbers)
    command = [driver(language, folder), path, folder / "script", folder / "numbers"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == (1 if done.stderr else 0)
    return done.stderr


def _in_python(path, script):
    try:
        with Recording(path) as recording:
            for word, value in script:
                if isinstance(value, np.ndarray):
                    recording.tensor(word, value)
                else:
                    recording.step(value)
    except (ValueError, OSError) as error:
        return str(error)
    return ""
