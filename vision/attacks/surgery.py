"""Transfer attacks that change how the source passes gradients, or what it computes
(carom.common.attacks.inside.backward_surgery): MI-FGSM with each, and each for any other climb."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from carom.common.attacks.catalogue.gradient import mi_fgsm
from carom.common.attacks.gradient.ascent import Ascent
from carom.common.attacks.gradient.step import Surgery
from carom.common.attacks.gradient.transforms import TransformInfo
from carom.common.attacks.info import AttackInfo
from carom.common.attacks.inside.backward_surgery import (
    ConstantAttention,
    LinearBackward,
    RegularTokens,
    SkipGradients,
    operate,
)
from carom.common.attacks.inside.ghost_networks import Ghosts
from carom.common.core.batch import Access


def operated(attack: Ascent, surgery: Surgery) -> Ascent:
    """The attack with a surgery on its source, after those it has."""
    return replace(attack, surgery=operate(attack.surgery, surgery))


def sgm(steps: int = 10, gamma: float = 0.5, decay: float = 1.0, loss: str = "ce") -> Ascent:
    """MI-FGSM whose gradients prefer skip connections: `gamma` of them goes into residual branches."""
    return operated(mi_fgsm(steps, decay, loss=loss), SkipGradients(gamma))


def linbp(steps: int = 10, layer: str | None = None, decay: float = 1.0, loss: str = "ce") -> Ascent:
    """MI-FGSM whose gradients pass the ReLUs behind a layer as if they were linear."""
    return operated(mi_fgsm(steps, decay, loss=loss), LinearBackward(layer))


def ghost(steps: int = 10, rate: float = 0.22, erosion: str = "skip", decay: float = 1.0, loss: str = "ce") -> Ascent:
    """MI-FGSM on a network whose skip connections change at random with every step."""
    return operated(mi_fgsm(steps, decay, loss=loss), Ghosts(erosion, rate))


def ghost_dropout(steps: int = 10, rate: float = 0.05, decay: float = 1.0, loss: str = "ce") -> Ascent:
    """MI-FGSM on a network with dropout behind its activation functions."""
    return ghost(steps, rate, "dropout", decay, loss)


def pna(steps: int = 10, decay: float = 1.0, loss: str = "ce") -> Ascent:
    """MI-FGSM whose gradients do not pass attention maps."""
    return operated(mi_fgsm(steps, decay, loss=loss), ConstantAttention())


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


SGM = "Wu et al. 2020, Skip connections matter: on the transferability of adversarial examples generated with ResNets"
LINBP = "Guo, Li and Chen 2020, Backpropagating linearly improves transferability of adversarial examples"
GHOST = "Li et al. 2020, Learning transferable adversarial examples via ghost networks"
PNA = "Wei et al. 2022, Towards transferable adversarial attacks on vision transformers"
TGR = "Zhang et al. 2023, Transferable adversarial attacks on vision transformers with token gradient regularization"


def _info(name: str, summary: str, reference: str, models: str, build: Callable[..., Ascent], **more) -> AttackInfo:  # type: ignore[no-untyped-def]
    more = {"needs": Access.GRADIENT, "threats": ("linf", "l2"), "cost": "steps forward and backward", **more}
    return AttackInfo(name, summary, reference, build=build, models=models, **more)


INFOS = [
    _info("sgm", "MI-FGSM whose gradients prefer skip connections", SGM, "residual", sgm),
    _info(
        "linbp",
        "MI-FGSM whose gradients pass late ReLUs as if they were linear",
        LINBP,
        "relu",
        linbp,
        cost="steps forward, steps backward, on residual networks 3 * steps",
    ),
    _info("ghost", "MI-FGSM on skip connections that change at random", GHOST, "residual", ghost, random=True),
    _info("ghost-dropout", "MI-FGSM with dropout in the source", GHOST, "layers", ghost_dropout, random=True),
    _info("pna", "MI-FGSM whose gradients do not pass attention maps", PNA, "attention", pna),
    _info("tgr", "MI-FGSM on gradients without the most extreme tokens", TGR, "attention", tgr),
]


def _modifier(info: AttackInfo, summary: str, surgery: Surgery) -> TransformInfo:
    return TransformInfo(
        info.name, summary, info.reference, lambda attack: operated(attack, surgery), models=info.models
    )


_CHANGES: list[tuple[str, Surgery]] = [
    ("gradients that prefer skip connections", SkipGradients()),
    ("late ReLUs linear to gradients", LinearBackward()),
    ("skip connections that change at random", Ghosts()),
    ("dropout in the source", Ghosts("dropout", 0.05)),
    ("attention maps that are constant to gradients", ConstantAttention()),
    ("gradients without the most extreme tokens", RegularTokens()),
]
TRANSFORMS = [_modifier(info, *change) for info, change in zip(INFOS, _CHANGES, strict=True)]
