"""The nulls of words: random words that keep the attack's constraints, and rules that know neither model nor text."""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

import pytest
import torch

import carom
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch
from carom.common.modality.installed import get_modality
from carom.common.modality.registry import choose_attack
from carom.common.study.evaluate import evaluate
from carom.common.study.plan import Plan
from carom.common.work.store import Store
from carom.text.attacks.triggers import Beside, words_of
from carom.text.blind import CHANGES, rarity
from carom.text.candidates.characters import CharacterEdits
from carom.text.candidates.neighbours import Neighbours
from carom.text.constraints import Similar
from carom.text.language.tokenizers import vocabulary
from carom.text.space import changes
from carom.text.threats import DRAWS, AnyWords, WordBudget

TEXT = get_modality("text")
TEXTS = [
    "a wonderful film about nothing much at all",
    "the plot is thin and the acting worse",
    "good",
    "",
    "it never quite finds its own voice , but it tries hard",
    "an old story told with fresh wit",
]


def batch(texts=TEXTS):
    return Batch(list(texts), torch.zeros(len(texts), dtype=torch.long), [f"id-{i}" for i in range(len(texts))])


def spent(budget, texts=TEXTS):
    """As an attack might leave them: the first words that can be changed are."""
    found = []
    for text in texts:
        sentence = budget.editable(text)
        sites = [site for site, size in enumerate(sentence.sizes) if size][: sentence.limit]
        found.append(sentence.edit(dict.fromkeys(sites, 0)))
    return found


@dataclass(frozen=True)
class Without:
    """No changed text may hold this letter more often than its clean one."""

    letter: str

    def holds(self, pairs, slack=0.0):
        return [new.count(self.letter) <= old.count(self.letter) for new, old in pairs]


@dataclass(frozen=True)
class OneOf:
    """One changed text of so many may stand: by a sum over its letters, not by what it says."""

    many: int

    def holds(self, pairs, slack=0.0):
        return [crc32(new.encode()) % self.many == 0 for new, _ in pairs]


@dataclass(frozen=True)
class Never:
    """No changed text is good enough."""

    def holds(self, pairs, slack=0.0):
        return [False] * len(pairs)


# Random words.


def test_a_control_is_drawn_until_it_keeps_the_constraints():
    plain = WordBudget(0.4, CharacterEdits(), keep_stop_words=False)
    budget = WordBudget(0.4, CharacterEdits(), False, (OneOf(3),))
    clean, like = batch(), spent(plain)
    broken = 0
    for k in range(10):
        rng = Rng.of(k, clean.ids)
        drawn, free = (threat.control(clean, rng, like) for threat in (budget, plain))
        assert budget.keeps(drawn, TEXTS).all()
        assert budget.allows(drawn, TEXTS).all()
        kept = budget.keeps(free, TEXTS)
        broken += int((~kept).sum())
        # A first draw that keeps them is the control.
        assert [a for a, ok in zip(drawn, kept, strict=True) if ok] == [
            a for a, ok in zip(free, kept, strict=True) if ok
        ]
    assert broken > 15
    assert (plain.redraws, budget.redraws) == (0, DRAWS)
    assert plain.keeps(like, TEXTS) is None


def test_what_no_draw_keeps_stands_as_drawn_last_and_is_told_apart():
    budget, clean = WordBudget(0.4, CharacterEdits(), False, (Never(),)), batch()
    drawn = budget.control(clean, Rng.of(0, clean.ids), spent(WordBudget(0.4, CharacterEdits(), False)))
    changed = [new != old for new, old in zip(drawn, TEXTS, strict=True)]
    assert any(changed)
    assert budget.keeps(drawn, TEXTS).tolist() == [not one for one in changed]
    # What an example gets does not depend on its company.
    alone = clean.take(torch.tensor([1]))
    like = spent(WordBudget(0.4, CharacterEdits(), False), alone.inputs)
    assert budget.control(alone, Rng.of(0, alone.ids), like) == [drawn[1]]


NEEDS_MORE = {"bert-attack", "bae", "clare", "rewrite", "paraphrase", "trigger", "trigger-behind", "universal-trigger"}


@pytest.mark.parametrize("spec", [i.name for i in carom.list_attacks("text") if i.name not in NEEDS_MORE])
def test_controls_of_every_attack_stay_within_what_it_may_do(spec):
    """Its budget, its options, its constraints: as the attack itself is held to."""
    try:
        chosen = choose_attack(TEXT, spec)
    except carom.CaromError as error:
        pytest.skip(str(error))
    threat, clean = chosen.threat(WordBudget(0.3)), batch()
    like = spent(threat)
    for k in range(2):
        drawn = threat.control(clean, Rng.of(k, clean.ids), like)
        assert threat.allows(drawn, TEXTS).all()
        kept = threat.keeps(drawn, TEXTS)
        assert kept is None or kept.all()


@pytest.fixture(scope="module")
def small():
    return carom.load_data("builtin:rotten-tomatoes", limit=24)


def outcome(data, spec, tmp_path, *constraints):
    model = carom.load_model("zoo:text-cnn")
    threat = WordBudget(0.3, constraints=constraints)
    how = {"data": data, "threat": threat, "threat_label": "words 0.3", "controls": 3}
    plan = Plan(
        modality="text",
        sources=(model,),
        targets=(model,),
        attacks=(choose_attack(TEXT, spec),),
        second_null=False,
        **how,
    )
    return evaluate(plan, Store(tmp_path), warn=lambda line: None)


