"""`carom export`: adversarial examples of a run or of a saved set, as files that other tools read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from carom.common.base.errors import CaromError
from carom.common.cli.options import as_json, modality_option, print_json

if TYPE_CHECKING:
    from carom.common.core.adversarial_set import AdversarialSet


@click.command()
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--to", required=True, metavar="FORM:PATH", help="folder:PATH, npz:PATH (images, sounds), csv:PATH (texts)."
)
@modality_option
@click.option("--source", "-s", help="Of the run's sources, the one crafted on.")
@click.option("--attack", "-a", help="Of its attacks, the one that crafted.")
@click.option("--seed", type=int, help="Of its seeds.")
@click.option("--data", "-d", help="Clean examples of a saved set.")
@click.option("--split", default="test", show_default=True, help="Split of these.")
@as_json
def export(
    run: Path,
    to: str,
    modality: str | None,
    source: str | None,
    attack: str | None,
    seed: int | None,
    data: str | None,
    split: str,
    as_json: bool,
) -> None:
    """Write the adversarial examples of RUN, the folder of a run or a set that carom saved, for other tools.

    \b
    carom export runs/2026-01-31-120000 --to folder:adversarial
    carom export runs/2026-01-31-120000 --to npz:pairs.npz -s image-resnet -a pgd --seed 0
    carom export set.parquet --to folder:adversarial --data builtin:fashion-mnist
    carom transfer --from pairs.npz -m image --threat linf --eps 8/255 -t zoo:image-vgg

    A folder holds CLASS/ID.png (.wav, .txt), called as the clean files are; an .npz the arrays clean, adversarial and
    labels; a table TextAttack's columns.
    """
    from carom.common.base.specs import existing
    from carom.common.study.outputs.export import export_set

    found = (
        _of_run(run, modality, source, attack, seed)
        if existing(run, "run or adversarial set").is_dir()
        else _of_file(run, modality, data, split)
    )
    path = export_set(found, to)
    told = {"path": str(path), "examples": len(found.ids), "source": found.source, "attack": found.attack}
    print_json(told) if as_json else click.echo(f"{path}: {len(found.ids)} examples, {found.attack} on {found.source}")


def _of_run(
    folder: Path, modality: str | None, source: str | None, attack: str | None, seed: int | None
) -> AdversarialSet:
    """The one set of a run that is meant."""
    from carom.common.runs.load import plan_of
    from carom.common.runs.resolve import resolve
    from carom.common.runs.run import load_run
    from carom.common.study.outcome import Transfer
    from carom.common.study.outputs.export import sets_of
    from carom.common.work.store import Store

    study, _ = load_run(folder)
    study = resolve(study)
    names = [name for name in study.modalities if modality in (None, name)]
    if len(names) != 1:
        raise CaromError(f"{folder}: its modalities are {', '.join(study.modalities)}: name one with --modality.")
    outcome = Transfer(plan_of(study, names[0]), Store(study.store))
    every = [(found, craft.seed) for found, craft in sets_of(outcome)]
    fit = [
        (found, own)
        for found, own in every
        if source in (None, found.source)
        and (attack in (None, found.attack) or found.attack.partition("?")[0] == attack)
        and seed in (None, own)
    ]
    if len(fit) == 1:
        return fit[0][0]
    if not every:
        raise CaromError(
            f"{folder}: its store {study.store} holds none of its examples: `carom report {folder}` first."
        )
    listed = "; ".join(f"--source {f.source} --attack '{f.attack}' --seed {own}" for f, own in (fit or every)[:6])
    many = f"{len(fit)} sets fit" if fit else "no set fits"
    raise CaromError(f"{folder}: {many}, name one: {listed}{'; ...' if len(fit or every) > 6 else ''}.")


def _of_file(path: Path, modality: str | None, data: str | None, split: str) -> AdversarialSet:
    from dataclasses import replace

    from carom.common.api import load_data
    from carom.common.study.replay import load_set, log_modality

    facts = {}
    if data is not None and log_modality(path, modality) is not None:
        facts["data"] = load_data(data, split, None, modality)
    found = load_set(path, modality, **facts)
    if data is not None and found.clean is None:
        found = replace(found, clean=found.clean_in(load_data(data, split, None, found.modality)))
    return found
