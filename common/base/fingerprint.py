"""Fingerprints: sha256 over all that the answers of an object rest on.

Two things with one fingerprint answer alike. It covers what an object holds (tensors, arrays, words, lists, closures,
arguments, objects of any type) and the code that runs: of the user's own classes and
functions the compiled code and whatever it refers to, in other files too; of installed packages the digests of their
files; of Carom's, the standard library's and the large frameworks' the names. Where a file lies is
no part of it, and neither is the name of its module. What cannot be read raises `Unreadable`.
"""

from __future__ import annotations

import copyreg
import functools
import hashlib
import inspect
import pickle
import sys
import threading
import types
from collections.abc import Iterable
from typing import Any

from carom.common.base.fingerprint_values import OF_CONFIGS, arrays, hashed, networks, of_transformers, plain, tensors
from carom.common.base.own_code import (
    Unreadable,
    check_outside,
    compiled,
    home_of,
    imported,
    is_own,
    library,
    of_packages,
    own_code,
    uses_of,
)

__all__ = ["Unreadable", "fingerprint", "own_code"]

ANSWERING = frozenset(
    ("forward", "__call__", "predict", "predict_proba", "predict_log_proba", "decision_function", "transform")
)
"""Methods that are called for answers. Others, such as a constructor that loads weights, are over by then."""

_MAKING = frozenset(
    (
        *("__init__", "__new__", "__post_init__", "__init_subclass__", "__set_name__", "__class_getitem__", "__del__"),
        *(
            "__getstate__",
            "__setstate__",
            "__reduce__",
            "__reduce_ex__",
            "__copy__",
            "__deepcopy__",
            "__repr__",
            "__str__",
        ),
    )
)
# Methods of Python's own that make an object or show it. All others may be called for answers by an operator.

ATOMS = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis), type(NotImplemented))

# What a class keeps for itself and no method reads.
_OF_CLASSES = frozenset(
    (
        *("__module__", "__qualname__", "__doc__", "__dict__", "__weakref__", "__annotations__", "__annotate__"),
        *("__firstlineno__", "__static_attributes__", "__orig_bases__", "__parameters__", "__abstractmethods__"),
        *("_abc_impl", "__dataclass_fields__", "__dataclass_params__", "__match_args__", "__annotate_func__"),
        "__annotations_cache__",
    )
)
_FOREIGN = frozenset(("ctypes", "_ctypes", "cffi", "_cffi_backend"))  # their functions have names and lie elsewhere
_LOCKS = (type(threading.Lock()), type(threading.RLock()))


def fingerprint(thing: Any, *facts: object) -> str:
    """64 hexadecimal digits: equal for equal content, code and facts. Raises `Unreadable`."""
    asked: frozenset[str | int] = ANSWERING
    tensors: dict[int, tuple[Any, bytes]] = {}
    while True:
        reader = _Reader(asked, tensors)
        digest = hashlib.sha256(reader.of(list(facts)))
        digest.update(reader.of(thing))
        if not (more := reader.asks & reader.spared):
            return digest.hexdigest()
        asked |= more


