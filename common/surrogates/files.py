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
from carom.common.base.received import json_of, ships
from carom.common.base.specs import existing
from carom.common.core.model import Model
from carom.common.loading.weights import fill
from carom.common.models.ensembles import Ensemble
from carom.common.models.networks import TorchModel
from carom.common.surrogates.networks import built, copied

KINDS = ("lgv", "defended", "substitute")

# Files: one safetensors with every member's state, named NUMBER.PARAMETER, and the card in its header and beside it.


def surrogate_file(path: Path | str) -> Path:
    """The path, whose ending must say what is written there: the card beside it has the same name with another."""
    path = Path(path)
    if path.suffix != ".safetensors":
        raise CaromError(f"{path}: surrogates are saved as safetensors: name it {path.stem or 'NAME'}.safetensors.")
    return path


def save_surrogate(model: Model, path: Path | str) -> dict[str, Any]:
    """Write what `lgv` or `substitute` made to PATH, and its card, which is returned, to PATH with the ending .json.

    Args:
        model: what `lgv` or `substitute` made.
        path: a file that ends in .safetensors.

    Raises:
        CaromError: the model has no card, or the path another ending.
    """
    from safetensors.torch import save

    path = surrogate_file(path)
    if not model.card:
        raise CaromError(
            f"{model.name} has no card: only what carom.lgv, carom.substitute or carom.train_defended made is saved here."
        )
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
    """The card inside a file that `save_surrogate` wrote. It is what the file says of itself, checked for its shape."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(existing(path, "surrogate"), framework="pt") as file:
            card = json_of((file.metadata() or {})["carom-surrogate"])
        return _checked(card)
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise _no_surrogate(path, error) from None


def _checked(card: Any) -> dict[str, Any]:
    if not isinstance(card, dict):
        raise ValueError(f"its card is a {type(card).__name__}")
    for name in ("name", "modality", "digest", "kind"):
        if not isinstance(card.get(name), str):
            raise ValueError(f"its card has no {name}")
    if card["kind"] not in KINDS:
        raise ValueError(
            f"its card says {card['kind']!r:.40} where it should say {', '.join(KINDS[:-1])} or {KINDS[-1]}"
        )
    classes = card.get("classes")
    if not isinstance(classes, list) or not classes or not all(isinstance(name, str) for name in classes):
        raise ValueError("its card names no classes")
    if not isinstance(card.setdefault("network", None), str | None):
        raise ValueError("its card names no network")
    return card


def _no_surrogate(path: Path | str, error: Exception) -> CaromError:
    return CaromError(f"{path}: not a surrogate that `carom surrogate` saved ({error}).")


def load_surrogate(
    path: Path | str, like: TorchModel | None = None, name: str | None = None, network: str | None = None
) -> Model:
    """What `save_surrogate` wrote. `like` is a model of the same architecture, for one made from a Model without a
    spec; `network` is the spec of one. Where neither is given the card's own is built, if it is of the zoo: any other
    may run code, and a file that somebody sends is not asked what to run.

    Args:
        path: a file that ends in .safetensors.
        like: a model of the same architecture.
        name: what tables call it; by default what the card says.
        network: the spec of its architecture.

    Raises:
        CaromError: naming the file, where it is no surrogate or does not say what to build.
    """
    card = read_surrogate_card(path)
    if like is None and network is None:
        network = card["network"]
        if network is None:
            raise CaromError(
                f"{path}: made from a model without a spec. Pass one like it: load_surrogate(path, like=model)."
            )
        if not ships(network):
            raise CaromError(
                f"{path}: its card names {network!r} as its network, which is not of the zoo and is not built because a "
                f"file says so. If you know it, name it yourself: 'surrogate:{path}?network=({network})'."
            )
    base = like or built(str(network), card["modality"], tuple(card["classes"]))
    if not isinstance(base, TorchModel):
        raise CaromError(f"{path}: {base.name} is no torch network to load its weights into.")
    states = _states(path)
    called = card["name"] if name is None else name
    members = []
    for at in sorted(states):
        one = f"{called}{at}" if len(states) > 1 or card["kind"] == "lgv" else called
        try:
            members.append(copied(base, one, fill(copy.deepcopy(base.module), states[at], path)))
        except RuntimeError as error:
            raise _no_surrogate(path, error) from None
    fuse = "logits" if card["kind"] == "lgv" else "probabilities"
    model: Model = Ensemble(members, fuse, called) if len(members) > 1 or card["kind"] == "lgv" else members[0]
    kept = ("name", "modality", "classes", "digest")
    model.card = {key: value for key, value in card.items() if key not in kept}
    if model.digest != card["digest"]:
        raise CaromError(
            f"{path}: its weights, or {network or base.name}, are not those that its card names, or another version of "
            "carom saved it. Load it into the network that it was made from, or make it again with `carom surrogate`."
        )
    return model


def _states(path: Path | str) -> dict[int, dict[str, Tensor]]:
    """The state of each member, by its number."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    states: dict[int, dict[str, Tensor]] = {}
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise _no_surrogate(path, error) from None
    for key, tensor in tensors.items():
        number, _, parameter = key.partition(".")
        if not number.isascii() or not number.isdigit() or len(number) > 9 or not parameter:
            raise CaromError(f"{path}: its weights are not named as `carom surrogate` names them: {key!r:.80}.")
        states.setdefault(int(number), {})[parameter] = tensor
    if not states:
        raise CaromError(f"{path}: a surrogate without weights. Save it again with `carom surrogate`.")
    return states


def surrogate_of_spec(rest: str, name: str | None = None, network: str | None = None) -> Model:
    """The model of `surrogate:PATH`; with `?network=(SPEC)`, of that network, whatever the card says."""
    if network is not None and network.startswith("(") and network.endswith(")"):
        network = network[1:-1]
    return load_surrogate(rest, name=name, network=network)
