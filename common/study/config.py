"""Studies: what a run is asked to do, checked at the border. TOML, flags and the library all become a `Study`."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from carom.common.base.errors import CaromError
from carom.common.base.parameters import truth
from carom.common.base.received import words_of
from carom.common.base.specs import number
from carom.common.study.checks import check_denominators

Strict = ConfigDict(extra="forbid", validate_default=True)


def _plain(text: str) -> str:
    if not text.strip() or "\0" in text:
        raise ValueError("Write a text that is not empty and holds no NUL")
    return text


def _yes_or_no(value: Any) -> bool:
    if (found := truth(value)) is None:
        raise ValueError("Write true or false")
    return found


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("Write a number, or a fraction in quotes")
    try:
        number(value) if isinstance(value, int | float | str) else None
    except (CaromError, OverflowError) as error:
        raise ValueError(str(error)) from None
    return value


def _denominator(name: str) -> str:
    try:
        check_denominators([name])
    except CaromError as error:
        raise ValueError(str(error).rstrip(".")) from None
    return name


Words = Annotated[str, AfterValidator(_plain)]
"""What names something to the system or to Carom."""

Count = Annotated[int, Field(strict=True, ge=1, le=10**12)]
"""Of examples, or of what is done at once: as a number of 64 bits can count them."""

Draws = Annotated[int, Field(strict=True, ge=1, le=100)]

Denominator = Annotated[str, AfterValidator(_denominator)]

Seed = Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)]


class Named(BaseModel):
    """A model or data set by its spec, with what Carom cannot know about it as further keys."""

    model_config = ConfigDict(extra="allow")
    spec: Words

    @model_validator(mode="after")
    def _facts(self) -> Named:
        if any("\0" in word for word in words_of(self.facts.values())):
            raise ValueError("Write texts that hold no NUL")
        return self

    @property
    def facts(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


def _named(value: Any) -> Any:
    return {"spec": value} if isinstance(value, str) else value


class ModalityStudy(BaseModel):
    """What is measured in one modality. Left out, a value is the modality's own default."""

    model_config = Strict
    data: Named | None = None
    split: Words = "test"
    sources: list[Named] = Field(default_factory=list)
    targets: list[Named] = Field(default_factory=list)
    attacks: list[Words] = Field(default_factory=list)
    defences: list[Words] = Field(default_factory=list)  # each around every target, beside it: "jpeg+noise"
    transform: Words | None = None  # of every attack that names none itself: "di,ti"
    threat: Words | None = None
    eps: Annotated[float | str | None, BeforeValidator(_number)] = None
    limit: Count | None = None
    targeted: Annotated[bool, BeforeValidator(_yes_or_no)] = False
    # What targeted attacks aim at: a class, least-likely, random, @FILE, or a class for each id.
    target_class: Annotated[str | int | dict[str, str | int] | None, Field(union_mode="left_to_right")] = None
    log: Named | None = None  # measured is what was crafted before: a saved set or another tool's log
    on_error: str = Field(default="raise", pattern="^(raise|skip)$")

    @field_validator("data", "log", mode="before")
    @classmethod
    def _one(cls, value: Any) -> Any:
        return _named(value)

    @field_validator("transform", mode="before")
    @classmethod
    def _transform(cls, value: Any) -> Any:
        return ",".join(value) if isinstance(value, list) and all(isinstance(v, str) for v in value) else value

    @field_validator("sources", "targets", mode="before")
    @classmethod
    def _models(cls, value: Any) -> Any:
        return [_named(v) for v in value] if isinstance(value, list) else value


class Study(BaseModel):
    """A whole run: one table per modality, and how it is run."""

    model_config = Strict
    modalities: dict[str, ModalityStudy] = Field(min_length=1)
    seeds: list[Seed] = Field(default=[0], min_length=1)
    controls: Draws = 5
    batch: Count = 64
    device: Words = "auto"
    precision: Words = "fp32"  # of the gradients: fp32, tf32, bf16, auto
    workers: int = Field(default=1, strict=True, ge=1, le=256)  # processes that share the work
    store: Words = ".carom/store"
    out: Words | None = None
    examples: int = Field(default=2, strict=True, ge=0, le=1000)  # shown in the report, per cell
    # Compared once more at the budgets where each source's white-box success is this; on how many examples and draws.
    match: list[Annotated[float, Field(gt=0, lt=1)]] = Field(default_factory=list)
    match_limit: Count | None = None
    match_controls: Draws | None = None
    # Excess transfer against cost: "gradients", or with the allowances: "gradients=1,10,50"; "queries=100,300".
    curve: Words | None = None
    curve_limit: Count | None = None
    # Transfer is said besides over other examples than those that both models get right (`DENOMINATORS`).
    denominators: list[Denominator] = Field(default_factory=list)
    # Of a judgement of defences: further budgets, at which robust accuracy is measured too.
    budgets: list[Annotated[float | str, BeforeValidator(_number)]] = Field(default_factory=list)


_FLAGS = {
    "seeds": "seed",
    "sources": "source",
    "targets": "target",
    "attacks": "attack",
    "defences": "defence",
    "denominators": "denominator",
}
"""Options that are not called what they set."""

SETTINGS = tuple(name for name in Study.model_fields if name != "modalities")


def read_study(path: Path, modalities: list[str]) -> dict[str, Any]:
    """The tables of a TOML file, as the arguments of `make_study`. Unknown keys are refused with the nearest known."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CaromError(f"{path}: no such file. `carom init` writes one to start from.") from None
    except (ValueError, RecursionError) as error:  # ValueError: no UTF-8, no TOML, or an integer without end
        raise CaromError(f"{path}: not a TOML file: {error}. Compare it with what `carom init` writes.") from None
    except OSError as error:
        raise CaromError(f"{path}: cannot be read: {error.strerror}. Give the path of a TOML file.") from None
    settings = {k: v for k, v in tables.items() if k in SETTINGS}
    parts = {k: v for k, v in tables.items() if k in modalities}
    for key in tables.keys() - settings.keys() - parts.keys():
        raise CaromError(f"{path}: unknown key {key!r}. {_nearest(key, [*SETTINGS, *modalities])}")
    if not parts:
        raise CaromError(f"{path}: nothing to measure. Add a table [{'], ['.join(modalities)}].")
    for name, part in parts.items():
        if not isinstance(part, dict):
            raise CaromError(f"{path}: {name} must be a table: [{name}].")
        for key in part.keys() - ModalityStudy.model_fields.keys():
            raise CaromError(f"{path}: unknown key {key!r} in [{name}]. {_nearest(key, ModalityStudy.model_fields)}")
        if empty := [key for key in ("sources", "targets", "attacks", "defences") if part.get(key) == []]:
            raise CaromError(
                f"{path}: {name}.{empty[0]} names none. Leave the key out for what is measured by default."
            )
    return {**settings, "modalities": parts}


def make_study(values: Mapping[str, Any], where: str = "study") -> Study:
    """Check the values; what is wrong is said in one line."""
    try:
        return Study.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        at = [str(part) for part in first["loc"] if part != "modalities"]
        said = f"{first['msg']} (given: {first.get('input')!r:.80})."
        if where == "flags":
            of_study = at[0] in Study.model_fields
            name = at[0] if of_study or len(at) < 2 else at[1]  # behind the modality
            raise CaromError(f"--{_FLAGS.get(name, name).replace('_', '-')}: {said}") from None
        raise CaromError(f"{where}: {'.'.join(at)}: {said}") from None


def _nearest(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(sorted(known))}."
