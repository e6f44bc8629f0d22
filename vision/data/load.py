"""Image data: Fashion-MNIST as it ships, class folders, torchvision's and Hugging Face's data sets.

Pictures are read without trust: decompression bombs, truncated files and odd modes are errors that name the file.
"""

from __future__ import annotations

import inspect
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from carom.common.base.errors import BadInput, CaromError, UnknownName
from carom.common.base.specs import existing, parse
from carom.common.core.data import Dataset, sampling_order
from carom.common.loading.class_folders import Source, class_folders, raise_all, read_all
from carom.common.loading.facts import Fact, MissingFacts, class_names, known_facts, need, stated_classes, whole_fact
from carom.common.loading.hub_tables import hub_dataset, hub_sources
from carom.vision.data import cifar, fashion
from carom.vision.space import PIXELS

BUILTIN = {
    "fashion-mnist": "2 000 test images of ten kinds of clothing, 28 x 28 grey pixels (and 10 000 for training)",
    "cifar-10-sample": "200 test images of CIFAR-10: ten kinds of vehicles and animals, 32 x 32 colour pixels",
}
_SHIPPED = {"fashion-mnist": (fashion.load, fashion.CLASSES), "cifar-10-sample": (cifar.load_sample, cifar.CLASSES)}
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
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
    known_facts(facts, ("channels", "size", "resize", "max_pixels", "classes"), f"folder:{path}")
    classes, sources = class_folders(existing(path, "folder"), split, ENDINGS, stated_classes(facts))
    return _read(f"folder:{path}", split, classes, sources, limit, on_error, facts)


def _hub(rest: str, split: str, limit: int | None, on_error: str, facts: Mapping[str, Any]) -> Dataset:
    from datasets import Image

    known_facts(facts, ("channels", "size", "resize", "max_pixels", "classes", "image", "label"), f"hf:{rest}")
    table, split = hub_dataset(rest, split)
    classes, sources = hub_sources(table, rest, Image, facts, "image")
    return _read(f"hf:{rest}", split, classes, sources, limit, on_error, facts)


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
        arguments["download"] = bool(facts.get("download", False))
    try:
        table = kind(**arguments)
    except (RuntimeError, OSError, ValueError) as error:
        raise CaromError(
            f"torchvision:{name}: {str(error).splitlines()[0].rstrip('.')}. Check root={facts['root']!r} and the "
            "split; download=true fetches data that torchvision can fetch."
        ) from error
    ids = [f"{name.lower()}-{split}-{row:05d}" for row in range(len(table))]
    rows = sampling_order(ids, limit)[:limit].sort().values.tolist()
    pairs = [table[row] for row in rows]
    if not all(isinstance(label, int | np.integer) for _, label in pairs):
        raise CaromError(f"torchvision:{name}: its targets are no class numbers. Choose a data set for classification.")
    seen = [(ids[row], to_array(image, ids[row])) for row, (image, _) in zip(rows, pairs, strict=True)]
    count = max(int(label) for _, label in pairs) + 1
    names = class_names(facts.get("classes", getattr(table, "classes", count)))
    images, _ = _stack(seen, facts)
    labels = torch.tensor([int(label) for _, label in pairs])
    return Dataset(
        f"torchvision:{name}", "image", PIXELS, images, labels, [n for n, _ in seen], names, facts={"split": split}
    )


_LOADERS: dict[str, Callable[..., Dataset]] = {
    "builtin": _builtin,
    "folder": _folder,
    "torchvision": _torchvision,
    "hf": _hub,
}


def _read(
    name: str,
    split: str,
    classes: Sequence[str],
    sources: Sequence[Source],
    limit: int | None,
    on_error: str,
    facts: Mapping[str, Any],
) -> Dataset:
    most = whole_fact(facts, "max_pixels", MAX_PIXELS)
    read, skipped = read_all(sources, lambda s: read_image(s.fetch(), s.where, most), limit, on_error)
    if not read:
        raise CaromError(f"{name}: none of {len(sources)} files can be used: {skipped[0]}")
    images, kept = _stack([(source.where, image) for source, image in read], facts)
    return Dataset(
        name,
        "image",
        PIXELS,
        images,
        torch.tensor([source.label for source, _ in read]),
        [source.id for source, _ in read],
        tuple(classes),
        facts={"split": split, **kept},
        skipped=skipped,
    )


def read_image(content: Path | bytes, where: str, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """uint8[H, W] of a grey picture or uint8[H, W, 3] of a coloured one, upright as its EXIF data says.

    Raises BadInput for what is no picture, is truncated, animated, of more than 8 bits, or has too many pixels.
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
                return to_array(image, where)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadInput(where, f"would unpack to a huge image ({error})", "Make it smaller.") from error
    except UnidentifiedImageError as error:
        raise BadInput(where, f"is not a picture in {', '.join(FORMATS)}", "Replace or remove it.") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        if isinstance(error, FileNotFoundError):
            raise BadInput(where, "does not exist", "Correct the path.") from error
        raise BadInput(where, f"cannot be read to its end ({error})", "Replace or remove it.") from error


def to_array(image: Any, where: str) -> np.ndarray:
    """uint8[H, W] or uint8[H, W, 3] of a PIL image."""
    from PIL import ImageOps

    if getattr(image, "n_frames", 1) > 1:
        raise BadInput(where, f"holds {image.n_frames} pictures", "Save the one that is meant as a file of its own.")
    if image.mode not in (*GREY, *COLOUR):
        raise BadInput(where, f"has pixels of mode {image.mode}, not 8 bits", "Convert it to 8-bit grey or RGB.")
    grey = image.mode in GREY
    return np.asarray(ImageOps.exif_transpose(image).convert("L" if grey else "RGB"))


def _stack(images: Sequence[tuple[str, np.ndarray]], facts: Mapping[str, Any]) -> tuple[Tensor, dict[str, Any]]:
    """uint8[N, C, H, W] of images in the wanted colours and size, and what was decided."""
    from PIL import Image

    grey = all(image.ndim == 2 for _, image in images)
    channels = whole_fact(facts, "channels", 1 if grey else 3)
    if channels not in (1, 3):
        raise CaromError(f"channels={channels}: images have 1 channel (grey) or 3 (red, green, blue).")
    size, shorter = _size(facts.get("size")), _shorter(facts)
    sizes: dict[tuple[int, int], str] = {}
    for where, image in images:
        sizes.setdefault((image.shape[0], image.shape[1]), where)
    if size is None and len(sizes) > 1:
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
    mode = "L" if channels == 1 else "RGB"
    rows = []
    for _, array in images:
        whole = size is None or (array.shape[:2] == size and shorter in (None, size[0]))
        if (array.ndim == 2) == (channels == 1) and whole:
            rows.append(array)
            continue
        picture = Image.fromarray(array).convert(mode)
        if shorter is not None and size is not None:
            picture = _cut(picture, shorter, size[0])
        elif size is not None:
            picture = picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)
        rows.append(np.asarray(picture))
    stacked = torch.from_numpy(np.stack(rows))
    return (stacked[:, None] if channels == 1 else stacked.permute(0, 3, 1, 2).contiguous()), {"channels": channels}


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
