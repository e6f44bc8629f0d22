"""What a GPU makes of Carom, in one command that ends by itself: `make gpu`, or

    python -m carom.benchmarks.speed.gpu --json > gpu.json

Five parts, each of which may fail or run out of time (`--seconds`) without the others; what was left out is named.

* `tests`: those that need a GPU (`-m gpu`).
* `cells`: the demo's cells here beside those of a CPU, which `--cells` names (`make gpu-kit` computes them beforehand).
* `images`: random weights at 224 x 224, since speed does not hang on them: gradients and answers a second, and `share`:
  the network's own forward and backward passes, on the same rows in the same precision, over all that the attack takes.
  torchattacks stands beside it where it is installed.
* `sounds` and `texts`: the same for waveforms, and for word substitution on a network of BERT's size, where `share` is
  that of the network's answers to the very rows that the search asks for.

Every row says the most memory that was taken (`peak_mb`). `--small` has tiny networks and batches: it shows that the
command runs, on a CPU too.
"""

from __future__ import annotations

import importlib.util
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn

from carom.benchmarks.speed.core import bare_loop, clock, text_seconds
from carom.common.api import get_attack, load_data, load_model
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch, Goal
from carom.common.core.precision import casting, computing_in, pick_precision
from carom.common.core.problem import Problem
from carom.common.core.threats import Linf
from carom.common.models.networks import TorchModel
from carom.common.runs.devices import pick_device

ATTACKS: dict[str, dict[str, Any]] = {
    "pgd": {"steps": 5},
    "mi-fgsm": {"steps": 5},
    "di-ti-mi": {"steps": 5},
    "vmi-fgsm": {"steps": 2, "samples": 5},
    "apgd": {"steps": 5},
    "square": {"queries": 20},
    "auto": {"queries": 20, "steps": 5},
}
"""Attacks, with few enough steps for a row to take a second or two."""

EVERYWHERE, BATCHES = ("pgd",), (64, 1, 8, 256, 1024)
"""Attacks that are measured at every batch and precision, and the batches, the most telling first."""

LONGEST = 6.0
"""Seconds that one run of a row may take, by the network's own passes."""


@dataclass
class Deadline:
    """When the time is up, and what was left out for that or another reason."""

    end: float
    left_out: list[str]

    def rows(self, name: str, make: Callable[[], dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The row that `make` makes, if there is time for it and it does not fail."""
        if time.monotonic() > self.end:
            self.left_out.append(f"{name}: no time left")
            return
        try:
            yield {"name": name, **make()}
        except Exception as error:  # whatever one row meets, the others are wanted
            said = (str(error).strip().splitlines() or [""])[0]
            self.left_out.append(f"{name}: {type(error).__name__}: {said[:200]}")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


class Logits(nn.Module):
    """The logits of a network of transformers, as a network of its own."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x).logits


def images(small: bool) -> dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]]:
    from torchvision import models

    if small:
        return {"resnet18": (lambda: models.resnet18(num_classes=10), (3, 32, 32))}
    names = ("resnet50", "convnext_tiny", "vit_b_16")
    return {name: (getattr(models, name), (3, 224, 224)) for name in names}


def sounds(small: bool) -> dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]]:
    from carom.audio.models.networks import M5, AttentionGru

    def wav2vec2() -> nn.Module:
        from transformers import Wav2Vec2Config, Wav2Vec2ForSequenceClassification

        return Logits(Wav2Vec2ForSequenceClassification(Wav2Vec2Config(num_labels=10)))

    found: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {"m5": (M5, (16000,))}
    return found if small else {**found, "gru": (AttentionGru, (16000,)), "wav2vec2-base": (wav2vec2, (16000,))}


