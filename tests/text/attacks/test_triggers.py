"""Words beside a text: which are learned on a linear model, what the threat allows, what its controls are."""

from __future__ import annotations

import pytest
import torch

from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch, Goal
from carom.common.core.problem import Problem, Status
from carom.text.attacks.triggers import Beside, Vocabulary, trigger
from carom.text.pairs import join
from carom.text.threats import WordBudget

WEIGHTS = {"good": 2.0, "fine": 1.0, "film": 0.25, "song": 0.0, "bad": -2.0, "awful": -3.0}
OTHERS = ("good film", "fine song film", "bad film", "awful song")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("\n".join(WEIGHTS), encoding="utf-8")
    return str(path)


def batch(texts, labels, name="x"):
    return Batch(list(texts), torch.tensor(labels), [f"{name}{i}" for i in range(len(texts))])


def run(toy, made, texts, labels, share=1.0, targets=None, others=(OTHERS, [1, 1, 0, 0])):
    part = batch(texts, labels)
    goal = Goal(part.labels, None if targets is None else torch.tensor(targets))
    threat = made.within(WordBudget(share))
    problem = Problem(toy(WEIGHTS, ()).model, goal, threat, others=batch(*others, "other"))
    return threat, made(problem, part, Rng.of(0, part.ids))


def test_the_trigger_of_a_linear_model_is_its_heaviest_word_for_each_class(toy, file):
    made = trigger(words=2, top=3, vocabulary=file)
    texts = ["good fine song", "good good good good good film", "bad film", "song"]
    threat, result = run(toy, made, texts, [1, 1, 0, 1], share=0.67)
    assert result.inputs[:2] == ["awful awful good fine song", "awful awful good good good good good film"]
    assert result.inputs[2:] == ["good bad film", "awful song"]  # room for one word
    assert result.success.tolist() == [True, False, True, True]
    assert result.status.eq(Status.DONE).all()
    assert threat.allows(result.inputs, texts).all()
    targeted = run(toy, made, texts[:3], [1, 1, 0], targets=[0, 0, 1])[1]
    assert targeted.inputs[2] == "good good bad film"


def test_every_text_is_charged_what_its_trigger_cost_and_one_answer(toy, file):
    made = trigger(words=1, steps=1, top=2, vocabulary=file)
    _, result = run(toy, made, ["good film", "fine film"], [1, 1])
    # Two others of that class: "good" at first, one gradient, two further words.
    assert result.cost.forward.tolist() == [2 + 2 + 2 * 2 + 1] * 2
    assert result.cost.backward.tolist() == [2, 2]
    assert result.cost.queries.tolist() == [0, 0]


def test_words_of_another_file_are_left_out(toy, file, tmp_path):
    lexicon = tmp_path / "lexicon.txt"
    lexicon.write_text("Awful\t-3.1\nbad\t-2", encoding="utf-8")
    _, result = run(toy, trigger(words=1, vocabulary=file, without=str(lexicon)), ["good film"], [1])
    assert result.inputs == ["song good film"]


def test_what_may_stand_beside_a_text(file):
    before, behind = (Beside(0.5, source=Vocabulary.read(50, file, None), behind=b) for b in (False, True))
    clean = "Good, fine: film song!"
    allowed = {"bad song Good, fine: film song!": True, "bad bad bad Good, fine: film song!": False, clean: True}
    refused = ["house Good, fine: film song!", "bad Good, fine film song!", "bad  Good, fine: film song!", "", "bad"]
    for text, ok in {**allowed, **dict.fromkeys(refused, False)}.items():
        assert before.allows([text], [clean]).tolist() == [ok], text
    assert behind.allows([f"{clean} bad song", f"bad {clean}"], [clean] * 2).tolist() == [True, False]
    pair = join("A film.", "A song.", "second")
    assert before.put(pair, ["bad"]) == join("A film.", "bad A song.", "second")
    assert behind.put(pair, ["bad"]) == join("A film.", "A song. bad", "second")


def test_controls_are_as_many_random_words_at_the_same_place(file):
    threat = Beside(0.5, source=Vocabulary.read(50, file, None))
    part = batch(["good film song fine", "film"], [1, 1])
    drawn = threat.control(part, Rng.of(3, part.ids), ["bad bad good film song fine", "film"])
    assert drawn[1] == "film"
    assert len(threat.added(drawn[0], part.inputs[0])) == 2
    assert threat.allows(drawn, part.inputs).all()
    others = [threat.control(part, Rng.of(k, part.ids), ["bad bad good film song fine", "film"])[0] for k in range(8)]
    assert len(set(others)) > 3
    put = threat.swap(part, Rng.of(3, part.ids), ["bad good film", "awful song"], ["good film", "song"])
    assert put == ["bad good film song fine", "awful film"]


def test_a_trigger_needs_words_and_other_texts(toy, file, tmp_path):
    made, part = trigger(vocabulary=file), batch(["good film"], [1])
    problem = Problem(toy(WEIGHTS, ()).model, Goal(part.labels), made.within(WordBudget(1.0)))
    with pytest.raises(CaromError, match="not under attack"):
        made(problem, part, Rng.of(0, part.ids))
    (tmp_path / "empty.txt").write_text("!\n", encoding="utf-8")
    with pytest.raises(CaromError, match="one word a line"):
        trigger(vocabulary=str(tmp_path / "empty.txt"))
