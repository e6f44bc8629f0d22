"""Defences that reject images by what the network's layers make of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from carom.common.base.errors import CaromError
from carom.common.base.identity import Digest
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch, Goal, Output
from carom.common.core.data import Dataset
from carom.common.core.model import Model
from carom.common.core.problem import Problem
from carom.common.core.threats import Linf
from carom.common.defences.catalogue import Defences
from carom.common.defences.defended import undefended
from carom.common.defences.detectors import Detecting, Detector
from carom.common.models.layers import module_of, units, watching

FEATURES = Defences(kind="detector", adaptation=("rejection",))

LEE = "Lee et al. 2018, A simple unified framework for detecting out-of-distribution samples and adversarial attacks"
MA = "Ma et al. 2018, Characterizing adversarial subspaces using local intrinsic dimensionality"
METZEN = "Metzen et al. 2017, On detecting adversarial perturbations"

PARTS = 64
"""Examples that go through the network together while a detector is fitted."""


@contextmanager
def pooled(model: Model) -> Iterator[list[Tensor]]:
    """What each part of the network but the last made of the images of the latest call, averaged over places: float[N, D]
    each, in the order of the computation, with gradients."""
    parts = units(module_of(undefended(model)))
    seen: list[Tensor] = []

    def see(name: str, out: Tensor) -> None:
        seen.append(out.flatten(2).mean(2) if out.dim() == 4 else out.mean(1) if out.dim() == 3 else out.flatten(1))

    with watching(dict(list(parts.items())[:-1]), see):
        yield seen


def features_of(model: Model, inputs: Tensor) -> tuple[Output, list[Tensor]]:
    """(the answers, the features float64[N, D] of each part)"""
    with pooled(model) as seen:
        output = model(inputs)
    return output, [part[: len(inputs)].double() for part in seen]


@dataclass(frozen=True)
class FeatureDetector(Detector):
    """The base of detectors that are fitted to features first: on one half of the clean examples, while the threshold is
    found on the other. `fitted` is no part of its identity, since it follows from the model and these examples."""

    fpr: float
    fitted: Any = field(default=None, compare=False, repr=False, kw_only=True)

    def fit(self, model: Model, clean: Dataset) -> Any:
        raise NotImplementedError

    def suspicion(self, features: list[Tensor]) -> Tensor:
        """float64[N]"""
        raise NotImplementedError

    def calibrated(self, model: Model, clean: Dataset) -> Model:
        base = undefended(model)
        if model.random or not isinstance(getattr(base, "module", None), nn.Module):
            raise CaromError(
                f"{model.name} is no single network whose layers could be looked at: put the detector around one, before "
                "what is random."
            )
        if 0 < len(clean) * self.fpr < 2:
            need = 2 * round(1 / self.fpr)
            raise CaromError(
                f"{len(clean)} clean examples of {clean.name}, of which one half is fitted to, cannot tell a false positive "
                f"rate of {self.fpr:g}: give {need} or more (limit=)."
            )
        order = torch.arange(len(clean))
        part = replace(self, fitted=None)
        with model.frozen():
            found = replace(part, fitted=part.fit(model, clean.take(order[::2])))
        return found._with_threshold(model, clean.take(order[1::2]), clean)

    def _with_threshold(self, model: Model, held_out: Dataset, clean: Dataset) -> Model:
        guarded = super().calibrated(model, held_out)
        assert isinstance(guarded, Detecting)
        guarded.calibrated_on = frozenset(clean.contents())
        guarded.digest = Digest(hashlib.sha256(repr((guarded.digest, "fitted", clean.digest)).encode()).hexdigest())
        guarded.digest.why = getattr(model.digest, "why", "")  # type: ignore[attr-defined]
        return guarded

    def score(self, model: Model, inputs: Tensor, lengths: Tensor | None, *rng: Rng) -> tuple[Output, Tensor]:
        output, features = features_of(model, inputs)
        return output, self.suspicion(features)


def clean_features(model: Model, clean: Dataset) -> tuple[list[Tensor], Tensor]:
    """(features float64[N, D] of each part, answers int64[N]) of a data set, without gradients."""
    found, answers = [], []
    with torch.no_grad():
        for start in range(0, len(clean), PARTS):
            output, features = features_of(model, clean.batch(start, start + PARTS).inputs.to(model.device))
            found.append(features)
            answers.append(output.logits.argmax(1))
    return [torch.cat(column) for column in zip(*found, strict=True)], torch.cat(answers)


@dataclass(frozen=True)
class Mahalanobis(FeatureDetector):
    """The distance of the features to the nearest mean of a class, by the covariance that all classes share, summed over
    the network's parts, each relative to what it is on average. A share `ridge` of the mean variance is added to each."""

    ridge: float = 0.01

    def fit(self, model: Model, clean: Dataset) -> list[tuple[Tensor, Tensor, Tensor]]:
        parts, _ = clean_features(model, clean)
        labels, found = clean.labels.to(parts[0].device), []
        for features in parts:
            means = torch.stack([features[labels == label].mean(0) for label in labels.unique()])
            place = torch.searchsorted(labels.unique(), labels)
            apart = features - means[place]
            spread = apart.T @ apart / len(apart)
            size = spread.diagonal().mean().clamp_min(1e-12)
            precision = torch.linalg.inv(spread + self.ridge * size * torch.eye(len(spread)).to(spread))
            found.append((means, precision, torch.ones(()).to(spread)))
            usual = self._nearest(features, *found[-1]).mean().clamp_min(1e-12)
            found[-1] = (means, precision, usual)
        return found

    @staticmethod
    def _nearest(features: Tensor, means: Tensor, precision: Tensor, usual: Tensor) -> Tensor:
        apart = features[:, None] - means
        return ((apart @ precision) * apart).sum(2).amin(1) / usual

    def suspicion(self, features: list[Tensor]) -> Tensor:
        return torch.stack([self._nearest(f, *fit) for f, fit in zip(features, self.fitted, strict=True)]).mean(0)


