"""White-box attacks that stop where they succeed: APGD, and the attacks that look for the smallest change."""

from __future__ import annotations

from collections.abc import Callable

from carom.common.attacks.catalogue.base import Build, Catalogue
from carom.common.attacks.gradient.apgd import AutoPGD
from carom.common.attacks.info import BALLS
from carom.common.attacks.minimal.carlini_wagner import Penalised
from carom.common.attacks.minimal.ddn import Decoupled
from carom.common.attacks.minimal.deepfool import DeepFool
from carom.common.attacks.minimal.fab import Fab
from carom.common.attacks.minimal.fmn import FastMinimumNorm
from carom.common.attacks.minimal.search import Closest
from carom.common.attacks.worst_case import Worst
from carom.common.core.batch import Access
from carom.common.core.objectives import dlr, dlr_or_margin, objective
from carom.common.core.problem import Attack

APGD = "Croce and Hein 2020, Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks"
FAB = "Croce and Hein 2020, Minimally distorted adversarial examples with a fast adaptive boundary attack"
EUCLIDEAN = ("l2", "snr")
ONCE = "and as many forward again where points succeed"

WHITE_BOX = Catalogue(needs=Access.GRADIENT, threats=BALLS)


@WHITE_BOX.attack(
    "apgd",
    "PGD that chooses its own step sizes",
    paper=APGD,
    threats=(*BALLS, "l1"),
    cost="at most (1 + steps) * restarts forward and backward",
    random=True,
    departures="examples that have reached the goal climb no further; starts are uniform in the ball, not on its "
    "edge; L1 without the adaptive sparsity of Croce and Hein 2021",
)
def apgd(steps: int = 100, restarts: int = 1, loss: str = "ce") -> AutoPGD:
    """Auto-PGD; loss=ce, dlr or margin."""
    return AutoPGD(steps, restarts, objective(loss))


@WHITE_BOX.attack(
    "apgd-dlr",
    "APGD on a loss free of the logits' scale",
    paper=APGD,
    cost="at most (1 + steps) * restarts forward and backward",
    random=True,
    departures="examples that have reached the goal climb no further; starts are uniform in the ball, not on its edge",
)
def apgd_dlr(steps: int = 100, restarts: int = 1) -> AutoPGD:
    """Auto-PGD on the difference of logits ratio; the model needs three classes."""
    return AutoPGD(steps, restarts, dlr)


@WHITE_BOX.attack(
    "apgd-t",
    "APGD towards the likeliest other classes, one after another",
    paper=APGD,
    cost="at most (1 + steps) * restarts * targets forward and backward",
    random=True,
    departures="examples that have reached the goal climb no further; starts are uniform in the ball, not on its edge",
)
def apgd_t(steps: int = 100, restarts: int = 1, targets: int = 9) -> AutoPGD:
    """Auto-PGD on the targeted difference of logits ratio, for the likeliest other classes one after another."""
    return AutoPGD(steps, restarts, dlr, targets)


@WHITE_BOX.attack(
    "deepfool",
    "smallest change: to the nearest linearised boundary",
    paper="Moosavi-Dezfooli et al. 2016, DeepFool: a simple and accurate method to fool deep neural networks",
    cost="at most steps forward, steps * rivals backward",
    departures="of the other classes the `rivals` likeliest are linearised",
)
def deepfool(steps: int = 50, overshoot: float = 0.02, rivals: int = 9) -> Closest:
    """To the nearest of `rivals` linearised boundaries, until it is crossed."""
    return Closest(DeepFool(overshoot, rivals), steps, stop=True)


@WHITE_BOX.attack(
    "fab",
    "smallest change: projections onto linearised boundaries",
    paper=FAB,
    cost=f"2 * steps * restarts forward, steps * restarts * rivals backward, {ONCE}",
    departures="of the other classes the `rivals` likeliest are linearised",
)
def fab(steps: int = 100, restarts: int = 1, rivals: int = 9, stop: bool = False) -> Closest:
    """FAB; restarts begin at random points. `stop` ends at the first change within the budget, whatever its size."""
    return Closest(Fab(rivals=rivals), steps, restarts, stop=stop, refine=0 if stop else 3, roam=True)


