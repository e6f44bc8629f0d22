"""An invented study with examples in all three modalities, the same every time, for the tests of the report."""

from __future__ import annotations

import io
import math
import wave
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from carom.common.modality.panels import Panel, Picture, Sound, WordDiff
from carom.common.report.page import Example

MODELS = {
    "image": [("resnet", "cnn"), ("vgg", "cnn"), ("gru", "rnn"), ("vit", "transformer"), ("forest", "tree")],
    "audio": [("m5", "cnn"), ("gru", "rnn"), ("transformer", "transformer"), ("forest", "tree")],
    "text": [("cnn", "cnn"), ("lstm", "rnn"), ("transformer", "transformer"), ("linear", "linear")],
}
DATA = {
    "image": ("builtin:fashion-mnist", ["T-shirt", "trouser", "pullover", "dress", "coat"], "linf 8/255"),
    "audio": ("builtin:keywords", ["yes", "no", "up", "down"], "snr 30 dB"),
    "text": ("builtin:rotten-tomatoes", ["negative", "positive"], "words 20%"),
}
ATTACKS = {"image": ("mi-fgsm", "leaf-path"), "audio": ("mi-fgsm", "leaf-path"), "text": ("textfooler", "textfooler")}
RATE, SECONDS = 16_000, 0.5
HOSTILE = '</script><script>document.title="PWNED"</script><img src=x onerror="document.title=\'PWNED\'">'
UNSEEN = "left\u202eright\u2066\x00\x1b[31mred\u200b\ud800"


def around(value: float, n: int) -> tuple[float, float]:
    half = 1.96 * math.sqrt(max(value * (1 - value), 0.02) / n)
    return value - half, value + half


def cell(source: tuple[str, str], target: tuple[str, str], attack: str, threat: str, rng: Any) -> dict[str, Any]:
    """Rates of the right shape: high on the diagonal, higher within a family, hardly any to and from trees."""
    same, kin = source[0] == target[0], source[1] == target[1]
    n = int(rng.integers(110, 190))
    control = float(rng.uniform(0.15, 0.3) if target[1] == "tree" else rng.uniform(0, 0.06))
    gain = 0.97 if same else float(rng.uniform(0.45, 0.7) if kin else rng.uniform(0.1, 0.45))
    if "tree" in (source[1], target[1]) and not same:
        gain = float(rng.uniform(-0.08, 0.15))
    transfer = gain * (1 - control) + control
    row: dict[str, Any] = {
        "source": source[0],
        "target": target[0],
        "source_family": source[1],
        "target_family": target[1],
        "attack": attack,
        "threat": threat,
        "seed": 0,
        "n": n,
        "conditional": min(1.0, transfer * 1.04),
        "conditional_n": int(n * 0.95),
        "same_mistake": 1.0 if same else float(rng.uniform(0.3, 0.8)),
        "swapped": control * 1.2,
        "targeted": None,
        "targeted_control": None,
        "white_box": 0.97,
        "white_box_control": 0.03,
        "control_limit": 0.97 / 2 if threat.startswith("words") else 0.1,
        "forward": 11.0,
        "backward": 10.0,
        "queries": 0.0,
        "seconds": 0.0213,
        "warnings": [],
    }
    for name, value in {"transfer": transfer, "control": control, "excess": gain, "relative": gain / 0.97}.items():
        low, high = around(value, n)
        low = max(low, 0.0) if name in ("transfer", "control") else low
        row |= {name: value, f"{name}_low": low, f"{name}_high": high}
    return row


def modality(name: str, rng: Any) -> dict[str, Any]:
    data, classes, threat = DATA[name]
    models = [(f"{name}-{m}", family) for m, family in MODELS[name]]
    rows = []
    for source in models:
        attack = ATTACKS[name][source[1] == "tree"]
        rows += [cell(source, target, attack, threat, rng) for target in models]
    return {
        "data": data,
        "examples": 200,
        "classes": classes,
        "models": [
            {
                "name": m,
                "family": family,
                "role": "both",
                "clean_accuracy": 0.9 - 0.02 * i,
                "clean_low": 0.86 - 0.02 * i,
                "clean_high": 0.93 - 0.02 * i,
                "n": 200,
            }
            for i, (m, family) in enumerate(models)
        ],
        "cells": rows,
    }


