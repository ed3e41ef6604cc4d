"""The page in a browser, as a reader meets it: what it loads, says, draws and refuses. With the small network."""

import io
import re
from importlib import resources

import browsing
import numpy as np
import pytest
from PIL import Image
from written import folder_of, small

PAGE = resources.files("fragile_utils") / "laboratory" / "page"
PATIENCE = 240_000  # milliseconds: the machine may be busy with other things


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with browsing.served(folder_of(small("gradient", "deeplift"), tmp_path_factory)) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with browsing.chromium("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream") as browser:
        yield browser


@pytest.fixture
def tab(browser, site):
    with browsing.watched(browser, site) as (tab, problems):
        tab.goto(site, wait_until="networkidle")
        yield tab
        assert problems == []


def start(tab):
    tab.locator("#start").click()
    tab.locator("#play").wait_for(timeout=PATIENCE)


def attack(tab):
    tab.locator("#play").click()
    says(tab, "^After ")


def says(tab, pattern):
    """Wait until the status matches, and return it."""
    status = tab.locator("#status")
    status.filter(has_text=re.compile(pattern)).wait_for(timeout=PATIENCE)
    return status.inner_text()


def pixels(tab, canvas):
    """The bytes of red, green and blue on a canvas."""
    found = tab.evaluate(
        """(id) => { const canvas = document.getElementById(id);
        return [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data] }""",
        canvas,
    )
    side = int((len(found) / 4) ** 0.5)
    return np.array(found, np.uint8).reshape(side, side, 4)[..., :3]


def download(tab, button):
    with tab.expect_download() as waiting:
        tab.locator(button).click()
    path = waiting.value.path()
    return waiting.value.suggested_filename, np.asarray(Image.open(path).convert("RGB")), path.read_bytes()


def give(tab, name, content):
    tab.locator("#file").set_input_files({"name": name, "mimeType": "application/octet-stream", "buffer": content})


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


# --- Before and after the click ---------------------------------------------------------------------------------------


def test_nothing_heavy_is_loaded_before_the_reader_starts(browser, site):
    with browsing.watched(browser, site) as (tab, problems):
        loaded = []
        tab.on("response", lambda answer: loaded.append(answer.url.removeprefix(site)))
        tab.goto(site, wait_until="networkidle")
        assert [url for url in loaded if url.endswith((".onnx", ".weights", ".gz", ".mjs"))] == []
        before = len(loaded)
        start(tab)
        after = loaded[before:]
        assert sum(url.endswith(".gz") for url in after) == 1
        assert sum(url.endswith(".weights") for url in after) == 1
        assert problems == []


def test_the_browser_keeps_what_it_has_loaded(browser, site):
    with browser.new_context() as context:
        tab = context.new_page()
        tab.goto(site, wait_until="networkidle")
        start(tab)
        tab.reload(wait_until="networkidle")
        loaded = []
        tab.on("request", lambda request: loaded.append(request.url))
        start(tab)
        assert [url for url in loaded if url.endswith((".onnx", ".weights", ".gz"))] == []


def test_a_file_that_is_not_the_right_one_is_refused(browser, site):
    with browser.new_context() as context:
        tab = context.new_page()
        context.route("**/*.weights", lambda route: route.fulfill(body=bytes(1000)))
        tab.goto(site, wait_until="networkidle")
        tab.locator("#start").click()
        assert "not the file that this page was made with" in says(tab, "not the file")
        assert tab.locator("#start").is_enabled(), "to try again"


