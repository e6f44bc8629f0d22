"""Pairs of texts: one side is attacked, the other stays; loaded, tokenised, stored and shown as what they are."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tiny_hub import bert, pieces_of, word_pieces

from carom.common.api import attack, ensemble, transfer
from carom.common.base.errors import BadInput, CaromError, UnknownName
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch, Goal
from carom.text.candidates.base import Merged
from carom.text.data.load import load_data
from carom.text.models.load import load_model
from carom.text.pairs import join, open_text, open_words, sides
from carom.text.panels import panels
from carom.text.space import Words
from carom.text.threats import WordBudget

CLASSES = ("entailment", "neutral", "contradiction")
PREMISES = (
    "A man inspects the uniform of a figure in some country .",
    "An older and younger man smiling .",
    "A soccer game with multiple males playing",
    "a happy child",
)
HYPOTHESES = (
    "The man is sleeping in a large house",
    "Two men are smiling and laughing at the cats",
    "Some men are playing a good sport",
    "tall",
)
PAIRS = [join(*pair) for pair in zip(PREMISES, HYPOTHESES, strict=True)]


@pytest.fixture(scope="session")
def pair_tokenizer():
    """Whole words and letters, with token types as BERT has them."""
    return word_pieces(pieces_of([*PREMISES, *HYPOTHESES]), 60)


@pytest.fixture(scope="session")
def nli(pair_tokenizer):
    return load_model(bert(len(pair_tokenizer), CLASSES, seed=1).eval(), tokenizer=pair_tokenizer, name="nli")


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"folder:{path}"


@pytest.fixture
def mnli(tmp_path, nli):
    """Pairs with the labels that the model gives them, so that there is something to break."""
    labels = nli(PAIRS).logits.argmax(1).tolist()
    rows = [
        {"premise": a, "hypothesis": b, "label": CLASSES[i]}
        for a, b, i in zip(PREMISES, HYPOTHESES, labels, strict=True)
    ]
    return f"{jsonl(tmp_path / 'mnli.jsonl', rows)}?classes={','.join(CLASSES)}"


def test_a_pair_is_one_text_with_one_side_open():
    second, first = join("a b", "c d"), join("a b", "c d", "first")
    assert sides(second) == sides(first) == ("a b", "c d")
    assert (open_text(second), open_text(first), open_text("a b")) == ("c d", "a b", "a b")
    assert [w.text for w in open_words(second)] == ["c", "d"]
    assert all(second[w.start : w.stop] == w.text for w in open_words(second))
    assert sides("a b") is None
    with pytest.raises(UnknownName, match="Did you mean second"):
        join("a", "b", "secnd")


@pytest.mark.parametrize(("change", "limit", "sites"), [("first", 2, 4), ("second", 1, 2)])
def test_the_budget_is_spent_on_the_open_side_and_allows_nothing_else(table, change, limit, sites):
    budget = WordBudget(0.5, table(("good|fine", "film|movie,picture")))
    long, short = "good film good film", "film good"
    x0 = join(long, short, change)
    sentence = budget.editable(x0)
    assert (sentence.limit, len(sentence.sites)) == (limit, sites)
    edited = sentence.edit({0: 0})
    kept = 1 if change == "first" else 0
    assert edited != x0
    assert sides(edited)[kept] == sides(x0)[kept]
    assert budget.allows([edited], [x0]).all()
    assert Words(pairs=True).distance([edited], [x0])["share"].item() == 1 / len(sentence.words)
    protected = join(long, "film fine", change) if kept else join("good movie good film", short, change)
    assert not budget.allows([protected], [x0]).any()
    other = join(*sides(edited), "second" if kept else "first")
    assert not budget.allows([other], [x0]).any(), "nor does an attack open the other side"
    batch = Batch([x0], torch.zeros(1, dtype=torch.long), ["a"])
    for seed in range(8):
        rng = Rng.of(seed, ["a"])
        drawn = budget.control(batch, rng, [edited])
        assert drawn != [x0]
        assert budget.allows(drawn, [x0]).all()
        swapped = budget.swap(batch, rng, [edited], [x0])
        assert sides(swapped[0])[kept] == sides(x0)[kept]


def test_constraints_and_rewrites_see_the_open_side_alone(tmp_path, monkeypatch):
    (tmp_path / "shouts.py").write_text("def up(text):\n    return [text.upper(), text + '\\x1f']\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    from carom.text.candidates.forms import Rewrites
    from carom.text.constraints import KeepNames

    class Asked:
        def __init__(self):
            self.pairs = []

        def holds(self, pairs, slack=0.0):
            self.pairs += pairs
            return [True] * len(pairs)

    asked, x0 = Asked(), join("Anna met Ben .", "we saw Ben")
    budget = WordBudget(1.0, Rewrites("py:shouts:up"), constraints=(asked,))
    sentence = budget.editable(x0)
    assert [sentence.edit({0: o}) for o in range(sentence.sizes[0])] == [join("Anna met Ben .", "WE SAW BEN")]
    assert budget.allows([join("Anna met Ben .", "WE SAW BEN")], [x0]).all()
    assert asked.pairs == [("WE SAW BEN", "we saw Ben")]
    names = WordBudget(1.0, constraints=(KeepNames(),)).editable(x0)
    assert [names.word(site).text for site in range(len(names.sites))] == ["saw"]


def test_no_option_reaches_over_to_the_other_side():
    class Merges:
        free = True

        def options(self, word):
            return (Merged("one"), "")

    budget = WordBudget(1.0, Merges(), keep_stop_words=False)
    for change in ("first", "second"):
        sentence = budget.editable(join("a b", "c d", change))
        edits = [sentence.edit({s: o}) for s, size in enumerate(sentence.sizes) for o in range(size)]
        assert all(sides(edit) is not None for edit in edits)
        kept = 1 if change == "first" else 0
        assert {sides(edit)[kept] for edit in edits} == {("a b", "c d")[kept]}


def test_a_hugging_face_model_reads_a_pair_as_its_tokenizer_does(nli, pair_tokenizer):
    assert nli.space.pairs, "its classes say so"
    with torch.no_grad():
        encoded = pair_tokenizer(list(PREMISES), list(HYPOTHESES), padding=True, return_tensors="pt")
        assert encoded["token_type_ids"].any()
        expected = nli.module(**encoded).logits
        untyped = nli.module(**{**encoded, "token_type_ids": torch.zeros_like(encoded["token_type_ids"])}).logits
    assert torch.allclose(nli(PAIRS).logits, expected, atol=1e-5)
    assert not torch.allclose(expected, untyped, atol=1e-2)
    ids, spans = nli.encoder.encode(PAIRS)
    assert ids.shape == encoded["input_ids"].shape
    for text, own in zip(PAIRS, spans, strict=True):
        words = [text[a:b].lower() for a, b in own if b > a]
        first, second = sides(text)
        assert "".join(words) == (first + second).replace(" ", "").lower()
    with pytest.raises(CaromError, match="takes pairs of texts, and was given a single one"):
        nli(["a single text"])


def test_gradients_reach_the_words_of_the_open_side(nli):
    sentence = WordBudget(1.0, keep_stop_words=False).editable(PAIRS[0])
    label = nli(PAIRS[:1]).logits.argmax(1)
    (gains,) = nli.gains([(sentence, {})], Goal(label))
    assert [len(own) for own in gains] == sentence.sizes
    assert any(abs(g) > 0 for own in gains for g in own)
    # Against the model itself: leaning a little towards an option changes the margin by as much as its gain says.
    (gradient,) = nli.word_gradient(PAIRS[:1], Goal(label), [sentence.spans({})])
    shift = torch.zeros_like(gradient)
    shift[-1] = 1e-3 * gradient[-1] / gradient[-1].norm()
    (moved,) = nli.word_gradient(PAIRS[:1], Goal(label), [sentence.spans({})], [shift])
    assert moved.shape == gradient.shape == (len(sentence.sites), 16)
    assert not torch.equal(moved, gradient)


@pytest.mark.parametrize("name", ["greedy-unk", "fast", "pwws", "hotflip", "textbugger", "leave-out", "gbda", "hqa"])
def test_word_attacks_change_the_hypothesis_and_keep_the_premise(nli, mnli, name):
    data = load_data(mnli)
    found = attack(nli, data, name, eps=0.5)
    assert [sides(text)[0] for text in found.stored] == list(PREMISES)
    assert found.stored != data.stored
    again = load_data(mnli, change="premise")
    found = attack(nli, again, name, eps=0.5)
    assert [sides(text)[1] for text in found.stored] == list(HYPOTHESES)


def test_transfer_from_a_transformer_to_a_function_of_tuples(nli, mnli, tmp_path):
    data = load_data(mnli)

    def overlap(pairs):
        shared = [len(set(a.lower().split()) & set(b.lower().split())) for a, b in pairs]
        return [[s / (s + 2), 1 / (s + 2), 1 / (s + 2)] for s in shared]

    targets = [nli, load_model(overlap, classes=CLASSES, pairs=True)]
    found = transfer([nli], targets, ["greedy-unk"], data, eps=0.5, controls=2, store=tmp_path / "store")
    assert not found.failures
    assert {row["target"] for row in found.rows()} == {m.name for m in targets}


def joined(pairs):
    return [f"{a} {b}" for a, b in pairs]


def test_a_pipeline_of_pairs_is_called_with_tuples():
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    pipeline = make_pipeline(FunctionTransformer(joined), CountVectorizer(), LogisticRegression())
    pipeline.fit(list(zip(PREMISES, HYPOTHESES, strict=True)), [0, 1, 2, 0])
    model = load_model(pipeline, classes=CLASSES, pairs=True)
    assert model(PAIRS).logits.exp().numpy() == pytest.approx(
        pipeline.predict_proba(list(zip(PREMISES, HYPOTHESES, strict=True))), abs=1e-5
    )
    alone = make_pipeline(CountVectorizer(), LogisticRegression()).fit(list(PREMISES), [0, 1, 2, 0])
    with pytest.raises(CaromError, match="does not take pairs of texts"):
        load_model(alone, classes=CLASSES, pairs=True)
    with pytest.raises(CaromError, match="takes pairs of texts, and was given a single one"):
        model(["one"])


def test_pairs_and_single_texts_are_told_apart(nli, mnli, tmp_path):
    single = load_model(lambda texts: [[0.2, 0.3, 0.5]] * len(texts), classes=CLASSES, name="single")
    with pytest.raises(
        CaromError, match=r"model single takes single texts, the data .* is pairs of texts. Load .*pairs="
    ):
        attack(single, load_data(mnli), "greedy-unk")
    with pytest.raises(
        CaromError, match=r"model nli takes pairs of texts, the data .* is single texts. Name the columns"
    ):
        attack(nli, load_data(mnli, text="hypothesis"), "greedy-unk")
    with pytest.raises(CaromError, match=r"their space differ .*pairs of texts"):
        ensemble([nli, single])


ROW = {"premise": "a b", "hypothesis": "c d", "label": "neutral"}


def test_columns_of_pairs_are_found_or_named(tmp_path):
    for names in (("premise", "hypothesis"), ("sentence1", "sentence2"), ("question", "sentence")):
        spec = jsonl(tmp_path / "a.jsonl", [{names[0]: "a b", names[1]: "c d", "label": 0}])
        data = load_data(spec)
        assert (data.stored, data.space.pairs) == ([join("a b", "c d")], True)
        assert (data.facts["first"], data.facts["second"], data.facts["change"]) == (*names, "second")
        assert load_data(spec, text=names[1]).stored == ["c d"]
        assert load_data(f"{spec}?change={names[0]}").stored == [join("a b", "c d", "first")]
        assert load_data(spec).digest != load_data(spec, change="first").digest
    spec = jsonl(tmp_path / "a.jsonl", [{"left": "a b", "right": "c d", "label": 0}])
    assert load_data(spec, text="left", second="right").stored == [join("a b", "c d")]
    with pytest.raises(CaromError, match="which column holds the text"):
        load_data(spec)
    with pytest.raises(CaromError, match="Did you mean right"):
        load_data(spec, text="left", second="rihgt")
    with pytest.raises(CaromError, match="change=first is about pairs"):
        load_data(spec, text="left", change="first")
    with pytest.raises(UnknownName, match="side of the pairs"):
        load_data(spec, text="left", second="right", change="middle")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({**ROW, "hypothesis": ""}, "line 1, second text: the text is empty"),
        ({**ROW, "premise": None}, "line 1, first text: holds a NoneType"),
        ({**ROW, "premise": "a\x1fb"}, "line 1, first text: holds U.001E or U.001F"),
    ],
)
def test_what_cannot_be_used_of_a_pair_is_named(tmp_path, row, says):
    with pytest.raises(BadInput, match=says):
        load_data(jsonl(tmp_path / "a.jsonl", [row]))


def test_parquet_and_the_hub_hold_pairs_too(tmp_path):
    datasets = pytest.importorskip("datasets")
    pq.write_table(pa.Table.from_pylist([ROW, {**ROW, "label": "entailment"}]), tmp_path / "a.parquet")
    data = load_data(f"folder:{tmp_path / 'a.parquet'}")
    assert (data.stored, data.classes) == ([join("a b", "c d")] * 2, ("entailment", "neutral"))
    features = datasets.Features(
        {
            "premise": datasets.Value("string"),
            "hypothesis": datasets.Value("string"),
            "label": datasets.ClassLabel(names=list(CLASSES)),
            "idx": datasets.Value("int32"),
        }
    )
    rows = {"premise": ["a b", "e"], "hypothesis": ["c d", "f"], "label": [2, 0], "idx": [0, 1]}
    datasets.Dataset.from_dict(rows, features).save_to_disk(str(tmp_path / "mnli"))
    data = load_data(f"hf:{tmp_path / 'mnli'}:validation_matched")
    assert (data.stored, data.labels.tolist(), data.classes) == ([join("a b", "c d"), join("e", "f")], [2, 0], CLASSES)


def test_the_report_shows_both_sides_by_name():
    facts = {"first": "premise", "second": "hypothesis"}
    (panel,) = panels(Words(pairs=True), join("a man", "he eats"), join("a man", "he dines"), facts)
    assert panel.runs == [("", "premise: a man | hypothesis: he "), ("del", "eats"), ("ins", "dines")]
