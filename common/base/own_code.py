"""Whose code something is: the user's own, which is read, or a package's, which goes by its name and version. And what
a function of the user's refers to: globals, attributes, modules that it imports as it runs, and what it asks outside.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import importlib
import importlib.util
import sys
import sysconfig
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

FRAMEWORKS = frozenset(
    ("carom", "torch", "torchvision", "torchaudio", "transformers", "tokenizers", "numpy", "scipy", "sklearn", "pandas")
)
"""Packages whose code goes by its name. Carom's own parts say their `revision`."""

OUTSIDE = frozenset(("requests", "urllib", "httpx", "aiohttp", "socket", "subprocess", "http", "grpc", "sqlite3"))
"""Modules through which code that is called for answers asks something that cannot be read."""

READING = frozenset(
    (
        *("open", "read_text", "read_bytes", "environ", "getenv", "loadtxt", "genfromtxt", "fromfile", "memmap"),
        *("safe_open", "load_file", "from_pretrained", "read_csv", "read_parquet", "read_json", "imread", "CDLL"),
        *("eval", "exec", "__import__", "import_module"),
    )
)
"""Names that read something whenever they are called: a file, the environment, code that is chosen as it runs."""

CALLED_READING = frozenset(("load", "system", "popen"))
"""Names that do so as functions of a package: `np.load`. Others may have methods of these names."""


class Unreadable(Exception):
    """Something that answers may rest on cannot be read: its identity has to be given."""


def own_code(module: str | None) -> bool:
    """Whether code of the module of that name is read: it is the user's own. Other code goes by its name."""
    head = (module or "builtins").partition(".")[0]
    return head == "__main__" or (not _named(head) and _installed(module or "") is None)


def home_of(function: types.FunctionType) -> str | None:
    """The module that a function is written in, whatever `functools.wraps` says of it; None where its code was made
    as the program ran, outside any module."""
    name = function.__globals__.get("__name__")
    module = sys.modules.get(name) if isinstance(name, str) else None
    known = module is not None and vars(module) is function.__globals__
    # What a package makes as it runs, as dataclasses and named tuples do, is the package's.
    return name if known or (isinstance(name, str) and not own_code(name)) else None


def is_own(function: Any) -> bool:
    """Whether it is a function of the user's own."""
    if not isinstance(function, types.FunctionType):
        return False
    home = home_of(function)
    return home is None or own_code(home)


def _named(head: str) -> bool:
    """Whether code of a package goes by its name alone."""
    return head in FRAMEWORKS or head in sys.builtin_module_names or head in sys.stdlib_module_names


def _file(module: str) -> str | None:
    """Where a module lies, also one that is not imported yet."""
    if module in sys.modules:
        return getattr(sys.modules[module], "__file__", None)
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, AttributeError, ValueError):
        return None
    return None if found is None else found.origin


@functools.cache
def _installed(module: str) -> str | None:
    """Of a module that was installed with a package: the digest of the list of the package's files, which holds theirs.
    None for code of the user's own, that of packages which are installed in place among it."""
    if (file := _file(module)) is None:
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


def library(module: str | None) -> str:
    """What names code that is not read: its package and, where that is no framework, the digests of the package's files
    as they were installed."""
    head = (module or "builtins").partition(".")[0]
    return head if _named(head) else f"{head}@{_installed(module or '')}"


def compiled(module: str | None) -> bytes | None:
    """The digest of the file of a module of the user's that is compiled; None for others."""
    file = _file(module or "builtins")
    if file is None or not file.endswith(tuple(EXTENSION_SUFFIXES)) or not own_code(module):
        return None
    return hashlib.sha256(Path(file).read_bytes()).digest()


@dataclass
class Uses:
    """What the code of a function refers to."""

    names: set[str] = field(default_factory=set)  # globals and builtins
    bare: set[str] = field(default_factory=set)  # those of which something else is asked than an attribute
    attributes: set[str] = field(default_factory=set)
    paths: set[tuple[str, ...]] = field(default_factory=set)  # (global, attribute, ...): np.load, torch.hub.load
    imports: set[tuple[str, int, str | None]] = field(default_factory=set)  # (module, level, name; None: all of it)


