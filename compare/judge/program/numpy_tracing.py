"""Lets JAX trace a function that is written in NumPy.

A user without a reference in JAX still has a loss in NumPy, because the hand-written function computes it together with
the gradients. To trace it, the function is called with `TracedArray` objects in place of its arrays. NumPy's protocols
`__array_ufunc__` and `__array_function__` pass every call with such an argument to this module, which calls JAX's
function of the same name. Item assignment and `out=` become functional updates of JAX arrays. Views behave as in NumPy:
writing into a view changes the array that it views, and writing into the array changes its views.

The traced function is a copy in which `np.zeros` and the like return traced arrays (see `numpy_names.py`).

Code that cannot be traced raises `Untraceable`: a branch on a value, a shape that depends on a value, code in C.
"""

import contextvars
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compare.errors import Untraceable

# Functions whose result has a shape that depends on the values of their arguments. JAX cannot trace these.
DEPENDS_ON_VALUES = ("argwhere", "bincount", "compress", "extract", "flatnonzero", "nonzero", "trim_zeros", "union1d",
                     "unique")  # fmt: skip
# Functions whose result is a view of their first argument, whatever its memory layout.
VIEWS = ("array_split", "atleast_1d", "atleast_2d", "atleast_3d", "broadcast_to", "diagonal", "dsplit", "expand_dims",
         "flip", "fliplr", "flipud", "hsplit", "matrix_transpose", "moveaxis", "permute_dims", "rollaxis", "rot90",
         "sliding_window_view", "split", "squeeze", "swapaxes", "transpose", "unstack", "vsplit")  # fmt: skip
# Functions whose result may not be contiguous in C order even if all their arguments are.
REORDER = ("einsum", "einsum_path", "cov", "corrcoef")
# Functions that compute in float64 if their argument holds integers or booleans.
AVERAGES = ("average", "mean", "median", "percentile", "quantile", "std", "var")
# The value of the entries that a mask leaves out. It lies in the domain of log, sqrt, 1/x and arcsin, so that their
# gradients stay finite.
FILLING = 0.5

# The boolean results of the current trace, by ufunc and operands. A comparison that is repeated with the same operands
# returns the same array, so that `x[x > 0] = f(x[x > 0])` uses one mask.
decisions: contextvars.ContextVar[dict[Any, Any]] = contextvars.ContextVar("decisions")


