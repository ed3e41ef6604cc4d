"""Firefox takes the package's steps as Chromium does."""

import browsing
import firefox
import pytest
from golden import AIMS, agree
from written import small

from fragile_utils import laboratory


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    network, folder = small("gradient", "deeplift"), tmp_path_factory.mktemp("firefox")
    with firefox.tab(folder) as tab:
        laboratory.write(folder / "laboratory", [network])
        with browsing.served(folder / "laboratory") as site:
            tab.goto(site + "vendor/ort/LICENSE.txt")
            yield tab, network


@pytest.mark.slow
@pytest.mark.parametrize("aim", AIMS)
@pytest.mark.parametrize("method", ["gradient", "deeplift"])
def test_each_step_in_firefox_is_that_of_the_package(tab, method, aim):
    agree(*tab, method, aim)
