"""Things that could answer differently have different fingerprints; equal ones have equal ones, wherever they come from."""

from __future__ import annotations

import copy
import ctypes
import functools
import importlib
import os
import pickle
import re
import subprocess
import sys
import threading
import types
import weakref
from collections import OrderedDict, defaultdict, namedtuple
from enum import Enum

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from carom.common.base.fingerprint import Unreadable, fingerprint
from carom.common.base.identity import digest_of


def closure(k):
    def answer(x):
        return x * k

    return answer


def default(k):
    def answer(x, k=k):
        return x * k

    return answer


def scaled(x, k=1.0):
    return x * k


class Called:
    def __init__(self, k):
        self.k = k

    def __call__(self, x):
        return x * self.k


class Slots:
    __slots__ = ("k",)

    def __init__(self, k):
        self.k = k


class Side(Enum):
    LEFT = 1
    RIGHT = 2


Point = namedtuple("Point", "x y")


class Net(nn.Module):
    def __init__(self, setting=None):
        super().__init__()
        self.layer = nn.Linear(2, 2, bias=False)
        nn.init.ones_(self.layer.weight)
        self.setting = setting

    def forward(self, x):
        return self.layer(x)


class Missing(dict):
    def __missing__(self, key):
        return 1


class Absent(dict):
    def __missing__(self, key):
        return 2


Absent.__qualname__ = Absent.__name__ = "Missing"


class Shaped(torch.Tensor):
    pass


class Scripted(nn.Module):
    def __init__(self, k: float):
        super().__init__()
        self.k = k

    def forward(self, x: torch.Tensor):
        return x * self.k


class Service:
    """As wrappers of sessions that cannot be pickled: the session is left out, the path of its file is kept."""

    def __init__(self, weights):
        self.path, self.weights, self.lock = "model.onnx", weights, threading.Lock()

    def __getstate__(self):
        return {"path": self.path}

    def __call__(self, x):
        return x * self.weights


def labelled(k):
    values = torch.ones(2)
    values.scale = k
    return values


def made_outside_any_module(k):
    held = {}
    exec(f"def inner(x):\n    return x * {k}\ndef outer(x):\n    return inner(x)", held)
    return held["outer"]


