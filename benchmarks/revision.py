"""Another revision of this checkout, in a folder of its own for as long as it is measured."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from t4g_tracker.errors import TrackerError


def commit_of(tree: Path, revision: str) -> str:
    """The commit that a revision names.

    Raises:
        TrackerError: If ``tree`` is no checkout, or has no such revision.
    """
    return _git(tree, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", refused=revision).strip()


def code_of(tree: Path) -> str:
    """Identify the code of a checkout by its commit and what is not committed; empty without git."""
    try:
        commit, changes = _git(tree, "rev-parse", "--short=12", "HEAD").strip(), _git(tree, "diff", "HEAD")
        for name in _git(tree, "ls-files", "--others", "--exclude-standard", "*.py", "*.yaml").splitlines():
            changes += name + hashlib.blake2b((tree / name).read_bytes()).hexdigest()
    except (TrackerError, OSError):
        return ""
    changed = hashlib.blake2b(changes.encode(), digest_size=4).hexdigest() if changes else ""
    return f"{commit}+{changed}" if changed else commit


@contextmanager
def checked_out(tree: Path, commit: str, folder: Path) -> Iterator[Path]:
    """Check a commit out into a folder in ``folder``, which is removed at the end.

    What a killed benchmark has left there is removed before.

    Raises:
        TrackerError: If that fails, or the commit has no run_tracker.py.
    """
    other = folder / "revision"
    shutil.rmtree(other, ignore_errors=True)
    _git(tree, "worktree", "prune")
    _git(tree, "worktree", "add", "--detach", "--quiet", str(other), commit, refused=commit)
    try:
        if not (other / "run_tracker.py").is_file():
            raise TrackerError(f"{commit}: has no run_tracker.py; name a later revision")
        yield other
    finally:
        _git(tree, "worktree", "remove", "--force", str(other))


def _git(tree: Path, *words: str, refused: str = "") -> str:
    done = subprocess.run(["git", "-C", str(tree), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip() or "it names no commit"
        raise TrackerError(f"git {words[0]} {refused}: {said}; name a commit, branch or tag of {tree}")
    return done.stdout
