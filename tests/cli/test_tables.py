from io import StringIO

from rich.console import Console

from cli.tables import print_table

PATH = "a long folder/" * 6 + "a.jpg"


def table(*, terminal: bool) -> str:
    file = StringIO()
    print_table(Console(file=file, width=40, force_terminal=terminal), ["image", "bytes"], [[PATH, "1,234"]])
    return file.getvalue()


def test_a_terminal_shows_all_of_a_long_path():
    cells = [line.split("│")[1].strip() for line in table(terminal=True).splitlines() if "│" in line]
    assert "".join(cells).replace(" ", "") == PATH.replace(" ", "")


def test_a_program_reads_one_line_a_row_with_tabs_between_the_cells():
    assert table(terminal=False) == f"image\tbytes\n{PATH}\t1,234\n"
