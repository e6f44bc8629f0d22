"""Images as the skin of solid objects: a ray for every pixel, met with a box, a cylinder or a ball by its formula.

What comes of a scene is where on the image each pixel of the view looks, and how bright it is there: one bilinear
sampling. Nothing is rasterised, so that every row may see another object from another side in one operation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from carom.common.base.rng import Rng
from carom.vision.attacks.views import places, sampled

Vector = tuple[Tensor, Tensor, Tensor]
"""Components across, down and away from the camera, float[R, H, W] or what broadcasts with it."""

LENS = 0.42
"""Tangent of half the field of view: at distance 3 from its middle, an object of half side 1 fills most of the view."""


class Hit(NamedTuple):
    """Where rays meet an object, in its own frame; float[R, H, W] each."""

    where: Tensor  # bool: whether they do
    across: Tensor  # on the image that is wrapped around it, from -1 to 1
    down: Tensor
    normal: Vector  # of its surface, outwards


def dot(a: Vector, b: Vector) -> Tensor:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def turned(v: Vector, pitch: Tensor, yaw: Tensor, roll: Tensor) -> Vector:
    """A vector turned about the axis away from the camera, then about that down, then about that across."""
    x, y, z = v
    x, y = x * roll.cos() - y * roll.sin(), x * roll.sin() + y * roll.cos()
    x, z = x * yaw.cos() - z * yaw.sin(), x * yaw.sin() + z * yaw.cos()
    y, z = y * pitch.cos() - z * pitch.sin(), y * pitch.sin() + z * pitch.cos()
    return x, y, z


def box(eye: Vector, ray: Vector, depth: Tensor) -> Hit:
    """A box of half sides 1, 1 and `depth`: a book to a cube, the image on every face."""
    sides = (torch.ones_like(depth), torch.ones_like(depth), depth)
    enter, leave = [], []
    for start, way, side in zip(eye, ray, sides, strict=True):
        way = torch.where(way.abs() < 1e-6, 1e-6, way)
        first, second = (-side - start) / way, (side - start) / way
        enter.append(torch.minimum(first, second))
        leave.append(torch.maximum(first, second))
    at = torch.stack(enter).amax(0)
    hit = (at <= torch.stack(leave).amin(0)) & (at > 0)
    x, y, z = (start + at * way for start, way in zip(eye, ray, strict=True))
    on_x, on_y = at == enter[0], at == enter[1]
    across = torch.where(on_x, z / depth, x)
    down = torch.where(on_y & ~on_x, z / depth, y)
    none = torch.zeros_like(at)
    normal = (
        torch.where(on_x, x.sign(), none),
        torch.where(on_y & ~on_x, y.sign(), none),
        torch.where(on_x | on_y, none, z.sign()),
    )
    return Hit(hit, across, down, normal)


def first_root(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """(the smaller t with a t^2 + 2 b t + c = 0, whether there is one)"""
    inside = b.square() - a * c
    return (-b - inside.clamp_min(0).sqrt()) / a.clamp_min(1e-6), (inside >= 0) & (a > 1e-6)


def cylinder(eye: Vector, ray: Vector) -> Hit:
    """An upright cylinder of radius .9 and half height 1 without lids: a cup, the image around its front half."""
    radius = 0.9
    a = ray[0].square() + ray[2].square()
    b = eye[0] * ray[0] + eye[2] * ray[2]
    at, real = first_root(a, b, eye[0].square() + eye[2].square() - radius**2)
    x, y, z = (start + at * way for start, way in zip(eye, ray, strict=True))
    return Hit(real & (at > 0) & (y.abs() <= 1), around(x, z), y, (x / radius, torch.zeros_like(y), z / radius))


def ball(eye: Vector, ray: Vector) -> Hit:
    """A ball of radius 1.1, the image around its front half."""
    radius = 1.1
    at, real = first_root(dot(ray, ray), dot(eye, ray), dot(eye, eye) - radius**2)
    x, y, z = (start + at * way for start, way in zip(eye, ray, strict=True))
    down = (y / radius).clamp(-1, 1).asin() / (math.pi / 2)
    return Hit(real & (at > 0), around(x, z), down, (x / radius, y / radius, z / radius))


def around(x: Tensor, z: Tensor) -> Tensor:
    """The angle from the front, a quarter turn being 1."""
    return torch.atan2(x, -z) / (math.pi / 2)


@dataclass(frozen=True)
class Rendered:
    """Images as the skin of a random object seen from a random side in random light, before noise, with probability
    `p` (object-based diverse input, Byun et al. 2022, section 3.2): turned by up to `degrees` about each axis, from
    (1 -+ `nearer`) times the distance, ambient light of .6 to .9 and diffuse light of 0 to .5 from about the camera.

    The paper renders meshes (a package, a cup, a pillow, a T-shirt, a book, balls) by a rasteriser. Here they are
    formulas: boxes from flat to cubic for package and book, a cylinder for the cup, a ball; there is no cloth. The
    image covers a whole face, or the front half of what is round; beyond it the object has a plain random colour, as
    in the paper. Behind it every pixel has a random colour up to `behind`, one of the paper's backgrounds.
    """

    p: float = 1.0
    degrees: float = 35.0
    nearer: float = 0.2
    behind: float = 1.0
    copies = 1

    def __call__(self, x: Tensor, rng: Rng, copy: Tensor) -> Tensor:
        def drawn(key: str, low: float, high: float, *size: int) -> Tensor:
            return low + (high - low) * rng.fold(key).uniform(*(size or (1, 1))).to(x.dtype)

        (height, width), turn = x.shape[2:], math.radians(self.degrees)
        angles = [drawn(key, -turn, turn) for key in ("pitch", "yaw", "roll")]
        distance = 3.0 * drawn("distance", 1 - self.nearer, 1 + self.nearer)
        rows, columns = (LENS * places(side, x) for side in (height, width))
        flat = torch.zeros(1, height, width, device=x.device, dtype=x.dtype)
        none = torch.zeros_like(distance)
        eye = turned((none, none, -distance), *angles)
        ray = turned((flat + columns, flat + rows[:, None], flat + 1.0), *angles)
        kind = rng.fold("kind").integers(3)[:, None, None]
        hits = box(eye, ray, drawn("depth", 0.1, 1.0)), cylinder(eye, ray), ball(eye, ray)

        def chosen(parts: tuple[Tensor, ...]) -> Tensor:
            return torch.where(kind == 0, parts[0], torch.where(kind == 1, parts[1], parts[2]))

        where, across, down = (chosen(parts) for parts in zip(*(hit[:3] for hit in hits), strict=True))
        normal = [chosen(parts) for parts in zip(*(hit.normal for hit in hits), strict=True)]
        lamp = turned((drawn("lamp across", -2, 2), drawn("lamp down", -2, 2), -drawn("lamp away", 2, 6)), *angles)
        slant = (dot((normal[0], normal[1], normal[2]), lamp) / dot(lamp, lamp).sqrt()).clamp_min(0)
        light = (drawn("ambient", 0.6, 0.9) + drawn("diffuse", 0.0, 0.5) * slant)[:, None]
        covered = ((across.abs() <= 1) & (down.abs() <= 1))[:, None]
        skin = torch.where(covered, sampled(x, down, across), drawn("colour", 0.1, 0.7, x.shape[1], 1, 1))
        behind = self.behind * rng.fold("behind").uniform(*x.shape[1:]).to(x.dtype)
        view = torch.where(where[:, None], (light * skin).clamp(0, 1), behind)
        return torch.where((rng.fold("whether").uniform() < self.p).view(-1, 1, 1, 1), view, x)
