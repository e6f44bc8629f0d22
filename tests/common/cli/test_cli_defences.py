"""Defences on the command line: listed, shown, put around targets, named in one string."""

from __future__ import annotations

import json

import pytest

FEW = ("--limit", "12", "--controls", "1", "--json", "-q")


def test_defences_are_listed(carom):
    code, out, _ = carom("list", "defences", "--json")
    rows = json.loads(out)
    assert code == 0
    wanted = {"name", "modality", "kind", "paper", "adaptation", "cost", "departures", "parameters"}
    assert all(wanted <= set(row) for row in rows)
    assert {"jpeg", "noise", "vote", "feature-squeezing"} <= {row["name"] for row in rows if row["modality"] == "image"}
    code, out, _ = carom("list", "defences", "-m", "audio", "--json")
    assert {row["modality"] for row in json.loads(out)} == {"audio"}
    code, out, err = carom("list", "defences")
    assert code == 0
    assert "feature-squeezing" in out
    assert err == ""


def test_a_defence_is_shown_and_so_is_a_model_behind_it(carom):
    told = json.loads(carom("show", "resize-pad", "--json")[1])
    assert (told["kind"], told["adaptation"]) == ("random", ["exact", "expectation"])
    assert told["parameters"] == {"least": 0.85, "seed": 0}
    assert json.loads(carom("show", "defence:noise", "-m", "audio", "--json")[1])["parameters"]["sigma"] == 0.005
    model = json.loads(carom("show", "defended:zoo:image-vgg+noise+vote?draws=5", "--json")[1])
    assert model["name"] == "image-vgg+noise+vote?draws=5"
    assert model["grants"] == ["label", "score", "gradient"]
    assert model["random"] is True
    assert model["draws averaged by an attacker"] == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "jpegg"), "Did you mean jpeg"),
        (("show", "defended:zoo:image-vgg+jpegg"), "Did you mean jpeg?"),
        (("show", "defended:zoo:image-vgg"), "write defended:zoo:NAME+DEFENCE"),
        (
            ("run", "-m", "image", "--defence", "shift", "--dry-run"),
            "shift is a defence of models for audio, not for image",
        ),
        (("run", "-m", "image", "--defence", "vote", "--limit", "4"), "nothing to vote on"),
        (
            ("run", "-s", "zoo:image-vgg", "-m", "image", "--defence", "feature-squeezing?split=test", "--limit", "4"),
            "not found on the split that is attacked",
        ),
    ],
)
def test_what_cannot_be_had_is_said_in_one_line(carom, arguments, said):
    code, out, err = carom(*arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_a_defence_stands_around_every_target_beside_it(carom, tmp_path):
    asked = ("run", "-m", "image", "-s", "zoo:image-vgg", "-t", "zoo:image-mlp", "-t", "zoo:image-vgg", "-a", "fgsm")
    code, out, _ = carom(*asked, "--defence", "bit-depth?bits=2", "--defence", "noise+vote?draws=3", *FEW)
    assert code == 0
    found = json.loads(out)["modalities"]["image"]
    names = [cell["target"] for cell in found["cells"]]
    tails = ("", "+bit-depth?bits=2", "+noise+vote?draws=3")
    assert sorted(names) == sorted(f"image-{name}{tail}" for name in ("mlp", "vgg") for tail in tails)
    [folder] = (tmp_path / "runs").iterdir()
    saved = json.loads((folder / "study.json").read_text())["modalities"]["image"]
    assert saved["defences"] == []
    assert "defended:zoo:image-mlp+noise+vote?draws=3" in [target["spec"] for target in saved["targets"]]


def test_a_study_file_names_defences_and_defended_sources(carom, tmp_path):
    lines = (
        "controls = 1",
        "[image]",
        'sources = ["defended:zoo:image-vgg+noise"]',
        'targets = [{spec = "zoo:image-vgg", name = "mine"}]',
        'attacks = ["bim?steps=2&eot=2"]',
        'defences = ["noise"]',
        "limit = 8",
    )
    (tmp_path / "study.toml").write_text("\n".join(lines))
    code, out, _ = carom("run", "study.toml", "--json", "-q")
    assert code == 0
    cells = json.loads(out)["modalities"]["image"]["cells"]
    assert [(cell["source"], cell["target"]) for cell in cells] == [
        ("image-vgg+noise", "mine"),
        ("image-vgg+noise", "mine+noise"),
    ]


def test_workers_answer_as_one_process_does(carom):
    asked = (
        "run",
        "-m",
        "image",
        "-s",
        "defended:zoo:image-mlp+noise",
        "-t",
        "defended:zoo:image-mlp+noise",
        "-a",
        "fgsm",
    )
    tables = []
    for number, more in enumerate([("--batch", "5"), ("--workers", "2")]):
        out = json.loads(carom(*asked, *FEW, "--store", f"store{number}", *more)[1])
        tables.append([{k: v for k, v in c.items() if k != "seconds"} for c in out["modalities"]["image"]["cells"]])
    assert tables[0] == tables[1]
