"""Folders of data from others: files inside are read, and nothing outside is read or asked for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import carom
from carom.common.base.errors import CaromError

TABLE = "text,label\na fine film,0\na dull film,1\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "outside.csv").write_text("text,label\nsecret words,0\nmore secret words,1\n")
    made = tmp_path / "given"
    made.mkdir()
    (made / "x.csv").write_text(TABLE)
    return made


def readme(folder, files, name="README.md"):
    head = f"configs:\n- config_name: default\n  data_files: {json.dumps(files)}\n"
    (folder / name).write_text(head if name.endswith("yaml") else f"---\n{head}---\n# Data\n")


def load(folder):
    return carom.load_data(f"hf:{folder}:test", modality="text", classes="negative,positive")


@pytest.mark.parametrize("place", ["x.csv", "./x.csv", "*.csv"])
def test_files_inside_are_read(place, folder):
    readme(folder, [{"split": "test", "path": place}])
    assert load(folder).stored == ["a fine film", "a dull film"]


@pytest.mark.parametrize("name", ["README.md", ".huggingface.yaml"])
@pytest.mark.parametrize(
    "files",
    [
        "../outside.csv",
        ["x.csv", "../outside.csv"],
        [{"split": "test", "path": "/etc/passwd"}],
        [{"split": "test", "path": ["x.csv", "a/../../outside.csv"]}],
        {"test": "~/secret.csv"},
        "http://127.0.0.1:9/outside.csv",
        "zip://x.csv::http://127.0.0.1:9/x.zip",
        "hf://datasets/org/name/x.csv",
        "..\\outside.csv",
    ],
)
def test_a_readme_that_names_places_elsewhere_is_refused(files, name, folder):
    readme(folder, files, name)
    with pytest.raises(CaromError, match=f"{folder}/{name}: names data elsewhere"):
        load(folder)


def test_links_that_lead_out_are_refused(folder, tmp_path):
    (folder / "test.csv").symlink_to(tmp_path / "outside.csv")
    with pytest.raises(CaromError, match=f"{folder}/test.csv: is a link that leads out"):
        load(folder)
    (folder / "test.csv").unlink()
    (folder / "test.csv").symlink_to("x.csv")
    (folder / "sub").symlink_to(tmp_path)
    with pytest.raises(CaromError, match="leads out"):
        load(folder)
    (folder / "sub").unlink()
    assert len(load(folder)) == 2


@pytest.mark.parametrize(
    "text", ["a: &a [*a]", "a: [", "\x00", "a: !!python/object/apply:os.system ['id']", "- " * 5000]
)
def test_a_readme_that_is_none_is_refused(text, folder):
    (folder / "README.md").write_text(f"---\n{text}\n---\n")
    with pytest.raises(CaromError, match=r"README\.md: "):
        load(folder)


def pictures(folder, first):
    """A table as `save_to_disk` writes it, its first picture as given."""
    import io

    from datasets import ClassLabel, Dataset, Features, Image
    from PIL import Image as Picture

    sink = io.BytesIO()
    Picture.fromarray(np.random.default_rng(1).integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(sink, "PNG")
    png = sink.getvalue()
    features = Features({"image": Image(), "label": ClassLabel(names=["a", "b"])})
    rows = {"image": [{"bytes": png, "path": None}] * 2, "label": [0, 1]}
    Dataset.from_dict(rows, features=features).save_to_disk(str(folder))
    (folder.parent / "outside.png").write_bytes(png)
    (folder / "inside.png").write_bytes(png)
    file = next(folder.glob("*.arrow"))
    old = pa.ipc.open_stream(file.read_bytes()).read_all()
    cells = pa.array(
        [first or {"bytes": png, "path": None}, {"bytes": png, "path": None}], old.schema.field("image").type
    )
    with pa.OSFile(str(file), "wb") as out, pa.ipc.new_stream(out, old.schema) as writer:
        writer.write_table(pa.Table.from_arrays([cells, old["label"]], schema=old.schema))
    return folder


def test_pictures_are_read_from_the_table_or_the_folder(tmp_path):
    for name, first in {"held": None, "named": {"bytes": None, "path": str(tmp_path / "named" / "inside.png")}}.items():
        folder = pictures(tmp_path / name, first)
        assert len(carom.load_data(f"hf:{folder}", modality="image")) == 2


@pytest.mark.parametrize(
    "path", ["outside.png", "given/../outside.png", "/etc/passwd", "http://127.0.0.1:9/x.png", "x.png"]
)
def test_pictures_elsewhere_are_not_read(path, tmp_path):
    where = str(tmp_path / path) if path.endswith("outside.png") else path
    folder = pictures(tmp_path / "given", {"bytes": None, "path": where})
    with pytest.raises(CaromError, match="column image names a file elsewhere"):
        carom.load_data(f"hf:{folder}", modality="image")


@pytest.mark.parametrize("name", ["../../other.arrow", "/tmp/x.arrow", "s3://bucket/x.arrow"])
def test_saved_tables_elsewhere_are_not_read(name, tmp_path):
    folder = pictures(tmp_path / "given", None)
    state = json.loads((folder / "state.json").read_text())
    state["_data_files"] = [{"filename": name}]
    (folder / "state.json").write_text(json.dumps(state))
    with pytest.raises(CaromError, match=r"state\.json: names data elsewhere"):
        carom.load_data(f"hf:{folder}", modality="image")
    Path(folder / "dataset_dict.json").write_text(json.dumps({"splits": ["../../x"]}))
    with pytest.raises(CaromError, match=r"dataset_dict\.json: names data elsewhere"):
        carom.load_data(f"hf:{folder}", modality="image")
