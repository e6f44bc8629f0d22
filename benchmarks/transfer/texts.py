"""How text attacks transfer, and what they leave of the text: two studies, recorded and rendered.

    python -m carom.benchmarks.transfer.texts --json > benchmarks/results/transfer-text.json
    python -m carom.benchmarks.transfer.texts --render > docs/text-transfer.md

The first continues where it was stopped, from the store in --store; with --held it computes nothing, and records what
the store holds. The second reads what the first wrote.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import torch

from carom.benchmarks.records import rounded
from carom.common.cli.tables import rate

FOLDER = Path(__file__).parents[1]
RECORDED = FOLDER / "results" / "transfer-text.json"
STUDIES = {"Sentences": "text.toml", "Documents": "text-documents.toml"}
ACCURATE = 200
"""Examples of the test part on which clean accuracy is measured: more than the attacks can afford."""

RATES = ("transfer", "control", "excess")
OF_RUN = ("white_box", "white_box_low", "white_box_high", "white_box_n", "white_box_control", "queries", "size")

Row = Mapping[str, Any]


# What is recorded.


def study(name: str, store: str, device: str, held: bool) -> dict[str, Any]:
    """One study run, or continued: its facts, clean accuracies, one row a source and attack, one a cell. With `held`
    nothing is computed; what the store does not hold is named: what was not crafted under `absent`, targets that
    were not asked about all of it under `unasked`."""
    from carom.common.runs.load import plan_of
    from carom.common.runs.resolve import resolve
    from carom.common.study.config import make_study, read_study
    from carom.common.study.evaluate import evaluate
    from carom.common.work.executor import inline
    from carom.common.work.store import Store

    asked = resolve(make_study({**read_study(FOLDER / "studies" / name, ["text"]), "device": device}, name))
    plan = plan_of(asked, "text")
    outcome = evaluate(
        plan,
        Store(store),
        asked.batch,
        (lambda *_: []) if held else inline,
        lambda done, total, what: click.echo(f"[{done}/{total}] {what}", err=True),
    )
    summary = outcome.summary()
    runs = {
        (cell["source"], cell["attack"]): {key: cell[key] for key in ("source", "attack", *OF_RUN)}
        for cell in summary["cells"]
    }
    wanted = [(source.name, chosen.label) for source in plan.sources for chosen in plan.attacks_on(source)]
    kept = ("source", "target", "attack", "n", *(f"{name}{end}" for name in RATES for end in ("", "_low", "_high")))
    return {
        **{name: summary[name] for name in ("data", "data_digest", "examples", "threat", "metrics", "failures")},
        "controls": plan.controls,
        "absent": [list(pair) for pair in wanted if pair not in runs],
        "unasked": [m.name for m in plan.targets if sum(c["target"] == m.name for c in summary["cells"]) < len(runs)],
        "models": [
            {**{k: m[k] for k in ("name", "family", "role", "digest")}, **accuracy(summary["data"], model)}
            for m, model in zip(summary["models"], plan.models, strict=True)
        ],
        "runs": list(runs.values()),
        "cells": [{key: cell[key] for key in kept} for cell in summary["cells"]],
    }


def accuracy(data: str, model: Any) -> dict[str, Any]:
    """Clean accuracy on `ACCURATE` test examples, with its Wilson interval."""
    from carom.common.api import load_data
    from carom.common.measure.stats import wilson

    texts = load_data(data, limit=ACCURATE)
    right = int((model.predict(texts.batch(), 16).argmax(1) == texts.labels).sum())
    low, high = wilson(right, len(texts))
    return {"clean": right / len(texts), "clean_low": low, "clean_high": high, "clean_n": len(texts)}


def written(record: Mapping[str, Any]) -> str:
    """JSON with one line a model, run and cell, so that a new recording can be compared with the last."""
    parts = []
    for title, part in record.items():
        lines = []
        for key, value in part.items():
            rows = isinstance(value, list) and value and isinstance(value[0], Mapping)
            text = ",\n".join(f"   {json.dumps(row, allow_nan=False)}" for row in value) if rows else ""
            lines.append(f'  "{key}": [\n{text}\n  ]' if rows else f'  "{key}": {json.dumps(value, allow_nan=False)}')
        parts.append(f" {json.dumps(title)}: {{\n" + ",\n".join(lines) + "\n }")
    return "{\n" + ",\n".join(parts) + "\n}"


# What is made of it.

HEAD = """# How text attacks transfer

Made by `python -m carom.benchmarks.transfer.texts --render > docs/text-transfer.md` from
`benchmarks/results/transfer-text.json`, which `python -m carom.benchmarks.transfer.texts --json` computes.