class _Reader:
    """Digests of objects. Each object is read once; one that holds itself is marked by how far up it stands.

    Of classes, the methods in `asked` are read as what is called for answers, and so are the constructors of classes whose
    id is in it. `asks` is what such code turns out to ask for, `spared` what was read as if nobody did.
    """

    def __init__(self, asked: frozenset[str | int], tensors: dict[int, tuple[Any, bytes]]) -> None:
        self.asked = asked
        self.tensors = tensors
        self.asks: set[str | int] = set()
        self.spared: set[str | int] = set()
        # By id and how it is read; the object is held, so that its id stays its own.
        self.known: dict[tuple[int, bool, bool], tuple[Any, bytes]] = {}
        self.above: list[int] = []
        self.idle = False  # whether what is read now is code that no answer calls
        self.ordered = (
            True  # whether the order of mappings counts: networks are called in it, configurations are sorted
        )

    def of(self, thing: Any) -> bytes:
        if isinstance(thing, ATOMS) and type(thing) in ATOMS:
            return hashed(type(thing).__name__, repr(thing).encode("utf-8", "surrogatepass"))
        how = (id(thing), self.idle, self.ordered)
        if how in self.known:
            return self.known[how][1]
        if id(thing) in self.above:
            return hashed("cycle", str(len(self.above) - self.above.index(id(thing))).encode())
        self.above.append(id(thing))
        try:
            digest = self._read(thing)
        except RecursionError:
            raise Unreadable(f"{_called(thing)} is nested too deeply") from None
        finally:
            self.above.pop()
        self.known[how] = thing, digest
        return digest

    def all(self, kind: str, parts: Iterable[Any]) -> bytes:
        return hashed(kind, *[self.of(part) for part in parts])

    def pairs(self, kind: str, items: Iterable[tuple[Any, Any]]) -> bytes:
        """Of what has names, in an order of the names alone."""
        return hashed(kind, *sorted(self.of(key) + self.of(value) for key, value in items))

    def _read(self, thing: Any) -> bytes:
        for read in (plain, arrays, tensors, _code, _callables, networks):
            if (digest := read(self, thing)) is not None:
                return digest
        return self.state(thing)

    def kind(self, cls: type) -> bytes:
        """Of a class: its name and, where it is the user's own, its code and that of its bases."""
        revision = getattr(cls, "revision", 1)
        parts = [cls.__qualname__.encode(), repr(revision if isinstance(revision, int) else 1).encode()]
        for base in cls.__mro__:
            if own_code(base.__module__) and base is not object:
                parts.append(self._body(base) + (compiled(base.__module__) or b""))
            else:
                changed = [(name, value) for name, value in vars(base).items() if is_own(value)]
                parts.append(f"{library(base.__module__)}.{base.__qualname__}".encode())
                parts.extend([self.pairs("changed", changed)] if changed else [])
        if own_code(type(cls).__module__):
            parts.append(self.of(type(cls)))
        return hashed("class", *parts)

    def _body(self, base: type) -> bytes:
        """What a class defines. Its methods that answers call are read first, as code that is called."""
        items = [(name, value) for name, value in vars(base).items() if name not in _OF_CLASSES]
        called = [item for item in items if self._answers(base, item[0])]
        digest = self.pairs(base.__qualname__, called)
        rest = [item for item in items if not self._answers(base, item[0])]
        self.spared |= {id(base) if name in _MAKING else name for name, _ in rest}
        before, self.idle = self.idle, True
        try:
            return hashed("body", digest, self.pairs("rest", rest))
        finally:
            self.idle = before

    def _answers(self, base: type, name: str) -> bool:
        if name in _MAKING:
            return id(base) in self.asked
        return name in self.asked or (name.startswith("__") and name.endswith("__"))

    def state(self, thing: Any) -> bytes:
        """Of an object of any other type: its class and what it would be pickled as."""
        cls = type(thing)
        try:
            how = copyreg.dispatch_table.get(cls)
            reduced = thing.__reduce_ex__(4) if how is None else how(thing)
        except Exception as error:
            home = getattr(thing, "__module__", None) or cls.__module__
            if callable(thing) and hasattr(thing, "__name__") and not own_code(home) and home not in _FOREIGN:
                return hashed("named", f"{library(home)}.{thing.__name__}".encode())
            raise Unreadable(f"{_called(thing)} cannot be read ({error})") from None
        if isinstance(reduced, str):
            return self._single(thing, reduced)
        make, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
        if state is None and cls.__getstate__ is not object.__getstate__:
            state = thing.__getstate__()
        if of_transformers(cls, "Config"):
            return self._configuration(thing)
        return hashed(
            "object",
            self.of(cls),
            self.of(make),
            self.of(tuple(part for part in arguments if part is not cls)),
            self._held(state),
            self.all("items", items or ()),
            self.all("pairs", pairs or ()),
            self._left_out(thing),
        )

    def _configuration(self, thing: Any) -> bytes:
        """Of a transformers configuration: a saved one has its entries in another order."""
        before, self.ordered = self.ordered, False
        try:
            kept = [(key, value) for key, value in vars(thing).items() if key not in OF_CONFIGS]
            return hashed("configuration", self.of(type(thing)), self.pairs("entries", kept))
        finally:
            self.ordered = before

    def _held(self, state: Any) -> bytes:
        """Of attributes: their order says nothing."""
        if type(state) is dict:
            return self.pairs("state", state.items())
        if type(state) is tuple:
            return hashed("states", *map(self._held, state))
        return self.of(state)

    def _single(self, thing: Any, name: str) -> bytes:
        """Of an object that is known by its name in a module, as numpy's functions are."""
        home = pickle.whichmodule(thing, name)  # type: ignore[attr-defined]
        if getattr(sys.modules.get(home), name, None) is not thing:
            raise Unreadable(f"{_called(thing)} cannot be read (it is nowhere called {name})")
        held = b"" if not own_code(home) else self._held(vars(thing) if hasattr(thing, "__dict__") else None)
        return hashed("global", name.encode(), library(home).encode() if not own_code(home) else b"", held)

    def _left_out(self, thing: Any) -> bytes:
        """Of what a class of the user's leaves out when it is pickled: it may answer by it all the same."""
        own = [base for base in type(thing).__mro__ if own_code(base.__module__)]
        if not any(name in vars(base) for base in own for name in ("__getstate__", "__reduce__", "__reduce_ex__")):
            return b""
        held = vars(thing) if hasattr(thing, "__dict__") else {}
        return self.pairs("left out", [(k, v) for k, v in held.items() if not isinstance(v, _LOCKS)])


def _called(thing: Any) -> str:
    return f"a {type(thing).__module__}.{type(thing).__qualname__}"


