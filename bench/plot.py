"""Charts of horizontal bars, by matplotlib: the same file for the same figures."""

import matplotlib
from matplotlib.figure import Figure

WIDTH, TOP, BOTTOM, HEADING, ROW = 880, 60, 16, 40, 40  # in pixels, of which an SVG has 72 per inch
INK, QUIET, COLORS = "#0f172a", "#475569", ("#0f8b8d", "#a8b3c4")

matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "wick", "font.size": 12,
                            "text.color": INK, "ytick.color": INK})


def draw(path, title, series, panels, label, subtitle):
    """`panels`: by their headings the rows of each panel; these have by their names a value for
    each of `series`, which `label` writes beside its bar. The background is opaque, so that the
    text is legible on a dark page too."""
    lines = (len(panels) + 1) // 2
    rows = max(len(panel) for panel in panels.values())
    height = TOP + lines * (HEADING + ROW * rows) + BOTTOM
    figure = Figure(figsize=(WIDTH / 72, height / 72))
    figure.text(20 / WIDTH, 1 - 28 / height, title, fontsize=17, fontweight="bold")
    figure.text(20 / WIDTH, 1 - 50 / height, subtitle, color=QUIET)
    axes = figure.subplots(lines, 2, sharex=True, sharey=True, squeeze=False, gridspec_kw={
        "left": 120 / WIDTH, "right": 1 - 10 / WIDTH, "wspace": 0.05,
        "top": 1 - (TOP + HEADING) / height, "bottom": BOTTOM / height,
        "hspace": HEADING / (ROW * rows)}).flat
    for axis, (heading, panel) in zip(axes, panels.items()):
        axis.set_title(heading, loc="left", fontweight="bold", fontsize=13)
        for i, name in enumerate(series):
            values = [row[i] for row in panel.values()]
            bars = axis.barh([place + 0.36 * i for place in range(len(panel))], values, height=0.32,
                             color=COLORS[i], label=name)
            axis.bar_label(bars, [label(value) for value in values], padding=4, fontsize=11)
        axis.set_yticks([place + 0.18 for place in range(len(panel))], panel)
        axis.tick_params(length=0, labelbottom=False)
        axis.spines[:].set_visible(False)
    axis.invert_yaxis()
    most = max(value for panel in panels.values() for row in panel.values() for value in row)
    axis.set(xlim=(0, 1.12 * most))  # leaves place for the last label
    figure.legend(*axis.get_legend_handles_labels(), loc="upper right", ncol=2, frameon=False)
    figure.savefig(path, metadata={"Date": None, "Creator": None, "Title": title})
