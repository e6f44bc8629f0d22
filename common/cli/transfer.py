"""`carom transfer`: what was crafted before, here or by another tool, measured on other models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from carom.common.cli.options import (
    as_json,
    denominator_option,
    device_option,
    fail_above_option,
    finish,
    modality_option,
    parse_gate,
    progress,
    quiet,
    run_folder,
    warn,
)

LOG_FACTS = ("original", "perturbed", "label", "classes", "noise")


@click.command()
@click.option(
    "--from",
    "log",
    required=True,
    type=click.Path(path_type=Path),
    help="TextAttack's CSV log, OpenAttack's results, a table of texts, arrays of images or sounds (.npz), or a set "
    "that carom saved (.parquet).",
)
@click.option(
    "--target", "--targets", "-t", "target", multiple=True, help="Model to measure on. Repeat. Default: the embedded."
)
@click.option("--source", "-s", help="Model it was crafted on: gives it controls, and E something to relate to.")
@click.option("--data", "-d", help="Where labels that a log lacks, or the clean inputs of a saved set, are looked up.")
@click.option("--split", default="test", show_default=True, help="Split of the data.")
@click.option("--original", metavar="COLUMN", help="Column of the clean texts, where it has a name of its own.")
@click.option("--perturbed", metavar="COLUMN", help="Column of the changed texts.")
@click.option("--label", metavar="COLUMN", help="Column of the labels.")
@click.option("--classes", metavar="A,B", help="Classes that labels are counted in.  [default: those of the models]")
@click.option(
    "--noise",
    help="What controls of a log are drawn from: synonyms, misspellings, neighbours, mixed.  [default: as the log is]",
)
@click.option("--threat", help="With --eps: the budget, where the set does not tell it.")
@click.option("--eps", help="Its size: 8/255 (linf), 30 (snr, dB), 0.3 (share of words).")
@click.option("--limit", type=click.IntRange(min=1), help="Use at most so many examples.")
@click.option(
    "--on-error", type=click.Choice(["raise", "skip"]), default="raise", help="Bad rows: stop (default), or skip them."
)
@click.option("--seed", "seeds", type=int, multiple=True, help="Of the controls. Repeat for several.  [default: 0]")
@click.option("--controls", type=click.IntRange(min=1), default=5, show_default=True, help="Random draws.")
@click.option("--batch", type=click.IntRange(min=1), default=64, show_default=True, help="Examples at once.")
@modality_option
@device_option
@click.option("--store", default=".carom/store", show_default=True, help="Folder of finished work.")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder.  [default: runs/DATE-TIME]")
@denominator_option
@fail_above_option
@quiet
@as_json
def transfer(
    log: Path,
    target: tuple[str, ...],
    source: str | None,
    data: str | None,
    seeds: tuple[int, ...],
    denominators: tuple[str, ...],
    modality: str | None,
    out: Path | None,
    fail_above: tuple[str, ...],
    quiet: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Measure what was crafted before on other models. No attack runs.

    \b
    textattack attack --recipe pwws --model lstm-mr --num-examples 500 --log-to-csv attacks.csv
    carom transfer --from attacks.csv -t zoo:text-cnn -t zoo:text-linear
    carom transfer --from attacks.csv -s py:mymodels:lstm -t py:mymodels:bert --classes negative,positive
    carom transfer --from openattack.csv -d folder:reviews.csv -t zoo:text-cnn
    carom transfer --from pairs.npz -m image --threat linf --eps 8/255 -t zoo:image-vgg
    carom transfer --from pairs.tsv --original before --perturbed after --label y -t zoo:text-cnn

    T is the share of the inputs that source and target get right which the target gets wrong once changed; its control
    is random change of the same budget (of texts as many words, at random places and to random words); E is what T
    adds to that. An .npz holds the arrays clean, adversarial and labels.
    """
    from carom.common.base.errors import CaromError
    from carom.common.base.specs import existing
    from carom.common.runs.run import command_line, execute
    from carom.common.study.config import make_study
    from carom.common.study.replay import load_set, log_modality

    for gate in fail_above:
        parse_gate(gate)
    existing(log, "log or adversarial set")
    reader = log_modality(log, modality)
    modality = load_set(log).modality if reader is None else reader.name
    facts = {name: flags.pop(name) for name in LOG_FACTS}
    if (flags["threat"] is None) != (flags["eps"] is None):
        raise CaromError("--threat and --eps belong together: a kind of budget and its size.")
    part = {
        "log": {"spec": str(log), **{name: value for name, value in facts.items() if value is not None}},
        "data": data,
        "sources": [] if source is None else [source],
        "targets": list(target),
        **{name: flags.pop(name) for name in ("split", "threat", "eps", "limit", "on_error")},
    }
    settings = {**flags, **({"seeds": list(seeds)} if seeds else {}), "denominators": list(denominators)}
    study = make_study({**settings, "modalities": {modality: {k: v for k, v in part.items() if v is not None}}})
    folder = run_folder(out, study.store)
    with progress(quiet) as advance:
        run = execute(study, advance, folder, command_line(), warn=warn)
    finish(run, as_json, fail_above)