def _code(reader: _Reader, thing: Any) -> bytes | None:
    """Compiled code: what it does, without where it is written."""
    if not isinstance(thing, types.CodeType):
        return None
    constants = list(thing.co_consts[_documented(thing) :])
    names = (thing.co_names, thing.co_varnames, thing.co_freevars, thing.co_cellvars)
    counts = (thing.co_argcount, thing.co_posonlyargcount, thing.co_kwonlyargcount, thing.co_flags)
    tries = getattr(thing, "co_exceptiontable", b"")
    return hashed("code", thing.co_code, tries, reader.all("constants", constants), repr((names, counts)).encode())


_HAS_DOCSTRING = 0x4000000


def _documented(code: types.CodeType) -> bool:
    """Whether the first constant of a function is its documentation, or stands where that would."""
    if sys.version_info >= (3, 13):
        return bool(code.co_flags & _HAS_DOCSTRING)
    named = not code.co_name.startswith("<")  # comprehensions have no documentation, nor have lambdas
    return named and bool(code.co_consts) and isinstance(code.co_consts[0], str | None)


def _callables(reader: _Reader, thing: Any) -> bytes | None:
    if isinstance(thing, type):
        return reader.kind(thing)
    if isinstance(thing, types.ModuleType):
        return _module(reader, thing)
    if isinstance(thing, types.FunctionType):
        return _function(reader, thing)
    if isinstance(thing, types.MethodType):
        return hashed("method", reader.of(thing.__func__), reader.of(thing.__self__))
    if isinstance(thing, functools.partial):
        return hashed("partial", reader.of(thing.func), reader.of(thing.args), reader.of(dict(thing.keywords)))
    if isinstance(thing, staticmethod | classmethod):
        return hashed(type(thing).__name__, reader.of(thing.__func__))
    if isinstance(thing, property):
        return reader.all("property", (thing.fget, thing.fset, thing.fdel))
    if isinstance(thing, functools.cached_property):
        return hashed("property", reader.of(thing.func))
    if type(thing) is types.CellType:
        try:
            return hashed("cell", reader.of(thing.cell_contents))
        except ValueError:
            return hashed("empty cell")
    if isinstance(thing, types.MemberDescriptorType | types.GetSetDescriptorType | types.WrapperDescriptorType):
        return hashed("descriptor", thing.__name__.encode())
    if isinstance(thing, types.MethodDescriptorType | types.ClassMethodDescriptorType):
        return hashed("descriptor", thing.__qualname__.encode())
    if isinstance(thing, types.BuiltinFunctionType | types.MethodWrapperType):
        owner = getattr(thing, "__self__", None)
        held = b"" if owner is None or isinstance(owner, types.ModuleType) else reader.of(owner)
        file = compiled(thing.__module__) or b""
        return hashed("builtin", f"{thing.__module__}.{thing.__qualname__}".encode(), held, file)
    if (wrapped := inspect.getattr_static(thing, "__wrapped__", None)) is not None and callable(thing):
        return hashed("wrapper", type(thing).__qualname__.encode(), reader.of(wrapped))  # of functools.lru_cache
    return None


def _function(reader: _Reader, thing: types.FunctionType) -> bytes:
    name = thing.__qualname__.encode()
    own = is_own(thing)
    if not own and "<locals>" not in thing.__qualname__ and thing.__closure__ is None:
        return hashed("function", f"{library(home_of(thing))}.".encode() + name)
    uses: list[tuple[str, Any]] = []
    if own:
        names = uses_of(thing.__code__).names
        whole = "globals" in names  # it finds what it uses by a name that is not in its code
        uses = [(k, v) for k, v in thing.__globals__.items() if k in names or (whole and not k.startswith("__"))]
        uses += [(path, value) for path, value in of_packages(thing) if is_own(value)]
    if own and not reader.idle:
        check_outside(thing)
        reader.asks |= uses_of(thing.__code__).attributes
        made = [thing.__globals__.get(name) for name in uses_of(thing.__code__).bare]
        reader.asks |= {id(base) for cls in made if isinstance(cls, type) for base in cls.__mro__}
        uses += imported(thing)
    held = {key: value for key, value in vars(thing).items() if key != "__wrapped__"}
    return hashed(
        "function",
        reader.of(thing.__code__),
        reader.of(thing.__defaults__),
        reader.of(thing.__kwdefaults__),
        reader.of(thing.__closure__),
        reader.pairs("globals", uses),
        reader.pairs("held", held.items()),
        reader.of(getattr(thing, "__wrapped__", None)),
    )


def _module(reader: _Reader, thing: types.ModuleType) -> bytes:
    """A module that code refers to: by its name, or by all that is defined in it where it is the user's own."""
    if not own_code(thing.__name__):
        return hashed("module", thing.__name__.encode(), library(thing.__name__).encode())
    kept = [(key, value) for key, value in vars(thing).items() if not key.startswith("__")]
    return reader.pairs("module", kept) + (compiled(thing.__name__) or b"")
