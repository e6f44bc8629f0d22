"""Smoothed models: bounds that another computation gives, certificates that hold, abstention."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from itertools import combinations

import pytest
import torch
from scipy import optimize, stats
from torch import nn

import carom
from carom.common.base.errors import CaromError
from carom.common.base.notices import Notice
from carom.common.cli import main
from carom.common.core.data import Dataset
from carom.common.defences.smoothing import GaussianNoise, Smoothing, chance_of_lead, lower_bound
from carom.text.candidates.synonyms import WordNet
from carom.text.defences.lexicon import known_synonyms, overlap, perturbations
from carom.text.defences.random import Masking, SynonymSampling, masked
from carom.text.threats import WordBudget
from carom.text.words import match_case, split_words
from carom.vision.space import PIXELS


class Half(nn.Module):
    """Whether an image's pixels sum to more than half their number: smoothed, a classifier in closed form."""

    def forward(self, x):
        bright = 40 * (x.flatten(1).mean(1) - 0.5)
        return torch.stack([-bright, bright], 1)


def half(*defences: str) -> carom.Model:
    model = carom.load_model(Half(), "image", normalise=None, classes=["dark", "bright"], name="half")
    return carom.defend(model, *defences) if defences else model


def flat(levels: list[int], side: int = 8) -> Dataset:
    """Images of one grey each."""
    stored = torch.tensor(levels, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, side, side).clone()
    labels = (torch.tensor(levels) > 127).long()
    return Dataset(
        "flat", "image", PIXELS, stored, labels, [f"flat{i}" for i in range(len(levels))], ("dark", "bright")
    )


@pytest.mark.parametrize(
    ("hits", "draws", "alpha"), [(100, 100, 0.001), (930, 1000, 0.001), (51, 100, 0.05), (0, 10, 0.01)]
)
def test_the_lower_bound_is_clopper_and_pearsons(hits, draws, alpha):
    low = lower_bound(torch.tensor([hits]), draws, alpha).item()
    if hits:  # by its definition: at the bound so many hits or more are as rare as alpha
        wanted = optimize.brentq(lambda p: stats.binom.sf(hits - 1, draws, p) - alpha, 1e-12, 1 - 1e-12, xtol=1e-14)
        assert low == pytest.approx(wanted, rel=1e-8)
        assert low == pytest.approx(stats.beta.ppf(alpha, hits, draws - hits + 1), rel=1e-12)
        assert low == pytest.approx(stats.binomtest(hits, draws).proportion_ci(1 - 2 * alpha, "exact").low, rel=1e-8)
    else:
        assert low == 0


def test_the_chance_of_a_lead_is_the_binomial_tests():
    votes = torch.tensor([[70, 20, 10], [50, 50, 0], [100, 0, 0], [3, 4, 93]])
    wanted = [stats.binomtest(a, a + b, 0.5).pvalue for a, b in ((70, 20), (50, 50), (100, 0), (93, 4))]
    assert chance_of_lead(votes).tolist() == pytest.approx(wanted)


def test_radii_are_those_of_the_closed_form():
    """Noise of sigma on 64 pixels moves their mean by sigma / 8: the true radius is the distance to the half."""
    data = flat([60, 125, 126, 129, 130, 200])
    sigma, draws, alpha = 0.05, 2000, 0.001
    found = carom.certify(half(f"smoothing?sigma={sigma}"), data, draws=draws, alpha=alpha)
    true = 8 * (data.stored.float().div(255).flatten(1).mean(1) - 0.5).abs().double()
    known = found.radii.isfinite()
    assert bool((found.radii[known] <= true[known]).all())  # each but for one chance in a thousand
    highest = sigma * stats.norm.ppf(stats.beta.ppf(alpha, draws, 1))
    near = (true < 0.8 * highest) & known
    assert int(near.sum()) == 4
    assert torch.allclose(found.radii[near], true[near], rtol=0.2, atol=0.01)
    assert found.radii[0].item() == pytest.approx(highest)
    assert found.answers[known].equal(data.labels[known])
    counts = [row["low"] for row in found.rows()]
    assert found.radii[0].item() == pytest.approx(sigma * stats.norm.ppf(counts[0]))
    assert found.accuracy(highest + 1e-6)[0] == 0
    assert found.accuracy(0.0)[0] == pytest.approx(1 - found.abstained)