PARTS = ["js/worker.js", "ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "wasm.gz", ".weights", "explain.onnx"]


@pytest.mark.parametrize("part", PARTS)
def test_what_could_not_be_loaded_is_said_and_loaded_when_the_reader_starts_again(browser, site, part):
    with browser.new_context() as context:
        tab = context.new_page()
        tab.goto(site, wait_until="networkidle")
        context.route(f"**/*{part}", lambda route: route.abort())
        tab.locator("#start").click()
        said = says(tab, "[Cc]onnection")
        assert part in said or part.startswith("js/")
        assert "http" not in said
        context.unroute(f"**/*{part}")
        start(tab)
        tab.locator("#one-step").click()
        says(tab, "^After 1 step ")


def test_a_computation_that_the_browser_ends_can_be_started_again(browser, site):
    with browsing.watched(browser, site) as (tab, problems):
        tab.add_init_script(
            "const Made = Worker; window.Worker = class { constructor(...of) { return window.last = new Made(...of) } }"
        )
        tab.goto(site, wait_until="networkidle")
        start(tab)
        attack(tab)
        tab.locator("#steps").fill("100")
        tab.locator("#play").click()
        tab.evaluate("last.dispatchEvent(new ErrorEvent('error'))")
        assert "Press Start again" in says(tab, "The browser ended")
        assert not tab.locator("#play").is_visible()
        assert tab.locator("#photo-now").get_attribute("data-empty") is not None
        start(tab)
        tab.locator("#one-step").click()
        says(tab, "^After 1 step ")
        assert problems == []


@pytest.mark.parametrize(
    "answer", [{"status": 404}, {"body": "no JSON"}, None], ids=["missing", "something else", "offline"]
)
def test_a_page_without_its_list_says_so(browser, site, answer):
    with browser.new_context() as context:
        tab, wrong = context.new_page(), []
        tab.on("pageerror", lambda error: wrong.append(error))
        context.route("**/manifest.json", lambda route: route.fulfill(**answer) if answer else route.abort())
        tab.goto(site, wait_until="networkidle")
        assert tab.locator("#unable").inner_text().startswith("The list of what this laboratory holds")
        assert not tab.locator("#laboratory").is_visible()
        assert wrong == []


def test_without_scripts_a_sentence_says_what_is_missing(browser, site):
    with browser.new_context(java_script_enabled=False) as context:
        tab = context.new_page()
        tab.goto(site)
        assert tab.locator("#unable").is_visible()
        assert not tab.locator("#laboratory").is_visible()


def test_without_webassembly_a_sentence_says_what_is_missing(browser, site):
    with browser.new_context() as context:
        context.add_init_script("delete globalThis.WebAssembly")
        tab = context.new_page()
        tab.goto(site, wait_until="networkidle")
        said = tab.locator("#unable").inner_text()
        assert said == "This browser is too old for the laboratory: it lacks WebAssembly, or a part of it."
        assert not tab.locator("#laboratory").is_visible()


def test_the_browser_itself_refuses_to_ask_another_host(browser, site):
    with browsing.watched(browser, site) as (tab, problems):
        tab.goto(site, wait_until="networkidle")
        assert problems == []
        tab.evaluate("fetch('http://elsewhere.invalid/').catch(() => null)")
        image = "const image = new Image(); image.onerror = done; image.src = 'http://elsewhere.invalid/image'"
        tab.evaluate(f"new Promise((done) => {{ {image} }})")
        assert sum("Content Security Policy" in problem for problem in problems) >= 2
        assert not any("asks another host" in problem for problem in problems), "no request was even made"


# --- An attack --------------------------------------------------------------------------------------------------------


def test_an_attack_shows_what_it_did_and_keeps_the_budget(tab):
    start(tab)
    assert "The network says" in tab.locator("#status").inner_text()
    attack(tab)
    assert tab.locator("#counter").inner_text().startswith("step 20 of 20")
    before, now = (pixels(tab, f"photo-{when}").astype(int) for when in ("before", "now"))
    assert 0 < np.abs(now - before).max() <= 8
    assert not np.array_equal(pixels(tab, "map-before"), pixels(tab, "map-now"))
    assert "times amplified" in tab.locator("#change-caption").inner_text()
    for curve in tab.locator(".curve").all():
        assert len(curve.locator("polyline").get_attribute("points").split()) == 21
        assert "after 20 steps" in curve.locator("svg").get_attribute("aria-label")


def test_pause_one_step_and_start_again(tab):
    start(tab)
    tab.locator("#one-step").click()
    says(tab, "^After 1 step ")
    tab.locator("#one-step").click()
    says(tab, "^After 2 steps ")
    tab.locator("#play").click()
    assert tab.locator("#play").inner_text() == "Pause"
    tab.locator("#play").click()
    assert tab.locator("#play").inner_text() == "Go on"
    tab.locator("#again").click()
    assert tab.locator("#counter").inner_text() == ""
    assert tab.locator("#play").inner_text() == "Attack"
    assert tab.locator("#photo-now").get_attribute("data-empty") is not None
    assert tab.locator("#change-caption").inner_text() == "The change, amplified"


def test_another_budget_begins_again_and_is_kept(tab):
    start(tab)
    attack(tab)
    tab.locator("#levels").fill("2")
    says(tab, "begins again")
    attack(tab)
    before, now = (pixels(tab, f"photo-{when}").astype(int) for when in ("before", "now"))
    assert np.abs(now - before).max() == 2


def test_the_same_attack_twice_is_the_same(tab):
    start(tab)
    attack(tab)
    first = pixels(tab, "photo-now")
    attack(tab)
    assert np.array_equal(first, pixels(tab, "photo-now"))


@pytest.mark.parametrize("aim", ["centre", "region"])
def test_the_other_aims_raise_their_d(tab, aim):
    tab.locator(f"[name=objective][value={aim}]").check()
    start(tab)
    attack(tab)
    points = tab.locator(".curve polyline").nth(3).get_attribute("points").split()
    heights = [float(point.split(",")[1]) for point in points]
    assert heights[-1] < heights[0], "SVG counts from the top"


def test_noise_has_the_size_of_the_attack(tab):
    start(tab)
    attack(tab)
    size = lambda row: re.search(r"([\d.]+) levels", row.inner_text())[1]  # noqa: E731
    rows = tab.locator("#rows tr")
    tab.locator("#noise").click()
    says(tab, "With noise of the same size")
    assert size(rows.filter(has_text="noise")) == size(rows.filter(has_text="best"))
    assert tab.locator(".curve .noise").count() == 4


def test_noise_is_drawn_anew_each_time_and_in_the_same_order_after_a_new_attack(tab):
    drawn = []
    start(tab)
    for _ in range(2):
        attack(tab)
        for _ in range(2):
            before = pixels(tab, "photo-now")
            tab.locator("#noise").click()
            tab.wait_for_function("() => [...document.querySelectorAll('#rows tr')].length === 3")
            while np.array_equal(pixels(tab, "photo-now"), before):
                tab.wait_for_timeout(50)
            drawn.append(pixels(tab, "photo-now"))
    assert not np.array_equal(drawn[0], drawn[1])
    assert np.array_equal(drawn[:2], drawn[2:])


def test_the_numbers_above_the_curves_are_those_of_what_is_shown(tab):
    start(tab)
    attack(tab)
    tab.locator("#noise").click()
    says(tab, "With noise of the same size")
    for row in tab.locator("#rows tr").all():
        row.locator("input").check()
        written = [tab.locator(".curve strong").nth(i).inner_text() for i in range(4)]
        cells = row.locator("td").all_inner_texts()
        assert written == [*cells[2:4], cells[4].removesuffix(" px"), cells[5]]


def test_the_pair_is_saved_without_loss(tab):
    start(tab)
    attack(tab)
    for button, canvas in (("#save-before", "photo-before"), ("#save-now", "photo-now")):
        name, saved, content = download(tab, button)
        assert name.endswith(".png")
        assert content.startswith(b"\x89PNG")
        assert np.array_equal(saved, pixels(tab, canvas))


def test_a_saved_photograph_can_be_loaded_again(tab):
    start(tab)
    attack(tab)
    _, saved, content = download(tab, "#save-now")
    give(tab, "again.png", content)
    says(tab, "The network says")
    assert np.array_equal(pixels(tab, "photo-before"), saved)


def test_jpeg_loses_something(tab):
    start(tab)
    attack(tab)
    name, saved, _ = download(tab, "#save-jpeg")
    assert name.endswith(".jpg")
    assert not np.array_equal(saved, pixels(tab, "photo-now"))
    tab.locator("#through-jpeg").click()
    said = says(tab, "After JPEG")
    assert np.abs(pixels(tab, "photo-now").astype(int) - saved).max() <= 1
    rows = tab.locator("#rows tr")
    shares = [rows.filter(has_text=f"the {which}, through").locator("td").nth(2).inner_text() for which in PAIR]
    shares = [re.escape(share.replace("<", "less than")) for share in shares]
    assert re.search(
        f"{shares[1]} of the top pixels are in place; of the original after JPEG, .*, {shares[0]}\\.$", said
    )


PAIR = "original", "attacked"


def test_beside_the_attacked_photograph_the_original_goes_through_jpeg(tab):
    start(tab)
    attack(tab)
    tab.locator("#through-jpeg").click()
    says(tab, "After JPEG")
    tab.locator("#rows tr").filter(has_text="the original, through").locator("input").check()
    original, after = pixels(tab, "photo-before").astype(int), pixels(tab, "photo-now").astype(int)
    assert 0 < np.abs(after - original).mean() < 8
    give(tab, "original.jpg", encoded(Image.fromarray(pixels(tab, "photo-before")), "JPEG", quality=90))
    says(tab, "The network says .*nothing else")
    assert np.abs(pixels(tab, "photo-before").astype(int) - after).mean() < 2, "another program's JPEG of it"


def test_a_link_repeats_the_experiment(browser, site, tab):
    tab.locator(".example input").nth(2).check()
    tab.locator("[name=objective][value=region]").check()
    tab.locator("#region-top").fill("3")
    tab.locator("#levels").fill("5")
    tab.locator("#steps").fill("10")
    start(tab)
    attack(tab)
    tab.locator("#copy-link").click()
    says(tab, "The (link|address)")
    with browsing.watched(browser, site) as (other, problems):
        other.goto(tab.url, wait_until="networkidle")
        assert "Press Start to repeat it" in other.locator("#status").inner_text()
        other.locator("#start").click()
        says(other, "^After 10 steps")
        assert np.array_equal(pixels(other, "photo-now"), pixels(tab, "photo-now"))
        assert problems == []


def test_a_strange_link_is_said_to_be_one(tab, site):
    tab.goto(f"{site}?again#network=nothing", wait_until="networkidle")
    assert "does not have" in tab.locator("#status").inner_text()


def test_a_region_is_drawn_with_the_pointer(tab):
    tab.locator("[name=objective][value=region]").check()
    tab.evaluate("scrollTo(0, 0)")
    frame = tab.locator(".before .frame").bounding_box()
    tab.mouse.move(frame["x"] + 0.26 * frame["width"], frame["y"] + 0.51 * frame["height"])
    tab.mouse.down()
    tab.mouse.move(frame["x"] + 0.74 * frame["width"], frame["y"] + 0.99 * frame["height"], steps=4)
    tab.mouse.up()
    sides = [int(tab.locator(f"#region-{side}").input_value()) for side in ("top", "bottom", "left", "right")]
    assert sides == [16, 32, 8, 24]


def test_a_region_is_drawn_with_a_finger(browser, site):
    with browsing.watched(browser, site, viewport=browsing.PHONE, has_touch=True, is_mobile=True) as (tab, problems):
        tab.goto(site, wait_until="networkidle")
        tab.locator("#choices summary").tap()
        tab.locator("[name=objective][value=region]").tap()
        frame = tab.locator(".before .frame")
        frame.scroll_into_view_if_needed()
        box, scrolled = frame.bounding_box(), tab.evaluate("scrollY")
        finger = tab.context.new_cdp_session(tab)

        def touch(kind, *share):
            points = [{axis: box[axis] + share[0] * box["width"] for axis in "xy"}] if share else []
            finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        touch("touchStart", 0.26)
        for share in (0.3, 0.4, 0.6, 0.74):
            touch("touchMove", share)
        touch("touchEnd")
        sides = [int(tab.locator(f"#region-{side}").input_value()) for side in ("top", "bottom", "left", "right")]
        assert sides == [8, 24, 8, 24]
        assert tab.evaluate("scrollY") == scrolled, "the finger draws, and does not scroll"
        assert problems == []


def test_a_slider_takes_its_opposite_along(tab):
    tab.locator("[name=objective][value=region]").check()
    sides = lambda: [int(tab.locator(f"#region-{side}").input_value()) for side in ("top", "bottom", "left", "right")]  # noqa: E731
    tab.locator("#region-bottom").fill("5")
    tab.locator("#region-left").fill("31")
    assert sides() == [4, 5, 31, 32]
    outline = tab.locator(".before .region")
    assert outline.evaluate("({ style }) => [style.top, style.left, style.height, style.width]") == [
        f"{100 * pixels / 32}%" for pixels in (4, 31, 1, 1)
    ]


# --- A photograph of the reader's own ---------------------------------------------------------------------------------

COLOURS = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))


