"""Equal white-box success: the search on attacks whose success at every budget is known beforehand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil, log2

import numpy as np
import pytest
import torch
from stores import Counting
from toys import choice

from carom.common.api import transfer
from carom.common.base.errors import CaromError
from carom.common.core.data import Dataset
from carom.common.core.problem import Cost, Result
from carom.common.core.spaces import Box
from carom.common.core.threats import Linf
from carom.common.measure.stats import wilson
from carom.common.modality.budgets import ScalePoint, scale_of
from carom.common.modality.installed import get_modality
from carom.common.models.functions import FunctionModel
from carom.common.study import plan as module
from carom.common.study.comparisons.budget_search import Bisection, Refinement
from carom.common.study.comparisons.matching import Matching
from carom.common.study.evaluate import evaluate
from carom.common.study.outcome import Transfer
from carom.common.study.plan import Plan
from carom.common.work.store import Store

# The search alone: examples fall at thresholds that are written down.


def searched(levels, size, falls: Callable[[int, np.ndarray], np.ndarray], count):
    """(places, the questions that were asked)"""
    asked, bisection = [], Bisection(levels, size, count)
    while (tried := bisection.next_try()) is not None:
        asked.append(tried)
        bisection.learn(*tried, falls(*tried))
    return bisection.places, asked


THRESHOLDS = np.repeat(np.arange(20), 5)  # of 100 examples, five more fall at each of twenty budgets


@pytest.mark.parametrize(("level", "place"), [(0.05, 0), (0.5, 9), (0.52, 9), (0.54, 10), (0.9, 17), (0.99, 19)])
def test_the_budget_nearest_to_the_level_is_found(level, place):
    places, asked = searched([level], 20, lambda at, rows: THRESHOLDS[rows] <= at, 100)
    assert places == {level: place}
    assert len(asked) <= ceil(log2(21))


def test_a_budget_is_tried_only_on_examples_still_open_and_levels_share_what_is_known():
    both, asked = searched([0.9, 0.5], 20, lambda at, rows: THRESHOLDS[rows] <= at, 100)
    assert both == {0.5: 9, 0.9: 17}
    tried = [at for at, _ in asked]
    assert len(tried) == len(set(tried))
    assert sum(len(rows) for _, rows in asked) < 3.5 * 100
    for i, (at, rows) in enumerate(asked):
        for before, others in asked[:i]:
            same = np.intersect1d(rows, others)
            assert (THRESHOLDS[same] > before).all() if before < at else (THRESHOLDS[same] <= before).all()


def test_a_level_never_or_always_passed_is_answered_with_the_end_of_the_scale():
    never, asked = searched([0.9], 16, lambda at, rows: np.zeros(len(rows), bool), 10)
    assert never == {0.9: 15}
    assert asked[-1][0] == 15  # the cap itself was tried
    always, asked = searched([0.5], 16, lambda at, rows: np.ones(len(rows), bool), 10)
    assert always == {0.5: 0}
    assert asked[-1][0] == 0


def test_a_step_is_answered_with_the_nearer_side():
    step = np.array([4] * 3 + [9] * 7)
    assert searched([0.5, 0.9], 12, lambda at, rows: step[rows] <= at, 10)[0] == {0.5: 8, 0.9: 9}
    assert searched([0.6], 12, lambda at, rows: np.where(rows < 5, 4, 9) <= at, 10)[0] == {0.6: 8}


def test_success_that_is_not_monotone_ends_the_search_all_the_same():
    """From budget 12 on the attack gives up. What fell below stays fallen for the search."""
    places, asked = searched([0.3, 0.5], 20, lambda at, rows: (THRESHOLDS[rows] <= at) & (at < 12), 100)
    assert places == {0.3: 5, 0.5: 9}
    places, asked = searched([0.9], 20, lambda at, rows: (THRESHOLDS[rows] <= at) & (at < 12), 100)
    assert places == {0.9: 19}
    assert len(asked) <= ceil(log2(21))


@pytest.mark.parametrize(
    ("start", "tried", "place"),
    [(10, [10], 10), (6, [6, 7, 8], 8), (15, [15, 14, 13], 13), (19, [19, 18, 17], 17), (0, [0, 1, 2], 2)],
)
def test_settling_goes_towards_the_level_and_stops_at_it(start, tried, place):
    asked, refining = [], Refinement(0.5, start, 20)
    while (at := refining.next_place()) is not None:
        asked.append(at)
        refining.learn(at, 5 * at, 100)
    assert refining.place == place
    assert asked == tried


# In the evaluator: images of one pixel, dark or bright; the attack moves it towards the threshold of the model.

SPACE = Box("pixel", 0.0, 1.0, 1 / 255, torch.uint8)
N = 120


def brightness(name, threshold):
    def logits(x):
        value = torch.from_numpy(np.asarray(x)).flatten(1).mean(1) * 255
        return torch.stack([threshold - value, value - threshold], 1)

    return FunctionModel(
        logits,
        name=name,
        modality="image",
        family="cnn" if name == "source" else "rnn",
        space=SPACE,
        classes=("dark", "bright"),
        digest=f"{name} {threshold}",
        probabilities=False,
    )


def data():
    """Values 0 to 119, all dark: within k/255 an attack passes 119.5 on the k brightest."""
    return Dataset(
        "pixels", "image", SPACE, torch.arange(N, dtype=torch.uint8)[:, None], torch.zeros(N).long(), IDS, CD
    )


IDS, CD = [f"id{i}" for i in range(N)], ("dark", "bright")


@dataclass(frozen=True)
class Push:
    """Adds the whole budget; nothing from `fades` on; raises on a model of the name `fails_on`."""

    fades: float = 9.0
    fails_on: str = ""

    def __call__(self, problem, batch, rng):
        if problem.model.name == self.fails_on and problem.threat.eps != 1 / 255:
            raise RuntimeError("no such operator")
        eps = problem.threat.eps if problem.threat.eps < self.fades else 0.0
        x = SPACE.clamp(batch.inputs + eps)
        ones = torch.ones(len(batch), dtype=torch.long)
        return Result(x, ones.bool(), Cost(ones, ones, ones), 0 * ones)


SCALE = tuple(ScalePoint(f"linf {k}/255", k / 255, Linf(k / 255)) for k in range(1, 129))


def plan(attack=Push(), levels=(0.5, 0.9), scale=SCALE, **changes):
    chosen = choice("push", attack)
    base = Plan(
        modality="image",
        sources=(brightness("source", 119.5),),
        targets=(brightness("source", 119.5), brightness("target", 139.5)),
        attacks=(chosen,),
        data=data(),
        threat=Linf(1 / 255),
        threat_label="linf 1/255",
        eps=1 / 255,
        matching=Matching(levels, scale),
    )
    return replace(base, **changes)


def strip(rows):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def matched(outcome: Transfer, target="target"):
    return {row["matched"]: row for row in outcome.matched_rows() if row["target"] == target}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    return evaluate(plan(), Store(tmp_path_factory.mktemp("store")))


def test_cells_are_measured_where_the_source_is_fooled_as_often_as_asked(outcome):
    rows = matched(outcome)
    for level in (0.5, 0.9):
        row = rows[level]
        steps = round(row["eps"] * 255)
        assert row["threat"] == f"linf {steps}/255"
        assert row["white_box"] == pytest.approx(steps / N)  # of the k brightest, by construction
        assert (row["white_box_low"], row["white_box_high"]) == wilson(steps, N)
        assert row["white_box_low"] <= level <= row["white_box_high"]
        assert row["at_level"] is True
        assert row["why"] is None
        assert row["transfer"] == pytest.approx(max(0, steps - 20) / N)  # the target's threshold is 20 higher
        assert not any("white-box success is only" in line for line in row["warnings"])


def test_the_study_itself_stays_as_it_was(outcome, tmp_path):
    alone = evaluate(plan(matching=None), Store(tmp_path))
    assert strip(outcome.rows()) == strip(alone.rows())
    assert all(row["matched"] is None and row["eps"] == 1 / 255 for row in outcome.rows())
    assert alone.summary()["matched"] is None
    assert alone.matched_rows() == []


def test_summary_table_and_matrix_tell_levels_apart(outcome):
    part = outcome.summary()["matched"]
    assert (part["levels"], part["examples"], part["controls"]) == ([0.5, 0.9], N, 5)
    assert (part["weakest"], part["cap"], part["searched"]) == ("linf 1/255", "linf 128/255", 64)
    assert len(part["cells"]) == 4
    table = outcome.cells.to_pandas()
    assert len(table) == 6
    assert sorted(table["matched"].dropna().unique()) == [0.5, 0.9]
    assert outcome.matrix("transfer", match=0.9)["source"]["target"] == matched(outcome)[0.9]["transfer"]
    assert outcome.matrix("transfer")["source"]["source"] == pytest.approx(1 / N)


def test_nothing_is_computed_twice_and_a_fresh_store_gets_the_same_bytes(tmp_path):
    first, second = Counting(tmp_path / "a"), Counting(tmp_path / "b")
    rows = strip(evaluate(plan(), first).matched_rows())
    assert len(first.keys) == len(set(first.keys))
    again = Counting(tmp_path / "a")
    assert strip(evaluate(plan(), again).matched_rows()) == rows
    assert again.keys == []
    assert strip(evaluate(plan(), second, batch=7).matched_rows()) == rows
    files = [{p.name: p.read_bytes() for p in s.root.glob("*/*") if p.suffix != ".json"} for s in (first, second)]
    assert files[0] == files[1]
    # Another budget of the study changes nothing of it; one more level costs only what it adds.
    other = Counting(tmp_path / "a")
    moved = evaluate(plan(threat=Linf(2 / 255), threat_label="linf 2/255", eps=2 / 255), other)
    assert strip(moved.matched_rows()) == rows
    # The craft; for both models: attacked, controls, swapped, and the changes that know no model.
    assert len(other.keys) == 1 + 2 * (1 + 5 + 1 + 4)


@pytest.mark.parametrize("at", [0, 3, 17, 25, 40])
def test_an_interrupted_search_goes_on_where_it_stopped(at, tmp_path):
    class Interrupted(Counting):
        def commit(self, *rest, **more):
            if len(self.keys) == at:
                raise KeyboardInterrupt
            super().commit(*rest, **more)

    with pytest.raises(KeyboardInterrupt):
        evaluate(plan(), Interrupted(tmp_path / "s"))
    rest, whole = Counting(tmp_path / "s"), Counting(tmp_path / "whole")
    resumed, fresh = evaluate(plan(), rest), evaluate(plan(), whole)
    assert len(rest.keys) == len(whole.keys) - at
    assert strip(resumed.matched_rows()) == strip(fresh.matched_rows())


def test_shards_and_fewer_examples_and_draws(tmp_path, monkeypatch):
    whole = strip(evaluate(plan(), Store(tmp_path / "whole")).matched_rows())
    monkeypatch.setattr(module, "SHARD", 50)
    assert strip(evaluate(plan(), Store(tmp_path / "parts")).matched_rows()) == whole
    monkeypatch.undo()
    fewer = evaluate(plan(matching=Matching((0.5,), SCALE, limit=80, controls=2)), Store(tmp_path / "fewer"))
    (row,) = matched(fewer).values()
    assert row["n"] == row["white_box_n"] == 80
    assert row["at_level"]
    assert fewer.summary()["matched"]["controls"] == 2
    assert all(row["n"] == N for row in fewer.rows())


def test_seeds_share_a_budget(tmp_path):
    rows = evaluate(plan(seeds=(0, 1)), Store(tmp_path)).matched_rows()
    assert {(r["matched"], r["seed"]) for r in rows} == {(level, seed) for level in (0.5, 0.9) for seed in (0, 1)}
    assert len({(r["matched"], r["eps"]) for r in rows}) == 2


def test_a_level_out_of_reach_is_said_with_the_cap(tmp_path):
    row = matched(evaluate(plan(scale=SCALE[:70]), Store(tmp_path)))[0.9]
    assert row["at_level"] is False
    assert row["white_box"] == pytest.approx(70 / N)
    assert row["why"] == "out of reach: 0.58 at the cap of the search, linf 70/255"


def test_a_level_passed_by_the_weakest_budget_is_said(tmp_path):
    row = matched(evaluate(plan(scale=SCALE[99:]), Store(tmp_path)))[0.5]
    assert row["at_level"] is False
    assert row["why"] == "already 0.83 at the weakest budget, linf 100/255"


def test_success_in_one_large_step_is_said(tmp_path):
    row = matched(evaluate(plan(scale=(SCALE[9], SCALE[29], SCALE[99])), Store(tmp_path)))[0.5]
    assert row["at_level"] is False
    assert row["why"] == "0.25 is the nearest found, at linf 30/255: success does not pass 0.5 in small steps"


def test_an_attack_that_fails_at_large_budgets_is_told_from_a_level_out_of_reach(tmp_path):
    outcome = evaluate(plan(Push(fades=80 / 255)), Store(tmp_path))
    rows = matched(outcome)
    assert rows[0.5]["at_level"]
    assert rows[0.9]["at_level"] is False
    assert rows[0.9]["white_box"] == 0
    assert rows[0.9]["why"].endswith("examples that smaller budgets fooled stand there again")


def test_a_search_that_fails_is_named_and_leaves_the_study_whole(tmp_path):
    outcome = evaluate(plan(Push(fails_on="source")), Store(tmp_path))
    assert len(outcome.rows()) == 2
    assert outcome.matched_rows() == []
    assert [f.what for f in outcome.failures] == ["push on source"]


def test_a_source_that_is_never_right_has_no_match(tmp_path):
    wrong = brightness("source", -1.0)
    outcome = evaluate(plan(sources=(wrong,), targets=(wrong,)), Store(tmp_path))
    assert outcome.matched_rows() == []
    assert outcome.failures == []


# At the border.


@pytest.mark.parametrize("level", [0.0, 1.0, -0.5, 50.0])
def test_levels_are_shares(level):
    with pytest.raises(CaromError, match=r"give shares such as 0\.5 and 0\.9"):
        Matching((level,), SCALE)


@pytest.mark.parametrize("modality", ["image", "audio", "text"])
def test_scales_run_from_weakest_to_strongest(modality):
    found = get_modality(modality)
    assert found.defaults.threat in found.scales
    for kind, budgets in found.scales.items():
        assert len(set(budgets)) == len(budgets) > 20
        scale = scale_of(found, kind)
        order = [budget.eps for budget in scale]
        assert order == sorted(order, reverse=kind == "snr")  # more decibels are less noise
        assert scale[0].label == f"{kind} {budgets[0]}"


def test_a_kind_without_a_scale_is_refused():
    with pytest.raises(CaromError, match="image has scales for linf, l2"):
        scale_of(get_modality("image"), "words")


def test_a_threat_given_as_an_object_has_no_scale():
    with pytest.raises(CaromError, match="name the kind of threat"):
        transfer([brightness("source", 119.5)], [], [Push()], data(), threat=Linf(0.1), match=(0.5,))
