"""Image data: what is read, and what every file that cannot be read is told."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from carom.common.base.errors import BadInput, CaromError, UnknownName
from carom.vision.data.load import load_data, read_image
from carom.vision.space import PIXELS


def picture(shape=(8, 6), seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Two classes of three grey PNG files each."""
    for label, name in enumerate(("cat", "ant")):
        (tmp_path / name).mkdir()
        for k in range(3):
            Image.fromarray(picture(seed=10 * label + k)).save(tmp_path / name / f"{k}.png")
    return tmp_path


def test_builtin_is_fashion_mnist():
    data = load_data("builtin:fashion-mnist", limit=20)
    assert data.stored.shape == (20, 1, 28, 28)
    assert data.stored.dtype == torch.uint8
    assert data.space is PIXELS
    assert data.ids == load_data("builtin:fashion-mnist", limit=20).ids
    with pytest.raises(UnknownName, match="fashion-mnist"):
        load_data("builtin:fashion-mnits")


def test_folder(folder):
    data = load_data(f"folder:{folder}")
    assert data.classes == ("ant", "cat")
    assert data.ids == ["ant/0.png", "ant/1.png", "ant/2.png", "cat/0.png", "cat/1.png", "cat/2.png"]
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert np.array_equal(data.stored[3, 0].numpy(), picture())
    assert torch.equal(data.space.encode(data.batch().inputs), data.stored)


def test_folder_in_the_order_of_the_models_classes(folder):
    data = load_data(f"folder:{folder}?classes=dog,cat,ant")
    assert data.classes == ("dog", "cat", "ant")
    assert data.labels.tolist() == [2, 2, 2, 1, 1, 1]
    with pytest.raises(CaromError, match="'cat' is none of the stated classes ant, cta"):
        load_data(f"folder:{folder}", classes=["ant", "cta"])


def test_folder_with_splits(folder):
    (folder / "test").mkdir()
    for name in ("ant", "cat"):
        (folder / name).rename(folder / "test" / name)
    assert load_data(f"folder:{folder}").ids[0] == "test/ant/0.png"


def test_limit_chooses_by_id_alone(folder):
    few = load_data(f"folder:{folder}", limit=2)
    (folder / "ant" / "aaa.png").write_bytes((folder / "ant" / "0.png").read_bytes())
    more = load_data(f"folder:{folder}", limit=3)
    assert set(few.ids) <= {*more.ids, "ant/aaa.png"}
    with pytest.raises(CaromError, match="at least one"):
        load_data(f"folder:{folder}", limit=0)


def test_channels_and_size(folder):
    Image.fromarray(picture((8, 6, 3))).save(folder / "cat" / "red.png")
    assert load_data(f"folder:{folder}").stored.shape == (7, 3, 8, 6)
    assert load_data(f"folder:{folder}?channels=1&size=4x5").stored.shape == (7, 1, 4, 5)
    with pytest.raises(CaromError, match="channels=2"):
        load_data(f"folder:{folder}?channels=2")
    with pytest.raises(CaromError, match="28x28"):
        load_data(f"folder:{folder}?size=big")


def test_one_number_keeps_the_aspect_and_cuts_out_the_middle(folder):
    rows = np.repeat(np.arange(40, dtype=np.uint8)[:, None], 20, 1)
    Image.fromarray(rows).save(folder / "cat" / "tall.png")
    data = load_data(f"folder:{folder}?size=20")
    tall = data.stored[data.ids.index("cat/tall.png"), 0]
    assert data.stored.shape == (7, 1, 20, 20)
    assert tall[:, 0].tolist() == list(range(10, 30)), "the middle, not squashed"
    enlarged = load_data(f"folder:{folder}?size=20&resize=40").stored[data.ids.index("cat/tall.png"), 0]
    assert enlarged[:, 0].float().diff().max() <= 1, "from twice the size, half as much is seen"
    assert 14 <= enlarged.min() < enlarged.max() <= 25
    for bad in ("resize=24", "size=20&resize=10", "size=8x6&resize=10"):
        with pytest.raises(CaromError, match="shorter side before the middle is cut out"):
            load_data(f"folder:{folder}?{bad}")


def test_other_sizes_are_named_with_the_remedy(folder):
    Image.fromarray(picture((9, 6))).save(folder / "cat" / "tall.png")
    with pytest.raises(BadInput, match=r"tall.png: has 9 x 6 pixels where others have 8 x 6.*size = \[8, 6\]"):
        load_data(f"folder:{folder}")


def test_exif_orientation(tmp_path):
    (tmp_path / "a").mkdir()
    image = Image.fromarray(picture((8, 6, 3)))
    exif = image.getexif()
    exif[0x0112] = 6  # turn right
    image.save(tmp_path / "a" / "x.png", exif=exif)
    assert load_data(f"folder:{tmp_path}").stored.shape == (1, 3, 6, 8)


