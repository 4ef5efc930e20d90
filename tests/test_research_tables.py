"""Tables in four shapes from one literal example, and the delta of ours against the best other."""

from __future__ import annotations

import csv
import io

import pytest

from anonymotion.research.summaries import deltas
from anonymotion.research.tables import Cell, Heading, Row, Table, to_csv, to_latex, to_markdown, to_text

TABLE = Table(
    "Table 2",
    (Heading("action", "higher"), Heading("identity_label", "lower"), Heading("f", "higher", 2, 1.0)),
    (
        Row("original", (Cell(0.99), Cell(0.95), Cell(0.52)), ranked=False),
        Row("blur & Co", (Cell(0.3, 0.2, 0.4), Cell(0.4), Cell(0.45))),
        Row("strict", (Cell(0.85), Cell(0.1304), Cell(0.86))),
        Row("iid †", (Cell(0.5), Cell(0.1301), Cell(None))),
    ),
    ("chance is 11.1 %",),
)


def test_best_and_second_best_are_those_of_the_printed_numbers_of_ranked_rows() -> None:
    ranks = [[TABLE.rank(column, row) for column in range(3)] for row in TABLE.rows]
    # .1304 and .1301 are both printed as 13.0: both are best, and 40.0 is second
    assert ranks == [[None, None, None], [None, 1, 1], [0, 0, 0], [1, 0, None]]


def test_markdown() -> None:
    assert to_markdown(TABLE).splitlines() == [
        "**Table 2**",
        "",
        "| method | ↑ action | ↓ identity_label | ↑ f |",
        "|---|---|---|---|",
        "| original | 99.0 | 95.0 | 0.52 |",
        "| blur & Co | 30.0 [20.0, 40.0] | <u>40.0</u> | <u>0.45</u> |",
        "| strict | **85.0** | **13.0** | **0.86** |",
        "| iid † | <u>50.0</u> | **13.0** | – |",
        "",
        "- chance is 11.1 %",
    ]


def test_latex_is_escaped() -> None:
    text = to_latex(TABLE)
    assert "Method & $\\uparrow$action & $\\downarrow$identity\\_label & $\\uparrow$f \\\\" in text
    assert "blur \\& Co & 30.0 {\\tiny [20.0, 40.0]} & \\underline{40.0} & \\underline{0.45} \\\\" in text
    assert "iid $\\dagger$ & \\underline{50.0} & \\textbf{13.0} & -- \\\\" in text
    assert text.count("\\\\\n") == 5


def test_csv_has_all_digits() -> None:
    rows = list(csv.reader(io.StringIO(to_csv(TABLE))))
    assert rows[0] == [
        "method",
        *(f"{name}{end}" for name in ("action", "identity_label", "f") for end in ("", " low", " high")),
    ]
    assert rows[2] == ["blur & Co", "30", "20", "40", "40", "", "", "0.45", "", ""]
    assert rows[3][4] == "13.04"


def test_text_marks_with_signs() -> None:
    text = to_text(TABLE)
    assert "85.0*" in text
    assert "50.0+" in text
    assert text.rstrip().endswith("chance is 11.1 %")


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="1 cells for 2 columns"):
        Table("", (Heading("a"), Heading("b")), (Row("x", (Cell(1),)),))


def test_delta_is_ours_less_the_best_of_the_others() -> None:
    cells = [Cell(0.9), Cell(0.4), Cell(0.5), Cell(0.7), Cell(None)]
    ours, ranked = [False, False, False, True, True], [False, True, True, True, True]
    found = [cell.value for cell in deltas(cells, ours, ranked)]
    assert found[:3] == [None, None, None]
    assert found[3] == pytest.approx(0.2)
    assert found[4] is None


def test_there_is_no_delta_without_others() -> None:
    assert deltas([Cell(0.9), Cell(0.7)], [False, True], [False, True])[1].value is None
