"""Copies a NumPy function together with everything that it refers to, so that JAX can trace the copy.

A function may create an array with `np.zeros` and write results into it. NumPy's array cannot hold traced values, so
that `np.zeros` has to return a traced array. The NumPy module itself must not change, so the function is copied, with
the names of its module, the functions, classes and objects of its package, and the variables of its closures. In the
copy, `np.zeros` returns traced arrays, and `float(x)` returns a traced number unchanged. Code that assigns to an
object's attribute changes the copy of the object, so that nothing of the caller is modified. Functions of installed
packages are not copied, but the objects of their classes are.
"""

import copy
import functools
import math
import sys
import types
from abc import ABCMeta
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
import scipy.special

from compare.judge.program.numpy_tracing import (
    OWN,
    TracedArray,
    Untraceable,
    decisions,
    holds_traced,
    in_known_dtypes,
    unwrapped,
)

# Functions that create arrays. In the copy they return traced arrays, into which traced values can be written.
MAKERS = ("array", "asarray", "ascontiguousarray", "asfortranarray", "asanyarray", "copy", "empty", "empty_like", "eye",
          "full", "full_like", "identity", "ones", "ones_like", "zeros", "zeros_like")  # fmt: skip
# Packages whose functions and classes are never copied.
NEVER = ("numpy", "scipy", "jax", "jaxlib", "compare", "backproof")
HEAP_TYPE = 1 << 9  # CPython's flag Py_TPFLAGS_HEAPTYPE, which classes written in Python have


class _AnyFloat(type):
    """The type of `Float`, which replaces `float` in traced functions: `float(x)` of a traced number stays traced."""

    def __call__(cls, *args: Any) -> Any:
        if args and isinstance(args[0], TracedArray):
            return args[0].item()
        return float(*args)

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, float)

    def __getattr__(cls, name: str) -> Any:
        return getattr(float, name)


class Float(metaclass=_AnyFloat):
    """`float` for traced functions."""

    dtype = np.dtype(float)  # NumPy then accepts the class as a dtype


class _AnyArray(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, np.ndarray | TracedArray)


class Array(metaclass=_AnyArray):
    """`np.ndarray` for traced functions: traced arrays are instances of it."""


class Namespace(types.ModuleType):
    """A module in which some attributes are replaced.

    Args:
        module: the original module.
        of: (name, original value) -> the value of the attribute.
    """

    def __init__(self, module: types.ModuleType, of: Callable[[str, Any], Any]) -> None:
        super().__init__(module.__name__)
        self.__dict__["_module"], self.__dict__["_of"] = module, of

    def __getattr__(self, name: str) -> Any:
        value = self._of(name, getattr(self._module, name))
        self.__dict__[name] = value
        return value


def _of_numpy(name: str, original: Any) -> Any:
    if name in MAKERS:
        return _making(original)
    return Array if original is np.ndarray else original


def _making(original: Callable[..., Any]) -> Callable[..., Any]:
    """A function of MAKERS that returns traced arrays."""
    name = original.__name__

    def made(*args: Any, **options: Any) -> Any:
        if holds_traced((args, options)):
            if name in OWN:
                return OWN[name](*args, **options)
            if name in ("array", "asarray", "ascontiguousarray", "asfortranarray", "asanyarray"):
                copied = name == "array" and options.get("copy", True)
                return _as_array(args[0], bool(copied), options.get("dtype", (*args, None)[1]))
            return TracedArray.new(getattr(jnp, name)(*in_known_dtypes(args), **in_known_dtypes(options)))
        result = original(*args, **options)
        if not isinstance(result, np.ndarray) or not _is_of_numbers(result):
            return result
        value = jnp.asarray(result)
        return TracedArray.new(value) if result.flags.c_contiguous else TracedArray(value)

    return made


def _is_of_numbers(array: np.ndarray) -> bool:
    return array.dtype == np.bool_ or jnp.issubdtype(array.dtype, jnp.number)


def _as_array(value: Any, copied: bool, dtype: Any) -> TracedArray:
    array = value if isinstance(value, TracedArray) else TracedArray.new(jnp.array(unwrapped(value)))
    if dtype is not None and array.dtype != np.dtype(dtype):
        array = array.astype(dtype)
    elif copied:
        array = array.copy()
    if array._scalar:  # np.asarray of a scalar returns an array
        return TracedArray.new(array.value)
    return array


def _softmax(x: Any, axis: Any = None) -> Any:
    return jnp.exp(_log_softmax(x, axis))


def _log_softmax(x: Any, axis: Any = None) -> Any:
    return x - jax.scipy.special.logsumexp(x, axis=axis, keepdims=True)