Adversarial texts are crafted on one model and shown, as text, to the others. Over the n examples that both get right:

* **T**, transfer: the share that the target gets wrong. Texts that do not fool their source count too.
* **N**, control: the share that it gets wrong when as many words of each text, drawn at random among those the attack
  may change, take random ones of the same candidates. It is what noise of the same kind and amount does.
* **E**, excess transfer: (T − N) / (1 − N), what the attack adds to noise.
* **noise**: N / T, the share of raw transfer that such noise makes without any attack. – where nothing transfers.

In brackets are 95% intervals: Wilson for T and for accuracy, bootstrap over examples for N and E; where no draw of the
control flips anything, the bootstrap of N says [.00,.00], which proves nothing. Means are over the pairs of two
different models; their intervals average the bounds of the pairs, which is at least as wide as an interval over
examples, and does not cover the choice of models. Success is on the source itself, over what it gets right.

Quality is measured between clean and stored texts, over those that were changed: how many words, the cosine of
MiniLM's sentence vectors, the perplexity by a three-word model of film reviews over that of the clean text (median),
and errors of grammar and spelling by LanguageTool beyond those of the clean text."""


def document(record: Mapping[str, Row]) -> str:
    """Markdown of all that was recorded."""
    return "\n".join([HEAD, *(line for title, part in record.items() for line in _study(title, part))])


def _study(title: str, part: Row) -> Iterable[str]:
    yield f"\n## {title}: {part['data'].partition(':')[2]}\n"
    draws = f"{part['controls']} draws of the control"
    yield f"{part['examples']} texts, at most {float(part['threat'].split()[1]):.0%} of the words changed, {draws}."
    for metric in part["metrics"]:
        if metric["missing"] is not None:
            yield f"\n“{metric['label']}” was not measured: it {metric['missing']}."
    if part["absent"]:
        lacking: dict[str, list[str]] = {}
        for source, attack in part["absent"]:
            lacking.setdefault(source, []).append(f"`{attack}`")
        said = "; ".join(f"on {source} {', '.join(attacks)}" for source, attacks in lacking.items())
        yield f"\n**Not computed** in this recording: {said}. Means are over the sources that all recipes ran on."
    if part["unasked"]:
        yield f"\n**Not asked** about all of it in this recording: {', '.join(part['unasked'])}."
    for failure in part["failures"]:
        yield f"\n**Failed**: {failure['what']}: {failure['error']}"
    yield from _table(
        "",
        ("model", "family", "clean accuracy"),
        ((m["name"], m["family"], f"{_between(m, 'clean')}, {m['clean_n']} texts") for m in part["models"]),
    )
    attacks = list(dict.fromkeys(run["attack"] for run in part["runs"]))
    yield from _table("### Recipes", _SUMMARY, (_summary(part, attack) for attack in attacks))
    yield f"\n{_said_of_noise(part, attacks)}"
    margins = [a for a in attacks if "until=" in a]
    pairs = [(first, margin) for margin in margins if (first := margin.partition("?")[0]) in attacks]
    if pairs:
        yield "\n### Going on until the source is sure\n"
        yield "A recipe stops at the first change of the answer; with `until=0.1` it goes on until the source gives the"
        yield "right class a tenth."
        yield from _table("", _SUMMARY, (_summary(part, attack) for pair in pairs for attack in pair))
    free = [(a, b) for a, b in CONSTRAINED if a in attacks and b in attacks]
    if free:
        yield "\n### With and without constraints\n"
        yield from (CONSTRAINED[pair] for pair in free)
        yield from _table("", _SUMMARY, (_summary(part, attack) for pair in free for attack in pair))
    yield "\n### Every pair\n"
    yield "A cell is E, beneath it T and N. The last column is the noise share over the other models of its row; cells of"
    yield "a model with itself are white-box."
    for attack in attacks:
        yield from _matrix(part, attack)


CONSTRAINED = {
    (
        "textfooler?similarity=0.9",
        "textfooler",
    ): "`similarity=0.9` keeps each text at a cosine of .9 or more to the clean one; without it .5 is enough.",
    (
        "careful",
        "greedy-unk",
    ): "`careful` is `greedy-unk` within a part of speech, without antonyms, names and negations untouched.",
}
"""(with, without) -> what is asked of the one and not of the other."""

_SUMMARY = (
    *("recipe", "success", "T", "N", "E", "noise"),
    *("words", "similarity", "perplexity ratio", "errors added", "queries"),
)


def complete(part: Row) -> set[str]:
    """The sources that every recipe ran on: means of recipes compare over no others."""
    return {run["source"] for run in part["runs"]} - {source for source, _ in part["absent"]}


def _summary(part: Row, attack: str) -> Sequence[str]:
    """One row: a recipe's success, its transfer between different models, and the quality of its texts."""
    among = complete(part)
    runs = [run for run in part["runs"] if run["attack"] == attack and run["source"] in among]
    cells = [cell for cell in part["cells"] if cell["attack"] == attack and cell["source"] in among - {cell["target"]}]

    def quality(name: str, kind: str) -> float | None:
        return mean((run["size"] or {}).get(name, {}).get(kind) for run in runs)

    return (
        f"`{attack}`",
        rate(mean(run["white_box"] for run in runs)),
        *(rate(*(mean(cell[name + end] for cell in cells) for end in ("", "_low", "_high"))) for name in RATES),
        share(noise(cells)),
        _number(quality("words", "mean"), "{:.1f}"),
        rate(quality("similarity", "mean")),
        _number(quality("perplexity", "median"), "{:.2f}"),
        _number(quality("grammar", "mean"), "{:.1f}"),
        _number(mean(run["queries"] for run in runs), "{:.0f}"),
    )


