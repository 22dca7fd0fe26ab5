"""Tables in Markdown, for results of any kind."""

from __future__ import annotations


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    """Formats a table in Markdown, with all columns but the first aligned to the right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    lines = ([cell.replace("|", r"\|") for cell in cells] for cells in (header, rule, *rows))
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
