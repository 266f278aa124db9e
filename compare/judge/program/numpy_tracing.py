"""A function written in NumPy, traced by JAX through NumPy's own protocols.

Whoever has no loss in JAX has one in NumPy: the hand-written function computes it beside the gradients. Its arrays are
stood in for by `TracedArray`, to which NumPy hands every ufunc and every function that it is given one of
(`__array_ufunc__`, `__array_function__`). Item assignment and `out=` become functional updates, views included.

Arrays that the function makes itself, by `np.zeros`, say, could not take in traced numbers. So the function is called
in a copy of its module's names in which `np` makes traced arrays, too. Nothing of the module or of NumPy is changed.

What cannot be traced says so by `Untraceable`: a decision on a value, a shape that depends on one, code in C.
"""

import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compare.pytrees import Pytree

Array = Any

# Functions that make arrays; what they make must be able to take in traced numbers.
MAKERS = ("array", "asarray", "ascontiguousarray", "asfortranarray", "asanyarray", "copy", "empty", "eye", "full",
          "full_like", "identity", "ones", "ones_like", "zeros", "zeros_like", "empty_like")  # fmt: skip
# Functions whose result has a shape that depends on values, or that JAX has not, or that write into an argument.
DEPENDS_ON_VALUES = ("argwhere", "extract", "flatnonzero", "nonzero", "trim_zeros", "union1d", "unique")


class Untraceable(TypeError):
    """The function does something that only numbers can tell."""


