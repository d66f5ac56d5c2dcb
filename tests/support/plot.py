"""A plain line plot as SVG: enough to see whether something grows, and how."""

from __future__ import annotations

from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, BOTTOM = 760, 320, 60, 40
COLOURS = ("#1b6ca8", "#c0392b", "#2e8b57", "#8e44ad")


def plot(samples: list[tuple[float, str, float]], x_name: str, y_name: str) -> str:
    """Lines of `(x, name, y)`, one for each name."""
    right = max((x for x, _, _ in samples), default=1.0) or 1.0
    top = 1.1 * max((y for _, _, y in samples), default=1.0) or 1.0

    def at(x: float, y: float) -> str:
        across = LEFT + (WIDTH - LEFT - 20) * x / right
        down = HEIGHT - BOTTOM - (HEIGHT - BOTTOM - 30) * y / top
        return f"{across:.1f},{down:.1f}"

    size = f'width="{WIDTH}" height="{HEIGHT}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        f'<rect {size} fill="white"/>',
        f'<polyline fill="none" stroke="black" points="{at(0, top)} {at(0, 0)} {at(right, 0)}"/>',
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_name)}</text>',
        f'<text x="{LEFT}" y="18">{escape(y_name)}</text>',
    ]
    for part in range(5):
        y = top * part / 4
        x = right * part / 4
        across, down = at(x, y).split(",")
        parts.append(f'<text x="{LEFT - 6}" y="{down}" text-anchor="end">{_short(y)}</text>')
        parts.append(f'<text x="{across}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{_short(x)}</text>')
    for number, name in enumerate(sorted({name for _, name, _ in samples})):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(at(x, y) for x, which, y in samples if which == name)
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{points}"/>')
        parts.append(f'<text x="{LEFT + 160 * number + 200}" y="18" fill="{colour}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _short(number: float) -> str:
    """A number on an axis."""
    return f"{number:,.0f}" if number >= 100 or number == 0 else f"{number:.3g}"
