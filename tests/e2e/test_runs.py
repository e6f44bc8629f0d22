"""Runs end to end: the demo, resumption, kills, shared stores, batch sizes, gates and dry runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from carom.common.base.notices import Notice
from carom.common.runs.load import plan_of
from carom.common.runs.resolve import resolve
from carom.common.study.config import make_study
from carom.common.work.processes import _end, helped
from carom.common.work.processes import _start as _start_helper
from carom.common.work.store import Store

QUICK = ("--modality", "image", "-s", "zoo:image-resnet", "-s", "zoo:image-tree", "-t", "zoo:image-forest")
ATTACKS = ("-a", "fgsm", "-a", "leaf-path")
SMALL = (*QUICK, *ATTACKS, "--limit", "24", "-q")


def test_demo_prints_one_object_with_every_family_as_source_and_target(carom: Any) -> None:
    answer = carom("demo", "--limit", "12", "--json", "--out", "demo", "-q")
    assert answer.code == 0, answer.err
    summary = answer.json
    assert set(summary["modalities"]) == {"image", "audio", "text"}
    assert Path(summary["report"]).stat().st_size > 10_000
    assert summary["seed"] == 0
    for part in summary["modalities"].values():
        assert {"name", "family", "clean_accuracy"} <= part["models"][0].keys()
        for side in ("source_family", "target_family"):
            assert {c[side] for c in part["cells"]} >= {"cnn", "rnn", "transformer", "tree"}
        for cell in part["cells"]:
            assert {
                *("source", "target", "source_family", "target_family", "attack", "threat", "n"),
                *("transfer", "transfer_low", "transfer_high", "control", "excess", "excess_low", "excess_high"),
                *("relative", "conditional", "same_mistake", "white_box"),
            } <= cell.keys()
            if cell["transfer"] is not None:
                assert cell["transfer_low"] <= cell["transfer"] <= cell["transfer_high"]
                assert 0 <= cell["control"] <= 1


def test_same_command_twice_gives_the_same_bytes_and_computes_nothing_twice(
    carom: Any, stable: Any, artefacts: Any
) -> None:
    first = carom("run", *SMALL, "--store", "a", "--out", "ra", "--json")
    assert first.code == 0, first.err
    stamps = {p: p.stat().st_mtime_ns for p in Path("a").glob("*/*")}
    again = carom("run", *SMALL, "--store", "a", "--out", "ra", "--json")
    assert {p: p.stat().st_mtime_ns for p in Path("a").glob("*/*")} == stamps
    fresh = carom("run", *SMALL, "--store", "b", "--out", "rb", "--json")
    assert stable(first.json) == stable(again.json) == stable(fresh.json)
    assert artefacts(Path("a")) == artefacts(Path("b"))


SOUNDS = ("--modality", "audio", "-s", "zoo:audio-gru", "-s", "zoo:audio-forest", "--limit", "11", "-q")


@pytest.mark.parametrize("study", [SMALL, SOUNDS], ids=["image", "audio"])
def test_batch_size_changes_nothing(carom: Any, stable: Any, artefacts: Any, study: tuple[str, ...]) -> None:
    results = []
    for batch in ("1", "7", "64"):
        answer = carom("run", *study, "--batch", batch, "--store", f"s{batch}", "--out", f"r{batch}", "--json")
        assert answer.code == 0, answer.err
        tensors = {n: b for n, b in artefacts(Path(f"s{batch}")).items() if n.endswith("safetensors")}
        results.append((stable(answer.json), tensors))
    assert results[0][0] == results[1][0] == results[2][0]
    assert results[0][1] == results[1][1] == results[2][1]


def _start(folder: Path, *args: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "carom", "run", *args]
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


SLOWER = (*QUICK, "-a", "pgd?steps=20&restarts=2", "-a", "leaf-path", "--limit", "48", "-q", "--json", "--out", "r")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_killed_in_mid_run_the_same_command_continues(
    carom: Any, tmp_path: Path, how: signal.Signals, stable: Any, artefacts: Any
) -> None:
    victim = _start(tmp_path, *SLOWER, "--store", "killed")
    store = tmp_path / "killed"
    deadline = time.monotonic() + 120
    while victim.poll() is None and len(list(store.glob("*/*.parquet"))) < 4 and time.monotonic() < deadline:
        time.sleep(0.02)
    victim.send_signal(how)
    _, err = victim.communicate(timeout=60)
    assert victim.returncode == (-signal.SIGKILL if how == signal.SIGKILL else 130), err
    left = {p.name: p.read_bytes() for p in store.glob("*/*.parquet")}
    assert left
    assert not (tmp_path / "r" / "result.json").exists()
    continued = carom("run", *SLOWER, "--store", "killed")
    assert continued.code == 0, continued.err
    assert {n: b for n, b in artefacts(store).items() if n in left} == left
    whole = carom("run", *SLOWER, "--store", "whole")
    assert stable(continued.json) == stable(whole.json)


def test_two_processes_on_one_store_do_no_harm(tmp_path: Path, stable: Any) -> None:
    both = [_start(tmp_path, *SMALL, "--json", "--store", "s", "--out", f"r{i}") for i in range(2)]
    answers = [p.communicate(timeout=300) for p in both]
    assert [p.returncode for p in both] == [0, 0], answers
    assert stable(json.loads(answers[0][0])) == stable(json.loads(answers[1][0]))
    assert not list((tmp_path / "s").glob("*/*.part"))


def test_more_workers_give_the_same_bytes(carom: Any, stable: Any, artefacts: Any) -> None:
    alone = carom("run", *SMALL, "--store", "a", "--out", "ra", "--json")
    helped = carom("run", *SMALL, "--workers", "3", "--store", "b", "--out", "rb", "--json")
    assert helped.code == 0, helped.err
    assert stable(alone.json) == stable(helped.json)
    assert artefacts(Path("a")) == artefacts(Path("b"))


def test_a_helping_process_does_the_work_and_ends(tmp_path: Path) -> None:
    part = {"sources": ["zoo:image-resnet"], "attacks": ["fgsm"], "limit": 16}
    study = resolve(make_study({"modalities": {"image": part}, "workers": 2, "store": str(tmp_path), "device": "cpu"}))
    keys, store, deadline = (
        {unit.key for unit in plan_of(study, "image").units()},
        Store(tmp_path),
        time.monotonic() + 120,
    )
    with helped(study.model_dump_json(), study.workers):  # this process only looks on
        while not all(map(store.has, keys)) and time.monotonic() < deadline:
            time.sleep(0.05)
    assert all(map(store.has, keys))


def test_a_helping_process_that_fails_is_said_and_costs_nothing_else(tmp_path: Path) -> None:
    part = {"sources": ["zoo:image-resnet"], "threat": "linf", "eps": 0.1, "data": "builtin:no-such-data"}
    study = make_study({"modalities": {"image": part}, "workers": 2, "store": str(tmp_path)})
    failed, errors = _start_helper(study.model_dump_json(), 1, 1)
    failed.wait(120)
    with pytest.warns(Notice, match="a helper process ended early .*no-such-data.*; the others did its work"):
        _end(failed, errors)


def test_a_helping_process_that_is_killed_is_said_with_its_signal(tmp_path: Path) -> None:
    """Of each way: what stopped it is said in words, and what it had noticed before is passed on."""
    said = "import os, signal, sys; print('carom: note: a file is damaged.', file=sys.stderr, flush=True); "
    for ends, words in {
        "os.kill(os.getpid(), signal.SIGKILL)": "killed by signal 9, SIGKILL",
        "os.kill(os.getpid(), signal.SIGSEGV)": "killed by signal 11, SIGSEGV",
        "os._exit(3)": "exit code 3",
        "sys.exit('no such data')": "no such data",
    }.items():
        errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - `_end` closes it
        gone = subprocess.Popen([sys.executable, "-c", said + ends], stdin=subprocess.PIPE, stderr=errors, text=True)
        gone.wait(60)
        with pytest.warns(Notice) as notices:
            _end(gone, errors)
        first, second = (str(notice.message) for notice in notices)
        assert first == "a file is damaged."
        assert f"ended early ({words})" in second


def test_notices_reach_the_user_as_lines(carom: Any) -> None:
    """What is damaged in a store is said in one line; no path of a source file, no line of code."""
    assert carom("run", *SMALL, "--store", "s", "--out", "a", "-q").code == 0
    damaged = sorted(Path("s").glob("*/*.parquet"))[0]
    damaged.write_bytes(b"")
    again = carom("run", *SMALL, "--store", "s", "--out", "b", "-q")
    assert again.code == 0
    lines = again.err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"carom: note: {damaged}: is not what was stored there.")


def test_dry_run_counts_and_computes_nothing(carom: Any) -> None:
    before = carom("run", *SMALL, "--store", "s", "--dry-run", "--json").json
    assert before["image"]["units"] > 0
    assert before["image"]["stored"] == 0
    assert not Path("s").exists()
    assert carom("run", *SMALL, "--store", "s", "--out", "r").code == 0
    after = carom("run", *SMALL, "--store", "s", "--dry-run", "--json").json
    assert after["image"]["stored"] == after["image"]["units"] == before["image"]["units"]


def test_gate(carom: Any) -> None:
    common = (*SMALL, "--store", "s", "--out", "r")
    assert carom("run", *common, "--fail-above", "excess=1.0").code == 0
    unmet = carom("run", *common, "--fail-above", "excess=-1")
    assert unmet.code == 4
    assert "gate not met" in unmet.err
    assert carom("run", *common, "--fail-above", "exces=0").code == 2


def test_report_again_lists_and_shows(carom: Any) -> None:
    assert carom("run", *SMALL, "--store", "s", "--out", "runs/one").code == 0
    Path("runs/one/report.html").unlink()
    assert carom("report", "runs/one", "-q").code == 0
    assert Path("runs/one/report.html").exists()
    assert [r["folder"] for r in carom("list", "runs", "--json").json] == ["runs/one"]
    assert carom("show", "runs/one", "--json").json["versions"]["carom"]
    assert carom("report", "runs/two", "-q").code == 2


def test_targeted_run_measures_hits(carom: Any) -> None:
    answer = carom("run", *SMALL, "--targeted", "--eps", "16/255", "--store", "s", "--out", "r", "--json")
    assert answer.code == 0, answer.err
    cells = answer.json["modalities"]["image"]["cells"]
    assert all(c["targeted"] is not None and c["targeted_control"] is not None for c in cells)


@pytest.mark.parametrize("modality", ["image", "audio", "text"])
def test_lists(carom: Any, modality: str) -> None:
    for what in ("attacks", "models", "data", "defences"):
        rows = carom("list", what, "--modality", modality, "--json").json
        assert rows
        for row in rows:
            assert carom("show", row["name"], "--json").code == 0
    assert carom("list", "attacks").code == 0


def test_doctor(carom: Any) -> None:
    answer = carom("doctor", "--json")
    assert answer.code == 0, answer.out
    assert all(c["ok"] for c in answer.json if c["needed"])


def test_train_reproduces_the_tree(carom: Any) -> None:
    card = carom("train", "zoo:image-tree", "--out", "t", "-q", "--json").json
    assert Path("t/image-tree.safetensors").exists()
    assert abs(card["clean_accuracy"] - card["shipped_clean_accuracy"]) < 0.02


def test_targeted_runs_print_hits_beside_their_control(carom: Any) -> None:
    answer = carom(
        "run", "--modality", "image", "-s", "zoo:image-mlp", "-a", "bim", "--limit", "12", "--targeted", "-q"
    )
    assert answer.code == 0, answer.err
    assert "given the class aimed at" in answer.out
    plain = carom("run", "--modality", "image", "-s", "zoo:image-mlp", "-a", "bim", "--limit", "12", "-q")
    assert "aimed at" not in plain.out
    summary = carom(
        *(
            "run",
            "--modality",
            "image",
            "-s",
            "zoo:image-mlp",
            "-a",
            "bim",
            "--limit",
            "12",
            "--targeted",
            "-q",
            "--json",
        )
    ).json
    (cell,) = summary["modalities"]["image"]["cells"]
    shown = answer.out.split("given the class aimed at")[1]
    for name in ("targeted", "targeted_control"):
        assert f"{cell[name]:.2f}".replace("0.", ".", 1) in shown


def test_an_ensemble_is_a_source_like_any_other(carom: Any) -> None:
    both = "ensemble:zoo:image-mlp+zoo:image-vgg?fuse=losses"
    answer = carom(
        *("run", "--modality", "image", "-s", both, "-s", "zoo:image-mlp", "-t", "zoo:image-tree", "-a", "mi-fgsm"),
        *("-a", "svre?steps=2", "--limit", "8", "-q", "--json"),
    )
    assert answer.code == 0, answer.err
    cells = answer.json["modalities"]["image"]["cells"]
    assert [(c["source"], c["attack"], c["backward"]) for c in cells] == [
        ("image-mlp+image-vgg?fuse=losses", "mi-fgsm", 20),
        ("image-mlp+image-vgg?fuse=losses", "svre?steps=2", 24),
        ("image-mlp", "mi-fgsm", 10),
    ]
    assert carom("run", "--modality", "image", "-s", both.replace("vgg", "vg"), "-q").code == 2
