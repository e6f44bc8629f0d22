"""The string grammar: what it reads, and that it names what it cannot."""

from __future__ import annotations

import contextlib
import re
from typing import Annotated

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carom.common.base.errors import CaromError, UnknownName
from carom.common.base.parameters import Range
from carom.common.base.specs import Spec, call_with, existing, import_object, literal, number, parse, split_parameters


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("zoo:image-resnet", Spec("zoo", "image-resnet", {})),
        ("torchvision:resnet50@IMAGENET1K_V2", Spec("torchvision", "resnet50@IMAGENET1K_V2", {})),
        ("hf:glue/sst2:validation[:500]", Spec("hf", "glue/sst2:validation[:500]", {})),
        (
            "safetensors:a/b.safetensors#pkg.module:factory",
            Spec("safetensors", "a/b.safetensors#pkg.module:factory", {}),
        ),
        ("py:pkg.module:factory?width=64", Spec("py", "pkg.module:factory", {"width": 64})),
        ("py:m:f?bias=false&p=1/4&name=x=y", Spec("py", "m:f", {"bias": False, "p": 0.25, "name": "x=y"})),
    ],
)
def test_specs(text, spec):
    assert parse(text) == spec


@pytest.mark.parametrize("text", ["", "resnet", ":resnet", "zoo:", "py:m:f?width", "py:m:f?=3", "py:m:f?"])
def test_what_is_no_spec_is_refused(text):
    with pytest.raises(CaromError, match=r"is not a spec|write parameters as"):
        parse(text)


def test_unknown_kinds_name_the_nearest():
    with pytest.raises(UnknownName, match="Did you mean torchvision"):
        parse("torchvison:resnet50", ("zoo", "torchvision", "hf"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-3", -3),
        ("0.5", 0.5),
        ("1e-3", 0.001),
        ("8/255", 8 / 255),
        ("true", True),
        ("False", False),
        ("none", None),
        ("margin", "margin"),
        ("nan", "nan"),
        ("1/0", "1/0"),
        ("2024-01-01", "2024-01-01"),
        ("a/b", "a/b"),
    ],
)
def test_literals(text, value):
    assert literal(text) == value
    assert type(literal(text)) is type(value)


def test_numbers():
    assert number("8/255") == 8 / 255
    assert number(" 0.03 ") == 0.03
    assert number(3) == 3.0
    for bad in ("", "eight", "8/", "/255", "1/0", "8/255/2", "nan", "inf", "-inf", "1e999", "0x10", "8 of 255"):
        with pytest.raises(CaromError, match="number"):
            number(bad)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_read_back_exactly(value):
    assert number(repr(value)) == value


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_in_words(text):
    for read in (parse, split_parameters, number):
        with contextlib.suppress(CaromError):
            read(text)


def factory(width, depth=2):
    return width * depth


def test_calls_check_their_parameters():
    assert call_with(factory, {"width": 3}, "factory") == 6
    with pytest.raises(UnknownName, match=r"no parameter of factory is called 'widht'\. Did you mean width"):
        call_with(factory, {"widht": 3}, "factory")
    with pytest.raises(CaromError, match="could not be made from"):
        call_with(factory, {}, "factory")
    assert call_with(lambda **any: len(any), {"whatever": 1}, "open") == 1


def typed(width: int = 2, step: float = 0.5, bias: bool = True, layer: str = "0", top: int | None = None):
    return width, step, bias, layer, top


@pytest.mark.parametrize(
    ("given", "takes"),
    [
        ({"width": 1.5}, "factory: width takes a whole number, not 1.5. Give it one, or leave it out for 2."),
        ({"width": "wide"}, "a whole number, not 'wide'"),
        ({"width": True}, "a whole number, not true"),
        ({"width": None}, "a whole number, not none"),
        ({"step": "inf"}, "a finite number, not 'inf'"),
        ({"step": float("nan")}, "a finite number, not nan"),
        ({"bias": 1}, "true or false, not 1"),
        ({"layer": 1.5}, "a name, not 1.5"),
        ({"top": "all"}, "a whole number or none, not 'all'"),
    ],
)
def test_calls_check_values_by_their_annotations(given, takes):
    with pytest.raises(CaromError, match=re.escape(takes)):
        call_with(typed, given, "factory")


def test_values_that_annotations_allow_are_handed_on():
    given = {"width": np.int64(3), "step": 1, "bias": False, "layer": 7, "top": None}
    made = call_with(typed, given, "factory")
    assert made == (3, 1, False, "7", None)
    assert type(made[0]) is int
    assert call_with(typed, {"width": 0, "top": -1}, "factory")[::4] == (0, -1)  # a factory's integers may be anything


def test_counts_are_at_least_one_unless_a_parameter_states_its_range():
    def attack(steps: int = 10, top: int | None = None, warm: Annotated[int, Range(0)] = 5, offset: int = 0):
        return steps, top, warm, offset

    assert call_with(attack, {"steps": 1, "top": None, "warm": 0, "offset": -2}, "a", counts=True) == (1, None, 0, -2)
    for name in ("steps", "top"):
        with pytest.raises(CaromError, match=f"{name} takes a whole number.*, 1 or more, not 0"):
            call_with(attack, {name: 0}, "a", counts=True)
    with pytest.raises(CaromError, match="warm takes a whole number, 0 or more, not -1"):
        call_with(attack, {"warm": -1}, "a")


def test_amounts_are_not_negative():
    def attack(
        size: float = 0.1, shift: float = 0.0, share: float | None = 0.5, pull: Annotated[float, Range(-9)] = 1.0
    ):
        return size, shift, share, pull

    given = {"size": 0.0, "shift": -1.0, "share": None, "pull": -1.0}
    assert call_with(attack, given, "a", counts=True) == (0.0, -1.0, None, -1.0)
    for name in ("size", "share"):
        with pytest.raises(CaromError, match=f"{name} takes a finite number.*, 0 or more, not -0.5"):
            call_with(attack, {name: -0.5}, "a", counts=True)


def test_a_parameter_is_given_once():
    with pytest.raises(CaromError, match="steps is given twice"):
        split_parameters("pgd?steps=3&steps=4")


def test_objects_are_imported_from_the_working_directory_too(tmp_path, monkeypatch):
    (tmp_path / "mine_of_this_test.py").write_text("def model():\n    return 7\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["/nowhere"])
    assert import_object("mine_of_this_test:model", "py:...")() == 7
    with pytest.raises(UnknownName, match="Did you mean model"):
        import_object("mine_of_this_test:modle", "py:...")
    with pytest.raises(CaromError, match="does not say which object"):
        import_object("mine_of_this_test", "py:mine_of_this_test")
    with pytest.raises(CaromError, match="cannot import no_such_module_here"):
        import_object("no_such_module_here:x", "py:...")


def test_paths_have_to_exist(tmp_path):
    assert existing(tmp_path, "folder") == tmp_path
    with pytest.raises(CaromError, match="no such checkpoint"):
        existing(tmp_path / "none", "checkpoint")