# Functions outside NumPy, which its protocols do not pass on, and the functions of JAX that replace them.
OTHERS: dict[Any, Callable[..., Any]] = {
    scipy.special.logsumexp: jax.scipy.special.logsumexp,
    scipy.special.softmax: _softmax,
    scipy.special.log_softmax: _log_softmax,
    **{getattr(scipy.linalg, name): getattr(jax.scipy.linalg, name) for name in ("solve_triangular", "cho_solve")},
    **{
        getattr(math, name): getattr(jnp, name) for name in ("exp", "log", "sqrt", "tanh", "sin", "cos", "log1p", "pow")
    },
}


def _jax_if_traced(original: Callable[..., Any]) -> Callable[..., Any]:
    """A function of OTHERS that calls JAX's function if an argument is traced."""

    def either(*args: Any, **options: Any) -> Any:
        if not holds_traced((args, options)):
            return original(*args, **options)
        result = OTHERS[original](*unwrapped(args), **unwrapped(options))
        return TracedArray(result, scalar=not result.ndim)

    return either


def _is_other(value: Any) -> bool:
    """Whether it is a function of OTHERS. Values that may not be hashable are not looked up."""
    return isinstance(value, types.FunctionType | types.BuiltinFunctionType) and value in OTHERS


def _of_others(name: str, original: Any) -> Any:
    return _jax_if_traced(original) if _is_other(original) else original


class _Copies:
    """Copies functions, classes and objects. Two references to one object become two references to one copy.

    Args:
        function: the function to be traced. Its package is the one whose code is copied.
    """

    def __init__(self, function: Any) -> None:
        inner = function.func if isinstance(function, functools.partial) else function
        self.home = (getattr(inner, "__module__", None) or type(inner).__module__ or "").partition(".")[0]
        self.seen: dict[int, Any] = {}  # the copies, by the identity of the original
        self.kept: list[Any] = []  # the originals, kept alive so that no other object gets the same identity
        self.memo: dict[int, Any] = {}  # for copy.deepcopy: objects with a common part get copies with a common part
        self.numpy = Namespace(np, _of_numpy)

    def __call__(self, value: Any) -> Any:
        if id(value) in self.seen:
            return self.seen[id(value)]
        made = self._made(value)
        return value if made is value else self._remembered(value, made)

    def _remembered(self, value: Any, made: Any) -> Any:
        self.kept.append(value)
        self.seen[id(value)] = made
        return made

    def _made(self, value: Any) -> Any:
        if value is np:
            return self.numpy
        if value in (np.ndarray, float) if isinstance(value, type) else False:
            return Array if value is np.ndarray else Float
        if isinstance(value, types.ModuleType):
            if value.__name__ in ("scipy", "scipy.special", "scipy.linalg", "math"):
                return Namespace(value, lambda name, original: self(original))
            return value if self._is_a_library(value.__name__) else Namespace(value, lambda _, inner: self(inner))
        if _is_other(value):
            return _jax_if_traced(value)
        name = getattr(value, "__name__", "")
        if name in MAKERS and getattr(np, name, None) is value:
            return getattr(self.numpy, name)
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, types.MethodType):
            return types.MethodType(self(value.__func__), self(value.__self__))
        if isinstance(value, functools.partial):
            return functools.partial(self(value.func), *map(self, value.args), **self(value.keywords))
        if hasattr(value, "cache_info") and hasattr(value, "__wrapped__"):  # a function with functools.lru_cache
            return self(value.__wrapped__)
        if isinstance(value, staticmethod | classmethod):
            return type(value)(self(value.__func__))
        if isinstance(value, property):
            return property(self(value.fget), self(value.fset), self(value.fdel), value.__doc__)
        if type(value) is list:
            return [*map(self, value)]
        if isinstance(value, tuple) and (type(value) is tuple or hasattr(value, "_fields")):
            made = [*map(self, value)]
            return tuple(made) if type(value) is tuple else type(value)(*made)
        if type(value) is dict:
            return {key: self(inner) for key, inner in value.items()}
        if isinstance(value, type):
            return self._class(value)
        return self._object(value)

    def _is_a_library(self, name: str | None) -> bool:
        """Whether a module belongs to Python or to an installed package other than that of the function."""
        first = (name or "").partition(".")[0]
        if first == self.home or first in ("", "__main__", "builtins"):
            return first in NEVER
        file = getattr(sys.modules.get(name or ""), "__file__", None) or ""
        installed = {"site-packages", "dist-packages"} & set(PurePath(file).parts)
        return first in NEVER or first in sys.stdlib_module_names or bool(installed)

    def _function(self, function: types.FunctionType) -> Any:
        if self._is_a_library(function.__module__):
            return function
        names = function.__globals__
        if id(names) not in self.seen:
            copied = self._remembered(names, dict(names))
            copied.setdefault("float", Float)
        copied = self.seen[id(names)]
        cells = function.__closure__ and tuple(types.CellType() for _ in function.__closure__)
        new = types.FunctionType(function.__code__, copied, function.__name__, None, cells)
        new.__qualname__, new.__module__ = function.__qualname__, function.__module__
        new.__dict__.update(function.__dict__)
        self._remembered(function, new)  # before the functions that it calls, because these may call it
        new.__defaults__, new.__kwdefaults__ = self(function.__defaults__), self(function.__kwdefaults__)
        for name in _names_in(function.__code__):
            if name in names:
                copied[name] = self(names[name])
        for cell, original in zip(cells or (), function.__closure__ or (), strict=True):
            try:
                cell.cell_contents = self(original.cell_contents)
            except ValueError:  # the variable has no value yet
                continue
        return new

    def _class(self, old: type) -> type:
        if not _is_plain(old) or self._is_a_library(old.__module__):
            return old
        bases = tuple(map(self, old.__bases__))
        slots = old.__dict__.get("__slots__")
        start = {"__module__": old.__module__, "__qualname__": old.__qualname__}
        new = type(old)(old.__name__, bases, start | ({} if slots is None else {"__slots__": slots}))
        self._remembered(old, new)  # before its methods, because these may refer to the class
        taken = {"__dict__", "__weakref__", "__slots__", *start, *((slots,) if isinstance(slots, str) else slots or ())}
        for name, value in old.__dict__.items():
            if name not in taken and not name.startswith("_abc_"):
                setattr(new, name, self(value))
        return new

    def _object(self, value: Any) -> Any:
        """A copy of an object of the caller's class, with its floating-point arrays replaced by traced ones."""
        old = type(value)
        new = self(old) if _is_plain(old) else old
        if new is old:
            return self._deep_copy(value)
        copied = self._remembered(value, object.__new__(new))
        for name in _attributes(value):
            inner = getattr(value, name)
            made = TracedArray.new(jnp.asarray(inner)) if _is_floating(inner) else self(inner)
            object.__setattr__(copied, name, made)
        return copied

    def _deep_copy(self, value: Any) -> Any:
        """A deep copy of an object of a library's class: its methods may store traced arrays in it.

        The object itself is returned if its class is not written in Python or if it cannot be copied.
        """
        if not type(value).__flags__ & HEAP_TYPE or not getattr(value, "__dict__", None):
            return value
        try:
            return self._remembered(value, copy.deepcopy(value, self.memo))
        except Exception:  # an attribute cannot be copied, such as a lock
            return value