def broken_files(folder):
    whole = (folder / "cat" / "0.png").read_bytes()
    (folder / "cat" / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (folder / "cat" / "text.png").write_text("no picture")
    (folder / "cat" / "empty.png").write_bytes(b"")


def test_every_bad_file_is_named(folder):
    broken_files(folder)
    with pytest.raises(CaromError) as caught:
        load_data(f"folder:{folder}")
    assert "3 inputs cannot be used" in str(caught.value)
    for name in ("truncated.png", "text.png", "empty.png"):
        assert name in str(caught.value)


def test_bad_files_are_left_out_on_request(folder):
    broken_files(folder)
    data = load_data(f"folder:{folder}", on_error="skip")
    assert len(data) == 6
    assert len(data.skipped) == 3
    assert len(load_data(f"folder:{folder}", on_error="skip", limit=5)) == 5
    with pytest.raises(UnknownName, match="skip"):
        load_data(f"folder:{folder}", on_error="skpi")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda: Image.fromarray(picture((8, 6)).astype(np.uint16) * 200), "not 8 bits"),
        (lambda: Image.fromarray(picture((40, 50))), "more than max_pixels=1000"),
    ],
)
def test_pictures_that_are_refused(content, says):
    file = io.BytesIO()
    content().save(file, format="PNG")
    with pytest.raises(BadInput, match=says):
        read_image(file.getvalue(), "here.png", max_pixels=1000)


@pytest.mark.parametrize("form", ["MPO", "GIF", "TIFF", "WEBP", "PNG"])
def test_of_several_pictures_the_first_is_read_and_that_is_said(form, tmp_path):
    frames = [Image.new("RGB", (8, 8), (value,) * 3) for value in (200, 20, 60)]
    (tmp_path / "only").mkdir()
    ending = {"MPO": "jpg"}.get(form, form.lower())
    frames[0].save(tmp_path / "only" / f"a.{ending}", format=form, save_all=True, append_images=frames[1:])
    data = load_data(f"folder:{tmp_path}")
    assert abs(data.stored.float().mean() - 200) < 3
    assert "of 1 files that hold several pictures the first was taken" in data.remarks[0]


def test_decompression_bombs_are_errors(monkeypatch):
    file = io.BytesIO()
    Image.fromarray(picture((40, 50))).save(file, format="PNG")
    for most in (1500, 500):  # PIL warns above its limit and refuses above twice that
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
        with pytest.raises(BadInput, match="huge image"):
            read_image(file.getvalue(), "bomb.png")


def test_folders_that_hold_nothing(tmp_path):
    with pytest.raises(CaromError, match="no such folder"):
        load_data(f"folder:{tmp_path / 'none'}")
    with pytest.raises(CaromError, match="FOLDER/CLASS/FILE"):
        load_data(f"folder:{tmp_path}")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.heic").write_bytes(b"x")
    with pytest.raises(CaromError, match=r"\.heic"):
        load_data(f"folder:{tmp_path}")


def test_facts_are_checked(folder):
    with pytest.raises(UnknownName, match="channels"):
        load_data(f"folder:{folder}?chanels=1")
    with pytest.raises(UnknownName, match="folder"):
        load_data(f"foldr:{folder}")


