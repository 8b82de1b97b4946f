import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from runbook_lib.lab import environment
from runbook_lib.lab.lab import Lab
from runbook_lib.serving.supervise import Owner

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
TOKEN = "browser-test"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
# No windowing: a cell that is scrolled away would not be in the page. No news: they need the net.
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A folder as a user has it: pages to write in, profiles, an outputs folder, a lab of its own."""
    home = tmp_path_factory.mktemp("house")
    shutil.copytree(ROOT / "notebooks", home / "notebooks")
    shutil.copytree(ROOT / "profiles", home / "profiles")
    tiny = home / "profiles" / "lab" / "tiny.yaml"
    text = tiny.read_text(encoding="utf-8")
    kept = [line for line in text.splitlines() if "- {label" not in line or "kv-u8, kv" in line]
    tiny.write_text("\n".join(kept) + "\n", encoding="utf-8")
    asking = "extends: lab/tiny\napprove: ask\nmax_batch_size: 3\n"
    (home / "profiles" / "lab" / "asking.yaml").write_text(asking, encoding="utf-8")
    # Engines are built here for the first time, so that there is something to approve.
    (home / "cache").mkdir()
    (home / "cache" / "lab-environment").symlink_to(environment.ensure().root.parent)
    return home


@pytest.fixture(scope="module")
def jupyter(house):
    """JupyterLab's URL; the lab that its pages start is this process's and ends with it."""
    lab = Lab("browser-test", Owner.this_process())
    settings = house / "settings" / "@jupyterlab"
    for name, values in SETTINGS.items():
        path = settings / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values), encoding="utf-8")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    own = {
        f"JUPYTER_{name}_DIR": str(house / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")
    }
    variables = {
        **os.environ,
        **own,
        **lab.variables(),
        "JUPYTERLAB_SETTINGS_DIR": str(house / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(house / "workspaces"),
        "RUNBOOK_CACHE": str(house / "cache"),
        "RUNBOOK_OUTPUTS": str(house / "outputs"),
        "RUNBOOK_PROFILES": str(house / "profiles"),
    }
    words = ["lab", "--no-browser", "--allow-root", f"--port={port}", "--ServerApp.port_retries=0"]
    words += [f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={house}"]
    command = [sys.executable, "-m", "jupyter", *words]
    with (house / "jupyter.log").open("w", encoding="utf-8") as log:
        server = subprocess.Popen(command, env=variables, cwd=house, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_up(url, server, house / "jupyter.log")
        yield url
    finally:
        server.terminate()
        server.wait(20)
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("RUNBOOK_CACHE", str(house / "cache"))
            lab.down()


def _wait_until_up(url, server, log):
    end = time.monotonic() + 90
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/api/status?token={TOKEN}", timeout=2):
                return
        except (OSError, urllib.error.URLError):
            time.sleep(0.2)
    raise AssertionError(f"JupyterLab did not start:\n{log.read_text(encoding='utf-8')[-2000:]}")


@pytest.fixture(scope="module")
def chromium():
    # Not longer than its tests: as long as playwright lives, an event loop runs in this thread.
    if CHROMIUM is None:
        pytest.skip("no chromium: apt-get install -y chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium):
    """A tall tab, and what the browser's console called an error."""
    context = chromium.new_context(viewport={"width": 1280, "height": 2200})
    opened = context.new_page()
    opened.set_default_timeout(60_000)
    opened.errors = []
    opened.on("console", lambda said: _note(opened.errors, said))
    yield opened
    context.close()


def _note(errors, said):
    if said.type == "error":
        errors.append(said.text)
