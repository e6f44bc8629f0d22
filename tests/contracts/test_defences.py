"""The contracts run over every registered defence, around the toy models of its modality."""

from __future__ import annotations

import inspect
import pickle
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

import carom
from carom.common.base.rng import Rng
from carom.common.core.batch import Access, Batch, Goal, seen_by, take
from carom.common.core.data import Dataset
from carom.common.core.objectives import margin
from carom.common.core.oracle import Oracle
from carom.common.core.problem import Problem
from carom.common.core.spaces import Box
from carom.common.defences.defended import undefended
from carom.common.defences.detectors import Detecting
from carom.common.defences.info import ADAPTATIONS, CALIBRATION, KINDS, DefenceChoice, DefenceInfo
from carom.common.defences.transforms import InputTransform, Transformed
from carom.common.modality.defences import describe_defence, list_defences
from carom.common.modality.installed import get_modality
from carom.common.modality.registry import choose_attack
from carom.common.models.networks import TorchModel

LISTED = list_defences()
STANDING = [(owner, info) for owner, info in LISTED if info.kind != "training"]
SMALL = {"most": 6, "draws": 3, "steps": 8, "alpha": 0.5}
"""Parameters in the measure of the toy inputs, where a defence has them."""

VICTIMS = {"image": ("conv", "mlp"), "audio": ("gru", "mlp"), "text": ("mlp",)}
ATTACKS = {
    "image": {"linf": ("pgd?steps=3", "apgd?steps=5", "square?queries=12", "hopskipjump?queries=30")},
    "audio": {"snr": ("pgd?steps=3", "square?queries=12")},
    "text": {"words": ("greedy-unk", "textbugger?until=0.3")},
}


@dataclass(frozen=True)
class Forgetful(InputTransform):
    """Texts without one word, drawn: what makes a text model random."""

    random = True

    def __call__(self, x: list[str], *rng: Rng) -> list[str]:
        found = []
        for text, drawn in zip(x, rng[0].integers(1 << 30).tolist(), strict=True):
            words = text.split()
            del words[drawn % len(words)]
            found.append(" ".join(words))
        return found


def of(pairs: list[tuple[str, DefenceInfo]]) -> Any:
    return pytest.mark.parametrize(("modality", "info"), pairs, ids=[f"{owner}-{info.name}" for owner, info in pairs])


def small(info: DefenceInfo) -> DefenceChoice:
    accepted = inspect.signature(info.build).parameters
    given = {name: value for name, value in SMALL.items() if name in accepted}
    return DefenceChoice(info, given, info.build(**given))


def data_of(world: Any, n: int, split: str) -> Dataset:
    batch = world.draw(n, split)
    stored = world.space.encode(batch.inputs)
    name = f"toy-{split}"
    return Dataset(name, world.modality, world.space, stored, batch.labels, batch.ids, ("a", "b", "c"), batch.lengths)


@pytest.fixture
def made(world_of):
    """(modality, defence, which victim) -> (world, a fresh base, the model behind the defence)"""

    def make(modality: str, info: DefenceInfo, victim: int = 0) -> tuple[Any, Any, Any]:
        world = world_of(modality)
        base = world.build(VICTIMS[modality][victim % len(VICTIMS[modality])])
        if info.kind == "vote":
            known = get_modality(modality).defences
            base = small(known["noise"]).around(base) if "noise" in known else Transformed(base, Forgetful())
        return world, base, small(info).around(base, lambda _: data_of(world, 60, "calibration"))

    return make


def answers(model: Any, batch: Batch, size: int = 64, stream: str = "") -> tuple[Tensor, list[bool] | None]:
    parts = model.ask(batch, lambda output: output, size, stream=stream)
    order = torch.cat([rows for rows, _ in parts]).argsort()
    logits = torch.cat([output.logits for _, output in parts])[order]
    if not model.rejects:
        return logits, None
    return logits, torch.cat([output.rejected for _, output in parts])[order].tolist()


def told_of(model: Any, batch: Batch, stream: str) -> Tensor:
    """Logits, and the alarm of a model that rejects."""

    def read(output: Any) -> Tensor:
        alarm = [] if output.alarm is None else [output.alarm.float()[:, None]]
        return torch.cat([output.logits, *alarm], 1)

    parts = model.ask(batch, read, stream=stream)
    return torch.cat([part for _, part in parts])[torch.cat([rows for rows, _ in parts]).argsort()]


def close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-5, atol=1e-5)


