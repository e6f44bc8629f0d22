"""docs/ranking.md, from what carom.benchmarks.transfer.ranking measured and from the recorded study of the CIFAR-10 zoo."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from carom.benchmarks.transfer.ranking.beside import matrix, published_elsewhere
from carom.benchmarks.transfer.ranking.names import TITLES, called, configured, signed
from carom.benchmarks.transfer.ranking.rules import BASELINES, COMPARED
from carom.common.base.specs import split_parameters
from carom.common.modality.installed import get_modality
from carom.common.modality.registry import paper
from carom.common.report.values import interval, listing, rate

HEAD = """# A ranking of transfer attacks, tuned alike, at equal cost

Made by `python -m carom.benchmarks.transfer.ranking --render > docs/ranking.md` from `benchmarks/results/ranking.json`,
which `python -m carom.benchmarks.transfer.ranking --json` measures (hours on one core), and from
`benchmarks/results/cifar.json`. The rules (`benchmarks/transfer/ranking/rules.py`) and the configurations
(`configurations.toml` beside it) were fixed before any number was looked at, and so were the cuts in the number of images
that the time forced.

* **Images**: test images of CIFAR-10 (`{data}`), {threat}. {tuning} are for tuning alone; the first half of what is
  reported has {resnet} images from the residual network and {vit} from the transformer, the second half as many others: what
  the time allowed. Right when clean there: {models}.
* **The same tuning for all**: every attack, I-FGSM, MI and DI-MI included, has four declared configurations: its paper's,
  one with another strength of its own, one with longer steps, one with a shorter memory. The one with the largest mean on
  the tuning images from the residual network is reported (PNA and TGR, which suit it not, from the transformer), from both
  sources. {tuning} images choose roughly; they choose equally roughly for all. DI-MI's other strength (rate 1.4, p = 1) and
  DI-TI-MI's were declared after an earlier look at DI-MI; those of the others were not.
* **Equal cost**: every configuration spends {gradients} gradients per image, counted by its own result. Attacks that
  average over random copies get one copy a step; SI-NI, Admix and EMI keep several, which are their method.
* **Excess transfer** E is what an attack adds to random signs of the same size, over the images that source and target
  both get right ({least} to {most} for a pair of models, both halves together): 0 is no better than chance. *Mean* is over
  the other networks; the forest stands beside it. One seed, {controls} draws of the control; intervals are 95 %, over images.
* **Claims**: {declared} comparisons were declared: every attack with tuned DI-MI and with tuned MI, from both sources. Each
  is paired (the same images and targets) on the first half, its p adjusted by Holm's method over all {declared}. A claim
  (adjusted p below .05) is **confirmed** where the interval of the same difference on the second half lies on the same
  side of 0. Not told apart is not alike: these images are few. Intervals cover the choice of images, never of models.
* **Left out**: attacks that aim at a class, the universal perturbation, ensembles and further networks as sources, other
  numbers of gradients (a dozen attacks at 1,000 are declared, for `--json --more`), a second seed. SGM and Ghost want
  residual branches, PNA and TGR transformers, LinBP ReLUs in the later half; LinBP goes back through residual branches
  three times, which counts as three gradients.
"""

PICTURE = """![Excess transfer of every tuned attack at {gradients} gradients, with its interval](ranking.svg)
"""

PUBLISHED = """
## As the papers run them

Each attack with its paper's steps and copies, {few} images of the first half, from the residual network. What an attack
spends differs here; the last column repeats the mean at equal cost from above, which is over other and more images. No
claims are made from this table. RAP is not in it: its paper's 2,800 gradients were too many.
"""

DEAR = """
## At 1,000 gradients

A dozen tuned attacks on the same {few} images: in twenty times the copies where the attack averages, in twenty times the
steps where it does not; RAP as in its paper, as far as 1,000 gradients go. No claims are made from this table.
"""

TUNING = """
## The tuning

Mean E of every declared configuration on the {tuning} tuning images, from the residual network (PNA and TGR: from the
transformer) to the other networks. The reported one is bold.
"""


def document(found: Mapping[str, Any], study: Mapping[str, Any]) -> str:
    """The whole page."""
    models = listing(f"{m['name'].removeprefix('image-cifar-')} {rate(m['clean_accuracy'])}" for m in found["models"])
    counts = [target["n"] for row in found["attacks"] for target in row["targets"].values()]
    facts = {
        **{name: found[name] for name in ("data", "threat", "gradients", "controls")},
        **{part: found["images"][part]["n"] for part in ("tuning", "few")},
        **{source: of["first"] for source, of in found["examples"].items()},
        **{"models": models, "least": min(counts), "most": max(counts)},
        "declared": sum("claim" in against for row in found["attacks"] for against in row["against"].values()),
    }
    equal = {row["attack"]: row for row in found["attacks"] if row["source"] == "resnet"}
    parts = [HEAD.format(**facts), PICTURE.format(**facts), "## In words\n", *words(found["attacks"])]
    for source in TITLES:
        parts += [f"\n## {TITLES[source]}\n", *table([r for r in found["attacks"] if r["source"] == source])]
    parts += [PUBLISHED.format(**facts), *cheap(found["published"], equal)]
    if found["dear"]:
        parts += [DEAR.format(**facts), *cheap(found["dear"], equal)]
    parts += [TUNING.format(**facts), *configurations(found["tuning"])]
    return "\n".join([*parts, published_elsewhere(found["attacks"]), matrix(study, found["models"])])


# In words.

CLAIMS = {
    ("better", True): "better than tuned {rival}, confirmed",
    ("better", False): "better on the first half, not confirmed on the second",
    (None, False): "not told apart from it",
    ("worse", False): "worse on the first half, not confirmed on the second",
    ("worse", True): "worse, confirmed",
}


def words(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What was claimed and what of it was confirmed, from each source and against each baseline."""
    for source in TITLES:
        for rival in reversed(COMPARED):
            yield f"* **{TITLES[source]}, beside tuned {rival}**"
            for (claim, confirmed), says in CLAIMS.items():
                found = claimed(rows, source, rival, claim, confirmed)
                if found or claim == "better":
                    yield f"  * {says.format(rival=rival)}: {told(found, rival)}"


