"""Surrogates made before an attack: networks near a given one (LGV), and substitutes of models that only answer.

Both give back Models that attacks take like any other. How one was made is its `card`; `save_surrogate` writes both,
and `surrogate:PATH` loads them again.
"""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from carom.common.data import Dataset
from carom.common.ensembles import Ensemble
from carom.common.errors import CaromError
from carom.common.fitting import fitting
from carom.common.loading import OWN_CODE, fill
from carom.common.modality import get_modality, load_model_of
from carom.common.models import Model, TorchModel
from carom.common.problem import Batch
from carom.common.spaces import Box
from carom.common.specs import existing, parse
from carom.common.store import write_atomically
from carom.common.training import Progress, Sampler, Schedule, deterministic, fit

SGD_PATH = Schedule(epochs=10, batch=64, lr=0.05, weight_decay=1e-4, smoothing=0.0, clip=float("inf"), constant=True)
"""LGV's, but for the batch of 256 images."""

ROUND = Schedule(epochs=10, batch=32, lr=2e-3)
"""How a substitute is trained after each round of questions."""


def lgv(
    model: Model | str,
    data: Dataset,
    *,
    epochs: int = 10,
    per_epoch: int = 4,
    lr: float = 0.05,
    batch: int = 64,
    seed: int = 0,
    held_out: Dataset | None = None,
    modality: str | None = None,
    progress: Progress | None = None,
) -> Ensemble:
    """Networks on a path of stochastic gradient descent at a constant, high learning rate, which starts at `model` and
    stays in its vicinity (LGV, Gubri et al. 2022, Alg. 1): `epochs * per_epoch` of them, an ensemble of mean logits.

    `data` are labelled examples of its training distribution, used as they are: the paper augments them. The attack
    that belongs to it, `lgv`, asks one random member a step. `held_out` is where the card's accuracies are measured.

    The same arguments give the same weights on one machine: training takes one thread of the CPU, which suits small
    networks, and its randomness is `seed`.
    """
    base, spec = network_of(model, data, modality)
    if per_epoch < 1 or epochs < 1:
        raise CaromError(f"epochs={epochs} and per_epoch={per_epoch} collect no network: give 1 or more of each.")
    schedule = replace(SGD_PATH, epochs=epochs, lr=lr, batch=min(batch, len(data)))
    steps = max(1, len(data) // schedule.batch)
    if per_epoch > steps:
        raise CaromError(
            f"{len(data)} examples make {steps} batches of {schedule.batch}, from which {per_epoch} networks an epoch "
            "cannot be collected. Give more data, or a smaller per_epoch or batch."
        )
    path, found = copied(base, base.name), []
    stops = {steps * (k + 1) // per_epoch % steps for k in range(per_epoch)}  # of the steps of an epoch

    def collect(step: int) -> None:
        if step % steps in stops:
            found.append(copy.deepcopy(path.module).eval())

    with fitting(base, data), deterministic(seed):
        fit(path.module, examples_of(path, data, data.labels), torch.arange(len(data)), schedule, seed, progress, collect)
    members = [copied(base, f"{base.name}-lgv{k}", module) for k, module in enumerate(found)]
    ensemble = Ensemble(members, name=f"{base.name}-lgv")
    ensemble.card = {
        "kind": "lgv",
        "network": spec,
        "network_digest": base.digest,
        "members": len(members),
        "data": data.name,
        "data_digest": data.digest,
        "examples": len(data),
        "seed": seed,
        "epochs": epochs,
        "per_epoch": per_epoch,
        "lr": lr,
        "batch": schedule.batch,
        **accuracies(ensemble, held_out),
    }
    return ensemble


def substitute(
    target: Model,
    data: Dataset,
    network: Model | str,
    *,
    rounds: int = 5,
    step: float = 0.1,
    flip: int = 3,
    most: int | None = None,
    epochs: int = 10,
    lr: float = 2e-3,
    seed: int = 0,
    held_out: Dataset | None = None,
    modality: str | None = None,
    progress: Progress | None = None,
) -> TorchModel:
    """A network taught by the labels that `target` gives, to be attacked in its place (Papernot et al. 2017, Alg. 1).

    It starts from `data`, whose own labels it does not use: the target is asked for those. After each round of training
    but the last, every example so far gives a new one, a `step` (a share of the space's range) along the sign of the
    network's gradient for the example's label (Jacobian-based augmentation, eq. 4), and the target is asked for its
    label. The step turns round after `flip` rounds, and back after as many (section 4.4: periodical step size).
    `most` limits the new examples of a round, chosen at random (the paper's reservoir sampling).

    `network` is a model whose architecture is taken: of a spec with fresh weights where the spec builds them (all of
    the zoo, factories of your own), of a Model that you hold with the weights it has. `queries` on its card counts the
    target's answers; agreement and accuracy are measured on `held_out` afterwards, and cost the attacker nothing.
    """
    with deterministic(seed):
        base, spec = network_of(network, data, modality, fresh=True)
    if not isinstance(data.space, Box):
        raise CaromError(f"substitutes are taught on real inputs, and {data.name} holds {data.space.name}.")
    if rounds < 1:
        raise CaromError(f"rounds={rounds}: the substitute is taught once at least.")
    if target.classes != base.classes or target.space != base.space:
        raise CaromError(f"{base.name} cannot stand for {target.name}: it takes other inputs or knows other classes.")
    learner, schedule = copied(base, f"{base.name}-for-{target.name}"), replace(ROUND, epochs=epochs, lr=lr)
    asked = _Asked(target, data.stored, data.lengths, list(data.ids))
    with fitting(target, data):
        asked.ask()
    generator, agreements = torch.Generator().manual_seed(seed), []
    for turn in range(rounds):
        with fitting(base, data), deterministic(seed + turn):
            known = asked.dataset(data)
            fitted = replace(schedule, batch=min(schedule.batch, len(known)))
            sample = examples_of(learner, known, asked.labels)
            fit(learner.module, sample, torch.arange(len(known)), fitted, seed + turn, progress)
            agreements.append(_agreement(learner, target, held_out))
            if turn + 1 < rounds:
                rows = torch.arange(len(known))
                if most is not None and len(rows) > most:
                    rows = torch.randperm(len(rows), generator=generator)[:most].sort().values
                sign = 1 if (turn // flip) % 2 == 0 else -1
                asked.add(*_augmented(learner, known.take(rows), asked.labels[rows], sign * step, turn))
                asked.ask()
    made = copied(base, learner.name, learner.module)
    made.card = {
        "kind": "substitute",
        "network": spec,
        "target": target.name,
        "target_digest": target.digest,
        "data": data.name,
        "data_digest": data.digest,
        "examples": len(data),
        "seed": seed,
        "rounds": rounds,
        "step": step,
        "flip": flip,
        "most": most,
        "epochs": epochs,
        "lr": lr,
        "queries": asked.queries,
        "agreement": agreements[-1],
        "agreement_by_round": agreements,
        **accuracies(made, held_out),
    }
    return made


@dataclass
class _Asked:
    """The examples that a target was asked about, in stored form, and what it said."""

    target: Model
    stored: Tensor
    lengths: Tensor | None
    ids: list[str]
    labels: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    queries: int = 0

    def ask(self) -> None:
        """Ask about those that have no label yet."""
        new = torch.arange(len(self.labels), len(self.ids))
        lengths = None if self.lengths is None else self.lengths[new]
        inputs = self.target.space.decode(self.stored[new])
        nothing = torch.zeros(len(new), dtype=torch.long)
        logits = self.target.predict(Batch(inputs, nothing, [self.ids[i] for i in new.tolist()], lengths))
        self.queries += len(new)
        self.labels = torch.cat([self.labels, logits.argmax(1)])

    def add(self, stored: Tensor, lengths: Tensor | None, ids: list[str]) -> None:
        self.stored, self.ids = torch.cat([self.stored, stored]), self.ids + ids
        self.lengths = None if self.lengths is None or lengths is None else torch.cat([self.lengths, lengths])

    def dataset(self, like: Dataset) -> Dataset:
        return replace(like, stored=self.stored, labels=self.labels, ids=self.ids, lengths=self.lengths)


def _augmented(
    learner: TorchModel, data: Dataset, labels: Tensor, step: float, turn: int
) -> tuple[Tensor, Tensor | None, list[str]]:
    """(stored inputs, lengths, ids): each example moved along the sign of the learner's gradient for its label."""
    space = data.space
    assert isinstance(space, Box)
    moved = []
    with learner.frozen():
        for start in range(0, len(data), 256):
            batch = data.batch(start, start + 256)
            x = batch.inputs.requires_grad_()
            with torch.enable_grad():
                believed = learner(x, batch.lengths).logits.log_softmax(1)
                own = believed.gather(1, labels[start : start + 256, None]).sum()
                (grad,) = torch.autograd.grad(own, x)
            mask = batch.mask()
            way = grad.sign() if mask is None else grad.sign() * mask
            moved.append(space.encode(space.clamp(x.detach() + step * (space.high - space.low) * way)))
    return torch.cat(moved), data.lengths, [f"{name}~{turn}" for name in data.ids]


def examples_of(model: TorchModel, data: Dataset, labels: Tensor) -> Sampler:
    """Reads one training batch; lengths travel to the module beside its inputs."""

    def sample(rows: Tensor, generator: torch.Generator) -> tuple[Any, Tensor]:
        inputs = data.space.decode(data.stored[rows])
        if model.takes_lengths and data.lengths is not None:
            return (inputs, data.lengths[rows]), labels[rows]
        return inputs, labels[rows]

    return sample


def network_of(
    source: Model | str, data: Dataset, modality: str | None, fresh: bool = False
) -> tuple[TorchModel, str | None]:
    """(the torch model of a spec, or the one given; its spec)"""
    spec = source if isinstance(source, str) else None
    if isinstance(source, str):
        source = built(source, modality or data.modality, data.classes, fresh)
    if not isinstance(source, TorchModel):
        raise CaromError(f"{source.name} is no torch network: there is nothing in it to train. Name another one.")
    if source.classes != data.classes or source.space != data.space:
        raise CaromError(f"{source.name} takes other inputs or knows other classes than {data.name}.")
    return source, spec


def built(spec: str, modality: str, classes: tuple[str, ...], fresh: bool = False) -> Model:
    """The model of a spec; `fresh`, one of the zoo with untrained weights, drawn from torch's generator."""
    owner, parsed = get_modality(modality), parse(spec)
    model = load_model_of(owner, spec, {"classes": list(classes)} if parsed.kind in OWN_CODE else {})
    if fresh and parsed.kind == "zoo" and isinstance(model, TorchModel):
        module = owner.recipes[parsed.rest].build()
        assert isinstance(module, nn.Module)
        return copied(model, model.name, module)
    return model


def copied(model: TorchModel, name: str, module: nn.Module | None = None) -> TorchModel:
    """A model with the same facts around another module; by default, around a copy of its own."""
    return TorchModel(
        copy.deepcopy(model.module).cpu() if module is None else module,
        name=name,
        modality=model.modality,
        family=model.family,
        space=model.space,
        classes=model.classes,
        shape=model.shape,
        takes_lengths=model.takes_lengths,
    )


def _agreement(one: Model, other: Model, data: Dataset | None) -> float | None:
    """Share of the held-out examples to which both give the same answer."""
    if data is None:
        return None
    batch = data.batch()
    return round((one.predict(batch).argmax(1) == other.predict(batch).argmax(1)).float().mean().item(), 4)


def accuracies(model: Model, data: Dataset | None) -> dict[str, Any]:
    if data is None:
        return {}

    def accuracy(model: Model) -> float:
        return round((model.predict(data.batch()).argmax(1) == data.labels).float().mean().item(), 4)

    facts = {"held_out": data.name, "held_out_digest": data.digest, "clean_accuracy": accuracy(model)}
    if isinstance(model, Ensemble):
        facts["members_clean_accuracy"] = [accuracy(member) for member in model.members]
    return facts


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
