"""What an attack on texts goes on to: any flip, a margin, a confident error, or the other side of a threshold."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from tiny_hub import bert, pieces_of, word_pieces
from torch import nn

from carom.common.attacks.edits.greedy import BestEdits, GreedySites
from carom.common.attacks.edits.substitution import Substitution
from carom.common.base.errors import CaromError
from carom.common.base.specs import Spec
from carom.common.core.batch import Access
from carom.common.core.problem import Status
from carom.common.loading.pretrained import load_pretrained
from carom.common.modality.installed import get_modality
from carom.common.modality.registry import choose_attack
from carom.text.attacks import ATTACKS
from carom.text.language.tokenizers import WordEncoder
from carom.text.models.load import load_model
from carom.text.threats import WordBudget

PIECES = pieces_of(["good bad film flop song noise"])
WEIGHTS = {"good": 1.0, "bad": -1.0, "film": 0.5, "flop": -1.0, "song": 0.1, "noise": -1.0}
ENTRIES = ("good|bad", "film|flop", "song|noise")


def test_margin_and_confidence_are_one_for_two_classes(toy):
    world = toy(WEIGHTS, ENTRIES)
    # The sum is the log-odds: -.4, then -1.9, then -3.
    steps = {None: "bad film song", 0.6: "bad flop song", 0.8: "bad flop song", 0.9: "bad flop noise"}
    for confidence, wanted in steps.items():
        for strategy in (GreedySites("unk"), BestEdits()):
            result = world.run(Substitution(strategy, confidence=confidence), "good film song")
            assert (result.inputs, result.success.tolist()) == ([wanted], [True]), confidence
        if confidence is not None:
            same = world.run(Substitution(GreedySites("unk", until=1 - confidence)), "good film song")
            assert same.inputs == [wanted]


class Three(nn.Module):
    """Each word adds its own three numbers."""

    ROWS = ((0, 0, 0), (0, 0, 0), (3, 0, 0), (0, 2, 2.2), (0, 0, 0.5), (0, 4, -2))

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding.from_pretrained(torch.tensor(self.ROWS, dtype=torch.float64), padding_idx=0)

    def forward(self, ids):
        return self.embedding(ids).sum(1)


def test_of_several_classes_the_confidence_is_that_of_the_wrong_answer(table, attack):
    encoder = WordEncoder(["good", "bad", "film", "flop"])
    module = Three()
    model = load_model(module, tokenizer=encoder, classes="abc")
    threat = WordBudget(1.0, table(("good|bad", "film|flop")))
    # Away from a: bad leaves b and c as likely as each other, far above a; flop makes the answer sure.
    flip = attack(model, threat, Substitution(GreedySites()), ["good film"], [0])
    margin = attack(model, threat, Substitution(GreedySites(until=0.1)), ["good film"], [0])
    sure = attack(model, threat, Substitution(GreedySites(), confidence=0.9), ["good film"], [0])
    assert flip.inputs == margin.inputs == ["bad film"]
    assert sure.inputs == ["bad flop"]
    never = attack(model, threat, Substitution(GreedySites(), confidence=0.9999), ["good film"], [0])
    assert never.success.tolist() == [True]  # the answer is wrong, if not that surely
    targeted = attack(model, threat, Substitution(GreedySites(), confidence=0.9), ["good film"], [0], targets=[1])
    assert targeted.inputs == ["bad flop"]


def test_confidence_is_asked_for_by_name_where_scores_are_seen():
    text = get_modality("text")
    assert choose_attack(text, "pwws?confidence=0.9", "words").attack.confidence == 0.9
    assert choose_attack(text, "pwws?confidence=0.9&until=0.2", "words").attack.strategy.until == 0.2
    assert choose_attack(text, "pwws", "words").attack == ATTACKS["pwws"].build()
    for name in ("hqa", "leap", "trigger"):
        with pytest.raises(CaromError, match="confidence"):
            choose_attack(text, f"{name}?confidence=0.9")
    with pytest.raises(CaromError, match="Did you mean confidence"):
        choose_attack(text, "textfooler?confidense=0.9")
    with pytest.raises(CaromError, match="between 0 and 1"):
        choose_attack(text, "pwws?confidence=1")


def test_every_search_that_sees_scores_goes_on_to_a_margin_or_to_confidence():
    for name, info in ATTACKS.items():
        sees = not info.needs & (Access.LABEL | Access.EXAMPLES)
        assert ({"until", "confidence"} <= set(inspect.signature(info.build).parameters)) == sees, name


def stars(texts):
    return np.array([sum(WEIGHTS.get(word, 0) for word in text.split()) for text in texts], dtype=np.float32)


def test_a_number_is_led_over_its_threshold(toy, attack, table):
    model = load_model(stars, threshold=0.0)
    assert model.classes == ("below", "above")
    assert model(["good", "bad film"]).logits.softmax(1)[:, 1].tolist() == pytest.approx([0.7311, 0.3775], abs=1e-4)
    threat = WordBudget(1.0, table(ENTRIES))
    assert attack(model, threat, Substitution(GreedySites()), ["good film song"], [1]).inputs == ["bad film song"]
    # 2 units below: at most 1 / (1 + e^2) is left.
    deep = attack(model, threat, Substitution(GreedySites(until=0.12)), ["good film song"], [1])
    assert deep.inputs == ["bad flop noise"]
    lower = load_model(stars, threshold=-1.0, classes="low,high")
    assert lower.digest != model.digest
    assert attack(lower, threat, Substitution(GreedySites()), ["good film song"], [1]).inputs == ["bad flop song"]


class Score(nn.Module):
    """One number for each text."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(len(WEIGHTS) + 2, 1, padding_idx=0).double()
        with torch.no_grad():
            self.embedding.weight[2:, 0] = torch.tensor(list(WEIGHTS.values()), dtype=torch.float64)
            self.embedding.weight[:2] = 0

    def forward(self, ids):
        return self.embedding(ids).sum(1)


