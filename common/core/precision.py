"""In which arithmetic networks compute: float32 throughout, unless an attack is said to craft faster.

On a GPU cuDNN computes convolutions in TF32 by default, with ten binary digits: a network and its folded copy then
differ by 1e-3, and scores that are equal in exact arithmetic by as much. So TF32 is off while a model is frozen, except
where it is asked for. What is crafted in another arithmetic is judged in float32 all the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import torch

from carom.common.base.errors import CaromError, UnknownName

FP32, TF32, BF16, AUTO = PRECISIONS = ("fp32", "tf32", "bf16", "auto")

_now: ContextVar[str] = ContextVar("precision", default=FP32)


def pick_precision(name: str, device: torch.device) -> str:
    """What is computed in: fp32, tf32 or bf16. `auto` is TF32 on a GPU that has it, which keeps the range of float32."""
    if name not in PRECISIONS:
        raise UnknownName("precision", name, PRECISIONS)
    has_tf32 = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    if name == AUTO:
        return TF32 if has_tf32 else FP32
    if name == TF32 and not has_tf32:
        raise CaromError(f"--precision tf32: {device} has no TF32, which GPUs from Ampere on have. Use fp32 or auto.")
    return name


def precision() -> str:
    """In force now."""
    return _now.get()


@contextlib.contextmanager
def computing_in(name: str) -> Iterator[None]:
    """Networks called inside compute in this precision; what torch does otherwise is put back afterwards."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before, token = (cudnn.allow_tf32, matmul.allow_tf32), _now.set(name)
    cudnn.allow_tf32 = matmul.allow_tf32 = name == TF32
    try:
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32 = before
        _now.reset(token)


def casting(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """In force around a network: its products of matrices and convolutions in bfloat16, if that is asked for and a
    gradient is wanted. Answers that are decided on are those of float32."""
    if _now.get() != BF16 or not torch.is_grad_enabled():
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
