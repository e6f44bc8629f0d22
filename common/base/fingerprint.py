"""Fingerprints: sha256 over all that the answers of an object rest on.

Two things with one fingerprint answer alike. It covers what an object holds (tensors, arrays, words, lists, closures,
arguments, objects of any type) and the code that runs: of the user's own classes and
functions the compiled code and whatever it refers to, in other files too; of installed packages the digests of their
files; of Carom's, the standard library's and the large frameworks' the names. Where a file lies is
no part of it, and neither is the name of its module. What cannot be read raises `Unreadable`.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import inspect
import logging
import sys
import sysconfig
import types
import weakref
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any

FRAMEWORKS = frozenset(
    ("carom", "torch", "torchvision", "torchaudio", "transformers", "tokenizers", "numpy", "scipy", "sklearn", "pandas")
)
"""Packages whose code goes by its name. Carom's own parts say their `revision`."""

OUTSIDE = frozenset(("requests", "urllib", "httpx", "aiohttp", "socket", "subprocess", "http", "grpc", "sqlite3"))
"""Modules through which code that is called for answers asks something that cannot be read."""

ANSWERING = frozenset(
    ("forward", "__call__", "predict", "predict_proba", "predict_log_proba", "decision_function", "transform")
)
"""Methods that are called for answers. Others, such as a constructor that loads weights, are over by then."""

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
# What torch notes of a module besides what it computes.
_OF_MODULES = frozenset(
    (
        *("training", "_is_full_backward_hook", "_compiled_call_impl", "_version", "_state_dict_hooks"),
        *("_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"),
    )
)
# Where a configuration came from, and how its weights were stored: not how they are computed with.
_OF_CONFIGS = frozenset(
    (
        *("_name_or_path", "name_or_path", "_commit_hash", "transformers_version", "model_type", "architectures"),
        *("dtype", "torch_dtype"),
    )
)


class Unreadable(Exception):
    """Something that answers may rest on cannot be read: its identity has to be given."""


def fingerprint(thing: Any, *facts: object) -> str:
    """64 hexadecimal digits: equal for equal content, code and facts. Raises `Unreadable`."""
    reader = _Reader()
    digest = hashlib.sha256(reader.of(list(facts)))
    digest.update(reader.of(thing))
    return digest.hexdigest()


def own_code(module: str | None) -> bool:
    """Whether code of the module of that name is read: it is the user's own. Other code goes by its name."""
    head = (module or "builtins").partition(".")[0]
    return head == "__main__" or (not _named(head) and _installed(module or "") is None)


def _named(head: str) -> bool:
    """Whether code of a package goes by its name alone."""
    return head in FRAMEWORKS or head in sys.builtin_module_names or head in sys.stdlib_module_names


