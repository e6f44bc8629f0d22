"""docs/ranking.md, from what carom.benchmarks.transfer.ranking measured and from the recorded study of the CIFAR-10 zoo."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from carom.common.base.specs import split_parameters
from carom.common.measure.stats import spearman
from carom.common.modality.installed import get_modality
from carom.common.modality.registry import paper
from carom.common.report.values import interval, listing, rate

BASELINES = {
    "I-FGSM": ("bim?steps=50", "bim?steps=25", "bim?steps=10"),
    "MI": ("mi-fgsm?steps=50", "mi-fgsm?steps=25", "mi-fgsm?steps=10"),
    "DI-MI": ("di-fgsm?steps=50", "di-fgsm?steps=25", "di-fgsm?steps=10"),
}
"""What every attack is compared with at equal cost: the first of these that was measured at its allowance."""

NAMES = {
    "bim": "I-FGSM",
    **{f"{name}-fgsm": name.upper() for name in ("mi", "ni", "emi", "vmi", "vni")},
    "pregradient-fgsm": "PI (pre-gradient)",
    **{"di-fgsm": "DI-MI", "ti-fgsm": "TI-MI", "di-ti-mi-fgsm": "DI-TI-MI", "si-ni-fgsm": "SI-NI"},
    "si-ni-ti-di-fgsm": "SI-NI-TI-DI",
    **{"admix": "Admix", "linbp": "LinBP", "ghost": "Ghost", "warp": "warp", "adaea": "AdaEA"},
    "lgv": "one member a step (LGV's attack)",
}
"""How papers call them; the others are known by their own names in capitals."""

TITLES = {"cnn": "From CNNs", "transformer": "From a transformer", "ensemble": "From an ensemble"}


class Published(NamedTuple):
    """One row of TransferAttack's table."""

    name: str
    gradients: float  # per image, by the defaults of its code
    vgg: float  # success from ResNet-50 to VGG-16, per cent
    vit: float  # to ViT-B


PUBLISHED = {
    "bim?steps=50": Published("I-FGSM", 10, 36.5, 7.5),
    "mi-fgsm?steps=50": Published("MI", 10, 57.9, 14.5),
    "ni-fgsm?steps=50": Published("NI", 10, 66.5, 15.4),
    "di-fgsm?steps=50": Published("DIM", 10, 71.0, 27.5),
    "ti-fgsm?steps=50": Published("TIM", 10, 57.9, 15.3),
    "si-ni-fgsm?steps=10&samples=5": Published("SIM", 50, 70.2, 24.5),
    "fia?steps=20&samples=30": Published("FIA", 40, 71.2, 12.6),
    "sgm?steps=50": Published("SGM", 10, 73.2, 18.9),
    "linbp?steps=50": Published("LinBP", 300, 87.7, 18.9),
    "emi-fgsm?steps=11&samples=5": Published("EMI", 110, 84.7, 25.2),
    "admix?steps=10&mixes=1&samples=5": Published("Admix", 150, 79.9, 32.5),
    "vmi-fgsm?steps=25&samples=1": Published("VMI", 210, 70.8, 31.9),
    "ssa?steps=50&samples=1": Published("SSM", 200, 88.8, 50.7),
    "sia?steps=50&samples=1": Published("SIA", 200, 94.3, 50.0),
    "bsr?steps=50&samples=1": Published("BSR", 200, 96.8, 54.3),
    "pgn?steps=25&samples=1": Published("PGN", 400, 88.7, 50.1),
    "rap?steps=8&inner=7": Published("RAP", 2800, 87.8, 23.8),
}
"""Ours -> theirs: README at revision 2663e4a, 16/255, 1,000 images of ImageNet."""

