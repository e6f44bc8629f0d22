"""Tasks: what a model's answers are, which of them are right and how far from wrong; and what an attacker may want.

A task belongs to the data (`Dataset.task`), whose reference says of each example what is right: a class, a side, a text.
An evaluation asks nothing else: transfer, controls, excess and their intervals are defined over `right`, so they hold
for all tasks. A model may also reject an input: it is fooled where it answers wrongly and does not reject; on clean
inputs a rejection counts like a wrong answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.core.batch import Goal, Output, as_output

Values = NDArray[Any]
"""One value an example: int64[N] classes, float64[N] scores, object[N] texts."""

Bools = NDArray[np.bool_]
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Answers:
    """What a model answers to N inputs, in the form that is stored."""

    said: Values
    rejected: Bools | None = None  # bool[N]; None of a model that rejects nothing
    scores: Tensor | None = None  # float[N, C] that the answers were read from; never stored

    @classmethod
    def join(cls, parts: Sequence[Answers]) -> Answers:
        """Of consecutive inputs."""
        first = parts[0]
        return cls(
            np.concatenate([part.said for part in parts]),
            None if first.rejected is None else np.concatenate([_known(part.rejected) for part in parts]),
            None if first.scores is None else torch.cat([_known(part.scores) for part in parts]),
        )

    def take(self, rows: Values) -> Answers:
        return Answers(
            self.said[rows],
            None if self.rejected is None else self.rejected[rows],
            None if self.scores is None else self.scores[torch.from_numpy(rows)],
        )


def _known(value: Any) -> Any:
    assert value is not None, "a model rejects either in all its answers or in none"
    return value


class AttackGoal(Protocol):
    """What an attacker wants of each of N examples, untargeted or targeted; `Goal` is that of classes."""

    @property
    def targeted(self) -> bool: ...

    def achieved(self, output: Output | Tensor) -> Tensor:
        """bool[N], of an output or its logits (`as_output`). What is not finite achieves nothing, nor do rejected inputs."""

    def loss(self, objective: Callable[[Tensor, Goal], Tensor], output: Output | Tensor) -> Tensor:
        """What an attack climbs towards the goal, float[N], larger is nearer; [N, K] as the objective has it. The goal
        of another task than classes says what the objective means there, or refuses it (`CaromError`)."""

    def take(self, rows: Tensor) -> Self: ...

    def repeat(self, copies: int) -> Self: ...

    def to(self, device: torch.device | str) -> Self: ...


def of_classes(goal: AttackGoal) -> Goal:
    """The goal, for attacks that need to know the classes themselves."""
    if isinstance(goal, Goal):
        return goal
    raise CaromError(
        "this attack aims at classes, and the task of the data is another one: choose an attack that asks only whether "
        "the goal is achieved, or climbs its loss (pgd, mi-fgsm, square)."
    )


class Task(Protocol):
    """What is right of the data. A dataclass: its fields are part of what results are stored under."""

    def width(self, classes: Sequence[str]) -> int | None:
        """How many numbers a model answers for one example; None where that varies."""
        return None

    def answer(self, output: Output) -> Answers:
        """What is stored of an output on the CPU: one class, text or score an example, and what is rejected."""

    def right(self, answers: Answers, reference: Values) -> Bools:
        """bool[N]: whether each answer is right, rejected or not. Given what an attacker aims at in place of the
        reference: whether it is hit."""

    def gap(self, answers: Answers, reference: Values) -> Floats:
        """float[N]: how far each answer is on the right side, below 0 on the wrong one where the task has sides: the
        margin, the distance to a threshold, minus the word error rate. Asked while the answers have their scores."""

    def kind(self, answers: Answers) -> Values:
        """[N]: wrong answers that are equal here are the same mistake."""
        return answers.said

    def goal(self, reference: Values, wanted: Values | None = None) -> AttackGoal:
        """What an attacker wants: anything that is not right; targeted, what is `wanted`."""

    def wanted(self, reference: Values, classes: Sequence[str], rng: Rng) -> Values:
        """What a targeted attacker aims at in a study, drawn for each example: never what is right."""

    def shown(self, said: Any, classes: Sequence[str]) -> str:
        """An answer in words."""
        return str(said)

    def asked(self, reference: Any, classes: Sequence[str]) -> str:
        """What is right, in words."""
        return str(reference)


def rejected_of(output: Output) -> Bools | None:
    return None if output.rejected is None else output.rejected.numpy().astype(bool)


@dataclass(frozen=True)
class Classes(Task):
    """One of several classes: the one of the largest logit. The reference is the label."""

    def width(self, classes: Sequence[str]) -> int:
        return len(classes)

    def answer(self, output: Output) -> Answers:
        return Answers(output.logits.argmax(1).numpy(), rejected_of(output), output.logits)

    def right(self, answers: Answers, reference: Values) -> Bools:
        return answers.said == reference

    def gap(self, answers: Answers, reference: Values) -> Floats:
        """The label's logit minus the best other."""
        assert answers.scores is not None, "the margin is taken while the model is asked"
        labels = torch.from_numpy(reference)[:, None]
        own = answers.scores.gather(1, labels).squeeze(1)
        return (own - answers.scores.scatter(1, labels, -torch.inf).amax(1)).numpy()

    def goal(self, reference: Values, wanted: Values | None = None) -> Goal:
        return Goal(torch.from_numpy(reference), None if wanted is None else torch.from_numpy(wanted))

    def wanted(self, reference: Values, classes: Sequence[str], rng: Rng) -> Values:
        """A random other class."""
        return (reference + 1 + rng.integers(len(classes) - 1).numpy()) % len(classes)

    def shown(self, said: Any, classes: Sequence[str]) -> str:
        return classes[int(said)]

    def asked(self, reference: Any, classes: Sequence[str]) -> str:
        return classes[int(reference)]


