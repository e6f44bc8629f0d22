"""Attacks on decision trees, by name."""

from __future__ import annotations

from carom.common.attacks.gradient.ascent import Ascent
from carom.common.attacks.gradient.updates import L1Normalise, Momentum, chain
from carom.common.attacks.info import BALLS, AttackInfo
from carom.common.attacks.trees.leaf_path import LeafPath
from carom.common.attacks.trees.relaxed_trees import TreeClimb, near
from carom.common.core.batch import Access
from carom.common.core.objectives import objective


def _climb(steps: int, size: float, decay: float, loss: str) -> Ascent:
    return Ascent(steps=steps, size=size, update=chain(L1Normalise(), Momentum(decay)), objective=objective(loss))


def leaf_path(steps: int = 60, width: int = 8, room: int = 2**20) -> LeafPath:
    """Nearest leaf of another class; on forests and boosted trees the best of all regions, or greedy over leaves."""
    return LeafPath(steps=steps, width=width, room=room)


def leaf_path_through(
    steps: int = 20, size: float = 0.15, temperature: float = 1.0, decay: float = 1.0, loss: str = "margin"
) -> LeafPath:
    """MI-FGSM, through the front end, towards each tree's nearest leaves of another class."""
    return LeafPath(through=TreeClimb(_climb(steps, size, decay, loss), near, temperature))


def soft_leaf_path(
    steps: int = 10, size: float = 0.25, temperature: float = 0.2, decay: float = 1.0, loss: str = "margin"
) -> TreeClimb:
    """MI-FGSM on a forest or boosted trees with every split a sigmoid."""
    return TreeClimb(_climb(steps, size, decay, loss), temperature=temperature)


SOFT_LEAF_PATH = AttackInfo(
    "soft-leaf-path",
    "gradient attack on trees with every split a sigmoid, through any front end",
    "after Papernot, McDaniel and Goodfellow 2016, Transferability in machine learning (relaxation ours)",
    Access.LEAVES,
    BALLS,
    soft_leaf_path,
    "steps forward, steps backward of the relaxed forest",
)


LEAF_PATH = AttackInfo(
    "leaf-path",
    "walk to a leaf of another class: exact on one tree, and on forests and boosted trees in small balls, else greedy",
    "Papernot, McDaniel and Goodfellow 2016, Transferability in machine learning; Chen et al. 2019, Robustness verification of tree-based models; Zhang, Zhang and Hsieh 2020, An efficient adversarial attack for tree ensembles",  # noqa: E501
    Access.LEAVES,
    ("linf", "l2"),
    leaf_path,
    "at most steps * width queries",
    models="trees",
)


LEAF_PATH_THROUGH = AttackInfo(
    "leaf-path",
    "climb through the front end of trees towards their nearest leaves of another class, by gradients",
    "after Papernot, McDaniel and Goodfellow 2016, Transferability in machine learning (the climb is ours)",
    Access.LEAVES,
    BALLS,
    leaf_path_through,
    "steps forward, steps backward of the front end and the leaves",
)
