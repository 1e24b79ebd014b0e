"""
From a clean environment: what `pip install .` installs lets twistd find the plugin, and has everything it needs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.timeout(600)
def test_the_plugin_is_found_from_a_clean_environment(tmp_path: Path) -> None:
    source = tmp_path / "source"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, check=True, capture_output=True).stdout
    for name in filter(None, tracked.decode().split("\0")):
        if (REPOSITORY / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, source / name)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL"))}
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True, env=environment)
    subprocess.run(
        [str(python), "-m", "pip", "install", "--quiet", str(source)], check=True, env=environment, cwd=tmp_path
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    twistd = str(python.with_name("twistd"))
    help_text = subprocess.run(
        [twistd, "--help"], check=True, env=environment, cwd=empty, capture_output=True, text=True
    ).stdout
    assert "productionpacs" in help_text
    checked = subprocess.run(
        [twistd, "-n", "productionpacs", "--check"],
        env=environment,
        cwd=empty,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "ae_title: PROD_PACS" in checked.stdout
    migrated = subprocess.run(
        [
            str(python),
            "-c",
            "from pathlib import Path; from pacs.archive.index.database import migrate; migrate(Path('index.db'))",
        ],
        env=environment,
        cwd=empty,
        check=False,
    )
    assert migrated.returncode == 0, "the migrations are part of the package"
