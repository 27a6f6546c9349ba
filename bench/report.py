#!/usr/bin/python3
"""Makes docs/virtio-against-*.md and their charts from the templates (bench/templates) and
the figures that bench/blk and bench/net measured (docs/figures). It measures nothing.

    bench/report.py           writes them; needs python3-matplotlib
    bench/report.py --check   fails if they are not what the figures and templates give"""
# The interpreter above is Debian's, which has Debian's matplotlib.

import json
import pathlib
import re
import string
import sys

REPO = pathlib.Path(__file__).resolve().parent.parent
DOCS = REPO / "docs"
VMMS = ("wick", "QEMU")


def table(head, rows):
    return "\n".join(["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
                     + ["| " + " | ".join(row) + " |" for row in rows])


def cell(value, digits, base=None):
    """The value, and in brackets its ratio to `base` if there is one."""
    return f"{value:.{digits}f}" + (f" ({value / base:.2f})" if base else "")


# --- bench/blk: {"disks": {disk: {machine: {"us": {pattern: µs}, "exits": n, "user": n}}}}

PATTERNS = ("4 KiB read", "4 KiB write", "4 KiB read, depth 32", "4 KiB write, depth 32",
            "1 MiB read", "1 MiB write")


def best(figures, disk, vmm):
    """By pattern: the least that a machine of this VMM took with this disk. Empty if none ran."""
    found = [machine["us"] for name, machine in figures["disks"][disk].items() if vmm in name]
    return {pattern: min(us[pattern] for us in found) for pattern in PATTERNS if found}


def ide_tables(figures):
    requests, ratios = [], []
    for disk, machines in figures["disks"].items():
        for name, machine in machines.items():
            base = best(figures, disk, "QEMU") if "wick" in name else {}
            us = [cell(machine["us"][pattern], 1, base.get(pattern)) for pattern in PATTERNS]
            requests.append([disk, name, *us, cell(machine["exits"], 1), cell(machine["user"], 1)])
    for vmm in VMMS:
        ide, virtio = best(figures, "IDE, raw", vmm), best(figures, "virtio, raw", vmm)
        if ide and virtio:
            ratios.append([vmm] + [cell(ide[pattern] / virtio[pattern], 1) for pattern in PATTERNS])
    return {"requests_table": table(["disk", "VMM", *PATTERNS, "exits", "to user space"], requests),
            "ratios_table": table(["VMM", *PATTERNS], ratios)}


def ide_bars(figures):
    return {pattern: {disk: [best(figures, disk, vmm)[pattern] for vmm in VMMS]
                      for disk in figures["disks"]}
            for pattern in PATTERNS if "4 KiB" in pattern}


# --- bench/net: {"cards": {"VMM card": {key: figure}}, "links": {VMM: {link: MB/s}}}

# Of a card: key, head of the column, digits, and whether wick's is compared with QEMU's.
CARD_COLUMNS = [("host to guest", "host to guest, MB/s", 0, True),
                ("guest to host", "guest to host, MB/s", 0, True),
                ("ping", "ping, µs", 1, True),
                ("host to guest, exits", "exits per 64 KiB in", 2, False),
                ("host to guest, user", "to user space", 2, False),
                ("guest to host, exits", "exits per 64 KiB out", 2, False),
                ("guest to host, user", "to user space", 2, False),
                ("ping, exits", "exits per ping", 1, False)]


def e1000_tables(figures):
    cards = []
    for name, card in figures["cards"].items():
        base = figures["cards"].get(name.replace("wick", "QEMU"), {}) if "wick" in name else {}
        cards.append([name] + [cell(card[key], digits, base.get(key) if compared else None)
                               for key, _, digits, compared in CARD_COLUMNS])
    links = [[vmm, cell(link["virtio"], 0), cell(link["e1000"], 0),
              cell(link["virtio"] / link["e1000"], 1)] for vmm, link in figures["links"].items()]
    return {"cards_table": table(["card", *(head for _, head, _, _ in CARD_COLUMNS)], cards),
            "links_table": table(["VMM", "virtio, MB/s", "e1000, MB/s", "virtio against e1000"], links)}


def e1000_bars(figures):
    return {way: {card: [1000 / figures["cards"][f"{vmm} {card}"][way] for vmm in VMMS]
                  for card in ("virtio", "virtio, vhost", "e1000")}
            for way in ("host to guest", "guest to host")}


# --- the documents

# By name: what makes its tables, what makes the bars of its chart, the chart's title and unit.
DOCUMENTS = {
    "virtio-against-ide": (ide_tables, ide_bars, "What a 4 KiB request costs",
                           "thousands of instructions"),
    "virtio-against-e1000": (e1000_tables, e1000_bars, "What a byte costs", "instructions")}
SUMMARY = "virtio-against-emulated"  # has the text of them all


def print_tables(name, figures):
    for text in DOCUMENTS[name][0](figures).values():
        print(f"\n{text}", flush=True)


def label(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def read_figures(name):
    return json.loads((DOCS / f"figures/{name}.json").read_text())


def fill_template(name, values):
    template = (REPO / f"bench/templates/{name}.md.in").read_text()
    return string.Template(template).substitute(values)


def make_texts():
    """By name: the text of each document."""
    texts, sections = {}, {}
    for name, (tables, *_) in DOCUMENTS.items():
        figures = read_figures(name)
        texts[name] = fill_template(name, figures | tables(figures))
        # A level lower, as a part of the summary.
        sections[name.replace("-", "_")] = re.sub("^#", "##", texts[name].strip(), flags=re.MULTILINE)
    return texts | {SUMMARY: fill_template(SUMMARY, sections)}


def write():
    import plot  # needs matplotlib, which the rest does without
    for name, text in make_texts().items():
        (DOCS / f"{name}.md").write_text(text)
    for name, (_, bars, title, unit) in DOCUMENTS.items():
        plot.draw(DOCS / f"{name}.svg", title, VMMS, bars(read_figures(name)), label,
                  f"{unit} of guest, VMM and host kernel together; shorter is better")


def check():
    """The files that write() would change. Of a chart: the numbers at its bars."""
    stale = [f"{name}.md" for name, text in make_texts().items()
             if (DOCS / f"{name}.md").read_text() != text]
    for name, (_, bars, *_) in DOCUMENTS.items():
        numbers = re.findall(r">([\d.]+)</text>", (DOCS / f"{name}.svg").read_text())
        if numbers != [label(value) for rows in bars(read_figures(name)).values()
                       for values in zip(*rows.values()) for value in values]:
            stale.append(f"{name}.svg")
    return stale


def main():
    if sys.argv[1:] == ["--check"]:
        if stale := check():
            sys.exit(f"not what figures and templates give: {', '.join(stale)}; run bench/report.py")
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        write()


if __name__ == "__main__":
    main()
