"""Plots as SVG, drawn here: lines over a linear or logarithmic scale, and intervals; nothing comes from elsewhere."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH: Final = 720
HEIGHT: Final = 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 34, 40
_MARKS: Final = 5

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class PlotLine:
    """A line and its label; a gap where a value is not finite."""

    label: str
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class PlotScale:
    """Maps values to pixels, linearly or by the logarithm."""

    low: float
    high: float
    begin: float
    end: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Return the pixel of a value."""
        low, high, at = (math.log10(max(number, 1e-9)) if self.logarithmic else number for number in self._three(value))
        return self.begin + (at - low) / ((high - low) or 1.0) * (self.end - self.begin)

    def _three(self, value: float) -> tuple[float, float, float]:
        return self.low, self.high, value

    def marks(self) -> list[float]:
        """Return round values within the scale."""
        if self.logarithmic:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            steps = (1, 2, 5) if len(powers) < 4 else (1,)
            found = [step * 10.0**power for power in powers for step in steps]
        else:
            step = _round_step((self.high - self.low) / _MARKS)
            first = math.ceil(self.low / step)
            found = [(first + place) * step for place in range(_MARKS * 3)]
        return [value for value in found if self.low * 0.999 <= value <= self.high * 1.001]


def _round_step(rough: float) -> float:
    if rough <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= rough * 0.999)


def draw_lines(
    title: str,
    unit: str,
    lines: Sequence[PlotLine],
    x_marks: Sequence[tuple[float, str]] | None = None,
    x_label: str = "",
    logarithmic: bool = True,
) -> str:
    """Return a plot of lines; "" if no line has two points."""
    points = [point for line in lines for point in line.points if math.isfinite(point[1])]
    if len(points) < 2:
        return ""
    across = _scale_across([x for x, _ in points], x_marks)
    up = _scale_upwards([y for _, y in points], logarithmic)
    parts = [_draw_grid(across, up, x_marks), _axis_labels(unit, x_label)]
    parts += [_draw_path(line, across, up, number) for number, line in enumerate(lines)]
    parts += [_draw_legend(line.label, number) for number, line in enumerate(lines)]
    return _draw_figure(title, HEIGHT, parts)


def draw_intervals(title: str, rows: Sequence[tuple[str, float, float, float]]) -> str:
    """Return a plot of intervals (label, low, estimate, high) beside the line of 1; "" without a finite one."""
    rows = [row for row in rows if all(map(math.isfinite, row[1:])) and row[1] > 0]
    if not rows:
        return ""
    low, high = min(1.0, *(row[1] for row in rows)), max(1.0, *(row[3] for row in rows))
    margin = max((high - low) * 0.15, 0.02)
    height = _TOP + 28 * len(rows) + _BOTTOM
    across = PlotScale(max(low - margin, 0.0), high + margin, _LEFT + 40, WIDTH - _RIGHT)
    bottom = height - _BOTTOM
    parts = [_draw_vertical(across.place(mark), _TOP, bottom, f"{mark:g}") for mark in across.marks()]
    one = across.place(1.0)
    parts.append(f'<line class="one" x1="{one:.1f}" x2="{one:.1f}" y1="{_TOP}" y2="{bottom}"/>')
    for number, (label, least, estimate, most) in enumerate(rows):
        y = _TOP + 28 * number + 14
        parts.append(f'<text x="8" y="{y + 4}">{escape(label)}</text>')
        parts.append(
            f'<line class="s0" x1="{across.place(least):.1f}" x2="{across.place(most):.1f}" y1="{y}" y2="{y}"/>'
        )
        parts.append(f'<circle class="d0" cx="{across.place(estimate):.1f}" cy="{y}" r="4"/>')
    return _draw_figure(title, height, parts)


def draw_trials(title: str, trials: Sequence[tuple[float, bool]]) -> str:
    """Return a plot of the rates that a search tried, in order: filled where the objectives were kept."""
    if not trials:
        return ""
    rates = [rate for rate, _ in trials]
    up = _scale_upwards([*rates, min(rates) * 0.8, max(rates) * 1.2], logarithmic=True)
    across = PlotScale(0.5, len(trials) + 0.5, _LEFT, WIDTH - _RIGHT)
    marks = [(float(number), str(number)) for number in range(1, len(trials) + 1)]
    parts = [_draw_grid(across, up, marks), _axis_labels("requests a second", "window")]
    for number, (rate, kept) in enumerate(trials, 1):
        parts.append(
            f'<circle class="{"kept" if kept else "breached"}" cx="{across.place(number):.1f}" '
            f'cy="{up.place(rate):.1f}" r="5"><title>{rate:g}/s {"kept" if kept else "not kept"}</title></circle>'
        )
    return _draw_figure(title, HEIGHT, parts)


def _scale_across(values: Sequence[float], marks: Sequence[tuple[float, str]] | None) -> PlotScale:
    everything = [*values, *(place for place, _ in marks or ())]
    return PlotScale(min(everything), max(everything), _LEFT, WIDTH - _RIGHT)


def _scale_upwards(values: Sequence[float], logarithmic: bool) -> PlotScale:
    low, high = (max(min(values), 1e-3), max(*values, 2e-3)) if logarithmic else (0.0, max(*values, 1e-9))
    if logarithmic and high / low < 1.5:
        low, high = low / 1.3, high * 1.3
    return PlotScale(low, high, HEIGHT - _BOTTOM, _TOP, logarithmic)


def _draw_grid(across: PlotScale, up: PlotScale, x_marks: Sequence[tuple[float, str]] | None) -> str:
    bottom = HEIGHT - _BOTTOM
    marks = x_marks if x_marks is not None else [(mark, f"{mark:g}") for mark in across.marks()]
    parts = [
        _draw_vertical(across.place(place), _TOP, bottom, label) for place, label in marks[:: -(-len(marks) // 24)]
    ]
    for mark in up.marks():
        y = up.place(mark)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="axis" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{mark:g}</text>')
    return "".join(parts)


def _draw_vertical(x: float, top: float, bottom: float, label: str) -> str:
    return (
        f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>'
        f'<text class="axis" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{escape(label)}</text>'
    )


def _axis_labels(unit: str, x_label: str) -> str:
    return (
        f'<text class="axis" x="8" y="{_TOP - 8}">{escape(unit)}</text>'
        f'<text class="axis" x="{WIDTH - _RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{escape(x_label)}</text>'
    )


def _draw_path(line: PlotLine, across: PlotScale, up: PlotScale, number: int) -> str:
    commands, drawing = [], False
    for x, y in line.points:
        if math.isfinite(y):
            commands.append(f"{'L' if drawing else 'M'}{across.place(x):.1f} {up.place(y):.1f}")
        drawing = math.isfinite(y)
    return f'<path class="s{number % 4}" d="{"".join(commands)}"/>'


def _draw_legend(label: str, number: int) -> str:
    x = WIDTH - _RIGHT - 10
    y = 14 + 14 * number
    return f'<text class="legend t{number % 4}" x="{x}" y="{y}" text-anchor="end">{escape(label)}</text>'


def _draw_figure(title: str, height: float, parts: Sequence[str]) -> str:
    frame = f'viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(title)}"'
    drawing = f"<svg {frame}>{''.join(parts)}</svg>"
    return f'<figure tabindex="0"><figcaption>{escape(title)}</figcaption>{drawing}</figure>'
