"""Everything that Carom reads from others: a sound file or folder of tests/fuzz/corpus, and how it is read.

A reader is called in a folder that holds a copy, changed somewhere. It gives back anything, or raises CaromError.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

NETWORK = "zoo:image-vgg"  # what the card of the surrogate names; its weights are those of `network`

IMAGE = {"shape": (1, 2, 2), "bounds": (0, 1)}


def network() -> Any:
    """A torch model of 2 classes with a dozen weights."""
    import torch
    from torch import nn

    import carom

    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    return carom.load_model(module, "image", normalise=None, classes=["a", "b"], shape=(1, 2, 2), name="tiny")


def write_surrogate(path: Path) -> None:
    """A sound file of a surrogate. It is not in the corpus: its digest names the code of its network too."""
    from carom.common.surrogates.files import save_surrogate

    model = network()
    model.card = {"kind": "substitute", "network": NETWORK, "queries": 3}
    save_surrogate(model, path)
    path.with_suffix(".json").unlink()


def study(file: Path) -> Any:
    from carom.common.modality.budgets import threat_from
    from carom.common.modality.installed import get_modality, modality_names
    from carom.common.modality.registry import choose_attack
    from carom.common.runs.devices import pick_device
    from carom.common.study.config import make_study, read_study

    found = make_study(read_study(file, modality_names()), str(file))
    pick_device(found.device)
    for name, part in found.modalities.items():
        modality = get_modality(name)
        if part.threat is not None and part.eps is not None:
            threat_from(modality, part.threat, part.eps)
        for attack in part.attacks:
            choose_attack(modality, attack, part.threat)


def run_folder(folder: Path) -> Any:
    from carom.common.cli.listing import _seconds
    from carom.common.runs.run import load_run, names_besides

    return names_besides(load_run(folder)[0]), _seconds(folder)


def saved_set(file: Path) -> Any:
    from carom.common.study.replay import bound, known_source, load_set

    found = load_set(file)
    return bound(found), known_source(found), repr(found)


def store(folder: Path) -> Any:
    """What is read is what was stored, or is not done."""
    from carom.common.base.errors import CaromError
    from carom.common.work.store import Store, key_of

    held, key = Store(folder), key_of({"kind": "fuzz"})
    if not held.has(key):
        raise CaromError("not done")
    assert held.rows(key)["answer"].to_pylist() == [0, 1, 1]
    assert held.tensors(key)["inputs"].flatten().tolist() == list(range(48))
    assert held.seconds(key) == 1.5


def surrogate(file: Path) -> Any:
    import carom
    from carom.common.base.errors import CaromError

    try:
        carom.load_surrogate(file, like=network())
    except CaromError:
        carom.load_model(f"surrogate:{file}")


def weights(file: Path) -> Any:
    from carom.common.loading.weights import load_state

    return load_state(file)


def estimator(file: Path) -> Any:
    import carom

    return carom.load_model(f"sklearn:{file}", "image", **IMAGE)


def boosted(kind: str) -> Callable[[Path], Any]:
    def read(file: Path) -> Any:
        import carom

        return carom.load_model(f"{kind}:{file}", "image", **IMAGE)

    return read


def log(file: Path) -> Any:
    from carom.common.study.replay import load_set

    return load_set(file, "text", classes="negative,positive")


def arrays(file: Path) -> Any:
    from carom.common.study.replay import load_set

    return load_set(file, "image")


def texts(file: Path) -> Any:
    import carom

    return carom.load_data(f"folder:{file}", modality="text", classes="negative,positive")


def media(modality: str) -> Callable[[Path], Any]:
    def read(file: Path) -> Any:
        import carom

        folder = file.parent / "media" / "a"
        folder.mkdir(parents=True)
        file.rename(folder / file.name)
        more = {"size": 8, "channels": 3} if modality == "image" else {"sample_rate": 8000}
        return carom.load_data(f"folder:{folder.parent}", modality=modality, split="all", **more)

    return read


def hub_model(folder: Path) -> Any:
    import carom

    model = carom.load_model(f"hf:{folder}", "text")
    return model.name, model.classes


def hub_data(folder: Path) -> Any:
    import carom

    return carom.load_data(f"hf:{folder}:test", modality="text", classes="negative,positive")


READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "study": ("study.toml", study),
    "run folder": ("run", run_folder),
    "saved set": ("set.parquet", saved_set),
    "saved texts": ("texts.parquet", saved_set),
    "store": ("store", store),
    "surrogate": ("surrogate.safetensors", surrogate),
    "weights": ("weights.safetensors", weights),
    "tree": ("tree.skops", estimator),
    "linear": ("linear.skops", estimator),
    "xgboost": ("boosted.json", boosted("xgboost")),
    "xgboost's UBJSON": ("boosted.ubj", boosted("xgboost")),
    "lightgbm": ("boosted.txt", boosted("lightgbm")),
    "catboost": ("boosted_catboost.json", boosted("catboost")),
    "log": ("log.csv", log),
    "JSON log": ("log.jsonl", log),
    "arrays": ("pairs.npz", arrays),
    "texts": ("texts.csv", texts),
    "JSON texts": ("texts.jsonl", texts),
    "table": ("table.parquet", texts),
    "wav": ("sound.wav", media("audio")),
    "flac": ("sound.flac", media("audio")),
    "png": ("picture.png", media("image")),
    "jpeg": ("picture.jpg", media("image")),
    "hub model": ("hub", hub_model),
    "hub data": ("data", hub_data),
}
"""What is read -> (its sound copy in the corpus, the reader)"""
