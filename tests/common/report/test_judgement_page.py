"""The page of a judgement: what it shows of numbers, of words in their place, and of hostile names."""

from __future__ import annotations

import re

from carom.common.measure.stats import wilson
from carom.common.report.judgement import picture, render_judgement
from carom.common.robustness.story import story_of

HOSTILE = "<script>alert(1)</script>\u202e"


def attack(kind: str, accuracy: float, source: str = "other") -> dict:
    low, high = wilson(100 * accuracy, 100)
    spent = {"forward": 1.0, "backward": 1.0, "queries": 0.0, "seconds": 0.1, "rejected": None}
    evidence = kind in ("adaptive", "query")
    return {"attacker": kind, "attack": "pgd", "source": source, "evidence": evidence, "accuracy": accuracy} | {
        **{"low": low, "high": high},
        **spent,
    }


def model(name: str, robust: float | None, attacks: list[dict], defence: str = "", **more) -> dict:
    low, high = wilson(100 * (robust or 0), 100) if robust is not None else (None, None)
    return {
        "model": name,
        "base": "plain",
        "defence": defence,
        "status": "robust accuracy" if robust is not None else "attack too weak",
        "reasons": [] if robust is not None else ["zero gradients: 90 of 100"],
        "robust_accuracy": robust,
        "robust_low": low,
        "robust_high": high,
        "at_most": 0.7 if robust is None else robust,
        "clean_accuracy": 0.9,
        "clean_low": 0.82,
        "clean_high": 0.95,
        "rejected_clean": None,
        "attacks": attacks,
        "alarms": [],
        "checks": [{"name": "zero gradients", "rings": robust is None, "said": "90 of 100"}],
        "binarisation": None,
        "curve": [],
        "remarks": [],
        "passes": 1,
        "seconds": 0.01,
        "clean_cost": None,
        "gain": None,
        "gain_p": None,
        **more,
    }


def judgement(*models: dict) -> dict:
    part = {"data": "toys", "examples": 100, "threat": "linf 8/255", "models": list(models), "seconds": 1.0}
    part["story"] = story_of(part)
    return {"version": "1", "modalities": {"image": part}, "report": None, "seconds": 1.0, "seed": 0}


PLAIN = model("plain", 0.3, [attack("transfer", 0.8), attack("adaptive", 0.3, "plain")])
WEAK = model("plain+x", None, [attack("transfer", 0.85), attack("adaptive", 0.7, "plain+x")], "x", clean_cost=0.1)


def test_words_stand_where_there_is_no_number():
    page = render_judgement(judgement(PLAIN, WEAK), [])
    row = re.search(r"<tr><th scope=\"row\"><bdi>plain\+x</bdi></th><td>(.*?)</td>", page)
    assert row
    assert row[1] == "attack too weak"
    assert "ALARM: zero gradients" in page
    drawn = str(picture([PLAIN, WEAK]))
    assert drawn.count('class="bar robust"') == drawn.count('class="bar bound"') == 1
    assert drawn.count('class="whisker"') == 1


def test_marks_stand_where_their_values_are():
    drawn = str(picture([PLAIN]))
    places = {kind: float(x) for kind, x in re.findall(r'class="mark ([\w-]+)" transform="translate\(([\d.]+) ', drawn)}
    assert places["adaptive"] < places["transfer"] < places["clean"]
    [width] = re.findall(r'class="bar robust" x="240(?:\.0)?" y="\d+" width="([\d.]+)"', drawn)
    assert float(width) == 420 * 0.3
    assert places["adaptive"] == 240 + 420 * 0.3


def test_names_are_escaped_and_nothing_runs():
    page = render_judgement(judgement(model(HOSTILE, 0.5, [attack("adaptive", 0.5, HOSTILE)])), [], HOSTILE)
    assert "<script" not in page
    assert "\u202e" not in page
    assert "default-src &#39;none&#39;" in page


def test_the_story_says_what_transfer_is_worth_and_what_is_not_known():
    told = " ".join(judgement(PLAIN, WEAK)["modalities"]["image"]["story"])
    assert "plain keeps .30 [" in told
    assert "no evidence of robustness" in told
    assert "plain+x: attack too weak" in told
    assert "at most .70" in told
    assert "On clean inputs x costs .10 of accuracy." in told
    gained = model("plain+y", 0.5, [attack("adaptive", 0.5)], "y", clean_cost=0.0, gain=0.2, gain_p=0.001)
    assert ".20 more than without the defence." in " ".join(judgement(PLAIN, gained)["modalities"]["image"]["story"])
    chance = {**gained, "gain_p": 0.4}
    assert "which may be chance" in " ".join(judgement(PLAIN, chance)["modalities"]["image"]["story"])
