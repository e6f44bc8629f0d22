"""Image attacks beside their peers: the same network, images, budget and steps, in turns, in one process.

    python -m carom.benchmarks.speed.vision --json

Peers are torchattacks, foolbox and ART, each with the whole set of images as one batch, which is its fastest on a CPU;
attacks over many copies of an image are measured against a loop that asks for one copy after another, and against
torchattacks where it has them. `ratio` is our seconds over theirs: medians of several turns, of CPU time on a CPU.
`success` is the share of what the network gets right that is fooled within the budget, judged alike. Attacks that look
for the smallest change come twice: without a budget, where `size` is the median distance at which both succeed, and "at
a budget", where ours ends for an image as soon as a change fits; peers, which have no such option, go on. Budgets are
--eps in Linf and 16 times that in L2. `parity` is the share of pixels whose perturbations agree to 1e-5, where both
sides take the same steps from the same start: folded weights differ in the last digits, and where a gradient is that
close to zero its sign decides. `ours_mb` and `peer_mb` are the most memory beyond what was held before the attack.

Networks are the small residual CNN for 28 x 28 pixels of one colour, whose layers are so thin that memory traffic takes
more of the time than arithmetic, and for 32 x 32 pixels in colour a residual CNN, whose convolutions run at the speed
of the processor, and a ViT.
"""

from __future__ import annotations

import ctypes
import gc
import json
import statistics
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn

from carom.benchmarks.speed.core import bare_loop, clock
from carom.common.api import get_attack, load_data, load_model
from carom.common.base.memory import keep_freed_memory
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch, Goal
from carom.common.core.problem import Problem
from carom.common.core.spaces import Box
from carom.common.core.threats import L2, Ball, Linf
from carom.common.models.networks import TorchModel
from carom.common.runs.devices import pick_device

Run = Callable[[], Tensor]
"""An attack, to adversarial images float[N, C, H, W]."""


@dataclass(frozen=True)
class Field:
    """What both sides are given."""

    model: TorchModel  # nothing is rounded
    batch: Batch
    eps: float  # in Linf

    def radius(self, norm: str) -> float:
        return self.eps * {"linf": 1, "l2": 16}[norm]

    @property
    def net(self) -> nn.Module:
        return self.model.module

    def given(self, facts: dict[str, Any]) -> dict[str, Any]:
        """A peer's parameters, with the radius where they say "eps" and a tenth of it for "eps/10"."""
        sizes = {"eps": self.eps, "eps/10": self.eps / 10}
        return {name: sizes.get(value, value) if isinstance(value, str) else value for name, value in facts.items()}

    def ours(self, spec: str, threat: Ball) -> Run:
        attack = get_attack(spec, "image")
        problem = Problem(self.model, Goal(self.batch.labels), threat)
        rng = Rng.of(0, self.batch.ids, self.batch.labels.device)
        return lambda: attack(problem, self.batch, rng).inputs


@dataclass(frozen=True)
class Row:
    """One comparison."""

    name: str
    peer: str
    spec: str  # of ours
    make: Callable[[Field], Run]  # theirs
    norm: str = "linf"
    least: bool = False  # looks for the smallest change
    same: bool = False  # takes the same steps from the same start


def bare(decay: float = 0.0) -> Callable[[Field], Run]:
    """Ten steps of forward, backward and update."""

    def make(field: Field) -> Run:
        x, labels = field.batch.inputs, field.batch.labels
        return lambda: bare_loop(field.model, field.net, x, labels, x, field.eps, 0.1, decay)

    return make


def torchattacks(name: str, **facts: Any) -> Callable[[Field], Run]:
    def make(field: Field) -> Run:
        import torchattacks as peer

        attack = getattr(peer, name)(field.net, **field.given(facts))
        return lambda: attack(field.batch.inputs, field.batch.labels)

    return make


def foolbox(name: str, bounded: bool = True, **facts: Any) -> Callable[[Field], Run]:
    def make(field: Field) -> Run:
        import foolbox as peer

        model = peer.PyTorchModel(field.net, bounds=(0, 1), device=field.batch.inputs.device)
        attack = getattr(peer.attacks, name)(**facts)
        eps = field.eps if bounded else None
        return lambda: attack(model, field.batch.inputs, field.batch.labels, epsilons=eps)[1]

    return make


