"""Tables are read row by row and written as they were."""

from __future__ import annotations

import csv
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from carom.common.base.errors import BadInput, CaromError
from carom.text.data.tables import ENDINGS, Table, write_rows

ROWS = [
    {"text": 'a "good", film\nof two lines', "label": "1"},
    {"text": "שלום 😀\ttab", "label": "0"},
    {"text": "", "label": ""},
]


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_is_written_is_read_back(tmp_path, ending):
    path = tmp_path / "new" / f"a{ending}"
    assert write_rows(path, iter(ROWS), ["text", "label"], None) == 3
    table = Table(path)
    assert table.columns() == ["text", "label"]
    assert [row for _, row in table.rows()] == ROWS
    assert [p.name for p in path.parent.iterdir()] == [path.name], "no part of a file is left behind"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_of_every_system(tmp_path, end):
    (tmp_path / "a.csv").write_bytes(end.join(["text,label", "good,1", '"two', 'lines",0', ""]).encode())
    assert [row["text"] for _, row in Table(tmp_path / "a.csv").rows()] == ["good", f"two{end}lines"]


def test_a_bad_end_does_not_keep_the_beginning_from_being_read(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "good"}\n' * 3 + b"\xff\n")
    rows = Table(tmp_path / "a.jsonl").rows()
    assert [where.rpartition(" ")[2] for where, _ in islice(rows, 3)] == ["1", "2", "3"]
    with pytest.raises(BadInput, match="line 4: byte 0xff is not UTF-8"):
        next(rows)


def test_only_the_columns_asked_for_are_read_of_parquet_and_types_are_kept(tmp_path):
    schema = pa.schema([("text", pa.string()), ("score", pa.float32()), ("tags", pa.list_(pa.string()))])
    rows = [{"text": f"t{i}", "score": i / 2, "tags": ["a"] * (i % 3)} for i in range(2500)]
    write_rows(tmp_path / "a.parquet", iter(rows), [], schema)
    table = Table(tmp_path / "a.parquet")
    assert table.schema().equals(schema)
    assert next(table.rows(["text"])) == (f"{tmp_path / 'a.parquet'}, row 0", {"text": "t0"})
    assert sum(1 for _ in table.rows()) == pq.read_metadata(tmp_path / "a.parquet").num_rows == 2500


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.csv"
    write_rows(path, ROWS, ["text", "label"], None)
    before = path.read_bytes()

    def broken():
        yield ROWS[0]
        raise BadInput("row 1", "is bad", "Remove it.")

    with pytest.raises(BadInput):
        write_rows(path, broken(), ["text", "label"], None)
    assert path.read_bytes() == before
    with pytest.raises(CaromError, match="values of one column differ in type"):
        write_rows(tmp_path / "b.parquet", [{"a": 1}] * 1024 + [{"a": "x"}], [], None)
    assert not (tmp_path / "b.parquet").exists()
    assert csv.field_size_limit() == 131072


def lines_of(path, *lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Table(path)


def test_marks_of_a_tsv_without_quoting_are_part_of_its_texts(tmp_path):
    texts = ['"a film to see twice', "fine acting", 'or so the critics said"', 'he said "well" and left', '"all of it"']
    table = lines_of(tmp_path / "glue.tsv", "sentence\tlabel", *(f"{text}\t1" for text in texts))
    assert [row["sentence"] for _, row in table.rows()] == texts
    many = lines_of(tmp_path / "qqp.tsv", "id\tq1\tq2\tlabel", '0\t"why\thow\t1', '1\twhat\twhy"\t0')
    assert [row["q1"] for _, row in many.rows()] == ['"why', "what"]


def test_a_tsv_that_quotes_is_read_with_its_quotes(tmp_path):
    table = lines_of(tmp_path / "a.tsv", "text\tlabel", '"two\nlines and a ""mark"""\t1', '"a\ttab"\t0', "plain\t1")
    assert [row["text"] for _, row in table.rows()] == ['two\nlines and a "mark"', "a\ttab", "plain"]


def test_rows_do_not_vanish_inside_a_quotation(tmp_path):
    # One line has a field too many, so the file is read with quotes; the quotation would swallow a row.
    table = lines_of(tmp_path / "a.tsv", "text\tlabel", "a\tb\t1", '"open\t1', 'close"\t0')
    with pytest.raises(BadInput, match="line 2: 3 fields"):
        list(table.rows())
    table = lines_of(tmp_path / "b.tsv", "text\tlabel", '"open\t1', 'close"\t0', "a\tb\t1")
    with pytest.raises(BadInput, match="line 2: a quotation mark encloses 2 lines"):
        list(table.rows())


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "text;label\ngood;1\n", "separated by ';', not by ','"),
        ("a.csv", "text\tlabel\ngood\t1\n", r"separated by '\\t', not by ','"),
        ("a.tsv", "text,label\ngood,1\n", r"separated by ',', not by '\\t'"),
        ("a.csv", "text,label,label\ngood,1,0\n", "columns are called 'label'"),
    ],
)
def test_columns_that_no_reader_could_know_are_refused(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(BadInput, match=f"line 1: .*{said}"):
        Table(tmp_path / name).columns()


def test_a_small_file_of_very_many_rows_is_refused(tmp_path):
    one = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000_001, pa.int8()), ["a"])
    pq.write_table(pa.table({"text": one, "label": one}), tmp_path / "a.parquet")
    with pytest.raises(BadInput, match="claims 1000001 rows"):
        Table(tmp_path / "a.parquet").columns()
