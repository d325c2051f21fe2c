"""The HTML page of a report: one file without references, so that it can be mailed and read anywhere."""

import json
from html import escape

import numpy as np

from eval.report import figures as report_figures
from eval.report import strips
from eval.scoring import ope
from eval.scoring.statistics import by_attribute

LABELS = {
    "auc": "AUC",
    "op50": "OP50",
    "op75": "OP75",
    "precision20": "P@20px",
    "norm_precision": "NP@0.2",
    "norm_precision_auc": "NP AUC",
    "mean_iou": "mean IoU",
}
_OTHERS = {
    "ao": "AO",
    "sr50": "SR50",
    "sr75": "SR75",
    "mao": "mAO",
    "msr50": "mSR50",
    "msr75": "mSR75",
    "lt_precision": "long-term Pr",
    "lt_recall": "long-term Re",
    "lt_f": "long-term F",
    "oxuva_tpr": "OxUvA TPR",
    "oxuva_tnr": "OxUvA TNR",
    "oxuva_gm": "OxUvA GM",
    "oxuva_maxgm": "OxUvA MaxGM",
}
GENERATOR = '<meta name="generator" content="python -m eval.report">'
MOST_PICTURED = 60  # sequences with pictures, so that the page of a large benchmark can still be mailed
MOST_POINTS = 500  # of a line over the frames
_MEANING = {
    "auc": "mean over 21 thresholds of the share of frames with an overlap above it",
    "op50": "share of frames with IoU > 0.5",
    "op75": "share of frames with IoU > 0.75",
    "precision20": "share of frames with the center within 20 pixels",
    "norm_precision": "share of frames with the center within 0.2 of the target's sides",
}

STYLE = """
:root { --ink: #1c2330; --dim: #667085; --line: #e4e7ec; --soft: #f7f8fa; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 28px 32px 60px; max-width: 1240px; color: var(--ink); background: #fff;
  font: 14px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; }
h1 { font-size: 26px; margin: 0 0 4px; letter-spacing: -0.01em; }
h2 { font-size: 18px; margin: 40px 0 10px; }
p, .note { max-width: 860px; } .note { color: var(--dim); font-size: 13px; margin: 4px 0 10px; }
nav a { margin-right: 16px; color: #0059b2; text-decoration: none; } nav { margin: 14px 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 11px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
th { vertical-align: bottom; cursor: pointer; user-select: none; }
th { font-weight: 600; color: #344054; background: var(--soft); }
table.dense th, table.dense td { padding: 5px 6px; font-size: 13px; }
th:first-child { background: var(--soft); }
th[data-way]::after { font-size: 9px; }
th[data-way="1"]::after { content: " \\25B2"; } th[data-way="-1"]::after { content: " \\25BC"; }
tbody tr:hover td { background: #f2f7ff; }
td.best { font-weight: 700; } td.differs { background: #fff4d6; } td.short { color: #b42318; }
.dot { display: inline-block; width: 10px; height: 10px; border-radius: 50%; margin-right: 8px; }
.figures { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 14px; }
.figures figure { margin: 0; } .figures .wide { grid-column: span 2; } .figures svg { width: 100%; height: auto; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 6px 0; }
details.sequence { border: 1px solid var(--line); border-radius: 8px; margin: 8px 0; padding: 0 14px; }
details.sequence[open] { padding-bottom: 14px; }
summary { cursor: pointer; padding: 9px 0; } summary b { display: inline-block; min-width: 170px; }
summary .chip { margin-right: 14px; font-variant-numeric: tabular-nums; white-space: nowrap; }
.strip { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 8px; margin-top: 10px; }
.strip figure { margin: 0; } .strip img { width: 100%; border-radius: 4px; display: block; }
figcaption { font-size: 12px; color: var(--dim); } figcaption.lost { color: #b42318; }
.timeline { width: 100%; height: 120px; display: block; background: var(--soft); border-radius: 4px; }
pre { background: var(--soft); padding: 10px; overflow-x: auto; font-size: 12px; border-radius: 6px; }
@media print { nav { display: none; } details.sequence { break-inside: avoid; } }
@media (max-width: 800px) { .figures { grid-template-columns: 1fr; } .figures .wide { grid-column: auto; } }
"""

