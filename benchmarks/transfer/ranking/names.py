"""How the ranking's attacks, configurations and numbers are written."""

from __future__ import annotations

from carom.common.report.values import rate

NAMES = {
    "bim": "I-FGSM",
    **{f"{name}-fgsm": name.upper() for name in ("mi", "ni", "emi", "vmi", "vni")},
    "pregradient-fgsm": "PI (pre-gradient)",
    **{"di-fgsm": "DI-MI", "ti-fgsm": "TI-MI", "di-ti-mi-fgsm": "DI-TI-MI", "si-ni-fgsm": "SI-NI"},
    "si-ni-ti-di-fgsm": "SI-NI-TI-DI",
    **{"admix": "Admix", "linbp": "LinBP", "ghost": "Ghost", "warp": "warp"},
}
"""How papers call them; the others are known by their own names in capitals."""

TITLES = {"resnet": "From the residual network", "vit": "From the vision transformer"}
"""Sources, in the order of the page."""


def called(attack: str) -> str:
    """The paper's name of an attack.

    >>> called("di-fgsm"), called("sia")
    ('DI-MI', 'SIA')
    """
    return NAMES.get(attack, attack.upper())


def configured(spec: str) -> str:
    """The parameters of a configuration.

    >>> configured("sia?steps=50&samples=1")
    'steps=50&samples=1'
    """
    return spec.partition("?")[2]


def signed(value: float | None) -> str:
    text = rate(value)
    return f"+{text}" if value is not None and value > 0 and text != ".00" else text