class TracedArray(np.lib.mixins.NDArrayOperatorsMixin):
    """Replaces a NumPy array, or an immutable NumPy scalar, while JAX traces the function.

    Args:
        value: the JAX array; None for a view.
        layout: a NumPy array with the memory layout that NumPy's array would have; None if the layout is unknown.
        scalar: whether NumPy would return a scalar here and not an array.
        owner: for a view, the array that it views.
        read: for a view, returns the view's value, given the owner's value.
        write: for a view, returns the owner's new value, given the owner's value and the view's new value.
    """

    __array_priority__ = 1000

    def __init__(
        self,
        value: Any = None,
        *,
        layout: np.ndarray | None = None,
        scalar: bool = False,
        owner: "TracedArray | None" = None,
        read: Any = None,
        write: Any = None,
    ) -> None:
        self._value, self._owner, self._read, self._write = value, owner, read, write
        self._layout, self._scalar = layout, scalar
        self._unsure = False  # whether it is unknown if this array shares memory with another one

    @classmethod
    def new(cls, value: Any) -> "TracedArray":
        """An array that is no view and is contiguous in C order."""
        return cls(value, layout=_in_order(value.shape))

    @property
    def value(self) -> Any:
        return self._value if self._owner is None else self._read(self._owner.value)

    @value.setter
    def value(self, value: Any) -> None:
        if self._unsure:
            raise Untraceable("it writes into an array that may share memory with another, depending on memory layout")
        if self._owner is None:
            self._value = value
        else:
            self._owner.value = self._write(self._owner.value, value)

    def _view(self, read: Callable[[Any], Any], write: Callable[[Any, Any], Any], like: Any = None) -> "TracedArray":
        """A view of this array.

        Args:
            read: see the class.
            write: see the class.
            like: returns the same view of the array's layout; `read` by default.
        """
        layout = None if self._layout is None else (like or read)(self._layout)
        view = TracedArray(owner=self, read=read, write=write, layout=layout)
        view._unsure = self._unsure
        return view

    # ------------------------------------------------------------------ attributes of NumPy's arrays

    shape = property(lambda self: tuple(self.value.shape))
    ndim = property(lambda self: self.value.ndim)
    size = property(lambda self: int(np.prod(self.value.shape)))
    dtype = property(lambda self: np.dtype(self.value.dtype))
    itemsize = property(lambda self: self.dtype.itemsize)
    nbytes = property(lambda self: self.size * self.itemsize)
    T = property(lambda self: self.transpose())
    mT = property(lambda self: self.swapaxes(-1, -2))  # noqa: N815  # NumPy's name

    @property
    def real(self) -> "TracedArray":
        if self.dtype.kind != "c":
            return self
        return self._view(jnp.real, lambda value, new: jax.lax.complex(new, jnp.imag(value)), np.real)

    @property
    def imag(self) -> "TracedArray":
        if self.dtype.kind != "c":
            return TracedArray.new(jnp.zeros_like(self.value))
        return self._view(jnp.imag, lambda value, new: jax.lax.complex(jnp.real(value), new), np.real)

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"<a traced array of shape {self.shape}, {self.dtype}>"

    def __format__(self, _: str) -> str:
        return repr(self)

    def _needs_numbers(self, *_: Any, **__: Any) -> Any:
        raise Untraceable("it needs the value of an array, which a trace does not have")

    __bool__ = __float__ = __int__ = __index__ = __complex__ = tolist = nonzero = tobytes = _needs_numbers
    __hash__ = None  # type: ignore[assignment]  # NumPy's arrays are not hashable either

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise Untraceable("it passes an array to code outside NumPy, or writes traced values into an untraced array")

    def item(self, *index: Any) -> "TracedArray":
        """The only entry, or the entry at an index, as a traced scalar."""
        if not index:
            return TracedArray(self.value.reshape(()), scalar=True)
        place = index[0] if len(index) == 1 else index
        whole = self.value if isinstance(place, tuple) else self.value.ravel()
        return TracedArray(whole[place], scalar=True)

    # ------------------------------------------------------------------ items

    def __getitem__(self, index: Any) -> Any:
        index = _index(index)
        if _is_mask(index):
            return Picked(self.value, index)
        if not _is_basic(index):
            return TracedArray(self.value[index])
        if _is_one_entry(index, self.ndim):
            return TracedArray(self.value[index], scalar=True)
        return self._view(
            lambda value: value[index],
            lambda value, new: value.at[index].set(new),
            lambda layout: layout[_without_traced(index)],
        )

    def __setitem__(self, index: Any, new: Any) -> None:
        index = _index(index)
        if isinstance(new, Picked):
            if not _is_mask(index) or index is not new.mask:
                raise Untraceable("it selects entries by one mask and assigns them by another")
            self.value = jnp.where(_spread(index, self.ndim), new.value.astype(self.dtype), self.value)
            return
        new = jnp.asarray(unwrapped(new)).astype(self.dtype)
        if not _is_mask(index):
            self.value = self.value.at[index].set(new)
        elif new.ndim == 0:
            self.value = jnp.where(_spread(index, self.ndim), new, self.value)
        else:
            raise Untraceable("it assigns an array to entries selected by a mask, whose number depends on values")

    # ------------------------------------------------------------------ methods of NumPy's arrays

    def reshape(self, *shape: Any, order: str = "C", copy: bool | None = None) -> "TracedArray":
        if order != "C":
            raise Untraceable("it reshapes an array in an order other than C order")
        to = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape
        found = self._view(lambda value: value.reshape(to), lambda value, new: new.reshape(value.shape))
        if self._layout is None and not copy:  # NumPy returns a view or a copy, depending on the unknown layout
            found = TracedArray(found.value)
            found._unsure = self._unsure = True
        elif copy or (self.size and not np.may_share_memory(found._layout, self._layout)):
            return TracedArray.new(found.value)
        return found

    def ravel(self, order: str = "C") -> "TracedArray":
        return self.reshape(-1, order=order)

    def flatten(self, order: str = "C") -> "TracedArray":
        if order != "C":
            raise Untraceable("it flattens an array in an order other than C order")
        return TracedArray.new(self.value.reshape(-1))

    def transpose(self, *axes: Any) -> "TracedArray":
        order = axes[0] if len(axes) == 1 and isinstance(axes[0], tuple | list) else axes
        order = tuple(order) if order and order[0] is not None else tuple(reversed(range(self.ndim)))
        back = tuple(int(i) for i in np.argsort([axis % self.ndim for axis in order]))
        return self._view(lambda value: value.transpose(order), lambda _, new: new.transpose(back))

    def swapaxes(self, one: int, other: int) -> "TracedArray":
        return self._view(lambda value: value.swapaxes(one, other), lambda _, new: new.swapaxes(one, other))

    def squeeze(self, axis: Any = None) -> "TracedArray":
        return _viewed(np.squeeze, self, (), {"axis": axis})

    def diagonal(self, *args: Any, **options: Any) -> "TracedArray":
        return _viewed(np.diagonal, self, args, options)

    def copy(self, order: str = "C") -> "TracedArray":
        value = self.value
        return TracedArray(value, layout=_in_order(value.shape) if order == "C" else None, scalar=self._scalar)

    __copy__ = copy

    def __deepcopy__(self, _: Any) -> "TracedArray":
        return self.copy()

    def astype(self, dtype: Any, order: str = "K", copy: bool = True, **_: Any) -> "TracedArray":
        if not copy and self.dtype == np.dtype(dtype):
            return self
        in_order = order == "C" or _lies_in_order(self)
        value = self.value.astype(_known(dtype))
        return TracedArray(value, layout=_in_order(value.shape) if in_order else None, scalar=self._scalar)

    def fill(self, value: Any) -> None:
        self[...] = value

    def sort(self, axis: int = -1) -> None:
        self.value = jnp.sort(self.value, axis=axis)

    def clip(self, min: Any = None, max: Any = None, out: Any = None) -> Any:
        return _clip(self, min, max, out=out)

    def conj(self) -> Any:
        return np.conjugate(self)

    conjugate = conj

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(np.ndarray, name):
            raise AttributeError(f"a NumPy array has no attribute {name!r}")
        method = getattr(_averaged(name, self).value, name, None)
        if not callable(method) or name in ("view", "at", "put", "set"):
            raise Untraceable(f"it uses the array attribute {name}, which JAX does not have")

        def called(*args: Any, out: Any = None, **options: Any) -> Any:
            return _given(
                method(*in_known_dtypes(args), **in_known_dtypes(options)), out, in_order=_lies_in_order(self)
            )

        return called

    # ------------------------------------------------------------------ NumPy's protocols

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if any(isinstance(value, Picked) for value in inputs):
            return NotImplemented  # NumPy then calls `Picked.__array_ufunc__`
        return _ufunc(ufunc, method, inputs, **options)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        name = function.__name__
        if any(issubclass(kind, Picked) for kind in types):
            raise Untraceable(f"it uses np.{name} on entries selected by a mask")
        if name in OWN:
            return OWN[name](*args, **options)
        if name in VIEWS and _is_traced(args[0]):
            return _viewed(function, args[0], args[1:], options)
        if name == "einsum" and len(args) == 2 and _is_traced(args[1]):
            empty = np.empty(args[1].shape)  # NumPy's einsum of one operand returns a view if it sums over nothing
            if np.may_share_memory(np.einsum(args[0], empty), empty):
                return _viewed(lambda array: np.einsum(args[0], array), args[1], (), {})
        if name in DEPENDS_ON_VALUES or (name == "where" and len(args) == 1):
            raise Untraceable(f"it uses np.{name}, whose result has a shape that depends on values")
        if options.get("copy") is False:
            raise Untraceable(f"it uses np.{name} with copy=False")
        module = function.__module__.removeprefix("numpy").strip(".").removesuffix("._linalg")
        home = jnp.linalg if "linalg" in module else jnp.fft if "fft" in module else jnp
        replacement = getattr(home, name, None)
        if replacement is None:
            raise Untraceable(f"it uses np.{name}, which JAX does not have")
        out = options.pop("out", None)
        args = tuple(_averaged(name, value) for value in args)
        given, named = in_known_dtypes(args), in_known_dtypes(options)
        try:
            result = replacement(*given, **named)
        except TypeError:  # JAX's functions do not accept lists of numbers
            result = replacement(*map(_listed, given), **{key: _listed(value) for key, value in named.items()})
        in_order = home is jnp and name not in REORDER and all(map(_lies_in_order, _arrays((args, options))))
        return _given(result, out, in_order)


