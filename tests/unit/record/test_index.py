from html.parser import HTMLParser

import pytest

from runbook_lib.parameters import PAGES
from runbook_lib.record.index import write_index
from runbook_lib.record.run import Run


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.links, self.texts = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in {"href", "src"}]

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path, "lab/tiny")


def page_of(run, **facts):
    run.note(**facts)
    write_index(run)
    reader = Reader()
    reader.text = (run.folder / "index.html").read_text(encoding="utf-8")
    reader.feed(reader.text)
    return reader


def ended(status, seconds=1.5, reason=""):
    return {"status": status, "seconds": seconds, "reason": reason}


def test_every_page_has_a_row_and_only_those_that_ran_have_links(run):
    page = page_of(run, pages={"00_plan": ended("completed"), "01_build_engine": ended("held")})
    assert page.tags.count("tr") == 1 + len(PAGES)
    assert page.links == [
        "00_plan.html",
        "00_plan.ipynb",
        "01_build_engine.html",
        "01_build_engine.ipynb",
    ]
    assert page.texts.count("not_run") == len(PAGES) - 2


def test_a_run_that_has_only_begun_has_a_front_page(run):
    page = page_of(run)
    assert page.links == []
    assert run.id in page.texts


def test_a_failed_page_says_why_and_a_completed_one_does_not(run):
    pages = {
        "00_plan": ended("completed", reason="nothing to say"),
        "01_build_engine": ended("failed", reason="It broke.\n  why:  A wire."),
    }
    page = page_of(run, pages=pages, status="failed")
    assert "It broke.\n  why:  A wire." in page.texts
    assert "nothing to say" not in page.text


@pytest.mark.parametrize("track", ["lab", "engine"])
@pytest.mark.parametrize("target", ["lab", "kserve"])
def test_a_record_whose_engine_is_the_labs_says_so_wherever_it_is_served(target, track, run):
    shown = page_of(run, target=target, track=track).text
    assert ("Made in the lab" in shown) == (track == "lab")


def test_folders_that_are_there_are_linked(run):
    run.artifacts.mkdir()
    run.logs.mkdir()
    assert page_of(run).links == ["artifacts/", "logs/"]


def test_the_page_opens_offline(run):
    pages = {page.name: ended("completed") for page in PAGES}
    page = page_of(run, pages=pages)
    assert not any(":" in link or link.startswith("/") for link in page.links)
    assert not {"script", "link", "img", "iframe"} & set(page.tags)


HOSTILE = "<script>alert('1')</script>\"'><img src=x onerror=1>&"


def test_no_markup_of_strangers_gets_into_the_page(tmp_path):
    folder = tmp_path / "20260101T000000Z-<script>-'1'"
    folder.mkdir()
    (folder / "run.json").write_text("{}")
    pages = {name: ended(*[HOSTILE] * 3) for name in ("00_plan", "01_build_engine")}
    pages["02_model_repository"] = ended("failed", reason=HOSTILE)
    page = page_of(Run(folder), profile=HOSTILE, started=HOSTILE, status=HOSTILE, pages=pages)
    assert not {"script", "img"} & set(page.tags)
    assert page.texts.count(HOSTILE) >= 4


@pytest.mark.parametrize("known", [{}, {"status": "completed"}, {"seconds": 1}])
def test_a_note_that_lacks_something_ends_nothing(known, run):
    assert page_of(run, pages={"00_plan": known}).tags.count("tr") == 1 + len(PAGES)


def test_the_page_can_be_written_again(run):
    page_of(run, status="running")
    page = page_of(run, status="completed")
    assert "completed" in page.texts
    assert "running" not in page.texts
