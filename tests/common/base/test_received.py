"""What stands in received files: names, followed only to what ships with Carom; and words for yes and no."""

from __future__ import annotations

import pytest

from carom.common.base.errors import CaromError
from carom.common.base.parameters import checked, flag, truth
from carom.common.base.received import json_of, ships, ships_attack


@pytest.mark.parametrize("spec", ["zoo:image-vgg", "builtin:fashion-mnist", "ensemble:zoo:image-vgg+zoo:image-resnet"])
def test_what_ships_is_followed(spec):
    assert ships(spec)


@pytest.mark.parametrize(
    "spec",
    [
        "py:subprocess:getoutput?cmd=id",
        "safetensors:x.safetensors#subprocess:getoutput",
        "hf:./folder?trust_remote_code=true",
        "hf:org/name",
        "folder:/home",
        "torchvision:CIFAR10?root=/&download=true",
        "surrogate:itself.safetensors",
        "ensemble:zoo:image-vgg+py:m:f",
        "ensemble:zoo:image-vgg+(py:m:f?x=1)",
        "ensemble:(ensemble:py:m:f)",
        "zoo:../../x",
        "zoo:image-vgg?name=py:m:f",
        "zoo:",
        "nothing",
        "",
    ],
)
def test_what_does_not_ship_is_a_name(spec):
    assert not ships(spec)


def test_attacks_with_words_are_names():
    assert ships_attack("pgd?steps=20&restarts=2")
    assert ships_attack("mi-fgsm?transform=di,ti")
    assert ships_attack("textattack:pwws")
    for spec in (
        "bae?lm=hf:./lm",
        "bae?lm=bert-base-uncased",
        "textfooler?vectors=/etc/passwd",
        "py:m:f",
        "a b",
        "x?y",
    ):
        assert not ships_attack(spec)


def test_words_for_yes_and_no():
    """For yes there is one word: nobody has to guess for which of them code runs."""
    assert [truth(word) for word in (True, "true", "True", "TRUE")] == [True] * 4
    assert [truth(word) for word in (False, "false", "False", "no", "No", "off", "OFF", "0", 0)] == [False] * 9
    assert [truth(word) for word in (1, "1", "yes", "on", "", "tru", "null", None, 0.0, [], {})] == [None] * 11


@pytest.mark.parametrize("word", ["yes", "on", 1, "y", "enable", "", 0.5, ["true"]])
def test_what_is_neither_is_refused_by_name(word):
    with pytest.raises(CaromError, match=r"hf:x: trust_remote_code=.* is neither: write trust_remote_code=true or"):
        flag({"trust_remote_code": word}, "trust_remote_code", "hf:x")


def test_flags_have_a_default_and_parameters_the_same_words():
    assert flag({}, "pairs", "x") is False
    assert flag({"pairs": None}, "pairs", "x", default=True) is True

    def attack(early: bool = True, steps: int = 3):
        return early, steps

    assert checked(attack, {"early": "no", "steps": 0}, "attack x") == {"early": False, "steps": 0}
    assert checked(attack, {"early": 0}, "attack x") == {"early": False}
    with pytest.raises(CaromError, match="early takes true or false, not 'yes'"):
        checked(attack, {"early": "yes"}, "attack x")


def test_json_that_has_no_end_is_no_json():
    assert json_of('{"a": 1}') == {"a": 1}
    for text in ("[" * 100_000, "{", b"\xe9", "9" * 5000):
        with pytest.raises(ValueError, match=r"."):
            json_of(text)