class TracedArray(np.lib.mixins.NDArrayOperatorsMixin):
    """Stands in the place of a NumPy array. `value` is JAX's; of a view, it is read from the array that it views."""

    __array_priority__ = 1000

    def __init__(
        self, value: Any = None, owner: "TracedArray | None" = None, read: Any = None, write: Any = None
    ) -> None:
        self._value, self._owner, self._read, self._write = value, owner, read, write

    @property
    def value(self) -> Any:
        return self._value if self._owner is None else self._read(self._owner.value)

    @value.setter
    def value(self, value: Any) -> None:
        if self._owner is None:
            self._value = value
        else:
            self._owner.value = self._write(self._owner.value, value)

    def view(self, read: Callable[[Any], Any], write: Callable[[Any, Any], Any]) -> "TracedArray":
        return TracedArray(owner=self, read=read, write=write)

    # ------------------------------------------------------------------ what an array knows of itself

    shape = property(lambda self: tuple(self.value.shape))
    ndim = property(lambda self: self.value.ndim)
    size = property(lambda self: int(np.prod(self.value.shape)))
    dtype = property(lambda self: np.dtype(self.value.dtype))
    itemsize = property(lambda self: self.dtype.itemsize)
    T = property(lambda self: self.transpose())
    real = property(lambda self: TracedArray(jnp.real(self.value)))
    imag = property(lambda self: TracedArray(jnp.imag(self.value)))

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"<a traced array of shape {self.shape}, {self.dtype}>"

    def _needs_numbers(self, *_: Any, **__: Any) -> Any:
        raise Untraceable("it asks for the number that an array holds")

    __bool__ = __float__ = __int__ = __index__ = __complex__ = item = tolist = nonzero = tobytes = _needs_numbers
    __hash__ = None  # type: ignore[assignment]  # as arrays have none

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise Untraceable("it hands an array to code that is not NumPy's, or writes traced numbers into another array")

    # ------------------------------------------------------------------ items

    def __getitem__(self, index: Any) -> "TracedArray":
        index = _index(index)
        if _is_mask(index):
            raise Untraceable("it picks entries by a mask, and how many depends on values")
        if not _is_basic(index):
            return TracedArray(self.value[index])
        return self.view(lambda value: value[index], lambda value, new: value.at[index].set(new))

    def __setitem__(self, index: Any, new: Any) -> None:
        index, new = _index(index), jnp.asarray(unwrapped(new)).astype(self.dtype)
        if not _is_mask(index):
            self.value = self.value.at[index].set(new)
        elif new.ndim == 0:
            mask = jnp.reshape(index, index.shape + (1,) * (self.ndim - index.ndim))
            self.value = jnp.where(mask, new, self.value)
        else:
            raise Untraceable("it assigns an array to entries picked by a mask, and how many depends on values")

    # ------------------------------------------------------------------ methods that NumPy's arrays have

    def reshape(self, *shape: Any, order: str = "C") -> "TracedArray":
        if order != "C":
            raise Untraceable("it reshapes in another order than C's")
        to = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape
        return self.view(lambda value: value.reshape(to), lambda value, new: new.reshape(value.shape))

    def ravel(self, order: str = "C") -> "TracedArray":
        return self.reshape(-1, order=order)

    def flatten(self, order: str = "C") -> "TracedArray":
        return self.ravel(order).copy()

    def transpose(self, *axes: Any) -> "TracedArray":
        order = axes[0] if len(axes) == 1 and isinstance(axes[0], tuple | list) else axes
        order = tuple(order) if order and order[0] is not None else tuple(reversed(range(self.ndim)))
        back = tuple(int(i) for i in np.argsort([axis % self.ndim for axis in order]))
        return self.view(lambda value: value.transpose(order), lambda _, new: new.transpose(back))

    def swapaxes(self, one: int, other: int) -> "TracedArray":
        return self.view(lambda value: value.swapaxes(one, other), lambda _, new: new.swapaxes(one, other))

    def copy(self, order: str = "C") -> "TracedArray":
        return TracedArray(self.value)

    def astype(self, dtype: Any, **_: Any) -> "TracedArray":
        return TracedArray(self.value.astype(dtype))

    def fill(self, value: Any) -> None:
        self[...] = value

    def sort(self, axis: int = -1) -> None:
        self.value = jnp.sort(self.value, axis=axis)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(np.ndarray, name):
            raise AttributeError(f"a NumPy array has no attribute {name!r}")
        method = getattr(self.value, name, None)
        if not callable(method):
            raise Untraceable(f"it uses the arrays' {name}, which JAX does not have")

        def called(*args: Any, out: Any = None, **options: Any) -> Any:
            return _given(method(*unwrapped(args), **unwrapped(options)), out)

        return called

    # ------------------------------------------------------------------ NumPy's protocols

    def __array_ufunc__(
        self, ufunc: Any, method: str, *inputs: Any, out: Any = None, where: Any = True, **options: Any
    ) -> Any:
        options = unwrapped({key: value for key, value in options.items() if key not in ("casting", "order", "subok")})
        if method == "at":
            return _at(ufunc, *inputs)
        function = _of_jax(ufunc.__name__)
        if method != "__call__":
            function = getattr(function, method, None)
        if function is None:
            raise Untraceable(f"it uses {ufunc.__name__}.{method}, which JAX does not have")
        given = unwrapped(inputs)
        dtype = options.pop("dtype", None) if method == "__call__" else None
        result = function(*given, **options)
        if dtype is not None:
            result = jax.tree.map(lambda value: value.astype(dtype), result)
        outs = out if isinstance(out, tuple) else (out,)
        if where is not True:
            before = outs[0].value if outs[0] is not None else jnp.zeros_like(result)
            result = jnp.where(unwrapped(where), result, before)
        if isinstance(result, tuple):
            return tuple(_given(value, one) for value, one in zip(result, outs * len(result), strict=False))
        return _given(result, outs[0])

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        name = function.__name__
        if name in OWN:
            return OWN[name](*args, **options)
        if name in DEPENDS_ON_VALUES or (name == "where" and len(args) == 1):
            raise Untraceable(f"it uses np.{name}, whose result has a shape that depends on values")
        module = function.__module__.removeprefix("numpy").strip(".").removesuffix("._linalg")
        home = jnp.linalg if "linalg" in module else jnp.fft if "fft" in module else jnp
        replacement = getattr(home, name, None)
        if replacement is None:
            raise Untraceable(f"it uses np.{name}, which JAX does not have")
        out = options.pop("out", None)
        return _given(replacement(*unwrapped(args), **unwrapped(options)), out)


def _is_traced(value: Any) -> bool:
    return isinstance(value, TracedArray)


def unwrapped(tree: Any) -> Any:
    """JAX's arrays in the place of traced ones, in tuples, lists and dicts."""
    if _is_traced(tree):
        return tree.value
    if type(tree) in (tuple, list):
        return type(tree)(map(unwrapped, tree))
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*map(unwrapped, tree))
    if type(tree) is dict:
        return {key: unwrapped(value) for key, value in tree.items()}
    return tree


