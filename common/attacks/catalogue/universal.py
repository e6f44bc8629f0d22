"""Universal perturbations, by name."""

from __future__ import annotations

from carom.common.attacks.catalogue.base import Catalogue
from carom.common.attacks.gradient.universal import Capped, Universal
from carom.common.attacks.info import BALLS
from carom.common.core.batch import Access
from carom.common.core.objectives import objective

UNIVERSAL = Catalogue(needs=Access.GRADIENT | Access.EXAMPLES, threats=BALLS, shared=True)


@UNIVERSAL.attack(
    "uap",
    "one perturbation for all examples, learned on others",
    paper="Moosavi-Dezfooli et al. 2017, Universal adversarial perturbations; Shafahi et al. 2020, Universal "
    "adversarial training",
    cost="steps * batch forward and backward, learned once but charged to each example; 1 forward",
    shared=True,
)
def uap(steps: int = 100, batch: int = 32, size: float = 0.05, loss: str = "ce") -> Universal:
    """One perturbation for all, learned in `steps` mini-batches of `batch` other examples."""
    capped = Capped(objective(loss), 9.0)
    return Universal(steps, batch, max(size, 1 / steps), capped)
