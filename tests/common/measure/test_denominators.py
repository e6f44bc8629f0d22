"""Transfer by the field's other denominators: numbers that can be counted by hand, and where the order of attacks flips."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from carom.common.base.errors import CaromError, UnknownName
from carom.common.measure.cells import Cell, Over, Spent, Terms, cell_of, row_of
from carom.common.measure.denominators import DENOMINATORS, marked
from carom.common.measure.rates import MEASURES, Judged, Measure, Rate, Rates, Verdict
from carom.common.measure.stats import Bootstrap, wilson
from carom.common.study.checks import check_denominators
from carom.common.study.config import make_study


def verdict(wrong):
    """Of ten examples, those at these places are answered wrongly."""
    fooled = np.isin(np.arange(10), wrong)
    return Verdict(right=~fooled, fooled=fooled, kind=fooled.astype(int), gap=np.zeros(10))


def judged(wrong):
    return Judged(verdict(wrong), [verdict([])], verdict([]))


SOURCE_CLEAN, TARGET_CLEAN = verdict([0]), verdict([0, 1, 2])  # both right on 3 to 9
ALL_RIGHT = np.isin(np.arange(10), [5, 6, 7, 8])  # other models are wrong on 3, 4 and 9


def test_each_share_is_over_its_own_examples():
    """The attack fools the source on 3, 4, 5 and 6, and the target, wrong on 0 and 1 as before, on 3, 5 and 9."""
    measure = Measure(Bootstrap.of(10), SOURCE_CLEAN, judged([0, 3, 4, 5, 6]))
    answers = judged([0, 1, 3, 5, 9])
    rates, _ = measure.rates(TARGET_CLEAN, answers)
    over = measure.over(TARGET_CLEAN, answers, ALL_RIGHT)
    assert set(over) == set(DENOMINATORS)
    assert (rates.transfer.value, rates.n) == (3 / 7, 7)
    assert over["all-right"] == Rate(1 / 4, *wilson(1, 4), 4)  # 5 of 5, 6, 7, 8
    assert over["source-fooled"] == Rate(2 / 4, *wilson(2, 4), 4)  # 3 and 5 of 3, 4, 5, 6
    assert over["everything"] == Rate(5 / 10, *wilson(5, 10), 10)  # the target's own mistakes count
    assert over["source-fooled"].value == rates.conditional.value


def test_what_a_source_answers_may_not_be_known():
    over = Measure(Bootstrap.of(10), None, None).over(TARGET_CLEAN, judged([0, 1]), ALL_RIGHT)
    assert over["source-fooled"] == Rate(None, n=0)
    assert over["everything"].value == 0.2


def cell(attack, excess, seed=0, target="t", transfer=0.5, **over):
    known = dict.fromkeys(MEASURES, Rate(None))
    rates = Rates(n=10, margin_drop=None, **{**known, "excess": Rate(excess), "transfer": Rate(transfer)})
    return Cell(
        **{"source": "s", "target": target, "source_family": "cnn", "target_family": "cnn", "attack": attack},
        **{"terms": Terms("linf 1"), "seed": seed, "rates": rates, "spent": Spent(1.0, 1.0, 0.0, 0.0)},
        denominators={name: Over(Rate(value, value, value, 10)) for name, value in over.items()},
    )


def flips(cells):
    return [{name: of.flips for name, of in c.denominators.items()} for c in marked(cells)]


def test_an_order_that_is_another_one_is_marked_on_both():
    found = flips([cell("a", 0.3, everything=0.5), cell("b", 0.2, everything=0.6), cell("c", 0.1, everything=0.1)])
    assert found == [{"everything": ("b",)}, {"everything": ("a",)}, {"everything": ()}]


@pytest.mark.parametrize(
    "other",
    [
        {"excess": 0.3, "everything": 0.6},  # equal in the headline
        {"excess": 0.2, "everything": 0.5},  # equal here
        {"excess": 0.2, "everything": 0.5 + 1e-15},  # but for a sum's last digit
        {"excess": 0.2, "everything": None},
        {"excess": 0.2, "everything": 0.6, "seed": 1},
        {"excess": 0.2, "everything": 0.6, "target": "u"},
    ],
)
def test_what_is_no_flip(other):
    assert flips([cell("a", 0.3, everything=0.5), cell("b", **other)]) == [{"everything": ()}] * 2


def test_without_a_control_the_headline_is_transfer():
    cells = [cell("a", None, transfer=0.5, everything=0.5), cell("b", None, transfer=0.4, everything=0.6)]
    assert flips(cells)[0] == {"everything": ("b",)}


def test_cells_at_other_costs_are_not_compared():
    one, other = cell("a", 0.3, everything=0.5), cell("b", 0.2, everything=0.6)
    assert flips([one, replace(other, terms=Terms("linf 1", allowed=10, unit="queries"))])[0] == {"everything": ()}


def test_rows_hold_them_where_they_were_asked_for():
    asked, plain = cell("a", 0.3, everything=0.5), cell("a", 0.3)
    assert set(row_of(asked)) - set(row_of(plain)) == {"denominators"}
    [marked_one, _] = marked([asked, cell("b", 0.2, everything=0.6)])
    assert row_of(marked_one)["denominators"] == {
        "everything": {"transfer": 0.5, "low": 0.5, "high": 0.5, "n": 10, "flips": ["b"]}
    }
    for one in (asked, plain, marked_one):
        assert cell_of(row_of(one)).denominators == one.denominators


def test_a_name_that_is_none_is_refused_with_the_nearest():
    with pytest.raises(UnknownName, match="Did you mean everything"):
        check_denominators(["all-right", "everythin"])
    with pytest.raises(CaromError, match=r"--denominator: .*Did you mean everything"):
        make_study({"modalities": {"image": {}}, "denominators": ["everythin"]}, "flags")
