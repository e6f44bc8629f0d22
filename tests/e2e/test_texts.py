"""Text models and data as their owners have them, through the command line: Hugging Face's folders, a pipeline, a
function; single sentences and pairs; and files of augmented texts."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_hub import bert, pieces_of, word_pieces

from carom.common.api import load_model
from carom.text.pairs import join

datasets = pytest.importorskip("datasets")

SENTENCES = [
    ("a wonderful film with a moving story and great actors", 1),
    ("the plot is dull and the dialogue is terrible", 0),
    ("funny , touching and beautifully shot : see it", 1),
    ("this movie fails to deliver a single laugh", 0),
    ("an honest portrait of a small town", 1),
    ("bad writing ruins what could have been a good thriller", 0),
]
PAIRS = [
    ("A man inspects the uniform of a figure .", "The man is sleeping in a large house", 2),
    ("An older and younger man smiling .", "Two men are smiling at the cats", 1),
    ("A soccer game with multiple males playing", "Some men are playing a sport", 0),
    ("a happy child sings a good song", "a child makes music", 0),
]
NLI = ("entailment", "neutral", "contradiction")
NEWS = ("World", "Sports", "Business", "Sci/Tech")

MODELS = """
def sentiment():
    def probabilities(texts):
        good = [0.1 + sum(w in ("good", "wonderful", "great", "honest") for w in t.lower().split()) for t in texts]
        bad = [0.1 + sum(w in ("bad", "dull", "terrible", "fails") for w in t.lower().split()) for t in texts]
        return [[b / (g + b), g / (g + b)] for g, b in zip(good, bad)]
    return probabilities

def overlap():
    def probabilities(pairs):
        shared = [len(set(a.lower().split()) & set(b.lower().split())) for a, b in pairs]
        return [[s / (s + 2), 1 / (s + 2), 1 / (s + 2)] for s in shared]
    return probabilities

def news():
    words = {"election": 0, "game": 1, "markets": 2, "phones": 3}
    def probabilities(texts):
        return [[0.1 + 0.6 * any(w in t and i == c for w, i in words.items()) for c in range(4)] for t in texts]
    return lambda texts: [[p / sum(row) for p in row] for row in probabilities(texts)]