# A click sorts by that column, numbers downward first; a second click turns it around.
SCRIPT = """
document.querySelectorAll("table").forEach(table => table.querySelectorAll("th").forEach((head, column) =>
  head.addEventListener("click", () => {
    const body = table.tBodies[0], key = row => row.cells[column].dataset.key;
    const numeric = [...body.rows].some(row => !isNaN(parseFloat(key(row))));
    const way = head.dataset.way ? -head.dataset.way : numeric ? -1 : 1;
    table.querySelectorAll("th").forEach(other => delete other.dataset.way);
    head.dataset.way = way;
    const value = row => numeric ? (isNaN(parseFloat(key(row))) ? way * Infinity : parseFloat(key(row))) : key(row);
    [...body.rows].sort((a, b) => way * (value(a) > value(b) ? 1 : value(a) < value(b) ? -1 : 0))
      .forEach(row => body.appendChild(row));
  })));
document.querySelectorAll("a[href^='#sequence-']").forEach(link => link.addEventListener("click", () => {
  document.getElementById(link.getAttribute("href").slice(1)).open = true; }));
document.querySelectorAll("[data-all]").forEach(button => button.addEventListener("click", () =>
  document.querySelectorAll("details.sequence").forEach(item => item.open = button.dataset.all === "open")));
"""


def render(report, pictures: dict[str, str]) -> str:
    """The whole page; `pictures`: name of a figure -> `<svg>`."""
    parts = [_header(report), _main_table(report)]
    if pictures:
        parts.append(_figures(pictures))
    parts += [_rules(report), _others(report), _attributes(report), _by_sequence(report)]
    if report.sequences:
        parts.append(_drill_down(report))
    parts.append(_made_from(report))
    body = "\n".join(part for part in parts if part)
    title = escape(report.title)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">{GENERATOR}<title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>'
        f"<body>\n{body}\n<script>{SCRIPT}</script></body></html>\n"
    )


def _header(report) -> str:
    frames = sum(len(sequence.frames) for sequence in report.sequences.values())
    size = f"{len(report.names)} sequences" + (f", {frames:,} frames" if frames else "")
    links = ['<a href="#figures">Curves</a>'] if any(entry.curves for entry in report.entries) else []
    links += ['<a href="#sequences">By sequence</a>', '<a href="#made-from">Made from</a>']
    problems = "".join(f"<li>{escape(problem)}</li>" for problem in report.problems)
    left_out = f"<p><b>Left out:</b></p><ul>{problems}</ul>" if problems else ""
    return (
        f"<header><h1>{escape(report.title)}</h1><div>{len(report.entries)} trackers, {size}</div>"
        f'<p class="note">Rule {escape(report.rule)}.</p><nav>{"".join(links)}</nav>{left_out}</header>'
    )


def _name(report, index: int) -> str:
    return f"{_dot(report_figures.color_of(index))}{escape(report.entries[index].name)}"


def _dot(color: str) -> str:
    return f'<span class="dot" style="background:{color}"></span>'


def _cell(value: float | None, digits: int = 3, kind: str = "", suffix: str = "") -> str:
    if value is None or np.isnan(value):
        return '<td data-key="">–</td>'
    style = f' class="{kind}"' if kind else ""
    return f'<td{style} data-key="{value:.9g}">{value:.{digits}f}{suffix}</td>'


