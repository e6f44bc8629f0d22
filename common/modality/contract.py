"""Modalities: what a kind of input brings to the shared machinery. A new one is a new folder; nothing here changes.

Each installs a `Modality` under the entry-point group `carom.modalities`. Third parties add models, attacks and data
under `carom.models`, `carom.attacks`, `carom.defences` and `carom.datasets`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from carom.common.core.data import Dataset
from carom.common.core.metrics import Metric
from carom.common.core.model import Model
from carom.common.core.spaces import Inputs, Space
from carom.common.core.threats import Threat
from carom.common.defences.info import DefenceInfo
from carom.common.loading.zoo import Recipe

if TYPE_CHECKING:
    from carom.common.core.adversarial_set import AdversarialSet
from carom.common.attacks.gradient.transforms import TransformInfo
from carom.common.attacks.info import AttackInfo
from carom.common.modality.jury import Jury
from carom.common.modality.panels import Panel


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
    defences: Mapping[str, DefenceInfo] = field(default_factory=dict)
    metrics: Sequence[Metric] = ()
    """How large a perturbation is, in the order in which tables show it."""
    load_log: Callable[..., AdversarialSet] | None = None
    """From the path of another tool's log, and facts of the modality's own, to a set with its clean examples."""
    logs: tuple[str, ...] = ()
    """How the names of such files end."""
    write_example: Callable[[Any, Space | None, Path], Path] | None = None
    """(one stored input without padding, its space, a path without ending) -> the file that was written."""
    log_folders: bool = False
    """Whether it reads folders of adversarial files as well."""
    attack_kinds: Mapping[str, Callable[[str], AttackInfo]] = field(default_factory=dict)
    """Attacks from elsewhere: KIND:REST names the one that its function makes of REST."""
    scales: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Kind of threat -> budgets as `--eps` takes them, weakest first, in steps worth telling apart, up to a cap: where
    a search for a wanted white-box success looks."""
    model_kinds: tuple[str, ...] = ()
    """Kinds of spec that name models and data of this modality alone, such as torchvision."""
    jury: Jury | None = None
    """Which attacks judge robustness; None: the attacks of its default study do, and nothing tests their strength."""
    order: int = 100
    """Its place where several modalities are listed: the lowest first, then by name."""
    study: str = ""
    """The table of a study that `carom init` writes for it, as commented TOML."""
    augment: Callable[..., dict[str, Any]] | None = None
    """(file, file to write, recipe or None, the options of `carom augment`) -> what was done, as counts."""