"""


def _bert(folder: Path, texts: list[str], names: tuple[str, ...]) -> None:
    """A tiny random BERT and its tokenizer, saved as the hub has them."""
    pieces = pieces_of(texts)
    word_pieces(pieces, 64).save_pretrained(folder)
    bert(len(pieces), names, layers=1, seed=1).save_pretrained(folder)


def _hub(folder: Path, split: str, columns: dict[str, list[Any]], names: tuple[str, ...]) -> None:
    """One split of a data set as the hub stores it: data/SPLIT-00000-of-00001.parquet, with its features."""
    kinds = {name: datasets.Value("int32" if isinstance(v[0], int) else "string") for name, v in columns.items()}
    table = datasets.Dataset.from_dict(
        columns, datasets.Features({**kinds, "label": datasets.ClassLabel(names=list(names))})
    )
    (folder / "data").mkdir(parents=True)
    table.to_parquet(str(folder / "data" / f"{split}-00000-of-00001.parquet"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "ours.py").write_text(MODELS)
    return tmp_path


def test_single_sentences_from_a_hub_folder_to_a_pipeline_and_a_function(carom: Any, here: Path) -> None:
    import skops.io
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    texts, labels = [text for text, _ in SENTENCES], [label for _, label in SENTENCES]
    classes = ("negative", "positive")
    _bert(here / "bert", texts, classes)
    _hub(here / "sst2", "validation", {"sentence": texts, "label": labels, "idx": list(range(6))}, classes)
    skops.io.dump(make_pipeline(TfidfVectorizer(), LogisticRegression(C=100)).fit(texts, labels), here / "p.skops")
    models = ("hf:./bert", "sklearn:p.skops", "py:ours:sentiment")
    fitted = "sklearn:p.skops?classes=negative,positive"  # on numbers: the pipeline does not know what they are called
    sources = [part for model in models for part in ("-s", fitted if model.startswith("sklearn") else model)]
    answer = carom(
        *("run", "-m", "text", *sources, "-d", "hf:./sst2:validation", "-a", "greedy-unk"),
        *("--controls", "2", "--out", "r", "--store", "s", "--json", "-q"),
    )
    assert answer.code == 0, answer.err
    part = answer.json["modalities"]["text"]
    assert (part["examples"], part["classes"]) == (6, list(classes))
    assert {(c["source"], c["target"]) for c in part["cells"]} == {(a, b) for a in models for b in models}
    assert {c["source_family"] for c in part["cells"]} == {"transformer", "linear", "other"}
    (own,) = (c for c in part["cells"] if c["source"] == c["target"] == "py:ours:sentiment")
    assert own["white_box"] > 0.5
    assert Path("r/report.html").stat().st_size > 10_000


def test_pairs_from_a_hub_folder_with_a_model_of_three_labels(carom: Any, here: Path) -> None:
    columns = {name: [pair[i] for pair in PAIRS] for i, name in enumerate(("premise", "hypothesis", "label"))}
    _bert(here / "nli", [*columns["premise"], *columns["hypothesis"]], NLI)
    texts = [join(*pair[:2]) for pair in PAIRS]  # the labels are the model's own answers: there is something to break
    columns["label"] = load_model(f"hf:{here / 'nli'}", "text")(texts).logits.argmax(1).tolist()
    _hub(here / "mnli", "validation_matched", {**columns, "idx": [0, 1, 2, 3]}, NLI)
    run = ("run", "-m", "text", "-s", "hf:./nli", "-t", "hf:./nli", "-a", "greedy-unk", "-a", "fast", "--json", "-q")
    data = "hf:./mnli:validation_matched"
    targets = ("-t", "py:ours:overlap?pairs=true", "-t", "hf:./nli?limit=60&name=shorter")
    answer = carom(*run, *targets, "-d", data, "--controls", "2", "--out", "r", "--store", "s")
    assert answer.code == 0, answer.err
    cells = answer.json["modalities"]["text"]["cells"]
    assert {(c["target"], c["attack"]) for c in cells} == {
        (target, attack) for target in ("hf:./nli", "py:ours:overlap", "shorter") for attack in ("greedy-unk", "fast")
    }
    stored = [
        text
        for path in Path("s").glob("*/*.parquet")
        if "input" in (table := pq.read_table(path)).column_names
        for text in table["input"].to_pylist()
    ]
    assert len(stored) == 8
    assert {text.split("\x1f")[0] for text in stored} == set(columns["premise"])
    assert {text.split("\x1f")[1] for text in stored} - set(columns["hypothesis"]), "something was changed"
    assert "premise: " in Path("r/report.html").read_text()

    other = carom(*run, "-d", f"{data}?change=premise", "--out", "p", "--store", "s")
    assert other.code == 0, other.err
    single = carom(*run, "-t", "py:ours:overlap", "-d", data, "--out", "q")
    assert single.code == 2
    assert "py:ours:overlap takes single texts" in single.err
    assert "pairs=true" in single.err
    assert len(single.err.strip().splitlines()) == 1
    alone = carom(*run, "-d", f"{data}?text=hypothesis", "--out", "q")
    assert alone.code == 2
    assert "hf:./nli takes pairs of texts" in alone.err


def test_a_data_set_of_four_classes_from_parquet(carom: Any, here: Path) -> None:
    columns = {"text": ["a game was won", "markets fell", "new phones", "the election"], "label": [1, 2, 3, 0]}
    _hub(here / "ag_news", "test", columns, NEWS)
    answer = carom(
        *("run", "-m", "text", "-s", "py:ours:news", "-d", "hf:./ag_news", "-a", "greedy-delete", "--json", "-q")
    )
    assert answer.code == 0, answer.err
    assert answer.json["modalities"]["text"]["classes"] == list(NEWS)


def _csv(path: Path, rows: list[tuple[Any, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "text", "label"), *rows])


def test_augmented_files_keep_rows_columns_and_labels(carom: Any, here: Path) -> None:
    _csv(here / "in.csv", [(f"n{i}", text, label) for i, (text, label) in enumerate(SENTENCES)])
    answer = carom("augment", "in.csv", "-o", "out.csv", "--copies", "2", "--eps", "0.3", "--json", "-q")
    assert answer.code == 0, answer.err
    assert (answer.json["rows"], answer.json["written"]) == (6, 6 + answer.json["copies"])
    rows = list(csv.DictReader((here / "out.csv").open(encoding="utf-8", newline="")))
    originals = {f"n{i}": (text, str(label)) for i, (text, label) in enumerate(SENTENCES)}
    assert all(row["label"] == originals[row["id"]][1] for row in rows)
    assert sum(row["text"] == originals[row["id"]][0] for row in rows) == 6
    again = carom(
        "augment", "in.csv", "-o", "again.csv", "--copies", "2", "--eps", "0.3", "--batch", "1", "--json", "-q"
    )
    assert again.code == 0
    assert Path("again.csv").read_bytes() == Path("out.csv").read_bytes(), "batches do not matter"
    other = carom("augment", "in.csv", "-o", "out.csv", "--eps", "0.3", "--seed", "1", "-q", "--only-copies")
    assert other.code == 0
    assert len(Path("out.csv").read_text().splitlines()) == 7


def test_the_command_attacks_a_model_when_only_the_model_is_named(carom: Any, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\na fine and moving film,1\na dull and tired film,0\n")
    answer = carom("augment", "train.csv", "-o", "more.csv", "-s", "zoo:text-cnn", "-q", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["recipe"] == "fast"
    assert answer.json["copies"] > 0
    assert "default: synonyms; with -s fast" in " ".join(carom("augment", "--help").out.split())


def test_augment_says_why_texts_have_no_copies(carom: Any, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("text,label\na fine good film,0\nof the,0\na dull and tired film,0\n")
    attacked = carom("augment", "in.csv", "-o", "hard.csv", "-s", "zoo:text-cnn", "-q")
    assert "hard.csv: 1 changed copy, 3 rows as they were\n" in attacked.out
    assert "without a copy: 2 of 3: " in attacked.out
    assert "1 that the model gets wrong already" in attacked.out
    assert "1 in which nothing can be replaced" in attacked.out
    drawn = carom("augment", "in.csv", "-o", "more.csv", "-q", "--only-copies")
    assert drawn.out == (
        "more.csv: 2 changed copies of 3 rows\nwithout a copy: 1 of 3: 1 in which nothing can be replaced\n"
    )
    answer = carom("augment", "in.csv", "-o", "more.csv", "-q", "--json").json
    assert answer["reasons"] == {"in which nothing can be replaced": answer["without_copies"]}


def test_a_model_makes_copies_that_fool_it_and_files_change_format(carom: Any, here: Path) -> None:
    rows = [{"text": text, "label": ("negative", "positive")[i], "meta": {"n": i}} for text, i in SENTENCES]
    Path("in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = (
        "-r",
        "greedy-unk",
        "-s",
        "py:ours:sentiment",
        "--classes",
        "negative,positive",
        "--fooled",
        "--only-copies",
    )
    answer = carom("augment", "in.jsonl", "-o", "out.parquet", *model, "--json", "-q")
    assert answer.code == 0, answer.err
    made = pq.read_table("out.parquet").to_pylist()
    assert len(made) == answer.json["copies"] == answer.json["written"] > 0
    assert set(made[0]) == {"text", "label", "meta"}
    import sys

    sys.path.insert(0, str(here))
    from ours import sentiment

    for row in made:
        label = ("negative", "positive").index(row["label"])
        assert sentiment()([row["text"]])[0][label] <= 0.5
    back = carom("augment", "out.parquet", "-o", "back.jsonl", "-r", "characters", "-q")
    assert back.code == 0, back.err
    assert "meta" in json.loads(Path("back.jsonl").read_text().splitlines()[0])


def test_one_side_of_pairs_is_augmented(carom: Any, here: Path) -> None:
    table = pa.table({name: [pair[i] for pair in PAIRS] for i, name in enumerate(("premise", "hypothesis", "gold"))})
    pq.write_table(table, "mnli.parquet")
    for change, kept in (("second", 0), ("premise", 1)):
        answer = carom("augment", "mnli.parquet", "-o", "out.parquet", "--change", change, "--only-copies", "-q")
        assert answer.code == 0, answer.err
        found = pq.read_table("out.parquet")
        assert found.schema.equals(table.schema)
        name = ("premise", "hypothesis")[kept]
        assert set(found[name].to_pylist()) <= set(table[name].to_pylist())
        other = ("hypothesis", "premise")[kept]
        assert not set(found[other].to_pylist()) & set(table[other].to_pylist())


AUGMENT = {
    "no file": (("none.csv", "-o", "o.csv"), "none.csv: no such file"),
    "no table": (("ours.py", "-o", "o.csv"), "ours.py: give a table that ends in"),
    "no such ending": (("in.csv", "-o", "o.xlsx"), "o.xlsx: give a table that ends in"),
    "onto itself": (("in.csv", "-o", "in.csv"), "Name another to write"),
    "no such column": (("in.csv", "-o", "o.csv", "--text", "txt"), "Did you mean text"),
    "no such recipe": (("in.csv", "-o", "o.csv", "-r", "synonym"), "Did you mean synonyms"),
    "an attack without a model": (("in.csv", "-o", "o.csv", "-r", "pwws"), "recipe pwws attacks a model"),
    "fooled without a model": (("in.csv", "-o", "o.csv", "--fooled"), "asks no model"),
    "a share of three": (("in.csv", "-o", "o.csv", "--eps", "3"), "is no share of the words"),
    "an empty text": (("bad.csv", "-o", "o.csv"), "bad.csv, line 3: the text is empty"),
    "another modality": (
        ("in.csv", "-o", "o.csv", "-m", "image"),
        "augment needs one modality that has recipes: pass --modality, one of text",
    ),
}


@pytest.mark.parametrize("name", AUGMENT)
def test_augment_says_what_it_cannot_use_and_writes_nothing(carom: Any, here: Path, name: str) -> None:
    _csv(here / "in.csv", [("a", "a good film", 1)])
    _csv(here / "bad.csv", [("a", "a good film", 1), ("b", " ", 0)])
    arguments, says = AUGMENT[name]
    before = {path.name for path in here.iterdir()}
    answer = carom("augment", *arguments, "-q")
    assert answer.code == 2, answer.err
    assert says in answer.err
    assert len(answer.err.strip().splitlines()) == 1
    assert {path.name for path in here.iterdir()} == before
    if name == "an empty text":
        kept = carom("augment", *arguments, "-q", "--on-error", "skip")
        assert kept.code == 0
        assert "line 3: the text is empty" in kept.err
        assert [line.split(",")[0] for line in Path("o.csv").read_text().splitlines()] == ["id", "a", "a", "b"]


ODD = {
    "one word": "good",
    "only stop words": "it is what it is",
    "emoji": "😀 a good film 👩‍👩‍👧 🙃",
    "right to left": "\u200fסרט טוב מאוד , فيلم جيد\u200f good",
    "no words": "... !!! —",
    "64 000 words": "the a " * 32_000 + "good film",
    "one long word": "x" * 100_000,
}


def test_odd_texts_go_through_and_those_that_cannot_change_stay(carom: Any, here: Path) -> None:
    _csv(here / "odd.csv", [(name, text, "positive") for name, text in ODD.items()])
    run = ("run", "-m", "text", "-s", "zoo:text-cnn", "-t", "zoo:text-cnn", "-t", "py:ours:sentiment", "--eps", "0.5")
    attacks = [part for name in ("greedy-unk", "bad-characters") for part in ("-a", name)]
    data = "folder:odd.csv?classes=negative,positive"
    answer = carom(*run, *attacks, "-d", data, "--controls", "1", "--store", "s", "--out", "r", "--json", "-q")
    assert answer.code == 0, answer.err
    assert answer.json["modalities"]["text"]["failures"] == []
    tables = [pq.read_table(path) for path in Path("s").glob("*/*.parquet")]
    crafted = [table.to_pylist() for table in tables if "input" in table.column_names]
    assert len(crafted) == 2
    names = list(ODD)
    for rows in crafted:
        texts = dict(zip(names, (row["input"] for row in rows), strict=True))
        assert all(texts[name] == ODD[name] for name in ("only stop words", "no words"))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"text,label\nb\0d film,1\ngood,0\n", "line 2: holds a NUL character"),
        (b"\xff\xfet\0e\0x\0t\0", "line 1: byte 0xff is not UTF-8"),
        (b"text,label\ngood,1\nfine \xc3\x28,1\n", "line 3: byte 0xc3 is not UTF-8"),
        (b"text,label\ngood,1\n" + b"word " * 100_000 + b",0\n", "line 3: 500000 characters, more than 200000"),
        (b"text,label\n", "no examples"),
        (b"premise,hypothesis,label\na,b,0\nc,d,1\n", "takes single texts"),
    ],
)
def test_texts_that_cannot_be_used_are_one_line(carom: Any, here: Path, content: bytes, says: str) -> None:
    (here / "bad.csv").write_bytes(content)
    answer = carom("run", "-m", "text", "-s", "py:ours:sentiment", "-d", "folder:bad.csv", "-a", "greedy-unk", "-q")
    assert answer.code == 2, answer.err
    assert says in answer.err
    assert len(answer.err.strip().splitlines()) == 1
    named = carom("run", "-m", "text", "-s", "py:ours:sentiment", "-d", "folder:bad.csv?text=texts", "-a", "pwws", "-q")
    assert named.code == 2
