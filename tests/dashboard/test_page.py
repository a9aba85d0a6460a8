"""The page in a real Chromium: what it says, when it stops saying it, and that nothing of a part becomes markup."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from browser import Page, browsing
from page_samples import TOKEN, part, served
from waiting import until

from lad_edge.dashboard.feed import CameraFeed, Dashboard
from lad_edge.dashboard.labels import FILE_NAME
from lad_edge.stream.health import Health, Trouble
from lad_edge.stream.watchdog import Beats
from lad_edge.values import Reason, Verdict

PANEL, SCREEN = (1024, 600), (1920, 1080)
NASTY = "<img src=x onerror=\"document.title='owned'\"><b>7</b>"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browsing(tmp_path_factory.mktemp("profile")) as page:
        yield page
        assert [error for error in page.errors if "/feed" not in error] == []  # each connection that breaks is noted


@contextmanager
def running(feed: CameraFeed, verdict: Verdict = Verdict.OK, **changes: object) -> Iterator[None]:
    """A part five times a second, as long as it lasts."""
    ended = threading.Event()

    def run() -> None:
        while not ended.is_set():
            feed.write(*part(feed.written + 1, verdict, **changes))
            ended.wait(0.2)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def kind_is(kind: str) -> str:
    return f"document.querySelector('#verdict').dataset.kind === '{kind}'"


def address(dashboard: Dashboard) -> str:
    return f"http://127.0.0.1:{dashboard.port}/"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PANEL, SCREEN])
@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_verdict_is_a_word_a_shape_and_a_sentence_that_fit_on_the_screen(
    tab: Page, size: tuple[int, int], scheme: str, verdict: Verdict
) -> None:
    with served() as (dashboard, (feed,)), running(feed, verdict, findings=("expected 3 washers, found 2",)):
        tab.open(address(dashboard), size, scheme)
        tab.until(kind_is(verdict.value.lower()))
        assert tab.text("#word") == verdict.value
        assert (
            tab.run(
                "document.querySelector('#word').clientHeight || document.querySelector('#word').getBoundingClientRect().height"
            )
            >= 90
        )
        assert tab.text("#sentence")
        assert "expected 3 washers" in tab.text("#findings")
        assert tab.run("document.querySelector('#shape').getAttribute('d').length > 10")
        tab.until("document.querySelector('#picture').width === 64")
        assert tab.run(
            "document.documentElement.scrollWidth <= innerWidth && document.documentElement.scrollHeight <= innerHeight"
        )
        assert tab.run("document.documentElement.dataset.theme") == scheme


def test_what_is_wrong_beside_the_verdicts_is_said_and_fits_on_the_panel(tab: Page) -> None:
    with served(cameras=("side", "top")) as (dashboard, feeds), running(feeds[0]):
        for feed in feeds:
            feed.health = Health(Beats(), tuple, lambda _text: None)
            feed.health.troubles = (
                Trouble(Reason.SINK_BEHIND, "mqtt://broker/line3", NASTY),
                Trouble(Reason.THERMAL_MARGIN, "engine", "p99 is 90 of 100 ms"),
            )
        tab.open(address(dashboard), PANEL)
        tab.until(kind_is("ok"))
        tab.until("document.querySelector('#trouble').textContent.startsWith('▲ Records wait')")
        assert tab.run("document.querySelector('#help-button').getBoundingClientRect().right <= innerWidth")
        assert tab.run("document.querySelector('#trouble').title").endswith(
            "THERMAL_MARGIN engine: p99 is 90 of 100 ms"
        )
        tab.press("f")
        tab.until("document.querySelector('#health').textContent.includes('p99 is 90 of 100 ms')")
        feeds[0].health = None
        tab.until("document.querySelector('#trouble').textContent === ''")
        tab.press("f")


def test_without_parts_an_old_ok_goes_away_and_the_page_says_that_it_waits(tab: Page) -> None:
    with served() as (dashboard, (feed,)):
        feed.write(*part(1))
        tab.open(address(dashboard))
        tab.until(kind_is("ok"))
        tab.until(kind_is("waiting"))
        assert tab.text("#word") == "WAITING FOR A PART"
        assert tab.text("#sentence").startswith("The last one was OK")
        feed.write(*part(2, Verdict.NG))
        tab.until(kind_is("ng"))


def test_a_page_process_that_hangs_or_is_killed_leaves_no_green_behind(tab: Page) -> None:
    with served() as (dashboard, (feed,)), running(feed):
        tab.open(address(dashboard))
        tab.until(kind_is("ok"))
        assert dashboard.pid is not None
        os.kill(dashboard.pid, signal.SIGSTOP)
        tab.until(kind_is("stale"))
        assert tab.text("#word") == "NO CONNECTION"
        assert tab.run("getComputedStyle(document.querySelector('#picture')).filter").startswith("grayscale")
        tab.until(kind_is("ok"))  # the line has replaced it, and the page has found the new one


def test_an_ended_line_and_a_lost_camera_are_said_in_words(tab: Page) -> None:
    with served() as (dashboard, (feed,)):
        with running(feed, Verdict.UNKNOWN, reasons=(Reason.CAMERA_LOST,), score=None, detail="the cable is out"):
            tab.open(address(dashboard))
            tab.until(kind_is("unknown"))
            assert tab.text("#sentence").startswith("The camera is gone")
            assert "the cable is out" in tab.text("#findings")
            assert "CAMERA_LOST" in tab.text("#findings")
        feed.close()
        tab.until(kind_is("stale"))
        assert tab.text("#word") == "LINE ENDED"


def test_markup_in_names_and_findings_stays_text(tab: Page) -> None:
    nasty = {"part_id": NASTY, "findings": (NASTY,), "detail": NASTY}
    with served(cameras=(NASTY, "other")) as (dashboard, (feed, _)), running(feed, Verdict.NG, **nasty):
        tab.open(address(dashboard))
        tab.until(kind_is("ng"))
        tab.until("document.querySelectorAll('#rejects button').length")
        assert NASTY in tab.text("#part-name")
        assert NASTY in tab.text("#findings")
        tab.press("Enter")
        tab.until("document.querySelector('#part-dialog').open")
        assert NASTY in tab.text("#dialog-findings")
        assert not tab.run("[...document.querySelectorAll('img')].some((image) => image.src.endsWith('/x'))")
        assert tab.run("document.title") == "NG – lad-edge"


def test_the_map_is_laid_over_the_picture_by_a_key(tab: Page) -> None:
    pixel = "[...document.querySelector('#picture').getContext('2d').getImageData(44, 24, 1, 1).data].slice(0, 3)"
    with served() as (dashboard, (feed,)):
        frame, result = part(1, Verdict.NG)
        tab.open(address(dashboard))
        feed.write(frame, result)
        tab.until("document.querySelector('#picture').width === 64")
        tab.press("m")
        plain = tab.until(f"document.querySelector('#map-button').ariaPressed === 'false' && {pixel}")
        tab.press("m")
        tab.until(f"{pixel}.some((value, index) => Math.abs(value - {json.dumps(plain)}[index]) > 20)")


def test_an_ng_part_is_opened_and_labelled_by_keys(tab: Page, tmp_path: Path) -> None:
    with served(labels=str(tmp_path)) as (dashboard, (feed,)):
        tab.open(address(dashboard))
        tab.until("document.querySelector('#word').textContent.startsWith('WAITING')")
        feed.write(*part(3, Verdict.NG))
        tab.until("document.querySelectorAll('#rejects button').length")
        tab.run("document.querySelector('#rejects button').focus()")
        tab.run("document.activeElement.click()")
        tab.until("document.querySelector('#part-dialog').open")
        tab.press("l")
        tab.until("document.querySelector('#label-text').textContent.includes('kept')")
        until((tmp_path / FILE_NAME).exists)
    assert json.loads((tmp_path / FILE_NAME).read_text())["seq"] == 3


def test_figures_are_drawn_for_each_camera(tab: Page) -> None:
    painted = """['latency', 'scores', 'p-values', 'views'].every((id) => {
        const chart = document.getElementById(id);
        return new Set(chart.getContext('2d').getImageData(0, 0, chart.width, chart.height).data).size > 10;
    })"""
    with served(cameras=("left", "right")) as (dashboard, (left, right)), running(left), running(right, Verdict.NG):
        tab.open(address(dashboard))
        tab.until("document.querySelectorAll('#cameras button').length === 2")
        tab.press("f")
        tab.until(painted)
        tab.until(
            "[...document.querySelectorAll('#cameras b')].map((each) => each.textContent).sort().join() === 'NG,OK'"
        )
        tab.press("2")
        assert tab.until("document.querySelector('[aria-selected=true]').dataset.camera") in ("left", "right")
        assert "OK" in tab.text("#shifts")


def test_the_token_is_asked_for_and_kept_in_this_tab_alone(tab: Page) -> None:
    with served(TOKEN) as (dashboard, (feed,)), running(feed):
        tab.open(address(dashboard))
        tab.until("document.querySelector('#login-dialog').open")
        assert tab.run(kind_is("stale"))
        for token in ("wrong", TOKEN):
            tab.run(
                f"document.querySelector('#token').value = '{token}'; document.querySelector('#login-form button').click()"
            )
            tab.until(
                "!document.querySelector('#login-dialog').open"
                if token == TOKEN
                else "document.querySelector('#login-error').textContent"
            )
        tab.until(kind_is("ok"))
        assert tab.run("sessionStorage.getItem('token')") == TOKEN
        assert tab.run("document.cookie + localStorage.getItem('token')") == "null"
    tab.errors = [error for error in tab.errors if "401" not in error]