HEAD = """# A ranking of transfer attacks at equal cost

Made by `python -m carom.benchmarks.transfer.ranking --render > docs/ranking.md` from `benchmarks/results/ranking.json`,
which `python -m carom.benchmarks.transfer.ranking --json` measures (about an hour), and from `benchmarks/results/cifar.json`.

{examples} test images of CIFAR-10 (`{data}`), {threat}, {seeds} seeds, {controls} control draws each; every attack on
every source that it suits, measured on the other models of the zoo. Right when clean: {models}.

* **Excess transfer** E is what an attack adds to random signs of the same size, over the images that source and target
  both get right ({least} to {most} for a pair of models): 0 is no better than chance. The tables give the mean over
  pairs of models and seeds, and a 95 % interval over images.
* **Equal cost**: every attack spends as many gradient evaluations per image as every other, counted by its own result.
  It makes as many steps as that pays for, of a tenth of the radius or longer (RAP, DEM, CWA and LGV have lengths of
  their own). Attacks that average over random copies or neighbours get one a step; SI-NI, Admix and EMI keep five, which
  are their method. SSA, BSR and SIA stand there with five copies in ten steps as well, and MI with shorter steps. Both
  rules were chosen after a look at the first seed from the residual network, on images of the same sample; the second
  favours the attacks that average. LinBP goes back through residual branches three times, which counts as three
  gradients: from the residual network it makes a third of the steps.
* **Left out** are attacks that aim at a class (logit, Po-Trip, CFM, SU, ODI), the universal perturbation, which is not made for
  an image, and LGV's networks, which take training data: its attack stands among the ensembles, on two members. SGM
  and Ghost want residual networks, PNA and TGR transformers, LinBP ReLUs in the later half.
* **Differences** are paired: the same images, targets and seeds. ▲ and ▼ mark where the 95 % interval of the
  difference to DI-MI lies above or below 0. The intervals are not adjusted for their number: of forty comparisons
  without any difference, two are marked.
"""

PICTURE = """![Excess transfer of every attack at 50 gradients, with its interval](ranking.svg)

{fewer} ran on the residual network alone, so their mean E is over fewer pairs than the others'; the marks
compare on the pairs of both.
"""


def document(found: Mapping[str, Any], study: Mapping[str, Any]) -> str:
    """The whole page."""
    models = listing(f"{m['name'].removeprefix('image-cifar-')} {rate(m['clean_accuracy'])}" for m in found["models"])
    facts = {name: found[name] for name in ("examples", "data", "threat", "seeds", "controls")}
    counts = [cell["n"] for cell in found["cells"]]
    facts |= {"models": models, "least": min(counts), "most": max(counts)}
    most = max(len(r["models"]) for r in found["attacks"])
    fewer = dict.fromkeys(
        called(r["attack"]) for r in found["attacks"] if r["sources"] == "cnn" and len(r["models"]) < most
    )
    facts["fewer"] = listing(fewer)
    parts = [
        HEAD.format(**facts),
        PICTURE.format(**facts),
        "## In words\n",
        *words(found["attacks"]),
        *reasons(found["attacks"]),
    ]
    for allowed, sources in settings(found["attacks"]):
        rows = [r for r in found["attacks"] if (r["allowed"], r["sources"]) == (allowed, sources)]
        parts += [f"\n## {TITLES[sources]}, {allowed} gradients\n", *table(rows)]
    return "\n".join([*parts, published(found["cells"]), matrix(study)])


