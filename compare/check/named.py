"""Loads functions and inputs that the user names on the command line, such as `mine.py:by_hand` and `inputs.npz`.

Only files that the user names are run. Arrays are read without unpickling.
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
    """Load a function.

    Args:
        name: `FILE.py:NAME`.

    Returns:
        The function of this name in the file.

    Raises:
        BadInput: a ValueError, if there is no such function, or the file cannot be imported.
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
    """Check that a function can be called with the inputs.

    Args:
        named: its name on the command line, `FILE.py:NAME`.
        function: the function.
        inputs: the arguments that it will get.
        source: where the inputs come from, such as "inputs() in mine.py".

    Raises:
        BadInput: a ValueError, if it is a class, or takes another number of arguments.
    """
    name = named.rpartition(":")[2]
    if isinstance(function, type):
        raise BadInput(f"{name} is a class: write a function around its loss, such as by_hand(parameters, X, y).")
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some functions in C have no signature
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
    """Import a file. A file is run once only, however often it is named.

    Args:
        file: a Python file.

    Returns:
        The module.

    Raises:
        BadInput: a ValueError, if the file is missing or raises an error.
    """
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
    sys.modules[name] = module  # as in an import: dataclasses, for example, look up their module
    before = list(sys.path)
    sys.path.insert(0, str(where.parent))  # so that the file can import others in its folder, as a script can
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
    """The arguments of the functions: from an array file, or from the function `inputs()` in their file.

    In an array file, `parameters.W1` is the leaf W1 of the first argument, and arrays with other names are further
    arguments, in the order of the file.

    Args:
        function_file: the name of the function on the command line, `FILE.py:NAME`.
        at: the array file, if one was given.

    Returns:
        (parameters, *arguments).

    Raises:
        BadInput: a ValueError, if there are neither, or they are invalid.
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
