"""Tasks and goals by numbers worked out beside them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import carom
from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.core.batch import Goal, Output
from carom.common.core.data import Dataset
from carom.common.core.objectives import cross_entropy, margin
from carom.common.core.spaces import Box
from carom.common.core.tasks import CLASSES, Answers, Classes, Threshold, of_classes

LOGITS = torch.tensor([[1.0, 3.0, 0.0], [2.0, 1.0, 1.5], [0.0, 0.0, 4.0]])
LABELS = np.array([1, 2, 2])


def test_classes_are_the_largest_logit_and_the_gap_is_the_margin():
    answers = CLASSES.answer(Output(LOGITS))
    assert answers.said.tolist() == [1, 0, 2]
    assert answers.rejected is None
    assert CLASSES.right(answers, LABELS).tolist() == [True, False, True]
    assert CLASSES.gap(answers, LABELS).tolist() == [2.0, -0.5, 4.0]
    assert [CLASSES.shown(said, "abc") for said in answers.said] == ["b", "a", "c"]
    assert CLASSES.asked(LABELS[0], "abc") == "b"
    assert CLASSES.width("abc") == 3


def test_answers_are_joined_and_taken_with_their_scores_and_rejections():
    rejected = torch.tensor([False, True, False])
    whole = CLASSES.answer(Output(LOGITS, rejected=rejected))
    parts = [CLASSES.answer(Output(LOGITS[k : k + 1], rejected=rejected[k : k + 1])) for k in range(3)]
    joined = Answers.join(parts)
    turned = joined.take(np.array([2, 0, 1]))
    for one, rows in ((joined, [0, 1, 2]), (turned, [2, 0, 1])):
        assert one.said.tolist() == whole.said[rows].tolist()
        assert one.rejected.tolist() == whole.rejected[rows].tolist()
        assert torch.equal(one.scores, LOGITS[rows])


def test_the_goal_of_classes_is_the_public_one():
    goal = CLASSES.goal(LABELS)
    assert type(goal) is carom.Goal is Goal
    assert goal.achieved(LOGITS).tolist() == [False, True, False]
    aimed = CLASSES.goal(LABELS, np.array([0, 0, 0]))
    assert aimed.targeted
    assert aimed.achieved(Output(LOGITS)).tolist() == [False, True, False]
    assert torch.equal(goal.loss(margin, LOGITS), margin(LOGITS, goal))
    assert of_classes(goal) is goal


def test_what_is_rejected_achieves_nothing():
    rejected = torch.tensor([False, True, False])
    assert Goal(torch.tensor([0, 1, 2])).achieved(LOGITS).tolist() == [True, True, False]
    assert Goal(torch.tensor([0, 1, 2])).achieved(Output(LOGITS, rejected=rejected)).tolist() == [True, False, False]


def test_wanted_classes_are_others_and_follow_the_ids():
    labels, rng = np.arange(60) % 3, Rng.of(3, [f"e{i}" for i in range(60)])
    wanted = CLASSES.wanted(labels, "abc", rng)
    assert (wanted != labels).all()
    assert set(wanted.tolist()) == {0, 1, 2}
    assert CLASSES.wanted(labels[[7]], "abc", rng[torch.tensor([7])]).tolist() == [wanted[7]]


NUMBERS = torch.tensor([[0.1], [0.5], [0.9], [0.5001]])
SIDES = np.array([0, 1, 1, 0])


def test_a_threshold_has_two_sides_and_belongs_to_the_lower():
    task = Threshold(0.5)
    answers = task.answer(Output(NUMBERS))
    assert answers.said.tolist() == NUMBERS[:, 0].double().tolist()
    assert task.right(answers, SIDES).tolist() == [True, False, True, False]
    assert task.gap(answers, SIDES) == pytest.approx([0.4, 0.0, 0.4, -0.0001], abs=1e-7)
    assert task.kind(answers).tolist() == [False, False, True, True]
    assert task.shown(answers.said[2], ("below", "above")) == "above (0.9)"
    assert task.asked(1, ("below", "above")) == "above"
    assert task.wanted(SIDES, ("below", "above"), Rng.of(0, "abcd")).tolist() == [1, 0, 0, 1]


def test_the_goal_of_a_threshold_is_the_other_side_and_agrees_with_what_is_right():
    """Also where the number is the float32 nearest to the threshold: neither says that it is above."""
    for at in (0.5, 0.1, -0.3, 1e6 + 0.1):
        near = torch.tensor(at).nextafter(torch.tensor(torch.inf))
        numbers = torch.stack([torch.tensor(at), near, -near, torch.tensor(at - 1)])[:, None]
        task, sides = Threshold(at), np.array([0, 0, 1, 1])
        right = task.right(task.answer(Output(numbers)), sides)
        assert task.goal(sides).achieved(numbers).tolist() == (~right).tolist()
        hit = task.right(task.answer(Output(numbers)), 1 - sides)
        assert task.goal(sides, 1 - sides).achieved(numbers).tolist() == hit.tolist()


def test_objectives_climb_to_the_other_side_of_a_threshold():
    """The margin is the distance beyond the threshold, cross-entropy that of log-odds as far from it."""
    goal = Threshold(0.5).goal(SIDES)
    assert goal.loss(margin, NUMBERS).tolist() == pytest.approx([-0.4, 0.0, -0.4, 0.0001], abs=1e-6)
    assert goal.loss(cross_entropy, NUMBERS)[0].item() == pytest.approx(np.log1p(np.exp(-0.4)), abs=1e-6)
    assert goal.take(torch.tensor([3])).achieved(NUMBERS[3:]).tolist() == [True]
    assert goal.repeat(2).achieved(NUMBERS.repeat(2, 1)).tolist() == 2 * goal.achieved(NUMBERS).tolist()
    with pytest.raises(CaromError, match="aims at classes"):
        of_classes(goal)


# Data say what their task is.

SPACE = Box("numbers", 0.0, 1.0, 1 / 255, torch.uint8)
DATA = Dataset(
    "d", "image", SPACE, torch.arange(3, dtype=torch.uint8)[:, None], torch.tensor([0, 1, 0]), list("abc"), ("n", "y")
)


def test_data_without_a_task_hold_classes_and_their_digest_is_what_it_was():
    assert DATA.task == Classes()
    assert DATA.reference.tolist() == [0, 1, 0]
    assert DATA.digest == "43264134edd4d563b03f5c2a4096f92065f19736889d4067c7d9df8c6c6a97ba"


def test_task_and_references_are_part_of_the_digest():
    digests = {
        replace(DATA, task=task, references=references).digest
        for task in (Classes(), Threshold(0.5), Threshold(0.25))
        for references in (None, ["a", "b", "c"], ["a", "b", "d"])
    }
    assert len(digests) == 9
    assert DATA.digest in digests


def test_references_go_with_their_examples():
    told = replace(DATA, references=["one", "two", "three"], classes=())
    assert told.reference.tolist() == ["one", "two", "three"]
    assert told.take(torch.tensor([2, 0])).reference.tolist() == ["three", "one"]
    assert told.sample(2).reference.tolist() == [told.references["abc".index(i)] for i in told.sample(2).ids]
    with pytest.raises(CaromError, match="2 references for 3 examples"):
        replace(DATA, references=["one", "two"])


def test_labels_are_counted_in_other_classes_only_where_they_are_classes():
    assert DATA.with_classes(("y", "n"), [1, 0]).labels.tolist() == [1, 0, 1]
    sides = replace(DATA, task=Threshold(0.5))
    assert sides.with_classes(("n", "y"), [0, 1]).digest == sides.digest
    with pytest.raises(CaromError, match="in the same order"):
        sides.with_classes(("y", "n"), [1, 0])