def test_an_own_photograph_is_explained_as_the_network_sees_it(tab):
    start(tab)
    give(tab, "mine.png", encoded(COLOURS, "PNG"))
    assert "knows 10 classes and nothing else" in says(tab, "nothing else")
    tab.locator("#copy-link").evaluate("button => button.click()")
    assert "stays on your machine" in says(tab, "examples alone")


def test_a_photograph_stands_upright(tab):
    image = Image.new("RGB", (64, 64), "white")
    image.paste("black", (0, 0, 64, 32))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: what is stored on the left is above
    give(tab, "turned.jpg", encoded(image, "JPEG", exif=exif, quality=95))
    says(tab, "Press Start")
    tab.locator("canvas#photo-before[aria-label*='turned.jpg']").wait_for()
    shown = pixels(tab, "photo-before").astype(int)
    assert shown[:, -8:].max() < 60
    assert shown[:, :8].min() > 200


def test_what_is_transparent_is_white(tab):
    give(tab, "clear.png", encoded(Image.new("RGBA", (40, 40), (255, 0, 0, 0)), "PNG"))
    tab.locator("canvas#photo-before[aria-label*='clear.png']").wait_for()
    assert pixels(tab, "photo-before").min() == 255


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("notes.txt", b"no picture at all", "no photograph that this page can read"),
        ("empty.jpg", b"", "no photograph that this page can read"),
        ("broken.jpg", encoded(COLOURS, "JPEG")[:200] + b"\xff\xc0\x00\x11\x08\x00\x10\x00\x10", "it may be damaged"),
        ("huge.png", b"", "has 56 million pixels"),
    ],
)
def test_a_file_that_cannot_be_used_gets_a_sentence(tab, name, content, sentence):
    if name == "huge.png":
        content = encoded(Image.new("1", (8000, 7000)), "PNG")
    shown = pixels(tab, "photo-before")
    give(tab, name, content)
    assert sentence in says(tab, f"“{re.escape(name)}”")
    assert np.array_equal(pixels(tab, "photo-before"), shown), "the photograph of before stays"