def _is_floating(value: Any) -> bool:
    return type(value) is np.ndarray and value.dtype.kind == "f" and value.flags.c_contiguous


def _attributes(value: Any) -> list[str]:
    slots = [name for one in type(value).__mro__ for name in _tuple(one.__dict__.get("__slots__", ()))]
    return [*getattr(value, "__dict__", ()), *(name for name in slots if hasattr(value, name) and name[:2] != "__")]


def _tuple(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _is_plain(cls: type) -> bool:
    """Whether a class can be copied: it is written in Python, and creating it or an object of it runs no other code."""
    if type(cls) not in (type, ABCMeta) or not cls.__flags__ & HEAP_TYPE:
        return False
    return all(
        one is object or (one.__flags__ & HEAP_TYPE and "__init_subclass__" not in one.__dict__) for one in cls.__mro__
    ) and not any("__new__" in one.__dict__ for one in cls.__mro__ if one is not object)


def _names_in(code: types.CodeType) -> set[str]:
    """The names that a function's code refers to, including the code of nested functions."""
    inner = [_names_in(one) for one in code.co_consts if isinstance(one, types.CodeType)]
    return set(code.co_names).union(*inner)


def renamed(function: Callable[..., Any]) -> Callable[..., Any]:
    """A copy of a function in which NumPy creates traced arrays.

    Args:
        function: a function, a method or a callable object.

    Returns:
        The copy; the function itself if it is not written in Python.

    Raises:
        Untraceable: if an object that the function refers to cannot be copied.
    """
    try:
        return _Copies(function)(function)
    except (AttributeError, RecursionError) as error:
        raise Untraceable(f"an object that it refers to cannot be copied ({error})") from error


def traceable(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turns a NumPy function into a function that JAX can trace.

    Args:
        function: a function, a method or a callable object. It is not modified.

    Returns:
        A function with the same arguments and results, with JAX arrays in place of NumPy arrays. When it is called, it
        raises Untraceable if `function` needs the values of its arrays.
    """

    def wrapped(leaf: Any) -> Any:
        return TracedArray.new(jnp.asarray(leaf)) if hasattr(leaf, "dtype") else leaf

    def traced(*args: Any) -> Any:
        token = decisions.set({})
        try:
            return unwrapped(renamed(function)(*jax.tree.map(wrapped, args)))
        except (jax.errors.JAXTypeError, jax.errors.JAXIndexError) as error:
            raise Untraceable(str(error).partition("\n")[0]) from error
        finally:
            decisions.reset(token)

    return traced