def test_draws_that_break_a_constraint_are_counted_and_said(small, tmp_path):
    kept = outcome(small, "greedy-unk", tmp_path)
    [row] = kept.rows()
    assert not any("constraint" in said for said in row["warnings"])
    strict = outcome(small, "greedy-unk", tmp_path, OneOf(12))
    plan = strict.plan
    [craft] = plan.crafts(small)
    broken = 0
    for judge in plan.judges(craft, plan.targets[0])[1]:
        drawn, clean = judge.artefact.inputs(strict.store), small.batch().inputs
        broken += int((~craft.threat.keeps(drawn, clean)).sum())
    [row] = strict.rows()
    assert broken > 0
    assert any(said.startswith(f"{broken} of {3 * len(small)} control draws break") for said in row["warnings"])
    assert any(f"in all of {DRAWS} tries" in said for said in row["warnings"])


def test_controls_of_a_search_with_constraints_of_its_own_say_so():
    budget = AnyWords(0.3, held_to=("PartOfSpeech", "UniversalSentenceEncoder"))
    assert budget.unkept == ("PartOfSpeech", "UniversalSentenceEncoder")
    assert AnyWords(0.3).unkept == WordBudget(0.3).unkept == ()


# Rules.


@dataclass(frozen=True)
class Table:
    """Options that are written down."""

    rows: tuple[tuple[str, tuple[str, ...]], ...]

    def options(self, word):
        return dict(self.rows).get(word.lower(), ())


COMMON, MIDDLE, RARE = "film", "wonderful", "qqqz"
LIST = Table((("aa", (RARE, MIDDLE)), ("bb", (MIDDLE, COMMON)), ("cc", (RARE, "zzzq")), ("dd", (COMMON,))))


def test_a_words_rarity_is_its_place_in_the_shipped_list():
    listed = [word for word, _ in vocabulary()]
    assert [rarity(COMMON), rarity(MIDDLE.upper())] == [listed.index(COMMON), listed.index(MIDDLE)]
    assert rarity(COMMON) < rarity(MIDDLE) < rarity(RARE) == len(listed)


@pytest.mark.parametrize(
    ("number", "wanted"),
    [
        (0, f"aa {COMMON} cc {COMMON}"),  # the commonest options, wherever they are: of bb and dd
        (1, f"{MIDDLE} {COMMON} cc dd"),  # of the first two words
        (2, f"aa bb {RARE} {COMMON}"),  # of the last two; the first of two options that are as rare
        (3, f"{RARE} bb {RARE} dd"),  # the rarest, wherever they are
    ],
)
def test_each_rule_on_a_table_that_is_written_down(number, wanted):
    budget = WordBudget(0.5, LIST, keep_stop_words=False)
    assert budget.blind(batch(["aa bb cc dd"]), number) == [wanted]


@pytest.mark.parametrize(
    "budget",
    [
        WordBudget(0.3),
        WordBudget(0.4, CharacterEdits()),
        WordBudget(0.3, Neighbours(most=8, least=0.4), constraints=(Similar(0.8),)),
        WordBudget(0),
        AnyWords(0.3),
    ],
)
def test_blind_changes_spend_the_budget_and_stay_within_it(budget):
    assert budget.blind_changes == CHANGES
    whole = 0
    for number in range(CHANGES):
        made = budget.blind(batch(), number)
        assert budget.allows(made, TEXTS).all()
        assert made == budget.blind(batch(), number)
        assert budget.blind(batch(TEXTS[4:5]), number) == made[4:5]
        for text, clean in zip(made, TEXTS, strict=True):
            sentence = budget.editable(clean)
            most = min(sentence.limit, sum(size > 0 for size in sentence.sizes))
            whole += len(changes(text, clean) or ()) == most
    assert whole >= (CHANGES * len(TEXTS) if not budget.constraints else CHANGES)


def test_constraints_take_changes_away_by_halves():
    """Of four changes by the first rule two are one e too many, and one is none too many."""
    table = Table((("aa", ("one",)), ("bb", ("see",)), ("cc", ("three",)), ("dd", ("men",))))
    budget = WordBudget(1.0, table, False, (Without("e"),))
    text = "aa bb cc dd e"
    assert budget.blind(batch([text]), 1) == [text]  # each brings an e
    assert WordBudget(1.0, table, False).blind(batch([text]), 1) == ["one see three men e"]
    fewer = Table((("aa", ("ox",)), ("bb", ("lamp",)), ("cc", ("three",)), ("dd", ("men",))))
    assert WordBudget(1.0, fewer, False, (Without("e"),)).blind(batch(["aa bb cc dd"]), 1) == ["ox lamp cc dd"]


def test_a_log_without_a_bound_has_none():
    assert AnyWords(1.0).blind_changes == 0


def test_words_beside_a_text_that_know_no_model():
    budget = Beside(0.5)
    known = list(words_of(budget.source))
    for number, start in ((0, known[:2]), (1, known[:1] * 2), (2, known[-2:])):
        (made,) = budget.blind(batch(["one two three four five"]), number)
        assert made == " ".join([*start, "one two three four five"])
        assert budget.allows([made], ["one two three four five"]).all()


def test_a_cell_below_it_says_so(small):
    """Texts that were left as they are fool nobody; the rules do, within three words of ten."""
    nothing = carom.attack(carom.load_model("zoo:text-cnn"), small, "greedy-unk", eps=0)
    found = carom.replay(nothing, ["zoo:text-cnn"], data=small, threat="words", eps=0.3, controls=1)
    [row] = found.rows()
    assert row["transfer"] == 0 < row["blind_low"] < row["blind"] < row["blind_high"]
    said = (
        f"a change that knows neither model nor input fools {row['blind']:.2f} of the examples, more than this attack"
    )
    assert said in row["warnings"]
