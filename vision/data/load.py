"""Image data: Fashion-MNIST as it ships, class folders, torchvision's and Hugging Face's data sets.

Pictures are read without trust: decompression bombs, truncated files and odd modes are errors that name the file.
"""

from __future__ import annotations

import inspect
import io
import struct
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from carom.common.base.errors import BadInput, CaromError, UnknownName
from carom.common.base.parameters import flag
from carom.common.base.specs import existing, parse
from carom.common.core.data import Dataset, sampling_order
from carom.common.loading.class_folders import Labelled, Source, class_folders, raise_all, read_all
from carom.common.loading.facts import Fact, MissingFacts, known_facts, need, stated_classes, whole_fact
from carom.common.loading.hub_tables import hub_dataset, hub_sources
from carom.common.loading.labels import labels_of
from carom.vision.data import cifar, fashion, imagenet  # noqa: F401 - imagenet adds its list of classes
from carom.vision.space import PIXELS

BUILTIN = {
    "fashion-mnist": "2 000 test images of ten kinds of clothing, 28 x 28 grey pixels (and 10 000 for training)",
    "cifar-10-sample": "200 test images of CIFAR-10: ten kinds of vehicles and animals, 32 x 32 colour pixels",
}
_SHIPPED = {"fashion-mnist": (fashion.load, fashion.CLASSES), "cifar-10-sample": (cifar.load_sample, cifar.CLASSES)}
ENDINGS = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
GREY, COLOUR = ("1", "L", "LA"), ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
MAX_PIXELS = 50_000_000

ROOT = Fact("root", "folder", "root=FOLDER, where torchvision keeps the data", "root=FOLDER")


def load_data(
    spec: str, *, split: str = "test", limit: int | None = None, on_error: str = "raise", **facts: Any
) -> Dataset:
    """Labelled images from `builtin:fashion-mnist`, `folder:PATH`, `torchvision:CIFAR10` or `hf:name:split[:500]`.

    Facts, as keywords or as parameters of the spec: `channels` 1 or 3 (else 1 if every image is grey); `size`, else all
    must have the same: one number brings the shorter side to it and cuts out the middle, (height, width) resizes to it
    whatever the aspect; `resize`, the shorter side before the middle is cut out (?size=224&resize=256); `max_pixels` of
    one file; `classes` in the order of the models;
    folder: `links=true` follows links that lead out of the folder;
    torchvision: `root` and `download=true`; hf: the columns `image` and `label`.

    Raises BadInput for a file that cannot be used, and one error that names all where there are several; with
    `on_error="skip"` they are left out and listed in `Dataset.skipped`.
    """
    source = parse(spec, tuple(_LOADERS))
    facts = {**source.parameters, **facts}
    return _LOADERS[source.kind](source.rest, split, limit, on_error, facts)


def _builtin(name: str, split: str, limit: int | None, on_error: str, facts: Mapping[str, Any]) -> Dataset:
    if name not in BUILTIN:
        raise UnknownName("built-in image data", name, BUILTIN)
    known_facts(facts, (), f"builtin:{name}")
    load, classes = _SHIPPED[name]
    images, labels, ids = load(split)
    data = Dataset(f"builtin:{name}", "image", PIXELS, images, labels, ids, classes, facts={"split": split})
    return data.sample(limit)


def _folder(path: str, split: str, limit: int | None, on_error: str, facts: Mapping[str, Any]) -> Dataset:
    known_facts(facts, ("channels", "size", "resize", "max_pixels", "classes", "links"), f"folder:{path}")
    links = flag(facts, "links", f"folder:{path}")
    found = class_folders(existing(path, "folder"), split, ENDINGS, stated_classes(facts), links)
    return _read(f"folder:{path}", split, found, limit, on_error, facts)


def _hub(rest: str, split: str, limit: int | None, on_error: str, facts: Mapping[str, Any]) -> Dataset:
    from datasets import Image

    known_facts(facts, ("channels", "size", "resize", "max_pixels", "classes", "image", "label"), f"hf:{rest}")
    table, split = hub_dataset(rest, split)
    return _read(f"hf:{rest}", split, hub_sources(table, rest, Image, facts, "image"), limit, on_error, facts)


