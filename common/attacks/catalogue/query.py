"""Query attacks on bounded real inputs, whatever they depict: pixels and samples share them, word for word.

Scores or labels are all they see, and every answer that steers them is paid for. `queries` is per example.
"""

from __future__ import annotations

from carom.common.attacks.catalogue.base import Catalogue
from carom.common.attacks.gradient.ascent import Ascent
from carom.common.attacks.gradient.updates import Momentum, chain
from carom.common.attacks.info import BALLS
from carom.common.attacks.query.finite_differences import Bandits, FiniteDifferences
from carom.common.attacks.query.hopskipjump import HopSkipJump
from carom.common.attacks.query.label_search import DecisionSearch
from carom.common.attacks.query.proposals import Halves
from carom.common.attacks.query.random_search import RandomSearch
from carom.common.attacks.query.rays import RayS
from carom.common.core.batch import Access
from carom.common.core.objectives import objective

QUERY = Catalogue(needs=Access.SCORE, threats=BALLS, cost="at most `queries`", random=True)


@QUERY.attack(
    "signhunter",
    "sign flips in groups that halve, by scores alone",
    paper="Al-Dujaili and O'Reilly 2020, Sign bits are all you need for black-box attacks",
    threats=("linf",),
    random=False,
    departures="the blocks of a level are as equal as can be",
)
def signhunter(queries: int = 1000, keep_going: bool = False) -> RandomSearch:
    """Flips of ever smaller groups of signs."""
    return RandomSearch(Halves(), queries=queries, keep_going=keep_going)


def estimated(gradient: FiniteDifferences | Bandits, queries: int, size: float, decay: float, loss: str) -> Ascent:
    """A climb along estimated gradients with as many steps as the queries pay for."""
    update = chain(Momentum(decay)) if decay else chain()
    return Ascent(size=size, gradient=gradient, update=update, objective=objective(loss), stop=True).asking(queries)


@QUERY.attack(
    "nes",
    "PGD on gradients estimated from scores of Gaussian neighbours",
    paper="Ilyas et al. 2018, Black-box adversarial attacks with limited queries and information",
    departures="neighbours are farther away by default, for models whose scores are flat",
)
def nes(
    queries: int = 1000,
    pairs: int = 5,
    sigma: float = 1.0,
    size: float = 0.2,
    decay: float = 0.9,
    loss: str = "margin",
) -> Ascent:
    """Steps along gradients estimated from `pairs` of Gaussian neighbours at shares `sigma` of the radius."""
    return estimated(FiniteDifferences(pairs, sigma), queries, size, decay, loss)


@QUERY.attack(
    "spsa",
    "PGD on gradients estimated from scores at random signs",
    paper="Uesato et al. 2018, Adversarial risk and the dangers of evaluating against weak attacks",
    departures="neighbours are farther away by default, for models whose scores are flat",
)
def spsa(
    queries: int = 1000,
    pairs: int = 5,
    sigma: float = 1.0,
    size: float = 0.2,
    decay: float = 0.9,
    loss: str = "margin",
) -> Ascent:
    """Steps along gradients estimated from `pairs` of neighbours at random signs."""
    return estimated(FiniteDifferences(pairs, sigma, signs=True), queries, size, decay, loss)


@QUERY.attack(
    "rays",
    "sign blocks that shorten the way to the boundary, by labels alone",
    paper="Chen and Gu 2020, RayS: a ray searching method for hard-label adversarial attack",
    needs=Access.LABEL,
    threats=("linf",),
    targeted=False,
    random=False,
)
def rays(queries: int = 1000) -> DecisionSearch:
    """Flips of sign blocks that shorten the way to the boundary."""
    return DecisionSearch(RayS(), queries)


@QUERY.attack(
    "hopskipjump",
    "walks along the boundary, by labels alone",
    paper="Chen, Jordan and Wainwright 2020, HopSkipJumpAttack: a query-efficient decision-based attack",
    needs=Access.LABEL,
    targeted=False,
    departures="the first estimate of the normal has 30 probes, not 100, for small budgets; starts are drawn at many "
    "contrasts",
)
def hopskipjump(queries: int = 1000, probes: int = 30) -> DecisionSearch:
    """Walks along the boundary; `probes` questions for the first estimate of its normal (the paper's 100 is for budgets
    of many thousands)."""
    return DecisionSearch(HopSkipJump(probes), queries)
