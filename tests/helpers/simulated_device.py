"""A CUDA device that is none: its tensors say `cuda:0`, compute on the CPU, and refuse what CUDA refuses.

    with simulated_cuda() as waits:
        model.to("cuda")
        ...
    assert not waits  # where the host would have waited for the device, and how often

What is mixed with tensors of the CPU raises, as it does on a GPU. Kernels, atomics, TF32 and packed sequences are not
simulated. What is to be on the device has to be made or moved inside the context.
"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

CUDA, CPU, aten = torch.device("cuda", 0), torch.device("cpu"), torch.ops.aten

READ_BY_HOST = {
    *(aten._local_scalar_dense, aten.equal, aten.is_nonzero, aten.nonzero, aten._unique2, aten.masked_select),
}
"""Operations whose answer, or its shape, the host needs."""

INDEXED = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}

NO_SCALARS = {
    *(aten.cat, aten.stack, aten.gather, aten.scatter, aten.index_select, aten.index_add, aten.index_add_),
    *(aten.index_copy, aten.embedding),
}
"""Operations that refuse even a single number of the CPU among tensors of the device."""

_waits: Counter[str] = Counter()


def _wait(what: str) -> None:
    """Note that the host waits, and in which line of Carom."""
    frame: Any = sys._getframe(1)
    while frame is not None and not frame.f_globals.get("__name__", "").startswith("carom."):
        frame = frame.f_back
    where = "" if frame is None else f" {frame.f_globals['__name__']}:{frame.f_lineno}"
    _waits[what + where] += 1


def _in_backward() -> bool:
    """Whether the engine of autograd is calling: there C++ makes plain zeros, which on a GPU are made on it."""
    frame: Any = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename.endswith((__file__, "_pytree.py", "overrides.py")):
        frame = frame.f_back
    return frame is not None and frame.f_code.co_name == "_engine_run_backward"


class OnDevice(torch.Tensor):
    """A tensor that says it is on the device; `inner` holds its numbers."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> OnDevice:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            device=CPU,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
        )
        made.inner = inner
        return made

    def __init__(self, inner: torch.Tensor) -> None: ...

    def untyped_storage(self) -> Any:  # also where functions of subclasses are not looked at
        return self.inner.untyped_storage()

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def __tensor_flatten__(self) -> Any:
        return ["inner"], None

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, own, of = dict(kwargs or {}), args[0] if args else None, torch.Tensor
        if func == of.device.__get__:
            return CUDA
        if func == of.is_cuda.__get__:
            return True
        if func in (of.numpy, of.__array__):
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy it first")
        if func is of.tolist:
            _wait("tolist")
            return own.inner.detach().tolist()
        if func is of.cpu:
            return ToHost.apply(own)
        if func is of.new_tensor:
            return to_device(torch.tensor(args[1], dtype=kwargs.get("dtype", own.dtype)))
        if func is of.to and (moved := _move(args[1:], kwargs))[0] is not None:
            where, rest, more = moved
            own = ToHost.apply(own) if where.type == "cpu" else own
            return own.to(*rest, **more) if rest or more else own
        if func is of.__deepcopy__:
            made: Any = OnDevice(own.inner.detach().clone())
            args[1][id(own)] = made = nn.Parameter(made, own.requires_grad) if hasattr(own, "_is_param") else made
            return made
        if kwargs.get("device") is not None:
            where = torch.device(kwargs["device"])
            return tree_map(lambda made: _put(made, where), _plainly(func, args, {**kwargs, "device": CPU}))
        return _plainly(func, args, kwargs)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, op = kwargs or {}, func.overloadpacket
        if not _in_backward():
            _refuse_mixtures(func, args, kwargs)
        masked = op in INDEXED and any(index is not None and index.dtype == torch.bool for index in args[1])
        if masked or op in READ_BY_HOST:
            _wait("mask" if masked else op.__name__)
        inner = [tree_map(lambda t: t.inner if isinstance(t, OnDevice) else t, part) for part in (args, kwargs)]
        with torch.inference_mode(False), torch.no_grad():  # a view of a weight is no tensor of inference mode
            out = func(*inner[0], **inner[1])
            if op is aten.copy_ and not isinstance(args[0], OnDevice):
                return args[0]
            out = tree_map(lambda t: OnDevice(t) if isinstance(t, torch.Tensor) else t, out)
            return return_and_correct_aliasing(func, args, kwargs, out)


