"""What other tools crafted is read as it was meant, and measured without being crafted again."""

from __future__ import annotations

import csv
import importlib.util
import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import carom
from carom.common.base.errors import BadInput, CaromError, UnknownName
from carom.common.cli.main import cli
from carom.common.study.replay import AdversarialSet
from carom.text.data.logs import load_log, plain
from carom.text.threats import AnyWords

COLUMNS = (
    *("original_text", "perturbed_text", "original_score", "perturbed_score", "original_output", "perturbed_output"),
    *("ground_truth_output", "num_queries", "result_type"),
)

ROWS = [
    (
        'a [[wonderful]] "film" with a [[moving]] story',
        'a [[grand]] "film" with a [[affecting]] story',
        1,
        0,
        1,
        31,
        "S",
    ),
    ("tedious from start to finish", "tedious from start to finish", 1, 1, 0, 1, "Skipped"),
    (
        "the plot is [[dull]] .<SPLIT>see [chapter] two",
        "the plot is [[slow]] .<SPLIT>see [chapter] two",
        0,
        0,
        0,
        9,
        "F",
    ),
    ("a clever , [[charming]] comedy", "a clever , [[sweet]] [[little]] comedy", "1.0", "0.0", "1.0", "12.0", "S"),
]


@pytest.fixture
def textattack_csv(tmp_path):
    path = tmp_path / "attacks.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow(COLUMNS)
        for original, changed, said, then, label, queries, result in ROWS:
            writer.writerow([original, changed, 0.1, 0.9, said, then, label, queries, result])
    return path


def test_textattacks_log_is_read_without_its_marks(textattack_csv):
    found = AdversarialSet.load(textattack_csv)
    assert repr(found).startswith("AdversarialSet(text: ")
    assert "\n" not in repr(found)
    assert found.clean.stored[0] == 'a wonderful "film" with a moving story'
    assert found.stored[2] == "the plot is slow .\nsee [chapter] two"
    assert found.stored[3] == "a clever , sweet little comedy"
    assert found.labels.tolist() == [1, 0, 0, 1]
    assert [answer.tolist() for answer in found.answers] == [[1, 1, 0, 1], [0, 1, 0, 0]]
    assert found.success.tolist() == [True, True, False, True]
    assert found.cost.queries.tolist() == [31, 1, 9, 12]
    assert found.clean.classes == ("0", "1")
    assert load_log(textattack_csv, classes="bad,good").clean.classes == ("bad", "good")
    assert found.threat.startswith("words as recorded, synonyms")


@pytest.mark.parametrize(
    ("marked", "text"),
    [
        ("a [[b]] c", "a b c"),
        ("a \x1b[92mb\x1b[0m \x1b[38:5:208mc\x1b[0m", "a b c"),
        ("a <font color = red>b</font>", "a b"),
        ("[[[[b]]]]", "[[b]]"),
        ("a [[b c]] [d] [[]]", "a [[b c]] [d] [[]]"),  # no mark of TextAttack's: these hold one word
    ],
)
def test_marks(marked, text):
    assert plain(marked) == text


@pytest.mark.peers
@pytest.mark.skipif(importlib.util.find_spec("textattack") is None, reason="textattack is not installed")
@pytest.mark.parametrize("colours", ["file", None, "ansi", "html"])
def test_what_textattacks_own_logger_writes(colours, networks, sentences, tmp_path):
    from carom.text.textattack.offline import offline

    attack = carom.from_textattack("pwws").attack
    attack.goal_function.model = carom.as_textattack(networks["cnn"])
    from textattack.loggers import CSVLogger

    logger = CSVLogger(str(tmp_path / "log.csv"), color_method=colours)
    with offline():
        results = [attack.attack(text, 1) for text in sentences]
    for result in results:
        logger.log_attack_result(result)
    logger.flush()
    found = AdversarialSet.load(tmp_path / "log.csv")
    assert found.clean.stored == sentences
    assert found.stored == [result.perturbed_result.attacked_text.text for result in results]
    assert found.stored != sentences
    assert found.cost.queries.tolist() == [result.num_queries for result in results]
    assert found.answers[1].tolist() == [result.perturbed_result.output for result in results]


