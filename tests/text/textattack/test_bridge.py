"""TextAttack both ways: its attacks on our models, our models in its attacks, and nothing fetched."""

from __future__ import annotations

import importlib.util
import random
import socket

import numpy as np
import pytest
import torch

import carom
from carom.common.base.errors import CaromError, UnknownName
from carom.common.base.rng import Rng
from carom.common.core.batch import Access, Batch, Goal
from carom.common.core.problem import Budget, Problem, Status
from carom.text.space import changes
from carom.text.textattack.bridge import STOPPED, as_textattack, from_textattack
from carom.text.textattack.offline import Unreachable, lacking, offline
from carom.text.threats import AnyWords, WordBudget

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(importlib.util.find_spec("textattack") is None, reason="textattack is not installed"),
]


@pytest.fixture
def model(networks):
    return networks["cnn"]


@pytest.fixture
def batch(model, sentences):
    labels = model(sentences).logits.argmax(1)
    labels[1] = 1 - labels[1]  # one that is wrong before anything is changed
    return Batch(sentences, labels.clone(), [f"text-{i}" for i in range(len(sentences))])


def run(attack, model, batch, share=1.0, queries=None, seed=0, targets=None):
    threat = attack.within(WordBudget(share))
    problem = Problem(model, Goal(batch.labels, targets), threat, Budget(queries))
    return attack(problem, batch, Rng.of(seed, batch.ids))


@pytest.mark.parametrize("name", ["pwws", "DeepWordBugGao2018"])
def test_a_recipe_through_carom_is_the_recipe_itself(name, model, batch):
    ours = run(from_textattack(name), model, batch)
    recipe = from_textattack(name).attack  # built anew
    recipe.goal_function.model = as_textattack(model)
    for i, text in enumerate(batch.inputs):
        recipe.goal_function.num_queries = 0
        with offline():
            # Where a recipe draws letters at random, as Carom seeds it.
            seed = int(Rng.of(0, batch.ids).fold("textattack").bits()[i] & (2**31 - 1))
            random.seed(seed)
            np.random.seed(seed)
            theirs = recipe.attack(text, int(batch.labels[i]))
        outcome = type(theirs).__name__.removesuffix("AttackResult")
        assert ours.inputs[i] == theirs.perturbed_result.attacked_text.text
        assert int(ours.cost.queries[i]) == theirs.num_queries
        assert bool(ours.success[i]) == (outcome in ("Successful", "Skipped"))
        assert (ours.status[i] == Status.SKIPPED) == (outcome == "Skipped")
    assert ours.status[1] == Status.SKIPPED
    assert bool(ours.success[2:].any())
    assert not bool(ours.notes[STOPPED].any())


def test_results_hang_neither_on_batches_nor_on_global_generators_which_come_back(model, batch):
    attack = from_textattack("deepwordbug")
    whole = run(attack, model, batch)
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    order = torch.tensor([4, 0, 7])
    part = run(attack, model, batch.take(order))
    assert part.inputs == [whole.inputs[i] for i in order.tolist()]
    assert part.cost.queries.tolist() == whole.cost.queries[order].tolist()
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before


def test_every_row_that_the_model_answers_is_counted(model, batch):
    model.module.eval()
    rows = []
    hook = model.module.register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    try:
        result = run(from_textattack("pwws"), model, batch)
    finally:
        hook.remove()
    assert sum(rows) == int(result.cost.forward.sum())
    assert int(result.cost.backward.sum()) == 0