def test_every_entry_says_what_it_is():
    for owner, info in LISTED:
        told = describe_defence(owner, info)
        assert any(year in info.reference for year in map(str, range(1990, 2030))), info.name
        assert told["summary"]
        assert told["cost"]
        assert told["kind"] in KINDS
        assert set(told["adaptation"]) <= set(ADAPTATIONS)
        assert ("seed" in told["parameters"]) == (info.kind in ("random", "smoothing"))
        assert (set(CALIBRATION) < set(told["parameters"])) == (info.kind == "detector")


@of(STANDING)
def test_a_defended_model_is_a_model_like_any_other(made, modality, info):
    world, base, model = made(modality, info)
    assert (model.modality, model.space, model.classes) == (base.modality, base.space, base.classes)
    assert Access.SCORE in model.access
    assert undefended(model) is undefended(base)
    assert model.name == f"{base.name}+{small(info).label}"
    assert model.random == ("expectation" in info.adaptation)
    assert model.rejects == (info.kind in ("detector", "smoothing"))
    own = [word for word in model.adaptation if word in info.adaptation or word not in getattr(base, "adaptation", ())]
    assert tuple(own) == info.adaptation
    logits, _ = answers(model, world.draw(5, "test"))
    assert logits.shape == (5, 3)
    assert logits.isfinite().all()


@of(STANDING)
def test_identity_is_that_of_the_base_the_defence_and_its_parameters(made, modality, info):
    world, base, model = made(modality, info)
    assert made(modality, info)[2].digest == model.digest
    others = [made(modality, info, 1)[2]] if len(VICTIMS[modality]) > 1 else []
    default = small(info).defence
    for name, value in vars(default).items():
        if isinstance(value, int | float):
            changed = type(default)(**{**vars(default), name: value - 1 if value >= 2 else value / 2 or 1})
            others.append(DefenceChoice(info, {}, changed).around(base, lambda _: data_of(world, 120, "calibration")))
    digests = [model.digest, base.digest, *(other.digest for other in others)]
    assert len(set(digests)) == len(digests) > 2


@of([(owner, info) for owner, info in STANDING if info.kind in ("transform", "random") and owner != "text"])
def test_shape_and_range_of_clean_inputs_are_kept(made, modality, info):
    world, _, model = made(modality, info)
    batch, space = world.draw(12, "test"), world.space
    seen = model.keyed(Rng.of(0, batch.ids)).changed(batch.inputs, batch.lengths)
    assert seen.shape == batch.inputs.shape
    assert seen.dtype == batch.inputs.dtype
    assert torch.equal(seen, space.clamp(seen))
    assert not torch.equal(seen, batch.inputs)
    if batch.lengths is not None:
        past = torch.arange(seen.shape[1]) >= batch.lengths[:, None]
        assert not seen[past].any()
        assert len(set(batch.lengths.tolist())) > 1


@of(STANDING)
def test_answers_depend_on_no_batch_and_no_order(made, modality, info):
    world, _, model = made(modality, info)
    batch = world.draw(17, "test")
    whole, rejected = answers(model, batch)
    for size in (1, 5):
        other, also = answers(model, batch, size)
        assert close(whole, other)
        assert rejected == also
    back = torch.arange(16, -1, -1)
    other, also = answers(model, batch.take(back), 6)
    assert close(whole[back], other)
    assert rejected is None or [rejected[i] for i in back.tolist()] == also


@of(STANDING)
def test_two_queries_of_one_input_differ_where_the_defence_is_random(made, modality, info):
    world, _, model = made(modality, info)
    batch = world.draw(8, "test")
    first, again, other = (told_of(model, batch, stream) for stream in ("a", "a", "b"))
    assert torch.equal(first, again)
    assert torch.equal(first, other) != model.random
    if model.rejects:
        return  # its logits may be the same: what differs is the alarm
    oracle = Oracle(Problem(model, Goal(batch.labels), world.threat(*next(iter(world.eps.items())))), batch)
    with model.frozen():
        one, two = oracle.logits(batch.inputs), oracle.logits(batch.inputs)
        twice = torch.arange(8).repeat(2)
        stacked = oracle.logits(take(batch.inputs, twice), twice)
        by_hand = [model(batch.inputs, batch.lengths).logits for _ in range(2)]
    assert close(one, two) != model.random
    assert close(stacked[:8], stacked[8:]) != model.random
    assert close(*by_hand) != model.random


def state(model: Any) -> dict[str, Any]:
    module = undefended(model).module
    return {
        "modes": [m.training for m in module.modules()],
        "wanted": [p.requires_grad for p in module.parameters()],
        "grads": [p.grad for p in module.parameters()],
        "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in module.modules()],
        "weights": [t.clone() for t in module.state_dict().values()],
        "torch": torch.get_rng_state(),
    }


