"""Adversarial sets: what was crafted, here or by another tool, and how it is measured without crafting it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from carom.common.attacks.info import AttackChoice, AttackInfo
from carom.common.base.errors import CaromError
from carom.common.base.received import ships_attack
from carom.common.base.rng import Rng
from carom.common.base.specs import number, split_parameters
from carom.common.core.adversarial_set import AdversarialSet, read_sets_by
from carom.common.core.batch import Access, Batch, Family, Output, take
from carom.common.core.data import Dataset
from carom.common.core.model import Model
from carom.common.core.problem import COUNTS, Cost, Problem, Result
from carom.common.core.spaces import Inputs, Space
from carom.common.core.threats import Ball, Threat
from carom.common.modality.contract import Modality
from carom.common.modality.installed import get_modality, modalities
from carom.common.modality.registry import attacks_of, choose_attack
from carom.common.models.class_matching import set_in
from carom.common.study.outputs import export  # noqa: F401 - is behind AdversarialSet.export
from carom.common.study.plan import SHARD, Plan


def log_modality(path: Path, modality: str | None = None) -> Modality | None:
    """The modality that reads this kind of log; None if none does, as of saved sets."""
    suffix, folder = path.suffix.lower(), path.is_dir()
    owners = [o for o in modalities(modality) if (o.log_folders if folder else suffix in o.logs)]
    if len(owners) > 1:
        known = ", ".join(owner.name for owner in owners)
        raise CaromError(f"{path}: of which modality? Pass modality= (--modality), one of {known}.")
    return owners[0] if owners else None


@read_sets_by
def load_set(path: Path | str, modality: str | None = None, **facts: Any) -> AdversarialSet:
    """A set that `AdversarialSet.save` wrote, or the log of another tool: for texts, what TextAttack and OpenAttack
    write (`carom.text.data.logs`), for images and sounds arrays (`carom.common.loading.arrays`); the facts are those of
    these readers, such as `data` or `classes`. Raises `CaromError` naming the file.

    Args:
        path: a .safetensors file, another tool's log (.csv, .json, .npz, .npy, .pt), or a folder of adversarial files.
        modality: for files that do not tell it.
        **facts: of other tools' files: `data` (a Dataset, the clean examples), `classes` (names), `on_error`; of logs of
            texts, the columns `original`, `perturbed` and `label`.

    Raises:
        CaromError: naming the file.
    """
    path = Path(path)
    owner = log_modality(path, modality)
    if owner is not None and owner.load_log is not None:
        return owner.load_log(path, **facts)
    if facts:
        raise CaromError(f"{path}: an adversarial set says itself what it holds. Leave {', '.join(facts)} out.")
    return AdversarialSet.saved(path)


def bound(found: AdversarialSet) -> Threat:
    """The budget that a set was crafted within."""
    if found.budget is not None:
        return found.budget
    modality = get_modality(found.modality)
    kind, _, size = found.threat.partition(" ")
    if kind not in modality.threats:
        raise CaromError(
            f"the set was crafted within {found.threat!r}, which cannot be made again from its name: "
            "pass the kind of threat and its size (--threat, --eps)."
        )
    asked = modality.threats[kind](number(size))
    name = split_parameters(found.attack)[0]
    if name in attacks_of(modality) and isinstance(asked, Ball):
        return attacks_of(modality)[name].threat(asked)  # whatever its parameters are
    if name not in attacks_of(modality) and name.partition(":")[0] not in modality.attack_kinds:
        return asked
    if not ships_attack(found.attack):
        raise CaromError(
            f"the set names its attack as {found.attack!r}, whose words may name models, files or code: they are not "
            "followed because a file says so. Pass the kind of threat and its size (--threat, --eps)."
        )
    return choose_attack(modality, found.attack).threat(asked)


class RecordedSource(Model):
    """The model of another tool's log: it repeats the answers that the log holds, and can be asked nothing else.

    `silent` where the log holds none: then nothing is known of it but that the inputs were crafted on it.
    """

    recorded = True
    access = Access.LABEL

    def __init__(self, found: AdversarialSet, clean: Dataset) -> None:
        super().__init__(found.source, found.modality, Family.OTHER, clean.space, clean.classes, found.digest)
        self.silent = found.answers is None
        self._known: dict[Any, int] = {}
        for answers, stored in zip(found.answers or (), (clean.stored, found.stored), strict=False):
            self._known |= zip(_hashable(clean.space.decode(stored)), answers.tolist(), strict=True)

    def __call__(self, inputs: Inputs, lengths: Tensor | None = None) -> Output:
        said = torch.tensor([self._known[x] for x in _hashable(inputs)], dtype=torch.long)
        return Output(torch.nn.functional.one_hot(said, len(self.classes)).float())


def _hashable(inputs: Inputs) -> list[Any]:
    return [row.cpu().numpy().tobytes() for row in inputs] if isinstance(inputs, Tensor) else list(inputs)


@dataclass(frozen=True)
class Replay:
    """An attack that hands over what was crafted before, at the cost recorded then."""

    digest: str
    found: AdversarialSet = field(compare=False, repr=False)

    def __call__(self, problem: Problem, batch: Batch, rng: Rng) -> Result:
        found, rows = self.found, self.found.rows(batch.ids)
        inputs = problem.model.space.decode(take(found.stored, rows))
        if isinstance(inputs, Tensor):
            inputs = inputs.to(problem.model.device)
        success = found.success[rows]
        if not problem.model.silent:
            asked = Batch(inputs, batch.labels, batch.ids, batch.lengths)
            success, goal = success.clone(), problem.goal.to("cpu")
            for part, output in problem.model.ask(asked, lambda output: output):
                success[part] = goal.take(part).achieved(output)
        cost = Cost(*(getattr(found.cost, name)[rows] for name in COUNTS))
        return Result(inputs, success, cost, found.status[rows], {k: v[rows] for k, v in found.notes.items()})


def replay_plan(
    found: AdversarialSet,
    targets: Sequence[Model],
    source: Model | None = None,
    data: Dataset | None = None,
    threat: tuple[Threat, str] | None = None,
    limit: int | None = None,
    controls: int = 5,
    seeds: Sequence[int] = (0,),
    denominators: Sequence[str] = (),
) -> Plan:
    """The study that measures a set on targets, with controls drawn here. `source`: the model it was crafted on;
    without it, what the set itself says of it. `threat`, with its label, in place of the one the set names."""
    clean = found.clean_in(data)
    found, clean = set_in(found, clean, [*targets, *([] if source is None else [source])])
    budget, label = threat or (bound(found), found.threat)
    kinds = (label.split()[0],)
    part = clean.sample(limit)
    check_within(found, part, budget, label)
    info = AttackInfo(
        name=found.attack,
        summary="crafted before",
        reference="as recorded",
        needs=Access(0),
        threats=kinds,
        build=lambda: replayed,
        cost="as recorded",
    )
    replayed = Replay(found.digest, found)
    modality = get_modality(found.modality)
    # A recorded answer belongs to one text, whichever examples hold it: the whole log is known, not only `limit`.
    origin = source or RecordedSource(found, clean)
    return Plan(
        modality=found.modality,
        sources=(origin,),
        targets=tuple(targets),
        attacks=(AttackChoice(info, {}, replayed),),
        data=part,
        threat=budget,
        threat_label=label,
        seeds=tuple(seeds),
        controls=controls,
        metrics=tuple(modality.metrics),
        denominators=tuple(dict.fromkeys(denominators)),
    )


def check_within(found: AdversarialSet, clean: Dataset, threat: Threat, label: str) -> None:
    """Refuse a set that leaves the budget it is to be measured within, before anything is computed: its controls would
    be drawn from a smaller one. `clean` are examples of the set."""
    outside, worst = [], (0.0, 0.0)
    for start in range(0, len(clean), SHARD):
        part = clean.take(torch.arange(start, min(start + SHARD, len(clean))))
        x0, x = (clean.space.decode(held) for held in (part.stored, take(found.stored, found.rows(part.ids))))
        allowed = threat.allows(x, x0)
        outside += [part.ids[row] for row in (~allowed).nonzero().squeeze(1).tolist()]
        if isinstance(threat, Ball) and not bool(allowed.all()):
            sizes, radii = threat.norm(x - x0), threat.radius(x0)
            at = int((sizes / radii.clamp_min(1e-12)).argmax())
            worst = max(worst, (float(sizes[at]), float(radii[at])))
    if not outside:
        return
    change = ""
    if isinstance(threat, Ball):
        size, room = (_spelled(one, threat, clean.space) for one in worst)
        change = f", by up to {size} where {room} is allowed"
    raise CaromError(
        f"{found.source}: {len(outside)} of {len(clean)} examples leave the budget {label}{change}; among them "
        f"{outside[0]}. State the budget that they were made within: --threat and --eps."
    )


def _spelled(size: float, threat: Ball, space: Space) -> str:
    """A size in steps of the stored type, where it is whole ones."""
    unit = getattr(space, "unit", 0)
    steps = round(size / unit) if unit else 0
    whole = steps and threat.fractions and abs(size / unit - steps) < 1e-3
    return f"{steps}/{round(1 / unit)}" if whole else f"{size:.3g}"


def known_source(found: AdversarialSet) -> str | None:
    """The spec of the model that a saved set was crafted on, where its name is one of the zoo's."""
    return f"zoo:{found.source}" if found.source in get_modality(found.modality).recipes else None
