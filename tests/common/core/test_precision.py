"""What is crafted faster than in float32 is decided on and judged in float32, and the process is left as it was."""

from __future__ import annotations

import pytest
import torch
from simulated_device import simulated_cuda
from torch import nn

import carom
from carom.common.base.errors import CaromError
from carom.common.core.precision import computing_in, pick_precision
from carom.common.core.spaces import Box
from carom.common.models.networks import TorchModel

PIXELS = Box("pixels", 0.0, 1.0, 1 / 255, torch.uint8)


def flags():
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


class Noting(nn.Module):
    """Notes in what its dense layer answers, whether TF32 is on, and whether a gradient is wanted."""

    def __init__(self):
        super().__init__()
        self.dense, self.seen = nn.Linear(9, 3), set()

    def forward(self, x):
        answer = self.dense(x.flatten(1))
        self.seen.add((answer.dtype, any(flags()), torch.is_grad_enabled()))
        return answer.tanh()  # nothing to fold: a copy would note for itself


def noting():
    torch.manual_seed(0)
    module = Noting()
    module.register_forward_hook(lambda *_: None)
    return TorchModel(module, name="n", modality="image", family="mlp", space=PIXELS, classes=tuple("abc")), module


def data(model):
    stored = torch.randint(0, 256, (5, 1, 3, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return carom.Dataset(
        name="d", modality="image", space=PIXELS, stored=stored, labels=torch.arange(5) % 3, ids=list("vwxyz"),
        classes=model.classes,
    )  # fmt: skip


def test_tf32_is_off_while_a_model_is_frozen_and_put_back():
    before = flags()
    torch.backends.cudnn.allow_tf32 = True
    try:
        model, module = noting()
        with model.frozen():
            model(torch.rand(2, 1, 3, 3))
            with computing_in("tf32"):
                assert flags() == (True, True)
            assert flags() == (False, False)
        assert torch.backends.cudnn.allow_tf32
        assert not any(tf32 for _, tf32, _ in module.seen)
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def test_gradients_are_taken_in_bf16_and_answers_in_float32():
    model, module = noting()
    carom.attack(model, data(model), "pgd", eps="8/255", precision="bf16")
    assert (torch.bfloat16, False, True) in module.seen
    assert not any(dtype == torch.bfloat16 for dtype, _, grad in module.seen if not grad)
    module.seen.clear()
    carom.attack(model, data(model), "square?queries=5", eps="8/255", precision="bf16")
    assert {dtype for dtype, _, _ in module.seen} == {torch.float32}, "scores are compared to the last digits"


def test_the_precision_is_part_of_what_is_stored(tmp_path):
    model, some = carom.load_model("zoo:image-mlp"), carom.load_data("builtin:fashion-mnist", limit=5)
    for precision, count in (("fp32", 1), ("bf16", 2), ("auto", 2)):  # auto is fp32 on a CPU
        carom.transfer([model], [model], ["fgsm"], some, eps="8/255", store=tmp_path, precision=precision)
        assert len([*tmp_path.rglob("*.safetensors")]) == count


@pytest.mark.parametrize("name", ["tf32", "fp16"])
def test_what_a_device_lacks_is_refused(name):
    with pytest.raises(CaromError, match="fp32"):
        pick_precision(name, torch.device("cpu"))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.dropout, self.head = nn.GRU(3, 8, 2, dropout=0.5), nn.Dropout(0.5), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.dropout(self.rnn(x.flatten(1, 2).transpose(0, 1))[0][-1]))


def test_recurrent_layers_keep_cudnn_on_a_gpu():
    torch.manual_seed(0)
    x, enabled = torch.rand(4, 1, 3, 3), torch.backends.cudnn.enabled
    plain = TorchModel(Recurrent(), name="r", modality="image", family="rnn", space=PIXELS, classes=tuple("abc"))
    with plain.frozen():
        expected = plain(x).logits
        assert not plain.module.rnn.training, "on a CPU nothing needs it"
    with simulated_cuda():
        plain.to("cuda")
        with plain.frozen():
            assert torch.backends.cudnn.enabled == enabled
            assert plain.module.rnn.training
            assert not plain.module.dropout.training
            network = plain.evaluation((x.to("cuda"),)).network
            assert network is not plain.module
            assert network.rnn.training
            assert torch.allclose(plain(x.to("cuda")).logits.cpu(), expected)
        assert plain.module.rnn.dropout == 0.5
        assert plain.module.rnn.training