def _in_place(name: str) -> Callable[..., Any]:
    plain = getattr(np.lib.mixins.NDArrayOperatorsMixin, f"__{name}__")
    changing = getattr(np.lib.mixins.NDArrayOperatorsMixin, f"__i{name}__")

    def operator(self: TracedArray, other: Any) -> Any:
        return plain(self, other) if self._scalar else changing(self, other)

    return operator


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor"):
    setattr(TracedArray, f"__i{_name}__", _in_place(_name))


class Picked(np.lib.mixins.NDArrayOperatorsMixin):
    """The entries `x[mask]` that a mask selects. A trace knows their positions, but not their number.

    They are kept as an array of the shape of `x`, in which the entries that are not selected have the value FILLING.
    Ufuncs combine them with numbers and with entries selected by the same mask. They can be summed or averaged, and
    assigned to entries selected by the same mask.

    Args:
        whole: the JAX array `x`.
        mask: the JAX array of booleans, for the first axes of `x`.
    """

    __array_priority__ = 2000

    def __init__(self, whole: Any, mask: Any) -> None:
        self.mask = mask
        self.value = jnp.where(_spread(mask, whole.ndim), whole, jnp.asarray(FILLING).astype(whole.dtype))

    dtype = property(lambda self: np.dtype(self.value.dtype))
    __hash__ = None  # type: ignore[assignment]  # NumPy's arrays are not hashable either

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        if method != "__call__" or options or ufunc.nout != 1:
            raise Untraceable(f"it uses np.{ufunc.__name__}.{method} on entries selected by a mask")
        for value in inputs:
            if isinstance(value, Picked):
                if value.mask is not self.mask:
                    raise Untraceable("it combines entries selected by two masks, whose numbers depend on values")
            elif np.ndim(value) != 0:
                raise Untraceable(
                    "it combines an array with entries selected by a mask, whose number depends on values"
                )
        whole = [TracedArray(value.value) if isinstance(value, Picked) else value for value in inputs]
        value = _ufunc(ufunc, method, tuple(whole)).value
        if out is not None:
            (target,) = out
            if target is not self:
                raise Untraceable("it writes entries selected by a mask into another array")
            self.value = value.astype(self.dtype)
            return self
        return Picked(value, self.mask)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        if function.__name__ not in ("sum", "mean") or len(args) != 1 or options:
            raise Untraceable(f"it uses np.{function.__name__} on entries selected by a mask")
        return getattr(self, function.__name__)()

    def sum(self) -> TracedArray:
        return TracedArray(jnp.sum(self.value, where=_spread(self.mask, self.value.ndim)), scalar=True)

    def mean(self) -> TracedArray:
        return TracedArray(jnp.mean(self.value, where=_spread(self.mask, self.value.ndim)), scalar=True)

    def copy(self) -> "Picked":
        return Picked(self.value, self.mask)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise Untraceable(f"it uses the attribute {name} of entries selected by a mask, whose number depends on values")

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise Untraceable("it selects entries by a mask, and their number depends on values")

    __len__ = __iter__ = __getitem__ = __bool__ = __float__ = __setitem__ = __array__


