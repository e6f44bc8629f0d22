"""Colour differences as people see them: sRGB to CIELAB, and CIEDE2000 between two colours."""

from __future__ import annotations

import torch
from torch import Tensor

SRGB = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
"""Linear sRGB to XYZ for D65 (IEC 61966-2-1). White is (1, 1, 1) there, so greys have no chroma at all."""


def lab(rgb: Tensor) -> Tensor:
    """CIELAB float64[N, 3, ...] of sRGB [N, 3, ...] in [0, 1], D65, 2 degrees (IEC 61966-2-1; CIE 15)."""
    rgb = rgb.double()
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    matrix = torch.tensor(SRGB, dtype=rgb.dtype, device=rgb.device)
    xyz = torch.einsum("rc,nc...->nr...", matrix / matrix.sum(1, keepdim=True), linear)
    limit = 6 / 29
    f = torch.where(xyz > limit**3, xyz.clamp_min(1e-12) ** (1 / 3), xyz / (3 * limit**2) + 4 / 29)
    x, y, z = f.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def _cos(degrees: Tensor) -> Tensor:
    return torch.deg2rad(degrees).cos()


def _apart(chroma: Tensor) -> Tensor:
    """sqrt(C^7 / (C^7 + 25^7)): 0 for greys, 1 for strong colours."""
    seventh = chroma**7
    return (seventh / (seventh + 25.0**7)).sqrt()


def ciede2000(one: Tensor, other: Tensor) -> Tensor:
    """Colour difference Delta E 00 [N, ...] between CIELAB colours [N, 3, ...], with kL = kC = kH = 1.

    Sharma, Wu and Dalal 2005, The CIEDE2000 color-difference formula, eqs. 2 to 22: with their treatment of mean hues
    and of greys, which have no hue.
    """
    (l1, a1, b1), (l2, a2, b2) = (colour.double().unbind(1) for colour in (one, other))
    stretch = 1 + 0.5 * (1 - _apart((torch.hypot(a1, b1) + torch.hypot(a2, b2)) / 2))
    c1, c2 = torch.hypot(stretch * a1, b1), torch.hypot(stretch * a2, b2)
    h1, h2 = (torch.rad2deg(torch.atan2(b, stretch * a)) % 360 for a, b in ((a1, b1), (a2, b2)))
    grey = c1 * c2 == 0
    turn = h2 - h1
    turn = turn - 360 * (turn > 180) + 360 * (turn < -180)
    turn = torch.where(grey, 0.0, turn)
    hue_change = 2 * (c1 * c2).sqrt() * torch.deg2rad(turn / 2).sin()
    total = h1 + h2
    across = torch.where(total < 360, (total + 360) / 2, (total - 360) / 2)
    hue = torch.where(grey, total, torch.where((h1 - h2).abs() <= 180, total / 2, across))
    light, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    t = 1 - 0.17 * _cos(hue - 30) + 0.24 * _cos(2 * hue) + 0.32 * _cos(3 * hue + 6) - 0.20 * _cos(4 * hue - 63)
    s_l = 1 + 0.015 * (light - 50) ** 2 / (20 + (light - 50) ** 2).sqrt()
    s_c, s_h = 1 + 0.045 * chroma, 1 + 0.015 * chroma * t
    blue = 60 * (-(((hue - 275) / 25) ** 2)).exp()  # twice the angle of the turn in blue
    r_t = -torch.deg2rad(blue).sin() * 2 * _apart(chroma)
    parts = (l2 - l1) / s_l, (c2 - c1) / s_c, hue_change / s_h
    return (parts[0] ** 2 + parts[1] ** 2 + parts[2] ** 2 + r_t * parts[1] * parts[2]).clamp_min(0).sqrt()
