"""The published Data Docs: replaced page by page, by several processes at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from onetouch.quality import docs

SUMMARY: dict[str, Any] = {"passed": True, "critical": [], "warnings": [], "unjudged": []}


def site(folder: Path, suites: int) -> Path:
    """A generated site with a page for each suite."""
    for number in range(suites):
        page = folder / "validations" / f"suite-{number}" / "run" / "result.html"
        page.parent.mkdir(parents=True)
        page.write_text(f"<html><head></head>{number}</html>")
    return folder


def test_two_processes_that_check_a_run_at_once_publish_one_set_of_docs(place: Any, tmp_path: Path) -> None:
    built = site(tmp_path / "site", 5)

    def publish(_: int) -> str:
        return docs.publish(built, place.lake, place.run, "events", SUMMARY)

    with ThreadPoolExecutor(8) as pool:
        [index] = set(pool.map(publish, range(200)))
    assert "suite-4" in place.lake.fs.cat_file(index).decode()
    assert len(place.lake.list(f"quality/{place.run.run_id}/events", ".html")) == 6


def test_the_page_of_a_suite_that_is_no_more_is_deleted(place: Any, tmp_path: Path) -> None:
    docs.publish(site(tmp_path / "before", 3), place.lake, place.run, "events", SUMMARY)
    docs.publish(site(tmp_path / "after", 2), place.lake, place.run, "events", SUMMARY)
    pages = place.lake.list(f"quality/{place.run.run_id}/events", ".html")
    assert len(pages) == 3 and not any("suite-2" in page for page in pages)
