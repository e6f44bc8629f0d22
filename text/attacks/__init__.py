"""Attacks on texts, by name."""

from __future__ import annotations

from carom.common.attacks.catalogue.base import attacks_within
from carom.text.attacks.greedy import GREEDY
from carom.text.attacks.recipes import RECIPES
from carom.text.attacks.spelling import SPELLING
from carom.text.attacks.triggers import TRIGGERS
from carom.text.attacks.vector_leaps import LEAPS
from carom.text.threats import WordBudget

THREATS = {"words": WordBudget}
ATTACKS = attacks_within(THREATS, GREEDY, SPELLING, RECIPES, LEAPS, TRIGGERS)