def _given(result: Any, out: Any) -> Any:
    """A result of JAX's as NumPy would give it: traced, and in the place of `out`."""
    if isinstance(out, tuple):
        (out,) = out
    if out is not None:
        if not _is_traced(out):
            raise Untraceable("it writes traced numbers into another array")
        out.value = jnp.broadcast_to(result, out.shape).astype(out.dtype)
        return out
    if isinstance(result, jax.Array):
        return TracedArray(result)
    if isinstance(result, tuple) and hasattr(result, "_fields"):
        return type(result)(*(_given(part, None) for part in result))
    return type(result)(_given(part, None) for part in result) if isinstance(result, tuple | list) else result


def _of_jax(name: str) -> Any:
    """JAX's function for a ufunc of NumPy's or SciPy's."""
    for home in (jnp, jax.scipy.special):
        if hasattr(home, name):
            return getattr(home, name)
    raise Untraceable(f"it uses {name}, which JAX does not have")


def _index(index: Any) -> Any:
    """An index as JAX takes it: without lists."""
    if isinstance(index, tuple):
        return tuple(map(_index, index))
    return np.asarray(index) if isinstance(index, list) and not _holds_traced(index) else unwrapped(index)


def _is_mask(index: Any) -> bool:
    return isinstance(index, jax.Array) and index.dtype == np.bool_


