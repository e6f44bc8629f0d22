"""The search engine: what it tries, in which order, what it keeps and what it counts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import nn

from carom.common.attacks.edits.greedy import BestEdits, GreedySites
from carom.common.attacks.edits.leap import Leap
from carom.common.attacks.edits.requests import odds, ranked
from carom.common.attacks.edits.substitution import Substitution
from carom.common.attacks.info import AttackChoice
from carom.common.base.errors import CaromError
from carom.common.core.problem import Status
from carom.text.attacks import ATTACKS
from carom.text.threats import WordBudget

WEIGHTS = {"good": 2.0, "fine": 1.0, "plain": 0.5, "film": 0.25, "movie": 0.25, "poor": -1.0, "picture": 0.0}
ENTRIES = ("good|fine,plain", "film|movie,picture", "fine|plain,poor")
RUN = [
    *("greedy-unk", "greedy-delete", "greedy-gradient", "greedy-random", "pwws", "beam", "hotflip", "fast"),
    *("deepwordbug", "textbugger", "careful", "morpheus", "bad-characters", "leave-out", "gbda"),
]
"""Attacks run here on networks of the zoo's kinds; the contracts run all, on a smaller model."""
ORDERS = ("unk", "delete", "saliency", "gradient", "random")


def made(name, share, **parameters):
    """The attack, and the threat that it works in."""
    chosen = AttackChoice(ATTACKS[name], parameters, ATTACKS[name].build(**parameters))
    return chosen.attack, chosen.threat(WordBudget(share))


def greedy(order="unk", **parameters):
    return Substitution(GreedySites(order, **parameters))


@pytest.mark.parametrize("order", ["unk", "delete", "gradient"])
def test_words_are_changed_in_order_of_importance_until_the_label_falls(toy, order):
    world = toy(WEIGHTS, ENTRIES)
    # good + fine + film = 3.25; good -> plain leaves 1.75, fine -> poor -0.25: the film stays.
    result = world.run(greedy(order), "good , fine film")
    assert result.inputs == ["plain , poor film"]
    assert result.success.tolist() == [True]
    assert result.status.tolist() == [Status.DONE]


def test_queries_are_every_row_that_was_asked_for_and_rows_those_that_were_sent(toy):
    world = toy(WEIGHTS, ENTRIES)
    result = world.run(greedy("unk"), "good , fine film")
    # The clean text, three words masked, two options of "good", two of "fine".
    assert result.cost.queries.tolist() == [1 + 3 + 2 + 2]
    assert result.cost.forward.tolist() == [sum(world.model.module.calls)]
    assert result.cost.backward.tolist() == [0]
    gradient = world.run(greedy("gradient"), "good , fine film")
    assert (gradient.cost.queries.tolist(), gradient.cost.backward.tolist()) == ([1 + 1 + 2 + 2], [1])


def test_rows_that_read_the_same_are_sent_once(toy):
    world = toy(WEIGHTS, ("good|aaa,bbb,ccc,fine",))  # three words that the model does not know
    result = world.run(greedy("delete"), "good film")
    # Clean; without good, without film; good -> unknown, good -> fine.
    assert result.cost.queries.tolist() == [1 + 2 + 4]
    assert result.cost.forward.tolist() == [1 + 2 + 2]
    # The three are equally good: the first is taken.
    assert result.inputs == ["aaa film"]


def test_equally_important_words_are_taken_from_left_to_right(toy):
    weights = {"one": 1.0, "two": 1.0, "uno": 0.0, "due": 0.0}
    world = toy(weights, ("one|uno", "two|due"), share=0.5)
    for order in ("unk", "delete", "saliency", "gradient"):
        assert world.run(greedy(order), "two one").inputs == ["due one"]
        assert world.run(greedy(order), "one two").inputs == ["uno two"]


def test_words_without_options_are_passed_over_and_changes_that_do_not_help_are_not_made(toy):
    world = toy(WEIGHTS, ("film|movie", "fine|good"))
    result = world.run(greedy("unk"), "good fine film")
    assert result.inputs == ["good fine film"]
    assert result.status.tolist() == [Status.DONE]
    assert result.success.tolist() == [False]


