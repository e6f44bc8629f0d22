"""`carom robust` and `carom defend` on the command line."""

from __future__ import annotations

import json

import pytest

FEW = ("--limit", "8", "-q", "-a", "apgd?steps=5", "--eps", "8/255", "--device", "cpu")


def test_robust_prints_one_object(carom, tmp_path):
    code, out, err = carom("robust", "zoo:image-mlp", *FEW, "--json", "--budgets", "2/255")
    assert code == 0, err
    told = json.loads(out)
    keys = {"robust_accuracy", "robust_low", "robust_high", "clean_accuracy", "n", "attacks", "alarms"}
    assert keys <= set(told)
    assert told["n"] == 8
    assert [point["threat"] for point in told["curve"]] == ["linf 2/255", "linf 8/255"]
    assert [one["attacker"] for one in told["attacks"]] == ["adaptive"] + ["query"] * (len(told["attacks"]) - 1)
    assert told["report"] is None
    assert not (tmp_path / "runs").exists()
    code, out, _ = carom("robust", "-s", "zoo:image-mlp", *FEW)
    assert code == 0
    assert "robust accuracy" in out
    code, _, err = carom("robust", "zoo:image-mlp", *FEW, "--fail-below", "1.01")
    assert (code, "gate not met" in err) == (4, True)


def test_texts_are_judged_by_the_union_of_recipes(carom):
    code, out, err = carom("robust", "zoo:text-linear", "--limit", "6", "--eps", "0.3", "-q", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert len({one["attack"] for one in told["attacks"]}) >= 3
    assert all(one["attacker"] == "adaptive" for one in told["attacks"])
    assert told["at_most"] <= min(one["accuracy"] for one in told["attacks"])


def test_defend_prints_what_each_attacker_leaves_and_writes_a_page(carom, tmp_path):
    given = ("-t", "zoo:image-mlp", "-s", "zoo:image-vgg", "--defence", "bit-depth", *FEW, "--out", "judged")
    code, out, err = carom("defend", *given, "--json")
    assert code == 0, err
    told = json.loads(out)["modalities"]["image"]
    plain, defended = told["models"]
    assert (plain["defence"], defended["defence"]) == ("", "bit-depth")
    kinds = {one["attacker"]: one for one in defended["attacks"]}
    assert set(kinds) == {"transfer", "same defence", "adaptive", "query"}
    assert not kinds["transfer"]["evidence"]
    assert kinds["same defence"]["source"] == "image-vgg+bit-depth"
    assert {one["attacker"] for one in plain["attacks"]} == {"transfer", "adaptive", "query"}
    assert defended["clean_cost"] == pytest.approx(plain["clean_accuracy"] - defended["clean_accuracy"])
    assert told["story"]
    page = (tmp_path / "judged" / "report.html").read_text()
    assert "image-mlp+bit-depth" in page
    assert "<script" not in page
    assert json.loads((tmp_path / "judged" / "result.json").read_text())["modalities"]["image"] == told
    assert carom("list", "runs", "--json")[0] == 0

    (tmp_path / "study.toml").write_text(
        'out = "again"\nstore = ".carom/store"\n[image]\ntargets = ["zoo:image-mlp"]\nsources = ["zoo:image-vgg"]\n'
        'defences = ["bit-depth"]\nattacks = ["apgd?steps=5"]\neps = "8/255"\nlimit = 8\n'
    )
    before = sorted(tmp_path.rglob("*.parquet"))
    code, out, err = carom("defend", "study.toml", "--device", "cpu", "-q", "--json")
    assert code == 0, err
    again = json.loads(out)["modalities"]["image"]
    assert sorted(tmp_path.rglob("*.parquet")) == before, "nothing is computed twice"
    assert [m["robust_accuracy"] for m in again["models"]] == [m["robust_accuracy"] for m in told["models"]]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("robust",), "name one model"),
        (("robust", "zoo:image-mlp", "-s", "zoo:image-vgg"), "name one model"),
        (("robust", "zoo:image-mlp", "--defence", "quantise"), "defence of models for audio"),
        (("robust", "zoo:image-mlp", "--defence", "jpg"), "jpeg"),
        (("robust", "zoo:image-forest", "-a", "pgd"), "needs gradient"),
        (("robust", "zoo:image-mlp", "-a", "hqa"), "attack on text"),
        (("robust", "zoo:image-mlp", "--threat", "l2"), "needs a budget"),
        (("robust", "zoo:image-mlp", "--budgets", "2/255,many"), "many"),
        (("robust", "py:nowhere:net", "-m", "image"), "nowhere"),
        (("robust", "py:nowhere:net"), "which modality"),
        (("defend", "--defence", "jpeg"), "which modality"),
        (("defend", "-m", "image", "--defence", "jpeg"), "which model"),
        (("defend", "-t", "zoo:image-mlp", "--defence", "vote"), "nothing to vote on"),
        (("defend", "-t", "zoo:image-mlp", "--defence", "feature-squeezing?split=test"), "Name another"),
        (("defend", "nowhere.toml"), "no such file"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_computed(carom, tmp_path, given, said):
    code, out, err = carom(*given, *(() if "which" in said else ("--limit", "4")), "-q")
    assert (code, out) == (2, "")
    assert said in err, err
    assert err.strip().count("\n") == 0
    assert not list(tmp_path.rglob("*.parquet"))


def test_a_detector_of_an_own_model_asks_for_clean_examples(carom, tmp_path):
    (tmp_path / "own.py").write_text(
        "from torch import nn\ndef net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))\n"
    )
    spec = "py:own:net?normalise=none"
    code, _, err = carom("defend", "-m", "image", "-t", spec, "--defence", "feature-squeezing", "--limit", "4", "-q")
    assert code == 2
    assert "feature-squeezing?data=SPEC" in err
