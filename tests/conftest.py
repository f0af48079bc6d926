"""Fixtures of all tests, a compilation cache on disk, and a summary of tests that did not run."""

import collections
import contextlib
import gc
import os
import shutil
import signal
from pathlib import Path

# JAX keeps compiled programs on disk between runs. It does not write these files atomically, so
# processes that run at the same time have separate folders: `CACHE/KIND/WORKER`.
CACHE = Path(os.environ.get("JAXSCAPE_TEST_CACHE") or Path(__file__).parents[1] / ".cache")
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "main")
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(CACHE / "tests" / WORKER)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import jax  # noqa: E402
import pytest  # noqa: E402

# A shell starts background commands with Ctrl-C ignored; some tests interrupt themselves.
signal.signal(signal.SIGINT, signal.default_int_handler)

MAX_WORKERS = 8
"""Workers of pytest-xdist; each needs 1 to 2 GB of memory."""


def pytest_xdist_auto_num_workers(config):
    """Use one worker per core, and none for a single test file: a file is not divided."""
    paths = {argument.partition("::")[0] for argument in config.args}
    if len(paths) == 1 and paths.pop().endswith(".py"):
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cores or 1, MAX_WORKERS)


def pytest_configure(config):
    """Give each worker, before it starts, the programs that any worker compiled in earlier runs."""
    if WORKER != "main":
        return
    count = config.getoption("numprocesses", 0) or 0
    workers = [f"gw{k}" for k in range(count)] or ["main"]
    for kind in (*CACHE.glob("tests"), *CACHE.glob("child*")):
        programs = {file.name: file for file in kind.glob("*/*-cache")}
        for folder in (kind / worker for worker in workers):
            folder.mkdir(exist_ok=True)
            # Without hard links, the programs are compiled again.
            with contextlib.suppress(OSError):
                for name in programs.keys() - set(os.listdir(folder)):
                    os.link(programs[name], folder / name)


_slow = pytest.StashKey[int]()


def pytest_deselected(items):
    """Count the tests that `-m "not slow"` leaves out."""
    if items and all(item.get_closest_marker("slow") for item in items):
        items[0].config.stash[_slow] = len(items)


def pytest_sessionfinish(session):
    """Send the count from a worker to the process that prints the summary."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["slow"] = session.config.stash.get(_slow, 0)


def pytest_testnodedown(node):
    """Receive the count; every worker collects all tests, so all counts are equal."""
    node.config.stash[_slow] = getattr(node, "workeroutput", {}).get("slow", 0)


def pytest_terminal_summary(terminalreporter, config):
    """Print how many tests did not run, and why."""
    reasons = collections.Counter(
        str(report.longrepr[2]).removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", [])
    )
    lines = [f"{count} skipped: {reason}" for reason, count in sorted(reasons.items())]
    if slow := config.stash.get(_slow, 0):
        lines.append(f"{slow} slow tests deselected; `pytest -m slow` runs them")
    if lines:
        terminalreporter.section("tests that did not run")
        for line in lines:
            terminalreporter.line(line)


@pytest.fixture(autouse=True)
def _strict_ranks():
    """Raise an error where broadcasting would add an axis."""
    with jax.numpy_rank_promotion("raise"):
        yield


_MAPS, _MAX_MAPS = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")


@pytest.fixture(autouse=True, scope="module")
def _drop_compiled_programs():
    """Drop all compiled programs when the process has used half of its memory maps.

    Each program takes some of the 65,530 maps that Linux allows a process by default. A compiler
    that gets no more crashes.
    """
    yield
    if _MAPS.exists() and _MAX_MAPS.exists():
        with _MAPS.open() as maps:
            count = sum(1 for _ in maps)
        if 2 * count > int(_MAX_MAPS.read_text()):
            jax.clear_caches()
            gc.collect()


@pytest.fixture
def x64():
    """Enable float64; without this fixture, tests run in float32."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def compilations():
    """A list that grows by one with each compilation; none is left from earlier tests."""
    events = []

    def listen(event, _duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            events.append(event)

    jax.clear_caches()
    jax.monitoring.register_event_duration_secs_listener(listen)
    yield events
    jax.monitoring.clear_event_listeners()


@pytest.fixture(scope="module")
def browser():
    """Chromium; tests of pages are skipped if it or playwright is missing."""
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
    """Open a file offline; the test fails if the page raises an error or requests a resource."""
    contexts, errors = [], []

    def open_file(path: Path, **options):
        settings = {"viewport": {"width": 1000, "height": 750}, "offline": True} | options
        contexts.append(browser.new_context(**settings))
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
