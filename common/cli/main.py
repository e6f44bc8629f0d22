"""The command line. stdout carries data, stderr progress and errors; nothing heavy is imported until it is needed.

Exit codes: 0 done; 1 a bug; 2 usage, bad input, or files that cannot be read or written; 3 finished, but some units
failed (named); 4 a gate such as --fail-above was not met; 130 interrupted, with everything computed so far kept.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from carom.common.base.errors import CaromError
from carom.common.base.files import file_for, folder_for, in_utf8, unwritable
from carom.common.base.memory import keep_few_kernels, keep_freed_memory
from carom.common.base.notices import print_notices
from carom.common.cli.augment import augment
from carom.common.cli.certify import certify
from carom.common.cli.export import export
from carom.common.cli.judging import defend, robust
from carom.common.cli.options import (
    BAD_INPUT,
    BUG,
    DONE,
    INTERRUPTED,
    Group,
    as_json,
    denominator_option,
    device_option,
    fail_above_option,
    finish,
    modality_option,
    parse_gate,
    precision_option,
    print_json,
    progress,
    quiet,
    run_folder,
    say,
    training,
    warn,
    workers_option,
)
from carom.common.cli.surrogate import surrogate
from carom.common.cli.transfer import transfer

if TYPE_CHECKING:
    from carom.common.study.config import Study
    from carom.common.work.store import Store

LISTS = ("attacks", "transforms", "metrics", "models", "data", "defences", "runs")


def main() -> NoReturn:
    """Entry point: every way to end has its exit code."""
    print_notices(say)
    keep_freed_memory()
    keep_few_kernels()
    # Not by SIGINT: a shell starts what is put behind (`carom run &`) with SIGINT ignored, and Python leaves it so.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):  # the working directory may have a name that is not UTF-8
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        for argument in sys.argv[1:]:
            in_utf8(argument)
        # Outside its standalone mode click hands back the code of an `Exit` instead of ending with it.
        code = cli.main(standalone_mode=False) or DONE
    except click.ClickException as error:
        error.show()
        code = BAD_INPUT
    except CaromError as error:
        say(f"carom: {error}")
        code = BAD_INPUT
    except (KeyboardInterrupt, click.Abort):
        say("carom: interrupted; what was computed is kept. The same command continues.")
        code = INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, for example `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = DONE
    except Exception as error:
        if os.environ.get("CAROM_DEBUG"):
            raise
        if isinstance(error, OSError) and (line := unwritable(error)) is not None:
            say(f"carom: {line}")
            code = BAD_INPUT
        else:
            kind = type(error).__name__
            say(f"carom: bug: {kind}: {error}. Set CAROM_DEBUG=1 for the traceback, and please report it.")
            code = BUG
    sys.stdout.flush()
    sys.exit(code)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="carom")
def cli() -> None:
    """Craft adversarial images, sounds and sentences, and measure how they transfer between models.

    \b
    carom demo                              three modalities, offline, about two minutes
    carom list models --modality audio      what there is to attack
    carom run --modality image --source zoo:image-resnet --target zoo:image-forest --attack pgd --eps 8/255
    carom robust zoo:image-vgg --eps 8/255  the share of examples that no attack makes wrong
    carom defend -t zoo:image-vgg --defence noise+vote     whether a defence helps, against who knows it
    carom init                              a study file for your own models and data
    """


@cli.command()
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("carom-demo"), show_default=True, help="Run folder."
)
@click.option("--limit", type=click.IntRange(min=1), help="Examples per modality, instead of each one's default.")
@click.option("--modality", "-m", "only", multiple=True, help="Only this modality (may be repeated).")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--batch", type=click.IntRange(min=1), default=64, show_default=True, help="Examples at once.")
@device_option
@workers_option
@quiet
@as_json
def demo(
    out: Path,
    limit: int | None,
    only: tuple[str, ...],
    seed: int,
    batch: int,
    device: str,
    workers: int | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Transfer between CNN, RNN, transformer and trees in images, audio and text: offline, on models that ship here.

    Prints one matrix a modality (excess transfer, with 95 % intervals) and the path of the report, which compares the
    modalities at equal white-box success as well. The work is kept in OUT/store: the same command again finds it there.
    """
    from carom.common.modality.installed import modalities
    from carom.common.runs.devices import pick_device
    from carom.common.runs.run import command_line, execute
    from carom.common.study.config import make_study
    from carom.common.work.processes import cores

    folder_for("the run", out, "--out")
    folder_for("the store", out / "store", "--out")
    names = only or tuple(owner.name for owner in modalities())
    values = {
        "modalities": {m: {"limit": limit} if limit else {} for m in names},
        "seeds": [seed],
        "match": [0.5, 0.9],
        "match_limit": 96,  # with fewer examples and draws than the matrices, to stay below two minutes
        "match_controls": 2,
        "batch": batch,
        "device": device,
        "workers": workers or (min(2, cores()) if pick_device(device).type == "cpu" else 1),
        "store": str(out / "store"),
        "out": str(out),
    }
    with progress(quiet) as advance:
        run = execute(make_study(values), advance, out, command_line(), warn=warn)
    finish(run, as_json, ())