DENSE, RELU = nn.Linear(2, 2), nn.ReLU()
HELD = [Called(1), Called(2)]
PAIRS = {
    "order of layers": (
        nn.Sequential(OrderedDict(a=DENSE, b=RELU)),
        nn.Sequential(OrderedDict(b=RELU, a=DENSE)),
    ),
    "order of steps": ({"scale": closure(2), "shift": closure(3)}, {"shift": closure(3), "scale": closure(2)}),
    "what a mapping answers without a key": (defaultdict(closure(1)), defaultdict(closure(2))),
    "kinds of mapping": (Missing(a=1), Absent(a=1)),
    "masks": (np.ma.array([1, 2], mask=[0, 1]), np.ma.array([1, 2], mask=[1, 0])),
    "kinds of array": (np.matrix([[1, 2], [3, 4]]), np.array([[1, 2], [3, 4]])),
    "precision of one number": (np.float32(1), np.float64(1)),
    "expressions": (re.compile("a+"), re.compile("a+", re.IGNORECASE)),
    "references": (weakref.ref(HELD[0]), weakref.ref(HELD[1])),
    "words in comprehensions": (
        lambda texts: [t.replace("a", "b") for t in texts],
        lambda texts: [t.replace("c", "b") for t in texts],
    ),
    "attributes of tensors": (labelled(1), labelled(2)),
    "kinds of tensor": (torch.ones(2).as_subclass(Shaped), torch.ones(2)),
    "attributes of scripted modules": (torch.jit.script(Scripted(1.0)), torch.jit.script(Scripted(2.0))),
    "what pickling leaves out": (Service(1), Service(2)),
    "names of fields": (namedtuple("P", "a b")(1, 2), namedtuple("P", "b a")(1, 2)),
    "functions made outside any module": (made_outside_any_module(1), made_outside_any_module(2)),
    "closures": (closure(1), closure(2)),
    "closures over arrays": (closure(np.zeros(3)), closure(np.ones(3))),
    "closures over closures": (closure(closure(1)), closure(closure(2))),
    "defaults": (default(1), default(2)),
    "keyword-only defaults": (lambda *, k=1: k, lambda *, k=2: k),
    "partials by place": (functools.partial(scaled, 1), functools.partial(scaled, 2)),
    "partials by name": (functools.partial(scaled, k=1), functools.partial(scaled, k=2)),
    "bound methods": (Called(1).__call__, Called(2).__call__),
    "callable objects": (Called(1), Called(2)),
    "slots": (Slots(1), Slots(2)),
    "words": (Net("day-first"), Net("night-first")),
    "lists": (Net([1, 2]), Net([2, 1])),
    "nested dicts": (Net({"a": {"b": 1}}), Net({"a": {"b": 2}})),
    "sets": (Net({1, 2}), Net({1, 3})),
    "tensors that are no buffers": (Net(torch.zeros(2)), Net(torch.ones(2))),
    "functions": (Net(torch.relu), Net(torch.abs)),
    "lambdas": (Net(lambda x: x), Net(lambda x: -x)),
    "bytes": (Net(b"a"), Net(b"b")),
    "bytearrays": (Net(bytearray(b"a")), Net(bytearray(b"b"))),
    "enums": (Net(Side.LEFT), Net(Side.RIGHT)),
    "types": (Net(int), Net(float)),
    "named tuples": (Net(Point(1, 2)), Net(Point(2, 1))),
    "types of numbers": (Net(1), Net(1.0)),
    "types of arrays": (Net(np.zeros(2, np.float32)), Net(np.zeros(2, np.float64))),
    "shapes": (Net(np.zeros((2, 1))), Net(np.zeros((1, 2)))),
    "object arrays": (Net(np.array(["a", None], object)), Net(np.array(["b", None], object))),
    "objects in objects": (Net(Called([Called(1)])), Net(Called([Called(2)]))),
    "activations": (nn.Sequential(nn.ReLU()), nn.Sequential(nn.GELU())),
    "strides": (nn.Conv2d(1, 1, 3, stride=1).requires_grad_(False), nn.Conv2d(1, 1, 3, stride=2)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_what_differs_in_what_it_holds_differs(name):
    first, second = PAIRS[name]
    assert fingerprint(first) != fingerprint(second)
    assert fingerprint(first) == fingerprint(first)


@pytest.mark.parametrize(
    "thing",
    [closure(1), functools.partial(scaled, 2), Called([1, {"a": np.ones(2)}]), Net("x"), Slots(3), OrderedDict(a=1)],
    ids=["closure", "partial", "object", "network", "slots", "mapping"],
)
def test_copies_are_alike(thing):
    assert fingerprint(copy.deepcopy(thing)) == fingerprint(thing)


def test_weights_and_modes():
    net, other = Net(), Net()
    assert fingerprint(net) == fingerprint(other.eval())
    with torch.no_grad():
        other.layer.weight[0, 0] = 2
    assert fingerprint(net) != fingerprint(other)


def test_hooks_count():
    net = Net()
    before = fingerprint(net)
    net.register_forward_hook(lambda module, given, answer: -answer)
    assert fingerprint(net) != before


def test_estimators_are_what_they_were_fitted_to():
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    x = np.random.default_rng(0).random((60, 4))
    y = (x[:, 0] > 0.5).astype(int)
    for make in (
        lambda: RandomForestClassifier(5, random_state=0),
        lambda: HistGradientBoostingClassifier(max_iter=3, random_state=0),
        lambda: KNeighborsClassifier(3),
        lambda: make_pipeline(StandardScaler(), FunctionTransformer(np.abs), KNeighborsClassifier(3)),
    ):
        fitted = make().fit(x, y)
        assert fingerprint(fitted) == fingerprint(pickle.loads(pickle.dumps(fitted))) == fingerprint(make().fit(x, y))
        assert fingerprint(fitted) != fingerprint(make().fit(x, 1 - y))


class Booster:
    """As boosters of other libraries: its trees are raw bytes that only pickling gives away."""

    def __init__(self, raw):
        self.raw = raw

    def __getstate__(self):
        return {"handle": bytearray(self.raw)}

    def __setstate__(self, state):
        self.raw = bytes(state["handle"])


def test_state_that_only_pickling_gives_away():
    assert fingerprint(Booster(b"one")) != fingerprint(Booster(b"two"))
    assert fingerprint(Booster(b"one")) == fingerprint(Booster(b"one"))


def module_of(tmp_path, name, text):
    (tmp_path / f"{name}.py").write_text(text)
    sys.modules.pop(name, None)
    importlib.invalidate_caches()
    sys.dont_write_bytecode = True
    return importlib.import_module(name)


EDITED = """
import torch
import fp_helper
LIMIT = 0.5
TABLE = {"a": [1, 2]}
class Base(torch.nn.Module):
    sign = 1
    def turned(self, x):
        return x
class Net(Base):
    def forward(self, x):
        \"\"\"What it does.\"\"\"
        return self.turned(fp_helper.prepared(x) - LIMIT) * TABLE["a"][0]
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("- LIMIT", "+ LIMIT"),
        ("LIMIT = 0.5", "LIMIT = 0.6"),
        ('"a": [1, 2]', '"a": [2, 2]'),
        ("return x\n", "return -x\n"),
        ("sign = 1", "sign = -1"),
    ],
)
def test_code_that_answers_rest_on_counts(tmp_path, monkeypatch, old, new):
    monkeypatch.syspath_prepend(tmp_path)
    module_of(tmp_path, "fp_helper", "def prepared(x):\n    return scaled(x)\ndef scaled(x):\n    return x\n")
    before = fingerprint(module_of(tmp_path, "fp_nets", EDITED).Net())
    assert old in EDITED
    assert fingerprint(module_of(tmp_path, "fp_nets", EDITED.replace(old, new, 1)).Net()) != before


def test_helpers_in_other_files_count_and_places_do_not(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    helper = "def prepared(x):\n    return scaled(x)\ndef scaled(x):\n    return x\n"
    module_of(tmp_path, "fp_helper", helper)
    before = fingerprint(module_of(tmp_path, "fp_nets", EDITED).Net())
    commented = "# a comment\n\n" + EDITED.replace("What it does.", "What it really does.")
    assert fingerprint(module_of(tmp_path, "fp_moved", commented).Net()) == before  # another file, other lines
    module_of(tmp_path, "fp_helper", helper.replace("return x\n", "return -x\n"))
    assert fingerprint(module_of(tmp_path, "fp_nets", EDITED).Net()) != before


def test_other_processes_agree():
    code = (
        "import functools, numpy as np; from carom.common.base.fingerprint import fingerprint;"
        "print(fingerprint([{'b': {1, 'x', 2.5}, 'a': np.arange(3)}, functools.partial(np.add, 1)]))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


WRAPPED = """
import functools
import torch.nn.functional as F
SCALE = {k}
@functools.wraps(F.relu)
def act(x):
    return F.relu(x) * SCALE
"""


def test_a_function_belongs_where_it_is_written_whatever_it_wraps(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    first = fingerprint(module_of(tmp_path, "fp_wraps", WRAPPED.format(k=1)).act)
    assert fingerprint(module_of(tmp_path, "fp_wraps", WRAPPED.format(k=2)).act) != first


@pytest.mark.parametrize("line", ["from fp_later import scaled", "import fp_later; scaled = fp_later.scaled"])
def test_what_is_imported_only_as_it_answers_counts(tmp_path, monkeypatch, line):
    monkeypatch.syspath_prepend(tmp_path)
    text = f"def answer(x):\n    {line}\n    return scaled(x)\n"
    module_of(tmp_path, "fp_later", "def scaled(x):\n    return x\n")
    first = fingerprint(module_of(tmp_path, "fp_lazy", text).answer)
    module_of(tmp_path, "fp_later", "def scaled(x):\n    return -x\n")
    assert fingerprint(module_of(tmp_path, "fp_lazy", text).answer) != first
    sys.modules.pop("fp_later")
    assert fingerprint(module_of(tmp_path, "fp_lazy", text).answer) != first  # before anything has imported it


def test_functions_found_by_name_count(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    text = "def scaled(x):\n    return {0}\ndef answer(x):\n    return globals()['scaled'](x)\n"
    first = fingerprint(module_of(tmp_path, "fp_named", text.format("x")).answer)
    assert fingerprint(module_of(tmp_path, "fp_named", text.format("-x")).answer) != first


def test_methods_of_packages_that_the_user_has_changed_count(monkeypatch):
    before, original = fingerprint(DENSE), nn.Linear.forward
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: -original(self, x))
    assert fingerprint(DENSE) != before
    monkeypatch.undo()
    uses = lambda x: nn.functional.relu(x)  # noqa: E731
    before = fingerprint(uses)
    monkeypatch.setattr(nn.functional, "relu", lambda x: x)
    assert fingerprint(uses) != before


class Locked:
    def __init__(self):
        self.lock = threading.Lock()


def reads(x):
    with open("weights.json") as file:
        return file.read() + x


def calls(x):
    return subprocess.run(x)


def loads(x):
    return np.load("weights.npy") @ x


def asks_the_environment(x):
    return x * float(os.environ["SCALE"])


def chooses_its_code(x):
    return importlib.import_module("somewhere").answer(x)


class ReadsInAHelper:
    """The reading is in a method that the answer calls, behind another."""

    def __call__(self, x):
        return self.scaled(x)

    def scaled(self, x):
        return x * self.weight

    @property
    def weight(self):
        return float(open("weight.txt").read())


class MakesAReader(nn.Module):
    def forward(self, x):
        return Reader().weight * x


class Reader:
    def __init__(self):
        with open("weight.txt") as file:
            self.weight = float(file.read())


class MakesAHelper(nn.Module):
    def forward(self, x):
        return Called(2)(x)


def test_what_is_made_as_it_answers_is_read_once_more_and_no_further():
    assert fingerprint(MakesAHelper()) == fingerprint(MakesAHelper())


OUTSIDE = {
    "lock": Locked(),
    "file": reads,
    "process": calls,
    "generator": (i for i in range(3)),
    "arrays": loads,
    "environment": asks_the_environment,
    "code": chooses_its_code,
    "helper": ReadsInAHelper(),
    "constructor": MakesAReader(),
    "function of another language": ctypes.CDLL(None).abs,
    "function without a place": np.frompyfunc(scaled, 1, 1),
}


@pytest.mark.parametrize("thing", OUTSIDE.values(), ids=OUTSIDE)
def test_what_cannot_be_read_is_refused(thing):
    with pytest.raises(Unreadable):
        fingerprint(thing)
    first, second = digest_of(thing), digest_of(thing)
    assert first != second  # nothing is found again
    assert first.why


def test_constructors_may_read_files(tmp_path):
    class Loaded(nn.Module):
        def __init__(self, path):
            super().__init__()
            with open(path) as file:
                self.weight = float(file.read())

        def forward(self, x):
            return x * self.weight

        def save(self, path):
            with open(path, "w") as file:
                file.write(str(self.weight))

    (tmp_path / "w").write_text("1")
    first = fingerprint(Loaded(tmp_path / "w"))
    (tmp_path / "w").write_text("2")
    assert fingerprint(Loaded(tmp_path / "w")) != first


def test_what_holds_itself_ends():
    ring, other = [], []
    ring.append(ring)
    other.append(other)
    assert fingerprint(ring) == fingerprint(other)
    net = Net()
    net.setting = [net]
    assert fingerprint(net) != fingerprint(Net([]))
    assert types.FunctionType  # functions that call themselves
    assert fingerprint(recursive) == fingerprint(recursive)


def recursive(n):
    return n and recursive(n - 1)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3) | st.tuples(inner, inner)
    ),
    max_leaves=8,
)


@given(values, values)
def test_values_are_told_apart(one, other):
    assert fingerprint(copy.deepcopy(one)) == fingerprint(one)
    if repr(one) != repr(other) and one != other:
        assert fingerprint(one) != fingerprint(other)
