"""The zoo: the models Carom ships, each with the recipe that reproduces its checkpoint and a card that describes it.

A modality lists its `Recipe`s; the checkpoint of `zoo:NAME` is `<modality folder>/weights/NAME.safetensors` and its
card `NAME.json` beside it.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from carom.common.base.errors import CaromError
from carom.common.base.files import write_atomically
from carom.common.base.specs import existing
from carom.common.loading.packing import SCALE, pack, precision, unpack, unpack_trees
from carom.common.models.averaged import Averaged
from carom.common.models.training import Method, Progress, deterministic
from carom.common.models.trees import TreeEnsemble

MEMBERS = "members."  # how the names of weights begin of several networks that answer as one

Body = nn.Module | TreeEnsemble
"""What a checkpoint holds: a network, or the arrays of a decision tree or forest."""


@dataclass(frozen=True)
class Recipe:
    """How one model of the zoo is built and trained.

    `build()` gives the untrained body; `train(recipe, progress)` a trained one, reading `seed`, `half` and `method`.
    `half` is None for all training examples, 0 or 1 for one of two disjoint halves. `train`, `evaluate` and
    `data_digest` read the data that `data` names; `reading` puts another spec there.
    """

    name: str
    modality: str
    family: str  # cnn, rnn, transformer, mlp, tree, linear
    summary: str  # one line for `carom list models`
    build: Callable[[], Body]
    train: Callable[[Recipe, Progress | None], Body]
    evaluate: Callable[[Recipe, Body], float]  # clean accuracy on the held-out test data
    data: str  # the data spec it is trained on
    data_digest: Callable[[Recipe], str]
    folder: Path  # where the checkpoint and its card lie
    seed: int = 0
    half: int | None = None
    method: Method | None = None  # how a network is taught, if not in the plain way; for one training
    defence: str = ""  # the defence that trains it, as a spec
    of: str = ""  # the spec of the recipe that the defence was given to, where this one is not of the zoo
    origin: str = ""  # for data that do not ship: where they come from, one sentence

    @property
    def checkpoint(self) -> Path:
        return self.folder / f"{self.name}.safetensors"

    @property
    def card(self) -> Path:
        return self.folder / f"{self.name}.json"

    @property
    def command(self) -> str:
        """What trains it; with the data it reads, where these do not ship."""
        named = f"{self.of} --defence {shlex.quote(self.defence)}" if self.of else f"zoo:{self.name}"
        return f"carom train {named}" + (f" --data {shlex.quote(self.data)}" if self.origin else "")

    def reading(self, data: str | None) -> Recipe:
        """The recipe as it is to be trained: on `data`, a data spec, where its data do not ship, else on its own."""
        if data is None and self.origin:
            raise CaromError(
                f"zoo:{self.name} is trained on {self.data}, which does not ship with Carom. {self.origin} "
                f"Then: carom train zoo:{self.name} --data folder:PATH"
            )
        if data is not None and not self.origin:
            raise CaromError(f"zoo:{self.name} is trained on {self.data}, which ships with Carom: leave the data out.")
        return self if data is None else replace(self, data=data)


def read_card(recipe: Recipe) -> dict[str, Any]:
    return json.loads(recipe.card.read_text(encoding="utf-8"))


def load_body(recipe: Recipe, weights: str | None = None) -> Body:
    """The trained body of `recipe`, in eval mode, its weights fp32: its own checkpoint, or a file `weights` that
    `carom train` wrote for a body of this build, or for several that answer as one."""
    if weights is not None:
        return _load_other(recipe, existing(weights, "checkpoint"))
    if not recipe.checkpoint.exists():
        raise CaromError(
            f"{recipe.checkpoint}: the checkpoint of zoo:{recipe.name} is missing. Install carom again, or make it: "
            f"{recipe.command} --out {recipe.folder}"
        )
    return restore(recipe.build(), load_file(recipe.checkpoint))


def _load_other(recipe: Recipe, path: Path) -> Body:
    try:
        tensors = load_file(path)
        members = {name.removeprefix(SCALE).split(".")[1] for name in tensors if MEMBERS in name}
        body = Averaged(network_of(recipe) for _ in members) if members else recipe.build()
        return restore(body, tensors)
    except (SafetensorError, RuntimeError, ValueError, LookupError, TypeError, OSError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CaromError(
            f"{path}: no checkpoint that `carom train` wrote for a model built like zoo:{recipe.name} ({said})."
        ) from None


def network_of(recipe: Recipe) -> nn.Module:
    """The untrained network of a recipe."""
    body = recipe.build()
    if not isinstance(body, nn.Module):
        raise CaromError(f"{recipe.name} is no network, which is needed here: name another recipe.")
    return body


def restore(body: Body, tensors: Mapping[str, Tensor]) -> Body:
    """What `pack` made of a body like `body`, back again."""
    if isinstance(body, TreeEnsemble):
        return unpack_trees(tensors)
    body.load_state_dict(unpack(tensors))
    return body.eval()


def train_and_save(recipe: Recipe, folder: Path | None = None, progress: Progress | None = None) -> dict[str, Any]:
    """Train `recipe`, write checkpoint and card into `folder` (its own by default), return the card."""
    with deterministic(recipe.seed):
        return write(recipe, recipe.train(recipe, progress), folder or recipe.folder)


def write(recipe: Recipe, trained: Body, folder: Path) -> dict[str, Any]:
    """Write checkpoint and card of a trained body into `folder`, return the card.

    The accuracy on the card is that of the checkpoint as it will be loaded, after the rounding that packs it.
    """
    tensors = pack(trained)
    body = restore(recipe.build(), tensors)
    accuracy = recipe.evaluate(recipe, body)
    numbers = body.tensors() if isinstance(body, TreeEnsemble) else body.state_dict()
    data = save(tensors, metadata={"carom": recipe.name})
    card = {
        "name": recipe.name,
        "modality": recipe.modality,
        "family": recipe.family,
        "summary": recipe.summary,
        "command": recipe.command,
        "seed": recipe.seed,
        "half": recipe.half,
        **({"defence": recipe.defence} if recipe.defence else {}),
        "data": recipe.data,
        "data_digest": recipe.data_digest(recipe),
        "clean_accuracy": round(accuracy, 4),
        "parameters": sum(t.numel() for t in numbers.values()),
        "precision": precision(tensors),
        "sha256": hashlib.sha256(data).hexdigest(),
        "torch": torch.__version__.split("+")[0],
    }
    write_atomically(folder / recipe.checkpoint.name, data)
    write_atomically(folder / recipe.card.name, (json.dumps(card, indent=2) + "\n").encode())
    return card
