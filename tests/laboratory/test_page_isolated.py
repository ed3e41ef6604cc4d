"""Where the page is isolated from other sites, WebAssembly computes with several threads: the same, step by step."""

import re

import browsing
import pytest
from golden import agree
from written import folder_of, small

CORES = "Object.defineProperty(navigator, 'hardwareConcurrency', { value: 2 })"  # also where there is one


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    network = small("gradient", "deeplift")
    return network, folder_of(network, tmp_path_factory)


@pytest.mark.parametrize(("headers", "threads"), [(browsing.ISOLATED, 2), ({}, 1)], ids=["isolated", "not isolated"])
def test_each_step_is_that_of_the_package_whatever_the_threads(browser, written, headers, threads):
    network, folder = written
    with browsing.served(folder, headers=headers) as site, browsing.watched(browser, site) as (tab, problems):
        tab.add_init_script(CORES)
        tab.goto(site + "vendor/ort/LICENSE.txt")
        agree(tab, network, "gradient", "topk", pictures=1)
        assert tab.evaluate("engine.threads") == threads
        assert len(tab.workers) == threads - 1, "beside the one that the page has itself"
        assert problems == []


def test_the_page_works_isolated_and_says_how_many_threads_compute(browser, written):
    _, folder = written
    with browsing.served(folder, headers=browsing.ISOLATED) as site, browsing.watched(browser, site) as (tab, problems):
        tab.goto(site, wait_until="networkidle")
        assert tab.evaluate("crossOriginIsolated")
        tab.locator("#start").click()
        tab.locator("#play").click(timeout=60_000)
        tab.locator("#status").filter(has_text=re.compile("^After 20 steps")).wait_for(timeout=120_000)
        cores = tab.evaluate("navigator.hardwareConcurrency")
        said = "Computed by WebAssembly" + (f", {min(cores, 4)} threads." if cores > 1 else ".")
        assert tab.locator("#computed").inner_text() == said
        assert problems == []
