"""What users import from `carom`: load, attack, transfer."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from carom.common.attacks.info import AttackChoice, AttackInfo
from carom.common.base.errors import CaromError, UnknownName
from carom.common.base.identity import describe
from carom.common.base.notices import notice
from carom.common.base.specs import parse, split_members, split_parameters, split_plus, undefended_spec
from carom.common.core.adversarial_set import AdversarialSet
from carom.common.core.batch import Access
from carom.common.core.data import Dataset
from carom.common.core.model import Model
from carom.common.core.precision import pick_precision
from carom.common.core.problem import Attack, Cost
from carom.common.core.threats import Threat
from carom.common.defences.certificates import Certificates, certify_model
from carom.common.defences.info import DefenceInfo
from carom.common.modality.budgets import threat_from
from carom.common.modality.contract import Modality
from carom.common.modality.defences import choose_defence
from carom.common.modality.defences import list_defences as _list_defences
from carom.common.modality.installed import get_modality, modalities, modality_names, modality_of_kind, zoo_recipe
from carom.common.modality.load import defended, load_data_of, load_model_of, trained_on
from carom.common.modality.registry import attacks_of, build_attack, choose_attack, find_attack, transformed
from carom.common.modality.registry import list_attacks as _list_attacks
from carom.common.models.ensembles import Ensemble
from carom.common.models.mismatch import settle
from carom.common.runs.devices import pick_device
from carom.common.runs.resolve import with_transform
from carom.common.study.evaluate import evaluate
from carom.common.study.outcome import Transfer
from carom.common.study.plan import Plan
from carom.common.study.planning import make_plan
from carom.common.study.replay import known_source, load_set, log_modality, replay_plan
from carom.common.study.target_classes import TargetClass, stated_aim
from carom.common.surrogates.files import read_surrogate_card
from carom.common.work.executor import Executor, Progress, inline
from carom.common.work.store import Store


def modality_of(source: Any, modality: str | None = None) -> Modality:
    """The modality a model spec belongs to; for specs and objects that do not tell, it is asked for."""
    if modality is not None:
        return get_modality(modality)
    if isinstance(source, str):
        source = undefended_spec(source)
        spec = parse(source)
        if spec.kind == "ensemble":
            return modality_of(split_members(spec.rest)[0])
        if spec.kind == "surrogate":
            return get_modality(read_surrogate_card(spec.rest)["modality"])
        if spec.kind == "zoo":
            return get_modality(zoo_recipe(spec.rest).modality)
        if (owner := modality_of_kind(spec.kind)) is not None:
            return owner
    what = repr(source) if isinstance(source, str) else type(source).__name__
    raise _ask_modality(what)


def which_modality(specs: Iterable[str]) -> str:
    """What to answer who names models and no modality: which they belong to, where their specs tell."""
    known: dict[str, str] = {}
    for spec in specs:
        with contextlib.suppress(CaromError):
            known.setdefault(modality_of(spec).name, spec)
    if not known:
        return f"which modality? Pass --modality, one of {', '.join(modality_names())}, or a STUDY.toml (see `carom init`)."
    told = " and ".join(f"{spec} is a model for {name}" for name, spec in known.items())
    if len(known) == 1:
        return f"which modality? {told}: pass --modality {next(iter(known))}."
    return f"{told}: they take other inputs. Measure one modality at a time, or several in a STUDY.toml (`carom init`)."


def _ask_modality(what: str) -> CaromError:
    return CaromError(
        f"carom cannot know the modality of {what}: pass modality= (--modality), one of {', '.join(modality_names())}."
    )


def load_model(source: Any, modality: str | None = None, **facts: Any) -> Model:
    """A model by spec (`zoo:image-resnet`, `hf:org/name@revision`, `py:pkg.module:factory`), or one that you hold.

    `source` may be a spec, a `torch.nn.Module`, a Hugging Face model, a fitted scikit-learn estimator or a function.
    What Carom cannot know of it (modality, normalisation, sample rate, tokenizer, classes) is asked for by name.

    Args:
        source: a spec, a `torch.nn.Module`, a Hugging Face model or pipeline, a fitted scikit-learn estimator, a function
            from inputs to scores, or a Model, which is handed back.
        modality: image, audio or text; needed where the source does not tell it.
        **facts: what Carom cannot know of it: `classes` (names in the order of its outputs, or their number),
            `normalise` (mean and standard deviation of each channel in units of [0, 1], or None), `sample_rate` (Hz),
            `tokenizer`, `threshold` (where it answers one number), `family`, `name`, `identity`. A missing one is asked
            for by name.

    Returns:
        A Model: called with float[N, ...] of its space, or list[str], it answers logits float[N, C].

    Raises:
        CaromError: the source cannot be read, or a fact is missing, unknown or of the wrong form.

    Examples:
        >>> import carom
        >>> carom.load_model("zoo:image-resnet")
        <TorchModel image-resnet (image, cnn, 10 classes)>
        >>> from torch import nn
        >>> mine = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
        >>> carom.load_model(mine, "image", normalise=None, classes=10, name="mine")
        <TorchModel mine (image, linear, 10 classes)>
        >>> carom.load_model(mine, "image", classes=10)
        Traceback (most recent call last):
        carom.common.loading.facts.MissingFacts: carom cannot know the normalisation of Sequential: pass ...
    """
    if isinstance(source, Model):
        if facts:
            raise CaromError(
                f"model {source.name} is loaded already, and {', '.join(facts)} would change nothing. State facts where it "
                "is loaded, or leave them out."
            )
        source.renew()
        return source
    return load_model_of(modality_of(source, modality), source, facts)


def ensemble(
    models: Iterable[Model | str], fuse: str = "logits", name: str | None = None, modality: str | None = None
) -> Ensemble:
    """Models that answer as one: by the mean of their logits, of their probabilities, or, for attacks, of their losses.

    A source like any other (`ensemble:SPEC+SPEC?fuse=logits` on the command line), and what attacks that read the
    members one by one need: svre, cwa, adaea, lgv.

    Args:
        models: Models or specs of the same modality and the same classes, in any number.
        fuse: "logits", "probabilities" or "losses".
        name: what tables call it; by default the members' names, joined by "+".
        modality: for specs that do not tell theirs.

    Raises:
        CaromError: the members differ in modality, space or classes.

    Examples:
        >>> import carom
        >>> carom.ensemble(["zoo:image-resnet", "zoo:image-vgg"], fuse="losses", name="both")
        <Ensemble both (image, cnn, 10 classes)>
    """
    held = list(models)
    owner = modality or next((m.modality for m in held if isinstance(m, Model)), None)
    return Ensemble([load_model(model, owner) for model in held], fuse, name)


def defend(model: Model | str, *defences: str, calibration: Dataset | str | None = None, **facts: Any) -> Model:
    """A model behind defences, each around all before it: a model like any other, as source and as target.

    `defended:SPEC+DEFENCE+DEFENCE` on the command line. Gradient attacks on it are those of an attacker who knows the
    defences: through or around each, averaged over draws, and led by the decision that is really taken.

    Args:
        model: a Model, or its spec.
        *defences: defences with their parameters, "jpeg?quality=50"; several may be joined by plus signs.
        calibration: clean examples, or their spec, of which the train split is read, that a detector finds its threshold
            on: not those that are attacked. By default what a model of the zoo was trained on.
        **facts: what `load_model` asks of a spec that does not tell it.

    Returns:
        A Model of the same inputs and classes, named after model and defences.

    Raises:
        CaromError: a defence is unknown or of another modality, its parameters are of the wrong form, or it cannot stand
            around this model.

    Examples:
        >>> import carom
        >>> carom.defend("zoo:image-resnet", "bit-depth?bits=2", "noise")
        <Transformed image-resnet+bit-depth?bits=2+noise (image, cnn, 10 classes)>
        >>> carom.defend("zoo:image-resnet", "jpg")
        Traceback (most recent call last):
        carom.common.base.errors.UnknownName: ...Did you mean jpeg...
    """
    held = load_model(model, **facts)
    modality = get_modality(held.modality)
    clean = calibration
    if clean is None and isinstance(model, str):
        clean = trained_on(modality, model)
    for choice in [choose_defence(modality, one) for spec in defences for one in split_plus(spec)]:
        held = defended(modality, held, choice, clean)
    return held


def certify(
    model: Model | str,
    data: Dataset | str,
    *,
    draws: int = 1000,
    first: int = 100,
    alpha: float = 0.001,
    limit: int | None = None,
    batch: int = 256,
    device: str = "auto",
    **facts: Any,
) -> Certificates:
    """How far the answers of a smoothed model are certified: no change of an input up to its radius changes its answer.

    By `first` draws the class is chosen, by `draws` others its probability is bounded from below (Clopper and Pearson);
    where that is no more than 1/2 there is no certificate. What a radius counts is the defence's: L2 distance of
    `smoothing`, words of `ranmask` and `safer`.

    Args:
        model: a Model whose outermost defence is a smoothing one, or its spec.
        data: the examples, or their spec.
        draws: from which probabilities are bounded: more certify more.
        first: from which the class is chosen.
        alpha: how probable it is at most that an example's certificate is wrong.
        limit: of a spec, how many examples at most.
        batch: inputs that go through the model together. Results do not depend on it.
        device: "auto", "cpu", "cuda" or "cuda:1".
        **facts: what `load_model` asks of a spec that does not tell it.

    Returns:
        Certificates: `radii` float64[N] (NaN where it abstains), `answers` int64[N] (-1 there), `accuracy(radius)`,
        `abstained`, `rows()`; of sounds `terms["snr_db"]`, the ratio of energies that a radius is.

    Raises:
        CaromError: the model certifies nothing, or the data are not of its inputs.

    Examples:
        >>> import carom
        >>> found = carom.certify("defended:zoo:image-mlp+smoothing?sigma=0.1", "builtin:fashion-mnist", draws=50, limit=4)
        >>> found.unit, found.radii.shape
        ('L2 distance', torch.Size([4]))
        >>> carom.certify("zoo:image-mlp", "builtin:fashion-mnist", limit=4)
        Traceback (most recent call last):
        carom.common.base.errors.CaromError: image-mlp certifies nothing: only a smoothing defence does...
    """
    held = load_model(model, **facts).to(pick_device(device))
    found = load_data(data, limit=limit, modality=held.modality) if isinstance(data, str) else data.sample(limit)
    return certify_model(held, found, draws, first, alpha, batch)


def list_defences(modality: str | None = None) -> list[DefenceInfo]:
    """Every registered defence, of one modality or all; those of one name in several are listed for each.

    Args:
        modality: image, audio or text; None for all.

    Returns:
        Entries of the registry: name, kind, adaptation, paper, cost, departures.

    Raises:
        CaromError: the modality is unknown.

    Examples:
        >>> import carom
        >>> [info.name for info in carom.list_defences("image")][:2]
        ['jpeg', 'bit-depth']
    """
    return [info for _, info in _list_defences(modality)]


def load_data(
    spec: str, split: str = "test", limit: int | None = None, modality: str | None = None, **facts: Any
) -> Dataset:
    """Data by spec: `builtin:fashion-mnist`, `folder:PATH`, `hf:glue/sst2:validation[:500]`, `torchvision:CIFAR10`.

    `limit` keeps that many examples, chosen by a hash of their ids. `on_error="skip"` leaves bad files out.

    Args:
        spec: where the examples come from.
        split: which part: "test", "train", or what the data set has.
        limit: how many examples at most; which ones depends on their ids alone. None takes all.
        modality: for specs that do not tell it, such as `folder:`.
        **facts: of the modality: `channels`, `size` (pixels), `sample_rate` (Hz), `max_seconds`, `text`, `label` (columns),
            `classes` (names), and `on_error` ("raise", or "skip", which leaves bad files out and says which).

    Returns:
        A Dataset: `stored` uint8[N, C, H, W], int16[N, samples] or list[str]; `labels` int64[N]; `ids`; `classes`.

    Raises:
        CaromError: naming the file, the row or the fact.

    Examples:
        >>> import carom
        >>> data = carom.load_data("builtin:fashion-mnist", limit=4)
        >>> data.stored.shape, data.stored.dtype, data.classes[:2]
        (torch.Size([4, 1, 28, 28]), torch.uint8, ('t-shirt', 'trouser'))
    """
    if modality is None:
        parsed = parse(spec)
        owners = [m.name for m in modalities() if parsed.kind == "builtin" and parsed.rest in m.data]
        owners = owners or [owner.name for owner in modalities() if parsed.kind in owner.model_kinds]
        if not owners:
            if parsed.kind == "builtin":
                known = [name for m in modalities() for name in m.data]
                raise UnknownName("built-in data set", parsed.rest, known)
            raise _ask_modality(repr(spec))
        modality = owners[0]
    return load_data_of(get_modality(modality), spec, split, limit, facts)


def get_attack(name: str, modality: str | None = None, **parameters: Any) -> Attack:
    """The attack of that name: `get_attack("pgd", steps=20)`. Image and audio share their gradient attacks; transforms
    are their modality's: `get_attack("mi-fgsm", "image", transform="di,ti")`.

    Args:
        name: of the attack, or its spec ("pgd?steps=20").
        modality: whose attack, where several have one of that name.
        **parameters: the attack's own (`carom show NAME`), and `transform` for those that climb a gradient.

    Raises:
        CaromError: no attack of that name, or a parameter that it does not take.

    Examples:
        >>> import carom
        >>> carom.get_attack("pgd", steps=20).steps
        20
        >>> carom.get_attack("pgd", stepz=20)
        Traceback (most recent call last):
        carom.common.base.errors.UnknownName: ...Did you mean steps...
    """
    head, given = split_parameters(name)
    given |= parameters
    kind, colon, _ = head.partition(":")
    owners = [o for o in modalities(modality) if head in attacks_of(o) or (colon and kind in o.attack_kinds)]
    if "transform" in given:  # of modalities that share the attack, one that has transforms
        owners.sort(key=lambda owner: not owner.transforms)
    for owner in owners:
        return build_attack(owner, find_attack(owner, head), given).attack
    raise UnknownName("attack", head, {info.name for _, info in _list_attacks(modality)})


def list_attacks(modality: str | None = None) -> list[AttackInfo]:
    """Every registered attack, of one modality or all; those shared by several are listed once.

    Args:
        modality: image, audio or text; None lists those of all.

    Examples:
        >>> import carom
        >>> [info.name for info in carom.list_attacks("image")][:3]
        ['fgsm', 'bim', 'pgd']
        >>> {info.name: info.needs.words() for info in carom.list_attacks("text")}["pwws"]
        ['score']
    """
    return list({info.name: info for _, info in _list_attacks(modality)}.values())


def threat_of(modality: Modality, threat: Threat | str | None, eps: float | str | None) -> tuple[Threat, str]:
    """(threat, its label): a threat, or a kind and a budget; by default the modality's own."""
    if threat is not None and not isinstance(threat, str):
        return threat, repr(threat)
    kind = threat or modality.defaults.threat
    if eps is None and kind != modality.defaults.threat:
        raise CaromError(f"threat {kind} needs a budget: pass eps=...")
    size = modality.defaults.eps if eps is None else eps
    return threat_from(modality, kind, size), f"{kind} {size}"