def test_what_failed_keeps_its_best_text(toy):
    world = toy(WEIGHTS, ENTRIES, share=0.4)
    result = world.run(greedy("unk"), "good fine film")
    assert result.inputs == ["plain fine film"]
    assert result.success.tolist() == [False]


def test_until_goes_on_after_the_label_has_fallen(toy):
    weights = {"good": 1.0, "bad": -1.0, "film": 0.5, "flop": -3.0, "song": 0.1, "noise": -1.0}
    world = toy(weights, ("good|bad", "film|flop", "song|noise"))
    assert world.run(greedy("unk"), "good film song").inputs == ["bad film song"]
    assert world.run(greedy("unk", until=0.05), "good film song").inputs == ["bad flop song"]
    assert world.run(greedy("unk", until=0.0), "good film song").inputs == ["bad flop noise"]
    assert world.run(Substitution(BestEdits(until=0.0)), "good film song").inputs == ["bad flop noise"]


def test_examples_that_are_wrong_already_are_skipped(toy):
    world = toy(WEIGHTS, ENTRIES)
    result = world.run(greedy("unk"), "poor film", "good film")
    assert result.status.tolist() == [Status.SKIPPED, Status.DONE]
    assert result.success.tolist()[0]
    assert result.inputs[0] == "poor film"
    assert result.cost.queries.tolist()[0] == 1


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("text", ["", "the", "!?", "zzz", "the of and"])
def test_texts_in_which_nothing_can_be_changed(toy, order, text):
    world = toy({"good": 1.0}, ENTRIES)
    world.model.module.embedding.weight.data += torch.tensor([0.0, 0.5], dtype=torch.float64)  # all are positive
    result = world.run(greedy(order), text)
    assert result.inputs == [text]
    assert result.status.tolist() == [Status.INFEASIBLE]


def test_no_budget_changes_nothing(toy):
    world = toy(WEIGHTS, ENTRIES, share=0.0)
    result = world.run(greedy("unk"), "good fine film")
    assert (result.inputs, result.status.tolist()) == (["good fine film"], [Status.INFEASIBLE])


@dataclass(frozen=True)
class Spells:
    """Texts of an even number of letters are refused, and all that are judged are written down."""

    judged: list[str] = field(default_factory=list, compare=False)

    def holds(self, pairs, slack=0.0):
        self.judged.extend(edited for edited, _ in pairs)
        return [len(edited) % 2 == 1 for edited, _ in pairs]


@pytest.mark.parametrize("name", ["greedy-unk", "greedy-gradient", "pwws", "beam", "hotflip", "fast", "leave-out"])
def test_judging_only_what_would_be_taken_ends_with_the_same_texts(networks, sentences, attack, name):
    model, found = networks["bilstm"], []
    labels = model(sentences).logits.argmax(1).tolist()
    for queries in (None, 10**6):  # with a budget, what may not stand is not asked about
        spells = Spells()
        build, threat = made(name, 0.5, until=0.2)
        threat = replace(threat, constraints=(*threat.constraints, spells))
        result = attack(model, threat, build, sentences, labels, queries=queries)
        changed = [text for text, clean in zip(result.inputs, sentences, strict=True) if text != clean]
        assert changed
        assert all(len(text) % 2 for text in changed)
        found.append((result, len(spells.judged)))
    (last, few), (first, many) = found
    assert last.inputs == first.inputs
    assert torch.equal(last.success, first.success)
    assert few < many or name == "fast"  # a leap asks about one text at a time
    assert int(last.cost.queries.sum()) >= int(first.cost.queries.sum())


def test_a_leap_begins_where_the_gains_say(toy):
    words = [f"w{i}" for i in range(11)]
    world = toy({**dict.fromkeys(words, 1.0), "flop": -1.0}, tuple(f"{word}|flop" for word in words))
    result = world.run(Substitution(Leap()), " ".join(words))
    # A linear model keeps what its gradient promises: six of eleven, asked at once, then that five are not enough.
    assert result.inputs == [" ".join(["flop"] * 6 + words[6:])]
    assert result.cost.queries.tolist() == [1 + 1 + 2]


