"""Audio networks in adversarial training: what the inner attack may change."""

from __future__ import annotations

import pytest
import torch

from carom.audio.defences import DEFENCES
from carom.audio.models.zoo import RECIPES
from carom.audio.space import snr_db
from carom.common.base.errors import CaromError


def sounds(n: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Tones of different loudness, the last one silence: float[n, 16000]."""
    generator = torch.Generator().manual_seed(0)
    time = torch.arange(16000) / 16000
    pitch = 200 + 800 * torch.rand(n, 1, generator=generator)
    waves = 0.05 * (1 + torch.arange(n))[:, None] * torch.sin(2 * torch.pi * pitch * time)
    waves[-1] = 0
    return waves, torch.arange(n) % 10


@pytest.mark.parametrize(
    ("spec", "most"),
    [({"eps": 20.0}, None), ({"eps": 0.002, "threat": "linf"}, 0.002), ({"eps": 1.0, "threat": "l2"}, None)],
)
def test_the_inner_attack_stays_within_the_budget_of_each_clip(spec, most):
    torch.manual_seed(0)
    network, (waves, labels) = RECIPES["audio-melcnn"].build().train(), sounds()
    inner = DEFENCES["pgd-at"].build(attack="pgd?steps=2", **spec).method().inner  # type: ignore[union-attr]
    found = inner(network, waves, labels, torch.Generator().manual_seed(0))
    change = (found - waves)[:-1]
    assert bool((change.flatten(1).norm(dim=1) > 0).all())
    if most is not None:
        assert float(change.abs().max()) <= most + 1e-7
    elif "threat" in spec:
        assert float(change.norm(dim=1).max()) <= 1 + 1e-4
    else:
        assert float(snr_db(found, waves)[:-1].min()) >= 20 - 1e-2
        assert torch.equal(found[-1], waves[-1])  # silence allows nothing
    assert bool(((found >= -1) & (found < 1)).all())


def test_default_budget_is_that_of_the_modality():
    method = DEFENCES["trades"].build().method()  # type: ignore[union-attr]
    assert (type(method.inner.threat).__name__, method.inner.threat.eps) == ("SNR", 20.0)


def test_trees_are_hardened_through_their_front_end_and_networks_are_not():
    assert RECIPES["audio-tree"].family == "tree"
    with pytest.raises(CaromError, match="is a network"):
        DEFENCES["harden"].build(eps=20).train(RECIPES["audio-gru"], None)
