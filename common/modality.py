"""Modalities: what a kind of input brings to the shared machinery. A new one is a new folder; nothing here changes.

Each installs a `Modality` under the entry-point group `carom.modalities`. Third parties add models, attacks and data
under `carom.models`, `carom.attacks` and `carom.datasets`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol

from carom.common.data import Dataset
from carom.common.ensembles import Ensemble
from carom.common.errors import CaromError, UnknownName
from carom.common.metrics import Metric
from carom.common.models import Model
from carom.common.problem import Access, Attack
from carom.common.spaces import Inputs, Space
from carom.common.specs import Spec, call_with, parse, split_members
from carom.common.threats import Threat
from carom.common.zoo import Recipe

if TYPE_CHECKING:
    from carom.common.ascent import Ascent
    from carom.common.recorded import AdversarialSet


@dataclass(frozen=True)
class Picture:
    """A PNG shown pixel by pixel."""

    caption: str
    png: bytes


@dataclass(frozen=True)
class Sound:
    """A WAV with a player and the outline of its waveform: (lowest, highest) sample per column, in [-1, 1]."""

    caption: str
    wav: bytes
    outline: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class WordDiff:
    """A text as runs: ("", same), ("del", removed), ("ins", added)."""

    caption: str
    runs: Sequence[tuple[str, str]]


Panel = Picture | Sound | WordDiff
"""One view of an example in the report."""


@dataclass(frozen=True)
class AttackInfo:
    """One entry of the attack registry."""

    name: str
    summary: str  # one line
    reference: str  # authors, year, title
    needs: Access
    threats: tuple[str, ...]  # kinds of threat it works in: linf, l2, l0, snr, words
    build: Callable[..., Attack]  # its keyword parameters are the attack's
    cost: str  # per example: "steps forward and backward"
    targeted: bool = True  # can be aimed at a class
    threat: Callable[[Threat], Threat] = field(default=lambda threat: threat)  # the threat it implies, if it fixes one
    models: str = "any"  # of which build: see MODELS
    random: bool = False  # whether its outcome depends on the seed
    shared: bool = False  # whether most of it is done once for all examples; its cost is charged to each in full


@dataclass(frozen=True)
class TransformInfo:
    """One entry of the registry of transforms: what any gradient attack, which is an Ascent, can be given besides."""

    name: str
    summary: str  # one line
    reference: str  # authors, year, title
    apply: Callable[[Ascent], Ascent]
    needs: Access = Access.GRADIENT
    models: str = "any"  # of which build: see MODELS


MODELS = {
    "any": "every model that grants the access",
    "layers": "networks with inner layers of the form [N, C, H, W] or [N, tokens, C]",
    "residual": "residual or densely connected networks",
    "relu": "networks with ReLUs behind their middle layer",
    "attention": "vision transformers",
    "members": "ensembles",
    "trees": "decision trees and ensembles of them",
}
"""What an attack may ask of a model's build, beyond access."""


class LoadModel(Protocol):
    """From a parsed spec or an object to a Model of this modality."""

    def __call__(self, source: Any, **facts: Any) -> Model: ...


class LoadData(Protocol):
    """From a data spec to a Dataset; `on_error` is "raise" or "skip"."""

    def __call__(self, spec: str, *, split: str = "test", limit: int | None = None, **facts: Any) -> Dataset: ...


@dataclass(frozen=True)
class Defaults:
    """The embedded study of a modality: what `carom demo` runs, and what `carom run` falls back on."""

    data: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    attacks: tuple[str, ...]  # attack of each source, in order; or one for all
    eps: str
    threat: str
    limit: int


@dataclass(frozen=True)
class Modality:
    """Everything the shared machinery asks of a modality."""

    name: str
    summary: str
    attacks: Mapping[str, AttackInfo]
    recipes: Mapping[str, Recipe]
    data: Mapping[str, str]  # builtin data: name -> one line
    threats: Mapping[str, Callable[..., Threat]]  # kind -> threat of a budget: linf, l2, snr, words
    defaults: Defaults
    load_model: LoadModel
    load_data: LoadData
    panels: Callable[[Space, Inputs, Inputs, Mapping[str, Any]], list[Panel]]
    """(space, one clean stored input, one adversarial, {"length", "sample_rate", ...}) -> what the report shows."""
    transforms: Mapping[str, TransformInfo] = field(default_factory=dict)
    metrics: Sequence[Metric] = ()
    """How large a perturbation is, in the order in which tables show it."""
    load_log: Callable[..., AdversarialSet] | None = None
    """From the path of another tool's log, and facts of the modality's own, to a set with its clean examples."""
    logs: tuple[str, ...] = ()
    """How the names of such files end."""
    attack_kinds: Mapping[str, Callable[[str], AttackInfo]] = field(default_factory=dict)
    """Attacks from elsewhere: KIND:REST names the one that its function makes of REST."""
    scales: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Kind of threat -> budgets as `--eps` takes them, weakest first, in steps worth telling apart, up to a cap: where
    a search for a wanted white-box success looks."""
    augment: Callable[..., dict[str, Any]] | None = None
    """(file, file to write, recipe or None, the options of `carom augment`) -> what was done, as counts."""


def modality_names() -> list[str]:
    return sorted(point.name for point in entry_points(group="carom.modalities"))


@lru_cache
def get_modality(name: str) -> Modality:
    """The modality of that name, imported on first use."""
    for point in entry_points(group="carom.modalities"):
        if point.name == name:
            return point.load()
    raise UnknownName("modality", name, modality_names())


def modalities(name: str | None = None) -> list[Modality]:
    """The one of that name, or all that are installed."""
    return [get_modality(one) for one in ([name] if name else modality_names())]


def zoo_recipe(name: str) -> Recipe:
    """The recipe of zoo:NAME, whichever modality ships it."""
    known = {recipe.name: recipe for owner in modalities() for recipe in owner.recipes.values()}
    if name not in known:
        raise UnknownName("model in the zoo", name, known)
    return known[name]


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

    `ensemble:SPEC+SPEC?fuse=logits` is an Ensemble of the models of these specs, `surrogate:PATH` what
    `carom surrogate` saved.
    """
    if isinstance(source, str) and source.startswith("surrogate:"):
        return _surrogate_of(modality, parse(source), facts)
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
    made = call_with(added, {"rest": spec.rest, **spec.parameters}, source)
    return made if isinstance(made, Model) else modality.load_model(made, **{"name": source, **facts})


def _surrogate_of(modality: Modality, spec: Spec, facts: Mapping[str, Any]) -> Model:
    from carom.common.facts import known_facts
    from carom.common.surrogates import load_surrogate, read_surrogate_card

    given = {**spec.parameters, **facts}
    known_facts(given, ("name",), f"surrogate:{spec.rest}")
    owner = read_surrogate_card(spec.rest)["modality"]
    if owner != modality.name:
        raise CaromError(f"surrogate:{spec.rest} is for {owner}, not {modality.name}.")
    return load_surrogate(spec.rest, **given)


def _ensemble_of(modality: Modality, spec: Spec, facts: Mapping[str, Any]) -> Model:
    from carom.common.facts import known_facts
    from carom.common.loading import OWN_CODE

    given = {**spec.parameters, **facts}
    known_facts(given, ("fuse", "name", "classes"), "an ensemble (a member's own go into its spec, in parentheses)")
    classes = {"classes": given.pop("classes")} if "classes" in given else {}
    parts = split_members(spec.rest)
    members = [load_model_of(modality, part, classes if parse(part).kind in OWN_CODE else {}) for part in parts]
    return Ensemble(members, **given)


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
