"""A user's own folders and models, through the TOML that `carom init` writes."""

from __future__ import annotations

import csv
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

MODELS = """
import torch
from torch import nn

def small_cnn():
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    return nn.Sequential(features, nn.Flatten(), nn.Linear(8, 2))

def other_net():
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 2))

class Net(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.front = nn.Conv1d(1, 8, 64, stride=32)
        self.rnn = nn.GRU(8, 8, batch_first=True) if kind == "gru" else None
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        f = torch.relu(self.front(x[:, None]))
        return self.head(f.mean(2) if self.rnn is None else self.rnn(f.transpose(1, 2))[0][:, -1])

def word_cnn():
    torch.manual_seed(0)
    return Net("cnn")

def word_gru():
    torch.manual_seed(0)
    return Net("gru")

def sentiment():
    def probabilities(texts):
        good = [sum(w in ("good", "fine", "great") for w in t.lower().split()) + 0.1 for t in texts]
        bad = [sum(w in ("bad", "awful", "dull") for w in t.lower().split()) + 0.1 for t in texts]
        return [[b / (g + b), g / (g + b)] for g, b in zip(good, bad)]
    return probabilities

def second_opinion():
    def probabilities(texts):
        score = [0.5 + 0.4 * ("good" in t.lower()) - 0.4 * ("bad" in t.lower()) for t in texts]
        return [[1 - s, s] for s in score]
    return probabilities
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Two classes of images and of sounds, a CSV of texts, and the models above."""
    rng = np.random.default_rng(0)
    for i in range(6):
        for label, colour in (("cat", 60), ("dog", 190)):
            folder = tmp_path / "photos" / label
            folder.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(colour - 40, colour + 40, (16, 16, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
        for label, pitch in (("no", 300), ("yes", 900)):
            folder = tmp_path / "words" / label
            folder.mkdir(parents=True, exist_ok=True)
            wave = 0.4 * np.sin(2 * np.pi * pitch * np.arange(4000 + 100 * i) / 16000) + 0.01 * rng.normal(
                size=4000 + 100 * i
            )
            soundfile.write(folder / f"{i}.wav", wave, 16000, subtype="PCM_16")
    with (tmp_path / "reviews.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        for i in range(5):
            rows.writerow([f"a good and fine film number {i}", "positive"])
            rows.writerow([f"a bad and dull story of part {i}", "negative"])
    (tmp_path / "mymodels.py").write_text(MODELS)
    return tmp_path


def test_the_walk_with_the_file_that_init_writes(carom: Any, own: Path) -> None:
    assert carom("init").code == 0
    assert carom("init").code == 2, "an existing file is not overwritten"
    answer = carom("run", "carom.toml", "--out", "r", "--json", "-q")
    assert answer.code == 0, answer.err
    parts = answer.json["modalities"]
    assert {name: len(part["cells"]) for name, part in parts.items()} == {"image": 2, "audio": 2, "text": 2}
    assert {c["target_family"] for c in parts["audio"]["cells"]} == {"cnn", "rnn"}
    assert Path("r/report.html").stat().st_size > 10_000


def test_every_commented_default_of_the_template_is_the_default() -> None:
    from carom.common.cli.main import study_to_start_from
    from carom.common.study.config import Study

    text = study_to_start_from()
    commented = [line[2:] for line in text.splitlines() if line.startswith("# ") and " = " in line]
    settings = tomllib.loads("\n".join(line for line in commented if line.split(" = ")[0] in Study.model_fields))
    for name, value in settings.items():
        if name != "out":
            assert Study.model_fields[name].default == value, name
