"""Weights from files: safetensors and, where the user asks by name, pickled state dicts read with `weights_only=True`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from carom.common.base.errors import CaromError
from carom.common.base.parameters import flag
from carom.common.base.specs import Spec, call_with, existing, import_object

PICKLES = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".bin", ".ckpt")
"""Endings of files that are pickles, whatever else they are called."""


def refuse_pickle(path: str | Path, remedy: str = "Save the weights with safetensors.torch.save_file.") -> None:
    """Raise if the path is a pickle by its name."""
    if Path(path).suffix.lower() in PICKLES:
        raise CaromError(f"{path}: a pickle can run any code when it is read, so it is refused. {remedy}")


def load_state(path: Path, allow_pickle: bool = False) -> dict[str, Tensor]:
    """The tensors of a safetensors file or, if allowed, of a pickled state dict."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not allow_pickle:
        refuse_pickle(
            path,
            "Save the weights with safetensors.torch.save_file, or, if you trust the file, add ?allow_pickle=true: "
            "it is then read with torch.load(weights_only=True).",
        )
    if path.suffix.lower() in PICKLES:
        import pickle

        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            raise CaromError(
                f"{path}: not a state dict that torch.load(weights_only=True) reads ({_first_line(error)}). Save "
                "state_dict() with safetensors.torch.save_file."
            ) from error
        if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
            state = state["state_dict"]
        if not isinstance(state, dict) or not all(isinstance(t, Tensor) for t in state.values()):
            raise CaromError(f"{path}: holds {type(state).__name__}, not a state dict of tensors. Save state_dict().")
        return dict(state)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CaromError(
            f"{path}: not a safetensors file ({error}). Save the weights with safetensors.torch.save_file."
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def fill(module: nn.Module, state: Mapping[str, Tensor], where: str | Path) -> nn.Module:
    """Load a state dict strictly, naming whatever does not fit; the module comes back in evaluation mode."""
    own = module.state_dict()
    state = _completed(own, _without_wrapper(own, state))
    wanted = {name: tuple(t.shape) for name, t in own.items()}
    given = {name: tuple(t.shape) for name, t in state.items()}
    shapes = [f"{n} {given[n]} for {wanted[n]}" for n in wanted if n in given and given[n] != wanted[n]]
    wrong = {
        "missing": [n for n in wanted if n not in given],
        "unexpected": [n for n in given if n not in wanted],
        "of another shape": shapes,
    }
    says = [f"{what}: {', '.join(names[:5])}{', ...' * (len(names) > 5)}" for what, names in wrong.items() if names]
    if says:
        raise CaromError(
            f"{where}: the weights do not fit {type(module).__name__} ({'; '.join(says)}). "
            "Give the factory the parameters that the weights were trained with."
        )
    module.load_state_dict(dict(state))
    return module.eval()


def _without_wrapper(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The weights under the names of the module itself, where they were saved from a wrapper around it."""
    for wrapper in ("module.", "_orig_mod.", "model."):
        inner = {name.removeprefix(wrapper): tensor for name, tensor in state.items()}
        if all(name.startswith(wrapper) for name in state) and not set(state) & set(own) and set(inner) & set(own):
            return inner
    return state


def _completed(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """With what a file leaves out and the answers do not miss: the second name of a tensor that two layers share, of
    which safetensors keeps one, and counts of the batches that a norm has seen."""
    full = dict(state)
    by_place = {_place(own[name]): tensor for name, tensor in state.items() if name in own}
    for name, tensor in own.items():
        if name in full:
            continue
        if name.endswith("num_batches_tracked"):
            full[name] = tensor
        elif tensor.numel() and _place(tensor) in by_place:
            full[name] = by_place[_place(tensor)]
    return full


def _place(tensor: Tensor) -> tuple[object, ...]:
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride()


def load_safetensors(spec: Spec) -> nn.Module:
    """`safetensors:PATH#pkg.module:factory?width=64`: the factory's module, called with the parameters, with the
    weights of the file. `allow_pickle=true` admits a pickled state dict.
    """
    path, mark, factory = spec.rest.partition("#")
    if not mark:
        raise CaromError(
            f"safetensors:{spec.rest} holds weights only. Name the factory of their module: "
            f"safetensors:{path}#package.module:factory."
        )
    parameters = dict(spec.parameters)
    state = load_state(
        existing(path, "file of weights"),
        flag({"allow_pickle": parameters.pop("allow_pickle", None)}, "allow_pickle", f"safetensors:{path}"),
    )
    module = call_with(import_object(factory, f"safetensors:{spec.rest}"), parameters, factory)
    if not isinstance(module, nn.Module):
        raise CaromError(
            f"{factory} made a {type(module).__name__}, not a torch module to load {path} into. Name "
            "what returns the module."
        )
    return fill(module, state, path)