def test_certificates_depend_on_no_batch():
    data, model = flat([60, 110, 122, 133, 150, 200]), half("smoothing?sigma=0.05")
    one, other = (carom.certify(model, data, draws=60, first=20, batch=batch) for batch in (1000, 7))
    assert one.low.equal(other.low)
    part = carom.certify(model, data.take(torch.tensor([3, 1])), draws=60, first=20)
    assert part.low.equal(one.low[[3, 1]])


def test_what_is_in_doubt_is_abstained_from_and_is_no_success():
    data = flat([126, 127, 128, 20, 230])
    model = half("smoothing?sigma=0.3")
    output = model.ask(data.batch(), lambda output: output)[0][1]
    assert output.rejected.tolist() == [True, True, True, False, False]
    assert (output.alarm > 0).equal(output.rejected)
    with pytest.raises(CaromError, match="11 or more"):
        half("smoothing?draws=5")
    with pytest.raises(CaromError, match="put smoothing before the detector"):
        carom.defend(half(), "feature-squeezing", "smoothing", calibration=flat(list(range(20, 236, 8))))
    found = carom.attack(model, flat([90, 170]), "pgd?steps=6&eot=1", threat="l2", eps=3.0)
    assert found.success.all()  # past the middle and beyond doubt
    found = carom.attack(model, flat([90, 170]), "pgd?steps=6&eot=1", threat="l2", eps=1.22)
    assert not found.success.any()  # past the middle, and abstained from


def test_only_smoothed_models_certify():
    for model in (half(), half("noise", "vote"), half("smoothing", "noise")):
        with pytest.raises(CaromError, match="it has to stand outermost"):
            carom.certify(model, flat([20, 200]))
    with pytest.raises(CaromError, match="no probability"):
        carom.certify(half("smoothing"), flat([20, 200]), alpha=1.0)


def test_a_model_that_cannot_bear_the_noise_is_told():
    data = carom.load_data("builtin:fashion-mnist", limit=12)
    with pytest.warns(Notice, match="certifies nothing for .* under the change that is smoothed over"):
        carom.certify("defended:zoo:image-mlp+smoothing?sigma=2.0", data, draws=30, first=20)


def test_no_attack_breaks_an_images_certificate():
    data = carom.load_data("builtin:fashion-mnist", limit=10)
    model = carom.defend("zoo:image-mlp", "smoothing?sigma=0.15&draws=30&alpha=0.01")
    certified = carom.certify(model, data, draws=300)
    right = certified.answers == data.labels
    eps = float(certified.radii[right].quantile(0.3))
    within = right & (certified.radii >= eps)
    assert int(within.sum()) >= 5
    attacks = ("pgd?steps=6&eot=1", "square?queries=30")
    for attack in attacks:
        assert not bool((carom.attack(model, data, attack, threat="l2", eps=eps).success & within).any()), attack
    assert carom.attack(model, data, attacks[0], threat="l2", eps=25 * eps).success[within].any()  # beyond it they do


