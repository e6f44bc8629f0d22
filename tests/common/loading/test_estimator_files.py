"""skops files from others: as skops wrote them they load, and any other is refused by its name."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import carom
from carom.common.base.errors import CaromError
from carom.common.loading.estimator_files import load_skops

CORPUS = Path(__file__).parents[2] / "fuzz" / "corpus"


def members(name):
    with zipfile.ZipFile(CORPUS / name) as file:
        return {member: file.read(member) for member in file.namelist()}


def written(path, content, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for member, data in content.items():
            file.writestr(member, data)
    return path


def array_of(data):
    return np.load(io.BytesIO(data))


def saved(array):
    sink = io.BytesIO()
    np.save(sink, array)
    return sink.getvalue()


def test_sound_files_are_read():
    assert load_skops(CORPUS / "tree.skops").n_features_in_ == 4
    assert load_skops(CORPUS / "linear.skops").coef_.shape == (1, 4)


def schema(change):
    def make(found):
        return {**found, "schema.json": json.dumps(change(json.loads(found["schema.json"]))).encode()}

    return make


def arrays(change):
    def make(found):
        return {n: saved(change(array_of(d))) if n.endswith(".npy") else d for n, d in found.items()}

    return make


def nodes(change):
    def make(found):
        return {
            n: saved(change(array_of(d))) if n.endswith(".npy") and array_of(d).dtype.names else d
            for n, d in found.items()
        }

    return make


def without_arrays(found):
    return {n: d for n, d in found.items() if not n.endswith(".npy")}


def large_claim(found):
    head = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }".ljust(
        117
    )
    return {n: head + b"\n" if n.endswith(".npy") else d for n, d in found.items()}


WRONG = {
    "a list": schema(lambda s: [1]),
    "null": schema(lambda s: None),
    "a number for content": schema(lambda s: {**s, "content": 5}),
    "a module that is null": schema(lambda s: {**s, "__module__": None}),
    "a loader that is unknown": schema(lambda s: {**s, "__loader__": "NoSuchNode"}),
    "nested without end": lambda found: {**found, "schema.json": b"[" * 100_000},
    "no schema": lambda found: {n: d for n, d in found.items() if n != "schema.json"},
    "no arrays": without_arrays,
    "arrays that claim terabytes": large_claim,
    "arrays of texts": arrays(lambda a: np.array(["x"] * max(1, a.size))),
    "empty arrays": arrays(lambda a: a.reshape(-1)[:0]),
    "numbers for nodes": nodes(lambda a: np.zeros(5)),
    "one node": nodes(lambda a: a[:1]),
}


@pytest.mark.parametrize("file", ["tree.skops", "linear.skops"])
@pytest.mark.parametrize("what", WRONG)
def test_files_of_another_structure_are_refused_by_name(what, file, tmp_path):
    content = members(file)
    changed = WRONG[what](content)
    if changed == content:
        pytest.skip("a linear model has no nodes")
    path = written(tmp_path / "x.skops", changed)
    with pytest.raises(CaromError, match=r"x\.skops: "):
        load_skops(path)


def test_an_estimator_that_holds_nothing_is_refused_by_name(tmp_path):
    bare = schema(lambda s: {k: v for k, v in s.items() if k != "content"})(members("tree.skops"))
    path = written(tmp_path / "x.skops", bare)
    with pytest.raises(CaromError, match=r"x\.skops has no classes_: it has not been fitted"):
        carom.load_model(f"sklearn:{path}", "image", shape=(1, 2, 2), bounds=(0, 1))


@pytest.mark.parametrize("data", [b"", b"PK", b"no zip at all", b"PK\x05\x06" + b"\0" * 18])
def test_what_is_no_zip_is_refused_by_name(data, tmp_path):
    (tmp_path / "x.skops").write_bytes(data)
    with pytest.raises(CaromError, match=r"x\.skops: not a skops file"):
        load_skops(tmp_path / "x.skops")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = written(tmp_path / "x.skops", {"schema.json": b" " * (300 << 20)}, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(CaromError, match=r"x\.skops: .*unpacks to more than 256 MB"):
        load_skops(path)


def test_an_estimator_that_does_not_answer_by_class_is_refused(tmp_path):
    x, y = np.random.default_rng(0).random((20, 3)), np.arange(20) % 3
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y)
    skops.io.dump(model, tmp_path / "x.skops")
    assert load_skops(tmp_path / "x.skops").predict(x).shape == (20,)
    model[-1].classes_ = np.arange(5)
    skops.io.dump(model, tmp_path / "x.skops")
    with pytest.raises(CaromError, match=r"x\.skops: .*a score a class"):
        load_skops(tmp_path / "x.skops")