def test_the_budgets_hold_in_the_search_and_on_the_final_text(model, batch):
    attack = from_textattack("pwws")
    few = run(attack, model, batch, share=0.2)
    threat = attack.within(WordBudget(0.2))
    assert isinstance(threat, AnyWords)
    assert bool(threat.allows(few.inputs, batch.inputs).all())
    linear = carom.load_model("zoo:text-linear")
    right = Batch(batch.inputs, linear(batch.inputs).logits.argmax(1), batch.ids)
    for share, fits in ((0.2, True), (1.0, False)):
        assert bool(threat.allows(run(attack, linear, right, share=share).inputs, batch.inputs).all()) == fits
    assert run(attack, model, batch, share=0.0).inputs == batch.inputs
    assert int(run(attack, model, batch, queries=7).cost.queries.max()) == 7
    assert run(attack, model, batch, queries=0).cost.forward.tolist() == [1] * len(batch)
    # Within a budget of Carom's own it keeps to that budget's words.
    own = WordBudget(0.5)
    kept = attack(Problem(model, Goal(batch.labels), own), batch, Rng.of(0, batch.ids))
    assert bool(own.allows(kept.inputs, batch.inputs).all())
    assert attack.attack.constraints == []  # and takes the attack as it found it


def test_an_attack_can_be_aimed_and_controls_use_its_own_words(model, batch):
    attack = from_textattack("deepwordbug")
    targets = torch.zeros(len(batch), dtype=torch.long)
    aimed = run(attack, model, batch, targets=targets)
    said = model(aimed.inputs).logits.argmax(1)
    assert torch.equal(aimed.success, said == 0)
    threat = attack.within(WordBudget(1.0))
    drawn = threat.control(batch, Rng.of(1, batch.ids), aimed.inputs)
    assert drawn == threat.control(batch, Rng.of(1, batch.ids), aimed.inputs)
    pairs = list(zip(drawn, aimed.inputs, batch.inputs, strict=True))
    assert any(new != old for new, _, old in pairs)
    for new, other, old in pairs:
        found = changes(new, old)
        assert found is not None
        assert len(found) <= len(changes(other, old) or ())
        assert all(word in threat.candidates.options(before.text) for _, before, word in found)


def test_our_models_give_textattack_probabilities_gradients_and_tokens(model, sentences):
    wrapped = as_textattack(model)
    said = wrapped(sentences[:3])
    assert said.dtype == torch.float64
    assert torch.allclose(said.sum(1), torch.ones(3, dtype=torch.float64), atol=1e-12)
    tokens = wrapped.tokenize(sentences[:1])[0]
    grad = wrapped.get_grad(sentences[0])
    assert len(tokens) == len(grad["ids"]) == len(grad["gradient"])
    from textattack.shared import AttackedText

    places = AttackedText(sentences[0]).align_with_model_tokens(wrapped)
    assert tokens[places[1][0]].lower() == "wonderful"
    with pytest.raises(CaromError, match="one text"):
        wrapped([("a premise", "a hypothesis")])
    with pytest.raises(CaromError, match="reads image"):
        as_textattack(carom.load_model("zoo:image-mlp"))


