"""Bad input: one line that names the file and the remedy, exit code 2, and nothing computed is lost."""

from __future__ import annotations

import errno
import inspect
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from carom.common.api import attack, get_attack, load_data, load_model
from carom.common.base.errors import CaromError
from carom.common.base.files import file_for, folder_for
from carom.common.modality.installed import get_modality
from carom.common.modality.registry import build_attack, list_attacks

IMAGE = (
    "--modality",
    "image",
    "-s",
    "py:m:cnn?normalise=none",
    "-a",
    "fgsm",
    "--eps",
    "8/255",
    "-d",
    "folder:data?channels=3",
)
AUDIO = ("--modality", "audio", "-s", "py:m:wave?sample_rate=16000", "-a", "fgsm", "-d", "folder:data")
TEXT = ("--modality", "text", "-s", "py:m:words", "-a", "greedy-delete", "-d", "folder:data.csv")

MODELS = """
import torch
from torch import nn
def cnn():
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 2))
def fixed():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 9 * 9, 2))
def grey():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
def flat(images):
    return images.reshape(len(images), -1) @ torch.ones(5, 2).numpy()
def conv():
    return nn.Sequential(nn.Conv1d(1, 4, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 2))
def wave():
    return nn.Sequential(nn.Unflatten(1, (1, -1)), nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(4, 2))
def words():
    return lambda texts: [[0.4, 0.6] for _ in texts]
"""


def _png(path: Path, size: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size, size, 3), 90, np.uint8)).save(path)


def _wav(path: Path, samples: Any = None, rate: int = 16000, subtype: str = "PCM_16") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.1 * np.sin(np.arange(2000) / 9) if samples is None else samples
    soundfile.write(path, wave, rate, subtype=subtype)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "m.py").write_text(MODELS)
    return tmp_path


def _images(spoil: Callable[[Path], None]) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        _png(root / "data" / "a" / "1.png")
        _png(root / "data" / "b" / "2.png")
        spoil(root / "data" / "b" / "bad.png")

    return make


def _sounds(spoil: Callable[[Path], None]) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        _wav(root / "data" / "a" / "1.wav")
        _wav(root / "data" / "b" / "2.wav")
        spoil(root / "data" / "b" / "bad.wav")

    return make


def _texts(content: bytes) -> Callable[[Path], None]:
    return lambda root: (root / "data.csv").write_bytes(content) and None


