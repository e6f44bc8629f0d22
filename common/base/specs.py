"""The one string grammar for models, data and attacks: KIND:REST, with ?name=value&name=value parameters at its end.

>>> parse("zoo:image-resnet")
Spec(kind='zoo', rest='image-resnet', parameters={})
>>> parse("py:my.package:factory?width=64&bias=false").parameters
{'width': 64, 'bias': False}

Several models that answer as one are joined by plus signs; parentheses keep a member's parameters to it:

>>> spec = parse("ensemble:zoo:image-resnet+(py:my.package:factory?width=64)?fuse=losses")
>>> split_members(spec.rest), spec.parameters
(['zoo:image-resnet', 'py:my.package:factory?width=64'], {'fuse': 'losses'})

A model behind defences is followed by them, the innermost first; parentheses keep a plus sign of its own to it:

>>> split_defended("zoo:image-resnet+jpeg?quality=50+noise")
('zoo:image-resnet', ['jpeg?quality=50', 'noise'])
>>> split_defended("(ensemble:zoo:image-resnet+zoo:image-vgg)+noise")
('ensemble:zoo:image-resnet+zoo:image-vgg', ['noise'])
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from carom.common.base.errors import CaromError, UnknownName
from carom.common.base.files import in_utf8
from carom.common.base.parameters import checked


@dataclass(frozen=True)
class Spec:
    """A parsed spec."""

    kind: str
    rest: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


def parse(text: str, kinds: tuple[str, ...] = ()) -> Spec:
    """Split a spec. With `kinds`, refuse any other, naming the nearest."""
    kind, _, rest = in_utf8(text).partition(":")
    if not kind or not rest:
        example = f"{kinds[0]}:NAME" if kinds else "zoo:NAME"
        raise CaromError(f"{text!r} is not a spec: write KIND:NAME, for example {example}.")
    if kinds and kind not in kinds:
        raise UnknownName("kind of spec", kind, kinds)
    if kind == DEFENDED:  # its parameters are those of the model and of each defence
        return Spec(kind, rest)
    rest, parameters = split_parameters(rest)
    return Spec(kind, rest, parameters)


def split_parameters(text: str) -> tuple[str, dict[str, Any]]:
    """("pgd?steps=20&size=1/4") -> ("pgd", {"steps": 20, "size": 0.25}); a ? within parentheses is a member's own"""
    outside = [at for at, c in enumerate(text) if c == "?" and text.count("(", 0, at) <= text.count(")", 0, at)]
    closed = text.count("(") == text.count(")")
    at = outside[0] if outside else -1 if closed else text.find("?")
    head, mark, tail = (text, "", "") if at < 0 else (text[:at], "?", text[at + 1 :])
    parameters: dict[str, Any] = {}
    for part in re.split(r"&(?![^(]*\))", tail) if mark else []:
        name, equals, value = part.partition("=")
        if not equals or not name:
            raise CaromError(f"{text!r}: write parameters as ?name=value&name=value.")
        if name in parameters:
            raise CaromError(f"{text!r}: {name} is given twice. Give it once.")
        parameters[name] = literal(value)
    return head, parameters


def split_members(rest: str) -> list[str]:
    """The specs of an ensemble's members: what plus signs separate that a kind of spec follows."""
    parts = re.split(r"\+(?=\(|[a-z]+:)(?![^(]*\))", rest)
    return [bare(part) for part in parts]


DEFENDED = "defended"
"""The kind of spec of a model behind defences."""


def split_defended(rest: str) -> tuple[str, list[str]]:
    """(the spec of the model, those of the defences around it): what plus signs outside parentheses separate."""
    model, *defences = parts = split_plus(rest)
    if rest.count("(") != rest.count(")") or not defences or not all(parts):
        raise CaromError(
            f"{DEFENDED}:{rest} is not a model and its defences: write {DEFENDED}:zoo:NAME+DEFENCE, the model in "
            "parentheses where its own spec has a plus sign."
        )
    return bare(model), defences