def test_a_sounds_radius_is_a_ratio_of_energies_of_its_own():
    data = carom.load_data("builtin:keywords", limit=8)
    model = carom.defend("zoo:audio-m5", "smoothing?sigma=0.002&draws=30")
    found = carom.certify(model, data, draws=40, first=20)
    batch = data.batch()
    known = found.radii.isfinite()
    assert known.any()
    ratio = 20 * (batch.inputs.double().norm(dim=1) / found.radii).log10()
    assert torch.allclose(found.terms["snr_db"][known], ratio[known])
    assert len(found.terms["snr_db"][known].unique()) == int(known.sum())  # one radius, many ratios
    change = torch.randn(batch.inputs.shape, generator=torch.Generator().manual_seed(0))
    change = found.radii[:, None] * torch.nn.functional.normalize(change.double(), dim=1)
    told = data.space.distance(batch.inputs + change, batch.inputs)["snr_db"].double()
    assert torch.allclose(told[known], found.terms["snr_db"][known], atol=1e-3)
    # Nothing inside makes a sound as loud as another: a quieter one has the radius, which is less of a ratio.
    quiet = replace(data, stored=data.stored // 2)
    less = carom.certify(model, quiet, draws=40, first=20)
    assert less.radii.equal(found.radii)
    assert torch.allclose(found.terms["snr_db"] - less.terms["snr_db"], torch.tensor(6.02).double(), atol=0.05)


def test_masks_certify_as_many_words_as_counting_sets_says():
    text = "one two three four five six seven eight"
    part, low = Masking(0.75, 0), 0.97
    words, kept = 8, 8 - masked(8, 0.75)
    assert kept == 2
    sets = list(combinations(range(words), kept))
    chance = [sum(any(place < d for place in one) for one in sets) / len(sets) for d in range(words + 1)]
    wanted = max(d for d in range(words + 1) if low - chance[d] > 0.5)
    assert part.radius(torch.tensor([low]).double(), [text], None).tolist() == [wanted] == [2]
    assert part.radius(torch.tensor([0.6]).double(), [text], None).tolist() == [0]
    long = " ".join(["word"] * 40)
    found = Masking(0.9, 0).radius(torch.tensor([0.99]).double(), [long], None).item()
    lost = [1 - math.comb(40 - d, 4) / math.comb(40, 4) for d in range(41)]
    assert found == max(d for d in range(41) if 0.99 - lost[d] > 0.5)
    assert part.radius(torch.tensor([0.9]).double(), [""], None).tolist() == [0]


def test_overlaps_are_of_the_sets_and_bound_the_change_of_any_majority():
    for word in ("movie", "awful", "dull"):
        sets = [perturbations(other, 6) for other in (word, *known_synonyms(word))]
        shares = [len(set(sets[0]) & set(other)) / max(len(sets[0]), len(other)) for other in sets[1:]]
        assert overlap(word, 6) == min(shares)
    assert overlap("the", 6) == overlap("zzyzx", 6) == 1.0
    text = "an awful movie"
    part = SynonymSampling(6, 0)
    overlaps = sorted(overlap(word, 6) for word in text.split())
    for low in (0.55, 0.8, 0.999):
        wanted = max(r for r in range(4) if low - 1 + math.prod(overlaps[:r]) > 0.5)
        assert part.radius(torch.tensor([low]).double(), [text], None).tolist() == [wanted]


@dataclass(frozen=True)
class Known:
    """The synonyms that SAFER's certificate is about."""

    def options(self, word: str) -> tuple[str, ...]:
        return tuple(match_case(other, word) for other in known_synonyms(word.lower()))


@pytest.mark.parametrize(
    ("defence", "candidates"), [("ranmask?share=0.8&draws=40", WordNet()), ("safer?nearest=4&draws=40", Known())]
)
def test_no_word_attack_breaks_a_texts_certificate(defence, candidates):
    data = carom.load_data("builtin:rotten-tomatoes", limit=12)
    model = carom.defend("zoo:text-linear", defence)
    certified = carom.certify(model, data, draws=250, first=50)
    right = certified.answers == data.labels
    radii = certified.radii
    threat = WordBudget(1.0, candidates)
    searched = 0
    for at in (right & (radii >= 1)).nonzero().squeeze(1).tolist()[:3]:
        words = len(split_words(data.stored[at]))
        within = replace(threat, max_changed=int(radii[at]) / words)
        one = data.take(torch.tensor([at]))
        found = carom.attack(model, one, "greedy-unk", threat=within)
        assert not found.success.any()
        searched += int(found.cost.queries.sum())
    assert searched > 20


def test_certified_accuracy_on_the_command_line(monkeypatch, capsys):
    import sys

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["carom", *arguments])
        with pytest.raises(SystemExit) as stop:
            main.main()
        return stop.value.code or 0, *capsys.readouterr()

    few = ("--limit", "6", "--draws", "40", "--first", "20")
    code, out, _ = run(
        "certify", "defended:zoo:image-mlp+smoothing?sigma=0.1", *few, "--radius", "0", "--radius", "0.1", "--json"
    )
    told = json.loads(out)
    assert code == 0
    assert [row["radius"] for row in told["accuracy"]] == [0.0, 0.1]
    assert told["accuracy"][0]["certified accuracy"] >= told["accuracy"][1]["certified accuracy"] > 0
    assert len(told["examples"]) == 6
    code, out, _ = run("certify", "defended:zoo:text-linear+ranmask?share=0.6", *few)
    assert code == 0
    assert "words exchanged for single words" in out
    code, _, err = run("certify", "zoo:image-mlp", *few)
    assert code == 2
    assert "certifies nothing" in err


def test_parts_are_named_by_their_parameters():
    one, other = (Smoothing(draws=20, change=GaussianNoise(sigma, 0), alpha=0.01) for sigma in (0.1, 0.2))
    assert one != other
    assert half("smoothing?sigma=0.1").digest != half("smoothing?sigma=0.1&alpha=0.01").digest
    assert len(split_words("a b")) == 2
