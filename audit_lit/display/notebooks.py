"""What a notebook shows of a value: a small table of inert HTML, without style or script."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup

from audit_lit.display.inert import cut, inert


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[object]], note: str = "") -> str:
    """Return an HTML table; whatever is in it is escaped, and characters that show nothing are spelled out."""
    body = Markup("").join(_row("td", row) for row in rows)
    caption = Markup("<caption style='text-align:left'><b>{}</b><br>{}</caption>").format(_shown(title), _shown(note))
    return str(Markup("<table>{}{}{}</table>").format(caption, _row("th", head), body))


def _row(tag: str, cells: Sequence[object]) -> Markup:
    marked = (Markup(f"<{tag} style='text-align:left'>{{}}</{tag}>").format(_shown(cell)) for cell in cells)
    return Markup("<tr>{}</tr>").format(Markup("").join(marked))


def _shown(cell: object) -> str:
    return "-" if cell is None else inert(cut(str(cell)))


def brief(text: str, limit: int = 60) -> str:
    """Return the quoted beginning of a text, for one line."""
    return repr(text if len(text) <= limit else f"{text[: limit - 3]}...")