@functools.cache
def _installed(module: str) -> str | None:
    """Of a module that was installed with a package: the digest of the list of the package's files, which holds theirs.
    None for code of the user's own, that of packages which are installed in place among it."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return None
    path = Path(file).resolve()
    for root in path.parents:
        listed = f"{path.relative_to(root).as_posix()},"
        for record in sorted(root.glob("*.dist-info/RECORD")):
            text = record.read_text(encoding="utf-8", errors="replace")
            if text.startswith(listed) or f"\n{listed}" in text:
                return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
    places = {sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib")}
    return "" if any(place and path.is_relative_to(place) for place in places) else None


def _library(module: str | None) -> str:
    """What names code that is not read: its package and, where that is no framework, the digests of the package's files
    as they were installed."""
    head = (module or "builtins").partition(".")[0]
    return head if _named(head) else f"{head}@{_installed(module or '')}"


class _Reader:
    """Digests of objects. Each object is read once; one that holds itself is marked by how far up it stands."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[Any, bytes]] = {}  # the object is held, so that its id stays its own
        self.above: list[int] = []
        self.idle = False  # whether what is read now is code that no answer calls

    def of(self, thing: Any) -> bytes:
        if isinstance(thing, ATOMS) and type(thing) in ATOMS:
            return _hash(type(thing).__name__, repr(thing).encode("utf-8", "surrogatepass"))
        if id(thing) in self.known:
            return self.known[id(thing)][1]
        if id(thing) in self.above:
            return _hash("cycle", str(len(self.above) - self.above.index(id(thing))).encode())
        self.above.append(id(thing))
        try:
            digest = self._read(thing)
        except RecursionError:
            raise Unreadable(f"{_called(thing)} is nested too deeply") from None
        finally:
            self.above.pop()
        self.known[id(thing)] = thing, digest
        return digest

    def all(self, kind: str, parts: Iterable[Any]) -> bytes:
        return _hash(kind, *[self.of(part) for part in parts])

    def pairs(self, kind: str, items: Iterable[tuple[Any, Any]]) -> bytes:
        """Of what has names, in an order of the names alone."""
        return _hash(kind, *sorted(self.of(key) + self.of(value) for key, value in items))

    def _read(self, thing: Any) -> bytes:
        for read in (_plain, _arrays, _tensors, _code, _callables, _networks):
            if (digest := read(self, thing)) is not None:
                return digest
        return self.state(thing)

    def kind(self, cls: type) -> bytes:
        """Of a class: its name and, where it is the user's own, its code and that of its bases."""
        revision = getattr(cls, "revision", 1)
        parts = [cls.__qualname__.encode(), repr(revision if isinstance(revision, int) else 1).encode()]
        for base in cls.__mro__:
            if own_code(base.__module__) and base is not object:
                parts.append(self._body(base))
            else:
                parts.append(f"{_library(base.__module__)}.{base.__qualname__}".encode())
        return _hash("class", *parts)

    def _body(self, base: type) -> bytes:
        """What a class defines. Its methods that answers call are read first, as code that is called."""
        items = [(name, value) for name, value in vars(base).items() if name not in _OF_CLASSES]
        called = self.pairs(base.__qualname__, [item for item in items if item[0] in ANSWERING])
        before, self.idle = self.idle, True
        try:
            return _hash("body", called, self.pairs("rest", [item for item in items if item[0] not in ANSWERING]))
        finally:
            self.idle = before

    def state(self, thing: Any) -> bytes:
        """Of an object of any other type: its class and what it would be pickled as."""
        cls = type(thing)
        try:
            reduced = thing.__reduce_ex__(4)
        except Exception as error:
            home = getattr(thing, "__module__", None) or cls.__module__
            if callable(thing) and hasattr(thing, "__name__") and not own_code(home):
                return _hash("named", f"{_library(home)}.{thing.__name__}".encode())
            raise Unreadable(f"{_called(thing)} cannot be read ({error})") from None
        if isinstance(reduced, str):
            return _hash("global", reduced.encode(), self.of(cls))
        make, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
        if state is None and type(thing).__getstate__ is not object.__getstate__:
            state = thing.__getstate__()
        if _of_transformers(cls, "Config"):
            state = {key: value for key, value in vars(thing).items() if key not in _OF_CONFIGS}
        return _hash(
            "object",
            self.of(cls),
            self.of(make),
            self.of(tuple(part for part in arguments if part is not cls)),
            self.of(state),
            self.all("items", items or ()),
            self.pairs("pairs", pairs or ()),
        )


def _hash(kind: str, *parts: bytes) -> bytes:
    digest = hashlib.sha256(kind.encode())
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


def _called(thing: Any) -> str:
    return f"a {type(thing).__module__}.{type(thing).__qualname__}"


def _plain(reader: _Reader, thing: Any) -> bytes | None:
    """Containers and what is named by its value."""
    if isinstance(thing, enum.Enum):
        return _hash("enum", reader.of(type(thing)), thing.name.encode())
    if type(thing) is bytearray or type(thing) is memoryview:
        return _hash("bytes", bytes(thing))
    if type(thing) in (list, tuple, deque):
        return reader.all(type(thing).__name__, thing)
    if isinstance(thing, tuple) and hasattr(thing, "_fields"):
        return reader.all(type(thing).__qualname__, thing)
    if type(thing) in (set, frozenset):
        return _hash("set", *sorted(reader.of(part) for part in thing))
    if isinstance(thing, dict | types.MappingProxyType):
        held = vars(thing) if hasattr(thing, "__dict__") else {}
        return _hash("mapping", reader.pairs("items", thing.items()), reader.pairs("held", held.items()))
    if isinstance(thing, PurePath):
        return _hash("path", str(thing).encode("utf-8", "surrogateescape"))
    if isinstance(thing, slice | range):
        return _hash(type(thing).__name__, repr(thing).encode())
    if isinstance(thing, logging.Logger | weakref.ref):
        return _hash(type(thing).__name__)  # nothing is computed from it
    return None


