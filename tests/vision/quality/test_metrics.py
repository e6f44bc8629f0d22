"""Metrics of images against published data and against the libraries that everyone compares with."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from torchvision.models import alexnet

from carom.common.base.errors import CaromError
from carom.common.core.metrics import measured
from carom.vision.quality import lpips as perceptual
from carom.vision.quality.colours import ciede2000, lab
from carom.vision.quality.metrics import METRICS, psnr, ssim
from carom.vision.space import PIXELS

# Sharma, Wu and Dalal 2005, table 1: L a b of two colours and their difference. They test every branch of the formula.
SHARMA = """
50 2.6772 -79.7751 50 0 -82.7485 2.0425
50 3.1571 -77.2803 50 0 -82.7485 2.8615
50 2.8361 -74.0200 50 0 -82.7485 3.4412
50 -1.3802 -84.2814 50 0 -82.7485 1.0000
50 -1.1848 -84.8006 50 0 -82.7485 1.0000
50 -0.9009 -85.5211 50 0 -82.7485 1.0000
50 0 0 50 -1 2 2.3669
50 -1 2 50 0 0 2.3669
50 2.4900 -0.0010 50 -2.4900 0.0009 7.1792
50 2.4900 -0.0010 50 -2.4900 0.0010 7.1792
50 2.4900 -0.0010 50 -2.4900 0.0011 7.2195
50 2.4900 -0.0010 50 -2.4900 0.0012 7.2195
50 -0.0010 2.4900 50 0.0009 -2.4900 4.8045
50 -0.0010 2.4900 50 0.0010 -2.4900 4.8045
50 -0.0010 2.4900 50 0.0011 -2.4900 4.7461
50 2.5 0 50 0 -2.5 4.3065
50 2.5 0 73 25 -18 27.1492
50 2.5 0 61 -5 29 22.8977
50 2.5 0 56 -27 -3 31.9030
50 2.5 0 58 24 15 19.4535
50 2.5 0 50 3.1736 0.5854 1.0000
50 2.5 0 50 3.2972 0 1.0000
50 2.5 0 50 1.8634 0.5757 1.0000
50 2.5 0 50 3.2592 0.3350 1.0000
60.2574 -34.0099 36.2677 60.4626 -34.1751 39.4387 1.2644
63.0109 -31.0961 -5.8663 62.8187 -29.7946 -4.0864 1.2630
61.2901 3.7196 -5.3901 61.4292 2.2480 -4.9620 1.8731
35.0831 -44.1164 3.7933 35.0232 -40.0716 1.5901 1.8645
22.7233 20.0904 -46.6940 23.0331 14.9730 -42.5619 2.0373
36.4612 47.8580 18.3852 36.2715 50.5065 21.2231 1.4146
90.8027 -2.0831 1.4410 91.1528 -1.6435 0.0447 1.4441
90.9257 -0.5406 -0.9208 88.6381 -0.8985 -0.7239 1.5381
6.7747 -0.2908 -2.4247 5.8714 -0.0985 -2.2286 0.6377
2.0776 0.0795 -1.1350 0.9033 -0.0636 -0.5514 0.9082
"""


def test_ciede2000_of_the_published_pairs():
    rows = torch.tensor([[float(v) for v in line.split()] for line in SHARMA.split("\n") if line], dtype=torch.float64)
    assert len(rows) == 34
    for one, other in ((rows[:, :3], rows[:, 3:6]), (rows[:, 3:6], rows[:, :3])):
        assert torch.allclose(ciede2000(one, other), rows[:, 6], atol=6e-5)


def test_greys_have_no_chroma_and_white_is_100():
    grey = torch.linspace(0, 1, 256).view(-1, 1, 1, 1).expand(-1, 3, 1, 1)
    light, a, b = lab(grey).flatten(2).squeeze(2).unbind(1)
    assert a.abs().max() < 1e-9
    assert b.abs().max() < 1e-9
    assert light[0].item() == pytest.approx(0, abs=1e-9)
    assert light[-1].item() == pytest.approx(100)
    assert (light.diff() > 0).all()


def images(seed, height, width, channels):
    """(clean, changed) stored images uint8[1, C, H, W]"""
    rows, columns, channel = np.mgrid[:height, :width, :channels]
    clean = 128 + 90 * np.sin(rows * 0.21 + channel) + 30 * np.cos(columns * 0.33 * (1 + channel) + seed)
    other = clean + 12 * np.sin(rows * columns * 0.05 + channel) + 6 * ((rows + columns + channel) % 3 - 1)
    both = (np.clip(np.round(v), 0, 255).astype(np.uint8) for v in (clean, other))
    return tuple(torch.from_numpy(v).permute(2, 0, 1)[None].contiguous() for v in both)


# scikit-image 0.26.0, with a and b the uint8[H, W, C] arrays of `images`, grey ones repeated for the third number:
#   structural_similarity(a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255,
#                         channel_axis=2), peak_signal_noise_ratio(a, b, data_range=255),
#   deltaE_ciede2000(rgb2lab(a), rgb2lab(b)).mean()
SKIMAGE = {
    (0, 28, 28, 1): (0.889064770720083, 28.53856387027331, 2.403072231178366),
    (1, 32, 40, 3): (0.9174446902942829, 28.300640305757486, 4.248765420446401),
    (2, 64, 17, 3): (0.9237302506976636, 28.335579286564382, 4.243631386935532),
}


@pytest.mark.parametrize("case", SKIMAGE, ids=str)
def test_values_of_scikit_image(case):
    clean, other = images(*case)
    metrics = [m for m in METRICS if m.name in ("ssim", "psnr", "ciede2000")]
    found = measured(metrics, PIXELS, other, clean)
    wanted = SKIMAGE[case]
    assert found["ssim"][0] == pytest.approx(wanted[0], abs=1e-7)
    assert found["psnr"][0] == pytest.approx(wanted[1], abs=1e-5)
    # scikit-image rounds the matrix from sRGB elsewhere: CIEDE2000 agrees to the fourth digit.
    assert found["ciede2000"][0] == pytest.approx(wanted[2], abs=3e-4)


def test_norms_count_what_is_stored():
    clean = torch.zeros(2, 3, 4, 5, dtype=torch.uint8)
    other = clean.clone()
    other[1, :, 0, 0], other[1, 1, 2, 3] = 51, 102
    metrics = [m for m in METRICS if m.name in ("linf", "l2", "l0", "psnr", "ssim")]
    found = measured(metrics, PIXELS, other, clean)
    assert found["linf"] == pytest.approx([0, 0.4])
    assert found["l2"] == pytest.approx([0, (3 * 0.04 + 0.16) ** 0.5])
    assert found["l0"] == [0, 2]
    assert found["psnr"] == pytest.approx([float("inf"), 10 * np.log10(60 / 0.28)])
    assert found["ssim"][0] == pytest.approx(1)


def test_ssim_of_images_smaller_than_its_window():
    """On one window of 3 x 3 the formula can be worked out by hand."""
    x0, x = torch.rand(2, 1, 1, 3, 3, generator=torch.Generator().manual_seed(0)).double()
    g = torch.exp(-(torch.tensor([-1.0, 0, 1]).double() ** 2) / (2 * (1.5 * 3 / 11) ** 2))
    w = torch.outer(g, g) / g.sum() ** 2
    m, m0 = (w * x[0, 0]).sum(), (w * x0[0, 0]).sum()
    v, v0 = (w * (x[0, 0] - m) ** 2).sum(), (w * (x0[0, 0] - m0) ** 2).sum()
    c = (w * (x[0, 0] - m) * (x0[0, 0] - m0)).sum()
    wanted = (2 * m * m0 + 1e-4) * (2 * c + 9e-4) / ((m * m + m0 * m0 + 1e-4) * (v + v0 + 9e-4))
    assert ssim(x, x0).item() == pytest.approx(wanted.item(), rel=1e-9)
    even = torch.rand(2, 1, 6, 9)
    assert torch.allclose(ssim(even, even), torch.ones(2).double())


def test_an_example_is_measured_alone():
    pairs = [images(seed, 20, 16, 3) for seed in range(40)]
    clean, other = (torch.cat([pair[i] for pair in pairs]) for i in (0, 1))
    metrics = [m for m in METRICS if m.missing() is None]
    whole, alone = measured(metrics, PIXELS, other, clean), measured(metrics, PIXELS, other[7:8], clean[7:8])
    assert all(whole[m.name][7] == pytest.approx(alone[m.name][0], rel=1e-9) for m in metrics)


def test_what_is_no_image_has_norms_only():
    rows = torch.zeros(3, 4, dtype=torch.uint8)
    found = measured([m for m in METRICS if m.name != "lpips"], PIXELS, rows, rows)
    assert found["linf"] == [0, 0, 0]
    assert all(np.isnan(found[name]).all() for name in ("psnr", "ssim", "ciede2000", "l0"))


def features():
    """AlexNet's features with weights that are made up, the same every time."""
    with torch.device("meta"):
        made = alexnet(weights=None).features
    made.to_empty(device="cpu")
    for number, (name, weight) in enumerate(made.named_parameters()):
        place = torch.arange(weight.numel(), dtype=torch.float64)
        scale = (2 / weight[0].numel()) ** 0.5 if "weight" in name else 0.01
        with torch.no_grad():
            weight.copy_((scale * (place * (number + 1) * 0.7548776662).sin()).view_as(weight))
    return made


