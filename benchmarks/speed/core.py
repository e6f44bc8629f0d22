"""What the attack loop costs on top of the model: PGD-10 and MI-10 against a bare loop, on the zoo's networks.

    python -m carom.benchmarks.speed.core --json

The floor of image and audio rows is a loop of forward, backward, update and projection on the same module, inputs and
start, with frozen weights and nothing else. `ratio` is our loop over it: the same steps, which also draws the random
start, counts, and guards against gradients that are not finite. `whole_ratio` is the whole attack over it, which also
rounds to the stored form within the budget and asks once more whether that fools the model: one forward pass in eleven.
For text the floor is the model's arithmetic on the very rows that the search asks for, already tokenised.

All run in turns, in one process, on one thread; medians of its CPU time are printed. `parity` is the largest difference
between our perturbation before rounding and that of the bare loop on the network that computes our answers (batch norms
folded, channels last); `same` is the share of values that agree to 1e-5 with the bare loop on the module as it was given, where
a gradient so near to zero that the last digit decides its sign may point elsewhere. Text rows are the same by
construction.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import click
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carom.common.api import get_attack, load_data, load_model
from carom.common.attacks.gradient.ascent import Ascent
from carom.common.base.memory import keep_freed_memory
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch, Goal
from carom.common.core.data import Dataset
from carom.common.core.problem import Attack, Cost, Problem
from carom.common.core.spaces import Box
from carom.common.core.threats import Linf
from carom.common.modality.installed import get_modality
from carom.common.models.networks import TorchModel
from carom.common.runs.devices import pick_device
from carom.text.models.base import TextModel

NETWORKS = {
    "image": ("builtin:fashion-mnist", ("image-resnet", "image-gru", "image-vit")),
    "audio": ("builtin:keywords", ("audio-melcnn", "audio-gru", "audio-kwt")),
}
EPS = {"image": 8 / 255, "audio": 0.002}
EXAMPLES = {"image": 64, "audio": 32, "text": 24}


def bare_loop(
    model: TorchModel,
    network: nn.Module,
    x0: Tensor,
    labels: Tensor,
    start: Tensor,
    eps: float,
    size: float,
    decay: float,
) -> Tensor:
    """Ten steps of forward, backward and update: what no implementation can avoid."""
    assert isinstance(model.space, Box)
    low, high = model.space.low, model.space.high
    x, memory = start, torch.zeros_like(x0)
    for _ in range(10):
        x = x.detach().requires_grad_()
        loss = F.cross_entropy(network(x), labels, reduction="sum")
        (grad,) = torch.autograd.grad(loss, x)
        if decay:
            memory = decay * memory + grad / grad.flatten(1).abs().mean(1).view(-1, *[1] * (x.dim() - 1))
            grad = memory
        x = (x0 + (x.detach() + size * eps * grad.sign() - x0).clamp(-eps, eps)).clamp(low, high)
    return x


def clock(device: torch.device) -> float:
    """Seconds on a GPU; on a CPU those of this process, which runs one thread: what else the machine does is not ours."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def side_by_side(runs: Sequence[Callable[[], Any]], repeats: int, device: torch.device) -> list[float]:
    """Median seconds of each, run in turns after one warm-up each."""
    times: list[list[float]] = [[] for _ in runs]
    for repeat in range(repeats + 1):
        for run, spent in zip(runs, times, strict=True):
            began = clock(device)
            run()
            if repeat:
                spent.append(clock(device) - began)
    return [statistics.median(spent) for spent in times]


