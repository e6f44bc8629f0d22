"""The worst of several attacks, and what it notes of models whose gradients mislead."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

import carom
from carom.common.attacks.catalogue.gradient import fgsm, pgd
from carom.common.attacks.worst_case import MASKED, STUCK, Worst
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch, Goal
from carom.common.core.problem import Budget, Problem, Status
from carom.common.core.spaces import Box
from carom.common.core.threats import Linf
from carom.common.modality.installed import get_modality
from carom.common.models.networks import TorchModel

PIXELS = Box("pixels", 0.0, 1.0, 1 / 255, torch.uint8)
N = 10
IDS = [f"e{i}" for i in range(N)]
SMALL = {"steps": 5, "targets": 2, "queries": 60}


class Brightness(nn.Module):
    """Classes by how bright the upper and the lower half are; `wrap` says what becomes of the logits."""

    def __init__(self, wrap=lambda logits: logits, classes=4):
        super().__init__()
        self.wrap, self.classes = wrap, classes

    def forward(self, x):
        up, down = x[:, :, :4].mean((1, 2, 3)), x[:, :, 4:].mean((1, 2, 3))
        logits = torch.stack([up - down, down - up, 0.3 - up - down, 0.2 - up], 1)[:, : self.classes]
        return self.wrap(40 * logits)


def problem_of(module, eps=0.2):
    x = PIXELS.round(0.3 + 0.3 * Rng.of(0, IDS).uniform(1, 8, 8))
    torch.manual_seed(0)
    labels = module(x).argmax(1)
    names = tuple("abcd"[: module.classes])
    model = TorchModel(module, name="m", modality="image", family="cnn", space=PIXELS, classes=names)
    return Problem(model, Goal(labels), Linf(eps)), Batch(x, labels, IDS)


def noted(module, **more):
    problem, batch = problem_of(module)
    auto = get_modality("image").attacks["auto"].build(**{**SMALL, **more})
    result = auto(problem, batch, Rng.of(0, IDS))
    return result, {words for words, marks in result.notes.items() if marks.any()}


def test_an_honest_model_is_fooled_and_nothing_is_noted():
    result, notes = noted(Brightness())
    assert result.success.all()
    assert not notes
    assert result.cost.queries.eq(0).all()


def test_zero_gradients_are_noted_and_scores_go_on():
    """Gradients of zero stop the three attacks that follow them; Square does not need any."""

    class Detached(Brightness):
        def forward(self, x):
            return super().forward(x.detach())

    result, notes = noted(Detached())
    assert notes == {STUCK, MASKED}
    assert result.success.all()
    assert torch.equal(result.notes[MASKED], result.success)
    assert result.status.eq(Status.DONE).all()


def test_answers_that_vary_are_noted():
    _, notes = noted(Brightness(lambda logits: logits + torch.randn_like(logits)))
    assert any("asked again" in words for words in notes)


def test_probabilities_are_noted():
    _, notes = noted(Brightness(lambda logits: logits.softmax(1)))
    assert any("probabilities" in words for words in notes)


def test_two_classes_work_and_are_noted():
    result, notes = noted(Brightness(classes=2))
    assert result.success.all()
    assert [words for words in notes if "fewer than four classes" in words]


def test_later_attacks_get_what_still_stands_and_the_queries_that_are_left():
    seen = []

    class Watch:
        def __init__(self, attack):
            self.attack = attack

        def __call__(self, problem, batch, rng):
            seen.append((problem.budget.queries, tuple(batch.ids)))
            return self.attack(problem, batch, rng)

    square = get_modality("image").attacks["square"].build(queries=7)
    problem, batch = problem_of(Brightness(), eps=0.008)
    problem = replace(problem, budget=Budget(20))
    attacks = (("fgsm", Watch(fgsm())), ("square", Watch(square)), ("again", Watch(square)))
    result = Worst(attacks)(problem, batch, Rng.of(0, IDS))
    first = fgsm()(problem, batch, Rng.of(0, IDS)).success
    assert 0 < first.sum() < N
    standing = tuple(name for name, won in zip(IDS, first.tolist(), strict=True) if not won)
    assert seen[0] == (20, tuple(IDS))
    assert seen[1] == (20, standing)
    assert {queries for queries, _ in seen[2:]} == {13}
    assert result.cost.queries[first].eq(0).all()
    assert result.cost.queries.max() == 14
    assert (result.success >= first).all()


def test_of_failures_the_nearest_to_success_is_handed_back():
    problem, batch = problem_of(Brightness(), eps=0.001 + 1 / 255)
    attacks = (("weak", pgd(steps=1, size=0.0, start=False)), ("strong", fgsm()))
    found = Worst(attacks)(problem, batch, Rng.of(0, IDS))
    alone = fgsm()(problem, batch, Rng.of(0, IDS))
    lost = ~alone.success
    assert lost.any()
    assert torch.equal(found.inputs[lost], alone.inputs[lost])


def test_notes_reach_the_warnings_of_the_cells(tmp_path):
    """And a model that is fooled more by what was made on another than by its own attack is warned of."""

    class Masked(nn.Module):
        """Confident beyond float32: cross entropy and its gradient are zero."""

        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, x):
            return self.module(x).detach() + 0 * x.sum((1, 2, 3))[:, None]

    honest = carom.load_model("zoo:image-mlp")
    hidden = carom.load_model(
        Masked(honest.module), modality="image", name="masked", normalise=None, classes=honest.classes
    )
    data = carom.load_data("builtin:fashion-mnist", limit=40)
    study = {"data": data, "store": tmp_path / "s", "controls": 1, "eps": "30/255", "threat": "linf"}
    cells = carom.transfer([hidden], [hidden], ["auto?steps=3&targets=1&queries=20"], **study).rows()
    assert any(STUCK in warning for warning in cells[0]["warnings"])
    cells = carom.transfer([honest, hidden], [honest, hidden], ["pgd"], **study).rows()
    own = {(c["source"], c["target"]): c["warnings"] for c in cells}
    assert any("fools this model more often" in w for w in own["masked", "masked"])
    assert not any("fools this model more often" in w for w in own[honest.name, honest.name])


def test_a_broken_attack_of_several_leaves_the_others():
    class Broken:
        def __call__(self, problem, batch, rng):
            result = fgsm()(problem, batch, rng)
            status = torch.full_like(result.status, Status.BAD_GRADIENT.value)
            return replace(result, inputs=batch.inputs, status=status, success=result.success & False)

    problem, batch = problem_of(Brightness())
    result = Worst((("broken", Broken()), ("pgd", pgd())))(problem, batch, Rng.of(0, IDS))
    assert result.success.all()
    assert result.status.eq(Status.DONE).all()
