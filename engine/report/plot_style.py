"""Themes of plots and how they are saved: the only module that configures Altair and calls vl-convert.

Backgrounds are transparent, so a picture stands on a light page and on a dark one; `theme` sets the ink: `both` reads
on either, `light` and `dark` have more contrast on their own. Colours differ in lightness and hue, never red against
green, and what they say is said a second time by a shape, a mark or a text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from engine.arguments import check_arguments, describe_value, path_of
from engine.display import cut
from engine.errors import EngineError, ParameterError
from engine.publish import atomic_publish
from engine.quality.causes.cause_table import CAUSE_TABLE
from engine.report.transparency import compress_png, remove_background

try:
    import altair as alt
    import vl_convert
except ImportError as error:
    raise EngineError(
        f"plots need the extra `notebook` ({error.name} is not installed); pip install 'session-engine[notebook]'"
    ) from error

__all__ = [
    "CAUSES",
    "HEAT",
    "OTHER_CAUSE",
    "WIDTH",
    "Theme",
    "ThemeColours",
    "alt",
    "label",
    "labels",
    "save_plot",
    "style_chart",
    "theme_colours",
]

Theme = Literal["both", "light", "dark"]
LONGEST_LABEL = 40
WIDTH = 860
TRANSPARENT = ("transparent", None, "none")
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


@dataclass(frozen=True)
class ThemeColours:
    """Colours of a theme: text, muted text, session lines, backgrounds, rising and falling bars, marks."""

    text: str
    quiet: str
    line: str
    field: str
    up: str
    down: str
    mark: str
    other: str
    heat: tuple[str, ...]
    share: tuple[str, ...]


# From whole to nothing at all: paler or dimmer than the page's ink at first, strong at the end.
THEME_COLOURS: Mapping[str, ThemeColours] = {
    "both": ThemeColours(
        "#768390",
        "#768390",
        "#76839055",
        "#76839026",
        "#3b8eea",
        "#d9772b",
        "#3b8eea",
        "#d9772b",
        ("#76839026", "#8fb8d6", "#dbb04a", "#e08a3c", "#d65a3a", "#b83280", "#8b2fc9"),
        ("#d9772b33", "#d65a3a", "#b0206e"),
    ),
    "light": ThemeColours(
        "#1f2328",
        "#59636e",
        "#8c959f66",
        "#8c959f22",
        "#0969da",
        "#bc5a00",
        "#0969da",
        "#bc5a00",
        ("#e6ebf0", "#9cc4e4", "#f0c75e", "#ec9440", "#d9502c", "#a61b64", "#4b1063"),
        ("#fbe3d8", "#e0603f", "#6d0f3a"),
    ),
    "dark": ThemeColours(
        "#e6edf3",
        "#9198a1",
        "#9198a155",
        "#9198a122",
        "#58a6ff",
        "#f0883e",
        "#58a6ff",
        "#f0883e",
        ("#21303f", "#2f6f9f", "#b08a2a", "#d9822b", "#f0604a", "#ff6fb5", "#f3d1ff"),
        ("#40251d", "#d9532f", "#ffd5c7"),
    ),
}
HEAT = ("all", "99 % and more", "95 to 99 %", "80 to 95 %", "50 to 80 %", "under 50 %", "none")

# A colour for each family of causes (lost, rightly absent, a matter of the calendar, not known), a shape for each cause.
CAUSES: Mapping[str, tuple[str, str]] = {
    "missing": ("#d1495b", "square"),
    **{cause.name: (cause.colour, cause.mark) for cause in CAUSE_TABLE},
}
OTHER_CAUSE = "unknown"

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data:">
<title>{title}</title><style>html{{color-scheme:{scheme}}}body{{margin:1.5rem;font-family:{font}}}</style></head>
<body><div id="plot"></div><script>{library}</script>
<script type="application/json" id="spec">{spec}</script>
<script>vegaEmbed("#plot", JSON.parse(document.getElementById("spec").textContent), {{actions: false, mode: "vega-lite"}});</script>
</body></html>
"""
# What could end a script; JSON has no other place for these than its texts.
ESCAPED = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
SCHEMES = {"both": "light dark", "light": "light", "dark": "dark"}


@check_arguments("theme")
def theme_colours(theme: str) -> ThemeColours:
    """Return the colours of a theme; ParameterError for another name.

    Raises
    ------
    ParameterError
        There is no such theme.
    """
    if theme not in THEME_COLOURS:
        raise ParameterError(f"theme: received {theme!r}; valid: {', '.join(get_args(Theme))}")
    return THEME_COLOURS[theme]


def label(text: str) -> str:
    """Return the text as one line of printable characters, cut at 40."""
    return cut(text, LONGEST_LABEL)


