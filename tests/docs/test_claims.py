"""Numbers in the README and on the pages below docs/ are those of the records, and there are no others."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest

from carom.benchmarks.docs.claims import COMMANDS, RECORDED, Claim, above_all, apart, beaten, claims
from carom.common.base.errors import CaromError
from carom.common.measure.rates import Rate

ROOT = Path(__file__).parents[2]
MADE_WHOLE = {"docs/ranking.md", "docs/text-transfer.md"}
"""Pages that are rendered from records from end to end, which tests of their own hold against them."""
PAGES = [
    path
    for path in ("README.md", *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md"))))
    if path not in MADE_WHOLE
]
FOUND = list(claims())
NUMBER = re.compile(r"(?<![\w.,/])[-+−]?(?:[01]?\.\d\d\b|\d+(?:\.\d+)? ?%)")
"""A rate or a share: .42, 1.00, 23 %."""


def prose(path: str) -> str:
    """The page without code, tables and the definition of an interval, on one line."""
    text = (ROOT / path).read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line for line in text.splitlines() if not line.startswith("|")]
    return one_line(" ".join(lines))


def one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)


@pytest.mark.parametrize("claim", FOUND, ids=[f"{claim.page}: {claim.text[:30]}" for claim in FOUND])
def test_the_page_says_what_the_record_says(claim: Claim) -> None:
    assert one_line(claim.text) in prose(claim.page), claim.text


@pytest.mark.parametrize("path", PAGES)
def test_no_number_without_a_record(path: str) -> None:
    text = prose(path)
    for claim in FOUND:
        if claim.page == path:
            text = text.replace(one_line(claim.text), "")
    left = [m.group() for m in NUMBER.finditer(re.sub(r"Intervals are 95 %|at 95 %|95 % interval", "", text))]
    assert left == [], f"{path}: say in benchmarks/docs/claims.py what these rest on, or leave them out"


def test_the_check_sees_numbers() -> None:
    assert [m.group() for m in NUMBER.finditer("in .21 and 23 % and 1.00, not eps 28/255, .9, 3.11 or 0.1.0")] == [
        ".21",
        "23 %",
        "1.00",
    ]


def test_the_readme_names_the_command_of_every_record() -> None:
    readme = one_line((ROOT / "README.md").read_text(encoding="utf-8"))
    named = {claim.record for claim in FOUND if claim.page == "README.md"}
    for record in named - {None}:
        assert COMMANDS[record].partition(" > ")[0] in readme, record
        assert f"benchmarks/results/{record}.json" in readme, record
        assert (RECORDED / f"{record}.json").exists()


def test_a_sentence_falls_with_its_record() -> None:
    """Cells whose intervals overlap make no sentence, and a claim that was not confirmed names no attack."""
    demo = json.loads((RECORDED / "demo.json").read_text(encoding="utf-8"))
    targets = ("image-vgg", "image-gru")
    assert len(apart(demo, "image", "image-resnet", targets)) == 2
    near = copy.deepcopy(demo)
    for cell in near["modalities"]["image"]["cells"]:
        if (cell["source"], cell["target"]) == ("image-resnet", "image-gru"):
            cell["excess_high"] = 0.9
    with pytest.raises(CaromError, match="not shown above image-gru"):
        apart(near, "image", "image-resnet", targets)
    assert not above_all(Rate(0.5), Rate(0.1, 0.0, 0.2))

    def row(source: str, confirmed: bool) -> dict[str, object]:
        against = {"claim": "better", "confirmed": confirmed}
        return {
            "attack": "sia",
            "source": source,
            "against": {"DI-MI": against, "MI": {"claim": None, "confirmed": False}},
        }

    assert "from both sources: SIA. To beat tuned MI: none" in beaten([row("resnet", True), row("vit", True)])
    assert "from both sources: none." in beaten([row("resnet", True), row("vit", False)])
