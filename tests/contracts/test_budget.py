"""What an attack hands back can be saved as it is, and is within the budget when it is read again."""

from __future__ import annotations

import torch

from carom.common.base.rng import Rng
from carom.common.core.problem import Status
from carom.common.core.spaces import Box


def levenshtein(a, b):
    """Words changed, added or left out."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (x != y))
    return row[-1]


def used(case, saved, batch, eps):
    """float64[N]: how much of the budget each example uses, by the definition of each kind of threat; 1 is all."""
    if case.kind == "words":  # the toy texts are words between spaces, before a full stop
        pairs = [(x.rstrip(".").split(), x0.rstrip(".").split()) for x, x0 in zip(saved, batch.inputs, strict=True)]
        changed = [levenshtein(x, x0) for x, x0 in pairs]
        return torch.tensor([n / max(1, int(eps * len(x0))) for n, (_, x0) in zip(changed, pairs, strict=True)])
    change = (saved.double() - batch.inputs.double()).flatten(1)
    if case.kind == "linf":
        return change.abs().amax(1) / eps
    if case.kind == "l2":
        return change.norm(dim=1) / eps
    if case.kind == "l1":
        return change.abs().sum(1) / eps
    if case.kind == "l0":
        return (change.view_as(batch.inputs) != 0).any(1).flatten(1).sum(1) / eps
    if case.kind == "patch":
        places = [(change.view_as(batch.inputs)[i] != 0).any(0).nonzero() for i in range(len(change))]
        sides = [(p.amax(0) - p.amin(0) + 1).max().item() if len(p) else 0 for p in places]
        return torch.tensor([side**2 / batch.inputs[0, 0].numel() / eps for side in sides])
    if case.kind == "spatial":  # a turned image has no size of its own: `allows` tries what the budget has
        return torch.zeros(len(change))
    assert case.kind == "snr"
    return change.norm(dim=1) / (batch.inputs.double().flatten(1).norm(dim=1) * 10 ** (-eps / 20))


def check(case, result, batch, eps):
    space, threat = case.world.space, case.threat(eps)
    saved = space.decode(space.encode(result.inputs))
    assert threat.allows(saved, batch.inputs).all()
    if isinstance(space, Box):
        assert torch.equal(saved, result.inputs)
        assert saved.min() >= space.low
        assert saved.max() <= space.high
    else:
        assert saved == list(result.inputs)
    assert (used(case, saved, batch, eps) <= 1 + 1e-4).all()


def test_budget_holds_on_the_stored_artefact(case):
    batch = case.batch(8)
    for eps in (case.eps, *case.world.others[case.kind]):
        check(case, case.run(batch, eps=eps, steps=3, queries=30), batch, eps)
        check(case, case.run(batch, eps=eps, steps=3, queries=30, targeted=True), batch, eps)


def test_the_budget_is_used(edge_case):
    """Attacks that always go to the edge of a ball get there, but for what rounding and the box take."""
    case, result = edge_case, edge_case.run()
    assert result.status.eq(Status.DONE).all()
    share = used(case, result.inputs, case.batch(), case.eps)
    assert (share > 0.9 - (0.05 if case.kind != "linf" else 0)).all()


def test_no_budget_changes_nothing(case):
    batch = case.batch(8)
    result = case.run(batch, eps=case.world.none[case.kind])
    clean = batch.inputs
    assert torch.equal(result.inputs, clean) if isinstance(clean, torch.Tensor) else result.inputs == clean


def test_a_budget_below_one_stored_step_changes_nothing(absolute_case):
    case, batch = absolute_case, absolute_case.batch(8)
    result = case.run(batch, eps=0.4 * case.world.space.unit)
    assert torch.equal(result.inputs, batch.inputs)


def test_padding_gets_no_perturbation(padded_case):
    case, batch = padded_case, padded_case.batch()
    outside = torch.arange(batch.inputs.shape[-1]) >= batch.lengths[:, None]
    assert outside.any()
    threat, rng = case.threat(), Rng.of(5, batch.ids)
    adversarial = case.run().inputs
    noisy = threat.control(batch, rng, adversarial)
    swapped = threat.swap(batch, rng, adversarial.roll(1, 0), batch.inputs.roll(1, 0))
    for x in (adversarial, noisy, swapped):
        assert not x[outside].any()
        assert threat.allows(case.world.space.round(x, toward=batch.inputs), batch.inputs).all()


def test_success_says_whether_the_stored_example_reaches_the_goal(case):
    batch = case.batch()
    for targeted in (False, True):
        result, goal = case.run(targeted=targeted), case.goal(batch, targeted)
        answers = case.answers(result.inputs, batch)
        wanted = answers == goal.targets if targeted else answers != goal.labels
        assert torch.equal(result.success, wanted)


def test_queries_never_exceed_their_budget(case):
    for limit in (0, 1, 9):
        result = case.run(queries=limit)
        assert (result.cost.queries <= limit).all()
