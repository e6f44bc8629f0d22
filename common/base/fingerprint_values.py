"""Fingerprints of values: containers, arrays, tensors and networks, by what they hold."""

from __future__ import annotations

import enum
import hashlib
import io
import logging
import re
import sys
import types
import weakref
import zipfile
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any, Protocol

from carom.common.base.own_code import Unreadable

# What torch notes of a module besides what it computes.
_OF_MODULES = frozenset(
    (
        *("training", "_is_full_backward_hook", "_compiled_call_impl", "_version", "_state_dict_hooks"),
        *("_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"),
    )
)
# Of tensors and scripted files: what is written besides values.
_OF_TENSORS = frozenset(("_is_hf_initialized", "_backward_hooks", "_post_accumulate_grad_hooks"))
_OF_ARCHIVES = frozenset((".format_version", ".storage_alignment", ".data/serialization_id", "byteorder", "version"))
# Where a configuration came from, and how its weights were stored: not how they are computed with.
OF_CONFIGS = frozenset(
    (
        *("_name_or_path", "name_or_path", "_commit_hash", "transformers_version", "model_type", "architectures"),
        *("dtype", "torch_dtype"),
    )
)


class Reader(Protocol):
    """What reads the parts of a value (`carom.common.base.fingerprint`)."""

    tensors: dict[int, tuple[Any, bytes]]
    ordered: bool

    def of(self, thing: Any) -> bytes: ...
    def all(self, kind: str, parts: Iterable[Any]) -> bytes: ...
    def pairs(self, kind: str, items: Iterable[tuple[Any, Any]]) -> bytes: ...


def hashed(kind: str, *parts: bytes) -> bytes:
    total = hashlib.sha256(kind.encode())
    for part in parts:
        total.update(len(part).to_bytes(8, "big"))
        total.update(part)
    return total.digest()


def plain(reader: Reader, thing: Any) -> bytes | None:
    """Containers and what is named by its value."""
    if isinstance(thing, enum.Enum):
        return hashed("enum", reader.of(type(thing)), thing.name.encode())
    if type(thing) is bytearray or type(thing) is memoryview:
        return hashed("bytes", bytes(thing))
    if type(thing) in (list, tuple, deque):
        return reader.all(type(thing).__name__, thing)
    if isinstance(thing, tuple) and hasattr(thing, "_fields"):
        kind = b"" if type(thing).__bases__ == (tuple,) else reader.of(type(thing))
        return hashed(type(thing).__qualname__, repr(thing._fields).encode(), kind, *map(reader.of, thing))
    if type(thing) in (set, frozenset):
        return hashed("set", *sorted(reader.of(part) for part in thing))
    if type(thing) in (dict, OrderedDict, types.MappingProxyType):
        held = vars(thing) if hasattr(thing, "__dict__") else {}
        items = [reader.of(key) + reader.of(value) for key, value in thing.items()]
        items = items if reader.ordered else sorted(items)
        return hashed("mapping", hashed("items", *items), reader.pairs("held", held.items()))
    if isinstance(thing, PurePath):
        return hashed("path", str(thing).encode("utf-8", "surrogateescape"))
    if isinstance(thing, slice | range):
        return hashed(type(thing).__name__, repr(thing).encode())
    if isinstance(thing, logging.Logger):
        return hashed("Logger")  # nothing is computed from it
    if isinstance(thing, weakref.ref):
        return hashed("reference", reader.of(thing()))
    return None


def arrays(reader: Reader, thing: Any) -> bytes | None:
    if (numpy := sys.modules.get("numpy")) is None:
        return None
    if isinstance(thing, numpy.dtype):
        return hashed("dtype", str(thing).encode())
    if isinstance(thing, numpy.generic) and not thing.dtype.hasobject and not thing.dtype.names:
        return hashed("scalar", str(thing.dtype).encode(), thing.tobytes())
    if isinstance(thing, numpy.generic) and not thing.dtype.names:
        return reader.of(thing.item())
    if not isinstance(thing, numpy.ndarray):
        return None
    if type(thing) not in (numpy.ndarray, numpy.memmap):  # with a mask, or other products
        held = vars(thing) if hasattr(thing, "__dict__") else {}
        plain = numpy.asarray(thing).view(numpy.ndarray)
        return hashed("kind of array", reader.of(type(thing)), reader.of(plain), reader.pairs("held", held.items()))
    shape = f"{thing.dtype}{thing.shape}".encode()
    if thing.dtype.names:  # field by field: the gaps between fields hold anything
        return hashed("array", shape, *[reader.of(numpy.asarray(thing[name])) for name in thing.dtype.names])
    if thing.dtype.hasobject:
        return hashed("array", shape, *[reader.of(part) for part in thing.flat])
    return hashed("array", shape, numpy.ascontiguousarray(thing).tobytes())


