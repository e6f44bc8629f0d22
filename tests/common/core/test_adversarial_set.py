"""A saved set is what its columns and metadata agree on; what it names is shown and never loaded."""

from __future__ import annotations

import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from carom.common.base.errors import CaromError
from carom.common.base.files import write_table
from carom.common.core.adversarial_set import AdversarialSet
from carom.common.study.replay import bound, load_set

FACTS = {"source": "m", "attack": "pgd", "threat": "linf 0.1", "modality": "image", "shape": "1,2,2", "dtype": "uint8"}
COLUMNS = {
    "id": ["a", "b"],
    "label": [0, 1],
    "success": [True, False],
    "status": [0, 1],
    **{name: [1, 2] for name in ("forward", "backward", "queries")},
    "input": [b"\x00\x01\x02\x03", b"\x04\x05\x06\x07"],
}


def saved(path, columns=None, facts=None):
    table = pa.table({**COLUMNS, **(columns or {})})
    write_table(path, table.replace_schema_metadata({**FACTS, **(facts or {})}))
    return path


def test_a_sound_set_is_read(tmp_path):
    found = AdversarialSet.saved(saved(tmp_path / "x.parquet"))
    assert found.stored.flatten().tolist() == list(range(8))
    assert (found.ids, found.labels.tolist(), found.success.tolist()) == (["a", "b"], [0, 1], [True, False])


WRONG = {
    "inputs of another length": ({"input": [b"\x00" * 4, b"\x00" * 5]}, {}),
    "a shape that is more than the inputs": ({}, {"shape": "999999999,99999"}),
    "a negative shape": ({}, {"shape": "-1,-4"}),
    "a shape of words": ({}, {"shape": "a,b"}),
    "an unknown type": ({}, {"dtype": "object"}),
    "texts for bytes": ({"input": ["ab", "cd"]}, {}),
    "bytes for texts": ({}, {"shape": None}),
    "labels that are texts": ({"label": ["0", "1"]}, {}),
    "negative labels": ({"label": [-1, 0]}, {}),
    "labels that are missing": ({"label": [None, 0]}, {}),
    "successes that are numbers": ({"success": [1, 0]}, {}),
    "a status that is none": ({"status": [0, 99]}, {}),
    "equal ids": ({"id": ["a", "a"]}, {}),
    "costs that are fractions": ({"queries": [0.5, 1.0]}, {}),
    "no examples": ({name: pa.array([], pa.array(values).type) for name, values in COLUMNS.items()}, {}),
    "no modality": ({}, {"modality": None}),
    "samples that are not finite": (
        {"input": [torch.tensor([float("nan")]).numpy().tobytes()] * 2},
        {"shape": "1", "dtype": "float32"},
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_columns_that_disagree_are_refused_by_name(what, tmp_path):
    columns, facts = WRONG[what]
    path = tmp_path / "x.parquet"
    facts = {**FACTS, **facts}
    table = pa.table({**COLUMNS, **columns})
    pq.write_table(table.replace_schema_metadata({k: v for k, v in facts.items() if v is not None}), path)
    with pytest.raises(CaromError, match=r"x\.parquet: not an adversarial set that carom saved \("):
        AdversarialSet.saved(path)


def test_a_small_file_does_not_fill_the_memory(tmp_path):
    """One text of a megabyte, three hundred times: each part of the file holds it once, and says how often."""
    path, part = tmp_path / "x.parquet", pa.table({"input": ["x" * (1 << 20)] * 30})
    with pq.ParquetWriter(path, part.schema, compression="zstd") as writer:
        for _ in range(10):
            writer.write_table(part)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(CaromError, match=r"x\.parquet: .*its rows take more than 256 MB"):
        AdversarialSet.saved(path)


@pytest.mark.parametrize(
    "attack", ["bae?lm=hf:./lm?trust_remote_code=true", "bae?lm=py:marker_lm:lm", "bae?lm=bert-tiny", "py:marker_lm:lm",
               "textfooler?vectors=/etc/passwd", "alzantot?lm=hf:org/name"]
)  # fmt: skip
def test_models_that_a_set_names_are_not_loaded(attack, tmp_path, monkeypatch):
    (tmp_path / "marker_lm.py").write_text("def lm(): pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    columns = {"input": ["a text", "another"]}
    facts = {**FACTS, "attack": attack, "threat": "words 0.3", "modality": "text"}
    del facts["shape"], facts["dtype"]
    write_table(tmp_path / "x.parquet", pa.table({**COLUMNS, **columns}).replace_schema_metadata(facts))
    found = load_set(tmp_path / "x.parquet")
    with pytest.raises(CaromError, match=r"are not followed .* \(--threat, --eps\)"):
        bound(found)
    assert "marker_lm" not in sys.modules


def test_of_balls_the_parameters_of_an_attack_do_not_matter(tmp_path):
    found = load_set(saved(tmp_path / "x.parquet", facts={"attack": "pgd?loss=py:marker_lm:lm"}))
    assert bound(found).eps == 0.1


def test_attacks_of_numbers_are_made_again(tmp_path):
    facts = {**FACTS, "attack": "textbugger?until=0.3", "threat": "words 0.3", "modality": "text"}
    del facts["shape"], facts["dtype"]
    columns = {**COLUMNS, "input": ["a text", "another"]}
    write_table(tmp_path / "x.parquet", pa.table(columns).replace_schema_metadata(facts))
    assert bound(load_set(tmp_path / "x.parquet")).max_changed == 0.3