def _torchvision(name: str, split: str, limit: int | None, on_error: str, facts: Mapping[str, Any]) -> Dataset:
    """Any torchvision data set of (image, class number) pairs; only the examples asked for are decoded."""
    from torchvision import datasets

    known = [n for n in datasets.__all__ if inspect.isclass(getattr(datasets, n)) and n != "FakeData"]
    if name not in known:
        raise UnknownName("torchvision data set", name, known)
    known_facts(facts, ("root", "download", "channels", "size", "resize", "classes"), f"torchvision:{name}")
    try:
        need(facts, [ROOT], f"torchvision:{name}")
    except MissingFacts as error:
        raise error.of_spec() from None
    kind = getattr(datasets, name)
    accepted = inspect.signature(kind).parameters
    arguments: dict[str, Any] = {"root": str(Path(facts["root"]).expanduser())}
    if "train" in accepted:
        if split not in ("train", "test"):
            raise UnknownName(f"split of {name}", split, ("train", "test"))
        arguments["train"] = split == "train"
    elif "split" in accepted:
        arguments["split"] = split
    if "download" in accepted:
        arguments["download"] = flag(facts, "download", name)
    try:
        table = kind(**arguments)
    except (RuntimeError, OSError, ValueError) as error:
        raise CaromError(
            f"torchvision:{name}: {str(error).splitlines()[0].rstrip('.')}. Check root={facts['root']!r} and the "
            "split; download=true fetches data that torchvision can fetch."
        ) from error
    ids = [f"{name.lower()}-{split}-{row:05d}" for row in range(len(table))]
    rows = sampling_order(ids, limit)[:limit].sort().values.tolist()
    wanted = Wanted.of(facts)
    seen: list[tuple[str, np.ndarray]] = []
    numbers: list[int] = []
    for row in rows:
        image, label = table[row]
        if not isinstance(label, int | np.integer):
            raise CaromError(
                f"torchvision:{name}: its targets are no class numbers. Choose a data set for classification."
            )
        seen.append((ids[row], wanted.of_picture(to_array(image, ids[row]))))
        numbers.append(int(label))
    own = getattr(table, "classes", None)
    told = None if own is None else [one if isinstance(one, str) else ", ".join(map(str, one)) for one in own]
    labels = labels_of(numbers, stated_classes(facts), f"torchvision:{name}", told)
    if None in labels.rows:
        labels.refuse(seen[labels.rows.index(None)][0], numbers[labels.rows.index(None)])
    return Dataset(
        f"torchvision:{name}",
        "image",
        PIXELS,
        _stack(seen, wanted)[0],
        torch.tensor(labels.rows),
        [n for n, _ in seen],
        labels.classes,
        facts={"split": split},
    )


_LOADERS: dict[str, Callable[..., Dataset]] = {
    "builtin": _builtin,
    "folder": _folder,
    "torchvision": _torchvision,
    "hf": _hub,
}


def _read(
    name: str, split: str, found: Labelled, limit: int | None, on_error: str, facts: Mapping[str, Any]
) -> Dataset:
    most, wanted = whole_fact(facts, "max_pixels", MAX_PIXELS), Wanted.of(facts)
    several: list[str] = []

    def read_one(source: Source) -> np.ndarray:
        return wanted.of_picture(read_image(source.fetch(), source.where, most, several))

    read, skipped = read_all(found.sources, read_one, limit, on_error)
    if not read:
        raise CaromError(f"{name}: none of {len(found.sources)} files can be used: {skipped[0]}")
    images, kept = _stack([(source.where, image) for source, image in read], wanted)
    first = (
        f"of {len(several)} files that hold several pictures the first was taken, as of {several[0]}" if several else ""
    )
    return Dataset(
        name,
        "image",
        PIXELS,
        images,
        torch.tensor([source.label for source, _ in read]),
        [source.id for source, _ in read],
        found.classes,
        facts={"split": split, **kept},
        skipped=skipped,
        remarks=(*found.remarks, *filter(None, [first])),
        guessed=found.guessed,
    )


DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    struct.error,
)
"""What Pillow raises at damaged files."""


def read_image(
    content: Path | bytes, where: str, max_pixels: int = MAX_PIXELS, several: list[str] | None = None
) -> np.ndarray:
    """uint8[H, W] of a grey picture or uint8[H, W, 3] of a coloured one, upright as its EXIF data says; of a file with
    several pictures (photos with a preview behind, animations, pages) the first, and `several` gets its name.

    Raises BadInput for what is no picture, is truncated, of more than 8 bits, or has too many pixels.
    """
    from PIL import Image, UnidentifiedImageError

    def opened() -> Any:
        return Image.open(io.BytesIO(content) if isinstance(content, bytes) else content, formats=FORMATS)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with opened() as image:
                if image.width * image.height > max_pixels:
                    raise BadInput(
                        where,
                        f"has {image.width} x {image.height} pixels, more than max_pixels={max_pixels}",
                        "Make it smaller, or pass a larger max_pixels if you trust it.",
                    )
                image.verify()
            with opened() as image:
                if several is not None and getattr(image, "n_frames", 1) > 1:
                    several.append(where)
                return to_array(image, where)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadInput(where, f"would unpack to a huge image ({error})", "Make it smaller.") from error
    except UnidentifiedImageError as error:
        raise BadInput(where, f"is not a picture in {', '.join(FORMATS)}", "Replace or remove it.") from error
    except DAMAGED as error:
        if isinstance(error, FileNotFoundError):
            raise BadInput(where, "does not exist", "Correct the path.") from error
        raise BadInput(where, f"cannot be read to its end ({error})", "Replace or remove it.") from error


