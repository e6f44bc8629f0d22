"""Surrogates made before an attack: networks near a given one (LGV), and substitutes of models that only answer.

Both give back Models that attacks take like any other. How one was made is its `card`; `save_surrogate` writes both,
and `surrogate:PATH` loads them again.
"""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from carom.common.base.errors import CaromError
from carom.common.base.files import write_atomically
from carom.common.base.specs import existing
from carom.common.core.model import Model
from carom.common.loading.weights import fill
from carom.common.models.ensembles import Ensemble
from carom.common.models.networks import TorchModel
from carom.common.surrogates.networks import built, copied

# Files: one safetensors with every member's state, named NUMBER.PARAMETER, and the card in its header and beside it.


def surrogate_file(path: Path | str) -> Path:
    """The path, whose ending must say what is written there: the card beside it has the same name with another."""
    path = Path(path)
    if path.suffix != ".safetensors":
        raise CaromError(f"{path}: surrogates are saved as safetensors: name it {path.stem or 'NAME'}.safetensors.")
    return path


def save_surrogate(model: Model, path: Path | str) -> dict[str, Any]:
    """Write what `lgv` or `substitute` made to PATH, and its card, which is returned, to PATH with the ending .json."""
    from safetensors.torch import save

    path = surrogate_file(path)
    if not model.card:
        raise CaromError(f"{model.name} has no card: only what carom.lgv or carom.substitute made is saved here.")
    members = getattr(model, "members", (model,))
    tensors = {
        f"{number}.{name}": tensor.detach().cpu().contiguous()
        for number, member in enumerate(members)
        for name, tensor in member.module.state_dict().items()
    }
    facts = {"name": model.name, "modality": model.modality, "classes": list(model.classes), **model.card}
    card = {**facts, "digest": model.digest}
    data = save(tensors, metadata={"carom-surrogate": json.dumps(card)})
    write_atomically(path, data)
    beside = {**card, "sha256": hashlib.sha256(data).hexdigest(), "torch": torch.__version__.split("+")[0]}
    write_atomically(path.with_suffix(".json"), (json.dumps(beside, indent=2) + "\n").encode())
    return beside


def read_surrogate_card(path: Path | str) -> dict[str, Any]:
    """The card inside a file that `save_surrogate` wrote."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(existing(path, "surrogate"), framework="pt") as file:
            return json.loads((file.metadata() or {})["carom-surrogate"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise CaromError(f"{path}: not a surrogate that `carom surrogate` saved ({error}).") from None


def load_surrogate(path: Path | str, like: TorchModel | None = None, name: str | None = None) -> Model:
    """What `save_surrogate` wrote. `like` is a model of the same architecture, for one made from a Model without a
    spec."""
    from safetensors.torch import load_file

    card = read_surrogate_card(path)
    if like is None and card["network"] is None:
        raise CaromError(
            f"{path}: made from a model without a spec. Pass one like it: load_surrogate(path, like=model)."
        )
    base = like or built(card["network"], card["modality"], tuple(card["classes"]))
    if not isinstance(base, TorchModel):
        raise CaromError(f"{path}: {base.name} is no torch network to load its weights into.")
    states: dict[int, dict[str, Tensor]] = {}
    for key, tensor in load_file(path).items():
        number, _, parameter = key.partition(".")
        states.setdefault(int(number), {})[parameter] = tensor
    called = card["name"] if name is None else name
    members = []
    for at in sorted(states):
        one = f"{called}{at}" if card["kind"] == "lgv" else called
        members.append(copied(base, one, fill(copy.deepcopy(base.module), states[at], path)))
    model: Model = Ensemble(members, name=called) if card["kind"] == "lgv" else members[0]
    kept = ("name", "modality", "classes", "digest")
    model.card = {key: value for key, value in card.items() if key not in kept}
    if model.digest != card["digest"]:
        raise CaromError(f"{path}: its weights, or {card['network']}, are not those that its card names.")
    return model


def surrogate_of_spec(rest: str, name: str | None = None) -> Model:
    """The model of `surrogate:PATH`."""
    return load_surrogate(rest, name=name)
