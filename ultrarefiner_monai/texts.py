"""Names that strangers have given, as people and programs may read them.

An id, a class or a file's name may hold anything: a line that looks like one of the log, a terminal's command, marks that
turn letters around, a spreadsheet's formula, or a page's script. Whatever shows or writes one goes through here.
"""

import csv
import html
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from numbers import Number
from typing import Any
from unicodedata import category

# What spreadsheets take for a formula at a cell's beginning (OWASP, CSV Injection), behind our own mark or not.
FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
MARK = "'"  # a spreadsheet takes what follows it for text


def printable(text: str) -> str:
    r"""The text in one line, with escapes such as `\n`, `\x1b` and `\u202e` for what is not seen when printed.

    That is: control characters and ends of lines, marks of direction, and halves of surrogate pairs. Spaces stay.
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() or category(letter) == "Zs" else _escaped(letter) for letter in text)


def lines_of(texts: Iterable[str]) -> str:
    """Lines for a terminal, each of them `printable`."""
    return "\n".join(map(printable, texts))


def printable_value(value: Any) -> Any:
    """What a template is given: texts `printable`, pages' own parts and other values as they are (Jinja's `finalize`)."""
    return printable(value) if type(value) is str else value


def markdown_cell(value: Any) -> str:
    """A value as the text of a cell, or of a line, of Markdown: no end of line, no end of the cell, and no HTML."""
    return html.escape(printable(str(value)), quote=False).replace("|", "\\|")


def csv_text(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Rows as CSV, the header first; `csv_value` gives a cell's text back.

    Texts that a spreadsheet would take for a formula begin with an apostrophe; numbers stay as they are. Halves of surrogate
    pairs, which no file in UTF-8 can hold, are escaped.

    Raises:
        ValueError: a row has a column that is not among `columns`.
    """
    stream = StringIO(newline="")
    writer = csv.DictWriter(stream, list(columns))  # lines end as in RFC 4180, for only then is a lone "\r" quoted
    writer.writerow({name: _cell(name) for name in columns})
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return stream.getvalue().encode(errors="backslashreplace").decode()


def csv_value(text: str) -> str:
    """The text of a cell as it was before `csv_text` marked it."""
    return text[1:] if text[:1] == MARK and FORMULA.match(text) else text


def _cell(value: Any) -> Any:
    return f"{MARK}{value}" if isinstance(value, str) and FORMULA.match(value) else value


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")


def guard_logs(package: str) -> None:
    """Make what the package's loggers put into their messages `printable`, whoever formats them, so that no name forges a line.

    Only what fills a message is changed: one that the package has written as a whole, such as a table, keeps its lines.
    """
    make = logging.getLogRecordFactory()

    def guarded(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        if record.name.split(".")[0] == package and isinstance(record.args, tuple):
            record.args = tuple(one if isinstance(one, Number) else printable(str(one)) for one in record.args)
        return record

    logging.setLogRecordFactory(guarded)
