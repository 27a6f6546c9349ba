"""Horizontal bars as an SVG, in the viewer's light or dark colour scheme."""

from html import escape

WIDTH, LEFT, RIGHT = 760, 132, 64  # of the image, of the labels, of the values after the bars
TOP, BAR, BAR_STEP, ROW_GAP, HEADING = 92, 10, 12, 8, 30

STYLE = """
  text { font: 12px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #334155 }
  .title { font-size: 17px; font-weight: 600; fill: #0f172a }
  .heading { font-size: 13px; font-weight: 600; fill: #0f172a;
             paint-order: stroke; stroke: #ffffff; stroke-width: 5px }
  .quiet { fill: #64748b }
  .value { font-size: 11px }
  .end { text-anchor: end }
  .middle { text-anchor: middle }
  .back { fill: #ffffff; stroke: #e2e8f0 }
  .grid { stroke: #e2e8f0 }
  .series0 { fill: #0f8b8d }
  .series1 { fill: #a8b3c4 }
  .series2 { fill: #e09f3e }
  .series3 { fill: #9a6fb0 }
  @media (prefers-color-scheme: dark) {
    text { fill: #cbd5e1 }
    .title, .heading { fill: #f1f5f9 }
    .heading { stroke: #0f172a }
    .quiet { fill: #94a3b8 }
    .back { fill: #0f172a; stroke: #1e293b }
    .grid { stroke: #273449 }
    .series0 { fill: #2bb8ba }
    .series1 { fill: #7586a0 }
  }
"""


def tick_step(most):
    """1, 2 or 5 times a power of ten, so that at most nine lines reach `most`."""
    step = 1e-6
    while True:
        for factor in (1, 2, 5):
            if most / (step * factor) <= 8:
                return step * factor
        step *= 10


def number(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def bars(title, subtitle, series, sections):
    """`series`: the names of the bars of a row, four at most. `sections`: a list of
    (heading, rows), a row being (label, values), a value for each of `series`."""
    most = max(value for _, rows in sections for _, values in rows for value in values)
    scale = (WIDTH - LEFT - RIGHT) / most
    marks = []
    y = TOP
    for heading, rows in sections:
        marks.append(f'<text class="heading" x="20" y="{y + 14}">{escape(heading)}</text>')
        y += HEADING
        for label, values in rows:
            height = BAR_STEP * len(values)
            marks.append(f'<text class="end" x="{LEFT - 10}" y="{y + height / 2 + 3:g}">'
                         f'{escape(label)}</text>')
            for i, value in enumerate(values):
                top, length = y + i * BAR_STEP, value * scale
                marks.append(f'<rect class="series{i}" x="{LEFT}" y="{top}" width="{length:.1f}" '
                             f'height="{BAR}" rx="2"/>')
                marks.append(f'<text class="value" x="{LEFT + length + 5:.1f}" y="{top + BAR - 1}">'
                             f'{number(value)}</text>')
            y += height + ROW_GAP
        y += ROW_GAP
    grid = []
    step = tick_step(most)
    for i in range(int(most / step) + 1):
        x = LEFT + i * step * scale
        grid.append(f'<line class="grid" x1="{x:.1f}" y1="{TOP - 4}" x2="{x:.1f}" y2="{y}"/>')
        grid.append(f'<text class="quiet middle" x="{x:.1f}" y="{y + 16}">{i * step:g}</text>')
    legend = []
    for i, name in enumerate(series):
        x = LEFT + i * 130
        legend.append(f'<rect class="series{i}" x="{x}" y="64" width="12" height="12" rx="2"/>')
        legend.append(f'<text x="{x + 18}" y="74">{escape(name)}</text>')
    height = y + 32
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img">',
        f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>",
        f'<rect class="back" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>',
        f'<text class="title" x="20" y="30">{escape(title)}</text>',
        f'<text class="quiet" x="20" y="50">{escape(subtitle)}</text>',
        *legend, *grid, *marks, "</svg>", ""])
