"""How much a model's last layer attends to each token, read while the model answers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from carom.common.base.environment import quiet
from carom.text.models.transformer import EncoderBlock


def attends(module: nn.Module) -> nn.Module | None:
    """The part whose attention can be read: a model of Hugging Face (the module itself or the encoder in it), or the
    last block of one of the zoo's transformers; None if there is none."""
    for part in (module, getattr(module, "encoder", None)):
        if isinstance(part, nn.Module) and getattr(getattr(part, "config", None), "num_attention_heads", None):
            return part
    blocks = [part for part in module.modules() if isinstance(part, EncoderBlock)]
    return blocks[-1] if blocks else None


@contextlib.contextmanager
def recorded(part: nn.Module) -> Iterator[list[Tensor]]:
    """While it is open, what `attends` named writes down its attention float[N, heads, L, L] (from, to) whenever it is
    called."""
    found: list[Tensor] = []

    def ask(_: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, Any]:
        return args, {**kwargs, "output_attentions": True}

    def answered(_: nn.Module, __: Any, answer: Any) -> None:
        if maps := getattr(answer, "attentions", None):
            found.extend(layer for layer in maps[-1:] if layer is not None)

    def passed(block: nn.Module, given: tuple[Tensor, Tensor], _: Tensor) -> None:
        assert isinstance(block, EncoderBlock)
        found.append(block.attention(*given))

    if isinstance(part, EncoderBlock):
        handles = [part.register_forward_hook(passed)]
    else:
        handles = [part.register_forward_pre_hook(ask, with_kwargs=True), part.register_forward_hook(answered)]
    try:
        # It says at every first time that fused attention cannot show its weights and others are used.
        with quiet("transformers"), _shown(part):
            yield found
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def _shown(part: nn.Module) -> Iterator[None]:
    """Attention that shows its weights, where transformers lets a model change it: from release 5 on, fused attention
    answers without them whatever it is asked."""
    choose = getattr(part, "set_attn_implementation", None)
    before = getattr(getattr(part, "config", None), "_attn_implementation", None)
    if choose is None or before in (None, "eager"):
        yield
        return
    choose("eager")
    try:
        yield
    finally:
        choose(before)
