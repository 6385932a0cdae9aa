"""Tables of query points from spreadsheets of any country are read right, or refused with what stays open."""

import codecs

import numpy as np
import pytest

from t4g_tracker.datatypes import Video
from t4g_tracker.errors import QueryError, TrackerWarning
from t4g_tracker.inputs.queries import read_queries

VIDEO = Video(np.zeros((80, 36, 64, 3), np.uint8), 24.0, "dog", "dog.mp4")
ROWS = [[0, 12.5, 30], [79, 1, 2.25]]


def read(tmp_path, data, name="q.csv"):
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    queries = read_queries(path, VIDEO)
    return [[frame, *xy] for frame, xy in zip(queries.frame.tolist(), queries.xy.tolist(), strict=True)], (
        queries.names
    )


GERMAN = "frame;x;y;name\r\n0;12,5;30;Nase\r\n79;1;2,25;\r\n"


@pytest.mark.parametrize(
    "text",
    [
        "frame;x;y\n0;12,5;30\n79;1;2,25\n",
        "frame;x;y\n0;12.5;30\n79;1;2.25\n",
        "0;12,5;30\n79;1;2,25",
        "frame\tx\ty\n0\t12.5\t30\n79\t1\t2.25\n",
        "0\t12,5\t30\n79\t1\t2,25\n",
        "sep=;\r\nframe;x;y\r\n0;12,5;30\r\n79;1;2,25\r\n",
        "sep=,\nframe,x,y\n0,12.5,30\n79,1,2.25\n",
        "SEP=|\n0|12.5|30\n79|1|2.25\n",
        "# clicked in a viewer, by me\n#\nframe,x,y\n0,12.5,30\n# the last frame\n79,1,2.25\n",
        "# frame,y,x\n0,30,12.5\n79,2.25,1\n",  # numpy.savetxt(header="frame,y,x", delimiter=",")
        "# x y frame\n12.5 30 0\n1 2.25 79\n",
        "0.000e+00 1.250e+01 3.000e+01\n7.9e+01 1.0e+00 2.25e+00\n",  # numpy.savetxt
        "0  12,5  30\n79 1  2,25\n",
        ",frame,x,y\n0,0,12.5,30\n1,79,1,2.25\n",  # pandas
        "Unnamed: 0;frame;x;y\n3;0;12,5;30\n7;79;1;2,25\n",
        '" Y ", FRAME ,"x"\r\n"30","0","12.5"\r\n2.25,79,1\r\n',
        "frame,x,y,,\r\n0,12.5,30,,\r\n,,,,\r\n\r\n79,1,2.25\r\n,,,,\r\n",
        "frame,x,y\r0,12.5,30\r79,1,2.25\r",
        "frame,x,y,name\n0,12.5,30\n79,1,2.25,\n",
        "+0,1.25e1,30.\n79,1,2.25",
    ],
)
def test_tables_of_all_countries_and_programs_give_the_same_points(tmp_path, text):
    for name in ("q.csv", "q.tsv", "q.txt"):
        assert read(tmp_path, text, name) == (ROWS, ("point-0", "point-1"))


@pytest.mark.parametrize(
    "data",
    [
        codecs.BOM_UTF16_LE + GERMAN.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + GERMAN.encode("utf-16-be"),
        codecs.BOM_UTF32_LE + GERMAN.encode("utf-32-le"),
        codecs.BOM_UTF8 + GERMAN.encode(),
        codecs.BOM_UTF8 + b"sep=;\r\n" + GERMAN.encode(),
    ],
)
def test_the_encodings_of_excel_are_read(tmp_path, data):
    assert read(tmp_path, data) == (ROWS, ("Nase", "point-1"))


def test_the_csv_of_excel_on_windows_is_read_with_a_warning_that_shows_the_names(tmp_path):
    text = GERMAN.replace("Nase", "Öhrchen – links").encode("cp1252")
    with pytest.warns(TrackerWarning, match=r"q\.csv: .*cp1252\), with the names Öhrchen – links; if these"):
        assert read(tmp_path, text) == (ROWS, ("Öhrchen – links", "point-1"))