def called(attack: str) -> str:
    """The paper's name of an attack, and how it differs where it is in the tables twice.

    >>> called("ssa?steps=10&samples=5")
    'SSA in five copies'
    """
    head, given = split_parameters(attack)
    name = NAMES.get(head, head.upper())
    several = " in five copies" if head in ("ssa", "bsr", "sia") and given["samples"] == 5 else ""
    return name + (" in short steps" if "size" in given else several)


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Markdown, best against DI-MI first: some attacks suit only some of the sources."""
    families = list(dict.fromkeys(family for row in rows for family in row["targets"]))
    sources = max((row["models"] for row in rows), key=len)
    heads = [
        *("attack", "paper", "gradients, forward", "white-box"),
        *(f"to {family}" for family in families),
        "all",
        *(f"all − {name}" for name in BASELINES),
    ]
    lines = [
        f"Sources: {named(sources)}.\n",
        f"| {' | '.join(heads)} |",
        "|---" * len(heads) + "|",
    ]
    for row in sorted(rows, key=lambda r: -r["against"]["DI-MI"]["difference"]):
        info = get_modality("image").attacks[split_parameters(row["attack"])[0]]
        fewer = "" if row["models"] == sources else f", on {named(row['models'])}"
        cells = [
            f"{called(row['attack'])}: `{row['attack']}`{fewer}",
            "; ".join(paper(part) for part in info.reference.split("; ")),
            f"{row['backward']:.0f}, {row['forward']:.0f}",
            rate(row["white_box"]),
            *(estimated(row["targets"].get(family)) for family in families),
            estimated(row),
            *(differing(row["against"][name]) for name in BASELINES),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def named(models: Iterable[str]) -> str:
    return listing(model.replace("image-cifar-", "") for model in models)


def verdict(difference: Mapping[str, float | None] | None) -> str:
    """▲ better, ▼ worse, nothing where the interval holds 0."""
    if difference is None or difference["low"] is None or difference["high"] is None:
        return ""
    return "▲" if difference["low"] > 0 else "▼" if difference["high"] < 0 else ""


def estimated(part: Mapping[str, Any] | None) -> str:
    if part is None:
        return rate(None)
    mark = verdict(part["against"]["DI-MI"])
    return f"{rate(part['excess'])} {interval(part['low'], part['high'])}{' ' + mark if mark else ''}"


def differing(difference: Mapping[str, float | None] | None) -> str:
    if difference is None:
        return rate(None)
    return f"{signed(difference['difference'])} {interval(difference['low'], difference['high'])}"


def signed(value: float | None) -> str:
    text = rate(value)
    return f"+{text}" if value is not None and value > 0 and text != ".00" else text


# In words.


def words(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the tables show, at every allowance and of every kind of source."""
    said = []
    for allowed, sources in settings(rows):
        of = [r for r in rows if (r["allowed"], r["sources"]) == (allowed, sources)]
        rivals = [r for r in of if split_parameters(r["attack"])[0] not in ("bim", "mi-fgsm", "di-fgsm")]
        better, same, worse = ([r for r in rivals if verdict(r["against"]["DI-MI"]) == mark] for mark in ("▲", "", "▼"))
        said.append(f"* **{TITLES[sources]}, {allowed} gradients**")
        said.append(f"  * better than DI-MI over all targets: {told(better, 'DI-MI')}")
        said.append(f"  * not to be told apart from it: {told(same, 'DI-MI')}")
        said.append(f"  * worse: {told(worse, 'DI-MI')}")
        for name in ("MI", "I-FGSM"):
            weak = [r for r in rivals if verdict(r["against"][name]) != "▲"]
            said.append(f"  * not shown better than {name} in as many gradients: {told(weak, name)}")
    return said


def settings(rows: Sequence[Mapping[str, Any]]) -> list[tuple[int, str]]:
    """(allowance, kind of source), the largest allowance first."""
    known = {(r["allowed"], r["sources"]) for r in rows}
    return sorted(known, key=lambda pair: (-pair[0], list(TITLES).index(pair[1])))


def told(rows: Sequence[Mapping[str, Any]], other: str) -> str:
    """Their names with the mean difference, largest first."""
    if not rows:
        return "none"
    ordered = sorted(rows, key=lambda r: -r["against"][other]["difference"])
    return listing(f"{called(r['attack'])} ({signed(r['against'][other]['difference'])})" for r in ordered)


REASONS = """
## What surprised

* **Steps before copies.** With the same fifty gradients from CNNs, one copy in each of fifty steps does better than five
  copies in each of ten: SIA {sia_1} and {sia_5}, BSR {bsr_1} and {bsr_5}, SSA {ssa_1} and {ssa_5}. Ten steps of a tenth
  leave no way back. MI in fifty steps of a fiftieth ({mi_short}) shows the same: steps of a tenth give {mi}.
* **Cost alone** moves the baselines little: from 10 gradients to 50, I-FGSM goes from {bim_10} to {bim}, MI from {mi_10}
  to {mi} and DI-MI from {di_10} to {di}.
* **NI** falls from {ni_10} in ten steps, its paper's, to {ni} in fifty: it looks ahead along a momentum that never decays.
  At the tenth step that is .6 radii away, at the last of fifty 1.7 (a mean over pixels, from the residual network).
* **RAP** ({rap}) is far from its paper's setting, 400 steps and 2,800 gradients: fifty pay for eight steps. What it does
  at that cost was not measured.
* **SI-NI** ({si}) is NI on five darker copies, and fifty gradients are its paper's ten steps; NI alone in ten steps has
  {ni_10}.
* **SVRE, CWA and AdaEA** stand without DI's views, as in their papers' plain form: on two members, the mean of logits
  with them does better. What they do with DI's views was not measured.
* **Nothing reaches the forest** from the networks: no interval of E to it begins above {tree}.
"""