# ------------------------------------------------------------------------------------------------ ufuncs


def _ufunc(
    ufunc: Any, method: str, inputs: tuple[Any, ...], *, out: Any = None, where: Any = True, **options: Any
) -> Any:
    options = {key: value for key, value in options.items() if key not in ("casting", "order", "subok")}
    options = in_known_dtypes(options)
    if method == "at":
        return _at(ufunc, *inputs)
    function = _of_jax(ufunc.__name__)
    if method != "__call__":
        function = getattr(function, method, None)
        if where is not True:
            options["where"], where = unwrapped(where), True
    if function is None:
        raise Untraceable(f"it uses {ufunc.__name__}.{method}, which JAX does not have")
    given = unwrapped(inputs)
    dtype = options.pop("dtype", None) if method == "__call__" else None
    key = (ufunc, method, *map(_identity, given)) if out is None and where is True and not options else None
    known = decisions.get({})
    if key in known:
        result = known[key][0]
    else:
        result = _promoted(ufunc, function, given, dtype) if method == "__call__" and not options else None
        result = function(*map(_listed, given), **options) if result is None else result
        if getattr(result, "dtype", None) == np.bool_:
            known[key] = (result, given)  # the operands are kept alive, because the key contains their identities
    if dtype is not None:
        result = jax.tree.map(lambda value: value.astype(_known(dtype)), result)
    outs = out if isinstance(out, tuple) else (out,)
    if where is not True:
        before = jnp.zeros_like(result) if outs[0] is None else unwrapped(outs[0])
        result = jnp.where(unwrapped(where), result, before)
    in_order = all(map(_lies_in_order, _arrays(inputs)))
    if isinstance(result, tuple | list):
        return tuple(_given(value, one, in_order) for value, one in itertools.zip_longest(result, outs[: len(result)]))
    return _given(result, outs[0], in_order)


