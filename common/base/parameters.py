"""What a parameter takes, read off its annotation: values are checked before anything is built from them."""

from __future__ import annotations

import inspect
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Annotated, Any, Union, get_args, get_origin

from carom.common.base.errors import CaromError

KINDS = {int: "a whole number", float: "a finite number", bool: "true or false", str: "a name", type(None): "none"}
"""What is checked. Parameters that are annotated otherwise take what they are given."""


@dataclass(frozen=True)
class Range:
    """The values that a parameter takes, where its kind does not say it: `Annotated[float | None, Range(0, below=1)]`.

    It goes before the rule of `checked`: `Annotated[int, Range(0)]` lets 0 in where the default is above."""

    least: float
    below: float = math.inf

    def __contains__(self, value: float) -> bool:
        return self.least <= value < self.below

    def __str__(self) -> str:
        return f"{self.least} or more" + ("" if self.below == math.inf else f" and below {self.below}")


def checked(function: Callable[..., Any], given: Mapping[str, Any], what: str, counts: bool = False) -> dict[str, Any]:
    """The values given for a function's parameters, each as its annotation asks. Raises CaromError.

    A whole number is a number, and a name too, since specs read `layer=3` as one. Numbers are finite, unless the
    default is not. With `counts`, whole numbers whose default is none or at least 1 count something: steps, samples,
    queries. They are 1 or more. Numbers whose default is above 0 say how much: a size, a share, a rate. They are 0 or
    more.
    """
    try:
        known = inspect.signature(function, eval_str=True).parameters
    except (NameError, TypeError, ValueError):  # annotations of somebody else's that mean nothing where we look
        known = inspect.signature(function).parameters
    return {name: _checked(known.get(name), name, value, what, counts) for name, value in given.items()}


def _checked(parameter: inspect.Parameter | None, name: str, value: Any, what: str, counts: bool) -> Any:
    if parameter is None or parameter.kind is parameter.VAR_KEYWORD:
        return value
    kinds, within = _asked(parameter.annotation)
    if not kinds:
        return value
    default = parameter.default
    if within is None and counts:
        within = _implied(kinds, default)
    fits, value = _fitting(kinds, value, infinite=isinstance(default, float) and not math.isfinite(default))
    if fits and (within is None or not isinstance(value, int | float) or isinstance(value, bool) or value in within):
        return value
    takes = " or ".join(KINDS[kind] for kind in kinds) + ("" if within is None else f", {within}")
    known = default is not None and default is not parameter.empty
    leave = f", or leave it out for {_said(default)}" if known else "" if default is parameter.empty else ", or none"
    raise CaromError(f"{what}: {name} takes {takes}, not {_said(value)}. Give it one{leave}.")


def _asked(annotation: Any) -> tuple[tuple[type, ...], Range | None]:
    """(the kinds that a value may be of, empty where there is no telling; the range that is stated)"""
    stated = None
    if get_origin(annotation) is Annotated:
        stated = next((part for part in annotation.__metadata__ if isinstance(part, Range)), None)
        annotation = get_args(annotation)[0]
    either = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    return (tuple(either) if all(part in KINDS for part in either) else ()), stated


def _implied(kinds: tuple[type, ...], default: Any) -> Range | None:
    """The range that a parameter's kinds and default tell, where none is stated."""
    if int in kinds and float not in kinds:
        return Range(1) if default is None or _above_zero(default) else None
    return Range(0) if float in kinds and _above_zero(default) else None


def _above_zero(default: Any) -> bool:
    return isinstance(default, int | float) and not isinstance(default, bool) and default > 0


FALSE = ("false", "no", "off", "0")
"""Words for no, whatever their case. For yes there is one: where code runs for it, nobody has to guess."""


def truth(value: Any) -> bool | None:
    """What a yes-or-no value means, wherever it is written: Python's own, TOML's or a spec's. None if it is neither.

    >>> [truth(value) for value in (True, "True", 0, "No", "off", 1, "yes")]
    [True, True, False, False, False, None, None]
    """
    if isinstance(value, bool):
        return value
    word = str(value).lower() if isinstance(value, str | int) or type(value).__name__ == "bool_" else ""
    return True if word == "true" else False if word in FALSE else None


def flag(values: Mapping[str, Any], name: str, who: str, default: bool = False) -> bool:
    """The yes-or-no value of that name; none is the default. Raises CaromError for what is neither."""
    value = values.get(name)
    if value is None:
        return default
    if (found := truth(value)) is None:
        raise CaromError(f"{who}: {name}={_said(value)} is neither: write {name}=true or {name}=false.")
    return found


def _fitting(kinds: tuple[type, ...], value: Any, infinite: bool) -> tuple[bool, Any]:
    """(whether a value is of one of the kinds, the value as Python's own)"""
    if bool in kinds and str not in kinds and (found := truth(value)) is not None and (found or int not in kinds):
        return True, found
    if value is None or isinstance(value, bool | str):
        return type(value) in kinds, value
    if isinstance(value, Integral):
        value = int(value)
        if int in kinds or float in kinds:
            return True, value
        return (True, str(value)) if str in kinds else (False, value)
    if isinstance(value, Real):
        value = float(value)
        return float in kinds and (infinite or math.isfinite(value)), value
    return False, value


def _said(value: Any) -> str:
    """A value as specs write it."""
    return str(value).lower() if value is None or isinstance(value, bool) else repr(value)
