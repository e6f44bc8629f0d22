"""Text data from every source, and what is said of files that cannot be used."""

from __future__ import annotations

import json

import pytest

from carom.common.base.errors import BadInput, CaromError
from carom.text.data.load import MAX_CHARACTERS, load_data


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return f"folder:{path}"


def test_builtin_reviews():
    data = load_data("builtin:rotten-tomatoes", limit=50)
    assert (len(data), data.modality, data.classes) == (50, "text", ("negative", "positive"))
    assert 15 <= int(data.labels.sum()) <= 35
    assert all(isinstance(t, str) and t for t in data.stored)
    assert data.digest == load_data("builtin:rotten-tomatoes", limit=50).digest
    assert set(data.ids) <= set(load_data("builtin:rotten-tomatoes").ids)
    assert not set(data.ids) & set(load_data("builtin:rotten-tomatoes", split="train").ids)
    with pytest.raises(CaromError, match="Did you mean rotten-tomatoes"):
        load_data("builtin:rotten-tomato")
    with pytest.raises(CaromError, match=r"no split is called 'tset'\. Did you mean test"):
        load_data("builtin:rotten-tomatoes", split="tset")


CSV = 'id,text,label\n1,"good, and\nlong",positive\n2,bad,negative\n\n3,fine,positive\n'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", CSV),
        ("a.CSV", "\ufeff" + CSV),
        ("a.tsv", 'Label\tText\npositive\t"good, and\nlong"\nnegative\tbad\npositive\tfine\n'),
        (
            "a.jsonl",
            '{"text": "good, and\\nlong", "label": "positive"}\n{"text": "bad", "label": "negative"}\n\n'
            '{"text": "fine", "label": "positive"}',
        ),
    ],
)
def test_tables(tmp_path, name, content):
    data = load_data(write(tmp_path / name, content))
    assert data.stored == ["good, and\nlong", "bad", "fine"]
    assert data.labels.tolist() == [1, 0, 1]
    assert data.classes == ("negative", "positive")
    assert data.ids == ["a-000000", "a-000001", "a-000002"]


def test_columns_and_classes_can_be_named(tmp_path):
    spec = write(tmp_path / "a.csv", "headline,stars\ngood,5\nbad,1\n")
    with pytest.raises(CaromError, match=r"which column holds the text\? Pass text= one of headline, stars"):
        load_data(spec)
    with pytest.raises(CaromError, match=r"which column holds the label"):
        load_data(spec, text="headline")
    with pytest.raises(CaromError, match="Did you mean headline"):
        load_data(spec, text="headlines", label="stars")
    data = load_data(f"{spec}?text=headline&label=stars")
    assert (data.classes, data.labels.tolist()) == (("0", "1", "2", "3", "4", "5"), [5, 1])
    data = load_data(spec, text="headline", label="stars", classes="1,5")
    assert (data.classes, data.labels.tolist()) == (("1", "5"), [1, 0])
    with pytest.raises(CaromError, match="no fact about"):
        load_data(spec, column="headline")


def test_labels_are_numbers_or_names(tmp_path):
    rows = [{"text": "a b", "label": 1}, {"text": "c d", "label": 0}]
    spec = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    assert load_data(spec).classes == ("0", "1")
    data = load_data(spec, classes=["negative", "positive"])
    assert (data.classes, data.labels.tolist()) == (("negative", "positive"), [1, 0])
    spec = write(tmp_path / "b.csv", "text,label\na b,good\nc d,bad\n")
    assert load_data(spec).classes == ("bad", "good")
    assert load_data(spec, classes="good,bad").labels.tolist() == [0, 1]
    with pytest.raises(BadInput, match=r"b.csv, line 2: label 'good' is no class of nice, bad"):
        load_data(spec, classes="nice,bad")


def test_folders_of_text_files(tmp_path):
    for name, text in {"pos/1.txt": "good\n", "pos/2.txt": "fine", "neg/1.txt": "bad"}.items():
        write(tmp_path / "test" / name, text)
    data = load_data(f"folder:{tmp_path}")
    assert (data.classes, data.labels.tolist()) == (("neg", "pos"), [0, 1, 1])
    assert data.ids == ["test/neg/1.txt", "test/pos/1.txt", "test/pos/2.txt"]
    assert load_data(f"folder:{tmp_path / 'test'}", classes="pos,neg").labels.tolist() == [1, 0, 0]
    write(tmp_path / "test" / "pos" / "3.txt", b"caf\xe9")
    with pytest.raises(BadInput, match=r"3.txt, line 1: byte 0xe9 is not UTF-8. Save the file as UTF-8"):
        load_data(f"folder:{tmp_path}")
    assert len(load_data(f"folder:{tmp_path}", on_error="skip").skipped) == 1