def _promoted(ufunc: Any, function: Callable[..., Any], given: tuple[Any, ...], dtype: Any) -> Any:
    """The ufunc's result in the dtype that NumPy promotes the operands to, which differs from JAX's in some cases.

    None if NumPy has no loop for these operands, or if an operand has no dtype.
    """
    kinds = [type(x) if type(x) in (int, float, complex) else getattr(_listed(x), "dtype", None) for x in given]
    kinds = [np.dtype(bool) if type(x) is bool else kind for x, kind in zip(given, kinds, strict=True)]
    if None in kinds:
        return None
    try:
        loop = ufunc.resolve_dtypes((*kinds, *(None,) * ufunc.nout))
    except (TypeError, ValueError):
        return None
    if any(one.kind not in "biufcV" for one in loop):
        return None
    # Python numbers are not cast: JAX computes x**2 as a product, but x**2.0 as a power, whose perturbed exponent would
    # change the result.
    values = [x if type(x) in (int, float, complex) else _cast(x, one) for x, one in zip(given, loop, strict=False)]
    result = function(*values)
    outputs = loop[ufunc.nin :]
    if isinstance(result, tuple | list):
        return tuple(value.astype(_known(one)) for value, one in zip(result, outputs, strict=True))
    return result.astype(_known(outputs[0]))


def _cast(value: Any, dtype: np.dtype) -> Any:
    return value.astype(_known(dtype)) if isinstance(value, jax.Array) else np.asarray(value).astype(_known(dtype))


def _identity(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | complex) else id(value)


def _of_jax(name: str) -> Any:
    """JAX's function with the name of a ufunc of NumPy or SciPy."""
    for home in (jnp, jax.scipy.special):
        if hasattr(home, name):
            return getattr(home, name)
    raise Untraceable(f"it uses {name}, which JAX does not have")


def _at(ufunc: Any, target: Any, index: Any, *values: Any) -> None:
    """`np.add.at(target, index, values)` and the like: a repeated index is updated once for each repetition."""
    if not _is_traced(target):
        raise Untraceable("it writes traced values into an untraced array")
    methods = {"add": "add", "subtract": "add", "multiply": "multiply", "maximum": "max", "minimum": "min"}
    if ufunc.__name__ not in methods:
        raise Untraceable(f"it uses np.{ufunc.__name__}.at, which JAX does not have")
    new = jnp.asarray(unwrapped(values[0])).astype(target.dtype)
    place = target.value.at[_index(index)]
    target.value = getattr(place, methods[ufunc.__name__])(-new if ufunc.__name__ == "subtract" else new)


# ------------------------------------------------------------------------------------------------ helpers


def _is_traced(value: Any) -> bool:
    return isinstance(value, TracedArray)


def unwrapped(tree: Any) -> Any:
    """Replaces each traced array in a tree of tuples, lists and dicts by its JAX array.

    Args:
        tree: a value, or tuples, named tuples, lists and dicts of values.

    Returns:
        The same tree. Values that are not traced are returned unchanged.

    Raises:
        Untraceable: if the tree contains entries that a mask selects, because their number is unknown.
    """
    if _is_traced(tree):
        return tree.value
    if isinstance(tree, Picked):
        return tree.__array__()
    if type(tree) in (tuple, list):
        return type(tree)(map(unwrapped, tree))
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*map(unwrapped, tree))
    if type(tree) is dict:
        return {key: unwrapped(value) for key, value in tree.items()}
    return tree


