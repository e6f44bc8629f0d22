"""Why what a plan asks for cannot be done, told before anything is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from torch import Tensor

from carom.common.attacks.info import MODELS, AttackChoice
from carom.common.base.errors import CaromError, UnknownName
from carom.common.core.batch import Access
from carom.common.core.data import Dataset
from carom.common.core.model import Model, check_shape
from carom.common.core.threats import Threat
from carom.common.measure.denominators import DENOMINATORS

MOST_KNOWN = 0.1
"""Share of the data that may also be among the examples that a detector's threshold was found on: some sets repeat a few
of their examples."""


def check_controls(controls: int) -> None:
    """Refuse a study without a control draw."""
    if controls < 1:
        raise CaromError("at least one control draw is needed; five or more give a steadier null.")


def check_denominators(names: Iterable[str]) -> None:
    """Refuse a name that no denominator has."""
    for name in names:
        if name not in DENOMINATORS:
            raise UnknownName("denominator", name, DENOMINATORS)


def check_targeted(attacks: Iterable[AttackChoice]) -> None:
    """Refuse attacks that cannot be aimed at a class, in a targeted study."""
    if untargeted := [c.info.name for c in attacks if not c.info.targeted]:
        raise CaromError(f"attack {', '.join(untargeted)} cannot be aimed at a class. Leave --targeted out.")


def check_threat(threat: Threat) -> None:
    """Refuse a threat that does not say what its control follows."""
    if not hasattr(threat, "control_follows"):
        raise CaromError(
            f"the threat {threat!r} does not say what its control follows: derive its class from "
            "carom.common.core.threats.Threat."
        )


def check_model(model: Model, modality: str, data: Dataset) -> None:
    """Refuse a model that takes other inputs than the data are."""
    if model.modality != modality:
        raise CaromError(
            f"model {model.name} is for {model.modality}, this study is for {modality}. Choose models of one modality."
        )
    if model.space != data.space:
        remedy = getattr(model.space, "remedy", "Convert the data, or choose a model made for it.")
        raise CaromError(
            f"model {model.name} takes {_differs(model.space, data.space)}, the data {data.name} is "
            f"{_differs(data.space, model.space)}. {remedy}"
        )
    known: frozenset[str] = getattr(model, "calibrated_on", frozenset())
    if known and (share := sum(one in known for one in data.contents()) / len(data)) > MOST_KNOWN:
        raise CaromError(
            f"model {model.name} found its threshold on {share:.0%} of the very examples of {data.name}: its rejections "
            "would look better than they are. Calibrate it on others: data=SPEC&split=NAME in its defence."
        )
    if getattr(model, "shape", None) is not None and isinstance(data.stored, Tensor):
        check_shape(model, data.stored[:1])


def check_names(models: Sequence[Model]) -> None:
    """Refuse two models of one name: results are told apart by it."""
    names = [model.name for model in models]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise CaromError(f"two different models are called {', '.join(twice)}. Give one of them a name=...")


def check_others(attacks: Iterable[AttackChoice], others: Dataset | None) -> None:
    """Refuse attacks that need examples of the attacker's own, where there are none."""
    if others is None and (lacking := [c.label for c in attacks if c.needs_others]):
        raise CaromError(
            f"attack {', '.join(lacking)} needs labelled examples that are not under attack: pass others=, for "
            "example others=load_data(..., split='train', limit=64)."
        )


def why_unsuited(chosen: AttackChoice, source: Model, builds: Callable[[], set[str]]) -> str | None:
    """Why an attack cannot run on a source, in words that follow its name; None if it can. `builds` tells which kinds of
    network the source is, and is asked only where the attack does not run on all."""
    info = chosen.info
    if not chosen.runs_on(source):
        return f"needs {_words(info.needs)}"
    if info.models == "any" or info.models in builds():
        return None
    return f"works on {MODELS[info.models]}"


def check_source(source: Model, modality: str, unsuited: Sequence[tuple[str, str | None]]) -> None:
    """Refuse a source on which no attack can run, given (name of an attack, why it cannot) of each."""
    if all(reason is not None for _, reason in unsuited):
        why = ", ".join(f"{name} {reason}" for name, reason in unsuited)
        raise CaromError(
            f"no chosen attack can run on {source.name}, which grants {_words(source.access)}: {why}. "
            f"{_without_gradients(source)}See `carom list attacks --modality {modality}`."
        )


def _without_gradients(source: Model) -> str:
    """Which members keep an ensemble from granting gradients."""
    members = getattr(source, "members", ())
    without = [m.name for m in members if Access.GRADIENT not in m.access]
    return f"Without {', '.join(without)} it would grant gradients. " if 0 < len(without) < len(members) else ""


def _differs(space: object, other: object) -> str:
    """What a space has otherwise than another: "waveform with sample_rate 8000", or its own words for itself."""
    if type(space).__str__ is not object.__str__:
        return str(space)
    mine, theirs = vars(space), vars(other)
    return ", ".join([mine["name"], *(f"{k} {v}" for k, v in mine.items() if k != "name" and theirs.get(k) != v)])


def _words(access: Access) -> str:
    return " and ".join(access.words())