def reasons(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why some attacks do worse than expected, with what was measured from CNNs."""
    found = {(r["attack"], r["allowed"]): r["excess"] for r in rows if r["sources"] == "cnn"}
    named = {
        **{f"{n}_{c}": f"{n}?steps={50 // c}&samples={c}" for n in ("sia", "bsr", "ssa") for c in (1, 5)},
        **{"mi_short": "mi-fgsm?steps=50&size=0.02", "mi": "mi-fgsm?steps=50", "bim": "bim?steps=50"},
        **{"di": "di-fgsm?steps=50", "ni": "ni-fgsm?steps=50", "rap": "rap?steps=8&inner=7"},
        "si": "si-ni-fgsm?steps=10&samples=5",
    }
    few = {"bim_10": "bim", "mi_10": "mi-fgsm", "di_10": "di-fgsm", "ni_10": "ni-fgsm"}
    values = {key: rate(found[spec, 50]) for key, spec in named.items()}
    values |= {key: rate(found[f"{name}?steps=10", 10]) for key, name in few.items()}
    tree = max(row["targets"]["tree"]["low"] for row in rows)
    return [REASONS.format(**values, tree=rate(tree))]


# Beside published numbers.

BESIDE = """
## Beside published numbers

No published setting can be reproduced here: ImageNet's images and the weights trained on them do not ship. What can be
compared is the order. TransferAttack's table (github.com/Trustworthy-AI-Group/TransferAttack, README at 2663e4a) has the
same kinds of source and target, a residual network to a VGG and to a vision transformer, at 16/255; every attack there
spends what its own defaults say, and clean errors count as success.

Over the {count} attacks in both, Spearman's rho between its success and our excess transfer at equal cost is {ours_vgg}
to VGG and {ours_vit} to ViT. Between its success and the gradients that each attack spends there it is {vgg} and {vit}.
"""


def published(cells: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: TransferAttack's table beside ours for the same pair of kinds of model, and the rank correlations."""
    ours = {
        (c["attack"], c["target"].removeprefix("image-cifar-")): c["excess"]
        for c in cells
        if c["source"] == "image-cifar-resnet" and c["attack"] in PUBLISHED and c["allowed"] > 10
    }
    known = {spec: row for spec, row in PUBLISHED.items() if (spec, "vgg") in ours}
    success = {"vgg": [row.vgg for row in known.values()], "vit": [row.vit for row in known.values()]}
    alike = {target: spearman([ours[spec, target] for spec in known], theirs) for target, theirs in success.items()}
    bought = {t: spearman([row.gradients for row in known.values()], theirs) for t, theirs in success.items()}
    lines = [
        BESIDE.format(
            count=len(known),
            **{f"ours_{t}": rate(v) for t, v in alike.items()},
            **{t: rate(v) for t, v in bought.items()},
        ),
        "| attack | its gradients | ResNet-50 to VGG-16 | to ViT-B | our attack | E, ResNet to VGG | E to ViT |",
        "|---|---|---|---|---|---|---|",
    ]
    for spec, row in sorted(known.items(), key=lambda pair: -pair[1].vit):
        mine = " | ".join(rate(ours[spec, target]) for target in ("vgg", "vit"))
        lines.append(f"| {row.name} | {row.gradients:,} | {row.vgg} % | {row.vit} % | `{spec}` | {mine} |")
    return "\n".join(lines)


# All against all.

ALL = """
## All against all

`carom run benchmarks/studies/cifar.toml --json > benchmarks/results/cifar.json`: {examples} test images of CIFAR-10,
{threat}; PGD in ten steps on the networks, and on the forest's relaxation. Excess transfer with its 95 % interval; on
the diagonal, white-box.
"""


def matrix(study: Mapping[str, Any]) -> str:
    """Markdown: the recorded study's excess transfer, every model against every other."""
    part = study["modalities"]["image"]
    models = part["models"]
    cells = {(c["source"], c["target"]): c for c in part["cells"]}
    short = {m["name"]: m["name"].removeprefix("image-cifar-") for m in models}
    heads = [f"{short[m['name']]} ({m['family']}, clean {rate(m['clean_accuracy'])})" for m in models]
    lines = [
        ALL.format(examples=f"{part['examples']:,}", threat=part["threat"]),
        f"| source, attack | {' | '.join(heads)} |",
        "|---" * (len(heads) + 1) + "|",
    ]
    for source in (m["name"] for m in models):
        of = [cells[source, m["name"]] for m in models]
        values = [f"{rate(c['excess'])} {interval(c['excess_low'], c['excess_high'])}" for c in of]
        lines.append(f"| {short[source]}, `{of[0]['attack']}` | {' | '.join(values)} |")
    return "\n".join(lines)