def in_known_dtypes(tree: Any) -> Any:
    """The arguments of a call for JAX: unwrapped, and with 64-bit dtypes replaced where JAX is set to 32 bits.

    Args:
        tree: a tuple of positional arguments, or a dict of keyword arguments.

    Returns:
        A tuple or a dict of the same length.
    """
    tree = unwrapped(tree)
    if isinstance(tree, dict):
        return {key: _known(value) if key == "dtype" and value is not None else value for key, value in tree.items()}
    return tuple(_known(value) if isinstance(value, np.dtype | type) else value for value in tree)


def _averaged(name: str, value: Any) -> Any:
    """The argument of a function. Integers become float64 if the function is one that NumPy computes in float64."""
    whole = name in AVERAGES and _is_traced(value) and value.dtype.kind in "biu"
    return value.astype(float) if whole else value


def _known(dtype: Any) -> np.dtype:
    """The dtype that JAX uses for a NumPy dtype: a 32-bit one for a 64-bit one if `jax_enable_x64` is off."""
    return jax.dtypes.canonicalize_dtype(np.dtype(dtype))


def _in_order(shape: tuple[int, ...]) -> np.ndarray:
    return np.empty(shape, np.uint8)  # it is never written, so that the system provides no memory for it


def _lies_in_order(array: Any) -> bool:
    if isinstance(array, np.ndarray):
        return array.flags.c_contiguous
    return array._scalar or not array.ndim or (array._layout is not None and array._layout.flags.c_contiguous)


def _arrays(tree: Any) -> Any:
    """The arrays among arguments, both traced and untraced."""
    if isinstance(tree, tuple | list):
        return [array for part in tree for array in _arrays(part)]
    if isinstance(tree, dict):
        return _arrays(list(tree.values()))
    return [tree] if isinstance(tree, TracedArray | np.ndarray) else []


def _listed(value: Any) -> Any:
    """A list of numbers as an array; any other value unchanged."""
    return jnp.asarray(value) if isinstance(value, list) else value


def _given(result: Any, out: Any, in_order: bool = False) -> Any:
    """The result of a JAX function as traced arrays, written into `out` if it is not None.

    `in_order` says whether NumPy's result would be contiguous in C order.
    """
    if isinstance(out, tuple):
        (out,) = out
    if out is not None:
        if not _is_traced(out):
            raise Untraceable("it writes traced values into an untraced array")
        out.value = jnp.broadcast_to(result, out.shape).astype(out.dtype)
        return out
    if isinstance(result, jax.Array):
        layout = _in_order(result.shape) if in_order else None
        return TracedArray(result, layout=layout, scalar=not result.ndim)
    if isinstance(result, tuple) and hasattr(result, "_fields"):
        return type(result)(*(_given(part, None) for part in result))
    return type(result)(_given(part, None) for part in result) if isinstance(result, tuple | list) else result


def _viewed(function: Callable[..., Any], array: TracedArray, args: Any, options: Any) -> Any:
    """The view, or the sequence of views, that a NumPy function such as `np.split` returns for a traced array.

    The function is applied to an array of positions, which says which entries of the array each view contains.
    """

    def numbered(shape: tuple[int, ...]) -> Any:
        return function(np.arange(math.prod(shape)).reshape(shape), *args, **options)

    def chosen(found: Any, number: int | None) -> Any:
        return found if number is None else found[number]

    def view(number: int | None) -> TracedArray:
        def read(value: Any) -> Any:
            places = chosen(numbered(value.shape), number)
            return value.reshape(-1)[places.reshape(-1)].reshape(places.shape)

        def write(value: Any, new: Any) -> Any:
            places = chosen(numbered(value.shape), number)
            return value.reshape(-1).at[places.reshape(-1)].set(new.reshape(-1)).reshape(value.shape)

        return array._view(read, write, lambda layout: chosen(function(layout, *args, **options), number))

    found = numbered(array.shape)
    return type(found)(map(view, range(len(found)))) if isinstance(found, tuple | list) else view(None)


def _index(index: Any) -> Any:
    """An index in a form that JAX accepts, with arrays in place of lists and ranges."""
    if isinstance(index, tuple):
        return tuple(map(_index, index))
    if isinstance(index, list | range):
        return jnp.asarray(unwrapped(index)) if holds_traced(index) else np.asarray(index)
    return unwrapped(index)


def _is_mask(index: Any) -> bool:
    return isinstance(index, jax.Array) and index.dtype == np.bool_


def _is_whole(part: Any) -> bool:
    if isinstance(part, jax.Array | np.ndarray):
        return not part.ndim and np.issubdtype(part.dtype, np.integer)
    return isinstance(part, int | np.integer) and not isinstance(part, bool)