def _plainly(func: Any, args: Any, kwargs: Any) -> Any:
    with torch._C.DisableTorchFunctionSubclass():
        return func(*args, **kwargs)


def _refuse_mixtures(func: Any, args: Any, kwargs: Any) -> None:
    op = func.overloadpacket
    tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    plain = [t for t in tensors if not isinstance(t, OnDevice)]
    if op in INDEXED:  # an index of the CPU is copied to the device, at a wait; not the other way round
        values = args[2] if len(args) > 2 and op is not aten.index else None
        mixed = not isinstance(args[0], OnDevice)
        mixed |= not (values is None or isinstance(values, OnDevice) or values.dim() == 0)
        if not mixed and any(index is not None and not isinstance(index, OnDevice) for index in args[1]):
            _wait("index of the CPU")
    else:
        mixed = op not in (aten.copy_, aten._to_copy) and any(t.dim() or op in NO_SCALARS for t in plain)
    if mixed:
        shapes = [tuple(t.shape) for t in plain]
        raise RuntimeError(f"Expected all tensors to be on the same device: {func} mixes cuda:0 with cpu {shapes}")


class ToDevice(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, t: torch.Tensor) -> torch.Tensor:
        return OnDevice(t.detach().clone())

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return grad.inner if isinstance(grad, OnDevice) else grad


class ToHost(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, t: Any) -> torch.Tensor:
        _wait("to the CPU")
        return t.inner.detach().clone()

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return OnDevice(grad)


def to_device(t: torch.Tensor) -> torch.Tensor:
    if isinstance(t, OnDevice):
        return t
    if isinstance(t, nn.Parameter):
        return nn.Parameter(OnDevice(t.detach().clone()), t.requires_grad)
    return ToDevice.apply(t) if t.requires_grad else OnDevice(t.detach().clone())


def _put(t: Any, where: torch.device) -> Any:
    if not isinstance(t, torch.Tensor):
        return t
    return to_device(t) if where.type == "cuda" else ToHost.apply(t) if isinstance(t, OnDevice) else t


def _move(args: Any, kwargs: Any) -> tuple[torch.device | None, tuple[Any, ...], dict[str, Any]]:
    """Of the arguments of `Tensor.to`: (the device or None, the other arguments, the other keywords)."""
    more = {name: value for name, value in kwargs.items() if name not in ("device", "non_blocking")}
    if args and isinstance(args[0], torch.Tensor):
        return args[0].device, (args[0].dtype,), more
    named = [value for value in (*args, kwargs.get("device")) if isinstance(value, str | torch.device)]
    rest = tuple(v for v in args if v is not None and not isinstance(v, bool | str | torch.device))
    return (torch.device(named[0]) if named else None), rest, more


class Making(TorchFunctionMode):
    """Sees what is made on the device, or moved there, from tensors that are not on it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.to and not isinstance(args[0], OnDevice):
            where, rest, more = _move(args[1:], kwargs)
            if where is not None and where.type == "cuda":
                moved = to_device(args[0])
                return moved.to(*rest, **more) if rest or more else moved
        asked = kwargs.get("device")
        made = asked is not None and torch.device(asked).type == "cuda" and func is not torch.Tensor.to
        if made and not any(isinstance(arg, OnDevice) for arg in args):
            return tree_map(lambda t: _put(t, CUDA), func(*args, **{**kwargs, "device": CPU}))
        return func(*args, **kwargs)


@contextlib.contextmanager
def simulated_cuda() -> Iterator[Counter[str]]:
    """Inside, `.to("cuda")` and `device="cuda"` lead to the simulated device; modules are moved as anywhere. Yields where
    the host waits: "what module:line" -> how often."""
    engine = torch.autograd._engine_run_backward

    def run(*args: Any, **kwargs: Any) -> Any:  # hooks in a backward pass see the same devices as everyone
        with torch._C._EnableTorchFunction(), Making():
            return engine(*args, **kwargs)

    def one_hot(x: torch.Tensor, count: int) -> torch.Tensor:
        return (x[..., None] == torch.arange(count, device=x.device)).long()

    with contextlib.ExitStack() as stack:
        for owner, name, instead in (
            (nn.RNNBase, "flatten_parameters", lambda self: None),
            (torch.autograd, "_engine_run_backward", run),
            (nn.functional, "one_hot", one_hot),
        ):
            stack.enter_context(mock.patch.object(owner, name, instead))
        kept = torch.__future__.get_overwrite_module_params_on_conversion()
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, kept)
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        _waits.clear()
        with Making():
            yield _waits
