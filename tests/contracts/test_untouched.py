"""The model, the inputs and the process are afterwards as they were before; what was spent is what was counted."""

from __future__ import annotations

import random
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from carom.common.core.spaces import Box
from carom.common.models.trees import TreeModel


def modules_of(model):
    parts = [getattr(one, name, None) for one in getattr(model, "members", [model]) for name in ("module", "front_end")]
    found = [part for part in parts if part is not None]
    return [m for part in found for m in part.modules()]


def state(model):
    """Everything of a model and of the process that an attack could leave changed."""
    modules = modules_of(model)
    return {
        "modes": [m.training for m in modules],
        "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in modules],
        "wanted": [p.requires_grad for m in modules for p in m.parameters(recurse=False)],
        "grads": [p.grad for m in modules for p in m.parameters(recurse=False)],
        "weights": [t.clone() for m in modules for t in (*m.parameters(recurse=False), *m.buffers(recurse=False))],
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state()[1],
        "python": random.getstate(),
        "threads": torch.get_num_threads(),
        "grad": torch.is_grad_enabled(),
        "cudnn": torch.backends.cudnn.enabled,
        "type": torch.get_default_dtype(),
    }


def equal(one, other):
    if isinstance(one, torch.Tensor | np.ndarray):
        return bool((one == other).all())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


def mixed(model):
    """Some parts in training mode, some not; some weights frozen."""
    for number, module in enumerate(modules_of(model)):
        module.training = number % 2 == 0
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(number % 3 != 0)
    return model


def test_the_model_comes_back_untouched(case):
    model = mixed(case.model(fresh=True))
    before = state(model)
    case.run(model=model)
    after = state(model)
    changed = [name for name in before if not equal(before[name], after[name])]
    assert not changed


def test_the_model_comes_back_untouched_from_an_error(torch_case):
    model = mixed(torch_case.model(fresh=True))

    def fail(*_):
        raise RuntimeError("out of memory, say")

    last = getattr(model, "members", [model])[-1]
    handle = last.module.head.register_forward_hook(fail)
    before = state(model)
    with pytest.raises(RuntimeError, match="out of memory"):
        torch_case.run(model=model)
    after = state(model)
    handle.remove()
    assert not [name for name in before if not equal(before[name], after[name])]


def test_models_are_attacked_in_evaluation_mode(torch_case):
    model = torch_case.model(fresh=True)
    for one in getattr(model, "members", [model]):
        one.module.train()
    seen = set()
    for module in modules_of(model):
        module.register_forward_pre_hook(lambda m, _: seen.add(m.training))
    torch_case.run(model=model)
    assert seen == {False}


def test_front_ends_of_trees_are_attacked_in_evaluation_mode(front_case):
    case = front_case
    model = case.model(fresh=True)
    model.front_end = nn.Sequential(model.front_end or nn.Flatten(), nn.Dropout(0.5)).train()
    seen = set()
    model.front_end[1].register_forward_pre_hook(lambda m, _: seen.add(m.training))
    case.run(model=model)
    assert seen == {False}
    assert model.front_end[1].training


def test_inputs_are_not_modified_in_place(case):
    batch = case.batch()
    tensors = [t for t in (batch.inputs, batch.labels, batch.lengths) if isinstance(t, torch.Tensor)]
    before = [t.clone() for t in tensors]
    texts = list(batch.inputs) if not tensors or tensors[0] is batch.labels else None
    case.run()
    case.run(targeted=True)
    assert all(map(torch.equal, before, tensors))
    assert not any(t.requires_grad for t in tensors)
    assert texts is None or texts == batch.inputs


class CountedTrees(TreeModel):
    """Counts the rows whose features are asked for, by the forest or by what is made of it."""

    def features(self, inputs):
        out = super().features(inputs)
        self.counts["forward"] += len(inputs)
        if out.requires_grad:
            out.register_hook(lambda grad: self.counts.update(backward=self.counts["backward"] + len(grad)))
        return out


def inside(rows, module, given, out):
    """Count the rows of gradients that come to a layer's answer."""

    def passed(grad):
        rows[0] += len(grad)

    if out.requires_grad:
        out.register_hook(passed)


def test_counted_cost_is_what_hooks_counted(case, monkeypatch):
    monkeypatch.setattr(
        "carom.common.models.evaluation.evaluator.filled", lambda given, together: given
    )  # copies that fill up a batch are not counted
    model = case.model(fresh=True)
    counts: dict[str, int] = {"forward": 0, "backward": 0}
    inner: list[list[int]] = []  # rows of gradients that came to each inner layer
    if isinstance(model, TreeModel):
        model.__class__ = CountedTrees
        model.counts = counts
    else:

        def count(module, given, out):
            """A row is differentiated that a gradient passes at either end: at an inner layer it starts, or stops."""
            counts["forward"] += len(out)
            ends = {"answer": 0, "input": 0}

            def passed(end, rows):
                before = max(ends.values())
                ends[end] += rows
                counts["backward"] += max(ends.values()) - before

            for end, tensor in (("answer", out), ("input", given[0])):
                if tensor.requires_grad:
                    tensor.register_hook(lambda grad, end=end: passed(end, len(grad)))

        for one in getattr(model, "members", [model]):
            one.module.register_forward_hook(count)
        if case.info.name == "linbp":  # passes some layers more often than either end
            for part in model.module.modules():
                if isinstance(part, torch.nn.Conv2d):
                    part.register_forward_hook(partial(inside, rows := [0]))
                    inner.append(rows)
    batch = case.batch()
    if case.info.shared:  # some learn for each class by itself
        batch = batch.take((batch.labels == batch.labels[0]).nonzero().squeeze(1))
    result = case.run(batch, model=model)
    counts["backward"] = max(counts["backward"], *(rows for (rows,) in inner), 0)
    spent = {"forward": int(result.cost.forward.sum()), "backward": int(result.cost.backward.sum())}
    if case.info.shared:  # done once, charged to each; then each example's own answer
        again = len(result.inputs) - 1
        spent["forward"] -= again * int(result.cost.forward[0] - 1)
        spent["backward"] -= again * int(result.cost.backward[0])
    assert counts == spent
    if isinstance(case.world.space, Box):  # texts that read the same are asked about twice and computed once
        assert (result.cost.queries <= result.cost.forward).all()
