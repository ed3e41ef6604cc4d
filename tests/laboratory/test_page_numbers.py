"""Golden: what the browser computes at each step is what the package computes, each step from Python's iterate."""

import re
import urllib.request

import browsing
import onnx
import pytest
from golden import AIMS, agree
from written import METHODS, OTHERS, folder_of, large, small


@pytest.fixture(scope="module")
def small_tab(browser, tmp_path_factory):
    network = small(*METHODS, "integrated-gradients")
    with (
        browsing.served(folder_of(network, tmp_path_factory)) as site,
        browsing.watched(browser, site) as (tab, problems),
    ):
        tab.goto(site + "vendor/ort/LICENSE.txt")
        yield tab, network
        assert problems == []


@pytest.fixture(scope="module")
def large_site(tmp_path_factory):
    network = large(*METHODS, *OTHERS)
    with browsing.served(folder_of(network, tmp_path_factory)) as site:
        yield site, network


@pytest.fixture(scope="module")
def large_tab(browser, large_site):
    site, network = large_site
    with browsing.watched(browser, site) as (tab, problems):
        tab.goto(site + "vendor/ort/LICENSE.txt")
        yield tab, network
        assert problems == []


@pytest.mark.parametrize("aim", AIMS)
@pytest.mark.parametrize("method", [*METHODS, "integrated-gradients"])
def test_each_step_on_the_small_network_is_that_of_the_package(small_tab, method, aim):
    agree(*small_tab, method, aim)


@pytest.mark.slow
@pytest.mark.parametrize("aim", AIMS)
@pytest.mark.parametrize("method", [*METHODS, *OTHERS])
def test_each_step_on_squeezenet_is_that_of_the_package(large_tab, method, aim):
    agree(*large_tab, method, aim)


@pytest.mark.slow
def test_a_step_on_squeezenet_has_as_many_operations_as_chapter_20_says(large_site):
    site, network = large_site
    with urllib.request.urlopen(f"{site}models/{network.name}-gradient-227-topk.onnx") as file:
        assert 1600 <= len(onnx.load_from_string(file.read()).graph.node) <= 1700


@pytest.mark.slow
def test_twenty_steps_empty_the_top_of_the_chairs_and_keep_the_label(browser, large_site):
    site, _ = large_site
    with browsing.watched(browser, site) as (tab, problems):
        tab.goto(site, wait_until="networkidle")
        sent = []
        tab.on("response", lambda answer: sent.append(int(answer.header_value("content-length") or 0)))
        tab.locator("#start").click()
        tab.locator("#play").click(timeout=60_000)
        status = tab.locator("#status")
        status.filter(has_text=re.compile("^After 20 steps")).wait_for(timeout=240_000)
        assert 5e6 < sum(sent) < 10e6, "bytes after the click"
        assert "still says “folding chair”" in status.inner_text()
        assert "more than 8 levels" in status.inner_text()
        best = tab.locator("#rows tr").filter(has_text="best that keeps").locator("td").all_inner_texts()
        assert best[0].startswith("folding chair")
        share = 0.5 if best[2].startswith("<") else float(best[2].split()[0])  # in percent
        assert share < 10
        assert problems == []
