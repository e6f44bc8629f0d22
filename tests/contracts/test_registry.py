"""The contracts run over every registered attack, in every kind of threat it names."""

from __future__ import annotations

from carom.common.modality.registry import list_attacks


def test_every_modality_lists_its_attacks(unlisted):
    assert not unlisted


def test_every_registered_attack_is_under_contract(all_cases):
    covered = {(case.world.modality, case.info.name, case.kind) for case in all_cases}
    assert covered >= {(modality, info.name, kind) for modality, info in list_attacks() for kind in info.threats}


def test_every_attack_names_its_paper_and_cost(all_cases):
    for info in {case.info.name: case.info for case in all_cases}.values():
        assert any(year in info.reference for year in map(str, range(1990, 2030))), info.name
        assert info.summary
        assert info.cost