def held(modality: str, name: str, make: Callable[[], nn.Module], device: torch.device) -> TorchModel:
    torch.manual_seed(0)
    network = make()
    with torch.no_grad():
        head = [part for part in network.modules() if isinstance(part, nn.Linear)][-1]
    facts: dict[str, Any] = {"normalise": None} if modality == "image" else {"sample_rate": 16000}
    model = load_model(network, modality, classes=head.out_features, name=name, **facts).to(device)
    assert isinstance(model, TorchModel)
    return model


def drawn(model: TorchModel, shape: tuple[int, ...], count: int, device: torch.device) -> Batch:
    """Random inputs, each with the class that the model gives it, so that an attack has something to do."""
    ids = [str(row) for row in range(count)]
    x = Rng.of(0, ids).uniform(*shape)
    inputs = (x if len(shape) == 3 else 0.2 * x - 0.1).to(device)
    batch = Batch(inputs, torch.zeros(count, dtype=torch.long, device=device), ids)
    labels = model.predict(batch, min(count, 64)).argmax(1).to(device)
    return Batch(inputs, labels, ids)


def measured(run: Callable[[], Any], device: torch.device, repeats: int = 3) -> float:
    """Median seconds, after one run to warm up."""
    times = []
    for repeat in range(repeats + 1):
        began = clock(device)
        run()
        if repeat:
            times.append(clock(device) - began)
    return statistics.median(times)


def passes(model: TorchModel, batch: Batch) -> tuple[float, float]:
    """(seconds of a forward pass of the network as it was given, seconds of one with its backward pass)"""
    x, network = batch.inputs, model.module
    assert isinstance(x, Tensor)

    def forward() -> None:
        with torch.no_grad():
            network(x)

    def both() -> None:
        given = x.detach().requires_grad_()
        with casting(x.device):
            answer = network(given)
        torch.autograd.grad(answer.float().amax(1).sum(), given)

    both()
    began = clock(x.device)
    both()
    if (clock(x.device) - began) * 10 > LONGEST:
        raise TimeoutError(f"ten gradients take more than {LONGEST:.0f} s")
    return measured(forward, x.device), measured(both, x.device)


def attack_row(model: TorchModel, batch: Batch, name: str, precision: str, eps: float) -> dict[str, Any]:
    """One attack beside the passes that it asks for."""
    device, modality = batch.labels.device, model.modality
    parameters, spec = ATTACKS[name], name
    if name == "di-ti-mi":
        spec, parameters = "mi-fgsm", {**parameters, "transform": "di,ti"}
    attack = get_attack(spec, modality, **parameters)
    problem, rng = Problem(model, Goal(batch.labels), Linf(eps)), Rng.of(0, batch.ids, device)
    with computing_in(precision), model.frozen():
        forward, both = passes(model, batch)
        began = _reset_peak(device)
        cost = attack(problem, batch, rng).cost
        seconds = measured(lambda: attack(problem, batch, rng), device, 1 if both > 0.2 else 3)
        peak = _peak_mb(device, began)
    backward, more = int(cost.backward.sum()), int((cost.forward - cost.backward).clamp_min(0).sum())
    least = (backward * both + more * forward) / len(batch)
    return {
        "model": model.name,
        "attack": name,
        "batch": len(batch),
        "precision": precision,
        "seconds": round(seconds, 4),
        "gradients_a_second": round(backward / seconds, 1),
        "answers_a_second": round(more / seconds, 1),
        "share": round(least / seconds, 3),
        "peak_mb": peak,
    }


def peer_row(model: TorchModel, batch: Batch, eps: float) -> dict[str, Any]:
    """PGD of torchattacks and the bare loop beside ours, five and ten steps."""
    import torchattacks

    peer = torchattacks.PGD(model.module, eps=eps, alpha=eps / 4, steps=5)
    ours = attack_row(model, batch, "pgd", "fp32", eps)
    x = batch.inputs
    assert isinstance(x, Tensor)
    with model.frozen():
        theirs = measured(lambda: peer(x, batch.labels), batch.labels.device)
        floor = measured(
            lambda: bare_loop(model, model.module, x, batch.labels, x, eps, 0.25, 0.0), batch.labels.device
        )
    return {**ours, "peer_seconds": round(theirs, 4), "bare_seconds": round(floor / 2, 4)}


