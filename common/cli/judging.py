"""`carom robust` and `carom defend`: how robust a model is, and which defence helps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from carom.common.base.errors import CaromError
from carom.common.cli.options import (
    FAILED_UNITS,
    GATE,
    Option,
    as_json,
    modality_option,
    print_json,
    progress,
    quiet,
    run_folder,
    say,
    warn,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from carom.common.robustness.judgement import Judgement
    from carom.common.study.config import Study

OF_MODALITY = ("data", "split", "threat", "eps", "limit", "on_error")
SETTINGS = ("batch", "device", "store", "out")


def judging_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What both commands take."""
    options: list[Option] = [
        modality_option,
        click.option("--defence", multiple=True, help="Behind it: jpeg, 'noise?sigma=0.1+vote'. See `list defences`."),
        click.option(
            "--attack",
            "-a",
            multiple=True,
            help="Attack instead of the modality's jury, for example auto (AutoAttack, standard version). Repeat.",
        ),
        click.option("--data", "-d", help="builtin:NAME, folder:PATH, hf:NAME:SPLIT, torchvision:NAME."),
        click.option("--split", help="Split of the data.  [default: test]"),
        click.option("--threat", help="What bounds the change: linf, l2, snr, words."),
        click.option("--eps", help="Budget: 8/255 (linf), 30 (snr, dB), 0.3 (share of words)."),
        click.option("--limit", type=click.IntRange(min=1), help="Use at most so many examples."),
        click.option("--budgets", metavar="EPS,EPS", help="Further budgets, for a curve: 2/255,4/255,16/255."),
        click.option(
            "--on-error", type=click.Choice(["raise", "skip"]), help="Bad files: stop (default), or name and skip them."
        ),
        click.option("--seed", type=int, help="[default: 0]"),
        click.option("--batch", type=click.IntRange(min=1), help="Examples at once.  [default: 64]"),
        click.option("--device", help="auto (a GPU when there is one), cpu, cuda, cuda:1.  [default: auto]"),
        click.option("--store", help="Folder of finished work, shared by runs.  [default: .carom/store]"),
        click.option("--out", help="Folder of result and report.  [default: robust none, defend runs/DATE-TIME]"),
        click.option(
            "--fail-below", type=float, metavar="X", help="Exit with 4 where robust accuracy is below X, or not known."
        ),
        quiet,
        as_json,
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@click.argument("model", required=False)
@click.option("--source", "-s", help="The same as MODEL.")
@judging_options
def robust(model: str | None, source: str | None, defence: tuple[str, ...], **flags: Any) -> None:
    """The robust accuracy of one MODEL: the share of examples that no attack within the budget makes wrong.

    \b
    carom robust zoo:image-vgg --eps 8/255 --limit 100
    carom robust py:mymodels:net?normalise=none -m image -d folder:photos --eps 4/255 -a auto
    carom robust zoo:audio-gru --defence quantise --eps 30 --json
    carom robust zoo:text-cnn --limit 50

    Images and sounds are attacked by AutoAttack's ensemble (shortened; `-a auto` is its standard version), texts by the
    union of several recipes; each through the defences before the model. The attacks are tested: where an alarm rings, or
    they fail at problems that are solvable by construction, this says `attack too weak` instead of a number.
    """
    named = [spec for spec in (model, source) if spec is not None]
    if len(named) != 1:
        raise CaromError("name one model: carom robust SPEC, for example carom robust zoo:image-resnet.")
    if len(defence) > 1:
        raise CaromError("one model stands behind one --defence (join several by +). To compare several: carom defend.")
    from carom.common.base.specs import defended_by

    spec = defended_by(named[0], defence[0]) if defence else named[0]
    _run(_study(None, {"targets": [spec]}, flags, [spec]), flags, full=False)


@click.command()
@click.argument("study", required=False, type=click.Path(path_type=Path))
@click.option("--target", "-t", multiple=True, help="Model to defend: zoo:NAME, hf:ORG/NAME ... Repeat.")
@click.option(
    "--source", "-s", multiple=True, help="Model that transferred examples come from. Repeat. Default: the targets."
)
@judging_options
def defend(
    study: Path | None, target: tuple[str, ...], source: tuple[str, ...], defence: tuple[str, ...], **flags: Any
) -> None:
    """Which defence helps, by how much, at what clean cost: each TARGET alone and behind each DEFENCE.

    \b
    carom defend -t zoo:image-vgg --defence bit-depth --defence noise+vote -s zoo:image-resnet --eps 8/255
    carom defend carom.toml --limit 50

    Of each: clean accuracy, what examples crafted elsewhere leave (the attacker's value, no evidence of robustness), what
    an attacker leaves who knows the defence, what one leaves who only asks; robust accuracy is the worst case per example
    over all of them, and is printed where the attacks pass their tests. The same command again continues.
    """
    part = {"targets": list(target), "sources": list(source), "defences": list(defence)}
    _run(_study(study, part, flags, [*target, *source]), flags, full=True)


def _study(path: Path | None, part: Mapping[str, Any], flags: Mapping[str, Any], specs: list[str]) -> Study:
    """From a file, from flags, or from both."""
    from carom.common.api import modality_of, which_modality
    from carom.common.modality.installed import modality_names
    from carom.common.study.config import make_study, read_study

    values = read_study(path, modality_names()) if path is not None else {"modalities": {}}
    parts = values["modalities"]
    given = {
        **{name: value for name, value in part.items() if value},
        **({"attacks": list(flags["attack"])} if flags["attack"] else {}),
        **{name: flags[name] for name in OF_MODALITY if flags[name] is not None},
    }
    modality = flags["modality"]
    if modality is None and given and len(parts) == 1:
        modality = next(iter(parts))
    if modality is None and not parts and specs:
        names = {_modality_name(modality_of, spec) for spec in specs}
        modality = names.pop() if len(names) == 1 else None
    if modality is None and (given or not parts):
        raise CaromError(which_modality(specs))
    if modality is not None:
        parts = {modality: {**parts.get(modality, {}), **given}}
    settings = {name: flags[name] for name in SETTINGS if flags[name] is not None}
    if flags["budgets"] is not None:
        settings["budgets"] = flags["budgets"].split(",")
    if flags["seed"] is not None:
        settings["seeds"] = [flags["seed"]]
    return make_study({**values, **settings, "modalities": parts}, str(path or "flags"))


def _modality_name(modality_of: Callable[[str], Any], spec: str) -> str | None:
    try:
        return str(modality_of(spec).name)
    except CaromError:
        return None


def _run(study: Study, flags: Mapping[str, Any], full: bool) -> None:
    """Judge, write, print, and end with the exit code."""
    from carom.common.cli.judgement_tables import print_judgements
    from carom.common.runs.contest import judgement_of
    from carom.common.runs.judged import save, summary_of

    folder = run_folder(study.out, study.store)
    writes = full or study.out is not None
    with progress(flags["quiet"]) as advance:
        found: dict[str, Judgement] = {
            name: judgement_of(study, name, advance, warn, full=full) for name in study.modalities
        }
    summary = summary_of(found, study)
    if writes:
        summary = save(found, study, folder)
    if not flags["as_json"]:
        print_judgements(summary)
    elif full:
        print_json(summary)
    else:
        [told] = [row for part in summary["modalities"].values() for row in part["models"]]
        print_json({**told, "story": next(iter(summary["modalities"].values()))["story"], "report": summary["report"]})
    failures = [failure for judgement in found.values() for failure in judgement.failures]
    for failure in failures:
        say(f"failed: {failure.what}: {failure.error}")
    rows = [row for part in summary["modalities"].values() for row in part["models"]]
    gate = flags["fail_below"]
    below = [] if gate is None else [r for r in rows if r["robust_accuracy"] is None or r["robust_accuracy"] < gate]
    for row in below:
        say(f"gate not met: {row['model']}: {row['status']} {row['robust_accuracy'] or ''} < {gate:g}")
    if failures:
        raise click.exceptions.Exit(FAILED_UNITS)
    if below:
        raise click.exceptions.Exit(GATE)
