"""White-box attacks that stop where they succeed: APGD, and the attacks that look for the smallest change."""

from __future__ import annotations

from collections.abc import Callable

from carom.common.attacks.gradient.apgd import AutoPGD
from carom.common.attacks.info import BALLS, AttackInfo
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


def apgd(steps: int = 100, restarts: int = 1, loss: str = "ce") -> AutoPGD:
    """Auto-PGD; loss=ce, dlr or margin."""
    return AutoPGD(steps, restarts, objective(loss))


def apgd_dlr(steps: int = 100, restarts: int = 1) -> AutoPGD:
    """Auto-PGD on the difference of logits ratio; the model needs three classes."""
    return AutoPGD(steps, restarts, dlr)


def apgd_t(steps: int = 100, restarts: int = 1, targets: int = 9) -> AutoPGD:
    """Auto-PGD on the targeted difference of logits ratio, for the likeliest other classes one after another."""
    return AutoPGD(steps, restarts, dlr, targets)


def deepfool(steps: int = 50, overshoot: float = 0.02, rivals: int = 9) -> Closest:
    """To the nearest of `rivals` linearised boundaries, until it is crossed."""
    return Closest(DeepFool(overshoot, rivals), steps, stop=True)


def fab(steps: int = 100, restarts: int = 1, rivals: int = 9, stop: bool = False) -> Closest:
    """FAB; restarts begin at random points. `stop` ends at the first change within the budget, whatever its size."""
    return Closest(Fab(rivals=rivals), steps, restarts, stop=stop, refine=0 if stop else 3, roam=True)


def fab_t(steps: int = 100, restarts: int = 1, targets: int = 9, stop: bool = False) -> Closest:
    """FAB across the boundary with one class at a time, the likeliest first; `stop` as in `fab`."""
    return Closest(Fab(rivals=1), steps, restarts, targets, stop, refine=0 if stop else 3, roam=True)


def ddn(steps: int = 100, gamma: float = 0.05, radius: float = 1.0, stop: bool = False) -> Closest:
    """DDN; `radius` is that of the first sphere. `stop` ends at the first change within the budget."""
    return Closest(Decoupled(gamma=gamma, radius=radius), steps, stop=stop)


def fmn(steps: int = 100, gamma: float = 0.05, size: float = 1.0, stop: bool = False) -> Closest:
    """FMN; `size` is the Euclidean length of the first step. `stop` ends at the first change within the budget."""
    return Closest(FastMinimumNorm(gamma=gamma, size=size), steps, stop=stop)


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


APGD = "Croce and Hein 2020, Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks"
FAB = "Croce and Hein 2020, Minimally distorted adversarial examples with a fast adaptive boundary attack"
EUCLIDEAN = ("l2", "snr")


def _info(name: str, summary: str, reference: str, build, cost: str, **more) -> AttackInfo:  # type: ignore[no-untyped-def]
    more = {"needs": Access.GRADIENT, "threats": BALLS, **more}
    return AttackInfo(name, summary, reference, build=build, cost=cost, **more)


def auto_info(build: Callable[..., Attack]) -> AttackInfo:
    """The entry of `auto` in the registry of a modality, which brings its own random search."""
    return _info(
        "auto",
        "worst of APGD, APGD-T, FAB-T and Square, with checks for masked gradients",
        APGD,
        build,
        "at most 4 * steps * restarts * targets forward, half as many backward, and `queries` forward",
        needs=Access.GRADIENT | Access.SCORE,
        random=True,
    )


ONCE = "and as many forward again where points succeed"
INFOS = [
    _info(
        "apgd",
        "PGD that chooses its own step sizes",
        APGD,
        apgd,
        "at most (1 + steps) * restarts forward and backward",
        threats=(*BALLS, "l1"),
        random=True,
    ),
    _info(
        "apgd-dlr",
        "APGD on a loss free of the logits' scale",
        APGD,
        apgd_dlr,
        "at most (1 + steps) * restarts forward and backward",
        random=True,
    ),
    _info(
        "apgd-t",
        "APGD towards the likeliest other classes, one after another",
        APGD,
        apgd_t,
        "at most (1 + steps) * restarts * targets forward and backward",
        random=True,
    ),
    _info(
        "deepfool",
        "smallest change: to the nearest linearised boundary",
        "Moosavi-Dezfooli et al. 2016, DeepFool: a simple and accurate method to fool deep neural networks",
        deepfool,
        "at most steps forward, steps * rivals backward",
    ),
    _info(
        "fab",
        "smallest change: projections onto linearised boundaries",
        FAB,
        fab,
        f"2 * steps * restarts forward, steps * restarts * rivals backward, {ONCE}",
    ),
    _info(
        "fab-t",
        "FAB towards the likeliest other classes, one after another",
        f"{FAB}; {APGD}",
        fab_t,
        f"2 * steps * restarts * targets forward, half as many backward, {ONCE}",
    ),
    _info(
        "ddn",
        "smallest change: direction and norm of the change are decoupled",
        "Rony et al. 2019, Decoupling direction and norm for efficient gradient-based L2 adversarial attacks",
        ddn,
        f"steps forward and backward, {ONCE}",
        threats=EUCLIDEAN,
    ),
    _info(
        "fmn",
        "smallest change: a ball that adapts to each example",
        "Pintor et al. 2021, Fast minimum-norm adversarial attacks through adaptive norm constraints",
        fmn,
        f"steps forward and backward, {ONCE}",
        threats=(*BALLS, "l1", "l0"),
    ),
    _info(
        "cw",
        "smallest change: the distance with a penalty, by Adam",
        "Carlini and Wagner 2017, Towards evaluating the robustness of neural networks",
        cw,
        f"steps * searches forward and backward, {ONCE}",
        threats=EUCLIDEAN,
    ),
]
