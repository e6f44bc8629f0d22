"""`carom certify`: how far the answers of a smoothed model hold, whatever the attack."""

from __future__ import annotations

import click

from carom.common.cli.options import as_json, device_option, modality_option, print_json


@click.command()
@click.argument("spec", metavar="defended:SPEC+DEFENCE")
@click.option("--data", "-d", help="Examples to certify.  [default: the modality's own]")
@click.option("--split", default="test", show_default=True, help="Their split.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=200, show_default=True, help="Use at most so many examples."
)
@click.option("--draws", type=click.IntRange(min=1), default=1000, show_default=True, help="That bound a probability.")
@click.option("--first", type=click.IntRange(min=1), default=100, show_default=True, help="That choose the class.")
@click.option(
    "--alpha", type=float, default=0.001, show_default=True, help="Chance of a wrong certificate, an example."
)
@click.option("--radius", "radii", type=float, multiple=True, help="To tell the accuracy at. Repeat.")
@click.option("--batch", type=click.IntRange(min=1), default=256, show_default=True, help="Inputs that go together.")
@modality_option
@device_option
@as_json
def certify(
    spec: str,
    data: str | None,
    split: str,
    limit: int,
    draws: int,
    first: int,
    alpha: float,
    radii: tuple[float, ...],
    batch: int,
    modality: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Certified accuracy of a model behind a smoothing defence: which answers no change of an input can alter.

    \b
    carom certify 'defended:zoo:image-resnet+smoothing?sigma=0.12' --limit 100 --radius 0 --radius 0.1
    carom certify 'defended:zoo:audio-m5+smoothing?sigma=0.02'
    carom certify 'defended:zoo:text-cnn+ranmask?share=0.5'
    """
    from carom.common.api import certify as find
    from carom.common.api import load_data, load_model, modality_of
    from carom.common.cli.tables import print_table

    owner = modality_of(spec, modality)
    model = load_model(spec, owner.name)
    examples = load_data(data or owner.defaults.data, split, limit, owner.name)
    found = find(model, examples, draws=draws, first=first, alpha=alpha, batch=batch, device=device)
    rows = []
    for radius in radii or found.steps():
        share, low, high = found.accuracy(radius)
        rows.append({"radius": radius, "certified accuracy": share, "low": low, "high": high, "n": len(found.ids)})
    told = {"model": found.model, "data": found.data, "unit": found.unit, "alpha": alpha, "draws": draws}
    if as_json:
        print_json({**told, "abstained": found.abstained, "accuracy": rows, "examples": found.rows()})
        return
    print_table(("radius", "certified accuracy", "low", "high", "n"), rows)
    click.echo(f"{found.model} on {found.data}: radii in {found.unit}, no certificate for {found.abstained:.1%}")
    for name, values in found.terms.items():
        if len(known := values[values.isfinite()]):
            click.echo(f"{name} of the radii: {known.min():.1f} to {known.max():.1f}, median {known.median():.1f}")