def _truncate(path: Path, write: Callable[[Path], None]) -> None:
    write(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


NAN = np.full(2000, np.nan)
CASES: dict[str, tuple[Callable[[Path], None], tuple[str, ...], str]] = {
    "no folder": (lambda root: None, IMAGE, "data"),
    "empty folder": (lambda root: (root / "data").mkdir(), IMAGE, "data"),
    "not an image": (_images(lambda p: p.write_text("no image") and None), IMAGE, "bad.png"),
    "truncated image": (_images(lambda p: _truncate(p, _png)), IMAGE, "bad.png"),
    "image of another size": (_images(lambda p: _png(p, 9)), IMAGE, "bad.png"),
    "wrong shape for the model": (
        _images(lambda p: None),
        (*IMAGE[:2], "-s", "py:m:fixed?normalise=none&shape=3x9x9", *IMAGE[4:]),
        "3x9x9",
    ),
    "no number of channels": (_images(lambda p: None), (*IMAGE[:-1], "folder:data?channels=abc"), "channels='abc'"),
    "no number of samples": (
        _sounds(lambda p: None),
        (*AUDIO[:2], "-s", "py:m:wave?sample_rate=16000&samples=1/2", *AUDIO[4:]),
        "samples=0.5",
    ),
    "other channels than the model's": (
        _images(lambda p: None),
        (*IMAGE[:2], "-s", "py:m:grey?normalise=none", *IMAGE[4:]),
        "model py:m:grey cannot take examples of folder:data, which have shape 3x8x8. Read the data as",
    ),
    "other channels than one of several models'": (
        _images(lambda p: None),
        (*IMAGE, "-t", "py:m:grey?normalise=none"),
        "expected input[16, 3, 8, 8] to have 1 channels",
    ),
    "images below the kernel": (
        lambda root: [_png(root / "data" / name / "1.png", 1) for name in "ab"] and None,
        (*IMAGE[:2], "-s", "py:m:grey?normalise=none", *IMAGE[4:-1], "folder:data?channels=1"),
        "which have shape 1x1x1",
    ),
    "other images than a function's": (
        _images(lambda p: None),
        (*IMAGE[:2], "-s", "py:m:flat?answers=logits", "-a", "square", *IMAGE[6:]),
        "cannot take examples of folder:data, which have shape 3x8x8",
    ),
    "an attack that asks first what kind a model is": (
        _images(lambda p: None),
        (*IMAGE[:2], "-s", "py:m:grey?normalise=none", "-a", "sgm", *IMAGE[6:]),
        "cannot take examples of folder:data",
    ),
    "sounds that a model wants otherwise": (
        _sounds(lambda p: None),
        (*AUDIO[:2], "-s", "py:m:conv?sample_rate=16000", *AUDIO[4:]),
        "Sounds come as [N, samples]",
    ),
    "not a sound": (_sounds(lambda p: p.write_text("no sound") and None), AUDIO, "bad.wav"),
    "truncated sound": (_sounds(lambda p: p.write_bytes(b"RIFF\x10\x00") and None), AUDIO, "bad.wav"),
    "empty sound": (_sounds(lambda p: _wav(p, np.zeros(0))), AUDIO, "bad.wav"),
    "NaN samples": (_sounds(lambda p: _wav(p, NAN, subtype="FLOAT")), AUDIO, "bad.wav"),
    "infinite samples": (_sounds(lambda p: _wav(p, NAN * 0 + np.inf, subtype="FLOAT")), AUDIO, "bad.wav"),
    "samples beyond full scale": (_sounds(lambda p: _wav(p, np.full(2000, 3.0), subtype="FLOAT")), AUDIO, "bad.wav"),
    "mixed sample rates": (_sounds(lambda p: _wav(p, rate=8000)), AUDIO, "8000"),
    "sample rate of another model": (
        _sounds(lambda p: None),
        (*AUDIO[:2], "-s", "py:m:wave?sample_rate=8000", *AUDIO[4:]),
        "8000",
    ),
    "empty text": (_texts(b'text,label\n"a fine film",1\n"",0\n'), TEXT, "data.csv"),
    "a megabyte of text": (_texts(b"text,label\nfine,1\n" + b"word " * 210_000 + b",0\n"), TEXT, "data.csv"),
    "not UTF-8": (_texts(b"text,label\nfine \xff\xfe film,1\n"), TEXT, "data.csv"),
    "no such column": (_texts(b"colour,label\nfine film,1\n"), TEXT, "data.csv"),
    "label outside the classes": (
        _texts(b"text,label\nfine film,7\nsad film,0\n"),
        (*TEXT[:-1], "folder:data.csv?classes=negative,positive"),
        "7",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_data_is_one_line_that_names_it_and_exit_code_2(carom: Any, folder: Path, name: str) -> None:
    make, arguments, named = CASES[name]
    make(folder)
    answer = carom("run", *arguments, "--out", "r", "-q")
    assert answer.code == 2, (answer.code, answer.err)
    assert named in answer.err, answer.err
    assert len(answer.err.strip().splitlines()) == 1, answer.err
    assert "Traceback" not in answer.err
    assert answer.out == ""


def test_bad_files_among_many_are_named_and_skipped_only_when_asked(carom: Any, folder: Path) -> None:
    for i in range(4):
        _png(folder / "data" / "a" / f"{i}.png")
        _png(folder / "data" / "b" / f"{i}.png")
    (folder / "data" / "a" / "one.png").write_text("no")
    (folder / "data" / "b" / "two.png").write_text("no")
    stopped = carom("run", *IMAGE, "--out", "r", "-q")
    assert stopped.code == 2
    assert "one.png" in stopped.err
    assert "two.png" in stopped.err
    skipped = carom("run", *IMAGE, "--out", "r", "-q", "--on-error", "skip", "--json")
    assert skipped.code == 0, skipped.err
    part = skipped.json["modalities"]["image"]
    assert part["examples"] == 8
    assert len(part["skipped"]) == 2


def test_nothing_is_computed_with_a_model_that_cannot_take_the_data(carom: Any, folder: Path) -> None:
    _images(lambda p: None)(folder)
    answer = carom("run", *IMAGE, "-t", "py:m:grey?normalise=none", "--out", "r", "-q", "--store", "s")
    assert answer.code == 2
    assert len(list(Path("s").rglob("*.parquet"))) <= 1, "the clean answers of the model before it at most"
    made = ("surrogate", "lgv", "py:m:grey?normalise=none", "-m", "image", "-d", "folder:data", "--split", "all")
    answer = carom(*made, "--held-out", "all", "--per-epoch", "1", "--out", "s.safetensors", "-q")
    assert answer.code == 2
    assert "model py:m:grey cannot take examples of folder:data, which have shape 3x8x8" in answer.err
    model = load_model(torch.nn.Conv2d(1, 2, 3), "image", normalise=None, classes=["a", "b"])
    with pytest.raises(CaromError, match="Conv2d cannot take examples of folder:data"):
        attack(model, load_data("folder:data?channels=3", modality="image"), "fgsm", eps="8/255")


class Evil:
    def __reduce__(self) -> Any:
        return (Path("canary").write_text, ("sung",))


@pytest.mark.parametrize("spec", ["sklearn:evil.pkl", "sklearn:evil.skops", "safetensors:evil.pt#m:cnn?normalise=none"])
def test_a_pickle_is_refused_unread(carom: Any, folder: Path, spec: str) -> None:
    _images(lambda p: None)(folder)
    path = folder / spec.split(":")[1].split("#")[0]
    path.write_bytes(pickle.dumps(Evil()))
    answer = carom("run", *IMAGE[:2], "-s", spec, *IMAGE[4:], "--out", "r", "-q")
    assert answer.code == 2, answer.err
    assert path.name in answer.err
    assert not (folder / "canary").exists()


COLOURED = ("run", "-m", "image", "-s", "zoo:image-vgg", "-a", "fgsm", "-d", "folder:data?channels=3")
REMEDIES = {
    "classes of a table": (
        ("run", "-m", "text", "-s", "zoo:text-cnn", "-d", "folder:data.csv"),
        "state those of the data as the model has them: folder:data.csv?classes=negative,positive",
    ),
    "a fact in a spec": (
        ("run", *IMAGE[:2], "-s", "py:m:cnn", *IMAGE[4:]),
        "In its spec, for example: ?normalise=none",
    ),
    "another size": (COLOURED, "in their spec: folder:PATH?channels=1&size=28"),
    "a level": ((*COLOURED, "--match", "0.5,1.5"), "--match 0.5,1.5: levels are shares between 0 and 1"),
    "a setting": ((*COLOURED, "--controls", "200"), "--controls: Input should be less than or equal to 100"),
    "another modality's attack": (
        ("run", "-m", "text", "-s", "zoo:text-cnn", "-a", "pgd"),
        "is an attack on image and audio",
    ),
    "another modality's model": (("run", "-m", "image", "-s", "zoo:text-cnn"), "is a model for text, not for image"),
    "two modalities": (
        ("run", "-s", "zoo:image-vgg", "-t", "zoo:text-cnn"),
        "zoo:image-vgg is a model for image and zoo:text-cnn is a model for text: they take other inputs",
    ),
    "a modality that the model tells": (("run", "-s", "zoo:image-vgg"), "pass --modality image."),
}


@pytest.mark.parametrize("name", REMEDIES)
def test_remedies_can_be_typed_where_the_error_is_met(carom: Any, folder: Path, name: str) -> None:
    _png(folder / "data" / "a" / "1.png")
    _png(folder / "data" / "b" / "2.png")
    _texts(b"text,label\nfine film,1\nsad film,0\n")(folder)
    arguments, said = REMEDIES[name]
    answer = carom(*arguments, "--dry-run")
    assert answer.code == 2, answer.err
    assert said in answer.err


def test_the_remedy_for_classes_is_one(carom: Any, folder: Path) -> None:
    _texts(b"text,label\nfine film,1\nsad film,0\n")(folder)
    spec = "folder:data.csv?classes=negative,positive"
    assert carom("run", "-m", "text", "-s", "zoo:text-cnn", "-d", spec, "--dry-run").code == 0


USAGE = {
    "unknown modality": (("run", "--modality", "imgae", "-s", "zoo:image-tree"), "image"),
    "unknown model": (("run", "-m", "image", "-s", "zoo:image-resnt"), "image-resnet"),
    "unknown attack": (("run", "-m", "image", "-s", "zoo:image-tree", "-a", "leafpath"), "leaf-path"),
    "unknown parameter": (("run", "-m", "image", "-s", "zoo:image-resnet", "-a", "pgd?step=3"), "steps"),
    "no whole number": (("run", "-m", "image", "-s", "zoo:image-resnet", "-a", "pgd?steps=1.5"), "pgd: steps takes"),
    "no steps": (
        ("run", "-m", "image", "-s", "zoo:image-resnet", "-a", "pgd?steps=0"),
        "steps takes a whole number, 1",
    ),
    "infinite": (("run", "-m", "image", "-s", "zoo:image-resnet", "-a", "mi-fgsm?decay=inf"), "decay takes a finite"),
    "no share": (
        ("run", "-m", "text", "-s", "zoo:text-cnn", "-a", "pwws?until=-1"),
        "until takes a finite number or none",
    ),
    "a word": (("run", "-m", "text", "-s", "zoo:text-cnn", "-a", "pwws?confidence=abc"), "confidence takes a finite"),
    "twice": (("run", "-m", "image", "-s", "zoo:image-resnet", "-a", "pgd?steps=3&steps=4"), "steps is given twice"),
    "unknown data": (("run", "-m", "image", "-s", "zoo:image-tree", "-d", "builtin:fashion"), "fashion-mnist"),
    "unknown threat": (("run", "-m", "image", "-s", "zoo:image-tree", "--threat", "linff", "--eps", "1"), "linf"),
    "no folder of a model": (("run", "-m", "image", "-s", "hf:./hf/none", "-a", "pgd"), "./hf/none: no such folder"),
    "no folder of words": (
        ("run", "-m", "text", "-s", "zoo:text-cnn", "-a", "bae?lm=/no/lm"),
        "/no/lm: no such folder",
    ),
    "no folder of data": (
        ("run", "-m", "text", "-s", "zoo:text-cnn", "-d", "hf:../none:test"),
        "../none: no such folder",
    ),
    "unknown command": (("rnu",), "run"),
    "unknown option": (("run", "--sorce", "x"), "--source"),
    "no number": (("run", "-m", "image", "-s", "zoo:image-tree", "-a", "leaf-path", "--eps", "eight"), "8/255"),
    "attack the source cannot bear": (("run", "-m", "image", "-s", "zoo:image-tree", "-a", "pgd"), "leaves"),
    "no modality": (("run", "-s", "zoo:image-tree"), "--modality"),
    "no such study": (("run", "none.toml"), "none.toml"),
    "unknown device": (("run", "-m", "image", "-s", "zoo:image-tree", "--device", "gpu0"), "--device"),
    "limit of nothing": (("demo", "--limit", "0"), "limit"),
}


@pytest.mark.parametrize("name", USAGE)
def test_usage_errors_say_what_is_meant(carom: Any, name: str) -> None:
    arguments, hint = USAGE[name]
    answer = carom(*arguments)
    assert answer.code == 2, (answer.code, answer.err)
    assert hint in answer.err, answer.err


def test_attacks_made_in_python_are_checked_too() -> None:
    with pytest.raises(CaromError, match="attack pgd: steps takes a whole number, 1 or more, not -3"):
        get_attack("pgd", steps=-3)


def test_every_attack_says_of_each_number_what_it_takes() -> None:
    for owner, info in list_attacks():
        for name, parameter in inspect.signature(info.build, eval_str=True).parameters.items():
            if re.search("int|float", str(parameter.annotation)):
                with pytest.raises(CaromError, match=f"attack {info.name}: {name} takes .* number"):
                    build_attack(get_modality(owner), info, {name: "many"})


RUN = ("run", "-m", "image", "-s", "zoo:image-tree", "-a", "leaf-path", "--limit", "2")
NEEDS = "No such file or directory. Name another"
OUTPUTS = {
    "no run": ((*RUN, "--out", "/proc/x"), f"/proc/x: the run cannot be written there: {NEEDS} folder with --out"),
    "a file for a run": ((*RUN, "--out", "taken.csv"), "taken.csv: is a file, and the run needs a folder"),
    "a run below a file": (
        (*RUN, "--out", "taken.csv/x"),
        "taken.csv/x: the run cannot be written there: taken.csv is",
    ),
    "no store": ((*RUN, "--store", "/proc/x"), f"/proc/x: the store cannot be written there: {NEEDS} folder with --st"),
    "a file for a store": ((*RUN, "--store", "taken.csv"), "taken.csv: is a file, and the store needs a folder"),
    "no demo": (("demo", "--out", "taken.csv/x"), "taken.csv/x: the run cannot be written there"),
    "no study": (("init", "/proc"), "/proc: a study cannot be written there"),
    "no table": (
        ("augment", "taken.csv", "-o", "/proc/x.csv"),
        f"/proc/x.csv: the table cannot be written there: {NEEDS}",
    ),
    "no replay": (("transfer", "--from", "taken.csv", "-m", "text", "--out", "/proc/x"), "/proc/x: the run cannot be"),
    "no surrogate": (
        ("surrogate", "lgv", "zoo:image-vgg", "--out", "/proc/sub.safetensors"),
        "/proc/sub.safetensors: the surrogate cannot be written there",
    ),
    "another ending": (
        ("surrogate", "substitute", "zoo:image-tree", "--network", "zoo:image-vgg", "--out", "sub.pt"),
        "sub.pt: surrogates are saved as safetensors: name it sub.safetensors",
    ),
    "no checkpoint": (("train", "zoo:text-cnn", "--out", "/proc/x"), "/proc/x: the checkpoint cannot be written there"),
}


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="the cases write into /proc, where nobody may")
def test_where_nothing_can_be_written_is_said_before_anything_is_computed(carom: Any, name: str) -> None:
    arguments, said = OUTPUTS[name]
    Path("taken.csv").write_text("text,label\na fine film,1\n")
    answer = carom(*arguments)
    assert answer.code == 2, answer.err
    assert said in answer.err
    assert (answer.out, answer.err.count("\n")) == ("", 1)
    assert [path.name for path in Path().iterdir()] == ["taken.csv"]


def test_probing_an_output_leaves_nothing_and_touches_nothing(tmp_path: Path) -> None:
    assert folder_for("the run", tmp_path / "a" / "b", "--out") == tmp_path / "a" / "b"
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "kept.csv").write_text("kept")
    assert file_for("the table", tmp_path / "kept.csv", "-o").read_text() == "kept"
    with pytest.raises(CaromError, match="is a folder, and the table needs the name of a file"):
        file_for("the table", tmp_path, "-o")


def test_errors_of_the_system_that_name_a_file_are_no_bugs(carom: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CAROM_DEBUG", raising=False)
    full = OSError(errno.ENOSPC, "No space left on device")
    for error, code in ((PermissionError(13, "Permission denied", "a.csv"), 2), (full, 2), (OSError("no file"), 1)):
        monkeypatch.setattr("carom.common.cli.listing.attacks", Mock(side_effect=error))
        answer = carom("list", "attacks")
        assert answer.code == code
        assert ("bug" in answer.err) == (code == 1)
        assert answer.err.count("\n") == 1


def test_studies_and_python_take_budgets_as_flags_do(carom: Any) -> None:
    Path("s.toml").write_text("[image]\nsources = ['zoo:image-resnet']\neps = 8\n")
    assert "Did you mean 8/255?" in carom("run", "s.toml", "--limit", "2").err
    model, data = load_model("zoo:audio-m5"), load_data("builtin:keywords", limit=2)
    for budget, said in (({"eps": "8/255"}, "snr takes decibels"), ({"threat": "linf", "eps": 8}, "8/32768")):
        with pytest.raises(CaromError, match=said):
            attack(model, data, "fgsm", **budget)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("[image]\nsorces = []", "sources"),
        ("sed = [1]\n[image]\n", "seeds"),
        ("[imgae]\n", "image"),
        ("[image]\nlimit = -1", "limit"),
        ("[image]\nlimit = 'many'", "limit"),
        ("seeds = []\n[image]\n", "seeds"),
        ("[image\n", "TOML"),
        ("", "[image]"),
        ("image = 3", "table"),
    ],
)
def test_bad_studies(carom: Any, text: str, hint: str) -> None:
    Path("s.toml").write_text(text)
    answer = carom("run", "s.toml")
    assert answer.code == 2, answer.err
    assert hint in answer.err, answer.err
    assert "s.toml" in answer.err
