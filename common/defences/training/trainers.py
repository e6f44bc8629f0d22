"""The entries of the registry that train networks, made for a modality from what it brings (`Ground`)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from carom.common.base.errors import CaromError, UnknownName
from carom.common.base.specs import bare, split_plus
from carom.common.core.model import Model
from carom.common.core.threats import Ball
from carom.common.defences.catalogue import Defences
from carom.common.defences.training.adversarial import Adversarial, Awp, BothLosses, Free, Mart, Outer, Trades
from carom.common.defences.training.distillation import DefensiveDistillation, RobustDistillation
from carom.common.defences.training.hardening import Hardening
from carom.common.defences.training.inner import Crafted, Divergence, Ground, Transferred, crafted
from carom.common.defences.training.members import Averaging, Diverse
from carom.common.defences.training.trained import By
from carom.common.defences.training.transferred import WAYS, Transferring, parent_of
from carom.common.defences.training.watch import Watch
from carom.common.models.trees import TreeModel

MADRY = "Madry et al. 2018, Towards deep learning models resistant to adversarial attacks"
ZHANG = "Zhang et al. 2019, Theoretically principled trade-off between robustness and accuracy"
WANG = "Wang et al. 2020, Improving adversarial robustness requires revisiting misclassified examples"
WU = "Wu, Xia and Wang 2020, Adversarial weight perturbation helps robust generalization"
SHAFAHI = "Shafahi et al. 2019, Adversarial training for free!"
WONG = "Wong, Rice and Kolter 2020, Fast is better than free: revisiting adversarial training"
TRAMER = "Tramer et al. 2017, Ensemble adversarial training: attacks and defenses"
PAPERNOT = "Papernot et al. 2016, Distillation as a defense to adversarial perturbations against deep neural networks"
GOLDBLUM = "Goldblum et al. 2020, Adversarially robust distillation"

TRANSFER = "Shafahi et al. 2020, Adversarially robust transfer learning"
DIETTERICH = "Dietterich 2000, Ensemble methods in machine learning"
KANTCHELIAN = "Kantchelian, Tygar and Joseph 2016, Evasion and hardening of tree ensemble classifiers"
KARIYAPPA = "Kariyappa and Qureshi 2019, Improving adversarial robustness of ensembles with diversity training"

RECIPES = "the schedule, the augmentation and the optimiser are the recipe's"
FROZEN = f"the inner attack sees the network in evaluation mode; {RECIPES}"


def trainers(ground: Ground) -> Defences:
    """The defences that train networks of a modality. `eps` and `threat` are the budget that is trained for, `attack` the
    inner one, any that a network in training grants; `epochs` replaces the recipe's own number."""
    found = Defences(kind="training", adaptation=("network",), departures=FROZEN)
    eps_, PGD = ground.eps, "pgd?steps=7&size=0.25"

    def inner(attack: str, eps: float, threat: str | None, who: str, objective: Divergence | None = None) -> Crafted:
        return crafted(ground, attack, eps, threat, who, objective)

    def watching(quick: Crafted, eps: float, threat: str | None) -> Watch:
        return Watch(quick, inner("pgd?steps=20&size=0.15", eps, threat, "the watch"))

    def by(
        outer: Outer, craft: Crafted, epochs: int | None, eps: float, threat: str | None, watched: bool, awp: float
    ) -> By:
        descended = Awp(outer, awp) if awp else outer
        return By(lambda: Adversarial(craft, descended, epochs, watching(craft, eps, threat) if watched else None))

    @found.defence("pgd-at", "adversarial training: cross-entropy of what PGD makes of each batch", paper=MADRY)
    def pgd_at(
        eps: float = eps_,
        attack: str = PGD,
        threat: str | None = None,
        clean: float = 0.0,
        awp: float = 0.0,
        epochs: int | None = None,
        watch: bool = False,
    ) -> By:
        """`clean` is the weight of the clean inputs' loss, `awp` the size of adversarial weight perturbation (Wu et al.
        2020: .005), `watch` stops training when robust accuracy collapses."""
        return by(BothLosses(clean), inner(attack, eps, threat, "pgd-at"), epochs, eps, threat, watch, awp)

    @found.defence(
        "trades",
        "cross-entropy of clean inputs, and the divergence to the worst answers near them",
        paper=ZHANG,
        departures=f"{FROZEN}; the climb starts anywhere in the ball",
    )
    def trades(
        eps: float = eps_,
        beta: float = 6.0,
        attack: str = PGD,
        threat: str | None = None,
        awp: float = 0.0,
        epochs: int | None = None,
        watch: bool = False,
    ) -> By:
        """`beta` weighs the divergence: more of it is more robust and less accurate."""
        return by(Trades(beta), inner(attack, eps, threat, "trades", Divergence()), epochs, eps, threat, watch, awp)

    @found.defence("mart", "adversarial training that leans on the inputs that are answered wrong", paper=WANG)
    def mart(
        eps: float = eps_,
        beta: float = 6.0,
        attack: str = PGD,
        threat: str | None = None,
        awp: float = 0.0,
        epochs: int | None = None,
        watch: bool = False,
    ) -> By:
        """`beta` weighs the divergence of inputs answered wrong."""
        return by(Mart(beta), inner(attack, eps, threat, "mart"), epochs, eps, threat, watch, awp)

    @found.defence("awp", "adversarial training at weights moved against it", paper=WU)
    def awp(
        eps: float = eps_,
        gamma: float = 0.005,
        attack: str = PGD,
        threat: str | None = None,
        epochs: int | None = None,
        watch: bool = False,
    ) -> By:
        """`gamma` is the size of the move, a share of each matrix's norm. TRADES and MART take it as awp=."""
        return by(BothLosses(), inner(attack, eps, threat, "awp"), epochs, eps, threat, watch, gamma)

    @found.defence(
        "fast-at",
        "adversarial training by one step from a random start, under a watch for its collapse",
        paper=WONG,
        departures=f"{FROZEN}; the watch looks at held out examples once an epoch, and puts back the best epoch",
    )
    def fast_at(
        eps: float = eps_, size: float = 1.25, threat: str | None = None, epochs: int | None = None, watch: bool = True
    ) -> By:
        """One step of `size` radii."""
        one = inner(f"pgd?steps=1&size={size}", eps, threat, "fast-at")
        return by(BothLosses(), one, epochs, eps, threat, watch, 0.0)

    @found.defence(
        "free-at",
        "adversarial training by the gradients of training itself, each batch several times",
        paper=SHAFAHI,
        departures=f"{RECIPES}; gradients are in training mode",
    )
    def free_at(
        eps: float = eps_,
        replays: int = 4,
        size: float = 1.0,
        threat: str | None = None,
        epochs: int | None = None,
        watch: bool = False,
    ) -> By:
        """Each batch `replays` times, steps of `size` radii; `epochs` counts every replay."""
        one = inner("fgsm", eps, threat, "free-at")
        ball, space = one.threat, ground.space
        if not isinstance(ball, Ball):
            raise CaromError(f"free-at needs a threat with a norm, and {threat} has none. Give threat={ground.threat}.")
        return By(lambda: Free(ball, space, replays, size, epochs, watching(one, eps, threat) if watch else None))

    @found.defence(
        "ensemble-at",
        "adversarial training on one-step examples of static models of other architectures, and of its own",
        paper=TRAMER,
        departures="the static models are those of the zoo; each batch has one source",
    )
    def ensemble_at(
        eps: float = eps_,
        static: str = ground.static,
        attack: str = "fgsm",
        threat: str | None = None,
        clean: float = 0.5,
        epochs: int | None = None,
    ) -> By:
        """`static` are specs of trained models joined by plus signs; `clean` is the weight of the clean inputs' loss."""
        own = inner(attack, eps, threat, "ensemble-at")

        def method() -> Adversarial:
            models = [ground.load(bare(spec)) for spec in split_plus(bare(static))]
            others = [crafted(ground, attack, eps, threat, "ensemble-at", None, model) for model in models]
            return Adversarial(Transferred((own, *others)), BothLosses(clean), epochs)

        return By(method)

    @found.defence(
        "distillation",
        "a student taught by a teacher's answers at a high temperature; falls to who attacks the logits",
        paper=PAPERNOT,
        departures=RECIPES,
    )
    def distillation(temperature: float = 20.0, epochs: int | None = None) -> DefensiveDistillation:
        """Both networks at `temperature`; the student answers at temperature 1."""
        return DefensiveDistillation(_positive(temperature, "distillation"), epochs)

    @found.defence(
        "ard",
        "distillation from a robust teacher, on adversarial inputs",
        paper=GOLDBLUM,
    )
    def ard(
        teacher: str,
        eps: float = eps_,
        temperature: float = 5.0,
        alpha: float = 1.0,
        attack: str = PGD,
        threat: str | None = None,
        epochs: int | None = None,
    ) -> RobustDistillation:
        """`teacher` is the spec of a robust model; `alpha` the weight of its answers, the rest is the labels'."""

        def answers() -> Callable[[Tensor], Tensor]:
            model = ground.load(bare(teacher))
            return _logits_of(model)

        def against(network: Callable[[Tensor], Tensor]) -> Crafted:
            return inner(attack, eps, threat, "ard", Divergence(network, temperature))

        return RobustDistillation(answers, against, _positive(temperature, "ard"), alpha, epochs)

    @found.defence(
        "robust-transfer",
        "a network taught anew from one of the same build that was trained before, on other data or by a defence",
        paper=TRANSFER,
        departures=RECIPES,
    )
    def robust_transfer(source: str, how: str = "full", weight: float = 0.1, epochs: int | None = None) -> By:
        """From the weights of the model `source`, but for the last layer. `how` is "probe" (that layer alone), "full"
        (all), or "penalty" (all, features held near the source's with `weight`)."""
        if how not in WAYS:
            raise UnknownName("way to transfer", how, WAYS)
        return By(lambda: Transferring(parent_of(ground.load(bare(source))), source, how, weight, epochs))

    @found.defence(
        "averaging",
        "several networks from seeds of their own, whose mean probabilities answer",
        paper=DIETTERICH,
        cost="members passes per answer",
    )
    def averaging(members: int = 3, epochs: int | None = None) -> Averaging:
        """So many networks."""
        return Averaging(members, epochs)

    @found.defence(
        "gal",
        "several networks trained together, the gradients of their losses kept from pointing the same way",
        paper=KARIYAPPA,
        departures="activations are the architecture's, not leaky rectifiers",
        cost="members passes per answer",
    )
    def gal(members: int = 3, weight: float = 0.5, epochs: int | None = None) -> Diverse:
        """So many networks; `weight` of the alignment of their gradients."""
        return Diverse(members, weight, epochs)

    @found.defence(
        "harden",
        "trees grown again on adversarial inputs against them, round after round",
        paper=KANTCHELIAN,
        departures="all trees are grown anew each round, on the examples so far, where the paper boosts one more tree",
    )
    def harden(
        eps: float = eps_,
        rounds: int = 3,
        share: float = 0.1,
        attack: str = "soft-leaf-path",
        threat: str | None = None,
    ) -> Hardening:
        """In each round adversarial versions of `share` of the training inputs join them."""
        made = crafted(ground, attack, eps, threat, "harden", granted=TreeModel.access)
        return Hardening(made.attack, made.threat, rounds, share)

    return found


def _positive(temperature: float, who: str) -> float:
    if not temperature > 0:
        raise CaromError(f"{who}: temperature={temperature} must be above 0, for example 20.")
    return temperature


def _logits_of(model: Model) -> Callable[[Tensor], Tensor]:
    def logits(x: Tensor) -> Tensor:
        with model.frozen():
            return model(x).logits

    return logits
