"""Models and data by spec or object, by the modality or by another package's entry point."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any

from carom.common.base.errors import CaromError
from carom.common.base.specs import (
    DEFENDED,
    OWN_CODE,
    Spec,
    call_with,
    parse,
    split_defended,
    split_members,
    undefended_spec,
)
from carom.common.core.data import Dataset
from carom.common.core.model import Model
from carom.common.defences.info import CALIBRATION, DefenceChoice
from carom.common.loading.facts import known_facts
from carom.common.modality.contract import Modality
from carom.common.modality.defences import choose_defence
from carom.common.modality.installed import modalities
from carom.common.models.ensembles import Ensemble


def _added(group: str, spec: Any) -> Callable[..., Any] | None:
    """What another installed package answers this spec with: its entry point of the spec's kind."""
    kind = spec.partition(":")[0] if isinstance(spec, str) else None
    for point in entry_points(group=group):
        if point.name == kind:
            return point.load()
    return None


def load_model_of(modality: Modality, source: Any, facts: Mapping[str, Any]) -> Model:
    """A model by spec or object. An entry point KIND in `carom.models` answers KIND:REST: a function of `rest` and
    the spec's parameters that returns a Model, or an object that the modality can wrap with the given facts.

    `ensemble:SPEC+SPEC?fuse=logits` is an Ensemble of the models of these specs, `defended:SPEC+DEFENCE+DEFENCE` the
    model of the first behind these defences.
    """
    if isinstance(source, str) and source.startswith(f"{DEFENDED}:"):
        return _defended_of(modality, parse(source).rest, facts)
    if isinstance(source, str) and source.startswith("ensemble:"):
        return _ensemble_of(modality, parse(source), facts)
    if isinstance(source, str) and source.startswith("zoo:"):
        name = parse(source).rest
        others = [] if name in modality.recipes else [owner.name for owner in modalities() if name in owner.recipes]
        if others:
            raise CaromError(
                f"zoo:{name} is a model for {others[0]}, not for {modality.name}: pass --modality {others[0]}."
            )
    added = _added("carom.models", source)
    if added is None:
        return modality.load_model(source, **facts)
    spec = parse(source)
    taken = inspect.signature(added).parameters
    told = {name: value for name, value in facts.items() if name in taken}
    made = call_with(added, {"rest": spec.rest, **spec.parameters, **told}, source)
    if not isinstance(made, Model):
        return modality.load_model(made, **{"name": source, **facts})
    if made.modality != modality.name:
        raise CaromError(f"{source} is for {made.modality}, not {modality.name}.")
    known_facts({name: value for name, value in facts.items() if name not in told}, (), source)
    return made


def _ensemble_of(modality: Modality, spec: Spec, facts: Mapping[str, Any]) -> Model:
    given = {**spec.parameters, **facts}
    known_facts(given, ("fuse", "name", "classes"), "an ensemble (a member's own go into its spec, in parentheses)")
    classes = {"classes": given.pop("classes")} if "classes" in given else {}
    parts = split_members(spec.rest)
    members = [load_model_of(modality, part, classes if _silent(part) else {}) for part in parts]
    return Ensemble(members, **given)


def _defended_of(modality: Modality, rest: str, facts: Mapping[str, Any]) -> Model:
    """Facts are those of the model; a name is that of the whole."""
    spec, wanted = split_defended(rest)
    chosen = [choose_defence(modality, one) for one in wanted]  # before anything is loaded
    model = load_model_of(modality, spec, {name: value for name, value in facts.items() if name != "name"})
    clean = trained_on(modality, spec)
    for choice in chosen:
        model = defended(modality, model, choice, clean)
    if "name" in facts:
        model.name = str(facts["name"])
    return model


def trained_on(modality: Modality, spec: str) -> str | None:
    """The spec of the data that a model of the zoo was trained on; None of any other model."""
    recipe = modality.recipes.get(parse(spec).rest) if spec.startswith("zoo:") else None
    return None if recipe is None else recipe.data


def defended(modality: Modality, model: Model, choice: DefenceChoice, clean: Dataset | str | None = None) -> Model:
    """The model behind a defence. What a detector is calibrated on is what its spec says, else `clean`: a data set, or
    the spec of one."""

    def read(told: Mapping[str, Any]) -> Dataset:
        spec, split, limit = (told[name] for name in CALIBRATION)
        if split == "test":
            raise CaromError(
                f"{choice.label}: a threshold is not found on the split that is attacked. Name another, split=train."
            )
        if spec is None and isinstance(clean, Dataset):
            return clean.sample(limit)
        if spec is None and clean is None:
            raise CaromError(
                f"{choice.label} finds its threshold on clean examples of the inputs that {model.name} takes: name them, "
                f"{choice.info.name}?data=SPEC, not the split that is attacked."
            )
        # Of a model that was trained on several data sets, the first.
        return load_data_of(modality, str(spec or str(clean).split(" + ")[0]), split, limit, {})

    return choice.around(model, read)


def _silent(spec: str) -> bool:
    """Whether a spec says nothing of the classes of a model that cannot tell them."""
    parsed = parse(undefended_spec(spec))
    return parsed.kind in OWN_CODE and "classes" not in parsed.parameters


def load_data_of(modality: Modality, spec: str, split: str, limit: int | None, facts: Mapping[str, Any]) -> Dataset:
    """Data by spec. An entry point KIND in `carom.datasets` answers KIND:REST: a function of `rest`, `split` and the
    spec's parameters that returns a Dataset, of which `limit` examples are kept.
    """
    added = _added("carom.datasets", spec)
    if added is None:
        return modality.load_data(spec, split=split, limit=limit, **facts)
    parsed = parse(spec)
    made = call_with(added, {"rest": parsed.rest, "split": split, **parsed.parameters}, spec)
    if not isinstance(made, Dataset):
        raise CaromError(f"{spec}: the package that answers it gave {type(made).__name__}, not a carom Dataset.")
    return made.sample(limit)
