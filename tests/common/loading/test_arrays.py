"""Pairs of other tools: the same content in any usual form, and what is none named."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

import carom
from carom.common.base.errors import CaromError
from carom.common.study.replay import load_set

RNG = np.random.default_rng(0)
CLEAN = RNG.integers(20, 230, (6, 1, 8, 8)).astype(np.uint8)
MADE = (CLEAN + RNG.choice((-8, 8), CLEAN.shape)).astype(np.uint8)
LABELS = np.arange(6) % 3
REAL = {"clean": CLEAN / 255, "adversarial": MADE / 255}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def save(name="pairs.npz", **changed):
    arrays = {"clean": CLEAN, "adversarial": MADE, "labels": LABELS, **changed}
    np.savez(name, **{key: value for key, value in arrays.items() if value is not None})
    return name


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"clean": CLEAN[:, 0], "adversarial": MADE[:, 0]},
        {"clean": CLEAN.transpose(0, 2, 3, 1), "adversarial": MADE.transpose(0, 2, 3, 1)},
        {"clean": CLEAN.astype(int), "adversarial": MADE.astype(">i4")},
        {"clean": CLEAN.astype(float), "adversarial": MADE.astype("f4")},
        {key: value.astype("f4") for key, value in REAL.items()},
        {key: value.astype(">f8") for key, value in REAL.items()},
        {key: value.astype("f2") for key, value in REAL.items()},
        {key: value.astype(np.longdouble) for key, value in REAL.items()},
        {"labels": LABELS.astype(float)},
        {"labels": LABELS[:, None].astype(">i8")},
        {"labels": np.eye(3)[LABELS]},
        {"labels": np.array([f"{n}" for n in LABELS])},
        {"clean": None, "x_clean": CLEAN, "adversarial": None, "x_adv": MADE, "labels": None, "y": LABELS},
    ],
)
def test_the_same_pairs_in_another_form_are_the_same(changed):
    found = load_set(save(**changed), "image")
    assert torch.equal(found.stored, torch.from_numpy(MADE))
    assert torch.equal(found.clean.stored, torch.from_numpy(CLEAN))
    assert found.labels.tolist() == LABELS.tolist()
    assert found.clean.classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"labels": LABELS - 1}, "labels: example 0 has label -1"),
        ({"labels": np.where(LABELS == 1, np.nan, LABELS)}, "labels: example 1 has label nan"),
        ({"labels": LABELS + 0.5}, "label 0.5 is a number that is no whole number"),
        ({"labels": np.array([0, 2**33] * 3)}, "more than 10000 classes"),
        ({"labels": LABELS.astype("datetime64[s]")}, "labels are datetime64"),
        ({"labels": np.eye(3)[LABELS] * 0.9}, "no one-hot rows.*argmax"),
        ({"labels": LABELS[:4]}, "4 labels. Save one adversarial input and one label for each"),
        ({"adversarial": MADE.astype(complex)}, "adversarial is complex128"),
        ({"adversarial": MADE.astype(str)}, "adversarial is <U3"),
        ({"adversarial": MADE.astype(int) + 100}, "beyond uint8"),
        ({"clean": CLEAN // 128, "adversarial": MADE // 128}, "whole numbers 0 and 1 alone"),
        ({key: 2 * value - 1 for key, value in REAL.items()}, "Undo its normalisation"),
        ({"adversarial": np.full(MADE.shape, np.nan)}, "not finite"),
        (
            {"clean": CLEAN.reshape(6, 2, 4, 8), "adversarial": MADE.reshape(6, 2, 4, 8)},
            r"shape \[6, 2, 4, 8\]: images",
        ),
        ({"adversarial": MADE[:, :, :4]}, "adversarial .6, 1, 4, 8."),
        ({"clean": None}, "no array clean or original.*it holds adversarial, labels"),
        ({"ids": np.array(["a"] * 6)}, "ids must be 6 names, each once"),
    ],
)
def test_what_is_no_pair_is_named(changed, said):
    with pytest.raises(CaromError, match=f"pairs.npz.*{said}"):
        load_set(save(**changed), "image")


def test_real_values_go_no_farther_than_they_went():
    clean = RNG.uniform(0.2, 0.8, (6, 1, 8, 8))
    made = clean + 0.03 * RNG.choice((-1, 1), clean.shape)  # 7.65 steps
    found = load_set(save(clean=clean, adversarial=made), "image")
    moved = (found.stored.int() - found.clean.stored.int()).abs()
    assert moved.max() == moved.min() == 7


def test_names_in_a_file_are_matched_by_name():
    save(classes=np.array(["white", "black", "grey"]))
    model = carom.load_model(_Grey(), "image", classes=["grey", "black", "white"], normalise=None, name="grey")
    outcome = carom.replay(load_set("pairs.npz", "image"), [model], threat="linf", eps="8/255", controls=1)
    assert outcome.plan.data.classes == ("grey", "black", "white")
    assert outcome.plan.data.labels.tolist() == [2, 1, 0] * 2


class _Grey(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, x):
        return torch.stack([x.flatten(1).mean(1) * self.weight] * 3, 1)


def clean_folder(root, images, ending="png"):
    for row, image in enumerate(images):
        (root / str(LABELS[row])).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(root / str(LABELS[row]) / f"{row}.{ending}")
    return root


def test_what_a_file_lacks_comes_from_the_data(tmp_path):
    clean_folder(tmp_path / "clean", CLEAN)
    data = carom.load_data("folder:clean", modality="image")
    order = [int(name[2:-4]) for name in data.ids]  # the data's order is that of their paths
    np.save("made.npy", MADE[order])
    torch.save(
        {"adv_inputs": torch.from_numpy(MADE[order] / 255), "labels": torch.from_numpy(LABELS[order])}, "made.pt"
    )
    torch.save((torch.from_numpy(MADE[order]), torch.from_numpy(LABELS[order])), "pair.pt")
    clean_folder(tmp_path / "made", MADE)
    for name in ("made.npy", "made.pt", "pair.pt", "made"):
        found = load_set(name, "image", data=data)
        assert torch.equal(found.stored, torch.from_numpy(MADE[order])), name
        assert torch.equal(found.clean.stored, data.stored)
        assert found.labels.tolist() == data.labels.tolist()
    for name in ("made.npy", "made.pt", "made"):
        with pytest.raises(CaromError, match=r"--data.*npz|npz.*--data"):
            load_set(name, "image")
    np.save("few.npy", MADE[:5])
    with pytest.raises(CaromError, match=r"few.npy: 5 adversarial inputs, and folder:clean has 6"):
        load_set("few.npy", "image", data=data)
    Image.fromarray(MADE[0, 0]).save(tmp_path / "made" / "0" / "other.png")
    with pytest.raises(CaromError, match=r"1 of 7 files have no clean one of the same name.*other.png"):
        load_set("made", "image", data=data)


def header_of(shape):
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    text = text.ljust(118 - 10) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def test_what_a_header_claims_is_compared_before_it_is_allocated():
    with zipfile.ZipFile("pairs.npz", "w") as held:
        held.writestr("clean.npy", header_of((10**12, 10)) + b"1234")
    with pytest.raises(CaromError, match=r"pairs.npz: clean.npy claims 1000000000000 x 10 values"):
        load_set("pairs.npz", "image")
    with open("one.npy", "wb") as file:
        file.write(header_of((10**12,)))
    with pytest.raises(CaromError, match=r"one.npy: one.npy claims"):
        load_set("one.npy", "image")


def test_files_that_are_something_else_are_named():
    torch.save({"labels": torch.nn.Linear(1, 1)}, "code.pt")
    np.savez("objects.npz", clean=np.array([{}, {}], dtype=object))
    for name, content in (("text.npz", b"hello"), ("empty.npy", b""), ("old.pt", b"\x80\x02}q\x00.")):
        with open(name, "wb") as file:
            file.write(content)
    for name in ("code.pt", "objects.npz", "text.npz", "empty.npy", "old.pt"):
        with pytest.raises(CaromError, match=name):
            load_set(name, "image")


def test_sounds_of_other_tools():
    waves = (RNG.uniform(-0.5, 0.5, (3, 400)) * 32768).round().astype(np.int16)
    made = (waves + 3).astype(np.int16)
    for clean, crafted in (
        (waves, made),
        (waves[:, None] / 32768, made[:, None] / 32768),
        (waves.astype("f4"), made.astype("f4")),
    ):
        found = load_set(save(clean=clean, adversarial=crafted, labels=LABELS[:3], sample_rate=8000), "audio")
        assert torch.equal(found.stored, torch.from_numpy(made))
        assert found.clean.space.sample_rate == 8000
    for rate in (np.array([1, 2]), 0, 1.5, "high"):
        with pytest.raises(CaromError, match=r"pairs.npz: sample_rate is .*: save one whole number"):
            load_set(save(clean=waves, adversarial=made, labels=LABELS[:3], sample_rate=rate), "audio")
    with pytest.raises(CaromError, match=r"lengths must be 3 whole numbers from 1 to 400"):
        load_set(save(clean=waves, adversarial=made, labels=LABELS[:3], lengths=np.array([1, 2, 10**9])), "audio")
    with pytest.raises(CaromError, match="of one channel"):
        load_set(save(clean=waves.reshape(3, 2, 200), adversarial=made.reshape(3, 2, 200), labels=LABELS[:3]), "audio")


def test_arrays_that_fit_one_by_one_and_not_together_are_refused(tmp_path, monkeypatch):
    from carom.common.loading import array_files

    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, **{name: np.zeros(1 << 20, np.uint8) for name in ("clean", "adversarial", "labels")})
    pages = {"SC_PHYS_PAGES": 5 << 20, "SC_PAGE_SIZE": 1}
    monkeypatch.setattr(array_files.os, "sysconf", pages.__getitem__)
    with pytest.raises(CaromError, match="do not fit into memory"):
        array_files.read_arrays(path)