def tensors(reader: Reader, thing: Any) -> bytes | None:
    if (torch := sys.modules.get("torch")) is None:
        return None
    if isinstance(thing, torch.dtype | torch.layout | torch.memory_format):
        return hashed("dtype", str(thing).encode())
    if isinstance(thing, torch.device):
        return hashed("device")  # where it is computed is in every key
    if isinstance(thing, torch.Size):
        return reader.all("shape", tuple(thing))
    if isinstance(thing, torch.Generator):
        return hashed("generator", reader.of(thing.get_state()))
    if not isinstance(thing, torch.Tensor):
        return None
    plain = type(thing) in (torch.Tensor, torch.nn.Parameter)
    if id(thing) not in reader.tensors:
        reader.tensors[id(thing)] = (
            thing,
            _values(thing.detach() if plain else thing.detach().as_subclass(torch.Tensor)),
        )
    values = reader.tensors[id(thing)][1]
    held = [] if type(thing) is torch.nn.Parameter else [(k, v) for k, v in vars(thing).items() if k not in _OF_TENSORS]
    if plain and not held:
        return values
    return hashed("kind of tensor", values, reader.of(type(thing)), reader.pairs("held", held))


def _values(values: Any) -> bytes:
    """Of a torch.Tensor."""
    import torch

    shape = f"{tuple(values.shape)}{values.dtype}".encode()
    if values.is_quantized:
        values = values.dequantize()
    if values.layout != torch.strided:
        values = values.to_dense()
    if values.device.type == "meta":
        raise Unreadable("a tensor on the meta device has no values")
    values = values.cpu().resolve_conj().resolve_neg().contiguous().view(-1)
    return hashed("tensor", shape, values.view(torch.uint8).numpy().tobytes() if values.numel() else b"")


def networks(reader: Reader, thing: Any) -> bytes | None:
    """Torch modules: weights, buffers and every other attribute, by name; scripted ones by their code."""
    if (torch := sys.modules.get("torch")) is None:
        return None
    if isinstance(thing, torch.jit.ScriptModule | torch.jit.ScriptFunction):
        return _scripted(thing)
    if not isinstance(thing, torch.nn.Module):
        return None
    left_out = _OF_MODULES | (OF_CONFIGS if of_transformers(type(thing), "") else frozenset())
    held = [(k, v) for k, v in vars(thing).items() if k not in left_out and not (isinstance(v, Mapping) and not v)]
    # Hooks are kept under numbers that count all hooks of the process.
    held = [(k, list(v.values()) if k.endswith("_hooks") and isinstance(v, Mapping) else v) for k, v in held]
    return hashed("network", reader.of(type(thing)), reader.pairs("held", held))


def _scripted(thing: Any) -> bytes:
    """A scripted module or function: its code, attributes and constants as it is saved, without the places of its source
    and the numbers by which torch tells classes of one name apart."""
    parts = []
    with zipfile.ZipFile(io.BytesIO(thing.save_to_buffer())) as archive:
        for name in sorted(archive.namelist()):
            inside = re.sub(r"___torch_mangle_\d+", "", name.partition("/")[2])
            if inside.endswith(".debug_pkl") or inside in _OF_ARCHIVES:
                continue
            body = archive.read(name)
            parts.append(hashed(inside, re.sub(rb"___torch_mangle_\d+", b"", body) if inside.endswith(".py") else body))
    return hashed("scripted", *parts)


def of_transformers(cls: type, ending: str) -> bool:
    """Whether a class is one of transformers, or made from one, whose name ends so."""
    return any(b.__module__.partition(".")[0] == "transformers" and b.__name__.endswith(ending) for b in cls.__mro__)
