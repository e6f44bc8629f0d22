"""What somebody sends is looked at and not obeyed: run folders, and text of theirs on the terminal."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

TREE = ("run", "-m", "image", "-s", "zoo:image-tree", "-a", "leaf-path", "--limit", "2", "--controls", "1", "-q")


@pytest.fixture
def theirs(carom: Any) -> Path:
    """The folder of an honest run, and nothing of its store."""
    assert carom(*TREE, "--store", "theirs-store", "--out", "theirs").code == 0
    shutil.rmtree("theirs-store")
    Path("marker.py").write_text("open('RAN', 'w').write('x')\ndef net(): pass\n")
    return Path("theirs")


def change(folder: Path, **part: Any) -> None:
    study = json.loads((folder / "study.json").read_text())
    settings = {key: part.pop(key) for key in list(part) if key in study}
    study["modalities"]["image"] |= part
    (folder / "study.json").write_text(json.dumps(study | settings))


NAMED = {
    "a model of code": {"sources": [{"spec": "py:subprocess:getoutput?cmd=touch RAN"}]},
    "a module": {"targets": [{"spec": "py:marker:net?normalise=none"}]},
    "a member of an ensemble": {"sources": [{"spec": "ensemble:zoo:image-mlp+(py:marker:net)"}]},
    "a factory of weights": {"sources": [{"spec": "safetensors:x.safetensors#marker:net"}]},
    "a folder with code": {"sources": [{"spec": "hf:./x?trust_remote_code=true"}]},
    "a model to fetch": {"targets": [{"spec": "hf:org/name"}]},
    "data elsewhere": {"data": {"spec": "folder:/etc"}},
    "data to fetch": {"data": {"spec": "torchvision:CIFAR10?root=.&download=true"}},
    "an attack of code": {"attacks": ["py:marker:net"]},
    "a model in an attack": {"attacks": ["pgd?loss=py:marker:net"]},
    "a log": {"log": {"spec": "/etc/passwd.npz"}},
    "a fact that names code": {"sources": [{"spec": "zoo:image-tree", "tokenizer": "py:marker:net"}]},
}


@pytest.mark.parametrize("what", NAMED)
def test_a_report_runs_nothing_that_the_folder_names(what: str, theirs: Path, carom: Any) -> None:
    change(theirs, **NAMED[what])
    before = sorted(Path().rglob("*"))
    answer = carom("report", "theirs", "-q")
    assert answer.code == 2
    assert len(answer.err.splitlines()) == 1
    assert "theirs/study.json: names " in answer.err
    assert "carom report theirs --trust" in answer.err
    assert sorted(Path().rglob("*")) == before


def test_a_report_writes_no_store_elsewhere(theirs: Path, carom: Any) -> None:
    """A store that the folder names is read and never written; what ships is computed again in the user's own."""
    for store in ("elsewhere/store", "../up", str(Path("absolute").resolve())):
        change(theirs, store=store)
        answer = carom("report", "theirs", "-q")
        assert (answer.code, Path(store).exists()) == (2, False)
        assert "--store" in answer.err
    assert carom("report", "theirs", "-q", "--store", "mine").code == 0
    change(theirs, store="mine")
    assert carom("report", "theirs", "-q").code == 0  # all of it is there to be read
    change(theirs, store=".carom/store")
    assert carom("report", "theirs", "-q").code == 0
    assert Path(".carom/store").is_dir()


def test_a_report_of_own_models_is_made_where_the_user_says_so(carom: Any) -> None:
    Path("net_of_mine.py").write_text(
        "from torch import nn\ndef net(): return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16, 10))\n"
    )
    own = [
        ("py:net_of_mine:net?normalise=none" if a == "zoo:image-tree" else "fgsm" if a == "leaf-path" else a)
        for a in TREE
    ]
    assert carom(*own, "--out", "o").code == 0
    Path("o/report.html").unlink()
    assert carom("report", "o", "-q").code == 2
    assert carom("report", "o", "-q", "--trust").code == 0
    assert Path("o/report.html").exists()


