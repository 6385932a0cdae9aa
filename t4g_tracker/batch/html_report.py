"""report.html: the tables of a batch, published scores for comparison, and the worst tracks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from t4g_tracker.batch.outcomes import ClipOutcome
from t4g_tracker.batch.published import CLIPS, LONGEST_FRAMES, Published, published_for
from t4g_tracker.batch.summary import MEAN, SummaryRow, summary_table
from t4g_tracker.datasets.protocols import WORST_OF_A_CLIP
from t4g_tracker.pages.rendering import render_page
from t4g_tracker.storage.files import write_text
from t4g_tracker.tables import Table, rounded

WORST_SHOWN = 50


@dataclass(frozen=True)
class Setup:
    """What was measured, as far as it matters for comparison with published scores."""

    title: str
    dataset: str
    mode: str
    resolution: str
    first_frames: int  # 0: whole clips
    clips: int  # number measured
    all_clips: int  # number in the data set on disk


def incomparable(setup: Setup, published: Published, longest: int) -> list[str]:
    """List what differs between this batch and a published score; empty if they compare.

    Args:
        setup: Of this batch.
        published: The score.
        longest: Frames of the longest clip measured.
    """
    reasons = []
    if published.mode and published.mode != setup.mode:
        reasons.append(f"queries: {setup.mode} here, {published.mode} there")
    if setup.first_frames:
        reasons.append(f"length: first {setup.first_frames} frames here")
    elif 0 < longest < LONGEST_FRAMES.get(setup.dataset, 0):
        reasons.append(f"length: at most {longest} frames here, up to {LONGEST_FRAMES[setup.dataset]} there")
    if setup.clips < setup.all_clips:
        reasons.append(f"clips: {setup.clips} of {setup.all_clips}")
    elif setup.clips != CLIPS.get(setup.dataset, setup.clips):
        reasons.append(f"clips: {setup.clips} here, {CLIPS[setup.dataset]} there")
    if published.resolution != setup.resolution:
        reasons.append(f"resolution: {setup.resolution} here, {published.resolution} there")
    if setup.dataset == "badja":
        reasons.append("queries: where a joint is first visible here, in the first frame there")
        reasons.append("clips: cat_jump, tiger and the extra videos are mostly left out there")
        reasons.append("3px: at the size of the annotations here, perhaps at 480p there")
    return reasons


def write_report(
    folder: Path,
    outcomes: Sequence[ClipOutcome],
    rows: Sequence[SummaryRow],
    measures: Sequence[str],
    setup: Setup,
) -> None:
    """Write report.html.

    Args:
        folder: The output folder; links to overlays are relative to it.
        outcomes: Outcomes of all clips.
        rows: From ``write_summary``.
        measures: Columns of the tables.
        setup: What was measured.

    Raises:
        OutputError: If it cannot be written.
    """
    longest = max((outcome.frames for outcome in outcomes), default=0)
    failures = [outcome for outcome in outcomes if outcome.error]
    counted = replace(setup, clips=setup.clips - len(failures))
    means = [row for row in rows if row.clip == MEAN]
    clips = [row for row in rows if row.clip != MEAN]
    worst = sorted(
        ((outcome, track) for outcome in outcomes for track in outcome.worst),
        key=lambda entry: -entry[1].error_px,
    )
    warned = [[outcome.clip, line] for outcome in outcomes for line in outcome.warnings]
    published = published_for(setup.dataset, setup.mode)
    comparison = _comparison(means, published, measures, counted, longest)
    page = render_page(
        "report.html",
        setup=setup,
        scored=bool(measures),
        counted=counted.clips if means else 0,
        published=comparison.html(own=range(len(means))) if published else "",
        means=summary_table(means, measures).html(),
        failed=Table(["clip", "error"], [[outcome.clip, outcome.error] for outcome in failures]).html(),
        failures=len(failures),
        warned=Table(["clip", "warning"], warned).html() if warned else "",
        clips=summary_table(clips, measures).html() if clips else "",
        overlays=[outcome for outcome in outcomes if outcome.overlay],
        worst=worst[:WORST_SHOWN],
        worst_in_all=len(worst),
        worst_of_a_clip=WORST_OF_A_CLIP,
    )
    write_text(folder / "report.html", page)


def _comparison(
    means: Sequence[SummaryRow],
    published: Sequence[Published],
    measures: Sequence[str],
    setup: Setup,
    longest: int,
) -> Table:
    """Make a table of this batch's means, then published scores and what differs."""
    lines = [
        [row.result.name, "here", *(rounded(row.result.measures.get(name)) for name in measures), ""]
        for row in means
    ]
    for row in published:
        scores = [rounded(row.measures.get(name), unknown="") for name in measures]
        why = "; ".join(incomparable(setup, row, longest))
        lines.append([row.tracker, row.source, *scores, f"\N{WARNING SIGN} {why}" if why else ""])
    return Table(["tracker", "source", *measures, "what differs"], lines)
