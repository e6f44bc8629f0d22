"""The ranking beside other numbers: TransferAttack's table, and every model of the CIFAR-10 zoo against every other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from carom.benchmarks.transfer.ranking.names import called
from carom.common.measure.stats import spearman
from carom.common.report.values import interval, rate


class Published(NamedTuple):
    """One row of TransferAttack's table."""

    name: str
    gradients: float  # per image, by the defaults of its code
    vgg: float  # success from ResNet-50 to VGG-16, per cent
    vit: float  # to ViT-B


PUBLISHED = {
    "bim": Published("I-FGSM", 10, 36.5, 7.5),
    "mi-fgsm": Published("MI", 10, 57.9, 14.5),
    "ni-fgsm": Published("NI", 10, 66.5, 15.4),
    "di-fgsm": Published("DIM", 10, 71.0, 27.5),
    "ti-fgsm": Published("TIM", 10, 57.9, 15.3),
    "si-ni-fgsm": Published("SIM", 50, 70.2, 24.5),
    "fia": Published("FIA", 40, 71.2, 12.6),
    "sgm": Published("SGM", 10, 73.2, 18.9),
    "linbp": Published("LinBP", 300, 87.7, 18.9),
    "emi-fgsm": Published("EMI", 110, 84.7, 25.2),
    "admix": Published("Admix", 150, 79.9, 32.5),
    "vmi-fgsm": Published("VMI", 210, 70.8, 31.9),
    "ssa": Published("SSM", 200, 88.8, 50.7),
    "sia": Published("SIA", 200, 94.3, 50.0),
    "bsr": Published("BSR", 200, 96.8, 54.3),
    "pgn": Published("PGN", 400, 88.7, 50.1),
    "rap": Published("RAP", 2800, 87.8, 23.8),
}
"""Ours -> theirs: README at revision 2663e4a, 16/255, 1,000 images of ImageNet."""

BESIDE = """
## Beside published numbers

No published setting can be reproduced here: ImageNet's images and the weights trained on them do not ship. What can be
compared is the order. TransferAttack's table (github.com/Trustworthy-AI-Group/TransferAttack, README at 2663e4a) has the
same kinds of source and target, a residual network to a VGG and to a vision transformer, at 16/255; every attack there
spends what its own defaults say, and clean errors count as success.

Over the {count} attacks in both, Spearman's rho between its success and our excess transfer, tuned and at equal cost, is
{ours_vgg} to VGG and {ours_vit} to ViT. Between its success and the gradients that each attack spends there it is {vgg} and
{vit}.
"""


def published_elsewhere(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: TransferAttack's table beside ours for the same pair of kinds of model, and the rank correlations."""
    ours = {row["attack"]: row["targets"] for row in rows if row["source"] == "resnet"}
    known = {name: row for name, row in PUBLISHED.items() if name in ours}
    success = {"vgg": [row.vgg for row in known.values()], "vit": [row.vit for row in known.values()]}
    alike = {t: spearman([ours[name][t]["excess"] for name in known], theirs) for t, theirs in success.items()}
    bought = {t: spearman([row.gradients for row in known.values()], theirs) for t, theirs in success.items()}
    lines = [
        BESIDE.format(
            count=len(known),
            **{f"ours_{t}": rate(v) for t, v in alike.items()},
            **{t: rate(v) for t, v in bought.items()},
        ),
        "| attack | its gradients | ResNet-50 to VGG-16 | to ViT-B | ours | E, ResNet to VGG | E to ViT |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in sorted(known.items(), key=lambda pair: -pair[1].vit):
        mine = " | ".join(rate(ours[name][target]["excess"]) for target in ("vgg", "vit"))
        lines.append(f"| {row.name} | {row.gradients:,} | {row.vgg} % | {row.vit} % | {called(name)} | {mine} |")
    return "\n".join(lines)


# All against all.

ALL = """
## All against all

`carom run benchmarks/studies/cifar.toml --json > benchmarks/results/cifar.json`: {examples} test images of CIFAR-10,
{threat}; PGD in ten steps on the networks, and on the forest's relaxation. Excess transfer with its 95 % interval; on
the diagonal, white-box.{stale}
"""


STALE = " The models' weights have been packed anew since (eight bits each); the rows above have the new ones."


def matrix(study: Mapping[str, Any], now: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: the recorded study's excess transfer, every model against every other."""
    part = study["modalities"]["image"]
    models = part["models"]
    cells = {(c["source"], c["target"]): c for c in part["cells"]}
    stale = {m["digest"] for m in models} != {m["digest"] for m in now}
    short = {m["name"]: m["name"].removeprefix("image-cifar-") for m in models}
    heads = [f"{short[m['name']]} ({m['family']}, clean {rate(m['clean_accuracy'])})" for m in models]
    lines = [
        ALL.format(examples=f"{part['examples']:,}", threat=part["threat"], stale=STALE if stale else ""),
        f"| source, attack | {' | '.join(heads)} |",
        "|---" * (len(heads) + 1) + "|",
    ]
    for source in (m["name"] for m in models):
        of = [cells[source, m["name"]] for m in models]
        values = [f"{rate(c['excess'])} {interval(c['excess_low'], c['excess_high'])}" for c in of]
        lines.append(f"| {short[source]}, `{of[0]['attack']}` | {' | '.join(values)} |")
    return "\n".join(lines)