def gradient_row(
    modality: str, name: str, attack: str, data: Dataset, repeats: int, device: torch.device
) -> dict[str, Any]:
    model = load_model(f"zoo:{name}").to(device)
    assert isinstance(model, TorchModel)
    # Without padding: masking it is part of ours only.
    batch = replace(data.batch(), lengths=None).to(device)
    threat = Linf(EPS[modality])
    problem = Problem(model, Goal(batch.labels), threat)
    rng = Rng.of(0, batch.ids, device)
    ascent = get_attack(attack, modality)
    assert isinstance(ascent, Ascent)
    from carom.common.core.oracle import Oracle

    start = batch.inputs
    if ascent.random_start:
        start = model.space.clamp(threat.start(batch.inputs, rng.fold("restart", 0).fold("start")))
    decay = 1.0 if ascent.update.updates else 0.0

    def floor(network: nn.Module = model.module) -> Tensor:
        return bare_loop(model, network, batch.inputs, batch.labels, start, threat.eps, ascent.size, decay)

    def ours() -> Any:
        return ascent.climb(Oracle(problem, batch), rng.fold("restart", 0))

    def whole() -> Any:
        return ascent(problem, batch, rng)

    with model.frozen():
        unrounded, _ = ascent.climb(Oracle(problem, batch), rng.fold("restart", 0))
        difference = float((unrounded - floor(model.evaluation((batch.inputs,)).network)).abs().max())
        same = float(((unrounded - floor()).abs() < 1e-5).float().mean())
        seconds, least, whole_seconds = side_by_side((ours, floor, whole), repeats, device)
    return row(f"{attack}-10 {modality}", name, seconds, least, whole_seconds, difference, same)


def text_row(name: str, data: Dataset, repeats: int, device: torch.device) -> dict[str, Any]:
    """Greedy substitution against the forward passes of its own rows."""
    model = load_model(f"zoo:{name}").to(device)
    assert isinstance(model, TextModel)
    seconds, least, _ = text_seconds(model, data.batch(), get_attack("greedy-unk", "text"), repeats, device)
    return row("greedy-unk text", name, seconds, least, seconds, 0.0, 1.0)


def text_seconds(
    model: TextModel, batch: Batch, attack: Attack, repeats: int, device: torch.device
) -> tuple[float, float, Cost]:
    """(seconds of an attack on texts, seconds of the model's answers to the rows that it asks for, its cost)"""
    modality = get_modality("text")
    threat = modality.threats["words"](float(modality.defaults.eps))
    problem = Problem(model, Goal(batch.labels), threat)
    rng = Rng.of(0, batch.ids)
    calls: list[tuple[str, tuple[Any, ...]]] = []
    plain = type(model)

    def recorded(name: str) -> Callable[..., Any]:
        def call(self: TextModel, *given: Any) -> Any:
            calls.append((name, tuple(list(part) for part in given)))
            return getattr(plain, name)(self, *given)

        return call

    asked = [name for name in ("read", "moved") if hasattr(plain, name)]
    model.__class__ = type("Recorder", (plain,), {name: recorded(name) for name in asked})
    cost = attack(problem, batch, rng).cost
    model.__class__ = plain

    def floor() -> None:
        with model.frozen(), torch.no_grad():
            for name, given in calls:
                getattr(model, name)(*given)

    seconds, least = side_by_side((lambda: attack(problem, batch, rng), floor), repeats, device)
    return seconds, least, cost


def row(
    name: str, model: str, seconds: float, least: float, whole: float, parity: float, same: float
) -> dict[str, Any]:
    return {
        "name": f"{name} {model}",
        "ours_seconds": round(seconds, 4),
        "floor_seconds": round(least, 4),
        "ratio": round(seconds / least, 3),
        "whole_ratio": round(whole / least, 3),
        "parity": parity,
        "same": round(same, 5),
    }


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
@click.option("--repeats", default=7, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--modality", "-m", "only", multiple=True, help="Only this modality (may be repeated).")
def main(as_json: bool, repeats: int, device: str, only: tuple[str, ...]) -> None:
    """Time the attack loop beside its floor."""
    keep_freed_memory()  # as the command line does; both sides gain
    torch.set_num_threads(1)
    where, rows = pick_device(device), []
    for modality, (spec, names) in NETWORKS.items():
        if only and modality not in only:
            continue
        data = load_data(spec, limit=EXAMPLES[modality])
        for name in names:
            rows += [gradient_row(modality, name, attack, data, repeats, where) for attack in ("pgd", "mi-fgsm")]
    if not only or "text" in only:
        data = load_data("builtin:rotten-tomatoes", limit=EXAMPLES["text"])
        rows += [text_row(name, data, repeats, where) for name in ("text-cnn", "text-bilstm", "text-transformer")]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        from carom.common.cli.tables import print_table

        print_table(("name", "ours_seconds", "floor_seconds", "ratio", "whole_ratio", "parity", "same"), rows)


if __name__ == "__main__":
    main()