def _arrays(reader: _Reader, thing: Any) -> bytes | None:
    if (numpy := sys.modules.get("numpy")) is None:
        return None
    if isinstance(thing, numpy.dtype):
        return _hash("dtype", str(thing).encode())
    if isinstance(thing, numpy.generic) and not thing.dtype.names:
        return (
            reader.of(thing.item()) if not isinstance(thing.item(), numpy.generic) else _hash("scalar", thing.tobytes())
        )
    if not isinstance(thing, numpy.ndarray):
        return None
    shape = f"{thing.dtype}{thing.shape}".encode()
    if thing.dtype.names:  # field by field: the gaps between fields hold anything
        return _hash("array", shape, *[reader.of(numpy.asarray(thing[name])) for name in thing.dtype.names])
    if thing.dtype.hasobject:
        return _hash("array", shape, *[reader.of(part) for part in thing.flat])
    return _hash("array", shape, numpy.ascontiguousarray(thing).tobytes())


def _tensors(reader: _Reader, thing: Any) -> bytes | None:
    if (torch := sys.modules.get("torch")) is None:
        return None
    if isinstance(thing, torch.dtype | torch.layout | torch.memory_format):
        return _hash("dtype", str(thing).encode())
    if isinstance(thing, torch.device):
        return _hash("device")  # where it is computed is in every key
    if isinstance(thing, torch.Size):
        return reader.all("shape", tuple(thing))
    if isinstance(thing, torch.Generator):
        return _hash("generator", reader.of(thing.get_state()))
    if not isinstance(thing, torch.Tensor):
        return None
    values = thing.detach()
    if values.is_quantized:
        values = values.dequantize()
    if values.layout != torch.strided:
        values = values.to_dense()
    if values.device.type == "meta":
        raise Unreadable("a tensor on the meta device has no values")
    values = values.cpu().resolve_conj().resolve_neg().contiguous().view(-1)
    raw = values.view(torch.uint8) if values.numel() else values
    return _hash(
        "tensor", f"{tuple(thing.shape)}{thing.dtype}".encode(), raw.numpy().tobytes() if values.numel() else b""
    )


def _code(reader: _Reader, thing: Any) -> bytes | None:
    """Compiled code: what it does, without where it is written."""
    if not isinstance(thing, types.CodeType):
        return None
    constants = [part for part in thing.co_consts if not isinstance(part, str) or part != _doc(thing)]
    names = (thing.co_names, thing.co_varnames, thing.co_freevars, thing.co_cellvars)
    counts = (thing.co_argcount, thing.co_posonlyargcount, thing.co_kwonlyargcount, thing.co_flags)
    return _hash("code", thing.co_code, reader.all("constants", constants), repr((names, counts)).encode())


def _doc(code: types.CodeType) -> str | None:
    """The documentation of a function, which is its first constant."""
    first = code.co_consts[0] if code.co_consts else None
    return first if isinstance(first, str) else None


def _callables(reader: _Reader, thing: Any) -> bytes | None:
    if isinstance(thing, type):
        return reader.kind(thing)
    if isinstance(thing, types.ModuleType):
        return _module(reader, thing)
    if isinstance(thing, types.FunctionType):
        return _function(reader, thing)
    if isinstance(thing, types.MethodType):
        return _hash("method", reader.of(thing.__func__), reader.of(thing.__self__))
    if isinstance(thing, functools.partial):
        return _hash("partial", reader.of(thing.func), reader.of(thing.args), reader.of(dict(thing.keywords)))
    if isinstance(thing, staticmethod | classmethod):
        return _hash(type(thing).__name__, reader.of(thing.__func__))
    if isinstance(thing, property):
        return reader.all("property", (thing.fget, thing.fset, thing.fdel))
    if isinstance(thing, functools.cached_property):
        return _hash("property", reader.of(thing.func))
    if type(thing) is types.CellType:
        try:
            return _hash("cell", reader.of(thing.cell_contents))
        except ValueError:
            return _hash("empty cell")
    if isinstance(thing, types.MemberDescriptorType | types.GetSetDescriptorType | types.WrapperDescriptorType):
        return _hash("descriptor", thing.__name__.encode())
    if isinstance(thing, types.MethodDescriptorType | types.ClassMethodDescriptorType):
        return _hash("descriptor", thing.__qualname__.encode())
    if isinstance(thing, types.BuiltinFunctionType | types.MethodWrapperType):
        owner = getattr(thing, "__self__", None)
        held = b"" if owner is None or isinstance(owner, types.ModuleType) else reader.of(owner)
        return _hash("builtin", f"{thing.__module__}.{thing.__qualname__}".encode(), held)
    if (wrapped := inspect.getattr_static(thing, "__wrapped__", None)) is not None and callable(thing):
        return _hash("wrapper", type(thing).__qualname__.encode(), reader.of(wrapped))  # of functools.lru_cache
    return None


