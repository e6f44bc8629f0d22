"""`carom augment`: a file of examples, and changed copies of them, as another file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from carom.common.base.errors import CaromError
from carom.common.base.files import file_for
from carom.common.cli.options import as_json, print_json, progress, quiet

COLUMNS = ("text", "second", "label", "change", "classes")


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--output", "-o", "out", type=click.Path(path_type=Path), required=True, help="File to write.")
@click.option("--modality", "-m", help="What the file holds.  [default: the one that has recipes]")
@click.option(
    "--recipe",
    "-r",
    help="A model-free recipe; with -s, any attack.  [default: synonyms; with -s fast, or greedy-unk without gradients]",
)
@click.option("--source", "-s", help="Model to attack: zoo:NAME, hf:ORG/NAME, py:module:name ...")
@click.option("--copies", type=click.IntRange(min=1), default=1, show_default=True, help="Of each example.")
@click.option("--eps", help="Budget, such as the share of words that is changed.  [default: 0.1; of attacks 0.5]")
@click.option("--fooled", is_flag=True, help="Only copies that the model gets wrong.")
@click.option("--only-copies", is_flag=True, help="Leave the examples themselves out.")
@click.option("--text", help="Column of the text.  [default: found]")
@click.option("--second", help="Column of the second text of a pair.  [default: found]")
@click.option("--change", help="Side of a pair that is changed: second (default), first, or its column.")
@click.option("--label", help="Column of the label, for attacks.  [default: found; else the model's answers]")
@click.option("--classes", help="Classes of a model that cannot name them: first,second.")
@click.option(
    "--on-error", type=click.Choice(["raise", "skip"]), default="raise", help="Bad rows: stop, or keep as is."
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--batch", type=click.IntRange(min=1), default=64, show_default=True, help="Examples at once.")
@quiet
@as_json
def augment(
    file: Path,
    out: Path,
    modality: str | None,
    recipe: str | None,
    source: str | None,
    eps: str | None,
    only_copies: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Write FILE (CSV, TSV, JSONL or Parquet) again with changed copies of its examples; other columns stay.

    Model-free recipes of texts: synonyms, neighbours, inflections, characters, invariances, look-alikes, leave-out.
    With --source, any attack of `carom list attacks` makes the copies.

    \b
    carom augment train.csv -o more.csv --copies 2
    carom augment train.csv -o hard.csv -s zoo:text-cnn
    carom augment mnli.parquet -o noisy.parquet -r characters --change premise
    carom augment train.jsonl -o hard.jsonl -r textfooler -s zoo:text-cnn --fooled
    """
    from carom.common.base.specs import number
    from carom.common.modality.installed import modalities

    able = [owner for owner in modalities(modality) if owner.augment is not None]
    if len(able) != 1:
        known = ", ".join(owner.name for owner in modalities() if owner.augment is not None)
        raise CaromError(f"augment needs one modality that has recipes: pass --modality, one of {known}.")
    (owner,) = able
    assert owner.augment is not None
    facts = {name: value for name in COLUMNS if (value := options.pop(name)) is not None}
    share = None if eps is None else number(eps)
    file_for("the table", out, "--output")
    with progress(quiet) as advance:
        done = owner.augment(
            *(file, out, recipe),
            facts=facts,
            eps=share,
            model=source,
            originals=not only_copies,
            progress=advance,
            **options,
        )
    if as_json:
        print_json(done)
        return
    kept = f" of {done['rows']} rows" if only_copies else f", {done['rows']} rows as they were"
    copies = "1 changed copy" if done["copies"] == 1 else f"{done['copies']} changed copies"
    click.echo(f"{done['out']}: {copies}{kept}")
    if done["reasons"]:
        why = ", ".join(f"{count} {reason}" for reason, count in done["reasons"].items())
        click.echo(f"without a copy: {done['without_copies']} of {done['rows']}: {why}")
    for line in done["skipped"]:
        click.echo(f"not used: {line}", err=True)