@cli.command("run")
@click.argument("study", required=False, type=click.Path(path_type=Path))
@modality_option
@click.option(
    "--source", "-s", multiple=True, help="Model to craft on: zoo:NAME, hf:ORG/NAME, py:module:name ... Repeat."
)
@click.option("--target", "-t", multiple=True, help="Model to measure on. Repeat. Default: the sources.")
@click.option("--attack", "-a", multiple=True, help="Attack, with parameters: 'pgd?steps=20&restarts=2'. Repeat.")
@click.option(
    "--transform",
    metavar="NAMES",
    help="Give the gradient attacks these transforms besides: di,ti. See `list transforms`.",
)
@click.option(
    "--defence",
    multiple=True,
    help="Measure every target behind it as well: jpeg, 'noise?sigma=0.1+vote'. Repeat. See `list defences`.",
)
@click.option("--data", "-d", help="builtin:NAME, folder:PATH, hf:NAME:SPLIT, torchvision:NAME.")
@click.option("--split", help="Split of the data.  [default: test]")
@click.option("--threat", help="What bounds the change: linf, l2, snr, words.")
@click.option("--eps", help="Budget: 8/255 (linf), 30 (snr, dB), 0.3 (share of words).")
@click.option("--limit", type=click.IntRange(min=1), help="Use at most so many examples.")
@click.option("--targeted", is_flag=True, default=None, help="Aim at a random other class for each example.")
@click.option(
    "--target-class", metavar="CLASS", help="Aim at CLASS, or: least-likely, random, @FILE (a table: id,target)."
)
@click.option(
    "--on-error", type=click.Choice(["raise", "skip"]), help="Bad files: stop (default), or name and skip them."
)
@click.option(
    "--match",
    metavar="LEVELS",
    help="Also compare at the budgets where the white-box success of each source is this: 0.5,0.9.",
)
@click.option("--match-limit", type=click.IntRange(min=1), help="Examples for that comparison.  [default: all]")
@click.option(
    "--curve",
    metavar="COST",
    help="Also compare at equal cost: gradients, gradients=1,10,50 or queries=100,300, per example.",
)
@click.option("--curve-limit", type=click.IntRange(min=1), help="Examples for that comparison.  [default: all]")
@click.option("--seed", "seeds", type=int, multiple=True, help="Repeat for several.  [default: 0]")
@click.option("--controls", type=click.IntRange(min=1), help="Random draws for the control.  [default: 5]")
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    help="Examples at once: for speed. Results agree up to float32's last digit.  [default: 64]",
)
@click.option("--device", help="auto (a GPU when there is one), cpu, cuda, cuda:1.  [default: auto]")
@precision_option
@workers_option
@click.option("--store", help="Folder of finished work, shared by runs.  [default: .carom/store]")
@click.option("--out", help="Run folder.  [default: runs/DATE-TIME]")
@denominator_option
@click.option("--dry-run", is_flag=True, help="Say what would be computed and how much of it is in the store.")
@fail_above_option
@quiet
@as_json
def run_command(
    study: Path | None,
    modality: str | None,
    source: tuple[str, ...],
    target: tuple[str, ...],
    attack: tuple[str, ...],
    defence: tuple[str, ...],
    seeds: tuple[int, ...],
    denominators: tuple[str, ...],
    dry_run: bool,
    fail_above: tuple[str, ...],
    quiet: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Measure transfer between models, from a STUDY.toml, from flags, or from both (flags win).

    \b
    carom run carom.toml
    carom run --modality audio -s zoo:audio-gru -t zoo:audio-kwt -a 'pgd?steps=20' --threat snr --eps 25
    carom run --modality text -s py:mymodels:sentiment -d folder:reviews.csv -a greedy-unk --dry-run
    carom run --modality text -s zoo:text-cnn -t zoo:text-bilstm -a textattack:pwws --eps 0.3

    The same command again continues where the last one stopped; nothing is computed twice.
    """
    from carom.common.api import which_modality
    from carom.common.base.specs import number
    from carom.common.modality.installed import modality_names
    from carom.common.runs.run import command_line, execute
    from carom.common.study.config import make_study, read_study

    for gate in fail_above:
        parse_gate(gate)  # before anything is computed
    values = read_study(study, modality_names()) if study is not None else {"modalities": {}}
    parts = values["modalities"]
    of_modality = {
        "sources": list(source) or None,
        "targets": list(target) or None,
        "attacks": list(attack) or None,
        "defences": list(defence) or None,
        **{
            k: flags[k]
            for k in ("transform", "data", "split", "threat", "eps", "limit", "targeted", "target_class", "on_error")
        },
    }
    given = {k: v for k, v in of_modality.items() if v is not None}
    if modality is None and given and len(parts) == 1:
        modality = next(iter(parts))
    if modality is None and (given or not parts):
        raise CaromError(which_modality([*source, *target]))
    if modality is not None:
        parts = {modality: {**parts.get(modality, {}), **given}}
    names = (
        "controls",
        "batch",
        "device",
        "precision",
        "workers",
        "store",
        "out",
        "match_limit",
        "curve",
        "curve_limit",
    )
    settings = {k: flags[k] for k in names if flags[k] is not None}
    if flags["match"] is not None:
        settings["match"] = [number(level) for level in flags["match"].split(",")]
        if not all(0 < level < 1 for level in settings["match"]):
            raise CaromError(f"--match {flags['match']}: levels are shares between 0 and 1, for example 0.5,0.9.")
    if seeds:
        settings["seeds"] = list(seeds)
    if denominators:
        settings["denominators"] = list(denominators)
    wanted = make_study({**values, **settings, "modalities": parts}, str(study or "flags"))
    if dry_run:
        _print_counts(wanted, as_json)
        return
    folder = run_folder(wanted.out, wanted.store)
    with progress(quiet) as advance:
        run = execute(wanted, advance, folder, command_line(), warn=warn)
    finish(run, as_json, fail_above)


def _print_counts(study: Study, as_json: bool) -> None:
    """How much work a study is, and how much of it is in the store."""
    from carom.common.runs.load import plan_of
    from carom.common.runs.resolve import resolve
    from carom.common.work.store import Store

    study = resolve(study)
    counts, store = {}, Store(study.store)
    for plan in [plan_of(study, name) for name in study.modalities]:
        name = plan.modality
        keys = {unit.key for unit in [*plan.units(), *plan.curve_units()]}
        counts[name] = {"units": len(keys), "stored": sum(map(store.has, keys))}
        if not as_json:
            asked = f"sources {len(plan.sources)}, attacks {len(plan.attacks)}, targets {len(plan.targets)}"
            click.echo(
                f"{name}: {counts[name]['units']} units of work ({asked}, examples {len(plan.data)}), "
                f"{counts[name]['stored']} of them in {study.store}"
            )
    if as_json:
        print_json(counts)


@cli.command("list")
@click.argument("what", type=click.Choice(LISTS))
@modality_option
@as_json
def list_command(what: str, modality: str | None, as_json: bool) -> None:
    """List attacks, transforms, defences, metrics of perturbations, models of the zoo, built-in data, or finished runs."""
    from carom.common.cli import listing

    rows = getattr(listing, what)(modality)
    if as_json:
        print_json(rows)
    elif rows:
        from carom.common.cli.tables import print_table

        print_table(listing.COLUMNS[what], rows)
    else:
        click.echo(listing.NONE[what], err=True)


@cli.command()
@click.argument("name")
@modality_option
@as_json
def show(name: str, modality: str | None, as_json: bool) -> None:
    """Everything known of one attack, transform, defence, model, data set or run: parameters, paper, cost, card.

    \b
    carom show mi-fgsm
    carom show torchvision:resnet50@IMAGENET1K_V2      loads the model: its weights, classes and resolution
    carom show hf:./my-vit -m image
    """
    from carom.common.cli.show import find
    from carom.common.cli.tables import print_facts

    facts = find(name, modality)
    print_json(facts) if as_json else print_facts(facts)


@cli.command()
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Where to write.  [default: RUN/report.html]")
@click.option("--store", help="Folder of finished work.  [default: the run's; one elsewhere is read and not written]")
@click.option("--trust", is_flag=True, help="Load what the run names: its models' code, its data, its attacks.")
@denominator_option
@quiet
@as_json
def report(
    folder: Path,
    output: Path | None,
    store: str | None,
    trust: bool,
    denominators: tuple[str, ...],
    quiet: bool,
    as_json: bool,
) -> None:
    """Write the HTML report of a finished run again, from its study and the store.

    What ships with Carom is loaded for it. A study that names more, such as py: models or folders of data, is followed
    with --trust: whoever made the folder wrote it.
    """
    import shlex

    from carom.common.cli.tables import print_denominators_of
    from carom.common.runs.run import execute, load_run, names_besides
    from carom.common.study.config import make_study
    from carom.common.study.outputs.summary import write_run_report

    study, manifest = load_run(folder)
    if not trust and (named := names_besides(study)):
        more = f" and {len(named) - 1} more" if len(named) > 1 else ""
        raise CaromError(
            f"{folder / 'study.json'}: names {named[0]!r}{more}, which may run code, read files or fetch data; the page "
            f"cannot be made without. If you trust it: carom report {shlex.quote(str(folder))} --trust"
        )
    path = file_for("the report", output or folder / "report.html", "--output")
    if denominators:
        study = make_study({**study.model_dump(), "denominators": list(denominators)}, "flags")
    study = study.model_copy(update={"workers": 1, "device": "auto"})
    with progress(quiet) as advance:
        run = execute(study, advance, store=_store_of(folder, study.store, store), warn=warn)
    write_run_report(run.outcomes, path, {**run.summary(), "manifest": manifest}, study)
    if as_json:
        cells = {"cells": {o.plan.modality: o.rows() for o in run.outcomes}} if denominators else {}
        print_json({"report": str(path.resolve()), **cells})
        return
    if denominators:
        print_denominators_of(run)
    click.echo(path.resolve())


def _store_of(folder: Path, named: str, asked: str | None) -> Store:
    """The store of a run: as asked; else the user's own or one in the run's folder; one elsewhere is only read, since the
    folder may be somebody else's."""
    from carom.common.study.config import Study
    from carom.common.work.store import Store

    if asked is not None:
        return Store(asked)
    own = named == Study.model_fields["store"].default or Path(named).resolve().is_relative_to(folder.resolve())
    return Store(named, writes=own)


@cli.command()
@click.argument("spec", metavar="zoo:NAME")
@click.option(
    "--defence", help="Train it with a defence of the kind training: pgd-at, 'trades?eps=8/255'. See `list defences`."
)
@click.option("--data", "-d", help="For recipes whose data do not ship: folder:PATH, torchvision:CIFAR10?root=PATH.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("trained"), show_default=True, help="Folder.")
@quiet
@as_json
def train(spec: str, defence: str | None, data: str | None, out: Path, quiet: bool, as_json: bool) -> None:
    """Train a model of the zoo from its recipe: checkpoint and card go to OUT, to be used or compared.

    
    carom train zoo:image-resnet
    carom train zoo:image-resnet --defence 'pgd-at?eps=8/255'
    carom train py:mymodule:recipe --defence trades     a Recipe of your own (carom.common.loading.zoo)

    What is trained is used as zoo:NAME?weights=FILE. On one machine the same recipe gives the same bytes; the card that
    ships names its sha256 and accuracy.
    """
    from carom.common.cli.show import defended_recipe, recipe_of
    from carom.common.cli.tables import print_facts
    from carom.common.loading.zoo import read_card, train_and_save

    recipe = recipe_of(spec).reading(data)
    if defence is not None:
        recipe = defended_recipe(recipe, spec, defence)
    folder_for("the checkpoint", out, "--out")
    with training(quiet, recipe.name) as epoch:
        card = train_and_save(recipe, out, epoch)
    shipped = read_card(recipe) if recipe.card.exists() else {}
    card["equals_shipped"] = card["sha256"] == shipped.get("sha256")
    card["shipped_clean_accuracy"] = shipped.get("clean_accuracy")
    if spec.startswith("zoo:"):
        card["use"] = f"{spec}?weights={out / recipe.checkpoint.name}"
    print_json(card) if as_json else print_facts(card)


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path("."))
@click.option("--force", is_flag=True, help="Overwrite an existing carom.toml.")
def init(folder: Path, force: bool) -> None:
    """Write a commented carom.toml to start a study of your own models and data."""
    path = folder_for("a study", folder, "`carom init FOLDER`") / "carom.toml"
    if path.exists() and not force:
        raise CaromError(f"{path} exists. Pass --force to overwrite it, or name another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(study_to_start_from(), encoding="utf-8")
    click.echo(f"wrote {path}; edit it, then: carom run {path}")


def study_to_start_from() -> str:
    """A commented study: what holds for all modalities, and a table for each that is installed."""
    from importlib.resources import files

    from carom.common.modality.installed import modalities

    head = (files("carom.common.cli") / "templates" / "carom.toml").read_text(encoding="utf-8")
    return f"\n# {'-' * 117}\n".join([head, *(owner.study for owner in modalities() if owner.study)])


@cli.command()
@as_json
def doctor(as_json: bool) -> None:
    """Say what works here: versions, devices, modalities, optional extras."""
    from carom.common.cli.doctor import examine
    from carom.common.cli.tables import print_checks

    checks = examine()
    print_json(checks) if as_json else print_checks(checks)
    if not all(c["ok"] for c in checks if c["needed"]):
        raise click.exceptions.Exit(BAD_INPUT)


cli.add_command(surrogate)
cli.add_command(augment)
cli.add_command(transfer)
cli.add_command(export)
cli.add_command(robust)
cli.add_command(defend)
cli.add_command(certify)