def art(name: str, **facts: Any) -> Callable[[Field], Run]:
    def make(field: Field) -> Run:
        from art.attacks import evasion
        from art.estimators.classification import PyTorchClassifier

        x, labels = field.batch.inputs, field.batch.labels
        estimator = PyTorchClassifier(
            field.net,
            nn.CrossEntropyLoss(),
            tuple(x.shape[1:]),
            len(field.model.classes),
            clip_values=(0, 1),
            device_type="gpu" if x.is_cuda else "cpu",
        )
        attack = getattr(evasion, name)(estimator, batch_size=len(x), verbose=False, **field.given(facts))
        return lambda: torch.from_numpy(attack.generate(x.cpu().numpy(), labels.cpu().numpy())).to(x)

    return make


def one_by_one(spec: str) -> Callable[[Field], Run]:
    """Our own attack, made to ask for one copy of the images after another."""

    def make(field: Field) -> Run:
        from carom.common.core import oracle

        run = field.ours(spec, Linf(field.eps))

        def sequential() -> Tensor:
            kept, oracle.MEMORY = oracle.MEMORY, 0
            try:
                return run()
            finally:
                oracle.MEMORY = kept

        return sequential

    return make


COLOURS = "builtin:cifar-10-sample"
DATA = {
    "zoo:image-resnet": "builtin:fashion-mnist",
    "zoo:image-cifar-resnet": COLOURS,
    "zoo:image-cifar-vit": COLOURS,
}
"""Models that are measured by default, and their images."""

FEW = "steps=10&samples=5"
STOPS = "pgd?steps=100&size=0.1&stop=true"
CW = "cw?searches=1&steps=100&weight=1&rate=0.01"
ROWS = [
    Row("pgd-10", "bare loop", "bim", bare(), same=True),
    Row("mi-10", "bare loop", "mi-fgsm", bare(1.0), same=True),
    Row("pgd-10", "torchattacks", "bim", torchattacks("BIM", eps="eps", alpha="eps/10", steps=10), same=True),
    Row("mi-10", "torchattacks", "mi-fgsm", torchattacks("MIFGSM", eps="eps", alpha="eps/10", steps=10), same=True),
    Row("pgd-10", "foolbox", "bim", foolbox("LinfPGD", rel_stepsize=0.1, steps=10, random_start=False), same=True),
    Row("pgd-10", "art", "bim", art("BasicIterativeMethod", eps="eps", eps_step="eps/10", max_iter=10)),
    Row("pgd-100 early stop", "torchattacks", STOPS, torchattacks("PGD", eps="eps", alpha="eps/10", steps=100)),
    Row("pgd-100 early stop", "foolbox", STOPS, foolbox("LinfPGD", rel_stepsize=0.1, steps=100)),
    Row("apgd-50", "torchattacks", "apgd?steps=50", torchattacks("APGD", eps="eps", steps=50)),
    Row("fab-20", "torchattacks", "fab?steps=20", torchattacks("FAB", eps="eps", steps=20, n_classes=10), least=True),
    Row("square-500", "torchattacks", "square?queries=500", torchattacks("Square", eps="eps", n_queries=500)),
    Row("cw-100", "torchattacks", CW, torchattacks("CW", c=1, steps=100, lr=0.01), "l2", least=True),
    Row("ddn-100", "foolbox", "ddn", foolbox("DDNAttack", bounded=False, steps=100), "l2", least=True),
    Row("fmn-100", "foolbox", "fmn", foolbox("LInfFMNAttack", bounded=False, steps=100), least=True),
    Row("fab-20 at a budget", "torchattacks", "fab?steps=20&stop=true", torchattacks("FAB", eps="eps", steps=20, n_classes=10)),
    Row("cw-100 at a budget", "torchattacks", f"{CW}&stop=true", torchattacks("CW", c=1, steps=100, lr=0.01), "l2"),
    Row("ddn-100 at a budget", "foolbox", "ddn?stop=true", foolbox("DDNAttack", bounded=False, steps=100), "l2"),
    Row("fmn-100 at a budget", "foolbox", "fmn?stop=true", foolbox("LInfFMNAttack", bounded=False, steps=100)),
    *(
        Row(f"{ours} 5 copies", "torchattacks", f"{ours}?{FEW}", torchattacks(name, eps="eps", alpha="eps/10", steps=10, **few))
        for ours, name, few in (("vmi-fgsm", "VMIFGSM", {"N": 5}), ("si-ni-fgsm", "SINIFGSM", {"m": 5}))
    ),
    *(
        Row(f"{name.partition('?')[0]} 5 copies", "one by one", name, one_by_one(name), same=True)
        for name in (f"vmi-fgsm?{FEW}", f"si-ni-fgsm?{FEW}", f"ssa?{FEW}", f"bsr?{FEW}", f"pgn?{FEW}")
    ),
]  # fmt: skip