@of(STANDING)
def test_the_wrapped_model_is_untouched(made, modality, info):
    world, _, model = made(modality, info)
    batch = world.draw(6, "test")
    before = state(model)
    answers(model, batch)
    carom.export_module(model)
    ((kind, eps),) = list(world.eps.items())[:1]
    attack = choose_attack(get_modality(modality), "pgd?steps=2" if modality != "text" else "greedy-unk", kind)
    attack.attack(Problem(model, Goal(batch.labels), world.threat(kind, eps)), batch, Rng.of(0, batch.ids))
    after = state(model)
    for name, value in before.items():
        if name in ("weights", "torch"):
            assert all(torch.equal(a, b) for a, b in zip(value, after[name], strict=True)), name
        else:
            assert value == after[name], name


def total(model: Any, x: Tensor, batch: Batch, weights: Tensor) -> Tensor:
    return (model(x, batch.lengths).logits * weights).sum()


def gradient(model: Any, x: Tensor, batch: Batch, weights: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    return torch.autograd.grad(total(model, x, batch, weights), x)[0]


@of([(owner, info) for owner, info in STANDING if info.kind in ("transform", "random") and owner != "text"])
def test_the_gradient_is_what_the_defence_states(made, modality, info):
    """Exact: it agrees with finite differences. Around: it is the base's at what the base sees. Surrogate: it is the
    base's there, through the stand-in, which agrees with its own finite differences."""
    world, base, model = made(modality, info, victim=1)
    batch = world.draw(6, "test")
    keyed = model.keyed(Rng.of(3, batch.ids))
    weights = Rng.of(4, batch.ids).normal(3).double()
    x = batch.inputs.double()
    if batch.lengths is not None:  # within the space, by more than the step
        x = x * 0.9
    with model.frozen():
        found = gradient(keyed, x, batch, weights)
        inside = keyed.changed(x, batch.lengths)
        there = gradient(base, inside, batch, weights)
    if batch.lengths is not None:  # a defended model hears no padding
        there = there * (torch.arange(x.shape[1]) < batch.lengths[:, None])
    way = gradient_direction(x, batch)
    part = model.part
    if part.gradient == "around":
        assert torch.allclose(found, there, rtol=1e-6, atol=1e-9)
        return
    if part.gradient == "surrogate":
        rng = (keyed.streams(len(x)),) if part.random else ()
        smooth = lambda x: (part.surrogate(x, *rng) * there).sum()  # noqa: E731
        step = 1e-5
        wanted = (smooth(x + step * way) - smooth(x - step * way)) / (2 * step)
    else:
        step = 1e-6
        with model.frozen(), torch.no_grad():
            ends = [total(keyed, x + sign * step * way, batch, weights) for sign in (1, -1)]
        wanted = (ends[0] - ends[1]) / (2 * step)
    assert float((found * way).sum()) == pytest.approx(float(wanted), rel=2e-2, abs=2e-2 * float(found.norm()))
    assert float(found.norm()) > 0


def gradient_direction(x: Tensor, batch: Batch) -> Tensor:
    """A direction in which nothing is padded."""
    way = Rng.of(5, batch.ids).normal(*x.shape[1:]).double()
    if batch.lengths is not None:
        way = way * (torch.arange(x.shape[1]) < batch.lengths[:, None])
    return way / way.norm()


@of(STANDING)
def test_attacks_on_it_give_equal_bytes_at_every_batch_size(made, modality, info):
    world, _, model = made(modality, info)
    batch = world.draw(11, "test")
    for kind, specs in ATTACKS[modality].items():
        for spec in specs:
            chosen = choose_attack(get_modality(modality), spec, kind)
            threat = chosen.threat(world.threat(kind, world.eps[kind]))

            def run(rows: Tensor, chosen=chosen, threat=threat) -> Any:
                part = batch.take(rows)
                problem = Problem(model, Goal(part.labels), threat, eot=3)
                return chosen.attack(problem, part, Rng.of(0, part.ids))

            whole = run(torch.arange(11))
            parts = [run(rows) for rows in torch.tensor([10, *range(10)]).split(4)]
            order = torch.tensor([*range(1, 11), 0])
            stored = world.space.encode(whole.inputs)
            again = [world.space.encode(part.inputs) for part in parts]
            if isinstance(stored, Tensor):
                assert torch.equal(torch.cat(again)[order], stored), spec
            else:
                flat = [text for part in again for text in part]
                assert [flat[i] for i in order.tolist()] == stored, spec
            for name in ("forward", "backward", "queries"):
                spent = torch.cat([getattr(part.cost, name) for part in parts])[order]
                assert torch.equal(spent, getattr(whole.cost, name)), (spec, name)


@of([(owner, info) for owner, info in STANDING if owner != "text"])
def test_counted_cost_is_what_the_network_is_asked(made, modality, info, monkeypatch):
    world, _, model = made(modality, info)
    batch, rows, call = world.draw(4, "test"), [], TorchModel.__call__

    def counted(self: TorchModel, inputs: Tensor, lengths: Tensor | None = None) -> Any:
        rows.append(len(inputs))
        return call(self, inputs, lengths)

    monkeypatch.setattr(TorchModel, "__call__", counted)
    kind = next(iter(ATTACKS[modality]))
    attack = choose_attack(get_modality(modality), "bim?steps=3", kind).attack
    problem = Problem(model, Goal(batch.labels), world.threat(kind, world.eps[kind]), eot=2)
    result = attack(problem, batch, Rng.of(0, batch.ids))
    assert int(result.cost.forward.sum()) == sum(rows)


@of([(owner, info) for owner, info in STANDING if info.kind == "detector"])
def test_rejection_is_counted_on_both_sides(made, modality, info):
    world, _, model = made(modality, info)
    assert isinstance(model, Detecting)
    clean, data = data_of(world, 60, "calibration"), data_of(world, 60, "test")
    _, rejected = answers(model, clean.batch(), stream="calibration")
    assert sum(rejected) / len(clean) <= model.part.fpr
    logits, rejected = answers(model, data.batch(), stream="clean")
    kind = next(iter(ATTACKS[modality]))
    outcome = carom.transfer([model], [model], [ATTACKS[modality][kind][0]], data, threat=kind, eps=world.eps[kind])
    [cell] = outcome.rows()
    right = (logits.argmax(1) == data.labels) & ~torch.tensor(rejected)
    assert cell["n"] == int(right.sum())  # a rejected clean input is not among those that can be fooled
    plan = outcome.plan
    craft = next(iter(plan.crafts(plan.shards()[0])))
    attacked, _, _ = plan.judges(craft, model)
    rows = outcome.store.rows(attacked.key)
    wrong = [answer != label for answer, label in zip(rows["answer"].to_pylist(), data.labels.tolist(), strict=True)]
    fooled = [a and not b and ok for a, b, ok in zip(wrong, rows["rejected"].to_pylist(), right.tolist(), strict=True)]
    assert cell["transfer"] == pytest.approx(sum(fooled) / cell["n"])


@of([(owner, info) for owner, info in STANDING if info.kind == "detector" and owner != "text"])
def test_an_attacker_who_knows_a_detector_climbs_its_decision(made, modality, info):
    world, _, model = made(modality, info)
    batch = world.draw(12, "test")
    kind = next(iter(ATTACKS[modality]))
    goal = Goal(batch.labels)
    oracle = Oracle(Problem(model, goal, world.threat(kind, world.eps[kind])), batch)
    with model.frozen():
        output = model.keyed(Rng.of(3, batch.ids))(batch.inputs, batch.lengths)
        logits, plain = oracle.logits(batch.inputs), margin(output.logits.float(), goal)
        grad, loss, _ = oracle.gradient(margin, batch.inputs)
        if model.random:  # of the same draw
            loss, logits = goal.loss(margin, output._replace(logits=output.logits.float())), seen_by(goal, output)
    assert torch.allclose(loss, torch.minimum(plain, -output.alarm.float()), atol=1e-4) or bool((plain < 0).any())
    assert bool((loss <= plain + 1e-6).all())
    assert torch.equal(goal.achieved(logits), goal.achieved(output))
    assert grad.flatten(1).norm(dim=1).gt(0).all()


@of([(owner, info) for owner, info in STANDING if owner != "text"])
def test_it_is_exported_as_a_plain_module(made, modality, info):
    world, _, model = made(modality, info)
    batch = world.draw(7, "test")
    module = pickle.loads(pickle.dumps(carom.export_module(model)))
    assert sum(p.numel() for p in module.parameters()) == sum(p.numel() for p in undefended(model).module.parameters())
    with torch.no_grad(), model.frozen():
        said = module(batch.inputs, batch.lengths)
        again = carom.export_module(model)(batch.inputs, batch.lengths)
        output = model(batch.inputs, batch.lengths)
    assert close(said, again)  # a fresh copy draws the same
    if not model.random:
        assert close(said[:, :3].float(), output.logits.float())
    if model.rejects:
        assert torch.equal(said.argmax(1) == 3, output.rejected)
    assert isinstance(world.space, Box)
