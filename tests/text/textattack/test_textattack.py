"""The same texts, the same outcomes and the same number of queries as TextAttack 0.3.11, sentence by sentence.

Same model, same candidates, same stop words, same search. The models compute in float64 and TextAttack sees their
probabilities to nine digits: it takes any gain, be it the rounding noise between two batches of the same words.
"""

from __future__ import annotations

import importlib.util

import pytest
import torch

from carom.common.base.rng import Rng
from carom.common.core.batch import Batch, Goal
from carom.common.core.problem import Problem, Status
from carom.text.attacks import ATTACKS
from carom.text.candidates.base import options_of
from carom.text.candidates.synonyms import WordNet
from carom.text.language import reviews
from carom.text.models.load import load_model
from carom.text.sentence import UNKNOWN
from carom.text.textattack.offline import textattack
from carom.text.threats import WordBudget
from carom.text.words import STOP_WORDS

SENTENCES = 200

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(importlib.util.find_spec("textattack") is None, reason="textattack is not installed"),
]


@pytest.fixture(scope="module", params=["zoo:text-cnn", pytest.param("zoo:text-bilstm", marks=pytest.mark.slow)])
def model(request):
    model = load_model(request.param)
    model.module.double()
    return model


@pytest.mark.parametrize("name", ["greedy-unk", "greedy-delete", "pwws"])
def test_texts_outcomes_and_queries_are_those_of_textattack(model, name):
    library = textattack()
    from textattack.constraints.pre_transformation import RepeatModification, StopwordModification
    from textattack.goal_functions import UntargetedClassification
    from textattack.models.wrappers import ModelWrapper
    from textattack.search_methods import GreedyWordSwapWIR
    from textattack.transformations.word_swaps import WordSwap

    class Wrapper(ModelWrapper):
        def __init__(self):
            self.model = model.module

        def __call__(self, texts):
            with torch.inference_mode():
                return model(list(texts)).logits.softmax(1).round(decimals=9).clone()

    class Synonyms(WordSwap):
        def _get_replacement_words(self, word):
            return list(options_of(WordNet(), word))

    ranking = {"greedy-unk": "unk", "greedy-delete": "delete", "pwws": "weighted-saliency"}[name]
    peer = library.Attack(
        UntargetedClassification(Wrapper()),
        [RepeatModification(), StopwordModification(stopwords=STOP_WORDS)],
        Synonyms(),
        GreedyWordSwapWIR(ranking, unk_token=UNKNOWN),
    )
    texts, labels, ids = (column[:SENTENCES] for column in reviews.load("rotten-tomatoes", "test"))
    batch = Batch(texts, torch.from_numpy(labels), ids)
    ours = ATTACKS[name].build()(Problem(model, Goal(batch.labels), WordBudget(1.0)), batch, Rng.of(0, ids))

    different = {}
    for i, text in enumerate(texts):
        result = peer.attack(text, int(labels[i]))
        theirs = (
            type(result).__name__.removesuffix("AttackResult"),
            result.perturbed_result.attacked_text.text,
            result.num_queries,
        )
        skipped = ours.status[i] == Status.SKIPPED
        outcome = "Skipped" if skipped else "Successful" if ours.success[i] else "Failed"
        mine = (outcome, ours.inputs[i], int(ours.cost.queries[i]))
        if mine != theirs:
            different[ids[i]] = (mine, theirs)
    assert not different
