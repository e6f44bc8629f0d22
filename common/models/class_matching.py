"""Data and models that name the same classes in another order, or data with some of a model's classes: matched by name.

Labels are counted in the classes of the models, so that a rate over a study is about one list of classes. A model whose
own list has another order answers in the order of the first.
"""

from __future__ import annotations

from collections.abc import Sequence

from carom.common.base.errors import CaromError
from carom.common.core.adversarial_set import AdversarialSet
from carom.common.core.class_names import is_number, likely, natural, places, stated_as
from carom.common.core.data import Dataset
from carom.common.core.model import Model
from carom.common.core.tasks import CLASSES
from carom.common.models.reordering import answering_in


def matched(data: Dataset, models: Sequence[Model]) -> tuple[Dataset, dict[int, Model]]:
    """(the data with labels in the classes of the models, by id each model as it answers in them).

    Raises CaromError where classes do not have the same names, with what would lead on.
    """
    if all(model.classes == data.classes for model in models):
        return data, {id(model): model for model in models}
    first = max(models, key=lambda model: len(model.classes))
    if data.task != CLASSES:  # what a label or an output means there is the task's, and no name's
        raise CaromError(
            f"the labels of {data.name} are counted in ({_some(data.classes)}), those of {first.name} in "
            f"({_some(first.classes)}): for this task they have to be the same, in the same order."
        )
    told = data.with_classes(first.classes, _places(data, first))
    return told, {id(model): _answering(model, first, data) for model in models}


def set_in(found: AdversarialSet, clean: Dataset, models: Sequence[Model]) -> tuple[AdversarialSet, Dataset]:
    """A set and its clean examples, with labels and answers counted in the classes of the models."""
    told, _ = matched(clean, models)
    if clean.classes == told.classes:
        return found, clean
    return found.with_classes(told.classes, places(clean.classes, told.classes) or []), told


def classes_for(spec: str, data: Dataset) -> list[str]:
    """The classes of a model that cannot tell them: the data's, in their order. Raises CaromError where that order is
    a guess."""
    if not data.guessed:
        return list(data.classes)
    by_letters = sorted(data.classes)
    by_numbers = sorted(data.classes, key=natural)
    mark = "&" if "?" in spec else "?"
    raise CaromError(
        f"carom cannot know in which order {spec} answers the classes of {data.name}: their names sort otherwise by "
        f"letters ({_some(by_letters)}: torchvision's ImageFolder) than by numbers ({_some(by_numbers)}). Append the "
        f"order of its outputs to its spec: {mark}classes={stated_as(by_numbers)}"
    )


def _places(data: Dataset, model: Model) -> list[int]:
    """Which of a model's classes each class of the data is."""
    found = places(data.classes, model.classes)
    if found is None:
        raise CaromError(
            f"model {model.name} knows {len(model.classes)} classes ({_some(model.classes)}), the data {data.name} has "
            f"{len(data.classes)} ({_some(data.classes)}). {remedy(data, model.classes)}"
        )
    return found


def _answering(model: Model, first: Model, data: Dataset) -> Model:
    if model.classes == first.classes:
        return model
    order = places(first.classes, model.classes) if len(model.classes) == len(first.classes) else None
    if order is None:
        _places(data, model)  # where the data's classes are missing, this says so
        raise CaromError(
            f"model {model.name} knows {len(model.classes)} classes ({_some(model.classes)}), {first.name} "
            f"{len(first.classes)} ({_some(first.classes)}): answers over other classes cannot be compared. Measure each "
            "in a run of its own."
        )
    return answering_in(model, order, first.classes)


def remedy(data: Dataset, classes: Sequence[str]) -> str:
    """What to do about data whose classes are not all among those of a model."""
    if all(map(is_number, classes)) and not all(map(is_number, data.classes)):
        own = "its outputs have no names yet: state them in its spec"
        if len(classes) == len(data.classes):
            return f"If these are its classes, {own}, in the order of its outputs: classes={stated_as(data.classes)}"
        return f"{own[0].upper()}{own[1:]}, all of them in the order of its outputs: classes=@FILE, one name a line."
    alike = likely(data.classes, classes)
    numbers = all(map(is_number, data.classes)) and len(data.classes) <= len(classes)
    if (alike is not None and not numbers) and not data.name.startswith("builtin:"):
        pairs = [f"{own} = {classes[at]}" for own, at in zip(data.classes, alike, strict=True)]
        named = [classes[at] for at in alike]
        return f"If {_some(pairs)}, state so: {data.name}?classes={stated_as(named)}"
    if numbers and not data.name.startswith("builtin:"):
        own = f"{data.name}?classes={stated_as(classes)}"
        return f"If the numbers are those of its outputs, state those of the data as the model has them: {own}"
    missing = [name for name in data.classes if name not in classes]
    return (
        f"No class of the model is called {_some(missing)}. Choose data and models of the same classes, or state those of "
        f"a model of your own, in the order of its outputs: classes={stated_as(data.classes)} in its spec."
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
