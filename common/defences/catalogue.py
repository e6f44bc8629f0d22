"""Where defences are registered: beside the functions that compose them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypedDict, TypeVar, Unpack

from carom.common.defences.info import ADAPTATIONS, KINDS, Defence, DefenceInfo

Build = TypeVar("Build", bound=Callable[..., Defence])


class Facts(TypedDict, total=False):
    """What an entry says besides its name, summary and paper: the fields of `DefenceInfo` of these names."""

    kind: str
    adaptation: tuple[str, ...]
    cost: str
    departures: str
    calibration: Mapping[str, Any]


class Defences:
    """Defences in the order in which they are registered. What they have in common is given once.

        SQUEEZES = Defences(kind="transform", adaptation=("around",))

        @SQUEEZES.defence("bit-depth", "fewer grey levels", paper="Xu, Evans and Qi 2018, Feature squeezing ...")
        def bit_depth(bits: int = 3) -> BitDepth: ...

    A modality lists the catalogues that it offers (`defences_in`).
    """

    def __init__(self, **common: Unpack[Facts]) -> None:
        self.listed: list[DefenceInfo] = []
        self._common = common

    def defence(self, name: str, summary: str, *, paper: str, **own: Unpack[Facts]) -> Callable[[Build], Build]:
        """Registers the function below, whose keyword parameters are the defence's. `paper`: authors, year, title."""

        def register(build: Build) -> Build:
            facts: dict[str, Any] = {**self._common, **own}
            info = DefenceInfo(name=name, summary=summary, reference=paper, build=build, **facts)
            if info.kind not in KINDS or not info.adaptation or not set(info.adaptation) <= set(ADAPTATIONS):
                raise ValueError(f"{name}: a kind of {list(KINDS)} and adaptations of {list(ADAPTATIONS)}")
            self.listed.append(info)
            return build

        return register


def defences_in(*catalogues: Defences) -> dict[str, DefenceInfo]:
    """The defences of these catalogues, by name."""
    listed = [info for catalogue in catalogues for info in catalogue.listed]
    found = {info.name: info for info in listed}
    if len(found) < len(listed):
        raise ValueError(f"two defences share a name: {sorted(info.name for info in listed)}")
    return found