def _said_of_noise(part: Row, attacks: Sequence[str]) -> str:
    """How much of raw transfer between different models is noise, and of which recipe the least and the most."""
    among = complete(part)
    between = [cell for cell in part["cells"] if cell["source"] in among - {cell["target"]}]
    of = {attack: noise([cell for cell in between if cell["attack"] == attack]) for attack in attacks}
    known = {attack: value for attack, value in of.items() if value is not None}
    if not known:
        return "Nothing transfers."
    least, most = min(known, key=lambda a: known[a]), max(known, key=lambda a: known[a])
    return (
        f"Of all raw transfer between different models, **{share(noise(between))} is noise**: from "
        f"{share(known[least])} of that of `{least}` to {share(known[most])} of that of `{most}`."
    )


def _matrix(part: Row, attack: str) -> Iterable[str]:
    """One row a source, one column a target."""
    targets = [m["name"] for m in part["models"] if m["role"] != "source"]
    rows = []
    for run in (run for run in part["runs"] if run["attack"] == attack):
        of = [c for c in part["cells"] if c["attack"] == attack and c["source"] == run["source"]]
        at = {cell["target"]: cell for cell in of}
        others = [cell for cell in of if cell["source"] != cell["target"]]
        said = (_cell(at[name]) if name in at else "–" for name in targets)
        rows.append((f"{run['source']}<br>success {_between(run, 'white_box')}", *said, share(noise(others))))
    yield from _table(f"#### `{attack}`", ("from \\ to", *targets, "noise"), rows)


def _cell(cell: Row) -> str:
    excess, transfer, control = (_between(cell, name) for name in ("excess", "transfer", "control"))
    own = " *" if cell["source"] == cell["target"] else ""
    return f"**{excess}**{own}<br>T {transfer}<br>N {control}<br>n {cell['n']}"


def noise(cells: Sequence[Row]) -> float | None:
    """N / T over the examples of all these cells together; None where nothing transfers."""
    known = [cell for cell in cells if cell["transfer"] is not None and cell["control"] is not None]
    total = sum(cell["transfer"] * cell["n"] for cell in known)
    return sum(cell["control"] * cell["n"] for cell in known) / total if total else None


def mean(values: Iterable[float | None]) -> float | None:
    """Over those that are known."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def share(value: float | None) -> str:
    return _number(value, "{:.0%}")


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _between(row: Row, name: str) -> str:
    return rate(row[name], row[f"{name}_low"], row[f"{name}_high"])


def _table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    if title:
        yield f"\n{title}"
    yield ""
    yield f"| {' | '.join(heads)} |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield f"| {' | '.join(row)} |"


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Run both studies, or continue them, and print the record.")
@click.option("--render", is_flag=True, help="Print the document of the recorded run.")
@click.option("--store", default=".carom/store", show_default=True, help="What is computed is kept here.")
@click.option("--held", is_flag=True, help="With --json: compute nothing, record what the store holds.")
@click.option("--device", default="auto", show_default=True)
def main(as_json: bool, render: bool, store: str, held: bool, device: str) -> None:
    """Transfer of text attacks, and the quality of their texts."""
    if as_json == render:
        raise click.UsageError("say what to print: --json runs the studies, --render shows what was recorded.")
    if render:
        click.echo(document(json.loads(RECORDED.read_text(encoding="utf-8"))))
        return
    torch.set_num_threads(1)
    click.echo(written({title: rounded(study(name, store, device, held)) for title, name in STUDIES.items()}))


if __name__ == "__main__":
    main()
