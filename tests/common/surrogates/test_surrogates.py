"""Surrogates: what LGV collects, what a substitute asks for, and that a file gives the same model again."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import carom
from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.cli.main import cli
from carom.common.core.batch import Access
from carom.common.core.data import Dataset
from carom.common.core.spaces import Box
from carom.common.models import training
from carom.common.models.networks import TorchModel
from carom.common.surrogates import lgv as lgv_module
from carom.common.surrogates.substitute import augmented

SPACE = Box("pixels", 0.0, 1.0, 1 / 255, torch.uint8)
N = 48


class Net(nn.Module):
    def __init__(self, dropout=0.2):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(16, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(dropout), nn.Linear(12, 3)
        )

    def forward(self, x):
        return self.layers(x)


def model_of(module, name="net"):
    return TorchModel(
        module, name=name, modality="image", family="mlp", space=SPACE, classes=tuple("abc"), shape=(1, 4, 4)
    )


@pytest.fixture
def network():
    torch.manual_seed(0)
    return model_of(Net())


def drawn(name, n=N):
    ids = [f"{name}{i}" for i in range(n)]
    x = Rng.of(0, ids).uniform(1, 4, 4)
    labels = (x.flatten(1) @ Rng.of(1, ["a", "b", "c"]).normal(16).T).argmax(1)
    return Dataset(name, "image", SPACE, SPACE.encode(x), labels, ids, tuple("abc"))


class Counting(TorchModel):
    """Counts the rows that it is asked about."""

    rows = 0

    def __call__(self, inputs, lengths=None):
        self.rows += len(inputs)
        return super().__call__(inputs, lengths)


def target_of():
    torch.manual_seed(7)
    made = model_of(Net(), "target")
    made.__class__ = Counting
    return made


def weights(model):
    return torch.cat([t.flatten().float() for t in model.module.state_dict().values()])


def test_lgv_collects_along_the_path_by_its_schedule(network, monkeypatch):
    """6 batches of 8 an epoch, 4 networks: after steps 1, 3, 4 and 6 of each."""
    seen = []
    real = training.fit

    def spy(module, *args):
        *rest, after = args

        def told(step):
            before = len(seen)
            after(step)
            seen.append((step, weights(model_of(module))))
            assert len(seen) == before + 1

        return real(module, *rest, told)

    monkeypatch.setattr(lgv_module, "fit", spy)
    made = carom.lgv(network, drawn("train"), epochs=2, per_epoch=4, batch=8, seed=3)
    kept = [1, 3, 4, 6, 7, 9, 10, 12]
    assert len(made.members) == made.card["members"] == 8
    for step, member in zip(kept, made.members, strict=True):
        assert torch.equal(weights(member), dict(seen)[step])
    assert len({member.digest for member in made.members}) == 8
    assert made.access == Access.LABEL | Access.SCORE | Access.GRADIENT | Access.MEMBERS


def test_a_first_step_of_the_path_is_gradient_descent(network):
    """One step at the learning rate, from the given weights, on the first batch; dropout is off in this network."""
    base = model_of(Net(dropout=0.0))
    data = drawn("train", 8)
    made = carom.lgv(base, data, epochs=1, per_epoch=1, batch=8, lr=0.5, seed=1)
    one = Net(dropout=0.0)
    one.load_state_dict(base.module.state_dict())
    loss = nn.functional.cross_entropy(one(data.batch().inputs), data.labels)
    loss.backward()
    with torch.no_grad():
        for parameter in one.parameters():
            parameter -= 0.5 * (parameter.grad + 1e-4 * parameter)
    found = made.members[0].module.state_dict()
    for name, parameter in one.named_parameters():
        assert torch.allclose(parameter, found[name], atol=1e-6), name


def test_what_is_made_leaves_its_origin_and_the_process_alone(network):
    target = target_of()
    before, asked = weights(network), weights(target)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    carom.lgv(network, drawn("train"), epochs=1, batch=8)
    carom.substitute(target, drawn("train"), network, rounds=2, epochs=1)
    assert torch.equal(weights(network), before)
    assert torch.equal(weights(target), asked)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("make", ["lgv", "substitute"])
def test_the_seed_decides(make, network):
    def made(seed):
        if make == "lgv":
            return carom.lgv(network, drawn("train"), epochs=1, per_epoch=2, batch=8, seed=seed)
        return carom.substitute(target_of(), drawn("train"), network, rounds=2, epochs=1, most=20, seed=seed)

    torch.manual_seed(5)
    one = made(0)
    torch.manual_seed(6)
    assert made(0).digest == one.digest
    assert made(1).digest != one.digest


def test_queries_are_what_the_target_was_asked(network):
    """48 at first, doubled twice; then with at most 20 new ones a round. Held-out examples are no queries."""
    target = target_of()
    made = carom.substitute(target, drawn("train"), network, rounds=3, epochs=1)
    assert made.card["queries"] == target.rows == 4 * N
    assert made.card["agreement"] is None
    target = target_of()
    made = carom.substitute(target, drawn("train"), network, rounds=4, epochs=1, most=20, held_out=drawn("test", 30))
    assert made.card["queries"] == N + 3 * 20
    assert target.rows == N + 3 * 20 + 4 * 30
    answers = [m.predict(drawn("test", 30).batch()).argmax(1) for m in (made, target)]
    assert made.card["agreement"] == pytest.approx((answers[0] == answers[1]).float().mean().item(), abs=1e-4)
    assert len(made.card["agreement_by_round"]) == 4


def test_a_substitute_learns_from_answers_not_labels(network):
    target, data = target_of(), drawn("train", 200)
    wrong = replace(data, labels=(data.labels + 1) % 3)
    found = [
        carom.substitute(target, d, network, rounds=2, epochs=15, lr=0.02, held_out=drawn("test", 100))
        for d in (data, wrong)
    ]
    assert found[0].digest == found[1].digest
    assert found[0].card["agreement"] > 0.75


def test_new_examples_lie_along_the_gradient_for_their_label():
    """Of a linear network d log p_y / dx = W_y - sum p W; the step is a share of the space's range, saved as it is."""

    class Line(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(1)
            self.map = nn.Linear(16, 3)

        def forward(self, x):
            return self.map(x.flatten(1))

    model, data = model_of(Line()), drawn("x", 10)
    stored, _, ids = augmented(model, data, data.labels, -0.1, 4)
    x, w = data.batch().inputs, model.module.map.weight.detach()
    shares = model(x).logits.softmax(1).detach()
    hand = x - 0.1 * (w[data.labels] - shares @ w).sign().view_as(x)
    assert torch.equal(stored, SPACE.encode(hand.clamp(0, 1)))
    assert ids[0] == "x0~4"


@pytest.mark.parametrize("make", ["lgv", "substitute"])
def test_a_file_gives_the_same_model_again(make, network, tmp_path):
    if make == "lgv":
        made = carom.lgv(network, drawn("train"), epochs=1, per_epoch=2, batch=8, held_out=drawn("test"))
    else:
        made = carom.substitute(target_of(), drawn("train"), network, rounds=1, epochs=1, held_out=drawn("test"))
    path = tmp_path / "made.safetensors"
    card = carom.save_surrogate(made, path)
    assert json.loads(path.with_suffix(".json").read_text()) == card
    again = carom.load_surrogate(path, like=network)
    assert (again.digest, again.name, again.passes) == (made.digest, made.name, made.passes)
    assert again.card == made.card
    batch = drawn("test").batch()
    assert torch.equal(again.predict(batch), made.predict(batch))
    with pytest.raises(CaromError, match="made from a model without a spec"):
        carom.load_model(f"surrogate:{path}")
    other = model_of(Net())
    other.module.layers[3] = nn.Tanh()
    with pytest.raises(CaromError, match="are not those that its card names"):
        carom.load_surrogate(path, like=other)


def test_what_cannot_be_trained_or_saved_is_refused(network, tmp_path):
    data = drawn("train")
    with pytest.raises(CaromError, match="image-tree is no torch network"):
        carom.lgv("zoo:image-tree", data)
    with pytest.raises(CaromError, match="6 batches of 8, from which 7 networks"):
        carom.lgv(network, data, per_epoch=7, batch=8)
    with pytest.raises(CaromError, match="cannot stand for image-forest"):
        carom.substitute(carom.load_model("zoo:image-forest"), data, network)
    with pytest.raises(CaromError, match="has no card"):
        carom.save_surrogate(network, tmp_path / "x.safetensors")
    (tmp_path / "y.safetensors").write_bytes(b"no such thing")
    with pytest.raises(CaromError, match="not a surrogate that"):
        carom.load_model(f"surrogate:{tmp_path / 'y.safetensors'}")


def test_by_command_line(tmp_path):
    """A substitute of the zoo's tree by the zoo's MLP from fresh weights, and networks around the MLP; both load."""

    def run(*arguments):
        out = CliRunner().invoke(cli, ["surrogate", *arguments, "--epochs", "1", "-q", "--json"])
        assert out.exit_code == 0, out.exception
        return json.loads(out.stdout)

    sub, near = tmp_path / "sub.safetensors", tmp_path / "near.safetensors"
    card = run(
        *("substitute", "zoo:image-tree", "--network", "zoo:image-mlp", "--limit", "40", "--rounds", "2"),
        *("--held-out", "test", "--out", str(sub)),
    )
    assert (card["queries"], card["examples"], card["target"]) == (80, 40, "image-tree")
    assert card["clean_accuracy"] < 0.8  # of fresh weights: the shipped ones know more
    model = carom.load_model(f"surrogate:{sub}?name=mine")
    assert (model.name, model.digest, model.family) == ("mine", card["digest"], "mlp")
    card = run("lgv", "zoo:image-mlp", "--limit", "200", "--per-epoch", "2", "--out", str(near))
    model = carom.load_model(f"surrogate:{near}")
    assert len(model.members) == card["members"] == 2
    data = carom.load_data("builtin:fashion-mnist", limit=4)
    assert carom.attack(model, data, "lgv?steps=2").cost.backward.tolist() == [2] * 4
