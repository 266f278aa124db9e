"""How a table holds an op: the forward, which returns the value and a cache, and the backward."""

from collections.abc import Callable
from typing import Any

Rule = tuple[Callable[..., tuple[Any, Any]], Callable[..., Any]]
Rules = dict[str, Rule]