@functools.lru_cache(maxsize=4096)
def uses_of(code: types.CodeType) -> Uses:
    """Of compiled code, and of the functions that are defined inside it."""
    found = Uses()
    constants: dict[int, Any] = {}
    path: tuple[str, ...] = ()
    module, level, names = "", 0, None
    for step in dis.get_instructions(code):
        what, value = step.opname, step.argval
        if what in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"):
            found.names.add(value)
            found.bare |= set(path) if len(path) == 1 else set()
            path = (value,)
            continue
        if what == "IMPORT_NAME":
            module, level, names = value, constants.get(2, 0), constants.get(1)
            if not names:
                found.imports.add((module, level, None))
        elif what == "IMPORT_FROM" and names:
            found.imports.add((module, level, value))
        elif what in ("LOAD_ATTR", "LOAD_METHOD"):
            found.attributes.add(value)
            if path:
                path = (*path, value)
                found.paths.add(path)
                continue
        if what not in ("CACHE", "PUSH_NULL", "EXTENDED_ARG", "PRECALL"):
            found.bare |= set(path) if len(path) == 1 else set()
            path = ()
            constants = {1: value, 2: constants.get(1)} if what in ("LOAD_CONST", "LOAD_SMALL_INT") else {}
    for part in code.co_consts:
        if isinstance(part, types.CodeType):
            inner = uses_of(part)
            found.names |= inner.names
            found.bare |= inner.bare
            found.attributes |= inner.attributes
            found.paths |= inner.paths
            found.imports |= inner.imports
    return found


def imported(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """(name, what it is) of the user's own modules and what is in them, which a function imports as it runs. They are
    imported now. Raises `Unreadable` for one that cannot be."""
    package = function.__globals__.get("__package__") or ""
    for module, level, name in sorted(uses_of(function.__code__).imports, key=repr):
        try:
            full = importlib.util.resolve_name("." * level + module, package)
            if not own_code(full if full in sys.modules else full.partition(".")[0]):
                continue
            whole = importlib.import_module(full)
            if name is None or name == "*":
                yield full, whole
                continue
            part = vars(whole)[name] if name in vars(whole) else importlib.import_module(f"{full}.{name}")
        except Exception as error:
            raise Unreadable(f"{function.__qualname__} imports {module}, which cannot be read ({error})") from None
        yield f"{module} {name}", part


def of_packages(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """(path, what it is) of functions of packages that a function refers to through their modules: np.load."""
    for path in uses_of(function.__code__).paths:
        owner: Any = function.__globals__.get(path[0])
        for name in path[1:]:
            if not isinstance(owner, types.ModuleType) or own_code(owner.__name__):
                break
            owner = getattr(owner, name, None)
        else:
            yield ".".join(path), owner


def check_outside(function: types.FunctionType) -> None:
    """Raise `Unreadable` for code that reads a file, the environment or another process each time it is called."""
    held: Mapping[str, Any] = function.__globals__
    uses = uses_of(function.__code__)
    asked = {name for name in uses.names if getattr(held.get(name), "__name__", "").partition(".")[0] in OUTSIDE}
    asked |= uses.attributes & (READING - {"eval"})  # networks have a method eval
    asked |= {name for name in uses.names & READING if not is_own(held.get(name))}
    asked |= {path for path, _ in of_packages(function) if path.rpartition(".")[2] in CALLED_READING}
    for name in uses.names:
        given = held.get(name)
        if getattr(given, "__name__", "") in CALLED_READING and not own_code(getattr(given, "__module__", None)):
            asked.add(name)
    for module, level, part in uses.imports:
        if level == 0 and not own_code(module.partition(".")[0]):
            asked |= {module} if module.partition(".")[0] in OUTSIDE else set()
            asked |= {part} & (CALLED_READING | READING) if part else uses.attributes & CALLED_READING
    if asked:
        raise Unreadable(
            f"{function.__qualname__} uses {', '.join(sorted(asked))} as it answers, and what it gets is not known"
        )
