"""Writes tests/fuzz/corpus: one small sound file for each thing that Carom reads.

python tests/fuzz/make_corpus.py
"""

from __future__ import annotations

import csv
import json
import math
import wave
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import save_file

CORPUS = Path(__file__).parent / "corpus"

STUDY = """
seeds = [0, 1]
controls = 2
match = [0.5]
store = "s"
out = "o"

[image]
sources = ["zoo:image-tree", {spec = "zoo:image-mlp", name = "mine"}]
targets = ["zoo:image-tree"]
attacks = ["leaf-path", "pgd?steps=3&restarts=1"]
threat = "linf"
eps = "8/255"
limit = 2
targeted = false
"""
PAIRS = [("a fine film of some charm", "a good film of some charm", 1), ("a dull sad film", "a dull grim film", 0)]


def main() -> None:
    import carom

    CORPUS.mkdir(exist_ok=True)
    (CORPUS / "study.toml").write_text(STUDY)
    _run_folder(CORPUS / "run")
    _set(carom)
    _store(CORPUS / "store")
    _weights()
    _estimators()
    _tables()
    _media()
    _hub(CORPUS / "hub")
    _data(CORPUS / "data")


def _run_folder(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    part = {"data": {"spec": "builtin:fashion-mnist"}, "sources": [{"spec": "zoo:image-tree"}]}
    part |= {"targets": [{"spec": "zoo:image-tree"}], "attacks": ["leaf-path"], "threat": "linf", "eps": "8/255"}
    study = {"modalities": {"image": part}, "seeds": [0], "store": ".carom/store", "out": None}
    manifest = {"command": ["carom", "run"], "finished": "2026-01-01T00:00:00Z", "versions": {}}
    for name, value in {"study": study, "manifest": manifest, "result": {"seconds": 1.5}}.items():
        (folder / f"{name}.json").write_text(json.dumps(value))


def _set(carom) -> None:
    model = carom.load_model("zoo:image-tree")
    crafted = carom.attack(model, carom.load_data("builtin:fashion-mnist", limit=2), "leaf-path", eps="8/255")
    crafted.save(CORPUS / "set.parquet")
    texts = carom.load_data("builtin:rotten-tomatoes", limit=2)
    carom.attack(carom.load_model("zoo:text-linear"), texts, "greedy-delete", eps=0.3).save(CORPUS / "texts.parquet")


def _store(folder: Path) -> None:
    from carom.common.work.store import Store, key_of

    rows = pa.table({"id": ["a", "b", "c"], "answer": [0, 1, 1], "margin": [0.5, -1.25, 3.0]})
    Store(folder).commit(
        key_of({"kind": "fuzz"}), rows, {"inputs": torch.arange(48, dtype=torch.uint8).view(3, 16)}, 1.5
    )


def _weights() -> None:
    save_file({"w": torch.arange(6.0).view(2, 3), "b": torch.zeros(2)}, CORPUS / "weights.safetensors")


def _estimators() -> None:
    import skops.io
    from sklearn.linear_model import LogisticRegression
    from sklearn.tree import DecisionTreeClassifier

    rng = np.random.default_rng(0)
    x, y = rng.random((40, 4)).astype("f4"), np.array(["a", "b"] * 20)
    skops.io.dump(DecisionTreeClassifier(max_depth=2, random_state=0).fit(x, y), CORPUS / "tree.skops")
    skops.io.dump(LogisticRegression().fit(x, y), CORPUS / "linear.skops")
    _boosted(x, (y == "b").astype(int))


def _boosted(x: np.ndarray, y: np.ndarray) -> None:
    import catboost
    import lightgbm
    import xgboost

    model = xgboost.XGBClassifier(n_estimators=2, max_depth=2, n_jobs=1).fit(x, y)
    model.save_model(CORPUS / "boosted.json")
    model.save_model(CORPUS / "boosted.ubj")
    leaves = lightgbm.LGBMClassifier(n_estimators=2, num_leaves=4, min_child_samples=2, n_jobs=1, verbose=-1)
    leaves.fit(x, y).booster_.save_model(str(CORPUS / "boosted.txt"))
    settings = {"verbose": 0, "allow_writing_files": False, "thread_count": 1}
    catboost.CatBoostClassifier(2, depth=2, **settings).fit(x, y).save_model(
        str(CORPUS / "boosted_catboost.json"), format="json"
    )


def _tables() -> None:
    fields = ("original_text", "perturbed_text", "ground_truth_output", "original_output", "perturbed_output")
    rows = [(a, b, y, y, 1 - y, 9, "Successful") for a, b, y in PAIRS]
    with (CORPUS / "log.csv").open("w", newline="") as file:
        csv.writer(file).writerows([(*fields, "num_queries", "result_type"), *rows])
    lines = [
        {"data": {"x": a, "y": y}, "success": True, "result": b, "metrics": {"Victim Model Queries": 9}}
        for a, b, y in PAIRS
    ]
    (CORPUS / "log.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    texts = {"text": [a for a, _, _ in PAIRS], "label": [y for *_, y in PAIRS]}
    (CORPUS / "texts.csv").write_text(
        "text,label\n" + "".join(f'"{t}",{y}\n' for t, y in zip(*texts.values(), strict=True))
    )
    (CORPUS / "texts.jsonl").write_text("".join(json.dumps(r) + "\n" for r in pa.table(texts).to_pylist()))
    pq.write_table(pa.table(texts), CORPUS / "table.parquet")
    clean = np.random.default_rng(1).integers(0, 255, (2, 1, 6, 6), dtype=np.uint8)
    np.savez(CORPUS / "pairs.npz", clean=clean, adversarial=clean ^ 1, labels=np.array([0, 1]))


def _media() -> None:
    import soundfile

    tone = [int(9000 * math.sin(n / 4)) for n in range(400)]
    with wave.open(str(CORPUS / "sound.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(np.array(tone, dtype="<i2").tobytes())
    soundfile.write(CORPUS / "sound.flac", np.array(tone, dtype="int16"), 8000)
    picture = Image.fromarray(np.random.default_rng(2).integers(0, 255, (8, 8, 3), dtype=np.uint8))
    picture.save(CORPUS / "picture.png")
    picture.save(CORPUS / "picture.jpg")


def _hub(folder: Path) -> None:
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + c for c in letters)]
    vocabulary = CORPUS / "vocab.txt"
    vocabulary.write_text("\n".join(words))
    BertTokenizerFast(str(vocabulary)).save_pretrained(folder)
    vocabulary.unlink()
    torch.manual_seed(0)
    small = {"hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 4}
    labels = {"id2label": {0: "negative", 1: "positive"}, "label2id": {"negative": 0, "positive": 1}}
    config = BertConfig(vocab_size=len(words), max_position_embeddings=32, **labels, **small)
    BertForSequenceClassification(config).save_pretrained(folder)


def _data(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "x.csv").write_text("text,label\na fine film,0\na dull film,1\n")
    head = "configs:\n- config_name: default\n  data_files:\n  - split: test\n    path: x.csv\n"
    (folder / "README.md").write_text(f"---\n{head}---\n# Films\n")


if __name__ == "__main__":
    main()