def _is_basic(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return all(part is None or part is Ellipsis or isinstance(part, slice) or _is_whole(part) for part in parts)


def _is_one_entry(index: Any, ndim: int) -> bool:
    """Whether the index selects one entry. NumPy then returns a scalar, which is not a view."""
    parts = index if isinstance(index, tuple) else (index,)
    return len(parts) == ndim and all(map(_is_whole, parts))


def _without_traced(index: Any) -> Any:
    """The index with traced integers replaced by 0: the memory layout of the view does not depend on them."""
    parts = index if isinstance(index, tuple) else (index,)
    return tuple(0 if isinstance(part, jax.Array) else part for part in parts)


def _spread(mask: Any, ndim: int) -> Any:
    """The mask with axes of length 1 added at the end, so that it broadcasts against an array of `ndim` axes."""
    return jnp.reshape(mask, mask.shape + (1,) * (ndim - mask.ndim))


def holds_traced(tree: Any) -> bool:
    """Whether a tree of tuples, lists and dicts contains a traced array or entries selected by a mask."""
    if isinstance(tree, dict):
        return any(map(holds_traced, tree.values()))
    return any(map(holds_traced, tree)) if isinstance(tree, tuple | list) else isinstance(tree, TracedArray | Picked)


# ------------------------------------------------------------------------------------------------ NumPy's functions


def _copyto(target: TracedArray, values: Any, where: Any = True, **_: Any) -> None:
    new = jnp.broadcast_to(jnp.asarray(unwrapped(values)), target.shape)
    target.value = jnp.where(unwrapped(where), new, target.value).astype(target.dtype)


def _put_along_axis(target: TracedArray, indices: Any, values: Any, axis: int) -> None:
    target.value = jnp.put_along_axis(target.value, unwrapped(indices), unwrapped(values), axis, inplace=False)


def _fill_diagonal(target: TracedArray, value: Any, wrap: bool = False) -> None:
    target.value = jnp.fill_diagonal(target.value, unwrapped(value), wrap=wrap, inplace=False)


def _clip(array: Any, low: Any = None, high: Any = None, out: Any = None, **names: Any) -> Any:
    low, high = names.pop("a_min", names.pop("min", low)), names.pop("a_max", names.pop("max", high))
    if names:
        raise Untraceable(f"it uses np.clip with {', '.join(names)}")
    result = array if low is None else np.maximum(array, low)
    result = result if high is None else np.minimum(result, high)
    return _given(unwrapped(result), out, _lies_in_order(result))


def _diag(array: TracedArray, k: int = 0) -> TracedArray:
    return _viewed(np.diagonal, array, (k,), {}) if array.ndim == 2 else TracedArray.new(jnp.diag(array.value, k))


def _like(make: Callable[..., Any]) -> Callable[..., Any]:
    def made(model: Any, *args: Any, dtype: Any = None, shape: Any = None, **_: Any) -> TracedArray:
        value = make(unwrapped(model), *unwrapped(args), dtype=dtype and _known(dtype), shape=shape)
        return TracedArray(value, layout=_in_order(value.shape) if shape or _lies_in_order(model) else None)

    return made


# Functions of NumPy's protocol for which JAX has no function of the same name with the same behavior.
OWN: dict[str, Callable[..., Any]] = {
    "shape": lambda array: array.shape,
    "ndim": lambda array: array.ndim,
    "size": lambda array, axis=None: array.size if axis is None else array.shape[axis],
    "copy": lambda array, **_: array.copy(),
    "real": lambda array: array.real,
    "imag": lambda array: array.imag,
    "reshape": lambda array, shape, **options: array.reshape(shape, **options),
    "ravel": lambda array, **options: array.ravel(**options),
    "transpose": lambda array, axes=None: array.transpose(*(axes or ())),
    "swapaxes": lambda array, one, other: array.swapaxes(one, other),
    "clip": _clip,
    "diag": _diag,
    "copyto": _copyto,
    "put_along_axis": _put_along_axis,
    "fill_diagonal": _fill_diagonal,
    "zeros_like": _like(jnp.zeros_like),
    "ones_like": _like(jnp.ones_like),
    "empty_like": _like(jnp.zeros_like),
    "full_like": _like(jnp.full_like),
}