def text_row(small: bool, count: int, sentences: list[str], device: torch.device, attack: str) -> dict[str, Any]:
    from transformers import BertConfig, BertForSequenceClassification

    from carom.text.language.tokenizers import WordEncoder
    from carom.text.models.tokens import TokenModel

    words = sorted({word for text in sentences for word in text.lower().split() if word.isalpha()})
    sizes: dict[str, int] = {"vocab_size": len(words) + 2}
    if small:
        sizes |= {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    torch.manual_seed(0)
    network = BertForSequenceClassification(BertConfig(**sizes))
    model = TokenModel(
        network,
        WordEncoder(words),
        name="bert-base" if not small else "bert-tiny",
        family="transformer",
        classes=("negative", "positive"),
        embedding=network.get_input_embeddings(),
    ).to(device)
    texts, ids = sentences[:count], [str(row) for row in range(len(sentences[:count]))]
    batch = Batch(texts, torch.zeros(len(texts), dtype=torch.long), ids)
    batch = Batch(texts, model.predict(batch).argmax(1), ids)
    began = _reset_peak(device)
    seconds, least, cost = text_seconds(model, batch, get_attack(attack, "text"), 1, device)
    return {
        "model": model.name,
        "attack": attack,
        "batch": len(batch),
        "seconds": round(seconds, 3),
        "answers_a_second": round(int(cost.forward.sum()) / seconds, 1),
        "share": round(least / seconds, 3),
        "peak_mb": _peak_mb(device, began),
    }


def _reset_peak(device: torch.device) -> int:
    if device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def _peak_mb(device: torch.device, began: int) -> int | None:
    return round((torch.cuda.max_memory_allocated(device) - began) / 1e6) if device.type == "cuda" else None


def tests(seconds: float) -> dict[str, Any]:
    """What the tests that need a GPU say, in their last line; cells are compared in a part of their own."""
    what = ["-m", "gpu", "-k", "not every_cell", "tests/e2e/test_gpu.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *what]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    return {"code": done.returncode, "said": (done.stdout.strip().splitlines() or [""])[-1]}


def cells(modality: str, device: str, limit: int | None = None, seconds: float = 300) -> list[dict[str, Any]]:
    """The demo's cells of one modality, computed on a device."""
    with tempfile.TemporaryDirectory() as folder:
        more = [] if limit is None else ["--limit", str(limit)]
        command = [sys.executable, "-m", "carom", "demo", "-q", "--json", "-m", modality, "--device", device, *more]
        done = subprocess.run([*command, "--out", folder], capture_output=True, text=True, timeout=seconds)
        if done.returncode:
            raise RuntimeError((done.stderr.strip().splitlines() or ["no word"])[-1])
        return json.loads(done.stdout)["modalities"][modality]["cells"]


def side_by_side_cells(modality: str, device: str, known: Any, limit: int | None, seconds: float) -> dict[str, Any]:
    """How far the cells lie apart; `known` are those of a CPU, which are computed here if there are none."""
    here = cells(modality, device, limit, seconds)
    there = (known or {}).get(modality) or cells(modality, "cpu", limit, seconds)
    names = ("source", "target", "attack")
    pairs = [(a, b) for a in here for b in there if all(a[name] == b[name] for name in names)]
    apart = [abs(a["excess"] - b["excess"]) for a, b in pairs if a["excess"] is not None and b["excess"] is not None]
    return {
        "cells": len(here),
        "compared": len(apart),
        "largest_difference": round(max(apart, default=0.0), 4),
        "beyond_two_points": sum(difference > 0.02 for difference in apart),
    }


def sentences_of(path: Path | None) -> list[str]:
    if path is not None and (path / "sentences.txt").exists():
        return (path / "sentences.txt").read_text(encoding="utf-8").splitlines()
    return list(load_data("builtin:rotten-tomatoes", limit=200).stored)


def machine(device: torch.device) -> dict[str, Any]:
    import torchvision
    import transformers

    card = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    versions = {"python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda}
    return {"card": card, **versions, "torchvision": torchvision.__version__, "transformers": transformers.__version__}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print all as JSON.")
@click.option("--small", is_flag=True, help="Tiny networks and batches: shows that the command runs.")
@click.option("--device", default="auto", show_default=True)
@click.option("--seconds", default=450.0, show_default=True, help="When to stop beginning new rows.")
@click.option("--kit", type=click.Path(path_type=Path), default=Path(".gpu-kit"), show_default=True)
def main(as_json: bool, small: bool, device: str, seconds: float, kit: Path) -> None:
    """Measure attacks on this GPU."""
    where = pick_device(device)
    due = Deadline(time.monotonic() + seconds, [])
    found: dict[str, Any] = {"machine": machine(where), "small": small}
    known = json.loads((kit / "cells-cpu.json").read_text()) if (kit / "cells-cpu.json").exists() else None

    def rows(part: str, name: str, make: Callable[[], dict[str, Any]]) -> None:
        for row in due.rows(name, make):
            found.setdefault(part, []).append(row)
            click.echo(json.dumps(row), err=True)

    if where.type == "cuda":
        rows("tests", "tests", lambda: tests(min(150.0, seconds / 3)))
    precisions = ("fp32", "tf32", "bf16") if where.type == "cuda" else ("fp32", "bf16")
    batches = (2, 1) if small else BATCHES
    for kind, networks, eps in (("images", images(small), 4 / 255), ("sounds", sounds(small), 0.002)):
        modality = {"images": "image", "sounds": "audio"}[kind]
        for name, (make, shape) in networks.items():
            try:
                model = held(modality, name, make, where)
                inputs = drawn(model, shape, max(batches), where)
            except Exception as error:
                due.left_out.append(f"{name}: {type(error).__name__}: {error}")
                continue
            for count in batches:
                batch = inputs.take(torch.arange(count))
                for precision in precisions if count == batches[0] or not small else precisions[:1]:
                    for attack in ATTACKS if count == batches[0] and precision == "fp32" else EVERYWHERE:
                        if modality == "audio" and attack == "di-ti-mi":
                            continue
                        if precision != "fp32":
                            pick_precision(precision, where)
                        rows(
                            kind,
                            f"{attack} {name} {count} {precision}",
                            lambda m=model, b=batch, a=attack, p=precision, e=eps: attack_row(m, b, a, p, e),  # type: ignore[misc]
                        )
            if modality == "image" and importlib.util.find_spec("torchattacks"):
                batch = inputs.take(torch.arange(batches[0]))
                rows(kind, f"torchattacks {name}", lambda m=model, b=batch: peer_row(m, b, 4 / 255))  # type: ignore[misc]
            del model, inputs
    try:
        texts = sentences_of(kit)
        for attack in ("greedy-unk", "hotflip"):
            rows("texts", attack, lambda a=attack: text_row(small, 4 if small else 64, texts, where, a))  # type: ignore[misc]
    except Exception as error:
        due.left_out.append(f"texts: {error}")
    for modality in () if small else ("image", "audio", "text"):
        rows(
            "cells",
            modality,
            lambda m=modality: side_by_side_cells(m, str(where), known, None, max(1.0, due.end - time.monotonic())),  # type: ignore[misc]
        )
    found["left_out"] = due.left_out
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    from carom.common.cli.tables import print_table

    for part in ("images", "sounds", "texts"):
        if found.get(part):
            print_table(tuple(found[part][0]), found[part])
    for line in due.left_out:
        click.echo(f"left out: {line}", err=True)


if __name__ == "__main__":
    main()
