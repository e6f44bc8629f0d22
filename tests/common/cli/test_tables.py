"""Matrices on a terminal: every number whole, however narrow it is."""

from __future__ import annotations

import io

from rich.console import Console

from carom.common.cli.tables import print_matched, print_matrix
from carom.common.measure.cells import cell_of

NAMES = [f"image-model-{i}" for i in range(6)]


def cell(source, target, **more):
    same = {"attack": "pgd", "seed": 0, "white_box": 0.97, "warnings": [], "targeted": None}
    gain = {"excess": 0.25, "excess_low": 0.125, "excess_high": 1.0}
    return cell_of({"source": source, "target": target} | gain | same | more)


def summary(**more):
    models = [{"name": name, "family": "cnn", "clean_accuracy": 0.9, "facts": {}} for name in NAMES]
    return {"data": "d", "examples": 9, "threat": "linf 8/255", "models": models} | more


def printed(function, *given, width):
    console = Console(width=width, record=True, file=io.StringIO(), force_terminal=True)
    function(console, *given)
    return console.export_text()


def test_a_matrix_is_cut_into_blocks_that_fit_and_loses_nothing():
    cells = [cell(source, target) for source in NAMES[:2] for target in NAMES]
    for width in (60, 80, 100, 200):
        text = printed(print_matrix, "image", summary(), cells, width=width)
        assert "…" not in text, width
        assert text.count(".25 [.12,1.00]") == 12, width
        assert text.count(".25 [.12,1.00]*") == 2, width
        assert all(text.count(name) == 2 for name in NAMES[2:]), width  # in the accuracies and in one head
    assert text.count("source, attack, white-box") == 1  # where there is room


def test_what_was_matched_is_told_with_its_budgets():
    cells = [
        cell("image-model-0", "image-model-1", matched=level, threat=f"linf {k}/255", at_level=k < 9)
        for level, k in ((0.5, 3), (0.9, 9))
    ]
    text = printed(print_matched, summary(matched={"levels": [0.5, 0.9, 0.95]}), cells, width=120)
    assert "at white-box success .50" in text
    assert "image-model-0 pgd (.97 at linf 3/255)" in text
    assert "image-model-0 pgd (.97 at linf 9/255 !)" in text
    assert ".95," not in text
