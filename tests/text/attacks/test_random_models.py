"""Word attacks on models that answer otherwise each time, and on models that reject."""

from __future__ import annotations

from dataclasses import dataclass

import torch

import carom
from carom.common.attacks.edits.requests import ScoreEdits
from carom.common.attacks.edits.scheduler import Lockstep
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch, Goal, Output
from carom.common.core.data import Dataset
from carom.common.core.problem import Problem
from carom.common.defences.detectors import Detector
from carom.common.defences.transforms import InputTransform, Transformed
from carom.common.modality.registry import choose_attack
from carom.text import MODALITY
from carom.text.space import Words

TEXTS = ["a fine and quiet film about the sea", "a dull and noisy film about nothing at all"]


@dataclass(frozen=True)
class Shortened(InputTransform):
    """Without one word, drawn."""

    seed: int = 0
    random = True

    def __call__(self, x, *rng):
        found = []
        for text, drawn in zip(x, rng[0].integers(1 << 30).tolist(), strict=True):
            words = text.split()
            del words[drawn % len(words)]
            found.append(" ".join(words))
        return found


@dataclass(frozen=True)
class Wordy(Detector):
    """Rejects texts of more than so many letters."""

    fpr: float = 0.5

    def score(self, model, inputs, lengths, *rng) -> tuple[Output, torch.Tensor]:
        return model(inputs), torch.tensor([float(len(text)) for text in inputs])


def lockstep(rows: list[int]) -> Lockstep:
    model = Transformed(carom.load_model("zoo:text-cnn"), Shortened())
    threat = MODALITY.threats["words"](0.5)
    streams = Rng.of(0, ["a", "b"])[torch.tensor(rows)]
    examples = [threat.editable(TEXTS[row]) for row in rows]
    return Lockstep(model, examples, Goal(torch.tensor([1, 0])[rows]), streams=streams)


def asking(times: int):
    answers = []
    for _ in range(times):
        answers.append((yield ScoreEdits([{}, {}])).scores)
    return answers


def test_a_random_model_answers_each_request_anew_whoever_stands_beside():
    both, alone = lockstep([0, 1]), lockstep([1])
    found = both.run([asking(3), asking(3)])
    assert len({scores[0] for scores in found[1]}) > 1
    assert all(first == second for first, second in found[1])  # rows of one request that read the same are one question
    again = torch.tensor(alone.run([asking(3)])[0])
    assert torch.allclose(again, torch.tensor(found[1]), atol=1e-5)
    assert both.costs().forward.tolist() == [3, 3]
    assert both.costs().queries.tolist() == [6, 6]


def test_gradients_at_words_go_around_a_change_of_the_text():
    model = Transformed(carom.load_model("zoo:text-cnn"), Shortened())
    batch = Batch(TEXTS, torch.tensor([1, 0]), ["a", "b"])
    chosen = choose_attack(MODALITY, "hotflip", "words")
    assert chosen.runs_on(model)
    problem = Problem(model, Goal(batch.labels), MODALITY.threats["words"](0.5))
    result = chosen.attack(problem, batch, Rng.of(0, batch.ids))
    assert result.cost.backward.gt(0).all()


def test_a_word_attack_succeeds_only_where_it_is_not_rejected():
    base = carom.load_model("zoo:text-cnn")
    labels = base.predict(Batch(TEXTS, torch.tensor([0, 0]), ["a", "b"])).argmax(1)
    words = Words()
    clean = Dataset("clean", "text", words, TEXTS, labels, ["a", "b"], base.classes)
    guarded = Wordy().calibrated(base, clean)
    batch = Batch(TEXTS, labels, ["a", "b"])
    chosen = choose_attack(MODALITY, "greedy-unk", "words")
    for name in ("greedy-unk", "textbugger"):
        chosen = choose_attack(MODALITY, name, "words")
        problem = Problem(guarded, Goal(labels), chosen.threat(MODALITY.threats["words"](1.0)))
        result = chosen.attack(problem, batch, Rng.of(0, batch.ids))
        rejected = guarded(result.inputs).rejected
        assert not bool((result.success & rejected).any())
    assert guarded(TEXTS).rejected.tolist() == [False, True]
