"""The graphics card: it is loaded where the reader asks for it, and computes where it computes the same, and faster."""

import re

import browsing
import pytest
from golden import agree
from written import folder_of, small

SOFTWARE = "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"  # WebGPU without a graphics card
FAKE = "Object.defineProperty(navigator, 'gpu', { value: { requestAdapter: async () => ({}) } })"
OFTEN = ("asyncify", "webgpu")  # in the names of what is loaded for it

TRIAL = """async ({ change, slow, quick, fails, graph }) => {
    const { Checked } = await import('/js/checked.js');
    const wait = (time) => new Promise((resolve) => setTimeout(resolve, time));
    const answer = () => ({ next: new Float32Array(1000).fill(0.5), map: new Float32Array(100).fill(0.01),
        logits: new Float32Array(2), d: -0.5 });
    class Fake {
        network = {}; method = {}; threads = 1; steps = 0;
        constructor(time, change, fails) { Object.assign(this, { time, change, fails }) }
        async open() { if (this.fails === 'open') throw new Error('there is none') }
        async step() {
            this.steps++;
            if (this.fails === this.steps) throw new Error('lost');
            if (this.time) await wait(this.time);
            const made = answer();
            this.change(made);
            return made;
        }
    }
    const sure = new Fake(slow, () => undefined), fast = new Fake(quick, new Function('y', change), fails);
    const checked = new Checked(sure, fast), next = [];
    for (let i = 0; i < 3; i++) next.push((await checked.step(graph, {})).next[0]);
    const { slow: of, quick: than, ...verdict } = checked.verdict;
    return { next, sure: sure.steps, fast: fast.steps, ...verdict };
}"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with browsing.served(folder_of(small("gradient", "deeplift"), tmp_path_factory)) as address:
        yield address


@pytest.fixture(scope="module")
def trial(browser, site):
    with browsing.watched(browser, site) as (tab, problems):
        tab.goto(site + "vendor/ort/LICENSE.txt")

        def run(change="", slow=60, quick=0, fails=0, graph="topk"):
            given = {"change": change, "slow": slow, "quick": quick, "fails": fails, "graph": graph}
            return tab.evaluate(TRIAL, given)

        yield run
        assert problems == []


# --- What is decided --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "",
        "y.next.fill(0.6, 0, 5)",  # 99.5 % of the signs
        "y.d = -0.502",
        "y.map[0] += 0.004",
        "y.next.fill(0.500001)",  # rounding
    ],
)
def test_one_that_computes_the_same_and_faster_takes_over(trial, change):
    found = trial(change)
    assert (found["right"], found["trusted"], found["error"]) == (True, True, "")
    assert (found["sure"], found["fast"]) == (1, 4), "one step beside the other, one to warm up, and then it alone"


@pytest.mark.parametrize(
    "change",
    [
        "y.next.fill(0.6, 0, 6)",
        "y.next.fill(NaN)",
        "y.d = -0.503",
        "y.d = NaN",
        "y.map[0] += 0.006",
        "y.map.fill(NaN)",
    ],
)
def test_one_that_computes_something_else_is_refused(trial, change):
    found = trial(change)
    assert (found["right"], found["trusted"]) == (False, False)
    assert (found["sure"], found["fast"]) == (3, 2), "it is not asked again"
    assert found["next"] == [0.5] * 3, "what the reader sees is what is sure"


def test_of_the_centre_d_is_compared_in_pixels(trial):
    assert trial("y.d = -0.54", graph="centre")["right"]
    assert not trial("y.d = -0.56", graph="centre")["right"]


def test_one_that_is_slower_is_refused(trial):
    found = trial(slow=0, quick=60)
    assert (found["right"], found["trusted"]) == (True, False)
    assert (found["sure"], found["fast"]) == (3, 2)


@pytest.mark.parametrize(("fails", "said"), [("open", "there is none"), (1, "lost"), (2, "lost"), (3, "lost")])
def test_one_that_fails_is_not_asked_again(trial, fails, said):
    found = trial("y.next.fill(0.501)" if fails == 4 else "", fails=fails)
    assert (found["trusted"], found["error"]) == (False, said)
    assert found["fast"] == (0 if fails == "open" else fails)
    assert found["next"] == [0.5] * 3


def test_another_network_is_examined_anew(browser, site):
    with browsing.watched(browser, site) as (tab, problems):
        tab.goto(site + "vendor/ort/LICENSE.txt")
        examined = tab.evaluate(
            """async () => { const { Checked } = await import('/js/checked.js');
            const answer = { next: Float32Array.of(1), map: Float32Array.of(1), logits: Float32Array.of(1), d: -1 };
            const engine = { steps: 0, async open(network, method) { Object.assign(this, { network, method }) },
                async step() { this.steps++; return answer } };
            const sure = { ...engine }, checked = new Checked(sure, { ...engine }), pairs = [{}, {}, {}, {}];
            const counts = [];
            for (const [i, j] of [[0, 1], [0, 1], [0, 2], [3, 2]]) {
                await checked.open(pairs[i], pairs[j]);
                const before = sure.steps;
                await checked.step('topk', {});
                counts.push(sure.steps - before, checked.fast.network === pairs[i], checked.fast.method === pairs[j]);
            }
            return counts.filter((_, i) => i % 3).concat(sure.steps >= 3) }"""
        )
        assert all(examined)
        assert problems == []


VERDICT = {"right": True, "trusted": True, "signs": 0.9996, "slow": 240.4, "quick": 20.6, "error": ""}


@pytest.mark.parametrize(
    ("threads", "change", "said"),
    [
        (1, None, "Computed by WebAssembly."),
        (3, None, "Computed by WebAssembly, 3 threads."),
        (1, {}, "Computed by the graphics card: 21 ms a step instead of 240, and 99.9 % of the first step’s signs"),
        (1, {"trusted": False}, "WebAssembly: the graphics card is right, but slower here, with 21 ms"),
        (2, {"trusted": False, "right": False, "signs": 0.99499}, "another one (99.4 % of its signs are the same)"),
        (1, {"trusted": False, "right": False, "error": "lost"}, "WebAssembly: the graphics card failed (lost)"),
    ],
)
def test_a_sentence_says_what_computes(browser, site, threads, change, said):
    with browsing.watched(browser, site) as (tab, _):
        tab.goto(site + "vendor/ort/LICENSE.txt")
        call = "async (given) => (await import('/js/words.js')).computedBy(...given)"
        assert said in tab.evaluate(call, [threads, None if change is None else VERDICT | change])


# --- On the page ------------------------------------------------------------------------------------------------------


def start(tab, site):
    loaded = []
    tab.on("request", lambda request: loaded.append(request.url))
    tab.goto(site, wait_until="networkidle")
    tab.locator("#start").click()
    tab.locator("#play").wait_for(timeout=60_000)
    return loaded


def attack(tab, steps=20):
    tab.locator("#steps").fill(str(steps))
    tab.locator("#play").click()
    tab.locator("#status").filter(has_text=re.compile(f"^After {steps} steps")).wait_for(timeout=300_000)


def test_without_a_graphics_card_nothing_is_offered_and_nothing_loaded(browser, site):
    with browsing.watched(browser, site) as (tab, problems):
        tab.add_init_script("Object.defineProperty(navigator, 'gpu', { value: undefined })")
        loaded = start(tab, site)
        attack(tab)
        assert not tab.locator("#accelerate").is_visible()
        assert not [url for url in loaded if any(name in url for name in OFTEN)]
        assert problems == []


def test_one_that_does_not_work_is_said_to_and_the_attack_goes_on(browser, site):
    with browsing.watched(browser, site) as (tab, _):
        tab.add_init_script(FAKE)  # on the page alone: the worker finds that there is none
        loaded = start(tab, site)
        assert not [url for url in loaded if any(name in url for name in OFTEN)], "not before the reader asks for it"
        tab.locator("#accelerate").click()
        tab.locator("#computed").filter(has_text="WebAssembly: the graphics card failed").wait_for(timeout=120_000)
        assert not tab.locator("#accelerate").is_visible()
        attack(tab)


@pytest.fixture(scope="module")
def software():
    with browsing.chromium(*SOFTWARE) as browser:
        yield browser


def adapter_or_skip(tab):
    if not tab.evaluate("navigator.gpu?.requestAdapter().then(Boolean)"):
        pytest.skip("this browser has no WebGPU, not even one that is computed")


@pytest.fixture(scope="module")
def software_tab(software, site):
    with browsing.watched(software, site) as (tab, _):
        tab.goto(site + "vendor/ort/LICENSE.txt")
        adapter_or_skip(tab)
        yield tab


@pytest.mark.slow
@pytest.mark.parametrize("aim", ["topk", "centre"])
def test_each_step_by_webgpu_is_that_of_the_package(software_tab, aim):
    agree(software_tab, small("gradient"), "gradient", aim, runtime="WEBGPU", pictures=1)


@pytest.mark.slow
def test_the_page_attacks_with_webgpu(software, site):
    with browsing.watched(software, site) as (tab, _):
        tab.context.route("**/js/checked.js", patient)
        loaded = start(tab, site)
        adapter_or_skip(tab)
        tab.locator("#accelerate").click()
        tab.locator("#computed").filter(has_text="Computed by the graphics card: ").wait_for(timeout=300_000)
        assert sum("asyncify.wasm" in url for url in loaded) == 1
        attack(tab, steps=5)  # a graphics card that is computed takes seconds for each


def patient(route):
    """Let a graphics card that is computed take over, however slow it is."""
    answer = route.fetch()
    changed = answer.text().replace("const PATIENCE = 1;", "const PATIENCE = 1e6;")
    assert changed != answer.text()
    route.fulfill(response=answer, body=changed)
