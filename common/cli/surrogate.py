"""`carom surrogate`: the models that an attacker makes before an attack."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from carom.common.base.files import file_for
from carom.common.cli.options import Group, as_json, modality_option, print_json, quiet, training


@click.group(cls=Group)
def surrogate() -> None:
    """Make the model that an attacker crafts on: networks around one they have, or a substitute of one they may ask.

    \b
    carom surrogate lgv zoo:image-resnet --out lgv.safetensors
    carom surrogate substitute zoo:image-forest --network zoo:image-vgg --limit 150 --out sub.safetensors
    carom run -m image -s surrogate:sub.safetensors -t zoo:image-forest -a mi-fgsm
    """


def shared(command: Callable[..., None]) -> Callable[..., None]:
    """Options of both commands."""
    for option in (
        modality_option,
        click.option("--data", "-d", help="Examples to train on.  [default: the modality's own]"),
        click.option("--split", default="train", show_default=True, help="Their split."),
        click.option("--held-out", default="test", show_default=True, help="Split to measure on."),
        click.option("--lr", type=float, help="Learning rate.  [default: .05 for lgv, .002 for substitute]"),
        click.option(
            "--epochs", type=click.IntRange(min=1), default=10, show_default=True, help="Substitute: a round."
        ),
        click.option("--seed", type=int, default=0, show_default=True),
        click.option(
            "--out", type=click.Path(path_type=Path), required=True, help="File to write: NAME.safetensors, NAME.json."
        ),
        quiet,
        as_json,
    ):
        command = option(command)
    return command


@surrogate.command()
@click.argument("model", metavar="SPEC")
@click.option("--limit", type=click.IntRange(min=1), help="Use at most so many examples.")
@click.option("--per-epoch", type=click.IntRange(min=1), default=4, show_default=True, help="Networks to collect.")
@shared
def lgv(model: str, limit: int | None, per_epoch: int, **options: Any) -> None:
    """Collect networks around SPEC, from a path of training at a high rate (LGV, Gubri et al. 2022)."""
    from carom.common.surrogates.lgv import lgv as collect

    def make(modality: str, data: Any, more: dict[str, Any]) -> Any:
        return collect(model, data, per_epoch=per_epoch, modality=modality, **more)

    _make(model, limit, make, **options)


@surrogate.command()
@click.argument("target", metavar="SPEC")
@click.option("--network", required=True, metavar="SPEC", help="Architecture to train: zoo:NAME, py:module:factory.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=150, show_default=True, help="Examples that it starts from."
)
@click.option(
    "--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Each but the last doubles the examples."
)
@click.option(
    "--step", type=float, default=0.1, show_default=True, help="How far new examples lie: share of the range."
)
@click.option("--most", type=click.IntRange(min=1), help="New examples a round at most.")
@shared
def substitute(
    target: str, network: str, limit: int, rounds: int, step: float, most: int | None, **options: Any
) -> None:
    """Teach a network the labels that SPEC answers, and count them (Papernot et al. 2017)."""
    from carom.common.surrogates.networks import built
    from carom.common.surrogates.substitute import substitute as teach

    def make(modality: str, data: Any, more: dict[str, Any]) -> Any:
        model = built(target, modality, data)
        more = {"rounds": rounds, "step": step, "most": most, "modality": modality, **more}
        return teach(model, data, network, **more)

    _make(target, limit, make, **options)


def _make(
    spec: str,
    limit: int | None,
    make: Callable[[str, Any, dict[str, Any]], Any],
    *,
    modality: str | None,
    data: str | None,
    split: str,
    held_out: str,
    lr: float | None,
    epochs: int,
    seed: int,
    out: Path,
    quiet: bool,
    as_json: bool,
) -> None:
    """Load the data, make the surrogate, save it and print its card."""
    from carom.common.api import load_data, modality_of
    from carom.common.cli.tables import print_facts
    from carom.common.surrogates.files import save_surrogate, surrogate_file

    surrogate_file(file_for("the surrogate", out, "--out"))
    owner = modality_of(spec, modality)
    name = data or owner.defaults.data
    examples, measured = (load_data(name, s, n, owner.name) for s, n in ((split, limit), (held_out, None)))
    with training(quiet, spec) as epoch:
        more: dict[str, Any] = {"epochs": epochs, "seed": seed, "held_out": measured, "progress": epoch}
        model = make(owner.name, examples, more if lr is None else {**more, "lr": lr})
    card = save_surrogate(model, out)
    print_json(card) if as_json else print_facts(card)
