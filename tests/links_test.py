"""Each file that a page names exists: the targets of relative links, and what stands in
backticks and begins with a folder of the repository."""

import glob
import pathlib
import re
import sys

REPO = pathlib.Path(__file__).resolve().parent.parent
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
PATH = re.compile(r"`(\w[\w-]*/[\w./*-]*)`")


def missing_in(page):
    text = page.read_text()
    for target in LINK.findall(text):
        if not (page.parent / target).exists():
            yield target
    for path in PATH.findall(text):
        folder = path.split("/")[0]
        if folder == "build" or path.startswith("guest-images/out") or not (REPO / folder).is_dir():
            continue
        # NAME stands for any name. The end may be left out, as in tests/layering_test.
        if not glob.glob(f"{REPO / path.replace('NAME', '*')}*"):
            yield path


pages = [REPO / "README.md", *sorted(REPO.glob("docs/**/*.md"))]
missing = [f"{page.relative_to(REPO)}: {name}" for page in pages for name in missing_in(page)]
if len(pages) < 10:
    sys.exit(f"looked in the wrong place: {REPO}")
if missing:
    sys.exit("no such file:\n" + "\n".join(missing))
