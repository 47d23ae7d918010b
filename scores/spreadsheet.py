"""Cells of CSV files that people open in spreadsheets."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Iterable, Sequence
from io import StringIO

# A spreadsheet may run a cell with such a beginning as a formula. OWASP, "CSV Injection".
FORMULA_STARTS = frozenset("=+-@\N{MINUS SIGN}")


def escape_formula(text: str) -> str:
    """`text` as a cell that no spreadsheet runs: an apostrophe precedes the beginning of a formula.

    A spreadsheet for East Asian text reads a full-width `＝` as `=`, and some skip blanks in front. Compatibility
    forms are what NFKC maps to the plain sign, so that no list of them can miss one.
    """
    begins = unicodedata.normalize("NFKC", text.lstrip()[:1])
    is_formula = begins in FORMULA_STARTS or text.startswith(("\t", "\r", "\n"))
    return f"'{text}" if is_formula else text


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A small file: lines of RFC 4180. `None` is an empty cell, and no text in it is a formula."""
    text = StringIO()
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows([escape_formula(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return text.getvalue()
