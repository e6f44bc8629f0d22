"""Robust accuracy where it is known: models whose worst case has a closed form, and models on which alarms must ring."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from linear import EPS, OFFSET, PIXELS, WEIGHTS, Linear, N, data_of, margins, model_of, stands
from torch import nn

import carom
from carom.common.base.errors import CaromError
from carom.common.core.batch import Access, Output
from carom.common.core.model import Model
from carom.common.robustness.outcome import NOT_ADAPTIVE, NUMBER, TOO_WEAK, share
from carom.common.work.store import Store

FEW = ("apgd?steps=10",)


def found(module: nn.Module, **more):
    return carom.robust(model_of(module), data_of(), FEW, **{"eps": EPS, "device": "cpu", **more})


def test_a_linear_model_has_its_closed_form():
    """|w·x + b| > eps ||w||_1, on every budget of the curve."""
    told = found(Linear(), budgets=["2/255", "20/255"])
    data = data_of()
    assert told.status == NUMBER, told.reasons
    assert (torch.from_numpy(told.standing) == stands(data, EPS)).all()
    assert told.accuracy == share(stands(data, EPS).numpy())
    by_budget = {at.split()[1]: value.value for at, value in told.curve}
    for eps, size in (("2/255", 2 / 255), (str(EPS), EPS), ("20/255", 20 / 255)):
        assert by_budget[eps] == float(stands(data, size).double().mean())
    summary = told.summary()
    assert summary["robust_low"] < summary["robust_accuracy"] < summary["robust_high"] < summary["clean_high"]
    assert summary["clean_accuracy"] == pytest.approx((N - 3) / N)
    assert summary["n"] == N
    assert summary["alarms"] == []
    assert told.test is not None
    assert (told.test.solved, told.test.unbuilt) == (told.test.tested, 0)


def test_zero_gradients_leave_words_instead_of_a_number():
    told = found(Linear(before=lambda x: x.detach()))
    assert told.status == TOO_WEAK
    assert told.accuracy.value is None
    assert told.summary()["robust_accuracy"] is None
    rings = {alarm.name for alarm in told.alarms if alarm.rings}
    assert {"zero gradients", "unbounded attack below 1", "black box stronger than white box"} <= rings
    assert told.test is not None
    assert not told.test.passed
    assert told.at_most.value < told.rows[0].left.value, "what Square fools, tried as an alarm, counts"
    assert told.summary()["at_most"] >= float(stands(data_of(), EPS).double().mean())


def test_saturated_answers_ring():
    """Cross-entropy underflows where the margin is large, and the attack by it stands still."""
    told = carom.robust(model_of(Linear(scale=1e4)), data_of(), ("pgd?steps=10",), eps=EPS)
    assert told.status == TOO_WEAK
    assert any("zero gradients" in line for line in told.reasons)


def test_answers_that_vary_ring():
    told = found(Linear(after=lambda z: z + 0.5 * torch.randn_like(z)))
    assert told.status == TOO_WEAK
    assert any(line.startswith("randomness without expectation") for line in told.reasons)


class Answers(Model):
    """Scores of a linear function, which nobody can differentiate; `width` of a band in which it rejects."""

    def __init__(self, band: float = 0.0, gradient: bool = False):
        super().__init__("answers", "image", "linear", PIXELS, ("dark", "bright"), f"{band}{gradient}".ljust(64, "0"))
        self.band, self.rejects = band, bool(band)
        self.access = Access.LABEL | Access.SCORE | (Access.GRADIENT if gradient else Access(0))

    def __call__(self, inputs, lengths=None):
        z = 255 * inputs.flatten(1) @ WEIGHTS + OFFSET
        logits = torch.stack([-z, z], 1) * 10
        if not self.band:
            return Output(logits)
        alarm = (self.band - z.abs()) * 10
        return Output(logits, None, alarm > 0, alarm)


def test_without_an_adaptive_attack_there_is_no_number():
    told = carom.robust(Answers(), data_of(), ("square?queries=20",), eps=EPS)
    assert told.status == NOT_ADAPTIVE
    assert told.accuracy.value is None
    assert told.rows[0].kind == "query"
    assert told.alarms == []
    told = carom.robust(Answers(), data_of(6), eps=EPS)  # the jury has only queries for it
    assert {row.kind for row in told.rows} == {"query"}


def test_rejection_has_its_closed_form():
    """Wrong and accepted means past the band on the other side; a clean example in the band is lost."""
    band, data = 0.05, data_of(60)
    told = carom.robust(Answers(band, gradient=True), data, ("auto?steps=20&queries=300",), eps=EPS)
    margin, reach = margins(data), EPS * 255 * WEIGHTS.double().abs().sum()
    accepted = margin >= band
    expected = accepted & ~(margin - reach < -band - 1e-9)
    assert told.status == NUMBER, told.reasons
    assert 0 < int(expected.sum()) < int(accepted.sum()) < 60
    assert (torch.from_numpy(told.standing) == expected).all()
    assert told.rejected_clean == pytest.approx(float((margin.abs() < band).double().mean()))
    assert told.summary()["clean_accuracy"] == pytest.approx(float(accepted.double().mean()))


def untimed(summary):
    """Without what was timed: the answers of the model are timed anew."""
    return {**summary, "took": 0, "seconds": 0}


def test_nothing_is_computed_twice(tmp_path, monkeypatch):
    first = found(Linear(), store=tmp_path)
    commits = []
    monkeypatch.setattr(Store, "commit", lambda *given, **more: commits.append(given[1]))
    again = found(Linear(), store=tmp_path)
    assert commits == []
    assert untimed(again.summary()) == untimed(first.summary())


def test_a_model_that_was_trained_further_is_judged_anew(tmp_path):
    model = model_of(Linear())
    first = carom.robust(model, data_of(), FEW, eps=EPS, device="cpu", store=tmp_path)
    with torch.no_grad():
        for tensor in (*model.module.parameters(), *model.module.buffers()):
            tensor.neg_()
    again = carom.robust(model, data_of(), FEW, eps=EPS, device="cpu", store=tmp_path, warn=lambda said: None)
    assert again.summary()["clean_accuracy"] == pytest.approx(1 - first.summary()["clean_accuracy"])


def test_results_depend_on_no_batch_size():
    one, other = found(Linear(), batch=5), found(Linear(), batch=64)
    assert np.array_equal(one.standing, other.standing)
    assert one.test == other.test


@pytest.mark.parametrize(
    ("attacks", "more", "said"),
    [
        (("leaf-path",), {}, "grants"),
        (("uap",), {}, "examples besides"),
        (("pwws",), {}, "attack on text"),
        ((), {"eps": "40"}, "Did you mean"),
    ],
)
def test_what_cannot_be_judged_is_refused_in_one_line(attacks, more, said, tmp_path):
    with pytest.raises(CaromError, match=said):
        carom.robust(model_of(Linear()), data_of(), attacks, **{"eps": EPS, **more}, store=tmp_path)
    assert not list(tmp_path.rglob("*.parquet"))


def test_nan_logits_are_refused():
    with pytest.raises(CaromError, match="not finite"):
        found(Linear(after=lambda z: z * math.nan))
