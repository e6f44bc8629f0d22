"""Labels are read as what they are, and refused where they are none."""

from __future__ import annotations

import math

import pytest

from carom.common.base.errors import BadInput, CaromError
from carom.common.loading.labels import labels_of, plain_label


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (1, 1),
        ("10", 10),
        (" 1.0 ", 1),
        ("1.000000e+00", 1),
        (2.0, 2),
        (True, 1),
        ("cat", "cat"),
        ("1.5", "1.5"),
        (1.5, "1.5"),
        ("", None),
        ("NaN", None),
        (math.nan, None),
        (math.inf, None),
        (None, None),
        (b"1", None),
        ("1e300", "1e300"),
    ],
)
def test_a_label_is_a_number_or_a_name(written, meant):
    assert plain_label(written) == meant
    assert type(plain_label(written)) is type(meant)


def test_numbers_are_those_of_the_outputs_however_they_are_written():
    found = labels_of([f"{n}.0" for n in range(11)], None, "x.csv")
    assert found.classes == tuple(map(str, range(11)))
    assert found.rows == list(range(11))
    assert not found.guessed


def test_names_are_put_in_order_and_an_order_that_is_a_guess_says_so():
    found = labels_of(["level 10", "level 9"], None, "x.csv")
    assert found.guessed
    assert labels_of(["b", "a"], None, "x.csv").rows == [1, 0]


def test_names_find_their_place_among_the_stated_by_name():
    assert labels_of(["neg", "pos", "neg"], ["pos", "neg"], "x").rows == [1, 0, 1]
    assert labels_of([0, 1, 0], ["pos", "neg"], "x", known=["neg", "pos"]).rows == [1, 0, 1]
    assert labels_of([0, 1], ["neg", "neutral", "pos"], "x", known=["neg", "pos"]).rows == [0, 2]
    assert labels_of([-1, 1], ["-1", "1"], "x").rows == [0, 1]
    assert labels_of([1, 0], ["neg", "pos"], "x").rows == [1, 0]  # numbers without names
    assert labels_of([1, 7], ["7", "1"], "x").rows == [1, 0]  # numbers that are names
    assert labels_of(["0.5", "1.0"], ["0.5", "1.0"], "x").rows == [0, 1]


def test_a_table_with_names_of_its_own_is_not_renamed():
    with pytest.raises(CaromError, match="none of the stated classes bad, good"):
        labels_of([0, 1], ["bad", "good"], "x", known=["negative", "positive"])


@pytest.mark.parametrize("label", [-1, 2, None, "nan", "cat"])
def test_a_row_whose_label_is_none_is_left_to_its_reader(label):
    found = labels_of([0, 1, label], ["a", "b"], "x")
    assert found.rows == [0, 1, None]
    with pytest.raises(BadInput, match=r"x, line 3: (label .* is no class of a, b|holds no label)"):
        found.refuse("x, line 3", label)


def test_what_would_be_no_classes_is_refused():
    with pytest.raises(CaromError, match=r"scores.csv: label 4.5 is a number that is no whole number"):
        labels_of(["4.5", "3.0"], None, "scores.csv")
    with pytest.raises(CaromError, match="more than 10000 classes"):
        labels_of([0, 2**33], None, "x")