def _table(heads: list[str], rows: list[str], hints: dict[str, str] | None = None, kind: str = "") -> str:
    hint = {text: f' title="{escape(hints[text])}"' if hints and text in hints else "" for text in heads}
    head = "".join(f"<th{hint[text]}>{escape(text).replace(chr(10), '<br>')}</th>" for text in heads)
    lines = "\n".join(f"<tr>{row}</tr>" for row in rows)
    table = f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>\n{lines}\n</tbody></table>'
    return f'<div class="scroll">{table}</div>'


def _main_table(report) -> str:
    shown = [score for score in _MEANING if any(score in entry.spread for entry in report.entries)]
    rows = []
    for index, entry in enumerate(report.entries):
        cells = [f'<td data-key="{escape(entry.name)}">{_name(report, index)}</td>']
        for score in shown:
            mean = entry.mean(score)
            deviation = f" ± {entry.spread[score][1]:.3f}" if entry.seeds > 1 and score in entry.spread else ""
            cells.append(_cell(mean, 3, "best" if report.is_best(entry, score) else "", deviation))
        lost = float(sum(len(starts) for starts in entry.losses.values())) if entry.losses else None
        cells += [_cell(lost, 0), _cell(entry.fps, 1), _cell(entry.milliseconds, 1)]
        short = "short" if len(entry.scores) < len(report.names) else ""
        text = f"{len(entry.scores)} of {len(report.names)}"
        rows.append("".join([*cells, f'<td class="{short}" data-key="{len(entry.scores)}">{text}</td>']))
    heads = ["tracker", *(LABELS[score] for score in shown), "losses", "frames/s", "ms, median", "sequences"]
    hints = {LABELS[score]: _MEANING[score] for score in shown} | {
        "losses": "times that the overlap stayed at most 0.1 for 10 visible frames",
        "ms, median": "of one frame, without decoding",
    }
    note = "Click a column to sort by it. Means over sequences, each with the same weight."
    if len(report.ranked) < len(report.entries):
        count = len(report.ranked[0].scores)
        note += (
            f" Ranked are the trackers on the same {count} sequences; those on others follow, none of them bold."
        )
    note = f'<p class="note">{note}</p>'
    return f"<h2>Trackers</h2>{note}{_table(heads, rows, hints)}"


def _figures(pictures: dict[str, str]) -> str:
    wide = {"calibration"}
    figures = "".join(
        f'<figure class="{"wide" if name in wide else ""}">{svg}</figure>' for name, svg in pictures.items()
    )
    note = (
        '<p class="note">Calibration: how far the confidence tells that a box is right (IoU above 0.5), over all'
        " frames but the first; where the target is absent, no box is right.</p>"
        if "calibration" in pictures
        else ""
    )
    return f'<h2 id="figures">Curves</h2><div class="figures">{figures}</div>{note}'


def _rules(report) -> str:
    """The same boxes by every toolkit's rule; what differs from the first column of its score is marked."""
    toolkits = [name for name in ope.TOOLKITS if any(name in entry.rules for entry in report.entries)]
    if len(toolkits) < 2:
        return ""
    scores = ("auc", "precision20", "norm_precision")
    rows = []
    for index, entry in enumerate(report.entries):
        if not entry.rules:
            continue
        cells = [f'<td data-key="{escape(entry.name)}">{_name(report, index)}</td>']
        for score in scores:
            first = entry.rules.get(toolkits[0], {}).get(score, np.nan)
            values = [entry.rules.get(name, {}).get(score) for name in toolkits]
            cells += [_cell(v, 4, "differs" if v is not None and abs(v - first) > 5e-5 else "") for v in values]
        rows.append("".join(cells))
    heads = ["tracker", *(f"{LABELS[score]}\n{name}" for score in scores for name in toolkits)]
    note = (
        '<p class="note">The same boxes by each toolkit\'s rule. They differ in what frames without the target count'
        " for, in whether frame 1 is exact, and in rounding; marked where a number is not that of the first rule.</p>"
    )
    return f"<h2>By each toolkit's rule</h2>{note}{_table(heads, rows, kind='dense')}"