def test_attack_objects_run_and_are_told_apart(model, batch, tmp_path, monkeypatch):
    (tmp_path / "own_attacks.py").write_text(
        "from carom.text.textattack.offline import textattack\n"
        "textattack()\n"
        "import textattack\n"
        "from textattack.transformations import WordSwapQWERTY, WordSwapNeighboringCharacterSwap\n"
        "def attack(swap, order):\n"
        "    return textattack.Attack(\n"
        "        textattack.goal_functions.UntargetedClassification(Wrapper()),\n"
        "        [textattack.constraints.pre_transformation.RepeatModification()], swap,\n"
        "        textattack.search_methods.GreedyWordSwapWIR(order))\n"
        "class Wrapper(textattack.models.wrappers.ModelWrapper):\n"
        "    model = None\n"
        "    def __call__(self, texts): raise AssertionError('the attack asks its own model')\n"
        "keys = attack(WordSwapQWERTY(random_one=False), 'gradient')\n"
        "first = attack(WordSwapNeighboringCharacterSwap(skip_first_char=False), 'unk')\n"
        "other = attack(WordSwapNeighboringCharacterSwap(skip_first_char=True), 'unk')\n"
        "class Broken(WordSwapQWERTY):\n"
        "    def _get_replacement_words(self, word): raise RuntimeError('broken')\n"
        "broken = attack(Broken(), 'unk')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # and off again
    keys = carom.get_attack("py:own_attacks:keys", "text")
    assert keys.needs == Access.GRADIENT
    result = run(keys, model, batch)
    assert int(result.cost.backward[0]) == 1
    assert result.cost.backward[1] == 0
    assert bool(result.success[2:].any())
    first, other = (carom.get_attack(f"py:own_attacks:{name}", "text") for name in ("first", "other"))
    assert first.identity == carom.get_attack("py:own_attacks:first", "text").identity != other.identity
    broken = run(carom.get_attack("py:own_attacks:broken", "text"), model, batch)
    assert broken.inputs == batch.inputs
    assert broken.notes[STOPPED].tolist() == [i != 1 for i in range(len(batch))]


def test_scores_that_are_not_finite_leave_a_text_unchanged(model, batch, monkeypatch):
    class Broken(type(model)):
        def read(self, codes):
            return super().read(codes) * float("nan")

    kind, model.__class__ = model.__class__, Broken
    try:
        result = run(from_textattack("pwws"), model, batch)
        monkeypatch.setattr(Broken, "read", lambda self, codes: {}["no such key"])
        with pytest.raises(KeyError, match="no such key"):  # what fails of itself is not laid to TextAttack
            run(from_textattack("pwws"), model, batch)
    finally:
        model.__class__ = kind
    assert result.inputs == batch.inputs
    assert set(result.status.tolist()) == {Status.BAD_GRADIENT}


def test_nothing_is_fetched_and_what_is_missing_is_named(monkeypatch, tmp_path):
    def refused(*_, **__):
        raise AssertionError("a connection was tried")

    from textattack.shared.utils import install

    monkeypatch.setattr(install, "TEXTATTACK_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.setattr(socket.socket, "connect", refused)
    for name, what in {
        "textfooler": "word_embeddings/paragramcf",
        "pso": "hownet/word_candidates_sense.pkl",
        "textbugger": "intentional_homoglyphs.txt",
        "bae": "bert-base-uncased",
    }.items():
        with pytest.raises(CaromError, match=what):
            from_textattack(name)
    assert from_textattack("pwws").attack is not None
    with pytest.raises(UnknownName, match="deepwordbug"):
        from_textattack("deepwordbag")
    with pytest.raises(CaromError, match="InputReduction"):
        from_textattack("input-reduction")
    with pytest.raises(CaromError, match="goal_function_type"):
        from_textattack("bad-characters")
    with offline(), pytest.raises(Unreachable):
        socket.getaddrinfo("example.org", 443)
    assert socket.getaddrinfo is refused
    error = LookupError("Resource punkt not found. Please use:  >>> nltk.download('punkt')")
    assert "nltk.downloader punkt" in str(lacking(error, "it"))
    assert lacking(ValueError("of another kind"), "it") is None


def test_a_recipe_is_an_attack_of_a_study(sentences, networks, tmp_path):
    from carom.common.core.data import Dataset
    from carom.text.space import Words

    labels = networks["cnn"](sentences).logits.argmax(1).clone()
    ids = [f"text-{i}" for i in range(len(sentences))]
    data = Dataset("ten", "text", Words(), sentences, labels, ids, networks["cnn"].classes)
    models = [networks["cnn"], networks["bilstm"]]
    outcome = carom.transfer(models[:1], models, ["textattack:pwws"], data, controls=2, store=tmp_path, eps=0.4)
    rows = {row["target"]: row for row in outcome.rows()}
    assert not outcome.failures
    assert rows["cnn"]["attack"] == "textattack:pwws"
    assert rows["cnn"]["white_box"] > rows["cnn"]["white_box_control"]
    # Saved and measured again, it is known by its name.
    held = carom.attack(models[0], data, carom.from_textattack("pwws"), eps=0.4)
    assert held.attack == "textattack:pwws"
    held.save(tmp_path / "set.parquet")
    again = carom.replay(tmp_path / "set.parquet", models[1:], source=models[0], data=data, controls=2).rows()[0]
    assert (again["transfer"], again["control"]) == (rows["bilstm"]["transfer"], rows["bilstm"]["control"])