@WHITE_BOX.attack(
    "fab-t",
    "FAB towards the likeliest other classes, one after another",
    paper=f"{FAB}; {APGD}",
    cost=f"2 * steps * restarts * targets forward, half as many backward, {ONCE}",
)
def fab_t(steps: int = 100, restarts: int = 1, targets: int = 9, stop: bool = False) -> Closest:
    """FAB across the boundary with one class at a time, the likeliest first; `stop` as in `fab`."""
    return Closest(Fab(rivals=1), steps, restarts, targets, stop, refine=0 if stop else 3, roam=True)


@WHITE_BOX.attack(
    "ddn",
    "smallest change: direction and norm of the change are decoupled",
    paper="Rony et al. 2019, Decoupling direction and norm for efficient gradient-based L2 adversarial attacks",
    threats=EUCLIDEAN,
    cost=f"steps forward and backward, {ONCE}",
)
def ddn(steps: int = 100, gamma: float = 0.05, radius: float = 1.0, stop: bool = False) -> Closest:
    """DDN; `radius` is that of the first sphere. `stop` ends at the first change within the budget."""
    return Closest(Decoupled(gamma=gamma, radius=radius), steps, stop=stop)


@WHITE_BOX.attack(
    "fmn",
    "smallest change: a ball that adapts to each example",
    paper="Pintor et al. 2021, Fast minimum-norm adversarial attacks through adaptive norm constraints",
    threats=(*BALLS, "l1", "l0"),
    cost=f"steps forward and backward, {ONCE}",
    departures="until a first point succeeds, a ball that the space's bounds cut off grows as well",
)
def fmn(steps: int = 100, gamma: float = 0.05, size: float = 1.0, stop: bool = False) -> Closest:
    """FMN; `size` is the Euclidean length of the first step. `stop` ends at the first change within the budget."""
    return Closest(FastMinimumNorm(gamma=gamma, size=size), steps, stop=stop)


@WHITE_BOX.attack(
    "cw",
    "smallest change: the distance with a penalty, by Adam",
    paper="Carlini and Wagner 2017, Towards evaluating the robustness of neural networks",
    threats=EUCLIDEAN,
    cost=f"steps * searches forward and backward, {ONCE}",
    departures="every search makes all its steps",
)
def cw(
    steps: int = 200,
    searches: int = 9,
    rate: float = 0.05,
    weight: float = 1e-3,
    kappa: float = 0.0,
    stop: bool = False,
) -> Closest:
    """`searches` weights, `steps` steps for each; with one search, `weight` is the weight. The paper's steps are 10 000
    at a rate of .01. `stop` ends at the first change within the budget."""
    move = Penalised(searches=searches, rate=rate, weight=weight, kappa=kappa)
    return Closest(move, steps * searches, stop=stop, roam=True)


def auto(square: Attack, steps: int, restarts: int, targets: int) -> Worst:
    """APGD, APGD-T, FAB-T and a random search in turn, each on what still stands (AutoAttack's standard version). With
    two classes APGD-T climbs the margin."""
    attacks = (
        ("apgd", apgd(steps, restarts)),
        ("apgd-t", AutoPGD(steps, restarts, dlr_or_margin, targets)),
        ("fab-t", fab_t(steps, restarts, targets, stop=True)),
        ("square", square),
    )
    return Worst(attacks, gradients=("apgd", "apgd-t", "fab-t"))


def auto_of(catalogue: Catalogue) -> Callable[[Build], Build]:
    """Registers a modality's `auto`, the function below: it brings its own random search to `auto` above."""
    return catalogue.attack(
        "auto",
        "worst of APGD, APGD-T, FAB-T and Square, with checks for masked gradients",
        paper=APGD,
        needs=Access.GRADIENT | Access.SCORE,
        threats=BALLS,
        cost="at most 4 * steps * restarts * targets forward, half as many backward, and `queries` forward",
        random=True,
    )