def _others(report) -> str:
    shown = [key for key in _OTHERS if any(key in entry.others for entry in report.entries)]
    if not shown:
        return ""
    rows = [
        f'<td data-key="{escape(entry.name)}">{_name(report, index)}</td>'
        + "".join(_cell(entry.others.get(key)) for key in shown)
        for index, entry in enumerate(report.entries)
        if entry.others
    ]
    note = (
        '<p class="note">Of the same boxes. AO, SR: GOT-10k, over frames; mAO, mSR: over object classes. Long-term:'
        " VOT-LT, precision and recall where F is largest, over thresholds of the confidence. OxUvA: over the annotated"
        " frames of all sequences; a target is reported where the confidence reaches the tracker's own threshold.</p>"
    )
    return f"<h2>Other measures</h2>{note}{_table(['tracker', *(_OTHERS[key] for key in shown)], rows)}"


def _attributes(report) -> str:
    grouped = [
        by_attribute({name: row["auc"] for name, row in entry.scores.items() if "auc" in row}, report.attributes)
        for entry in report.entries
    ]
    names = sorted({attribute for group in grouped for attribute in group})
    if not names:
        return ""
    rows = [
        f'<td data-key="{escape(entry.name)}">{_name(report, index)}</td>'
        + "".join(_cell(group.get(name, (None, 0))[0]) for name in names)
        for index, (entry, group) in enumerate(zip(report.entries, grouped))
    ]
    counts = {name: max(group.get(name, (0, 0))[1] for group in grouped) for name in names}
    heads = ["tracker", *(f"{name} ({counts[name]})" for name in names)]
    return f'<h2>By attribute</h2><p class="note">AUC; in brackets the number of sequences.</p>{_table(heads, rows)}'


def _by_sequence(report) -> str:
    rows = []
    for name in report.names:
        values = [entry.scores.get(name, {}).get("auc") for entry in report.entries]
        link = f'<a href="#sequence-{escape(name)}">{escape(name)}</a>' if report.sequences else escape(name)
        cells = [f'<td data-key="{escape(name)}">{link}</td>']
        best = max((value for value in values if value is not None), default=None)
        cells += [_heat(value, value == best) for value in values]
        rows.append("".join(cells))
    heads = ["sequence", *(entry.name for entry in report.entries)]
    note = '<p class="note">AUC of each sequence; the best in bold face.</p>'
    return f'<h2 id="sequences">By sequence</h2>{note}{_table(heads, rows)}'


def _heat(value: float | None, best: bool) -> str:
    if value is None:
        return '<td data-key="">–</td>'
    # From red over yellow to green, pale enough for black digits.
    shade = f"background:hsl({120 * min(max(value, 0), 0.8) / 0.8:.0f} 65% 90%)"
    return f'<td{" class=best" if best else ""} style="{shade}" data-key="{value:.6f}">{value:.3f}</td>'