def test_of_an_animation_the_first_picture_is_taken(tab):
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")]
    give(tab, "moves.gif", encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert "is an animation" in says(tab, "animation")
    assert pixels(tab, "photo-before")[0, 0].tolist() == [255, 0, 0]


def test_a_photograph_is_taken_with_the_camera(tab):
    tab.locator("#open-camera").click()
    tab.locator("#take").click()
    tab.locator("canvas#photo-before[aria-label*='camera']").wait_for(timeout=PATIENCE)
    assert not tab.locator("dialog#camera").is_visible()


def test_a_photograph_is_dropped_on_the_page(tab):
    tab.evaluate(
        """(bytes) => { const data = new DataTransfer();
        data.items.add(new File([Uint8Array.from(bytes)], 'dropped.png'));
        const how = { dataTransfer: data, bubbles: true, cancelable: true };
        document.body.dispatchEvent(new DragEvent('drop', how)) }""",
        [*encoded(COLOURS, "PNG")],
    )
    tab.locator("canvas#photo-before[aria-label*='dropped.png']").wait_for()


def test_a_photograph_is_pasted(tab):
    tab.evaluate(
        """(bytes) => { const clipboardData = new DataTransfer();
        clipboardData.items.add(new File([Uint8Array.from(bytes)], 'pasted.png'));
        document.body.dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true })) }""",
        [*encoded(COLOURS, "PNG")],
    )
    tab.locator("canvas#photo-before[aria-label*='pasted.png']").wait_for()


# --- For everybody ----------------------------------------------------------------------------------------------------


def test_everything_works_by_keyboard_alone(tab):
    def go_to(element):
        for _ in range(80):
            tab.keyboard.press("Tab")
            if tab.evaluate("document.activeElement.id || document.activeElement.name") == element:
                return
        pytest.fail(f"the Tab key does not lead to {element}")

    go_to("example")
    tab.keyboard.press("ArrowRight")
    go_to("open-file")
    go_to("objective")
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("ArrowDown")
    go_to("region-top")
    tab.keyboard.press("Home")
    go_to("levels")
    tab.keyboard.press("ArrowLeft")
    go_to("start")
    tab.keyboard.press("Enter")
    tab.locator("#play:focus").wait_for(timeout=PATIENCE)  # the focus goes on to the next button
    tab.keyboard.press("Enter")
    assert "in your region" in says(tab, "^After 20")
    for element in ("noise", "save-now", "copy-link", "shown"):
        go_to(element)
    chosen = tab.locator("[name=shown]:checked").get_attribute("value")
    tab.keyboard.press("ArrowUp")
    assert tab.locator("[name=shown]:checked").get_attribute("value") != chosen
    assert tab.evaluate("document.activeElement.name") == "shown"


def test_every_picture_has_words_that_follow_it(tab):
    canvases = tab.locator("canvas[role=img]")
    words = lambda: [canvas.get_attribute("aria-label") for canvas in canvases.all()]  # noqa: E731
    first = words()
    assert all(first)
    start(tab)
    tab.locator("#one-step").click()
    says(tab, "^After 1 step ")
    assert all(a != b or "photograph:" in a for a, b in zip(first, words(), strict=True))


def found_by_axe(tab):
    tab.evaluate(browsing.axe_script())
    found = tab.evaluate("axe.run({ resultTypes: ['violations'] })")["violations"]
    return {one["id"]: [node["html"][:200] for node in one["nodes"]] for one in found}


def test_axe_finds_nothing_before_the_start_while_it_runs_after_an_error_and_in_the_dialogue(tab):
    assert found_by_axe(tab) == {}
    give(tab, "notes.txt", b"no picture at all")
    says(tab, "no photograph")
    assert found_by_axe(tab) == {}
    tab.locator("#open-camera").click()
    tab.locator("#take").wait_for()
    assert found_by_axe(tab) == {}
    tab.keyboard.press("Escape")
    tab.locator("#steps").fill("100")
    start(tab)
    assert found_by_axe(tab) == {}
    tab.locator("#play").click()
    tab.locator("#counter").filter(has_text="step").wait_for()
    assert found_by_axe(tab) == {}
    assert tab.locator("#play").inner_text() == "Pause", "it still runs"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(tab, scheme):
    tab.emulate_media(color_scheme=scheme)
    tab.locator("[name=objective][value=region]").check()
    start(tab)
    attack(tab)
    tab.locator("#noise").click()
    says(tab, "noise")
    assert found_by_axe(tab) == {}


def test_the_page_fits_a_phone_before_and_after(browser, site):
    with browsing.watched(browser, site, viewport=browsing.PHONE) as (tab, problems):
        tab.goto(site, wait_until="networkidle")
        assert tab.evaluate("document.documentElement.scrollWidth") <= browsing.PHONE["width"]
        start(tab)
        attack(tab)
        assert tab.evaluate("document.documentElement.scrollWidth") <= browsing.PHONE["width"]
        caption = tab.locator("#table-title span").bounding_box()
        assert caption["x"] + caption["width"] <= browsing.PHONE["width"]
        assert problems == []


def test_who_wants_less_motion_gets_fewer_pictures(browser, site):
    count = """() => { let drawn = 0; const draw = CanvasRenderingContext2D.prototype.putImageData;
        CanvasRenderingContext2D.prototype.putImageData = function (...all) { drawn++; return draw.apply(this, all) };
        globalThis.drawn = () => drawn }"""
    drawn = {}
    for motion in ("no-preference", "reduce"):
        with browsing.watched(browser, site, reduced_motion=motion) as (tab, _):
            tab.goto(site, wait_until="networkidle")
            start(tab)
            tab.evaluate(count)
            attack(tab)
            drawn[motion] = tab.evaluate("drawn()")
    assert drawn["reduce"] < drawn["no-preference"] / 2
