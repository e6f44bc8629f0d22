"""Classes of data and models are matched by name, never by place."""

from __future__ import annotations

import pytest
from torchvision.models._meta import _IMAGENET_CATEGORIES as TORCHVISION

from carom.common.base.errors import CaromError
from carom.common.core.class_names import in_order, likely, list_of, listed_classes, places, stated_as, stated_places
from carom.common.loading.facts import class_names
from carom.vision.data.imagenet import imagenet_classes

HUB = [", ".join(entry[1:]) for entry in imagenet_classes()]
HUB[134] = "crane"


def test_the_same_names_in_another_order_and_fewer():
    assert places(["b", "a"], ["a", "b"]) == [1, 0]
    assert places(["b"], ["a", "b", "c"]) == [1]
    assert places(["b", "d"], ["a", "b", "c"]) is None
    assert places(["a", "a"], ["a", "a"]) == [0, 1]  # the same list is the same, whatever it holds


def test_a_name_of_two_classes_is_asked_about():
    with pytest.raises(CaromError, match="'maillot' is the name of outputs 0, 2"):
        places(["maillot"], ["maillot", "b", "maillot"])
    with pytest.raises(CaromError, match="n02012849 or n03126707"):
        places(["crane"], HUB)


def test_the_names_of_imagenet_are_those_of_torchvision_and_of_the_hub():
    assert list_of(TORCHVISION) == list_of(HUB) == "imagenet-1k"
    assert places(TORCHVISION, HUB) == list(range(1000))
    assert places(["n01440764", "goldfish", "n03126707"], TORCHVISION) == [0, 1, 517]
    assert places(["n01440764", "n03126707"], HUB) == [0, 517]
    assert places(["tench", "n99999999"], HUB) is None
    assert places(["n01443537", "n01440764"], ["tench", "goldfish", "lorry"]) == [1, 0]  # a part of the list


def test_what_only_looks_the_same_is_likely_and_never_certain():
    assert places(["Red_Car"], ["dog", "red car"]) is None
    assert likely(["Red_Car", "DOG"], ["dog", "red car"]) == [1, 0]
    assert likely(["tench"], ["tench, Tinca tinca", "goldfish"]) == [0]
    assert likely(["a", "A"], ["a", "b"]) is None  # two for one
    assert likely(["3", "0"], ["a", "b", "c", "d"]) == [3, 0]
    assert likely(["4"], ["a", "b", "c", "d"]) is None
    assert likely(["3"], ["2", "4"]) is None
    assert likely(["007"], ["7", "8"]) == [0]


def test_what_a_user_states_takes_likely_names_and_refuses_others():
    assert stated_places(["Cat", "dog"], ["dog", "cat", "bird"], "x") == [1, 0]
    with pytest.raises(CaromError, match="here: 'mouse' is none of the stated classes dog, cat"):
        stated_places(["Cat", "mouse"], ["dog", "cat"], "here")


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["0", "1", "10", "2"], (("0", "1", "2", "10"), True)),
        (["class10", "class9"], (("class10", "class9"), True)),
        (["08", "09", "10"], (("08", "09", "10"), False)),
        (["b", "a", "a"], (("a", "b"), False)),
    ],
)
def test_an_order_that_letters_and_numbers_give_differently_is_a_guess(names, wanted):
    assert in_order(names) == wanted


def test_classes_as_users_write_them(tmp_path):
    file = tmp_path / "names.txt"
    file.write_bytes("\ufefftench, Tinca tinca\r\ngoldfish\r\n\r\n".encode())
    assert class_names(f"@{file}") == ("tench, Tinca tinca", "goldfish")
    (tmp_path / "index.json").write_text('{"1": ["n2", "b"], "0": ["n1", "a"]}')
    assert class_names(f"@{tmp_path / 'index.json'}") == ("a", "b")
    assert len(set(class_names("imagenet-1k"))) == 1000
    assert class_names("tench, Tinca tinca;goldfish") == ("tench, Tinca tinca", "goldfish")
    for names in (["a", "b"], ["a, b", "c"], ["a, b"], listed_classes("imagenet-1k")):
        assert class_names(stated_as(names)) == tuple(names)  # what an error proposes is read as it was meant


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"a\n\nb\n", "line 2: no name"), (b"", "line 1: no name"), (b"\xff\xfe", "not names of classes")],
)
def test_files_that_hold_no_names(content, said, tmp_path):
    (tmp_path / "names.txt").write_bytes(content)
    with pytest.raises(CaromError, match=f"names.txt.*{said}"):
        class_names(f"@{tmp_path / 'names.txt'}")


@pytest.mark.parametrize("value", [0, -1, 10**9, True, "a,,b", "@no-such-file"])
def test_classes_that_are_none(value):
    with pytest.raises(CaromError):
        class_names(value)