def attack(
    model: Model,
    data: Dataset,
    attack: str | Attack = "pgd",
    *,
    threat: Threat | str | None = None,
    eps: float | str | None = None,
    targeted: bool = False,
    target_class: TargetClass = None,
    transforms: str | Sequence[str] = (),
    others: Dataset | None = None,
    seed: int = 0,
    batch: int = 64,
    device: str = "auto",
    precision: str = "fp32",
) -> AdversarialSet:
    """Adversarial examples for a model, rounded to what can be saved and checked against the budget.

    `targeted` aims at a random other class for each example, `target_class` at one class, at the "least-likely" to the
    model, or at a class for each example: {id: class}, one class an example in the order of the data, or "@FILE", a
    table with the columns id and target. `transforms="di,ti"` gives a gradient attack these transforms of its modality
    besides. `others` are labelled examples that are not under attack, for attacks that mix them in (admix).

    Args:
        model: what is attacked.
        data: the examples; all of them are attacked.
        attack: a spec ("mi-fgsm?steps=20"), or an Attack.
        threat: a kind ("linf", "l2", "l1", "l0", "snr", "words", ...), or a Threat; by default the modality's.
        eps: the budget in the units of the threat: pixels of [0, 1] as a number or "8/255", decibels of SNR, a share of
            the words. By default the modality's.
        targeted: aim at a random other class of each example.
        target_class: the class to aim at, by name or number, or "least-likely".
        transforms: names of transforms to add, "di,ti" or a sequence.
        others: labelled examples that the attacker has besides, none of them under attack.
        seed: of everything that is random.
        batch: how many examples at once. Results do not depend on it.
        device: "auto", "cpu", "cuda" or "cuda:1". A model that you hold is put back where it was.
        precision: of the gradients: "fp32", "tf32", "bf16" or "auto" (TF32 on a GPU that has it). Success is that in fp32.

    Returns:
        An AdversarialSet: `stored` like the data's, within the budget; `success` bool[N]; `status`; `cost` int64[N] of
        forward passes, backward passes and queries.

    Raises:
        CaromError: the attack cannot run on this model, within this threat or on these data.

    Examples:
        >>> import carom
        >>> data = carom.load_data("builtin:fashion-mnist", limit=4)
        >>> crafted = carom.attack(carom.load_model("zoo:image-resnet"), data, "fgsm", eps="8/255")
        >>> crafted.stored.dtype, int((crafted.stored.int() - data.stored.int()).abs().max())
        (torch.uint8, 8)
    """
    modality = get_modality(model.modality)
    budget, label = threat_of(modality, threat, eps)
    kind = label.split()[0] if threat is None or isinstance(threat, str) else None
    chosen = _choose(modality, attack, kind, transforms)
    before, where = model.device, pick_device(device)
    computed_in = pick_precision(precision, where)
    plan = Plan(
        modality=model.modality,
        sources=(model,),
        targets=(model,),
        attacks=(chosen,),
        data=data,
        threat=budget,
        threat_label=label,
        seeds=(seed,),
        targeted=targeted or target_class is not None,
        aim=stated_aim(target_class, data),
        others=others,
        precision=computed_in,
    )
    results, stored = [], []
    try:
        model.to(where)
        settle(model, data)
        for shard in plan.shards():
            for craft in plan.crafts(shard):
                results.append(craft.results(batch))
                stored.append(craft.stored(results[-1]))
    finally:
        if before != where:
            model.to(before)
    merged = [r for part in results for r in part]
    return AdversarialSet(
        source=model.name,
        attack=chosen.label,
        threat=label,
        modality=model.modality,
        stored=torch.cat(stored) if isinstance(stored[0], Tensor) else [t for part in stored for t in part],
        labels=plan.data.labels,
        ids=plan.data.ids,
        success=torch.cat([r.success for r in merged]),
        status=torch.cat([r.status for r in merged]),
        cost=Cost.join([r.cost for r in merged]),
        clean=plan.data,
        budget=chosen.threat(budget),
        notes={words: torch.cat([r.notes[words] for r in merged]) for words in merged[0].notes},
    )