def test_openattacks_results_in_both_forms(tmp_path, networks, sentences):
    data = carom.load_data("builtin:rotten-tomatoes", limit=3)
    table = tmp_path / "open.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["origin", "attack"], [data.stored[0], "another text"], [data.stored[2], ""]])
    found = load_log(table, data=data)
    assert found.labels.tolist() == data.labels[[0, 2]].tolist()
    assert found.stored == ["another text", data.stored[2]]
    assert found.answers is None
    with pytest.raises(CaromError, match=r"line 2: no label, as in 2 of 2 rows.*--data"):
        load_log(table)
    with pytest.raises(BadInput, match=r"line 3: no label and .* no such text, as in 1 of 2"):
        load_log(table, data=data.take(torch.tensor([0, 1])))
    rows = [
        {"data": {"x": "a fine film", "y": 1}, "success": True, "result": "a good film", "metrics": {}},
        {
            "data": {"x": "a dull film", "y": 0},
            "success": False,
            "result": None,
            "metrics": {"Victim Model Queries": 7, "Running Time": 0.1},
        },
    ]
    (tmp_path / "open.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "open.json").write_text(json.dumps(rows))
    for name in ("open.jsonl", "open.json"):
        found = AdversarialSet.load(tmp_path / name)
        assert (found.labels.tolist(), found.success.tolist()) == ([1, 0], [True, False])
        assert found.stored == ["a good film", "a dull film"]
        assert found.cost.queries.tolist() == [0, 7]


def test_any_table_and_what_its_controls_are_drawn_from(tmp_path):
    (tmp_path / "t.tsv").write_text("before\tafter\ty\na good film\ta godo fillm\tpos\na bad film\ta bda film\tneg\n")
    found = load_log(tmp_path / "t.tsv", original="before", perturbed="after", label="y")
    assert found.clean.classes == ("neg", "pos")
    assert found.labels.tolist() == [1, 0]
    assert "misspellings" in found.threat
    assert (
        "mixed" in load_log(tmp_path / "t.tsv", original="before", perturbed="after", label="y", noise="mixed").threat
    )
    with pytest.raises(UnknownName, match="synonyms"):
        load_log(tmp_path / "t.tsv", noise="synonym")
    with pytest.raises(UnknownName, match="after"):
        load_log(tmp_path / "t.tsv", original="before", perturbed="aftr", label="y")


BAD = {
    "no changed text": (b"original_text,label\nx,1\n", "which column holds the perturbed"),
    "not UTF-8": (b"original_text,perturbed_text,ground_truth_output\na,b,1\n\xff,b,1\n", "line 3.*not UTF-8"),
    "label out of range": (b"original_text,perturbed_text,ground_truth_output\na,b,7\n", "line 2.*label 7 is no class"),
    "no label": (b"original_text,perturbed_text\na,b\n", "line 2: no label, as in 1 of 1 rows"),
    "an empty text": (b'original_text,perturbed_text,ground_truth_output\n" ",b,1\n', "line 2.*empty"),
    "answer out of range": (
        b"original_text,perturbed_text,ground_truth_output,original_output,perturbed_output\na,b,1,1,5\n",
        "answer 5 is no class",
    ),
    "several texts": (
        b"original_text,perturbed_text,ground_truth_output\n"
        b"[[[[Premise]]]]: a<SPLIT>[[[[Hypothesis]]]]: b,[[[[Premise]]]]: c<SPLIT>[[[[Hypothesis]]]]: b,1\n",
        "several texts.*premise, hypothesis",
    ),
    "nothing": (b"original_text,perturbed_text,ground_truth_output\n", "no examples"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_logs_are_one_line_that_names_file_and_remedy(case, tmp_path):
    content, said = BAD[case]
    path = tmp_path / "log.csv"
    path.write_bytes(content)
    with pytest.raises(CaromError, match=f"(?s)log.csv.*{said}") as caught:
        load_log(path, classes=("negative", "positive"))
    assert str(caught.value).count("\n") == 0


def test_bad_rows_can_be_skipped(tmp_path):
    (tmp_path / "log.csv").write_text("original_text,perturbed_text,ground_truth_output\na,b,1\nc,d,9\n")
    found = load_log(tmp_path / "log.csv", classes=("n", "p"), on_error="skip")
    assert found.clean.stored == ["a"]
    assert "label 9" in found.clean.skipped[0]


def test_any_words_are_bounded_by_their_number_alone():
    texts = ["a b c d e f g h i j"] * 4
    changed = ["a b c d e f g h i X", "a b c d e f g h X Y", "a b c d e f g h i", "A B C D E F G H I J K"]
    assert AnyWords(0.1).allows(changed, texts).tolist() == [True, False, True, False]
    assert AnyWords(1.0).allows(changed, texts).tolist() == [True] * 4
    assert AnyWords(0.0).allows([texts[0], changed[0]], texts[:2]).tolist() == [True, False]


@pytest.fixture
def crafted(tmp_path):
    model, data = carom.load_model("zoo:text-cnn"), carom.load_data("builtin:rotten-tomatoes", limit=24)
    return carom.attack(model, data, "greedy-unk", eps=0.5)


def run(*arguments):
    result = CliRunner().invoke(cli, ["transfer", *map(str, arguments), "--json", "-q"])
    return result.exit_code, (json.loads(result.stdout) if result.exit_code == 0 else None), result.exception


def test_a_saved_set_measures_as_the_run_that_crafted_it(crafted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    targets = ["zoo:text-cnn", "zoo:text-linear"]
    made = carom.transfer(targets[:1], targets, ["greedy-unk"], crafted.clean, eps=0.5, controls=2).rows()
    crafted.save("set.parquet")
    code, out, _ = run("--from", "set.parquet", "-t", targets[0], "-t", targets[1], "--controls", 2, "--out", "run")
    assert code == 0
    cells = out["modalities"]["text"]["cells"]
    for one, other in zip(made, cells, strict=True):
        for name in ("n", "transfer", "control", "excess", "relative", "white_box", "swapped", "queries", "excess_low"):
            assert one[name] == other[name], name
    assert (tmp_path / "run" / "report.html").stat().st_size > 1000
    assert CliRunner().invoke(cli, ["report", "run", "-q", "--trust"]).exit_code == 0


def test_a_log_measures_with_its_sources_answers_or_its_source(crafted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = carom.load_model("zoo:text-cnn")
    said, then = (model(list(texts)).logits.argmax(1).tolist() for texts in (crafted.clean.stored, crafted.stored))
    labels = crafted.labels.tolist()
    with open("log.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["original_text", "perturbed_text", "original_output", "perturbed_output", "label"])
        writer.writerows(zip(crafted.clean.stored, crafted.stored, said, then, labels, strict=True))
    first = ("--from", "log.csv", "--label", "label", "-t", "zoo:text-linear", "--out", "run")
    code, out, _ = run(*first)
    assert code == 0
    (told,) = out["modalities"]["text"]["cells"]
    code, out, _ = run(*first, "-s", "zoo:text-cnn")
    (asked,) = out["modalities"]["text"]["cells"]
    for name in ("n", "transfer", "control", "excess", "conditional", "same_mistake", "white_box", "swapped"):
        assert told[name] == asked[name], name
    assert told["relative"] is None
    assert asked["relative"] is not None
    # Without answers: over all that the target gets right.
    text = (
        (tmp_path / "log.csv")
        .read_text(encoding="utf-8")
        .replace("original_output", "x")
        .replace("perturbed_output", "z")
    )
    (tmp_path / "log.csv").write_text(text, encoding="utf-8")
    code, out, _ = run(*first)
    (silent,) = out["modalities"]["text"]["cells"]
    assert silent["n"] > told["n"]
    assert silent["white_box"] is None
    assert "not known" in silent["warnings"][0]
    held = carom.replay(crafted, ["zoo:text-linear"], controls=2).rows()[0]
    assert held["transfer"] == told["transfer"]


def test_sets_of_other_modalities_are_measured_the_same_way(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = carom.load_data("builtin:fashion-mnist", limit=32)
    found = carom.attack(carom.load_model("zoo:image-mlp"), data, "fgsm", eps="8/255")
    found.save("set.parquet")
    code, out, _ = run("--from", "set.parquet", "-t", "zoo:image-forest", "--controls", 1, "--out", "run")
    assert code == 0
    (cell,) = out["modalities"]["image"]["cells"]
    outcome = carom.transfer(["zoo:image-mlp"], ["zoo:image-forest"], ["fgsm"], data, eps="8/255", controls=1)
    made = outcome.rows()[0]
    assert outcome.report("page/report.html").resolve() == (tmp_path / "page" / "report.html")
    assert (tmp_path / "page" / "report.html").exists()
    assert (cell["transfer"], cell["control"]) == (made["transfer"], made["control"])
    # The same as arrays: real values, channels last, of a source that is named.
    pairs = {"clean": data.stored, "adversarial": found.stored}
    real = {name: (stored.float() / 255).permute(0, 2, 3, 1).numpy() for name, stored in pairs.items()}
    np.savez("pairs.npz", **real, labels=data.labels.numpy())
    asked = ("--from", "pairs.npz", "-t", "zoo:image-forest", "--out", "run", "--threat", "linf")
    code, out, _ = run(*asked, "--eps", "8/255", "-m", "image", "-s", "zoo:image-mlp")
    assert code == 0
    (cell,) = out["modalities"]["image"]["cells"]
    assert cell["transfer"] == made["transfer"]
    for more, said in (
        (("--eps", "8/255"), "of which modality"),
        (("--eps", "7/255", "-m", "image"), "leave the budget linf 7/255, by up to 8/255"),
    ):
        assert said in str(run(*asked, *more)[2])
    np.savez("bad.npz", clean=np.zeros(3), adversarial=np.zeros(3))
    with pytest.raises(CaromError, match="no array labels"):
        AdversarialSet.load("bad.npz", "audio")


def test_wrong_use_exits_with_2(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments, said in (
        (("--from", "none.csv"), "none.csv: no such"),
        (("--from", __file__), "not an adversarial set"),
        (("--from", __file__, "--threat", "words"), "not an adversarial set"),
    ):
        code, _, error = run(*arguments)
        assert code != 0
        assert isinstance(error, CaromError)
        assert said in str(error)
