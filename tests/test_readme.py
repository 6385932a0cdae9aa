"""The Python of README and docs runs as printed, on settings small enough for a test."""

import re
from pathlib import Path

import pytest

from t4g_tracker import api, fitted
from t4g_tracker.config import read_settings
from t4g_tracker.pipeline import Config

ROOT = Path(__file__).parents[1]
SMALL = """
features: {extractor: patch}
working_size: {height: 64, width: 128}
flow: {pixels: 16384}
adaptation: {steps: 2, width: 16, pairs_per_frame: 16}
"""
PAGES = {"README.md": 2, "docs/python.md": 1}


def snippets(page):
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.parametrize(
    ("page", "number"), [(page, n) for page, count in PAGES.items() for n in range(count)]
)
def test_a_snippet_runs_as_printed(page, number, tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "short.yaml").write_text(SMALL)
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("T4G_CACHE", str(tmp_path / "cache"))
    small = read_settings(Config(), "configs/short.yaml")
    for module in (api, fitted):
        monkeypatch.setattr(module, "settings_of", lambda config: config or small)
    code = re.sub(r"steps=\d\d+", "steps=2", snippets(page)[number])
    found = {}
    exec(compile(code, f"{page}, snippet {number}", "exec"), found)
    assert found["tracks"].xy.shape[1:] == (40, 2)
    assert found["tracks"].visibility.any(axis=1).all()


def test_every_snippet_of_these_pages_is_run():
    assert {page: len(snippets(page)) for page in PAGES} == PAGES