@pytest.mark.parametrize("name", RUN)
def test_the_query_budget_is_never_exceeded(networks, sentences, attack, name):
    build, threat = made(name, 0.5)
    model = networks["cnn"]
    labels = model(sentences).logits.argmax(1).tolist()
    free = attack(model, threat, build, sentences, labels)
    for limit in (0, 1, 2, 5, 17, 60):
        result = attack(model, threat, build, sentences, labels, queries=limit)
        assert (result.cost.queries <= limit).all()
        assert threat.allows(result.inputs, sentences).all()
        for i, spent in enumerate(free.cost.queries.tolist()):
            if spent <= limit:
                assert result.inputs[i] == free.inputs[i]


@pytest.mark.parametrize("network", ["cnn", "bilstm", "transformer"])
@pytest.mark.parametrize("name", RUN)
def test_batch_size_does_not_matter(networks, sentences, attack, name, network):
    build, threat = made(name, 0.3, until=0.1, **({"steps": 3} if name == "gbda" else {}))
    model, texts = networks[network], sentences * 2
    labels = model(texts).logits.argmax(1).tolist()
    runs = [attack(model, threat, build, texts, labels, size=size) for size in (1, 7, 64)]
    merged = [
        (
            [text for r in run for text in r.inputs],
            *(torch.cat([getattr(r, key) for r in run]).tolist() for key in ("success", "status")),
            *(torch.cat([getattr(r.cost, key) for r in run]).tolist() for key in ("forward", "backward", "queries")),
        )
        for run in runs
    ]
    assert merged[0] == merged[1] == merged[2]


@pytest.mark.parametrize("name", RUN)
def test_success_is_of_the_text_that_is_handed_back(networks, sentences, attack, name):
    model, (build, threat) = networks["cnn"], made(name, 0.5)
    labels = model(sentences).logits.argmax(1).tolist()
    result = attack(model, threat, build, sentences, labels)
    assert torch.equal(result.success, model(result.inputs).logits.argmax(1) != torch.tensor(labels))
    assert threat.allows(result.inputs, sentences).all()
    assert result.success.any()


