"""The command line's manners: exit codes, did-you-mean, nothing on stdout but data, quick help."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from carom.common.cli import main


def test_help_imports_nothing_heavy():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "carom", "--help"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert "Craft adversarial images, sounds and sentences" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "click" in imported
    heavy = {"torch", "numpy", "pyarrow", "transformers", "sklearn", "scipy", "datasets", "pydantic", "rich"}
    assert not heavy & imported


@pytest.mark.parametrize("command", ["", "demo", "run", "list", "show", "report", "train", "init", "doctor"])
def test_every_command_has_help(command, carom):
    code, out, err = carom(*command.split(), "--help")
    assert code == 0
    assert "Usage: " in out
    assert err == ""


def test_what_a_shell_put_behind_ends_when_asked_to(carom, monkeypatch):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        monkeypatch.setattr(main.cli, "main", lambda **_: signal.raise_signal(signal.SIGTERM))
        code, _, err = carom("doctor")
    finally:
        signal.signal(signal.SIGINT, before)
    assert code == main.INTERRUPTED
    assert "interrupted" in err


def test_version(carom):
    code, out, _ = carom("--version")
    assert code == 0
    assert "0.1" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rnu"], "No such command 'rnu'. Did you mean 'run'?"),
        (["qqqq"], "No such command 'qqqq'. Known: augment, certify, defend"),
        (["run", "--sorce", "zoo:image-resnet"], "--source"),
        (["list", "atacks"], "'attacks', 'transforms', 'metrics', 'models', 'data', 'defences', 'runs'"),
        (["list"], "Missing argument"),
        (["demo", "--limit", "0"], "0 is not in the range x>=1"),
        (["demo", "--limit", "many"], "'many' is not a valid integer"),
        (["run", "--on-error", "ignore"], "'raise', 'skip'"),
    ],
)
def test_usage_errors(arguments, said, carom):
    code, out, err = carom(*arguments)
    assert code == 2
    assert said in err
    assert out == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "which modality? Pass --modality"),
        (["--eps", "0.1"], "which modality?"),
        (["none.toml"], "none.toml: no such file"),
        (["-m", "imag"], "no modality is called 'imag'. Did you mean image?"),
        (["-m", "image", "-a", "pdg"], "no image attack is called 'pdg'. Did you mean pgn or pgd"),
        (["-m", "image", "-a", "pgd?stpes=3"], "no parameter of attack pgd is called 'stpes'. Did you mean steps"),
        (["-m", "image", "-a", "pgd?loss=margn"], "no objective is called 'margn'. Did you mean margin"),
        (["-m", "image", "-a", "pgd?steps"], "write parameters as ?name=value"),
        (["-m", "image", "-s", "zoo:image-resnt"], "'image-resnt'. Did you mean image-resnet"),
        (["-m", "image", "-s", "image-resnet"], "'image-resnet' is not a spec"),
        (["-m", "image", "-s", "zo:image-resnet"], "no kind of spec is called 'zo'. Did you mean zoo"),
        (["-m", "image", "-d", "builtin:fashion-mnits"], "Did you mean fashion-mnist"),
        (
            ["-m", "image", "--threat", "lnif", "--eps", "0.1"],
            "no threat for image is called 'lnif'. Did you mean linf",
        ),
        (["-m", "image", "-a", "mi-fgsm", "--transform", "dii"], "no image transform is called 'dii'. Did you mean di"),
        (["-m", "image", "-a", "square", "--transform", "di"], "attack square takes no transform"),
        (["-m", "image", "--threat", "l2"], "threat l2 needs a budget: pass --eps"),
        (["-m", "image", "--eps", "eight"], "'eight' is not a number"),
        (["-m", "image", "--eps", "8/0"], "'8/0' is not a number"),
        (["-m", "image", "--eps", "nan"], "'nan' is not a finite number"),
        (["-m", "image", "--eps=-8/255"], "eps must be a size, got"),
        (["-m", "image", "--eps", "8"], "(pixels, from 0 to 1), where no change is larger than 1. Did you mean 8/255?"),
        (["-m", "image", "--threat", "l2", "--eps", "30"], "no change is larger than 28. Give 28 or less"),
        (["-m", "image", "--threat", "patch", "--eps", "5", "-a", "patch"], "a share of the image's area, 0 to 1"),
        (["-m", "image", "--threat", "l0", "--eps", "8/255", "-a", "sparse-rs"], "l0 takes a number of pixels"),
        (["-m", "audio", "--eps", "8/255"], "eps 8/255 of audio: snr takes decibels, 0 or more, say 20"),
        (["-m", "audio", "--eps=-5"], "eps must be a size, got -5: give decibels, 0 or more, say 20"),
        (["-m", "audio", "--threat", "linf", "--eps", "8"], "Did you mean 8/32768?"),
        (["-m", "text", "--eps=-5"], "is no share of the words: give 0 to 1, say 0.3"),
        (["-m", "image", "--device", "cuda:99"], "--device cuda:99"),
        (["-m", "image", "--device", "gpu"], "--device gpu: write auto, cpu"),
        (
            ["-m", "image", "-a", "signhunter", "--threat", "l2", "--eps", "1"],
            "attack signhunter works within linf, not l2",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_on_stderr_and_exit_code_2(arguments, said, carom):
    code, out, err = (
        carom("run", *arguments, "--limit", "2", "--dry-run")
        if arguments != ["none.toml"]
        else carom("run", *arguments)
    )
    assert code == 2, err
    assert said in err
    assert out == ""
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_a_study_with_an_unknown_key(carom, tmp_path):
    (tmp_path / "study.toml").write_text("[image]\nsource = ['zoo:image-resnet']\n")
    code, _, err = carom("run", "study.toml")
    assert code == 2
    assert "study.toml: unknown key 'source' in [image]. Did you mean 'sources'?" in err


def test_init_writes_once(carom, tmp_path):
    assert carom("init")[0] == 0
    assert (tmp_path / "carom.toml").exists()
    code, _, err = carom("init")
    assert code == 2
    assert "--force" in err
    assert carom("init", "--force")[0] == 0
    assert carom("init", "deeper")[0] == 0


def test_lists_are_json_on_stdout(carom):
    code, out, _ = carom("list", "attacks", "--modality", "image", "--json")
    rows = json.loads(out)
    assert code == 0
    assert {"fgsm", "pgd", "mi-fgsm", "square", "leaf-path"} <= {row["name"] for row in rows}
    assert all(row[f] for row in rows for f in ("paper", "reference", "needs", "threats", "cost", "models"))
    momentum = next(row for row in rows if row["name"] == "mi-fgsm")
    assert (momentum["paper"], momentum["needs"]) == ("Dong et al. 2018", ["gradient"])
    assert (momentum["threats"], momentum["cost"]) == (["linf", "l2"], "steps forward, steps backward")
    code, out, _ = carom("list", "attacks", "-m", "image")
    assert "Dong et al. 2018" in out
    assert "steps forward, steps backward" in out
    code, out, _ = carom("list", "transforms", "--json")
    found = {row["name"]: row for row in json.loads(out)}
    assert found["mix"]["needs"] == ["gradient", "examples"]
    code, out, _ = carom("show", "transform:ssa", "--json")
    assert json.loads(out) == {**found["ssa"], "modality": ["image"]}
    code, out, _ = carom("list", "models", "-m", "image", "--json")
    assert "zoo:image-resnet" in {row["name"] for row in json.loads(out)}
    code, out, err = carom("list", "runs")
    assert (code, out) == (0, "")
    assert "no finished runs" in err


def test_show(carom):
    code, out, _ = carom("show", "pgd", "--json")
    assert code == 0
    assert json.loads(out)["parameters"]["steps"] == 10
    code, _, err = carom("show", "pgdd")
    assert code == 2
    assert "Did you mean pgd" in err


def test_folders_that_hold_no_run(carom, tmp_path):
    code, _, err = carom("report", str(tmp_path))
    assert code == 2
    assert "not the folder of a finished run" in err


def test_a_dry_run_computes_nothing(carom, tmp_path):
    flags = ["run", "-m", "image", "-s", "zoo:image-resnet", "-a", "fgsm", "--limit", "3", "--controls", "2"]
    code, out, _ = carom(*flags, "--dry-run", "--json")
    assert code == 0
    assert json.loads(out) == {"image": {"units": 1 + 1 + 1 + 1 + 2 + 1 + 4, "stored": 0}}
    assert list(tmp_path.iterdir()) == []


def test_a_run_ends_with_its_code_and_continues(carom, tmp_path):
    flags = ["run", "-m", "image", "-s", "zoo:image-resnet", "-a", "fgsm", "--limit", "5", "--controls", "1", "-q"]
    code, out, err = carom(*flags, "--out", "first", "--json")
    assert (code, err) == (0, "")
    summary = json.loads(out)
    (cell,) = summary["modalities"]["image"]["cells"]
    assert (cell["source"], cell["target"], cell["attack"]) == ("image-resnet", "image-resnet", "fgsm")
    written = {p.name for p in (tmp_path / "first").iterdir()}
    assert {"study.json", "manifest.json", "result.json", "cells.parquet", "report.html"} <= written
    code, out, _ = carom(*flags, "--out", "runs/once", "--json")
    (tmp_path / "runs" / "once" / "result.json").rename(tmp_path / "runs" / "once" / "lost.json")
    found = {row["folder"]: row["seconds"] for row in json.loads(carom("list", "runs", "--json")[1])}
    assert found == {"first": summary["seconds"], "runs/once": None}
    code, out, _ = carom(*flags, "--dry-run", "--json")
    assert json.loads(out)["image"]["stored"] == json.loads(out)["image"]["units"]
    code, _, err = carom(
        "run",
        "-m",
        "image",
        "-s",
        "zoo:image-resnet",
        "-s",
        "zoo:image-gru",
        *flags[5:],
        "--out",
        "second",
        "--fail-above",
        "transfer=-1",
    )
    assert code == 4
    assert "gate not met: image-resnet -> image-gru (fgsm): transfer" in err
    code, _, err = carom(*flags, "--out", "third", "--fail-above", "trasnfer=0.5")
    assert code == 2
    assert "write METRIC=X" in err


def test_failed_units_are_named_and_exit_code_3(carom, monkeypatch):
    def explode(self, inputs, lengths=None):
        raise RuntimeError("no such operator")

    monkeypatch.setattr("carom.common.models.trees.TreeModel.__call__", explode)
    flags = ["run", "-m", "image", "-s", "zoo:image-resnet", "-t", "zoo:image-tree", "-a", "fgsm", "--limit", "2", "-q"]
    code, out, err = carom(*flags, "--controls", "1", "--json")
    assert code == 3
    assert "failed: image-tree on clean inputs: RuntimeError: no such operator" in err
    assert json.loads(out)["modalities"]["image"]["failures"]


def test_bugs_are_one_line_and_exit_code_1(carom, monkeypatch):
    monkeypatch.delenv("CAROM_DEBUG", raising=False)
    monkeypatch.setattr("carom.common.cli.listing.attacks", lambda modality: 1 / 0)
    code, out, err = carom("list", "attacks")
    assert (code, out) == (1, "")
    assert err.startswith("carom: bug: ZeroDivisionError")
    assert err.count("\n") == 1


def test_an_interrupt_is_exit_code_130(carom, monkeypatch):
    def stop(modality):
        raise KeyboardInterrupt

    monkeypatch.setattr("carom.common.cli.listing.attacks", stop)
    code, out, err = carom("list", "attacks")
    assert (code, out) == (130, "")
    assert "what was computed is kept" in err


def test_nothing_that_a_terminal_would_obey_is_printed(carom):
    code, _, err = carom("run", "-m", "image", "-s", "zoo:\x1b[31mred\u202e", "--dry-run")
    assert code == 2
    assert "\x1b" not in err
    assert "\u202e" not in err


def test_show_loads_a_model_from_outside_to_be_asked(carom):
    code, out, err = carom("show", "torchvision:squeezenet1_1@none", "--json")
    assert (code, out) == (2, "")
    assert "carom cannot know the normalisation and classes" in err
    spec = "torchvision:squeezenet1_1@none?normalise=none&classes=1000&shape=3x224x224&resolution=64"
    code, out, _ = carom("show", spec, "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["shape"] == [3, 64, 64]
    assert facts["evaluated"].split("; ")[0] == "folded"
    assert facts["evaluated"].split("; ")[1] in ("one row after another", "as many rows as there are")
    assert facts["resizes"] == "resizes 64 x 64 -> 224 x 224 inside the model: a hidden defence"
    code, _, err = carom("show", "hf:./nothing")
    assert code == 2
    assert "--modality" in err