def test_networks_of_one_output_grant_gradients_over_a_threshold(attack, table):
    model = load_model(Score(), tokenizer=WordEncoder(list(WEIGHTS)), threshold=0.25)
    assert Access.GRADIENT in model.access
    threat = WordBudget(1.0, table(ENTRIES))
    result = attack(model, threat, Substitution(GreedySites("gradient", top=1)), ["good film song"], [1])
    assert result.inputs == ["bad film song"]
    assert result.status.tolist() == [Status.DONE]


@pytest.mark.parametrize("strategy", [GreedySites("unk"), GreedySites("gradient")], ids=["scores", "gradient"])
def test_regressors_in_the_hub_layout_are_led_over_a_threshold(tmp_path, attack, table, strategy):
    bert(len(PIECES), ["score"]).save_pretrained(tmp_path)
    word_pieces(PIECES, 32).save_pretrained(tmp_path)
    text = "good film song"
    with torch.inference_mode():
        known = load_pretrained("AutoModelForSequenceClassification", Spec("hf", str(tmp_path)))
        ids = word_pieces(PIECES, 32)([text], return_tensors="pt")
        number = float(known(**ids).logits)
    model = load_model(f"hf:{tmp_path}", threshold=number - 1e-3)
    assert model.classes == ("below", "above")
    assert model([text]).logits.diff().item() == pytest.approx(1e-3, abs=1e-5)  # just above
    result = attack(model, WordBudget(1.0, table(ENTRIES)), Substitution(strategy), [text], [1])
    scores = {edit: model([edit]).logits.diff().item() for edit in all_edits()}
    assert result.success.tolist() == [min(scores.values()) < 0] == [True]
    assert scores[result.inputs[0]] < 0


def all_edits():
    return (f"{a} {b} {c}" for a in ("good", "bad") for b in ("film", "flop") for c in ("song", "noise"))


def test_thresholds_of_what_is_no_number_are_refused(networks):
    with pytest.raises(CaromError, match="two sides"):
        load_model(stars, threshold=0.0, classes="a,b,c")
    with pytest.raises(CaromError, match=r"shape \[1, 2\].*one number"):
        load_model(lambda texts: np.ones((len(texts), 2)), threshold=0.0)(["a text"])
