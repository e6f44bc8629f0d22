"""A budget in which nothing fits does not look like a robust model."""

from __future__ import annotations

import carom


def test_cells_of_examples_that_were_not_changed_say_so() -> None:
    data = carom.load_data("builtin:fashion-mnist", limit=4)
    said = {}
    for eps in ("1e-9", "28/255"):
        (cell,) = carom.transfer(["zoo:image-mlp"], ["zoo:image-tree"], ["fgsm"], data, eps=eps, controls=1).rows()
        said[eps] = any("no example was changed" in line for line in cell["warnings"])
    assert said == {"1e-9": True, "28/255": False}
