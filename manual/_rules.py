"""The type of a row in a table of ops: the forward pass, which returns (value, cache), and the backward pass."""

from collections.abc import Callable
from typing import Any

Rule = tuple[Callable[..., tuple[Any, Any]], Callable[..., Any]]
Rules = dict[str, Rule]