@FEATURES.defence(
    "mahalanobis",
    "rejects features that are far from every class",
    paper=LEE,
    departures="the mean over the network's parts in place of a regression fitted to attacks; no noise is added to the input",
)
def mahalanobis(ridge: float = 0.01, fpr: float = 0.05) -> Mahalanobis:
    """`ridge` of the mean variance is added to each direction's; a share `fpr` of clean images is rejected."""
    return Mahalanobis(fpr, ridge)


@dataclass(frozen=True)
class Lid(FeatureDetector):
    """The local intrinsic dimensionality among the `nearest` clean neighbours, by maximum likelihood (Levina and Bickel
    2004), averaged over the network's parts."""

    nearest: int = 20

    def fit(self, model: Model, clean: Dataset) -> list[Tensor]:
        if len(clean) < self.nearest + 1:
            raise CaromError(
                f"lid: {len(clean)} examples have no {self.nearest} neighbours each: raise limit= or lower nearest=."
            )
        return clean_features(model, clean)[0]

    def suspicion(self, features: list[Tensor]) -> Tensor:
        return torch.stack([self.dimension(f, fit) for f, fit in zip(features, self.fitted, strict=True)]).mean(0)

    def dimension(self, features: Tensor, others: Tensor) -> Tensor:
        """float64[N]: -1 / mean log (distance / largest distance), over the neighbours among `others`."""
        square = (features[:, None] - others).square().sum(2).sort(1).values[:, : self.nearest].clamp_min(1e-18)
        return -2 / (square / square[:, -1:]).log().mean(1).clamp_max(-1e-6)


@FEATURES.defence(
    "lid",
    "rejects features whose neighbourhood has too many dimensions",
    paper=MA,
    departures="neighbours among a fixed set of clean images in place of a minibatch's; the mean over the network's parts in "
    "place of a regression fitted to attacks",
)
def lid(nearest: int = 20, fpr: float = 0.05) -> Lid:
    """Of the `nearest` neighbours; a share `fpr` of clean images is rejected."""
    return Lid(fpr, nearest)


@dataclass(frozen=True)
class Trained(FeatureDetector):
    """A logistic regression on the features, fitted to clean images and to what one step of size `eps` along the sign of
    the gradient makes of them, with an L2 penalty of `ridge`."""

    eps: float = 8 / 255
    ridge: float = 0.1

    def fit(self, model: Model, clean: Dataset) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        from sklearn.linear_model import LogisticRegression

        changed = self._attacked(model, clean)
        honest, attacked = (torch.cat(clean_features(model, one)[0], 1).cpu() for one in (clean, changed))
        both = torch.cat([honest, attacked])
        mean, scale = both.mean(0), both.std(0).clamp_min(1e-9)
        told = torch.cat([torch.zeros(len(honest)), torch.ones(len(attacked))]).numpy()
        fit = LogisticRegression(C=1 / (self.ridge * len(both)), max_iter=2000).fit(
            ((both - mean) / scale).numpy(), told
        )
        weights, bias = torch.from_numpy(fit.coef_[0]), torch.from_numpy(fit.intercept_)[0]
        return tuple(part.to(model.device) for part in (mean, scale, weights, bias))  # type: ignore[return-value]

    def _attacked(self, model: Model, clean: Dataset) -> Dataset:
        from carom.common.attacks.catalogue.gradient import fgsm

        made = []
        for start in range(0, len(clean), PARTS):
            part: Batch = clean.batch(start, start + PARTS).to(model.device)
            problem = Problem(model, Goal(part.labels), Linf(self.eps))
            made.append(clean.space.encode(fgsm()(problem, part, Rng.of(0, part.ids, model.device)).inputs).cpu())
        return replace(clean, stored=torch.cat(made))

    def suspicion(self, features: list[Tensor]) -> Tensor:
        mean, scale, weights, bias = self.fitted
        return ((torch.cat(features, 1) - mean) / scale * weights).sum(1) + bias


@FEATURES.defence(
    "trained",
    "rejects what a regression on features takes for attacked",
    paper=METZEN,
    departures="a logistic regression on all parts of the network in place of a network at one; fitted to FGSM on half of the "
    "clean images",
)
def trained(eps: float = 8 / 255, ridge: float = 0.1, fpr: float = 0.05) -> Trained:
    """Fitted to FGSM of size `eps`, pixels in [0, 1], with a penalty of `ridge`; a share `fpr` of clean images is
    rejected."""
    return Trained(fpr, eps, ridge)