def to_array(image: Any, where: str) -> np.ndarray:
    """uint8[H, W] or uint8[H, W, 3] of a PIL image: of its first picture."""
    from PIL import ImageOps

    # Pillow reads colours of 16 bits as their upper 8, without a word.
    deep = next((str(args) for *_, args in getattr(image, "tile", ()) if ";16" in str(args)), None)
    if image.mode not in (*GREY, *COLOUR) or deep:
        raise BadInput(
            where, f"has pixels of mode {deep or image.mode}, not 8 bits", "Convert it to 8-bit grey or RGB."
        )
    grey = image.mode in GREY
    return np.asarray(ImageOps.exif_transpose(image).convert("L" if grey else "RGB"))


@dataclass(frozen=True)
class Wanted:
    """What pictures are brought to as they are read, so that no picture is kept larger than it is used."""

    channels: int | None  # None: 1 if all are grey, else 3
    size: tuple[int, int] | None  # None: all have to have the same
    shorter: int | None  # side before the middle is cut out; None: resized whatever the aspect

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Wanted:
        channels = whole_fact(facts, "channels", None)
        if channels not in (None, 1, 3):
            raise CaromError(f"channels={channels}: images have 1 channel (grey) or 3 (red, green, blue).")
        return cls(channels, _size(facts.get("size")), _shorter(facts))

    def of_picture(self, array: np.ndarray) -> np.ndarray:
        """uint8[H, W] or [H, W, 3] in the wanted size and, where they are stated, channels."""
        from PIL import Image

        channels = self.channels or (1 if array.ndim == 2 else 3)
        whole = self.size is None or (array.shape[:2] == self.size and self.shorter in (None, self.size[0]))
        if (array.ndim == 2) == (channels == 1) and whole:
            return array
        picture = Image.fromarray(array).convert("L" if channels == 1 else "RGB")
        if not whole and self.size is not None:
            if self.shorter is not None:
                picture = _cut(picture, self.shorter, self.size[0])
            else:
                picture = picture.resize((self.size[1], self.size[0]), Image.Resampling.BILINEAR)
        return np.array(picture)  # a copy: a view would keep the whole picture


def _stack(images: Sequence[tuple[str, np.ndarray]], wanted: Wanted) -> tuple[Tensor, dict[str, Any]]:
    """uint8[N, C, H, W] of images that were brought to what is wanted, and what was decided."""
    channels = wanted.channels or (1 if all(image.ndim == 2 for _, image in images) else 3)
    sizes: dict[tuple[int, int], str] = {}
    for where, image in images:
        sizes.setdefault((image.shape[0], image.shape[1]), where)
    if len(sizes) > 1:
        usual = max(sizes, key=lambda s: sum(image.shape[:2] == s for _, image in images))
        raise_all(
            [
                BadInput(
                    where,
                    f"has {h} x {w} pixels where others have {usual[0]} x {usual[1]}",
                    f"Resize all: size = [{usual[0]}, {usual[1]}] in a study or from Python, ?size={min(usual)} in a spec.",
                )
                for (h, w), where in sizes.items()
                if (h, w) != usual
            ]
        )
    stacked = torch.empty(len(images), channels, *images[0][1].shape[:2], dtype=torch.uint8)
    for row, (_, image) in zip(stacked, images, strict=True):
        picture = torch.from_numpy(np.array(image))
        row.copy_(picture[None] if picture.dim() == 2 else picture.permute(2, 0, 1))
    return stacked, {"channels": channels}


def _shorter(facts: Mapping[str, Any]) -> int | None:
    """The shorter side that images are brought to before their middle is cut out; None where they are not cut."""
    size, resize = facts.get("size"), facts.get("resize")
    if resize is None:
        return size if isinstance(size, int) else None
    if not isinstance(size, int) or not isinstance(resize, int) or resize < size:
        raise CaromError(
            f"resize={resize!r}, size={size!r}: resize is the shorter side before the middle is cut out, no less than "
            "size, both one number: ?size=224&resize=256."
        )
    return resize


def _cut(picture: Any, shorter: int, side: int) -> Any:
    """The middle square of a PIL image whose shorter side has been brought to `shorter`."""
    from PIL import Image

    width, height = picture.size
    scale = shorter / min(width, height)
    width, height = (max(side, round(edge * scale)) for edge in (width, height))
    left, top = (width - side) // 2, (height - side) // 2
    picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    return picture.crop((left, top, left + side, top + side))


def _size(value: Any) -> tuple[int, int] | None:
    """(height, width) from a pair, one number, or "28x28"."""
    if value is None:
        return None
    parts = value.split("x") if isinstance(value, str) else [value, value] if isinstance(value, int) else value
    try:
        height, width = (int(part) for part in parts)
    except (TypeError, ValueError):
        height = width = 0
    if height < 1 or width < 1:
        raise CaromError(f"size={value!r}: write size=(height, width), or 28x28 in a spec.")
    return height, width