@pytest.mark.filterwarnings("error")
def test_code_pages_do_not_matter_in_comments(tmp_path):
    assert read(tmp_path, ("# Öhrchen\n" + GERMAN).encode("cp1252")) == (ROWS, ("Nase", "point-1"))


def test_a_name_may_hold_separators_and_begin_like_a_comment(tmp_path):
    table = 'name,frame,x,y\n"left; the eye, mine",0,12.5,30\n#2,79,1,2.25\n'
    assert read(tmp_path, table) == (ROWS, ("left; the eye, mine", "#2"))
    assert read(tmp_path, "0,12.5,30,a;b\n79,1,2.25,c d") == (ROWS, ("a;b", "c d"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("frame;x;y\n0;12,5;30\n79;1;2.25\n", "line 2: has the number 12,5 with a comma, but line 3"),
        ("0\t1,234\t2\n", "line 1: 1,234 may have a decimal comma or mean thousands"),
        ('frame,x,y\n0,"12,5",30\n', "line 2, column 2 (x): must be a number, got the text '12,5'; write"),
        ("frame;x;y\n0;1.234,5;30\n", "line 2, column 2 (x): must be a number, got the text '1.234,5'"),
        ("0,0,12.5,30\n1,79,1,2.25\n", "has four columns of numbers, of which one may be an index"),
        (",frame,x,y\nnose,0,12.5,30\n", "line 2, column 1: holds 'nose', but the column has no name"),
        ("frame,,x,y\n0,0,12.5,30\n", "line 1, column 2: has no name"),
        ("12.5,30\n", "line 1: has 2 columns, the frame is missing; put it first"),
        ("x,y\n12.5,30\n", "line 1: has no column frame; add it, with 0 for the first frame"),
        ("1_0,12,30\n", "line 1, column 1 (frame): must be a number, got the text '1_0'"),
        ("0x1,12,30\n", "must be a number, got the text '0x1'"),
        ("\u0661,12,30\n", "must be a number"),
        ("frame,x,y\n0,nan,30\n", "query point 0 on line 2: x must be a finite number"),
        ("frame,x,y\n\n0,12,30,,7\n", "line 3: has 5 columns, expected 3 (frame,x,y)"),
        ("0,12,30,left,eye\n", "line 1: has 5 columns, expected 3 or 4"),
        ("frame,x,y,name\n0,12,30,left,eye\n", "line 2: has 5 columns, expected 3 or 4"),
        ('0,1,2\n# see, "a\n0,3,4\n# b"\n', "line 2: is a comment with quotes up to line 4"),
        ('0,1,2,"two\nlines"\n', "its name has the character U+000A"),
        ("name,point,frame,x,y,visible,confidence\nnose,0,0,1,2,1,1\n", "'point' is not a field"),
    ],
)  # fmt: skip
def test_what_stays_open_is_refused_with_its_place(tmp_path, text, said):
    with pytest.raises(QueryError) as caught:
        read(tmp_path, text)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'q.csv'}: ")
    assert said in message
    assert "\n" not in message


def test_files_that_are_no_text_say_so(tmp_path):
    for data, said in (
        (b"PK\x03\x04 a workbook", "is a workbook or an archive, no text; export it as CSV"),
        ("0,12,30".encode("utf-16-le"), "holds NUL characters, as UTF-16 without its mark does"),
        ("0,12,30,né\x01".encode("cp1252"), "is not UTF-8 text (byte 9)"),
        (b"\x89PNG\r\n\x1a\n\r\x00", "is not UTF-8 text (byte 0)"),
        (codecs.BOM_UTF16_LE + b"\x00\xd8", "is not UTF-16 text"),
    ):
        with pytest.raises(QueryError) as caught:
            read(tmp_path, data)
        assert said in str(caught.value)