def _function(reader: _Reader, thing: types.FunctionType) -> bytes:
    name = thing.__qualname__.encode()
    if not own_code(thing.__module__) and "<locals>" not in thing.__qualname__ and thing.__closure__ is None:
        return _hash("function", f"{_library(thing.__module__)}.".encode() + name)
    names = {*_names(thing.__code__)}
    if own_code(thing.__module__) and not reader.idle:
        _check_outside(thing, names)
    named = names & thing.__globals__.keys()
    uses = [(key, thing.__globals__[key]) for key in named] if own_code(thing.__module__) else []
    held = {key: value for key, value in vars(thing).items() if key != "__wrapped__"}
    return _hash(
        "function",
        reader.of(thing.__code__),
        reader.of(thing.__defaults__),
        reader.of(thing.__kwdefaults__),
        reader.of(thing.__closure__),
        reader.pairs("globals", uses),
        reader.pairs("held", held.items()),
        reader.of(getattr(thing, "__wrapped__", None)),
    )


def _check_outside(function: types.FunctionType, names: set[str]) -> None:
    """Raise `Unreadable` for code that opens a file or asks another process each time it is called."""
    held = function.__globals__
    asked = [name for name in names if getattr(held.get(name), "__name__", "").partition(".")[0] in OUTSIDE]
    if "open" in names and held.get("open", open) is open:
        asked.append("open")
    if asked:
        raise Unreadable(
            f"{function.__qualname__} uses {', '.join(sorted(asked))} as it answers, and what it gets is not known"
        )


def _names(code: types.CodeType) -> Iterable[str]:
    yield from code.co_names
    for part in code.co_consts:
        if isinstance(part, types.CodeType):
            yield from _names(part)


def _module(reader: _Reader, thing: types.ModuleType) -> bytes:
    """A module that code refers to: by its name, or by all that is defined in it where it is the user's own."""
    if not own_code(thing.__name__):
        return _hash("module", thing.__name__.encode(), _library(thing.__name__).encode())
    kept = [(key, value) for key, value in vars(thing).items() if not key.startswith("__")]
    return reader.pairs("module", kept)


def _networks(reader: _Reader, thing: Any) -> bytes | None:
    """Torch modules: weights, buffers and every other attribute, by name; scripted ones by their code."""
    if (torch := sys.modules.get("torch")) is None or not isinstance(thing, torch.nn.Module):
        return None
    if isinstance(thing, torch.jit.ScriptModule):
        state = {name: value for name, value in thing.state_dict().items()}
        return _hash("scripted", str(thing.inlined_graph).encode(), reader.of(state))
    left_out = _OF_MODULES | (_OF_CONFIGS if _of_transformers(type(thing), "") else frozenset())
    held = [(k, v) for k, v in vars(thing).items() if k not in left_out and not (isinstance(v, Mapping) and not v)]
    # Hooks are kept under numbers that count all hooks of the process.
    held = [(k, list(v.values()) if k.endswith("_hooks") and isinstance(v, Mapping) else v) for k, v in held]
    return _hash("network", reader.of(type(thing)), reader.pairs("held", held))


def _of_transformers(cls: type, ending: str) -> bool:
    """Whether a class is one of transformers, or made from one, whose name ends so."""
    return any(b.__module__.partition(".")[0] == "transformers" and b.__name__.endswith(ending) for b in cls.__mro__)
