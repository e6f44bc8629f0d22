"""Own data from the command line: classes by name, what is doubtful said before the attack, sets for other tools."""

from __future__ import annotations

import json
import os

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

MODELS = """
import torch
from torch import nn

class Level(nn.Module):
    '''Output n where the picture is about as bright as the n-th of `levels`.'''

    def __init__(self, levels):
        super().__init__()
        self.levels = nn.Parameter(torch.tensor(levels))

    def forward(self, x):
        return -100 * (x.flatten(1).mean(1, keepdim=True) - self.levels).abs()

def two(): return Level([0.2, 0.8])
def reversed_two(): return Level([0.8, 0.2])
def twelve(): return Level([(20 * n + 5) / 255 for n in range(12)])
def two_numbers(x): return [[float(i.mean() < 0.5), float(i.mean() >= 0.5)] for i in x]
"""

RUN = ("-m", "image", "-a", "fgsm", "--eps", "1/255", "--controls", "1", "-q", "--json")


@pytest.fixture
def photos(carom, tmp_path):
    (tmp_path / "levels.py").write_text(MODELS)
    for name, value in (("black", 51), ("white", 204)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for k in range(4):
            Image.new("L", (8, 8), value + k).save(tmp_path / "photos" / name / f"{k}.png")
    return "folder:photos"


def accuracies(answer):
    assert answer.code == 0, answer.err
    return [model["clean_accuracy"] for model in answer.json["modalities"]["image"]["models"]]


def test_the_classes_that_a_spec_states_are_the_models(carom, photos):
    right = "py:levels:reversed_two?normalise=none&classes=white,black"
    assert accuracies(carom("run", "-s", right, "-d", photos, *RUN)) == [1]
    # Models of the same names in different orders, of every kind, are compared in one.
    more = ("-t", "py:levels:two?normalise=none&name=two", "-t", right, "-t")
    function = "py:levels:two_numbers?answers=probabilities&classes=black,white"
    answer = carom("run", "-s", right, "-d", photos, *more, function, *RUN)
    assert accuracies(answer) == [1, 1, 1]
    cells = answer.json["modalities"]["image"]["cells"]
    assert [cell["n"] for cell in cells] == [8, 8, 8]


def test_an_ensemble_keeps_what_its_members_state(carom, photos):
    members = "(py:levels:two?normalise=none)+(py:levels:two?normalise=none&classes=black,white)"
    assert accuracies(carom("run", "-s", f"ensemble:{members}", "-d", photos, *RUN)) == [1]
    other = members.replace("black,white", "white,black")
    assert carom("run", "-s", f"ensemble:{other}", "-d", photos, *RUN).code == 2


def test_some_of_a_models_classes(carom, photos, tmp_path):
    (tmp_path / "names.txt").write_text("black\nwhite\n" + "".join(f"other {n}\n" for n in range(998)))
    (tmp_path / "wide.py").write_text(
        "import torch\nfrom levels import Level\nclass Wide(Level):\n"
        "    def forward(self, x): return torch.nn.functional.pad(super().forward(x), (0, 998), value=-1e3)\n"
        "def net(): return Wide([0.2, 0.8])\n"
    )
    spec = "py:wide:net?normalise=none&classes=@names.txt"
    answer = carom("run", "-s", spec, "-d", photos, *RUN)
    assert accuracies(answer) == [1]
    assert len(answer.json["modalities"]["image"]["classes"]) == 1000
    answer = carom("run", "-s", spec.replace("@names.txt", "1000"), "-d", photos, *RUN)
    assert answer.code == 2
    assert "its outputs have no names yet" in answer.err.lower()
    assert "classes=@FILE" in answer.err
    answer = carom("run", "-s", spec, "-d", f"{photos}?classes=@names.txt", *RUN)
    assert accuracies(answer) == [1]


def test_what_looks_the_same_is_proposed_and_the_proposal_leads_on(carom, photos):
    spec = "py:levels:two?normalise=none&classes=Black,WHITE"
    answer = carom("run", "-s", spec, "-d", photos, *RUN)
    assert answer.code == 2
    assert "black = Black, white = WHITE" in answer.err
    proposed = answer.err.rpartition("state so: ")[2].strip()
    assert accuracies(carom("run", "-s", spec, "-d", proposed, *RUN)) == [1]
    answer = carom("run", "-s", "zoo:image-mlp", "-d", f"{photos}?channels=1&size=28", *RUN)
    assert answer.code == 2
    assert "No class of the model is called black, white" in answer.err


def test_an_order_that_is_a_guess_is_asked_for(carom, photos, tmp_path):
    for n in range(12):
        (tmp_path / "levels" / str(n)).mkdir(parents=True)
        for k in range(2):
            Image.new("L", (8, 8), 20 * n + 5 + k).save(tmp_path / "levels" / str(n) / f"{k}.png")
    spec = "py:levels:twelve?normalise=none"
    answer = carom("run", "-s", spec, "-d", "folder:levels", *RUN)
    assert answer.code == 2
    assert not (tmp_path / ".carom").exists()
    proposed = answer.err.rpartition("to its spec: ")[2].strip()
    answer = carom("run", "-s", spec.replace("levels:", "levels:") + "&classes=12", "-d", "folder:levels", *RUN)
    assert accuracies(answer) == [1]
    assert proposed.startswith("&classes=")


def test_a_model_whose_classes_are_in_another_order_is_called_out_before_the_attack(carom, photos, tmp_path):
    for name, value in (("black", 51), ("white", 204)):
        for k in range(4, 8):
            Image.new("L", (8, 8), value + k).save(tmp_path / "photos" / name / f"{k}.png")
    answer = carom("run", "-s", "py:levels:reversed_two?normalise=none", "-d", photos, *RUN)
    assert answer.code == 0
    assert "carom: warning: py:levels:reversed_two is right on 0.000" in answer.err
    assert "white for black" in answer.err
    (said,) = answer.json["modalities"]["image"]["warnings"]
    assert "in another order" in said
    report = next((tmp_path / "runs").rglob("report.html")).read_text()
    assert "in another order" in report
    fine = carom("run", "-s", "py:levels:two?normalise=none", "-d", photos, *RUN)
    assert fine.json["modalities"]["image"]["warnings"] == []
    assert "warning" not in fine.err


def keep(folder):
    table = pq.read_table(f"{folder}/cells.parquet").select(["transfer", "control", "excess", "n", "seed"])
    return table.to_pylist()


@pytest.mark.parametrize("form", ["folder:made", "npz:made.npz", "made.npz"])
def test_what_a_run_crafted_is_exported_and_measured_again(carom, photos, form):
    source = "py:levels:two?normalise=none&name=two"
    run = (*RUN[:-4], "--controls", "2", "-q", "--out", "run", "--eps", "90/255", "-t", "zoo:image-forest")
    run = (*run, "-d", "builtin:fashion-mnist", "--limit", "20")
    assert carom("run", "-s", "zoo:image-mlp", *run).code == 0
    answer = carom("export", "run", "--to", form, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["examples"] == 20
    again = carom("export", "run", "--to", form)
    assert (again.code, "exists. Name another" in again.err) == (2, True)
    path = form.rpartition(":")[2]
    more = ("-d", "builtin:fashion-mnist") if path == "made" else ()
    back = ("--threat", "linf", "--eps", "90/255", "-t", "zoo:image-forest", "--controls", "2", "--out", "back", "-q")
    answer = carom("transfer", "--from", path, "-m", "image", *more, "-s", "zoo:image-mlp", *back)
    assert answer.code == 0, answer.err
    assert keep("back")[0]["transfer"] == keep("run")[0]["transfer"]
    assert keep("back")[0]["n"] == keep("run")[0]["n"]
    assert source


def test_a_folder_is_exported_as_its_clean_files_lie(carom, photos, tmp_path):
    assert carom("run", "-s", "py:levels:two?normalise=none", "-d", photos, *RUN, "--out", "run").code == 0
    assert carom("export", "run", "--to", "folder:made").code == 0
    lie = [
        sorted(os.path.relpath(p, top) for p in top.rglob("*.png"))
        for top in map(tmp_path.joinpath, ("photos", "made"))
    ]
    assert lie[0] == lie[1]
    assert (
        np.abs(
            np.asarray(Image.open("made/black/0.png"), int) - np.asarray(Image.open("photos/black/0.png"), int)
        ).max()
        == 1
    )


def test_one_set_of_several_has_to_be_named(carom, photos):
    both = ("-s", "py:levels:two?normalise=none", "-a", "fgsm", "-a", "pgd?steps=2", "-d", photos, "--eps", "1/255")
    assert carom("run", "-m", "image", *both, "--controls", "1", "-q", "--out", "run").code == 0
    answer = carom("export", "run", "--to", "npz:a.npz")
    assert answer.code == 2
    assert "2 sets fit, name one" in answer.err
    assert carom("export", "run", "--to", "npz:a.npz", "-a", "pgd").code == 0
    for arguments, said in (
        (("run", "--to", "csv:a.csv", "-a", "pgd"), "images and sounds are no table"),
        (("run", "--to", "png:a", "-a", "pgd"), "no form of export is called 'png'"),
        (("run", "--to", "a", "-a", "pgd"), "write FORM:PATH"),
        (("none", "--to", "npz:b.npz"), "no such run"),
        (("photos", "--to", "npz:b.npz"), "not the folder of a finished run"),
        (("run", "--to", "npz:b.npz", "-a", "cw"), "no set fits"),
    ):
        answer = carom("export", *arguments)
        assert (answer.code, said in answer.err) == (2, True), answer.err


def test_texts_and_sounds_are_exported_too(carom, tmp_path):
    text = ("-m", "text", "-s", "zoo:text-linear", "-a", "greedy-delete", "--limit", "4", "--eps", "0.5")
    sound = ("-m", "audio", "-s", "zoo:audio-melcnn", "-a", "fgsm", "--limit", "4", "--eps", "30")
    for name, arguments in (("text", text), ("audio", sound)):
        assert carom("run", *arguments, "--controls", "1", "-q", "--out", name).code == 0
        assert carom("export", name, "--to", f"folder:{name}-files").code == 0
    assert carom("export", "text", "--to", "csv:log.csv").code == 0
    back = carom(
        "transfer", "--from", "log.csv", "-t", "zoo:text-linear", "--controls", "1", "-q", "--json", "--out", "b"
    )
    assert back.code == 0, back.err
    files = ("--from", "audio-files", "-m", "audio", "-d", "builtin:keywords", "--threat", "snr", "--eps", "30")
    back = carom("transfer", *files, "-t", "zoo:audio-melcnn", "--controls", "1", "-q", "--json", "--out", "c")
    assert back.code == 0, back.err
    made = json.loads((tmp_path / "audio" / "result.json").read_text())["modalities"]["audio"]["cells"][0]
    assert back.json["modalities"]["audio"]["cells"][0]["transfer"] == made["transfer"]
    assert len(list((tmp_path / "text-files").rglob("*.txt"))) == 4


def test_a_name_that_is_not_utf8_is_shown_before_anything_is_computed(carom, tmp_path):
    try:
        os.makedirs(os.fsencode(tmp_path) + b"/caf\xe9/a")
    except OSError:
        pytest.skip("a file system of UTF-8 alone")
    answer = carom("run", "-s", "zoo:image-mlp", "-d", "folder:caf\udce9", *RUN)
    assert answer.code == 2
    assert "caf\\xe9: this name is not UTF-8" in answer.err
    assert not (tmp_path / ".carom").exists()


def test_one_class_is_aimed_at(carom):
    aimed = ("run", "-m", "image", "-s", "zoo:image-mlp", "-a", "pgd?steps=5", "--eps", "60/255", "--limit", "20", "-q")
    answer = carom(*aimed, "--target-class", "bag", "--controls", "1", "--json")
    assert answer.code == 0, answer.err
    part = answer.json["modalities"]["image"]
    assert part["target_class"] == "bag"
    assert part["cells"][0]["targeted"] is not None
    answer = carom(*aimed, "--target-class", "bagg")
    assert (answer.code, "Did you mean bag" in answer.err) == (2, True)


def test_a_class_is_aimed_at_for_each_example(carom, tmp_path):
    import carom as api

    ids = api.load_data("builtin:fashion-mnist", limit=12).ids
    names = ["bag", "least-likely", "3"]
    rows = [f"{name},{names[k % 3]}\n" for k, name in enumerate(ids)]
    (tmp_path / "aims.csv").write_text("id,target\n" + "".join(rows))
    aimed = ("run", "-m", "image", "-s", "zoo:image-mlp", "-a", "pgd?steps=5", "--eps", "60/255", "--limit", "12", "-q")
    answer = carom(*aimed, "--target-class", "@aims.csv", "--controls", "1", "--json", "--out", "first")
    assert answer.code == 0, answer.err
    part = answer.json["modalities"]["image"]
    assert part["target_class"] == "a class for each example"
    assert part["cells"][0]["targeted"] is not None
    table = "".join(f'{name} = "{names[k % 3]}"\n' for k, name in enumerate(ids))
    study = '[image]\nsources = ["zoo:image-mlp"]\nattacks = ["pgd?steps=5"]\neps = "60/255"\nlimit = 12\n'
    (tmp_path / "study.toml").write_text(f"controls = 1\n{study}[image.target_class]\n{table}")
    again = carom("run", "study.toml", "-q", "--json", "--out", "second")
    assert again.code == 0, again.err
    assert again.json["modalities"]["image"]["cells"][0]["targeted"] == part["cells"][0]["targeted"]
    (tmp_path / "aims.csv").write_text("id,target\n" + rows[0])
    answer = carom(*aimed, "--target-class", "@aims.csv")
    assert answer.code == 2
    assert "no class for 11 of the 12 examples" in answer.err
    assert len(answer.err.strip().splitlines()) == 1
