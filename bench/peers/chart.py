"""Bars as an SVG file, by hand: there is no plotting library among our dependencies, and bars need none."""

from __future__ import annotations

from collections.abc import Mapping
from xml.sax.saxutils import escape

LEFT, WIDE, BAR, GAP, TOP = 180, 520, 22, 34, 46


def bars(title: str, groups: Mapping[str, Mapping[str, float]]) -> str:
    """One block of bars per group, each on a scale of its own; NaN and none are left out."""
    parts, y = [f'<text x="10" y="24" font-size="16" font-weight="bold">{escape(title)}</text>'], TOP
    for group, values in groups.items():
        known = {name: value for name, value in values.items() if value > 0}
        parts.append(f'<text x="10" y="{y + 14}" font-weight="bold">{escape(group)}</text>')
        y += GAP - 8
        for name, value in known.items():
            length = WIDE * value / max(known.values())
            fill = "#2b6cb0" if name.startswith("ours") else "#a0aec0"
            parts.append(f'<text x="{LEFT - 8}" y="{y + 16}" text-anchor="end">{escape(name)}</text>')
            parts.append(f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{fill}"/>')
            parts.append(f'<text x="{LEFT + length + 6:.1f}" y="{y + 16}">{value:,.{2 if value < 10 else 0}f}</text>')
            y += BAR + 6
        y += 14
    size = f'width="{LEFT + WIDE + 90}" height="{y}"'
    style = 'xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="13"'
    return f'<svg {style} {size}><rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'
