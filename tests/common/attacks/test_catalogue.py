"""Attacks are registered beside the functions that compose them, with what their catalogue has in common."""

from __future__ import annotations

from dataclasses import replace

import pytest

from carom.common.attacks.catalogue.base import Catalogue, attacks_within, transforms_in
from carom.common.attacks.gradient.ascent import Ascent
from carom.common.core.batch import Access

PAPER = "Somebody 2020, A title"


@pytest.fixture
def catalogue() -> Catalogue:
    found = Catalogue(needs=Access.GRADIENT, threats=("linf", "l2"), cost="steps forward")

    @found.attack("plain", "a climb", paper=PAPER)
    def plain(steps: int = 10) -> Ascent:
        return Ascent(steps)

    @found.attack("other", "another", paper=PAPER, threats=("l2",), random=True, departures="none that matters")
    def other() -> Ascent:
        return plain(3)  # the function is what it was

    return found


def test_an_entry_has_what_its_catalogue_has_unless_it_says_otherwise(catalogue: Catalogue) -> None:
    plain, other = catalogue.attacks
    assert (plain.name, plain.summary, plain.reference) == ("plain", "a climb", PAPER)
    assert (plain.needs, plain.threats, plain.cost) == (Access.GRADIENT, ("linf", "l2"), "steps forward")
    assert (plain.random, plain.departures, plain.build(steps=4)) == (False, "", Ascent(4))
    assert (other.threats, other.cost, other.random) == (("l2",), "steps forward", True)
    assert (other.departures, other.build()) == ("none that matters", Ascent(3))


def test_a_modality_offers_what_works_in_its_threats(catalogue: Catalogue) -> None:
    assert {name: info.threats for name, info in attacks_within(["linf", "l0"], catalogue).items()} == {
        "plain": ("linf",)
    }
    assert list(attacks_within(["l2"], catalogue)) == ["plain", "other"]
    assert attacks_within(["words"], catalogue) == {}


def test_no_two_attacks_share_a_name(catalogue: Catalogue) -> None:
    with pytest.raises(ValueError, match="two attacks are registered as plain"):
        attacks_within(["l2"], catalogue, catalogue)


def test_entries_can_be_finished() -> None:
    found = Catalogue(lambda info: replace(info, cost=f"at most {info.cost}"), needs=Access.SCORE, threats=("l2",))
    found.attack("plain", "a climb", paper=PAPER, cost="1 forward")(Ascent)
    assert found.attacks[0].cost == "at most 1 forward"


def test_a_transform_stands_beside_its_function(catalogue: Catalogue) -> None:
    @catalogue.transform("longer", "twice the steps", paper=PAPER, models="residual")
    def longer(attack: Ascent, times: int = 2) -> Ascent:
        return replace(attack, steps=times * attack.steps)

    (info,) = transforms_in(catalogue).values()
    assert (info.name, info.models, info.needs) == ("longer", "residual", Access.GRADIENT)
    assert info.apply(Ascent(5)) == Ascent(10)
    with pytest.raises(ValueError, match="two transforms share a name"):
        transforms_in(catalogue, catalogue)