def make_study() -> dict[str, Any]:
    rng = np.random.default_rng(7)
    parts = {name: modality(name, rng) for name in MODELS}
    for c in parts["image"]["cells"]:
        if c["source"] == "image-gru":  # an attack that hardly works
            c["white_box"] = 0.62
            c["warnings"] = ["white-box success is only 0.62: low transfer may be the attack's failure"]
        if c["source"] == c["target"] == "image-forest":  # not defined
            c |= dict.fromkeys(("relative", "relative_low", "relative_high"))
    for c in parts["audio"]["cells"]:
        if c["target"] == "audio-forest":  # few examples
            c["n"] = 43
            c["warnings"] = ["only 43 examples are right on both models"]
    for c in parts["text"]["cells"]:
        if c["source"] == "text-linear":  # random words do much of it
            c["white_box_control"] = 0.55
        if c["target"] == "text-lstm":
            names = ("excess", "relative")
            c |= dict.fromkeys(f"{m}{end}" for m in names for end in ("", "_low", "_high"))
    return {
        "modalities": parts,
        "report": "report.html",
        "seconds": 71.4,
        "seed": 0,
        "version": "0.1.0",
        "manifest": {
            "command": "carom demo --seed 0 --out runs/demo",
            "versions": {"carom": "0.1.0", "python": "3.11.7", "torch": "2.11.0"},
            "device": "cpu, 1 thread",
            "digests": {"image-resnet": "9f2c" * 16, "builtin:fashion-mnist": "4b1d" * 16},
            "seeds": [0],
        },
    }


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray((np.clip(pixels, 0, 1) * 255).astype("uint8")).save(out, "PNG")
    return out.getvalue()


def pictures(rng: Any) -> list[Panel]:
    rows, columns = np.mgrid[:28, :28] / 27
    x = np.clip(1.4 - 2.2 * np.hypot(rows - rng.uniform(0.4, 0.6), (columns - 0.5) * rng.uniform(0.8, 1.8)), 0, 1)
    change = 8 / 255 * rng.choice([-1.0, 1.0], x.shape)
    return [
        Picture("clean", png(x)),
        Picture("adversarial", png(x + change)),
        Picture("perturbation × 16", png(0.5 + 16 * change)),
    ]


def sound(caption: str, samples: np.ndarray) -> Sound:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    columns = samples.reshape(200, -1)
    return Sound(caption, out.getvalue(), list(zip(columns.min(1).tolist(), columns.max(1).tolist(), strict=True)))


def sounds(rng: Any) -> list[Panel]:
    t = np.arange(int(RATE * SECONDS)) / RATE
    x = 0.6 * np.sin(2 * np.pi * rng.uniform(180, 320) * t) * np.sin(np.pi * t / SECONDS) ** 2
    change = 0.01 * rng.normal(size=t.shape)
    return [sound("clean", x), sound("adversarial", x + change), sound("perturbation × 20", 20 * change)]


def words(rng: Any) -> list[Panel]:
    swap = [("fine", "nice"), ("moving", "touching"), ("slow", "sluggish")][int(rng.integers(3))]
    runs = [("", "a "), ("del", swap[0]), ("ins", swap[1]), ("", " film that earns its ending, if not its two hours")]
    return [WordDiff("words replaced", runs)]


def make_examples(per_outcome: int = 1) -> list[Example]:
    """For the first source of each modality and every target, `per_outcome` of each outcome."""
    rng = np.random.default_rng(11)
    panels = {"image": pictures, "audio": sounds, "text": words}
    made = []
    for name, models in MODELS.items():
        classes = DATA[name][1]
        for target, _ in models:
            for k in range(3 * per_outcome):
                outcome = ("transferred", "source only", "failed")[k % 3]
                answers = {"transferred": (1, 1), "source only": (1, 0), "failed": (0, 0)}[outcome]
                made.append(
                    Example(
                        modality=name,
                        id=f"test/{len(made):04}",
                        source=f"{name}-{models[0][0]}",
                        target=f"{name}-{target}",
                        attack=ATTACKS[name][0],
                        label=classes[0],
                        source_says=classes[answers[0]],
                        target_says=classes[answers[1]],
                        outcome=outcome,
                        panels=panels[name](rng),
                    )
                )
    return made


def make_hostile() -> tuple[dict[str, Any], Sequence[Example]]:
    """A study and example whose every text tries to run a script or to be read as something else."""
    study = make_study()
    part = study["modalities"]["text"]
    bad = HOSTILE + UNSEEN
    for c in part["cells"]:
        c["source"] = bad if c["source"] == "text-cnn" else c["source"]
        c["target"] = bad if c["target"] == "text-cnn" else c["target"]
        c |= {"attack": bad, "warnings": [bad]}
    part["models"][0]["name"] = bad
    part["classes"] = [bad, "positive"]
    part["data"] = bad
    study["manifest"] |= {bad: bad, "command": bad}
    panels = [WordDiff(bad, [("", bad), ("del", bad), ("ins", bad)])]
    return study, [Example("text", bad, bad, "text-lstm", bad, bad, bad, bad, "transferred", panels)]