def test_targeted_attacks_reach_their_target(toy, attack):
    class Three(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding.from_pretrained(
                torch.tensor([[0.0, 0, 0], [0, 0, 0], [3, 0, 0], [0, 2, 0], [0, 0, 2]], dtype=torch.float64)
            )

        def forward(self, ids):
            return self.embedding(ids).sum(1)

    world = toy({"a1": 0.0, "b1": 0.0, "c1": 0.0}, ("a1|b1,c1",))
    model = world.model
    model.module, model.classes = Three(), ("a", "b", "c")
    model.embedding = model.module.embedding
    for order in ORDERS:
        result = attack(model, world.threat, greedy(order), ["a1"] * 3, [0, 0, 0], targets=[0, 1, 2])
        assert result.inputs == ["a1", "b1", "c1"]
        assert result.status.tolist() == [Status.SKIPPED, Status.DONE, Status.DONE]
        assert result.success.all()


def test_gains_of_a_linear_model_are_what_a_change_does(toy):
    world = toy(WEIGHTS, ENTRIES)
    sentence = world.threat.editable("good , fine film")
    from carom.common.core.batch import Goal

    (gains,) = world.model.gains([(sentence, {0: 1})], Goal(torch.tensor([1])))
    clean = world.model([sentence.edit({0: 1})]).logits
    for site, size in enumerate(sentence.sizes):
        for option in range(size):
            moved = world.model([sentence.edit({0: 1, site: option})]).logits
            change = ((moved[0, 0] - moved[0, 1]) - (clean[0, 0] - clean[0, 1])).item()
            assert gains[site][option] == pytest.approx(change, abs=1e-6)


def test_hotflip_with_every_option_is_beam_search(networks, sentences, attack):
    model, threat = networks["transformer"], WordBudget(0.3)
    labels = model(sentences).logits.argmax(1).tolist()
    every, chosen = (
        attack(model, threat, Substitution(BestEdits(2, top=top, until=0.2)), sentences, labels) for top in (None, 9999)
    )
    live = every.status == Status.DONE
    assert [t for t, ok in zip(every.inputs, live, strict=True) if ok] == [
        t for t, ok in zip(chosen.inputs, live, strict=True) if ok
    ]


def test_top_options_are_those_of_the_highest_gain(toy):
    world = toy(WEIGHTS, ("good|film,fine,movie,plain,poor",))
    result = world.run(greedy("gradient", top=1), "good")
    assert result.inputs == ["poor"]
    assert result.cost.queries.tolist() == [1 + 1 + 1]


@pytest.mark.parametrize("strategy", [GreedySites("unk"), GreedySites("gradient"), BestEdits(), BestEdits(top=4)])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_answers_that_are_not_finite_spoil_their_own_example_only(toy, strategy, value):
    world = toy({**WEIGHTS, "broken": value}, ENTRIES)
    alone = world.run(Substitution(strategy), "good fine film")
    both = world.run(Substitution(strategy), "good broken film", "good fine film")
    assert both.status.tolist() == [Status.BAD_GRADIENT, Status.DONE]
    assert both.inputs == ["good broken film", *alone.inputs]
    assert not both.success[0]


def test_options_with_broken_answers_are_not_taken(toy):
    world = toy({**WEIGHTS, "broken": float("nan")}, ("good|broken,plain", "fine|poor"))
    assert world.run(greedy("unk"), "good fine film").inputs == ["plain poor film"]


@pytest.mark.parametrize("strategy", [GreedySites("gradient"), BestEdits(top=4)])
def test_gradients_of_zero_or_nan_change_nothing_and_are_marked(toy, strategy):
    class Scaled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, factor):
            ctx.factor = factor
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return grad * ctx.factor, None

    class Wrapped(nn.Module):
        def __init__(self, body, factor):
            super().__init__()
            self.body, self.factor = body, factor

        def forward(self, ids):
            return Scaled.apply(self.body(ids), self.factor)

    for factor, status in ((0.0, Status.NO_GRADIENT), (float("nan"), Status.BAD_GRADIENT)):
        world = toy(WEIGHTS, ENTRIES)
        world.model.module = Wrapped(world.model.module, factor)
        result = world.run(Substitution(strategy), "good fine film")
        assert (result.inputs, result.status.tolist()) == (["good fine film"], [status])


def test_the_model_comes_back_as_it_was(networks, sentences, attack):
    model = networks["bilstm"]
    model.module.train()
    labels = model(sentences).logits.argmax(1).tolist()
    attack(model, WordBudget(0.3), Substitution(BestEdits(top=4)), sentences, labels)
    assert model.module.training
    assert not model.module.embedding._forward_hooks
    assert all(p.requires_grad and p.grad is None for p in model.module.parameters())
    model.module.eval()


def test_gradients_are_asked_only_of_models_that_grant_them(toy):
    world = toy(WEIGHTS, ENTRIES)
    world.model.embedding = None
    with pytest.raises(CaromError, match="grants no gradient"):
        world.run(greedy("gradient"), "good fine film")


@pytest.mark.parametrize("parameters", [{"order": "alphabet"}, {"top": 3}, {"order": "gradient", "top": 0}])
def test_parameters_that_make_no_sense_are_refused(parameters):
    with pytest.raises(CaromError):
        GreedySites(**parameters)


def test_ranking_keeps_the_order_of_what_ties():
    assert ranked([0.1, 0.5, 0.5 + 1e-7, 0.2, 0.5 - 1e-7], 1e-6) == [1, 2, 4, 3, 0]
    assert ranked([-torch.inf, -torch.inf, 1.0], 1e-6) == [2, 0, 1]


def test_odds_do_not_saturate():
    from carom.common.core.batch import Goal

    logits = torch.tensor([[60.0, 0.0], [90.0, 0.0]], dtype=torch.float64)
    assert odds(logits, Goal(torch.tensor([0, 0]))).tolist() == [-60.0, -90.0]
    assert odds(logits, Goal(torch.tensor([0, 0]), torch.tensor([1, 1]))).tolist() == [-60.0, -90.0]