def _drill_down(report) -> str:
    tracked = [(index, entry) for index, entry in enumerate(report.entries) if entry.tracks]
    colors = {entry.name: report_figures.color_of(index) for index, entry in tracked}
    legend = "".join(f"<span>{_name(report, index)}</span>" for index, _ in tracked)
    difficulty = {name: _mean_auc(report, name) for name in report.sequences}
    pictured = set(sorted(difficulty, key=difficulty.get)[:MOST_PICTURED])
    parts = []
    for name, sequence in report.sequences.items():
        here = [(index, entry) for index, entry in tracked if name in entry.tracks]
        if not here:
            continue
        chips = "".join(
            f'<span class="chip">{_dot(colors[entry.name])}{entry.scores[name]["auc"]:.3f}</span>' for _, entry in here
        )
        boxes = {entry.name: entry.tracks[name].boxes for _, entry in reversed(here)}
        losses = {entry.name: entry.losses[name] for _, entry in here}
        drawn = strips.draw_strip(sequence, boxes, colors, losses) if name in pictured else ()
        strip = "".join(_picture(picture) for picture in drawn)
        moments = "; ".join(
            f"{escape(key)}: {', '.join(str(start + 1) for start in starts)}"
            for key, starts in losses.items()
            if starts
        )
        lost = f'<p class="note">Lost from frame: {moments}.</p>' if moments else ""
        parts.append(
            f'<details class="sequence" id="sequence-{escape(name)}"><summary><b>{escape(name)}</b>{chips}'
            f'<span class="note">{len(sequence.frames)} frames</span></summary>'
            f'{_timeline(sequence, here, name, colors)}{lost}<div class="strip">{strip}</div></details>'
        )
    note = (
        '<p class="note">Overlap with the truth over the frames (gray: target absent), then frames spread evenly and'
        " the first moments of loss. The true box is white. A loss: overlap of at most 0.1 for 10 visible frames."
        ' <button data-all="open">open all</button> <button data-all="close">close all</button></p>'
    )
    if len(pictured) < len(report.sequences):
        note += f'<p class="note">Pictures of the {MOST_PICTURED} hardest sequences only.</p>'
    return f'<h2>Drill-down</h2>{note}<div class="legend">{legend}</div>{"".join(parts)}'


def _mean_auc(report, name: str) -> float:
    values = [entry.scores[name]["auc"] for entry in report.entries if name in entry.scores]
    return float(np.mean(values)) if values else 1.0


def _picture(picture: strips.Picture) -> str:
    image = (
        f'<img loading="lazy" alt="frame {picture.frame + 1}" src="{picture.uri}">'
        if picture.uri
        else "<div>not readable</div>"
    )
    caption = f"frame {picture.frame + 1}" + (f": {escape(picture.caption)}" if picture.caption else "")
    kind = ' class="lost"' if picture.caption else ""
    return f"<figure>{image}<figcaption{kind}>{caption}</figcaption></figure>"


def _timeline(sequence, here, name: str, colors: dict[str, str]) -> str:
    """Overlap over frames as an `<svg>` that fills the width: 1000 x 100 units, overlap 1 at the top."""
    count = len(sequence.frames)
    step = 1000 / max(count - 1, 1)
    hidden = np.flatnonzero(~sequence.visible)
    bands = "".join(
        f'<rect x="{(t - 0.5) * step:.1f}" y="0" width="{step:.2f}" height="100" fill="#d0d5dd"/>' for t in hidden
    )
    lines = []
    for _, entry in reversed(here):
        overlap = entry.tracks[name].overlap
        shown = np.flatnonzero(~np.isnan(overlap))[:: -(-count // MOST_POINTS)]
        points = " ".join(f"{t * step:.1f},{100 - 100 * overlap[t]:.1f}" for t in shown)
        lines.append(
            f'<polyline points="{points}" fill="none" stroke="{colors[entry.name]}" stroke-width="1.6"'
            f' vector-effect="non-scaling-stroke"><title>{escape(entry.name)}</title></polyline>'
        )
    half = '<path d="M0 50H1000" stroke="#98a2b3" stroke-dasharray="3 4" vector-effect="non-scaling-stroke"/>'
    return (
        f'<svg class="timeline" viewBox="0 -3 1000 106" preserveAspectRatio="none">{bands}{half}{"".join(lines)}</svg>'
    )


def _made_from(report) -> str:
    parts = []
    for index, entry in enumerate(report.entries):
        short = {key: value for key, value in entry.made_from.items() if key != "config"}
        text = ", ".join(f"{key} {value}" for key, value in short.items())
        seeds = f", {entry.seeds} seeds" if entry.seeds > 1 else ""
        config = entry.made_from.get("config")
        block = f"<pre>{escape(json.dumps(config, indent=1))}</pre>" if config else ""
        parts.append(f"<details><summary>{_name(report, index)}: {escape(text)}{seeds}</summary>{block}</details>")
    return f'<h2 id="made-from">Made from</h2>{"".join(parts)}'