def undefended_spec(spec: str) -> str:
    """The spec of the model behind all defences that a spec names: itself, where it names none.

    >>> undefended_spec("defended:(defended:zoo:image-vgg+jpeg)+noise"), undefended_spec("zoo:image-vgg")
    ('zoo:image-vgg', 'zoo:image-vgg')
    """
    while spec.startswith(f"{DEFENDED}:"):
        spec = split_defended(parse(spec).rest)[0]
    return spec


def bare(text: str) -> str:
    """A spec without the parentheses that keep its parameters to it."""
    return text[1:-1] if text.startswith("(") and text.endswith(")") else text


def split_plus(text: str) -> list[str]:
    """What plus signs outside parentheses separate: "jpeg?quality=50+noise"."""
    parts, depth = [""], 0
    for character in text:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "+" and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def defended_by(spec: str, defence: str) -> str:
    """The spec of the model of `spec` behind one more defence.

    >>> defended_by("zoo:image-vgg", "jpeg"), defended_by("defended:zoo:image-vgg+jpeg", "noise")
    ('defended:zoo:image-vgg+jpeg', 'defended:zoo:image-vgg+jpeg+noise')
    """
    if spec.startswith(f"{DEFENDED}:"):
        return f"{spec}+{defence}"
    return f"{DEFENDED}:{f'({spec})' if set(spec) & set('+()') else spec}+{defence}"


def literal(text: str) -> Any:
    """A parameter's value: true, false, a number, a fraction such as 8/255, or text."""
    lowered = text.lower()
    if lowered in ("true", "false"):
        return lowered == "true"
    if lowered in ("none", "null"):
        return None
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return number(text)
    except CaromError:
        return text


def number(text: str | float) -> float:
    """A number or a fraction: "8/255", "0.03".

    >>> number("1/4")
    0.25
    """
    try:
        above, slash, below = str(text).partition("/")
        value = float(above) / float(below) if slash else float(above)
    except (ValueError, ZeroDivisionError):
        raise CaromError(f"{text!r} is not a number. Write it as 0.03 or as a fraction such as 8/255.") from None
    if value != value or value in (float("inf"), float("-inf")):
        raise CaromError(f"{text!r} is not a finite number.")
    return value


def call_with(function: Callable[..., Any], parameters: Mapping[str, Any], what: str, counts: bool = False) -> Any:
    """Call with named parameters; a name it does not have is refused with the nearest it does have, and a value that
    its annotation does not allow with what it takes (`parameters.checked`, which says what `counts` adds)."""
    accepted = inspect.signature(function).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in accepted.values()):
        for name in parameters:
            if name not in accepted:
                raise UnknownName(f"parameter of {what}", name, accepted)
    given = checked(function, parameters, what, counts)
    try:
        return function(**given)
    except TypeError as error:
        raise CaromError(f"{what} could not be made from {dict(parameters)}: {error}") from error


def import_object(path: str, spec: str) -> Any:
    """The object that `pkg.module:name` names. The working directory is searched first, as `python -m` does."""
    module_name, colon, name = path.partition(":")
    if not colon:
        raise CaromError(f"{spec!r} does not say which object to use: write py:package.module:name.")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise CaromError(
            f"{spec!r}: cannot import {module_name} ({error}). Run from the folder that holds it, or install it."
        ) from error
    if not hasattr(module, name):
        raise UnknownName(f"object in {module_name}", name, [n for n in vars(module) if not n.startswith("_")])
    return getattr(module, name)


def existing(path: str | Path, what: str) -> Path:
    """The path, which must exist."""
    found = Path(path).expanduser()
    if not found.exists():
        raise CaromError(f"{found}: no such {what}. Check the path; relative paths start at {os.getcwd()}.")
    return found


def local_folder(name: str, what: str) -> Path | None:
    """The folder that `hf:NAME` names, None where it is a name on the hub. One that begins as a path has to exist."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if name.startswith(("./", "../", "/", "~")):
        raise CaromError(f"{name}: no such folder of {what}. Check the path; relative paths start at {os.getcwd()}.")
    return None


OWN_CODE = ("py", "safetensors")
"""Kinds of spec whose models cannot tell their classes."""
