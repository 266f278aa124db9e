"""Functions and inputs that a person names on the command line: `mine.py:by_hand`, `inputs.npz`.

A file is run only if it is named. Arrays are read without unpickling anything.
"""

import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from compare.check.arrays import read_arrays
from compare.errors import BadInput


def named_function(name: str) -> Callable[..., Any]:
    """The function that `FILE.py:NAME` names.

    Raises:
        BadInput: a ValueError, if there is none, or its file cannot be imported.
    """
    file, colon, attribute = name.rpartition(":")
    if not colon or not file or not attribute.isidentifier():
        raise BadInput(f"{name!r} names no function: write FILE.py:NAME, for example mine.py:by_hand.")
    module = loaded(Path(file))
    found = getattr(module, attribute, None)
    if not callable(found):
        known = sorted(key for key, value in vars(module).items() if callable(value) and _is_its_own(value, module))
        near = get_close_matches(attribute, known, 1)
        hint = f" Is it {near[0]}?" if near else ""
        raise BadInput(f"{file} has no function {attribute!r}.{hint} It has {', '.join(known) or 'none'}.")
    return found


def check_takes(named: str, function: Callable[..., Any], inputs: tuple[Any, ...], source: str) -> None:
    """Refuse a class, and a function that takes another number of arguments than there are.

    Args:
        named: `FILE.py:NAME`, as it was named.
        function: what it names.
        inputs: its arguments.
        source: what gives them, such as "inputs() in mine.py".

    Raises:
        BadInput: a ValueError, if it cannot be called with them.
    """
    name = named.rpartition(":")[2]
    if isinstance(function, type):
        raise BadInput(f"{name} is a class: write a function around its loss, such as by_hand(parameters, X, y).")
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some functions in C do not tell
        return
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    least, most = sum(p.default is p.empty for p in positional), len(positional)
    endless = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if least <= len(inputs) and (endless or len(inputs) <= most):
        return
    count = f"at least {least}" if endless else f"{least}" if least == most else f"{least} to {most}"
    taken = ", ".join(p.name for p in positional)
    given = f"{len(inputs)} argument{'' if len(inputs) == 1 else 's'}"
    raise BadInput(f"{source} gives {given}; {name} takes {count}{f' ({taken})' if taken else ''}.")


def _is_its_own(value: Any, module: ModuleType) -> bool:
    return getattr(value, "__module__", None) == module.__name__


def loaded(file: Path) -> ModuleType:
    """The module in a file, run once for each file. Raises BadInput, a ValueError, if it cannot be."""
    if not file.is_file():
        raise BadInput(f"{file}: there is no such file.")
    where = file.resolve()
    name = f"backproof_checks_{where.stem}_{hashlib.sha256(str(where).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, where)
    if spec is None or spec.loader is None:
        raise BadInput(f"{file} is no Python file: its name must end with .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # as an import does: what is defined in it may ask for its module
    before = list(sys.path)
    sys.path.insert(0, str(where.parent))  # it may import its neighbors, as when it is run
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise BadInput(f"{file} cannot be imported{line}: {type(error).__name__}: {error}") from None
    finally:
        sys.path[:] = before
    return module


def inputs_of(function_file: str, at: Path | None) -> tuple[Any, ...]:
    """The arguments of the functions: from an array file, or from the function `inputs()` beside them.

    In an array file, `parameters.W1` is the leaf W1 of the first argument, and other names are further arguments, in
    the order of the file.

    Args:
        function_file: `FILE.py:NAME`, as it was named.
        at: the array file, if one was named.

    Returns:
        (parameters, *arguments).

    Raises:
        BadInput: a ValueError, if there are none.
    """
    if at is not None:
        return _arguments(read_arrays(at), at)
    module = loaded(Path(function_file.rpartition(":")[0]))
    make = getattr(module, "inputs", None)
    if not callable(make):
        raise BadInput(
            f"where are the inputs? Give --at FILE.npz, or write a function inputs() in "
            f"{function_file.rpartition(':')[0]} that returns (parameters, *arguments)."
        )
    found = make()
    if not isinstance(found, tuple | list) or not found:
        raise BadInput(f"inputs() must return a tuple, (parameters, *arguments), got {type(found).__name__}.")
    return tuple(found)


def _arguments(arrays: dict[str, np.ndarray], at: Path) -> tuple[Any, ...]:
    first = {
        name.removeprefix("parameters."): array for name, array in arrays.items() if name.startswith("parameters.")
    }
    rest = {name: array for name, array in arrays.items() if not name.startswith("parameters.")}
    if first:
        rest.pop("parameters", None)
        return (first, *rest.values())
    if not rest:
        raise BadInput(f"{at} holds no arrays.")
    if "parameters" in rest:
        return (rest.pop("parameters"), *rest.values())
    return tuple(rest.values())


def in_dtype(tree: Any, dtype: str | None) -> Any:
    """Floating-point arrays of a tree in a dtype, if one is given."""
    if dtype is None:
        return tree
    import jax

    return jax.tree.map(
        lambda leaf: np.asarray(leaf).astype(dtype) if np.asarray(leaf).dtype.kind == "f" else leaf, tree
    )
