"""What a registry says of a defence, and a defence as a study asks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from carom.common.base.errors import CaromError
from carom.common.core.data import Dataset
from carom.common.core.model import Model
from carom.common.loading.zoo import Body, Recipe
from carom.common.models.training import Progress

KINDS = {
    "transform": "changes the input before the model sees it",
    "random": "changes the input otherwise at every query",
    "vote": "asks a random model several times and takes the mean or the majority",
    "smoothing": "asks under noise and answers by the majority, abstains where that is in doubt, and can be certified",
    "detector": "rejects inputs that look attacked, by a threshold found on clean data",
    "training": "trains a model from a recipe",
}

ADAPTATIONS = {
    "exact": "gradients are those of what it computes",
    "around": "gradients go around it, as if it were the identity (BPDA, Athalye et al. 2018)",
    "surrogate": "gradients go through a smooth stand-in (BPDA)",
    "expectation": "gradients, and an attacker's own looks, are means over its draws (EOT, Athalye et al. 2018)",
    "rejection": "the margin that is climbed is the smaller of the classes' and of the distance to rejection",
    "network": "nothing stands before the network: gradients are its own",
}
"""How one who knows a defence attacks it. A defended model does so by itself, whatever the attack."""


class Wraps(Protocol):
    """A defence that stands around a model. A frozen dataclass: its fields are part of the model's identity."""

    def wrap(self, model: Model) -> Model: ...


class Calibrates(Protocol):
    """One that has to see clean examples first, to find a threshold."""

    def calibrated(self, model: Model, clean: Dataset) -> Model: ...


class Trains(Protocol):
    """A defence that is a way to train: the recipe's body, trained by it. Reads what `Recipe.train` reads."""

    def train(self, recipe: Recipe, progress: Progress | None) -> Body: ...


Defence = Wraps | Calibrates | Trains


@dataclass(frozen=True, kw_only=True)
class DefenceInfo:
    """One entry of the registry of defences."""

    name: str
    summary: str  # one line
    reference: str  # authors, year, title
    kind: str  # of KINDS
    adaptation: tuple[str, ...]  # of ADAPTATIONS, of the model that it makes of one without defences
    build: Callable[..., Defence]  # its keyword parameters are the defence's
    cost: str = "1 pass per answer"
    departures: str = ""  # where it differs from the paper, if it does
    calibration: Mapping[str, Any] = field(default_factory=dict)  # what a detector has in place of CALIBRATION's

    @property
    def besides(self) -> dict[str, Any]:
        """What its spec may say besides its own parameters, and what holds where it does not."""
        return {**CALIBRATION, **self.calibration} if self.kind == "detector" else {}


Clean = Callable[[Mapping[str, Any]], Dataset]
"""Reads clean examples, given what a spec says of them (`CALIBRATION`)."""

CALIBRATION = {"data": None, "split": "train", "limit": 500}
"""What the spec of a detector says of the clean examples that its threshold is found on, besides its own parameters:
their spec, by default what the model was trained on where that is known; never the split that is attacked."""


@dataclass(frozen=True)
class DefenceChoice:
    """A defence as asked for: its entry in the registry, its parameters, and what they make."""

    info: DefenceInfo
    parameters: Mapping[str, Any]
    defence: Defence

    @property
    def label(self) -> str:
        """The spec that asks for it again."""
        tail = "&".join(f"{name}={value}" for name, value in self.parameters.items())
        return f"{self.info.name}?{tail}" if tail else self.info.name

    @property
    def trainer(self) -> Trains | None:
        """What trains a recipe; None of a defence that stands around a model."""
        defence: Any = self.defence
        return defence if hasattr(defence, "train") else None

    def around(self, model: Model, clean: Clean | None = None) -> Model:
        """The model behind the defence; `clean` reads what a detector is calibrated on."""
        if model.recorded:
            raise CaromError(f"{model.name} only repeats what it once answered: no defence can stand around it.")
        defence: Any = self.defence
        if hasattr(defence, "calibrated"):
            if clean is None:
                raise CaromError(
                    f"{self.info.name} finds its threshold on clean examples: name them, {self.info.name}?data=SPEC, or "
                    "pass calibration=DATASET."
                )
            told = {name: self.parameters.get(name, default) for name, default in self.info.besides.items()}
            found = defence.calibrated(model, clean(told))
        elif hasattr(defence, "wrap"):
            found = defence.wrap(model)
        else:
            raise CaromError(
                f"{self.info.name} trains a model: it cannot stand around {model.name}, which is trained already. Train one "
                f"with it: carom train zoo:NAME --defence '{self.label}'."
            )
        found.name = f"{model.name}+{self.label}"
        return found
