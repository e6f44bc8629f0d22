"""Folders of classes, and folders that are something else."""

from __future__ import annotations

import os

import pytest

from carom.common.base.errors import CaromError
from carom.common.loading.class_folders import class_folders


def lay(root, *files):
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def test_folders_find_their_place_by_name(tmp_path):
    lay(tmp_path, "cat/1.png", "dog/1.png")
    found = class_folders(tmp_path, "test", (".png",), ["bird", "dog", "cat"])
    assert [(source.id, source.label) for source in found.sources] == [("cat/1.png", 2), ("dog/1.png", 1)]
    assert class_folders(tmp_path, "test", (".png",), ["Dog", "CAT"]).sources[0].label == 1


def test_numbered_folders_are_in_the_order_of_numbers_which_is_a_guess(tmp_path):
    lay(tmp_path, *(f"{n}/a.png" for n in range(12)))
    found = class_folders(tmp_path, "test", (".png",), None)
    assert found.classes == tuple(map(str, range(12)))
    assert found.guessed
    assert not class_folders(tmp_path, "test", (".png",), found.classes).guessed


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (("train/a/1.png", "val/a/1.png"), "no split 'test'; train, val look like splits.*--split train"),
        (("Train/a/1.png", "Validation/b/1.png"), "Train, Validation look like splits"),
        (("train/1.png", "val/1.png"), "without folders of classes.*FOLDER/SPLIT/CLASS/FILE"),
        (("fold1/a/1.png", "fold1/b/1.png", "fold2/a/2.png", "fold2/b/3.png"), "fold1, fold2 look like splits"),
        (("images/a/1.png", "images/b/1.png"), "its only folder images holds folders .a, b., not files"),
    ],
)
def test_folders_of_splits_are_no_classes(files, said, tmp_path):
    lay(tmp_path, *files)
    with pytest.raises(CaromError, match=said):
        class_folders(tmp_path, "test", (".png",), None)
    tops = sorted({name.partition("/")[0] for name in files})
    assert class_folders(tmp_path, "test", (".png",), tops).classes == tuple(tops)  # who states them gets them


def test_classes_that_are_called_like_splits_or_hold_folders_are_classes(tmp_path):
    lay(tmp_path, "bus/1.png", "train/1.png")  # vehicles
    assert class_folders(tmp_path, "test", (".png",), None).classes == ("bus", "train")
    lay(tmp_path / "b", "yes/anna/1.png", "no/anna/1.png", "no/ben/1.png")  # speakers
    assert class_folders(tmp_path / "b", "test", (".png",), None).classes == ("no", "yes")


def test_what_is_left_out_is_said(tmp_path):
    lay(tmp_path, "a/1.png", "a/2.heic", "a/notes", "b/3.heic", "4.png", ".hidden/5.png")
    found = class_folders(tmp_path, "test", (".png",), None)
    assert len(found.sources) == 1
    said = " | ".join(found.remarks)
    assert "left out 3 files of other kinds (.heic, notes)" in said
    assert "left out 1 file in no class folder" in said
    assert "b holds no file ending in .png" in said


def test_names_that_are_not_utf8_are_written_out(tmp_path):
    folder = os.fsencode(tmp_path)
    try:
        os.makedirs(folder + b"/caf\xe9")
        open(folder + b"/caf\xe9/\xe9.png", "wb").close()
    except OSError:
        pytest.skip("a file system of UTF-8 alone")
    found = class_folders(tmp_path, "test", (".png",), None)
    assert found.classes == (r"caf\xe9",)
    assert found.sources[0].id == r"caf\xe9/\xe9.png"
    assert found.sources[0].content.exists()


def test_links_that_lead_out_are_followed_where_the_user_says_so_alone(tmp_path):
    root, away = tmp_path / "data", lay(tmp_path / "away", "secret.png", "dog/1.png")
    lay(root, "cat/1.png", "cat/2.png")
    (root / "cat" / "inside.png").symlink_to(root / "cat" / "1.png")
    assert len(class_folders(root, "test", (".png",), None).sources) == 3
    (root / "cat" / "out.png").symlink_to(away / "secret.png")
    with pytest.raises(CaromError, match=r"out\.png: is a link that leads out of .*links=true"):
        class_folders(root, "test", (".png",), None)
    assert len(class_folders(root, "test", (".png",), None, links=True).sources) == 4
    (root / "cat" / "out.png").unlink()
    (root / "dog").symlink_to(away / "dog")
    with pytest.raises(CaromError, match="dog: is a link that leads out"):
        class_folders(root, "test", (".png",), None)
    (tmp_path / "mine").symlink_to(root)  # what the user names is followed
    (root / "dog").unlink()
    assert len(class_folders(tmp_path / "mine", "test", (".png",), None).sources) == 3
    (root / "cat" / "gone.png").symlink_to(root / "nothing.png")
    (remark,) = class_folders(root, "test", (".png",), None).remarks
    assert "1 links that lead nowhere" in remark


def test_a_split_or_a_table_may_not_be_a_link_that_leads_out_either(tmp_path):
    import carom

    away = lay(tmp_path / "away", "cat/1.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "test").symlink_to(away)
    with pytest.raises(CaromError, match="data/test: is a link that leads out"):
        carom.load_data(f"folder:{tmp_path}/data", modality="image")
    (away / "test.csv").write_text("text,label\nsecret,a\n")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "test.csv").symlink_to(away / "test.csv")
    with pytest.raises(CaromError, match=r"test\.csv: is a link that leads out"):
        carom.load_data(f"folder:{tmp_path}/texts", modality="text")
    assert len(carom.load_data(f"folder:{tmp_path}/texts?links=true", modality="text")) == 1
    assert len(carom.load_data(f"folder:{tmp_path}/texts/test.csv", modality="text")) == 1
