"""Tables of texts as files: CSV, TSV, JSON lines and Parquet, read row by row and written as they were read.

Reading is strict: what is not UTF-8, not JSON or not Parquet is an error that names file and line. Nothing but the row
at hand is in memory (of Parquet, a batch of rows).
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carom.common.base.errors import BadInput, CaromError
from carom.text.pairs import is_pair

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

SEPARATED = {".csv": ",", ".tsv": "\t"}
JSON_LINES = (".jsonl", ".ndjson")
ENDINGS = (*SEPARATED, *JSON_LINES, ".parquet")
MANY, ROWS_A_BYTE = 1_000_000, 10
"""A file of more rows than this, and of so many for each of its bytes, repeats a few to fill the memory."""
TOGETHER = 1024  # rows of Parquet read or written at once

Row = dict[str, Any]


def is_table(path: Path) -> bool:
    return path.suffix.lower() in ENDINGS


@dataclass(frozen=True)
class Table:
    """A file with named columns."""

    path: Path

    def __post_init__(self) -> None:
        if not is_table(self.path):
            raise CaromError(f"{self.path}: give a table that ends in {', '.join(ENDINGS)}.")

    @property
    def ending(self) -> str:
        return self.path.suffix.lower()

    def columns(self) -> list[str]:
        """Names of the columns; of JSON lines, those of the first row. Empty for an empty file."""
        if self.ending == ".parquet":
            with _parquet(self.path) as file:
                return list(file.schema_arrow.names)
        if self.ending in SEPARATED:
            return next(_fields(self.path), (0, []))[1]
        return list(next((row for _, row in _json_rows(self.path)), {}))

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[tuple[str, Row]]:
        """(where, row) of each row: where is what an error about it names. Of Parquet only `columns` are read."""
        if self.ending == ".parquet":
            yield from _parquet_rows(self.path, columns)
            return
        for number, row in _separated(self.path) if self.ending in SEPARATED else _json_rows(self.path):
            yield f"{self.path}, line {number}", row

    def schema(self) -> pa.Schema | None:
        """The types of the columns, where the file says them."""
        if self.ending != ".parquet":
            return None
        with _parquet(self.path) as file:
            return file.schema_arrow


def _parquet(path: Path) -> pq.ParquetFile:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        rows = file.metadata.num_rows
        if rows > MANY and rows > ROWS_A_BYTE * path.stat().st_size:
            raise BadInput(str(path), f"claims {rows} rows, which are next to nothing", "Save only rows of their own.")
        return file
    except OSError as error:
        raise BadInput(str(path), f"cannot be read ({error.strerror or error})", "Check its permissions.") from error
    except pa.ArrowInvalid as error:
        said = str(error).splitlines()[0]
        raise BadInput(str(path), f"not a Parquet file ({said})", "Write it with pyarrow or pandas.") from error


def _parquet_rows(path: Path, columns: Sequence[str] | None) -> Iterator[tuple[str, Row]]:
    import pyarrow as pa

    number = 0
    with _parquet(path) as file:
        try:
            for batch in file.iter_batches(TOGETHER, columns=columns):
                for row in batch.to_pylist():
                    yield f"{path}, row {number}", row
                    number += 1
        except (OSError, pa.ArrowInvalid, UnicodeDecodeError) as error:
            said = str(error).splitlines()[0]
            raise BadInput(f"{path}, after row {number}", f"damaged ({said})", "Write the file again.") from error


def _lines(path: Path) -> Iterator[str]:
    """The lines of a text file with their ends; a byte order mark is dropped."""
    try:
        with path.open("rb") as file:
            for number, data in enumerate(file, 1):
                try:
                    yield data.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise BadInput(
                        f"{path}, line {number}",
                        f"byte 0x{data[error.start]:02x} is not UTF-8",
                        "Save the file as UTF-8.",
                    ) from error
    except OSError as error:
        raise BadInput(str(path), f"cannot be read ({error.strerror})", "Check its permissions.") from error


def read_text_file(path: Path) -> str:
    """A whole file as text."""
    return "".join(_lines(path))


def _parts(path: Path) -> Iterator[str]:
    """The lines of a file that may end as those of old Macs."""
    return (part for line in _lines(path) for part in re.split(r"(?<=\r)(?!\n|$)", line))


_QUOTED = re.compile(r'"(?:[^"]|"")*"')


def _is_quoted(path: Path) -> bool:
    """Whether quotation marks enclose fields, or are part of texts as in a TSV that knows no quoting (GLUE's).

    They are part of texts where every line has as many fields as the header, and some field holds marks that no writer
    who quotes would leave.
    """
    separator, count, strange = SEPARATED[path.suffix.lower()], 0, False
    if separator == ",":
        return True
    for part in _parts(path):
        fields = part.rstrip("\r\n").split(separator)
        if fields == [""]:
            continue
        count = count or len(fields)
        if len(fields) != count:
            return True
        strange = strange or any('"' in field and not _QUOTED.fullmatch(field) for field in fields)
    return not strange


def write_text(text: str, space: Any, path: Path) -> Path:
    """Write one text as PATH.txt, as it is. Raises CaromError for a pair of texts, which is no single one."""
    if is_pair(text):
        raise CaromError(f"{path}: a pair of texts is no file of one text.")
    file = path.with_name(f"{path.name}.txt")
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    return file


def _fields(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, fields) of every row of a CSV or TSV file, the header first; empty lines are left out."""
    separator, quoted = SEPARATED[path.suffix.lower()], _is_quoted(path)
    taken: list[str] = []  # lines of the row at hand

    def lines() -> Iterator[str]:
        for part in _parts(path):
            taken.append(part)
            yield part

    reader = csv.reader(
        lines(), delimiter=separator, strict=True, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    )
    # A field too long for us is refused by its row, not by the reader.
    before = csv.field_size_limit(path.stat().st_size + 1 if path.exists() else 1)
    header = True
    try:
        for row in reader:
            if header and row:
                _check_header(path, separator, row)
                header = False
            if separator == "\t" and len(taken) > 1 and all(line.count("\t") == len(row) - 1 for line in taken):
                raise BadInput(
                    f"{path}, line {reader.line_num - len(taken) + 1}",
                    f"a quotation mark encloses {len(taken)} lines, each of which has all fields",
                    "Save the table as JSON lines, or give every line as many fields as the header to have it read "
                    "without quotes.",
                )
            taken.clear()
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise BadInput(f"{path}, line {reader.line_num}", str(error), "Correct the quotes.") from error
    finally:
        csv.field_size_limit(before)


def _check_header(path: Path, separator: str, names: Sequence[str]) -> None:
    """Refuse a table whose columns stand apart by something else, or of which two are called the same."""
    if len(names) == 1 and (other := next((mark for mark in ",;\t|" if mark in names[0] and mark != separator), None)):
        raise BadInput(
            f"{path}, line 1",
            f"its columns are separated by {other!r}, not by {separator!r}",
            "Save it as CSV with commas, as TSV with tabs, or as JSON lines.",
        )
    if twice := [name for name in dict.fromkeys(names) if name and names.count(name) > 1]:
        raise BadInput(f"{path}, line 1", f"two columns are called {twice[0]!r}", "Rename one.")


def _separated(path: Path) -> Iterator[tuple[int, Row]]:
    """(line, row) of a CSV or TSV file with a header."""
    fields = _fields(path)
    _, header = next(fields, (0, []))
    for number, row in fields:
        if len(row) != len(header):
            raise BadInput(
                f"{path}, line {number}",
                f"{len(row)} fields where the header has {len(header)}",
                "Put fields that hold separators or line breaks in double quotes.",
            )
        yield number, dict(zip(header, row, strict=True))


def _json_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """(line, object) of a file with one JSON object a line."""
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{path}, line {number}", f"not JSON ({error})", "Write one object a line.") from error
        if not isinstance(row, dict):
            raise BadInput(f"{path}, line {number}", f"a JSON {type(row).__name__}", "Write one object a line.")
        yield number, row


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str], schema: pa.Schema | None) -> int:
    """Write a table as its ending says, row by row, and say how many rows it has. `columns` are those of CSV, `schema`
    that of Parquet (by default that of the first rows). The file appears when it is complete."""
    ending = Table(path).ending
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        if ending == ".parquet":
            count = _write_parquet(part, rows, schema)
        elif ending in SEPARATED:
            count = _write_separated(part, rows, columns, SEPARATED[ending])
        else:
            count = 0
            with part.open("w", encoding="utf-8", newline="\n") as file:
                for row in rows:
                    file.write(json.dumps(dict(row), ensure_ascii=False, default=str) + "\n")
                    count += 1
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return count


def _write_separated(path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str], separator: str) -> int:
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=separator, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            writer.writerow(["" if row.get(name) is None else row[name] for name in columns])
            count += 1
    return count


def _write_parquet(path: Path, rows: Iterable[Mapping[str, Any]], schema: pa.Schema | None) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows, count = iter(rows), 0
    first = list(islice(rows, TOGETHER))
    if schema is None:
        schema = pa.Table.from_pylist([dict(row) for row in first]).schema
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        rows = chain(first, rows)
        while part := list(islice(rows, TOGETHER)):
            try:
                writer.write_table(pa.Table.from_pylist([dict(row) for row in part], schema=schema))
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                raise CaromError(
                    f"{path.name.removeprefix('.').removesuffix('.part')}: values of one column differ in type "
                    f"({str(error).splitlines()[0]}). Write JSON lines instead."
                ) from error
            count += len(part)
    return count