CLASSES = Classes()
"""The task of data that name no other."""


@dataclass(frozen=True)
class Threshold(Task):
    """One number, on one side of a threshold or on the other. The reference is the label of the side: 0 at the threshold
    and below, 1 above. Models answer float[N, 1]; the number is what is stored."""

    at: float

    def width(self, classes: Sequence[str]) -> int:
        return 1

    def answer(self, output: Output) -> Answers:
        return Answers(output.logits[:, 0].double().numpy(), rejected_of(output))

    def right(self, answers: Answers, reference: Values) -> Bools:
        return self.kind(answers) == (reference == 1)

    def gap(self, answers: Answers, reference: Values) -> Floats:
        """The distance to the threshold, in the number's own unit."""
        return (answers.said - np.float64(np.float32(self.at))) * np.where(reference == 1, 1.0, -1.0)

    def kind(self, answers: Answers) -> Values:
        """The side, by the float32 that models answer: what an attack calls above is above here."""
        return answers.said > np.float64(np.float32(self.at))

    def goal(self, reference: Values, wanted: Values | None = None) -> SideGoal:
        return SideGoal(self.at, CLASSES.goal(reference, wanted))

    def wanted(self, reference: Values, classes: Sequence[str], rng: Rng) -> Values:
        """The other side."""
        return 1 - reference

    def shown(self, said: Any, classes: Sequence[str]) -> str:
        return f"{classes[int(self.kind(Answers(np.array([said])))[0])]} ({said:.4g})"

    def asked(self, reference: Any, classes: Sequence[str]) -> str:
        return classes[int(reference)]


@dataclass(frozen=True)
class SideGoal:
    """The other side of a threshold; targeted, the side that is wanted. An objective is asked about two classes whose
    log-odds are how far the number lies above the threshold."""

    at: float
    sides: Goal

    @property
    def targeted(self) -> bool:
        return self.sides.targeted

    def as_sides(self, output: Output | Tensor) -> Output:
        """The output as logits float[N, 2]."""
        found = as_output(output)
        return found._replace(logits=on_sides(found.logits, self.at))

    def achieved(self, output: Output | Tensor) -> Tensor:
        return self.sides.achieved(self.as_sides(output))

    def loss(self, objective: Callable[[Tensor, Goal], Tensor], output: Output | Tensor) -> Tensor:
        return self.sides.loss(objective, self.as_sides(output))

    def take(self, rows: Tensor) -> SideGoal:
        return SideGoal(self.at, self.sides.take(rows))

    def repeat(self, copies: int) -> SideGoal:
        return SideGoal(self.at, self.sides.repeat(copies))

    def to(self, device: torch.device | str) -> SideGoal:
        return SideGoal(self.at, self.sides.to(device))


def on_sides(numbers: Tensor, threshold: float) -> Tensor:
    """Logits float[N, 2] of numbers float[N] or [N, 1]: the log-odds of the second class are how far a number lies above
    the threshold, in its own units."""
    above = (numbers.reshape(-1) - threshold) / 2
    return torch.stack([-above, above], 1)
