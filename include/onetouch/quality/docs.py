"""The Data Docs stored in the lake: pages that load nothing from other hosts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from onetouch.lake import Lake
from onetouch.ledger import Run

# The generated pages load styles, scripts and a logo from seven hosts. Without a network they lose the pass/fail marks;
# with one, they reveal to these hosts who opens them; and served by Airflow, foreign scripts would run in its origin.
_FOREIGN = re.compile(
    r"""<script\b.*?</script>|<link\b[^>]*https?://[^>]*>|<img\b[^>]*https?://[^>]*>|url\('https?://[^']*'\)""",
    re.DOTALL | re.IGNORECASE,
)

_HEAD = """<head>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'self' 'unsafe-inline'">
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 62rem; margin: 0 auto; padding: 1rem; }
table { border-collapse: collapse; } td, th { padding: .3rem .8rem; border-bottom: 1px solid #ddd; text-align: left; }
.fa-check-circle::before { content: "✓"; color: #00664b; font-weight: 700; }
.fa-times::before { content: "✗"; color: #b00020; font-weight: 700; }
footer, .modal, .card, .fixed-bottom, .ge-walkthrough-modal { display: none; }
</style>"""


def publish(folder: Path, lake: Lake, run: Run, stage: str, summary: Mapping[str, Any]) -> str:
    """Copies the site built in `folder` to the lake as `quality/{run_id}/{stage}/`, replacing an existing one.

    `summary`: the findings for the index page: critical, warnings, unjudged. Returns the path of the index page. The
    stage may be checked by two processes at once: each page is replaced, and only pages of no suite of today deleted.
    """
    # The generated index is a table filled by a script, so it is replaced by a page of ours.
    pages = {
        page.relative_to(folder).as_posix(): _FOREIGN.sub("", page.read_text(encoding="utf-8")).replace(
            "<head>", _HEAD, 1
        )
        for page in sorted(folder.rglob("*.html"))
        if page.name != "index.html"
    }
    results = [name for name in pages if name.startswith("validations/")]
    pages |= {"index.html": _index(run, stage, summary, results)}
    for name, text in pages.items():
        with lake.writing("quality", run.run_id, stage, *name.split("/")) as draft, lake.fs.open(draft, "wb") as file:
            file.write(text.encode())
    site = f"quality/{run.run_id}/{stage}"
    for path in lake.list(site, ".html"):
        name = path.rsplit(f"/{site}/", 1)[1]
        if name not in pages:
            lake.remove(site, name)
    return lake.path("quality", run.run_id, stage, "index.html")


def _index(run: Run, stage: str, summary: Mapping[str, Any], results: list[str]) -> str:
    verdict = "passed" if summary["passed"] else "failed: nothing is sent"
    findings = "".join(
        f"<h2>{title}</h2><ul>{''.join(f'<li>{escape(line)}</li>' for line in summary[name])}</ul>"
        for name, title in (("critical", "✗ Critical"), ("warnings", "Warnings"), ("unjudged", "Not judged"))
        if summary[name]
    )
    links = "".join(f'<li><a href="{escape(name)}">{escape(name.split("/")[1])}</a></li>' for name in results)
    return (
        f"<!DOCTYPE html><html>{_HEAD}<meta charset='UTF-8'><title>Checks of {escape(stage)}</title></head><body>"
        f"<h1>Checks of {escape(stage)}: {verdict}</h1><p>Run {escape(run.run_id)}</p>{findings}"
        f"<h2>All checks with their figures</h2><ul>{links}</ul></body></html>"
    )
