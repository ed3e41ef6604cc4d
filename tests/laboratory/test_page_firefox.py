"""Firefox takes the package's steps as Chromium does."""

import shutil

import browsing
import firefox
import pytest
from golden import AIMS, agree
from written import folder_of, small


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    network = small("gradient", "deeplift")
    with firefox.tab(tmp_path_factory.mktemp("firefox")) as tab:
        folder = folder_of(network, tmp_path_factory)
        with browsing.served(folder) as site:
            yield tab, network, site, folder


@pytest.mark.slow
@pytest.mark.parametrize("aim", AIMS)
@pytest.mark.parametrize("method", ["gradient", "deeplift"])
def test_each_step_in_firefox_is_that_of_the_package(tab, method, aim):
    tab, network, site, _ = tab
    tab.goto(site + "vendor/ort/LICENSE.txt")
    agree(tab, network, method, aim)


SAYS = "document.getElementById('status').textContent.includes('{}')"


def start(tab):
    tab.wait("document.getElementById('status').textContent")  # an example has been loaded
    tab.click("start")
    return tab.wait("!document.getElementById('play').hidden")


def test_the_page_works_in_firefox(tab):
    tab, _, site, _ = tab
    tab.goto(site)
    assert "The network says" in start(tab)
    for button, said in (
        ("play", "After 20 steps"),
        ("noise", "With noise"),
        ("through-jpeg", "of the original after"),
    ):
        tab.click(button)
        assert said in tab.wait(SAYS.format(said))
    assert tab.read("return document.querySelectorAll('#rows tr').length") == 5


@pytest.mark.parametrize("part", ["worker.js", "ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", ".weights"])
def test_what_could_not_be_loaded_is_loaded_in_firefox_when_the_reader_starts_again(tab, tmp_path, part):
    tab, _, _, folder = tab
    shutil.copytree(folder, tmp_path / "laboratory")
    (file,) = (path for path in (tmp_path / "laboratory").rglob(f"*{part}") if path.is_file())
    with browsing.served(tmp_path / "laboratory") as site:
        tab.goto(site)
        tab.wait("document.getElementById('status').textContent")
        file.rename(file.with_suffix(".away"))
        tab.click("start")
        assert "onnection" in tab.wait("document.querySelector('#status.trouble')")
        file.with_suffix(".away").rename(file)
        assert "The network says" in start(tab)