def claimed(
    rows: Iterable[Mapping[str, Any]], source: str, rival: str, claim: str | None, confirmed: bool
) -> list[Mapping[str, Any]]:
    """The attacks of which this was claimed, and confirmed or not."""
    asked = [row for row in rows if row["source"] == source and "claim" in row["against"][rival]]
    return [r for r in asked if (r["against"][rival]["claim"], r["against"][rival]["confirmed"]) == (claim, confirmed)]


def told(rows: Sequence[Mapping[str, Any]], rival: str) -> str:
    """Their names with the mean difference over all images, largest first."""
    ordered = sorted(rows, key=lambda r: -r["against"][rival]["all"]["difference"])
    return (
        listing(f"{called(r['attack'])} ({signed(r['against'][rival]['all']['difference'])})" for r in ordered)
        or "none"
    )


# Tables.


def mark(against: Mapping[str, Any]) -> str:
    """▲ and ▼ for confirmed claims, △ and ▽ for those that the second half does not confirm."""
    claim = against.get("claim")
    marks = {"better": ("△", "▲"), "worse": ("▽", "▼")}
    return "" if claim is None else marks[claim][against["confirmed"]]


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Markdown, the largest mean first."""
    targets = list(dict.fromkeys(target for row in rows for target in row["targets"]))
    heads = [
        *("tuned attack", "paper", "white-box", "mean"),
        *(f"to {target}" for target in targets),
        *(f"mean − {name}" for name in BASELINES),
    ]
    lines = [
        "▲ and ▼: better and worse, claimed and confirmed; △ and ▽: claimed, not confirmed.\n",
        f"| {' | '.join(heads)} |",
        "|---" * len(heads) + "|",
    ]
    for row in sorted(rows, key=lambda r: -r["excess"]):
        info = get_modality("image").attacks[row["attack"]]
        cells = [
            f"{called(row['attack'])}: `{configured(row['spec'])}`",
            "; ".join(paper(part) for part in info.reference.split("; ")),
            rate(row["white_box"]),
            estimated(row, "excess"),
            *(estimated(row["targets"].get(target), "excess") for target in targets),
            *(differing(row["against"][name]) for name in BASELINES),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def estimated(part: Mapping[str, Any] | None, name: str) -> str:
    if part is None or part[name] is None:
        return rate(None)
    value = signed(part[name]) if name == "difference" else rate(part[name])
    return f"{value} {interval(part['low'], part['high'])}"


def differing(against: Mapping[str, Any]) -> str:
    return f"{estimated(against['all'], 'difference')} {mark(against)}".rstrip()


def cheap(rows: Sequence[Mapping[str, Any]], equal: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """A table without claims, beside the mean at equal cost."""
    heads = ("attack", "gradients", "white-box", "mean", "mean − MI", "mean − DI-MI", "at equal cost")
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    for row in sorted(rows, key=lambda r: -r["excess"]):
        name, parameters = called(row["attack"]), split_parameters(row["spec"])[1]
        cells = [
            f"{name}: `{configured(row['spec'])}`" if parameters else name,
            f"{row['backward']:,.0f}",
            rate(row["white_box"]),
            estimated(row, "excess"),
            *(estimated(row["against"][rival], "difference") for rival in COMPARED),
            estimated(equal.get(row["attack"]), "excess"),
        ]
        yield f"| {' | '.join(cells)} |"


def configurations(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Every attack's four configurations with their means."""
    yield "| attack | the paper's | | | |"
    yield "|---|---|---|---|---|"
    for name in dict.fromkeys(row["attack"] for row in rows):
        cells = [f"`{configured(r['spec'])}` {rate(r['excess'])}" for r in rows if r["attack"] == name]
        bold = [r["chosen"] for r in rows if r["attack"] == name]
        shown = (f"**{cell}**" if best else cell for cell, best in zip(cells, bold, strict=True))
        yield f"| {called(name)} | {' | '.join(shown)} |"