def _is_basic(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return all(part is None or part is Ellipsis or isinstance(part, int | np.integer | slice) for part in parts)


def _at(ufunc: Any, target: Any, index: Any, *values: Any) -> None:
    """`np.add.at(target, index, values)`, which counts repeated places as often as they are named."""
    if not _is_traced(target):
        raise Untraceable("it writes traced numbers into another array")
    methods = {"add": "add", "multiply": "multiply", "maximum": "max", "minimum": "min"}
    place = target.value.at[_index(index)]
    if ufunc.__name__ == "subtract":
        target.value = place.add(-unwrapped(values[0]))
    elif ufunc.__name__ in methods:
        target.value = getattr(place, methods[ufunc.__name__])(unwrapped(values[0]))
    else:
        raise Untraceable(f"it uses np.{ufunc.__name__}.at, which JAX does not have")


def _copyto(target: TracedArray, values: Any, where: Any = True, **_: Any) -> None:
    new = jnp.broadcast_to(unwrapped(values), target.shape)
    target.value = jnp.where(unwrapped(where), new, target.value).astype(target.dtype)


def _put_along_axis(target: TracedArray, indices: Any, values: Any, axis: int) -> None:
    target.value = jnp.put_along_axis(target.value, unwrapped(indices), unwrapped(values), axis, inplace=False)


def _fill_diagonal(target: TracedArray, value: Any, wrap: bool = False) -> None:
    target.value = jnp.fill_diagonal(target.value, unwrapped(value), wrap=wrap, inplace=False)


def _like(make: Callable[..., Any]) -> Callable[..., Any]:
    def made(model: Any, *args: Any, dtype: Any = None, shape: Any = None, **_: Any) -> TracedArray:
        return TracedArray(make(unwrapped(model), *unwrapped(args), dtype=dtype, shape=shape))

    return made


# Functions that NumPy's protocol hands over and JAX does not have under the same name, or not in the same way.
OWN: dict[str, Callable[..., Any]] = {
    "shape": lambda array: array.shape,
    "ndim": lambda array: array.ndim,
    "size": lambda array, axis=None: array.size if axis is None else array.shape[axis],
    "copy": lambda array, **_: array.copy(),
    "reshape": lambda array, shape, **options: array.reshape(shape, **options),
    "ravel": lambda array, **options: array.ravel(**options),
    "transpose": lambda array, axes=None: array.transpose(*(axes or ())),
    "swapaxes": lambda array, one, other: array.swapaxes(one, other),
    "copyto": _copyto,
    "put_along_axis": _put_along_axis,
    "fill_diagonal": _fill_diagonal,
    "zeros_like": _like(jnp.zeros_like),
    "ones_like": _like(jnp.ones_like),
    "empty_like": _like(jnp.zeros_like),
    "full_like": lambda model, value, dtype=None, shape=None, **_: TracedArray(
        jnp.full_like(unwrapped(model), unwrapped(value), dtype=dtype, shape=shape)
    ),
}


# ------------------------------------------------------------------------------- a namespace that makes traced arrays


class Namespace(types.ModuleType):
    """NumPy, but what makes arrays makes traced ones."""

    def __init__(self) -> None:
        super().__init__("numpy")

    def __getattr__(self, name: str) -> Any:
        original = getattr(np, name)
        return _making(original) if name in MAKERS else original


def _making(original: Callable[..., Any]) -> Callable[..., Any]:
    def made(*args: Any, **options: Any) -> Any:
        if _holds_traced((args, options)):
            if original.__name__ in OWN:
                return OWN[original.__name__](*args, **options)
            if original.__name__ in ("array", "asarray", "ascontiguousarray", "asfortranarray", "asanyarray"):
                return _as_array(args[0], original.__name__ == "array", options.get("dtype", (*args, None)[1]))
            return TracedArray(getattr(jnp, original.__name__)(*unwrapped(args), **unwrapped(options)))
        result = original(*args, **options)
        return (
            TracedArray(jnp.asarray(result))
            if isinstance(result, np.ndarray) and result.dtype.kind in "biufc"
            else result
        )

    return made


def _as_array(value: Any, copied: bool, dtype: Any) -> TracedArray:
    array = value if _is_traced(value) else TracedArray(jnp.array(unwrapped(value)))
    if dtype is not None and array.dtype != np.dtype(dtype):
        return array.astype(dtype)
    return array.copy() if copied else array


def _holds_traced(tree: Any) -> bool:
    if isinstance(tree, dict):
        return any(map(_holds_traced, tree.values()))
    return any(map(_holds_traced, tree)) if isinstance(tree, tuple | list) else _is_traced(tree)


def _renamed(function: Any, namespace: Namespace, seen: dict[int, Any]) -> Any:
    """The function in a copy of its module's names, in which NumPy is the namespace; other objects as they are."""
    if function is np:
        return namespace
    name = getattr(function, "__name__", "")
    if name in MAKERS and getattr(np, name, None) is function:
        return getattr(namespace, name)
    if isinstance(function, types.MethodType):
        return types.MethodType(_renamed(function.__func__, namespace, seen), function.__self__)
    if not isinstance(function, types.FunctionType) or _is_a_library_s(function):
        return function
    if id(function) in seen:
        return seen[id(function)]
    names = function.__globals__
    if id(names) not in seen:
        seen[id(names)] = copied = dict(names)
        copied.update({key: _renamed(value, namespace, seen) for key, value in names.items() if _may_use(value)})
    cells = function.__closure__ and tuple(map(types.CellType, (None,) * len(function.__closure__)))
    new = types.FunctionType(function.__code__, seen[id(names)], function.__name__, function.__defaults__, cells)
    new.__kwdefaults__ = function.__kwdefaults__
    seen[id(function)] = new
    for cell, original in zip(cells or (), function.__closure__ or (), strict=True):
        try:
            cell.cell_contents = _renamed(original.cell_contents, namespace, seen)
        except ValueError:  # a name that has no value yet
            continue
    return new


def _may_use(value: Any) -> bool:
    return value is np or isinstance(value, types.FunctionType | types.BuiltinFunctionType)


def _is_a_library_s(function: types.FunctionType) -> bool:
    """Whether it belongs to a package that is not the caller's: NumPy, SciPy, JAX, or us."""
    return (function.__module__ or "").partition(".")[0] in ("numpy", "scipy", "jax", "compare", "backproof")


def traceable(function: Callable[..., Any]) -> Callable[..., Any]:
    """A NumPy function as one that JAX can trace: of arrays, to whatever it returns, with JAX's arrays in it.

    Raises Untraceable, when it is called, for what only numbers can tell.
    """
    namespace = Namespace()

    def traced(*args: Pytree) -> Any:
        wrapped = jax.tree.map(lambda leaf: TracedArray(jnp.asarray(leaf)) if hasattr(leaf, "dtype") else leaf, args)
        try:
            return unwrapped(_renamed(function, namespace, {})(*wrapped))
        except (jax.errors.JAXTypeError, jax.errors.JAXIndexError) as error:
            raise Untraceable(str(error).partition("\n")[0]) from error

    return traced