def labels(texts: Iterable[str]) -> dict[str, str]:
    """Map each text to its `label`; one already taken by another text gets ` (2)`, ` (3)`, ... appended."""
    made: dict[str, str] = {}
    for text in texts:
        short, turn = label(text), 2
        while short in made.values():
            short, turn = f"{label(text)} ({turn})", turn + 1
        made[text] = short
    return made


def style_chart(chart: Any, title: str, notes: Iterable[str], theme: str) -> Any:  # noqa: ANN401 - any of Altair's charts
    """Return the chart with title, nonempty notes as subtitle, transparent background and the theme's configuration."""
    colours = theme_colours(theme)
    lines = [one for one in notes if one]
    named = chart.properties(
        title=alt.TitleParams(title, subtitle=lines or [" "], anchor="start"), background="transparent", padding=8
    )
    text = {"labelColor": colours.quiet, "titleColor": colours.quiet, "labelFontSize": 11, "titleFontSize": 11}
    return (
        named.configure(font=FONT)
        .configure_view(stroke=None)
        .configure_axis(
            **text,
            titleFontWeight="normal",
            gridColor=colours.line,
            gridOpacity=0.45,
            domain=False,
            tickColor=colours.line,
            labelLimit=230,
        )
        .configure_axisY(minExtent=42)  # panels below one another begin at one line
        .configure_legend(**text, titleFontWeight="normal", symbolSize=90, labelLimit=180)
        .configure_title(
            color=colours.text,
            subtitleColor=colours.quiet,
            fontSize=15,
            subtitleFontSize=12,
            subtitlePadding=5,
            offset=12,
            fontWeight=600,
            limit=WIDTH,
            dy=-2,
        )
        .configure_text(color=colours.text, fontSize=11)
        .properties(usermeta={"theme": theme})
    )


@check_arguments("scale")
def save_plot(chart: Any, path: str | Path, *, scale: float = 2.0) -> Path:  # noqa: ANN401 - any of Altair's charts
    """Save a plot as PNG, SVG or HTML by suffix, replacing the file atomically; return its path; else ParameterError.

    Parameters
    ----------
    chart : altair chart
        What a `plot_` function returned, or any other chart of Altair.
    path : str or Path
        `.png`, `.svg` or `.html`. It is replaced whole or not at all.
    scale : float
        Pixels of a PNG per pixel of the plot.

    Returns
    -------
    Path
        The file. HTML holds the libraries that draw it (0.9 MB), and asks nobody for anything.

    Raises
    ------
    ParameterError
        The path has another ending.
    """
    path = path_of("path", path)
    if not type(chart).__module__.startswith("altair"):
        raise ParameterError(f"chart: received {describe_value(chart)}; valid: what a plot_ function returned")
    spec = chart.to_dict()
    writers = {
        ".png": lambda: render_png(spec, scale),
        ".svg": lambda: vl_convert.vegalite_to_svg(spec).encode(),
        ".html": lambda: render_html(spec).encode(),
    }
    if path.suffix.lower() not in writers:
        raise ParameterError(f"path: received {path.name!r}; valid: a name that ends in {', '.join(writers)}")
    content = writers[path.suffix.lower()]()
    with atomic_publish(path) as staged:
        staged.write_bytes(content)
    return path


def render_png(spec: Mapping[str, Any], scale: float) -> bytes:
    """Return PNG bytes of a chart; a transparent background comes from renderings on white and black."""

    def on(background: str) -> bytes:
        return vl_convert.vegalite_to_png({**spec, "background": background}, scale=scale)

    ground = spec.get("background", spec.get("config", {}).get("background", "white"))
    return remove_background(on("#ffffff"), on("#000000")) if ground in TRANSPARENT else compress_png(on(ground))


def render_html(spec: Mapping[str, Any]) -> str:
    """Return an HTML page with the chart's escaped JSON and all libraries inline; its policy forbids any request."""
    text = json.dumps(spec)
    for character, escape in ESCAPED.items():
        text = text.replace(character, escape)
    title = spec.get("title", {})
    words = label(str(title.get("text", "") if isinstance(title, Mapping) else title)).replace("&", "&amp;")
    return PAGE.format(
        title=words.replace("<", "&lt;"),
        scheme=SCHEMES.get(spec.get("usermeta", {}).get("theme", "both"), "light dark"),
        font=FONT,
        library=vega_library(),
        spec=text,
    )


@cache
def vega_library() -> str:
    """Return the JavaScript bundle of Vega, Vega-Lite and Vega-Embed, built once per process."""
    return vl_convert.javascript_bundle()  # type: ignore[call-arg] # the stub forgets the default