BAD = {
    "another program's": ({"manifest.json": '{"name": "my web app"}'}, False),
    "a study and no finish": ({"manifest.json": "{}", "study.json": None}, True),
    "a list": ({"manifest.json": "[]", "study.json": None}, True),
    "empty": ({"manifest.json": "", "study.json": None}, True),
    "not UTF-8": ({"manifest.json": b'{"finished": "caf\xe9"}', "study.json": None}, True),
    "without end": ({"manifest.json": "[" * 100_000, "study.json": None}, True),
    "a finish that is a number": ({"manifest.json": '{"finished": 5}', "study.json": None}, True),
    "a study that is a list": ({"manifest.json": '{"finished": "x"}', "study.json": "[]"}, True),
    "a study of another version": ({"manifest.json": '{"finished": "x"}', "study.json": '{"new": 1}'}, True),
}


def test_bad_folders_do_not_end_the_list_of_runs(carom: Any) -> None:
    assert carom(*TREE, "--store", "s", "--out", "runs/mygood").code == 0
    for files, said in BAD.values():
        shutil.rmtree("site", ignore_errors=True)
        Path("site").mkdir()
        for name, content in files.items():
            data = Path("runs/mygood", name).read_bytes() if content is None else content
            Path("site", name).write_bytes(data.encode() if isinstance(data, str) else data)
        answer = carom("list", "runs", "--json")
        assert answer.code == 0
        assert [row["folder"] for row in answer.json] == ["runs/mygood"]
        assert ("left out: site" in answer.err) is said
        assert len(answer.err.splitlines()) == said
    Path("runs/mygood/result.json").write_text("[]")
    assert carom("list", "runs", "--json").json[0]["seconds"] is None


@pytest.mark.parametrize("name", ["x[/b]y", "x[red]y", "[link=x]y", "x:smile:y"])
def test_paths_are_printed_as_they_are(name: str, carom: Any) -> None:
    answer = carom(*TREE, "--store", "s", "--out", name)
    assert answer.code == 0
    assert f"{name}/report.html" in answer.out.replace("\n", "")
    assert Path(name, "cells.parquet").exists()


def test_names_of_models_are_printed_as_they_are(carom: Any) -> None:
    study = 'out = "o"\nstore = "s"\n[image]\nattacks = ["leaf-path"]\nlimit = 2\nsources = [{spec = "zoo:image-tree", '
    Path("st.toml").write_text(study + 'name = "a[/b]\\u001b[31mb"}]\n')
    answer = carom("run", "st.toml")
    assert answer.code == 0
    assert "a[/b]\\u001b[31mb" in answer.out
    assert "\x1b" not in answer.out + answer.err


def test_a_finished_store_may_be_read_only(carom: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same command, and another page; what it lacks is refused before anything is computed."""
    import os

    assert carom(*TREE, "--store", "m/s", "--out", "first").code == 0
    if os.geteuid() == 0:  # whom no rights stop
        real = os.open

        def refused(path: Any, flags: int, *rest: Any, **more: Any) -> int:
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and str(path).startswith(("m/", os.path.abspath("m/"))):
                raise OSError(30, os.strerror(30), str(path))
            return real(path, flags, *rest, **more)

        monkeypatch.setattr(os, "open", refused)
    for path in [*Path("m").rglob("*"), Path("m")]:
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    again = carom(*TREE, "--store", "m/s", "--out", "again")
    assert again.code == 0, again.err
    one, two = (pq.read_table(f"{name}/cells.parquet").drop_columns(["seconds"]) for name in ("first", "again"))
    assert one.equals(two)
    more = carom(*TREE, "--seed", "5", "--store", "m/s", "--out", "more")
    assert more.code == 2
    assert "m/s: the store lacks what is to be computed, and it cannot be written there" in more.err
    for path in [Path("m"), *Path("m").rglob("*")]:
        path.chmod(path.stat().st_mode | stat.S_IWUSR)
