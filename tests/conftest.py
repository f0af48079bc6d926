import gc
import os
import shutil
import signal
from pathlib import Path

# JAX keeps compiled programs here between runs, also those of child processes. It does not write
# its files atomically, so each pytest worker has a folder of its own.
_ROOT = Path(os.environ.get("JAXSCAPE_TEST_CACHE") or Path(__file__).parents[1] / ".cache")
_CACHE = _ROOT / os.environ.get("PYTEST_XDIST_WORKER", "main")
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(_CACHE)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import jax  # noqa: E402
import pytest  # noqa: E402

# A shell has commands in the background ignore Ctrl-C; the tests of it need it heard.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _strict_ranks():
    """No shape is ever mended by broadcasting a missing axis."""
    with jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture(autouse=True, scope="module")
def _compiled_programs_are_dropped():
    """Each maps memory; of 65,530 maps a process may have, a compiler without one crashes."""
    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture
def x64():
    """JAX with float64; without this fixture, tests run in float32."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def compilations():
    """A list that grows by one whenever anything is compiled."""
    events = []

    def listen(event, _duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield events
    jax.monitoring.clear_event_listeners()


@pytest.fixture(scope="module")
def browser():
    """Chromium; where it or playwright is missing, tests of pages are skipped and say so."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "chrome")
    chromium = next(filter(None, map(shutil.which, names)), None)
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as driver:
        flags = ["--no-sandbox", "--enable-unsafe-swiftshader"]
        browser = driver.chromium.launch(executable_path=chromium, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Opens a file offline; the test fails if the page raised an error or asked for anything."""
    contexts, errors = [], []

    def open_file(path: Path, **options):
        given = {"viewport": {"width": 1000, "height": 750}, "offline": True} | options
        contexts.append(browser.new_context(**given))
        page = contexts[-1].new_page()
        # A busy machine draws slowly; a page that hangs still fails.
        page.set_default_timeout(120_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on(
            "request",
            lambda request: (
                request.url.startswith(("file:", "data:", "blob:")) or errors.append(request.url)
            ),
        )
        page.goto(path.as_uri())
        page.wait_for_selector(".plotly-graph-div .main-svg")
        page.wait_for_timeout(1500)
        return page

    yield open_file
    for context in contexts:
        context.close()
    assert errors == []