def _choose(
    modality: Modality, attack: str | Attack, kind: str | None, transforms: str | Sequence[str]
) -> AttackChoice:
    wanted = transforms if isinstance(transforms, str) else ",".join(transforms)
    if isinstance(attack, str):
        return choose_attack(modality, with_transform(attack, wanted or None), kind)
    needs, name = getattr(attack, "needs", Access.LABEL), getattr(attack, "name", type(attack).__name__)
    if wanted:
        attack, more = transformed(modality, attack, wanted, f"attack {name}")
        needs |= more
    info = AttackInfo(
        name=name,
        summary=str(describe(attack)),
        reference="given by the caller",
        needs=needs,
        threats=(),
        build=lambda: attack,
        cost="unknown",
    )
    return AttackChoice(info, {"transform": wanted} if wanted else {}, attack)


def transfer(
    sources: Iterable[Model | str],
    targets: Iterable[Model | str],
    attacks: Iterable[str | Attack],
    data: Dataset | str,
    *,
    threat: Threat | str | None = None,
    eps: float | str | None = None,
    targeted: bool = False,
    target_class: TargetClass = None,
    transforms: str | Sequence[str] = (),
    others: Dataset | None = None,
    match: Sequence[float] = (),
    curve: str | None = None,
    denominators: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    controls: int = 5,
    store: Store | Path | str | None = None,
    executor: Executor | str = "inline",
    batch: int = 64,
    device: str = "auto",
    precision: str = "fp32",
    progress: Progress | None = None,
) -> Transfer:
    """Craft on every source, measure on every target: T, its control, E, R, their intervals and warnings.

    Every attack runs on each source that grants what it needs. `transforms` are added to every attack that names none
    itself ("mi-fgsm?transform=di,ti"). Attacks that need `others`, labelled examples not under attack, take them from
    the train split where `data` is a spec. With a `store`, what is there is not computed again.
    `match=(0.5, 0.9)` measures all of it once more where each source's white-box success is .5 and .9: the modality's
    scale of budgets of the threat's kind is searched, and the cells say what was reached (`Transfer.matched_rows`).
    `curve="gradients=1,10,50"` measures it at equal numbers of gradients per example (`Transfer.curve_rows`).
    `denominators=("all-right", "source-fooled", "everything")` says transfer by the field's other denominators besides,
    and which attacks change places there (`denominators` of a row, `Transfer.matrix("transfer", denominator=...)`).

    Args:
        sources: Models or specs on which examples are crafted.
        targets: Models or specs on which they are measured.
        attacks: specs or Attacks; each runs on every source that grants what it needs.
        data: a Dataset or a spec.
        threat: as in `attack`.
        eps: as in `attack`.
        targeted: aim at a random other class of each example.
        target_class: the class to aim at, or "least-likely".
        transforms: added to every attack that names none itself.
        others: examples that attacks may mix in; from a spec, the train split gives them.
        match: shares of white-box success, each in (0, 1), at which all is measured once more.
        curve: "gradients=1,10,50" or "queries=100,1000": numbers per example at which all is measured.
        denominators: of "all-right", "source-fooled" and "everything": those by which transfer is said besides.
        seeds: one run of everything random for each.
        controls: random draws of the budget per example, at least 1.
        store: a folder that keeps finished work; None keeps it as long as the process lives.
        executor: "inline", or a function that computes units of work.
        batch: how many examples at once. Results do not depend on it.
        device: "auto", "cpu", "cuda" or "cuda:1".
        precision: of the gradients: "fp32", "tf32", "bf16" or "auto" (TF32 on a GPU that has it). All is judged in fp32.
        progress: called with (done, all, what) after each unit of work.

    Returns:
        A Transfer: `rows()` (one dict a cell), `matrix("excess")`, `report("report.html")`, `failures`.

    Raises:
        CaromError: before anything is computed, where models, data, attacks or threat do not fit one another.

    Examples:
        >>> import carom
        >>> data = carom.load_data("builtin:fashion-mnist", limit=8)
        >>> outcome = carom.transfer(["zoo:image-resnet"], ["zoo:image-vgg"], ["bim"], data, eps="28/255", controls=1)
        >>> [cell] = outcome.rows()
        >>> cell["n"] <= 8, cell["excess"] <= cell["transfer"] <= 1
        (True, True)
        >>> list(outcome.matrix("excess"))
        ['image-resnet']
    """
    if executor not in ("inline", inline) and isinstance(executor, str):
        raise UnknownName("executor", executor, ["inline"])
    spec = data if isinstance(data, str) else None
    data = load_data(data) if isinstance(data, str) else data
    modality = get_modality(data.modality)
    where = pick_device(device)

    moved: dict[Model, torch.device] = {}  # of the caller's: from where

    def loaded(wanted: Iterable[Model | str]) -> tuple[Model, ...]:
        held = tuple(load_model(m, modality.name) for m in wanted)
        moved.update({m: m.device for m in held if m.device != where and m not in moved})
        return tuple(m.to(where) for m in held)

    def load(split: str, limit: int | None) -> Dataset:
        return load_data(str(spec), split, limit, modality.name)

    budget, label = threat_of(modality, threat, eps)
    kind = label.split()[0] if threat is None or isinstance(threat, str) else None
    chosen = tuple(_choose(modality, a, kind, transforms) for a in attacks)
    plan = make_plan(
        modality,
        data=data,
        attacks=chosen,
        threat=budget,
        threat_label=label,
        kind=kind,
        models=lambda: (loaded(sources), loaded(targets)),
        load=None if spec is None else load,
        others=others,
        match=match,
        curve=curve,
        denominators=denominators,
        seeds=seeds,
        controls=controls,
        precision=pick_precision(precision, where),
        targeted=targeted or target_class is not None,
        aim=stated_aim(target_class, data),
    )
    try:
        return _told(evaluate(plan, _ledger(store), batch, inline if isinstance(executor, str) else executor, progress))
    finally:
        for model, before in moved.items():
            model.to(before)