def test_hub_table_on_disk(tmp_path):
    datasets = pytest.importorskip("datasets")
    images = [Image.fromarray(picture(seed=k)) for k in range(5)]
    features = datasets.Features({"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["a", "b"])})
    table = datasets.Dataset.from_dict({"picture": images, "kind": [0, 1, 0, 1, 1]}, features=features)
    datasets.DatasetDict({"validation": table}).save_to_disk(str(tmp_path / "set"))
    data = load_data(f"hf:{tmp_path / 'set'}:validation[1:4]")
    assert data.classes == ("a", "b")
    assert data.labels.tolist() == [1, 0, 1]
    assert np.array_equal(data.stored[0, 0].numpy(), picture(seed=1))
    with pytest.raises(UnknownName, match="validation"):
        load_data(f"hf:{tmp_path / 'set'}:valid")


def test_torchvision_set(tmp_path):
    import pickle

    base = tmp_path / "cifar-10-batches-py"
    base.mkdir()
    with pytest.raises(CaromError, match="root="):
        load_data("torchvision:CIFAR10")
    with pytest.raises(CaromError, match="download=true"):
        load_data(f"torchvision:CIFAR10?root={tmp_path}")
    with pytest.raises(UnknownName, match="CIFAR10"):
        load_data("torchvision:CIFAR11")
    from torchvision.datasets import CIFAR10

    batch = {"data": picture((7, 3072)), "labels": [0, 1, 2, 3, 4, 5, 9]}
    (base / "test_batch").write_bytes(pickle.dumps(batch))
    (base / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"class{k}" for k in range(10)]}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
        assert CIFAR10.base_folder == base.name
        data = load_data(f"torchvision:CIFAR10?root={tmp_path}", limit=4)
    assert data.stored.shape == (4, 3, 32, 32)
    assert data.classes[9] == "class9"
    assert all(name.startswith("cifar10-test-") for name in data.ids)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_pictures_are_brought_to_their_size_as_they_are_read(mode, tmp_path):
    """What is kept is what is used: as if all had been read first."""
    for k in range(3):
        (tmp_path / "a").mkdir(exist_ok=True)
        Image.fromarray(picture((60 + 10 * k, 90, 3), seed=k)).convert(mode).save(tmp_path / "a" / f"{k}.png")
    data = load_data(f"folder:{tmp_path}?size=32&resize=40")
    first = Image.open(tmp_path / "a" / "0.png").resize((60, 40), Image.Resampling.BILINEAR).crop((14, 4, 46, 36))
    assert torch.equal(data.stored[0].permute(1, 2, 0).squeeze(), torch.from_numpy(np.array(first)))
    kept = []
    real = Image.Image.resize

    def watched(self, size, *rest, **named):
        kept.append(self.size)
        return real(self, size, *rest, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image.Image, "resize", watched)
        (tmp_path / "a" / "bad.png").write_bytes(b"no picture")
        with pytest.raises(BadInput, match=r"bad.png"):
            load_data(f"folder:{tmp_path}?size=32")
    assert len(kept) == 3  # though the last file cannot be read


def test_grey_and_coloured_pictures_are_brought_to_one_form(tmp_path):
    (tmp_path / "a").mkdir()
    Image.new("L", (8, 8), 100).save(tmp_path / "a" / "0.png")
    Image.new("RGB", (8, 8), (1, 2, 3)).save(tmp_path / "a" / "1.png")
    Image.new("CMYK", (8, 8), (0, 0, 0, 0)).save(tmp_path / "a" / "2.jpg")
    Image.new("P", (8, 8), 0).save(tmp_path / "a" / "3.gif")
    data = load_data(f"folder:{tmp_path}")
    assert data.stored.shape == (4, 3, 8, 8)
    assert data.stored[0].unique().tolist() == [100]
    assert data.stored[1, :, 0, 0].tolist() == [1, 2, 3]
    assert load_data(f"folder:{tmp_path}?channels=1").stored.shape == (4, 1, 8, 8)


def test_classes_of_a_hub_table_are_matched_by_name(tmp_path):
    datasets = pytest.importorskip("datasets")
    cells = []
    for value in (5, 5, 250):
        file = io.BytesIO()
        Image.new("RGB", (8, 8), (value,) * 3).save(file, format="PNG")
        cells.append({"bytes": file.getvalue(), "path": None})
    names = datasets.ClassLabel(names=["black", "white"])
    kinds = (names, ["black", "black", "white"]), (datasets.Value("string"), ["black", "black", "white"])
    for place, (kind, labels) in enumerate((*kinds, (datasets.Value("int64"), [0, 0, 1]))):
        features = datasets.Features({"image": datasets.Image(), "label": kind})
        datasets.Dataset.from_dict({"image": cells, "label": labels}, features).save_to_disk(str(tmp_path / str(place)))
        spec = f"hf:{tmp_path / str(place)}?label=label"
        data = load_data(f"{spec}&classes=grey,white,black" if place < 2 else f"{spec}&classes=black,white")
        assert [data.classes[label] for label in data.labels] == ["black", "black", "white"]
    with pytest.raises(CaromError, match=r"'black', 'white' are none of the stated classes dark, light"):
        load_data(f"hf:{tmp_path / '0'}?classes=dark,light")
    features = datasets.Features({"image": datasets.Image(), "label": names})
    datasets.Dataset.from_dict({"image": cells, "label": [0, -1, 1]}, features).save_to_disk(str(tmp_path / "hidden"))
    with pytest.raises(BadInput, match=r"row 1: label -1 is no class of black, white"):
        load_data(f"hf:{tmp_path / 'hidden'}")
    skipped = load_data(f"hf:{tmp_path / 'hidden'}", on_error="skip")
    assert (len(skipped), len(skipped.skipped)) == (2, 1)


def test_colours_of_16_bits_are_not_cut_to_8_in_silence(tmp_path):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + struct.pack(">12H", *range(0, 12000, 1000)) for _ in range(4))
    header = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    with pytest.raises(BadInput, match="RGB;16B, not 8 bits"):
        read_image(b"\x89PNG\r\n\x1a\n" + b"".join(parts), "deep.png")
