"""How robust a model is, and which defence helps: what users import from `carom` besides attacks and transfer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from carom.common.api import _ledger, load_data, load_model, modality_of, threat_of
from carom.common.attacks.info import AttackChoice
from carom.common.core.data import Dataset
from carom.common.core.model import Model
from carom.common.core.threats import Threat
from carom.common.modality.installed import get_modality
from carom.common.modality.registry import choose_attack
from carom.common.robustness.bench import Bench
from carom.common.robustness.cases import case_of
from carom.common.robustness.judge import judge
from carom.common.robustness.outcome import Robust
from carom.common.runs.devices import pick_device
from carom.common.runs.load import load_named
from carom.common.study.config import Named
from carom.common.study.doubts import Warn, by_warnings
from carom.common.work.executor import Progress
from carom.common.work.store import Store


def robust(
    model: Model | str,
    data: Dataset | str | None = None,
    attacks: Iterable[str] = (),
    *,
    threat: Threat | str | None = None,
    eps: float | str | None = None,
    budgets: Sequence[float | str] = (),
    modality: str | None = None,
    seed: int = 0,
    store: Store | Path | str | None = None,
    batch: int = 64,
    device: str = "auto",
    progress: Progress | None = None,
    warn: Warn = by_warnings,
) -> Robust:
    """The robust accuracy of a model: the share of examples that are right when clean, and that no attack within the
    budget makes wrong without being rejected. A clean example that is rejected counts as wrong.

    Every example is attacked through all that stands before the model. There is a number (`accuracy`) only where the
    attacks pass the binarisation test and no alarm rings; else `status` says so, and `reasons` why.

    Args:
        model: a model, or the spec of one.
        data: examples, or their spec; by default those of the modality's own study.
        attacks: attacks instead of the adaptive ones of the modality's jury: "auto" is AutoAttack's standard version.
        threat: kind of threat ("linf"), or a threat; by default the modality's own.
        eps: its budget.
        budgets: further budgets of the same kind, for the curve.
        modality: of a model that does not tell.
        seed: of the attacks' random numbers.
        store: folder of finished work; what is there is not computed again.
        batch: examples at once.
        device: "auto" (a GPU when there is one), "cpu", "cuda".
        progress: called with (steps done, steps in all, what comes next).
        warn: called with what is to be doubted of the clean answers.

    Raises:
        CaromError: the model, the data and the attacks do not fit, said before anything is computed.

    Examples:
        >>> import carom
        >>> data = carom.load_data("builtin:fashion-mnist", limit=12)
        >>> found = carom.robust("zoo:image-mlp", data, eps="28/255")
        >>> found.status, round(found.accuracy.value, 2), round(found.accuracy.high, 2)
        ('robust accuracy', 0.08, 0.35)
    """
    kind = get_modality(data.modality) if isinstance(data, Dataset) else modality_of(model, modality)
    if isinstance(data, str) or data is None:
        limit = kind.defaults.limit if data is None else None
        data = load_data(data or kind.defaults.data, limit=limit, modality=kind.name)
    held = load_named(kind, Named(spec=model), data) if isinstance(model, str) else load_model(model)
    held.to(pick_device(device))
    budget, label = threat_of(kind, threat, eps)
    named = label.split()[0] if threat is None or isinstance(threat, str) else None
    chosen: list[AttackChoice] = [choose_attack(kind, spec, named) for spec in dict.fromkeys(attacks)]
    case = case_of(kind, held, data, budget, label, named, chosen, [str(one) for one in budgets])
    return judge(case, Bench(_ledger(store), budget, seed, batch, progress=progress), warn)