def success(field: Field, x: Tensor, threat: Ball) -> float:
    near = threat.norm(x - field.batch.inputs) <= threat.eps * (1 + 1e-4)
    with field.model.frozen(), torch.no_grad():
        right = field.net(field.batch.inputs).argmax(1) == field.batch.labels
        return float(((field.net(x).argmax(1) != field.batch.labels) & near)[right].float().mean())


def peak_mb(run: Run, device: torch.device) -> float | None:
    """The most memory that a run takes beyond what is held before it; None where the system does not tell."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        held = torch.cuda.memory_allocated(device)
        run()
        return round((torch.cuda.max_memory_allocated(device) - held) / 2**20, 1)
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        held = _resident("VmRSS")
        run()
        return round((_resident("VmHWM") - held) / 2**10, 1)
    except (OSError, AttributeError):
        return None


def _resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))  # kB


def compare(row: Row, field: Field, repeats: int) -> dict[str, Any]:
    threat: Ball = {"linf": Linf, "l2": L2}[row.norm](float("inf") if row.least else field.radius(row.norm))
    ours, theirs, device = field.ours(row.spec, threat), row.make(field), field.batch.inputs.device
    times: tuple[list[float], list[float]] = ([], [])
    found: list[Tensor] = [field.batch.inputs, field.batch.inputs]
    with field.model.frozen():
        peaks = [peak_mb(run, device) for run in (ours, theirs)]
    for _ in range(repeats):
        for side, run in enumerate((ours, theirs)):
            with field.model.frozen():
                began = clock(device)
                found[side] = run().detach()
                times[side].append(clock(device) - began)
    mine, peers = (statistics.median(spent) for spent in times)
    sizes = [threat.norm(x - field.batch.inputs) for x in found]
    both = (sizes[0] > 0) & (sizes[1] > 0)
    return {
        "name": row.name,
        "model": field.model.name,
        "peer": row.peer,
        "ours_seconds": round(mine, 3),
        "peer_seconds": round(peers, 3),
        "ratio": round(mine / peers, 3),
        "ours_mb": peaks[0],
        "peer_mb": peaks[1],
        "success": round(success(field, found[0], threat), 3),
        "peer_success": round(success(field, found[1], threat), 3),
        "size": round(float(sizes[0][both].median()), 5) if row.least and bool(both.any()) else None,
        "peer_size": round(float(sizes[1][both].median()), 5) if row.least and bool(both.any()) else None,
        "parity": round(float(((found[0] - found[1]).abs() < 1e-5).float().mean()), 5) if row.same else None,
    }


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
@click.option("--repeats", default=3, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--data", "spec", help="Images for every model.  [default: those it was trained for]")
@click.option("--limit", default=64, show_default=True, help="Images.")
@click.option("--model", "-m", "names", multiple=True, default=tuple(DATA), show_default=True)
@click.option("--eps", default=8 / 255, help="Radius.  [default: 8/255]")
@click.option("--only", default="", help="Only rows whose name or peer contains this.")
def main(
    as_json: bool,
    repeats: int,
    device: str,
    spec: str | None,
    limit: int,
    names: tuple[str, ...],
    eps: float,
    only: str,
) -> None:
    """Time image attacks beside their peers."""
    keep_freed_memory()  # as the command line does; both sides gain
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    where, rows = pick_device(device), []
    for name in names:
        batch = load_data(spec or DATA.get(name, COLOURS), limit=limit).batch().to(where)
        model = load_model(name).to(where)
        assert isinstance(model, TorchModel)
        assert isinstance(model.space, Box)
        model.space = replace(model.space, unit=0.0)
        for row in ROWS:
            if only in f"{row.name} {row.peer}":
                rows.append(compare(row, Field(model, batch, eps), repeats))
                click.echo(f"{rows[-1]['name']} {name} {row.peer}: {rows[-1]['ratio']}", err=True)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        from carom.common.cli.tables import print_table

        print_table(tuple(rows[0]), rows)


if __name__ == "__main__":
    main()