PACKAGE = [0.09012772887945175, 0.13474935293197632]


class TestLpips:
    """On a checkpoint of the right layout with random weights: AlexNet's own are not at hand."""

    @pytest.fixture
    def hub(self, tmp_path, monkeypatch):
        """Torch's folder with a checkpoint in it, under the name that torchvision gives it."""
        folder = tmp_path / "checkpoints"
        folder.mkdir()
        state = {f"features.{name}": weight for name, weight in features().state_dict().items()}
        torch.save({**state, "classifier.1.bias": torch.zeros(3)}, folder / "made.pth")
        digest = hashlib.sha256((folder / "made.pth").read_bytes()).hexdigest()
        name = f"alexnet-owt-{digest[:8]}.pth"
        (folder / "made.pth").rename(folder / name)
        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
        perceptual.network.cache_clear()
        yield folder / name
        perceptual.network.cache_clear()

    @pytest.mark.parametrize("shape", [(64, 80), (28, 31)], ids=["large", "small"])
    def test_distances(self, hub, monkeypatch, shape):
        assert perceptual.missing() is not None
        monkeypatch.setattr(perceptual, "BACKBONE", hub.name)
        assert perceptual.weights(hub.name)() is None
        x, x0 = torch.rand(2, 2, 3, *shape, generator=torch.Generator().manual_seed(1))
        found = perceptual.lpips(x, x0)
        assert (found > 0).all()
        assert perceptual.lpips(x, x).abs().max() == 0
        assert torch.allclose(found, perceptual.lpips(x0, x))
        half = perceptual.lpips(x0 + (x - x0) / 2, x0)
        assert (half < found).all()

    def test_values_of_the_lpips_package(self):
        """lpips 0.1.4 on the same numbers: `lpips.LPIPS(net="alex", pnet_rand=True)` with `features()` loaded into its
        slices, then `(x, x0, normalize=True)`."""
        place = torch.arange(2 * 3 * 64 * 70, dtype=torch.float64)
        x0, x = ((0.5 + 0.5 * (place * step).sin()).view(2, 3, 64, 70).float() for step in (0.0113, 0.0117))
        with torch.no_grad():
            found = perceptual.Lpips(features(), perceptual.heads())(x, x0)
        assert found.tolist() == pytest.approx(PACKAGE, rel=1e-4)

    def test_a_file_that_is_not_what_its_name_says(self, hub, monkeypatch):
        other = hub.with_name(perceptual.BACKBONE)
        hub.rename(other)
        with pytest.raises(CaromError, match=r"its sha256 begins with \w{8}, not 7be5be79"):
            perceptual.load(other)

    def test_without_the_weights_the_reason_is_said(self, tmp_path, monkeypatch):
        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
        assert "alexnet-owt-7be5be79.pth" in perceptual.missing()
        assert str(tmp_path) not in perceptual.missing()

    def test_the_heads_are_those_of_the_paper(self):
        heads = perceptual.heads()
        assert [len(heads[f"head{i}"]) for i in range(5)] == [64, 192, 384, 256, 256]
        assert all((head >= 0).all() for head in heads.values())


def test_psnr_of_one_level_everywhere():
    x0 = torch.full((1, 1, 4, 4), 100 / 255)
    assert psnr(x0 + 1 / 255, x0).item() == pytest.approx(20 * np.log10(255), abs=1e-4)
