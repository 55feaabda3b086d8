from gan.text_tables import format_markdown, format_table


def test_columns_are_aligned():
    rows = [["", "fid"], ["adam", "12.5"], ["x", ""]]
    assert format_table(rows, "lr") == "       fid\nadam  12.5\nx"
    assert format_table(rows, "rl") == "      fid\nadam  12.5\n   x"


def test_markdown():
    assert format_markdown([["a", "b"], ["1", "2"]]) == "| a | b |\n|---|---|\n| 1 | 2 |"
