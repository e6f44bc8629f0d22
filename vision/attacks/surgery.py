"""Transfer attacks that change how the source passes gradients, or what it computes
(carom.common.attacks.inside.backward_surgery): MI-FGSM with each, and each for any other climb."""

from __future__ import annotations

from dataclasses import replace

from carom.common.attacks.catalogue.base import Catalogue
from carom.common.attacks.catalogue.gradient import mi_fgsm
from carom.common.attacks.gradient.ascent import Ascent
from carom.common.attacks.gradient.step import Surgery
from carom.common.attacks.inside.backward_surgery import (
    ConstantAttention,
    LinearBackward,
    RegularTokens,
    SkipGradients,
    operate,
)
from carom.common.attacks.inside.ghost_networks import Ghosts
from carom.common.core.batch import Access

SGM = "Wu et al. 2020, Skip connections matter: on the transferability of adversarial examples generated with ResNets"
LINBP = "Guo, Li and Chen 2020, Backpropagating linearly improves transferability of adversarial examples"
GHOST = "Li et al. 2020, Learning transferable adversarial examples via ghost networks"
PNA = "Wei et al. 2022, Towards transferable adversarial attacks on vision transformers"
TGR = "Zhang et al. 2023, Transferable adversarial attacks on vision transformers with token gradient regularization"

SURGERY = Catalogue(needs=Access.GRADIENT, threats=("linf", "l2"), cost="steps forward and backward")


def operated(attack: Ascent, surgery: Surgery) -> Ascent:
    """The attack with a surgery on its source, after those it has."""
    return replace(attack, surgery=operate(attack.surgery, surgery))


@SURGERY.attack(
    "sgm",
    "MI-FGSM whose gradients prefer skip connections",
    paper=SGM,
    models="residual",
    departures="half of the gradient goes into residual branches; the paper's .2 is for ResNets of 50 and more layers",
)
def sgm(steps: int = 10, gamma: float = 0.5, decay: float = 1.0, loss: str = "ce") -> Ascent:
    """MI-FGSM whose gradients prefer skip connections: `gamma` of them goes into residual branches."""
    return operated(mi_fgsm(steps, decay, loss=loss), SkipGradients(gamma))


@SURGERY.transform("sgm", "gradients that prefer skip connections", paper=SGM, models="residual")
def with_sgm(attack: Ascent) -> Ascent:
    return operated(attack, SkipGradients())


@SURGERY.attack(
    "linbp",
    "MI-FGSM whose gradients pass late ReLUs as if they were linear",
    paper=LINBP,
    cost="steps forward, steps backward, on residual networks 3 * steps",
    models="relu",
)
def linbp(steps: int = 10, layer: str | None = None, decay: float = 1.0, loss: str = "ce") -> Ascent:
    """MI-FGSM whose gradients pass the ReLUs behind a layer as if they were linear."""
    return operated(mi_fgsm(steps, decay, loss=loss), LinearBackward(layer))


@SURGERY.transform("linbp", "late ReLUs linear to gradients", paper=LINBP, models="relu")
def with_linbp(attack: Ascent) -> Ascent:
    return operated(attack, LinearBackward())


@SURGERY.attack(
    "ghost", "MI-FGSM on skip connections that change at random", paper=GHOST, models="residual", random=True
)
def ghost(steps: int = 10, rate: float = 0.22, erosion: str = "skip", decay: float = 1.0, loss: str = "ce") -> Ascent:
    """MI-FGSM on a network whose skip connections change at random with every step."""
    return operated(mi_fgsm(steps, decay, loss=loss), Ghosts(erosion, rate))


@SURGERY.transform("ghost", "skip connections that change at random", paper=GHOST, models="residual")
def with_ghost(attack: Ascent) -> Ascent:
    return operated(attack, Ghosts())


@SURGERY.attack("ghost-dropout", "MI-FGSM with dropout in the source", paper=GHOST, models="layers", random=True)
def ghost_dropout(steps: int = 10, rate: float = 0.05, decay: float = 1.0, loss: str = "ce") -> Ascent:
    """MI-FGSM on a network with dropout behind its activation functions."""
    return ghost(steps, rate, "dropout", decay, loss)


@SURGERY.transform("ghost-dropout", "dropout in the source", paper=GHOST, models="layers")
def with_ghost_dropout(attack: Ascent) -> Ascent:
    return operated(attack, Ghosts("dropout", 0.05))


@SURGERY.attack(
    "pna",
    "MI-FGSM whose gradients do not pass attention maps",
    paper=PNA,
    models="attention",
    departures="without PatchOut",
)
def pna(steps: int = 10, decay: float = 1.0, loss: str = "ce") -> Ascent:
    """MI-FGSM whose gradients do not pass attention maps."""
    return operated(mi_fgsm(steps, decay, loss=loss), ConstantAttention())


@SURGERY.transform("pna", "attention maps that are constant to gradients", paper=PNA, models="attention")
def with_pna(attack: Ascent) -> Ascent:
    return operated(attack, ConstantAttention())


@SURGERY.attack(
    "tgr",
    "MI-FGSM on gradients without the most extreme tokens",
    paper=TGR,
    models="attention",
    departures="extremes are found for every example by itself",
)
def tgr(
    steps: int = 10,
    attention: float = 0.25,
    projections: float = 0.75,
    mlp: float = 0.5,
    decay: float = 1.0,
    loss: str = "ce",
) -> Ascent:
    """MI-FGSM on gradients without the most extreme tokens."""
    return operated(mi_fgsm(steps, decay, loss=loss), RegularTokens(attention, projections, mlp))


@SURGERY.transform("tgr", "gradients without the most extreme tokens", paper=TGR, models="attention")
def with_tgr(attack: Ascent) -> Ascent:
    return operated(attack, RegularTokens())