def replay(
    found: AdversarialSet | Path | str,
    targets: Iterable[Model | str],
    *,
    source: Model | str | None = None,
    data: Dataset | str | None = None,
    threat: Threat | str | None = None,
    eps: float | str | None = None,
    limit: int | None = None,
    controls: int = 5,
    seeds: Sequence[int] = (0,),
    denominators: Sequence[str] = (),
    store: Store | Path | str | None = None,
    batch: int = 64,
    device: str = "auto",
    progress: Progress | None = None,
) -> Transfer:
    """Measure what was crafted before, here or by another tool, on other models: no attack runs.

    `found` is an `AdversarialSet`, or the path of one or of a log (`AdversarialSet.load`). `source` is the model it
    was crafted on; where it is left out, what the set says of its source is used, and of a saved set the model of that
    name in the zoo. `data`, for saved sets, are the clean examples. Controls are drawn within the set's own budget, or
    within `threat` and `eps`.

    Args:
        found: an AdversarialSet, or a path.
        targets: Models or specs on which it is measured.
        source: the Model or spec that it was crafted on.
        data: the clean examples: a Dataset or a spec.
        threat: the budget's kind, or a Threat, in place of the one that the set names.
        eps: the budget, in the units of the threat.
        limit: how many of its examples at most.
        controls: random draws of the budget per example.
        seeds: of the controls.
        denominators: as in `transfer`.
        store: as in `transfer`.
        batch: how many examples at once. Results do not depend on it.
        device: "auto", "cpu", "cuda" or "cuda:1".
        progress: called with (done, all, what) after each unit of work.

    Raises:
        CaromError: the set is damaged, exceeds its budget, or its clean examples are not known.

    Examples:
        >>> import carom
        >>> data = carom.load_data("builtin:fashion-mnist", limit=4)
        >>> crafted = carom.attack(carom.load_model("zoo:image-resnet"), data, "fgsm", eps="8/255")
        >>> outcome = carom.replay(crafted, ["zoo:image-vgg"], controls=1)
        >>> [(cell["source"], cell["target"]) for cell in outcome.rows()]
        [('image-resnet', 'image-vgg')]
    """
    held = [load_model(m) if not isinstance(found, AdversarialSet) else load_model(m, found.modality) for m in targets]
    data = load_data(data) if isinstance(data, str) else data
    if not isinstance(found, AdversarialSet):
        path, kind = Path(found), held[0].modality if held else None
        told = {} if log_modality(path, kind) is None else {"classes": held[0].classes if held else None, "data": data}
        found = load_set(path, kind, **told)
    origin = load_model(source or known_source(found), found.modality) if source or known_source(found) else None
    where = pick_device(device)
    for model in (*held, *([] if origin is None else [origin])):
        model.to(where)
    bound = threat_of(get_modality(found.modality), threat, eps) if threat is not None or eps is not None else None
    plan = replay_plan(found, held, origin, data, bound, limit, controls, seeds, denominators)
    return _told(evaluate(plan, _ledger(store), batch, progress=progress))


def _told(outcome: Transfer) -> Transfer:
    """The outcome, with a word of warning where units of it failed: their cells are missing."""
    if outcome.failures:
        first, more = outcome.failures[0], len(outcome.failures) - 1
        tail = f", and {more} more units failed" if more else ""
        said = f"{first.what}: {first.error}{tail}: cells that need them are missing (see `Transfer.failures`)."
        notice(said)
    return outcome


def _ledger(store: Store | Path | str | None) -> Store:
    if store is None:
        store = tempfile.mkdtemp(prefix="carom-")
    return store if isinstance(store, Store) else Store(store)
