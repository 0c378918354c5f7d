"""The one place that words argument errors.

They all read `{name} must {requirement}, got {name}={value!r}. {What to do.}`
"""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Iterable
from typing import Any, NoReturn

import numpy as np

__all__ = [
    "check_array",
    "check_choice",
    "check_count",
    "check_fraction",
    "check_int",
    "check_number",
    "check_range",
    "check_type",
    "reject",
    "show_value",
    "suggest_name",
]


def reject(
    name: str, requirement: str, value: object, remedy: str = "", *, error: type[Exception] = ValueError
) -> NoReturn:
    """Raise the error that every wrong argument gets.

    Args:
        name: The argument, as the caller wrote it.
        requirement: What it must do or be: `"be at least 0"`.
        value: What was given.
        remedy: A full sentence that says what to do.
        error: `ValueError`, `TypeError` or one of `synthloader.errors`.
    """
    message = f"{name} must {requirement}, got {name}={show_value(value)}."
    raise error(f"{message} {remedy}" if remedy else message)


def show_value(value: object) -> str:
    """A short text of a value: arrays by shape and type, long texts cut."""
    if isinstance(value, np.ndarray) and value.size > 8:
        return f"<array of shape {value.shape}, {value.dtype}>"
    if type(value).__name__ == "Tensor":
        return f"<tensor of shape {tuple(getattr(value, 'shape', ()))}, {getattr(value, 'dtype', '')}>"
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."


def suggest_name(name: str, allowed: Iterable[str]) -> str:
    """`"Did you mean 'add'? Allowed: add, only."`, or only the second sentence where nothing is near."""
    names = sorted(allowed)
    listing = f"Allowed: {', '.join(names)}." if names else "None are allowed here."
    return f"{_suggest_nearest(name, names)} {listing}".lstrip()


def check_type(name: str, value: object, kinds: type | tuple[type, ...], remedy: str = "") -> None:
    """Refuse a value that is not an instance of `kinds`."""
    if not isinstance(value, kinds):
        wanted = kinds if isinstance(kinds, tuple) else (kinds,)
        reject(name, f"be {_join([kind.__name__ for kind in wanted])}", value, remedy, error=TypeError)


def check_int(name: str, value: object, *, minimum: int | None = None, remedy: str = "") -> int:
    """An integer (numpy's too, never a bool) of at least `minimum`, as an `int`."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Integral):
        reject(name, "be an integer", value, remedy, error=TypeError)
    if minimum is not None and value < minimum:
        reject(name, f"be at least {minimum}", value, remedy)
    return int(value)


def check_count(name: str, value: object, remedy: str = "") -> int:
    """An integer of at least 1."""
    return check_int(name, value, minimum=1, remedy=remedy)


def check_number(
    name: str, value: object, *, minimum: float = -math.inf, maximum: float = math.inf, remedy: str = ""
) -> float:
    """A finite number within the bounds, as a `float`."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        reject(name, "be a number", value, remedy, error=TypeError)
    try:
        number = float(value)
    except OverflowError:  # an integer or a fraction beyond all floats
        number = math.inf
    if not math.isfinite(number):
        reject(name, "be finite", value, remedy)
    if number < minimum:
        reject(name, f"be at least {minimum:g}", value, remedy)
    if number > maximum:
        reject(name, f"be at most {maximum:g}", value, remedy)
    return number


def check_fraction(name: str, value: object, remedy: str = "") -> float:
    """A number in 0..1."""
    return check_number(name, value, minimum=0.0, maximum=1.0, remedy=remedy)


def check_range(
    name: str, value: object, *, minimum: float = -math.inf, maximum: float = math.inf, whole: bool = False
) -> tuple[float, float]:
    """A pair (low, high) with minimum <= low <= high <= maximum; of integers when `whole`."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        reject(name, "be a pair (low, high)", value, error=TypeError)
    for end in value:
        if whole:
            check_int(name, end)
        check_number(name, end, minimum=minimum, maximum=maximum)
    low, high = value
    if low > high:
        reject(name, "have low <= high", value, "Exchange the two numbers.")
    return (low, high)


def check_choice(name: str, value: object, allowed: Iterable[str]) -> str:
    """One of a few names; the error suggests the nearest."""
    names = list(allowed)
    if not isinstance(value, str) or value not in names:
        near = _suggest_nearest(value, names) if isinstance(value, str) else ""
        reject(name, f"be one of {', '.join(map(repr, names))}", value, near)
    return value


def check_array(name: str, value: Any, *, dtype: Any, shape: tuple[int | None, ...], remedy: str = "") -> np.ndarray:
    """An array of this dtype and shape (None: any length), C-contiguous; nothing is converted in silence."""
    if type(value) is np.ndarray and value.dtype == dtype and value.ndim == len(shape) and value.flags.c_contiguous:
        for want, have in zip(shape, value.shape, strict=True):
            if want != have and want is not None:
                break
        else:
            return value  # What nearly every call comes to, and a hit of a cache makes ten.
    if not isinstance(value, np.ndarray):
        reject(name, "be a numpy array", value, remedy, error=TypeError)
    if value.dtype != np.dtype(dtype):
        reject(name, f"have dtype {np.dtype(dtype)}", value.dtype, remedy, error=TypeError)
    if value.ndim != len(shape) or any(
        want is not None and want != have for want, have in zip(shape, value.shape, strict=True)
    ):
        wanted = ", ".join("any" if want is None else str(want) for want in shape)
        reject(name, f"have shape ({wanted})", value.shape, remedy)
    return np.ascontiguousarray(value)


def _join(names: list[str]) -> str:
    article = "an" if names[0][0].lower() in "aeiou" else "a"
    return f"{article} {' or '.join(names)}"


def _suggest_nearest(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"Did you mean {near[0]!r}?" if near else ""