def test_a_folder_of_tables(tmp_path):
    write(tmp_path / "train.csv", "text,label\na,0\nb,1\n")
    write(tmp_path / "test.csv", "text,label\nc,0\nd,1\n")
    assert load_data(f"folder:{tmp_path}").stored == ["c", "d"]
    assert load_data(f"folder:{tmp_path}", split="train").stored == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", b"text,label\ngood,1\nb\xe4d,0\n", r"a.csv, line 3: byte 0xe4 is not UTF-8"),
        ("a.csv", "text,label\ngood,1\nbad\n", r"a.csv, line 3: 1 fields where the header has 2"),
        ("a.csv", 'text,label\n"good" x,1\n', r"a.csv, line 2: .* Correct the quotes"),
        ("a.csv", "text,label\ngood,1\nbad,99999\n", r"more than 10000 classes. Which column holds the label"),
        ("a.csv", "text,label\n", r"no examples"),
        ("a.csv", "", r"no examples"),
        ("a.jsonl", '{"text": "good", "label": 1}\n{"text": \n', r"a.jsonl, line 2: not JSON"),
        ("a.jsonl", "[1]\n", r"a.jsonl, line 1: a JSON list"),
        ("a.jsonl", '{"text": "good", "label": 1}\n{"text": 3, "label": 1}\n', r"line 2: holds a int, not a text"),
        ("a.jsonl", '{"text": "good", "label": 1}\n{"label": 1}\n', r"line 2: holds a NoneType, not a text"),
        ("a.jsonl", '{"text": "good", "label": 1}\n{"text": "bad"}\n', r"line 2: holds no label"),
        ("a.jsonl", '{"text": "good", "label": 1}\n{"text": "bad", "label": []}\n', r"line 2: label \[\] is no class"),
        ("a.jsonl", '{"text": "good", "label": 1}\n{"text": "bad", "label": -1}\n', r"line 2: label -1 is no class"),
        ("a.jsonl", '{"text": "\\ud800", "label": 1}\n', r"line 1: holds half of a surrogate pair"),
        ("a.csv", "text,label\ngood,1\n  ,0\n", r"a.csv, line 3: the text is empty. Remove the row"),
        ("a.csv", "text,label\nb\0d,0\n", r"a.csv, line 2: holds a NUL character"),
        ("a.csv", f"text,label\n{'x' * (MAX_CHARACTERS + 1)},1\n", r"line 2: 200001 characters, more than 200000"),
        ("a.xlsx", "text", r"a.xlsx: give a table that ends in"),
        ("a.parquet", "text", r"a.parquet: not a Parquet file"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, name, content, says):
    with pytest.raises(CaromError, match=says):
        load_data(write(tmp_path / name, content))


def test_bad_rows_are_all_named_or_left_out(tmp_path):
    spec = write(tmp_path / "a.csv", "text,label\ngood,1\n ,0\nbad,0\nfine,\nnice,1\n")
    with pytest.raises(
        CaromError, match=r"2 inputs cannot be used(.|\n)*line 3: the text(.|\n)*line 5: holds no label"
    ):
        load_data(spec)
    data = load_data(spec, on_error="skip")
    assert data.stored == ["good", "bad", "nice"]
    assert [s.partition(":")[0].rpartition("/")[2] for s in data.skipped] == ["a.csv, line 3", "a.csv, line 5"]
    assert len(load_data(spec, on_error="skip", limit=2)) == 2
    with pytest.raises(CaromError, match="at least one example"):
        load_data(spec, limit=0)


def test_the_readers_limits_are_put_back(tmp_path):
    import csv

    before = csv.field_size_limit()
    load_data(write(tmp_path / "a.csv", f"text,label\n{'x ' * 90_000},1\n"))
    assert csv.field_size_limit() == before


def test_data_sets_of_hugging_face(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=["n", "p"])})
    table = datasets.Dataset.from_dict({"sentence": ["good", "bad", "fine", "?"], "label": [1, 0, 1, -1]}, features)
    datasets.DatasetDict({"validation": table}).save_to_disk(str(tmp_path / "saved"))
    data = load_data(f"hf:{tmp_path / 'saved'}:validation[:3]")
    assert (data.stored, data.labels.tolist(), data.classes) == (["good", "bad", "fine"], [1, 0, 1], ("n", "p"))
    with pytest.raises(BadInput, match=r"row 3: label -1 is no class of n, p"):
        load_data(f"hf:{tmp_path / 'saved'}:validation")
    with pytest.raises(CaromError, match="Did you mean validation"):
        load_data(f"hf:{tmp_path / 'saved'}:validaton")


def test_any_file_of_a_folder_is_a_split_of_its_own_name(tmp_path):
    pytest.importorskip("datasets")
    for name, text in (("validation", "good"), ("validation_matched", "bad")):
        write(tmp_path / "mnli" / f"{name}.csv", f"text,label\n{text},1\nfine,0\n")
    assert load_data(f"hf:{tmp_path / 'mnli'}:validation_matched").stored == ["bad", "fine"]
    assert load_data(f"hf:{tmp_path / 'mnli'}:validation_matched[:1]").stored == ["bad"]
    with pytest.raises(
        CaromError, match=r"A folder holds a table a split: .*mnli/train.csv \(or .jsonl, .json, .parquet"
    ):
        load_data(f"hf:{tmp_path / 'mnli'}:train")


@pytest.mark.parametrize(
    ("spec", "says"), [("folder:/no/such", "no such file or folder"), ("zip:x", "no kind of spec")]
)
def test_specs_that_lead_nowhere(spec, says):
    with pytest.raises(CaromError, match=says):
        load_data(spec)


def test_classes_that_look_the_same_are_remarked_on(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\ngood,Pos\nfine,pos\nbad,neg\n")
    data = load_data(f"folder:{tmp_path}/a.csv")
    assert data.classes == ("Pos", "neg", "pos")
    assert data.remarks == ("'Pos' and 'pos' are taken for two classes: write them alike if they are one",)
    assert not load_data(f"folder:{tmp_path}/a.csv?classes=neg,pos,Pos").remarks


def test_a_row_without_a_label_says_so(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\ngood,1\nbad,\n")
    with pytest.raises(BadInput, match="line 3: holds no label"):
        load_data(f"folder:{tmp_path}/a.csv")
