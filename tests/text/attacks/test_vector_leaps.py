"""A search by labels and word vectors: never worse than where it begins, within its queries, to the nearest word."""

from __future__ import annotations

import pytest

from carom.common.attacks.edits.labels_only import LabelsOnly
from carom.common.attacks.edits.substitution import Substitution
from carom.common.base.errors import CaromError
from carom.text.attacks.vector_leaps import Leaps, Metered
from carom.text.space import changes

WEIGHTS = {"good": 2.0, "film": 0.5, "song": 0.5, "house": 0.25, "story": 0.25, "poor": -1.6, "bad": -3.0, "car": 0.1}
ENTRIES = ("good|car,bad,poor", "film|car", "song|car", "house|car", "story|car")
TEXT = "good film song house story"


@pytest.fixture
def vectors(tmp_path, monkeypatch):
    """Poor is nearer to good than bad is; the car is far from everything."""
    monkeypatch.setenv("CAROM_CACHE", str(tmp_path / "cache"))
    rows = {"good": (1, 0), "poor": (1, 0.5), "bad": (0.2, 1), "car": (-1, 0.1)}
    path = tmp_path / "vectors.txt"
    path.write_text("\n".join(f"{word} {x} {y}" for word, (x, y) in rows.items()), encoding="utf-8")
    return str(path)


def test_of_all_edits_that_fool_the_one_with_fewest_and_nearest_words_is_found(toy, vectors):
    world = toy(WEIGHTS, ENTRIES)
    leaping = Substitution(Leaps(source=vectors))
    # good -> poor leaves -1.6 + 1.5 = -.1, good -> bad less; without either no edit fools.
    result = world.run(leaping, *[TEXT] * 6)
    assert result.inputs == ["poor film song house story"] * 6
    assert result.success.all()


def test_it_goes_on_from_where_the_search_by_labels_ends_and_keeps_to_its_queries(toy, vectors):
    world = toy({**WEIGHTS, "poor": 0.1, "car": -0.6}, ENTRIES)
    texts = [TEXT, "film song", "good song good film story", "good film"]
    plain = world.run(Substitution(LabelsOnly(40)), *texts)
    short = world.run(Substitution(Metered(Leaps(source=vectors), int(plain.cost.queries.max()))), *texts)
    full = world.run(Substitution(Metered(Leaps(source=vectors), 60)), *texts)
    assert (full.cost.queries <= 60).all()
    assert (short.cost.queries <= plain.cost.queries.max()).all()
    for found in (short, full):
        assert found.success.tolist() == plain.success.tolist()
        for text, x, before in zip(texts, found.inputs, plain.inputs, strict=True):
            assert len(changes(x, text)) <= len(changes(before, text))


@pytest.mark.parametrize("limit", [1, 2, 5, 9])
def test_a_metered_search_asks_no_more(toy, vectors, limit):
    result = toy(WEIGHTS, ENTRIES).run(Substitution(Metered(Leaps(source=vectors), limit)), TEXT)
    assert result.cost.queries.tolist()[0] <= limit


def test_numbers_that_make_no_search_are_refused():
    with pytest.raises(CaromError, match="queries=1"):
        Metered(LabelsOnly(), 0)
    with pytest.raises(CaromError, match="of 1 or more"):
        Leaps(draws=0)
