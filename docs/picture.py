"""Draws docs/grid.svg: one symbol's day on the session grid. Run: python docs/picture.py"""

from __future__ import annotations

from pathlib import Path

SLOT, LEFT, COUNT = 20, 92, 39  # one slot is ten minutes
MISSING = {0, 1, 14, 15, 16, 30}
WINDOW = 6  # an hour
INK, FAINT, HAVE, LOST, PART = "#24292f", "#8c959f", "#2f81f7", "#ffffff", "#f0b72f"


def box(x: float, y: float, w: float, h: float, fill: str, stroke: str = "none", dash: str = "") -> str:
    extra = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="2" fill="{fill}" stroke="{stroke}"{extra}/>'


def text(x: float, y: float, words: str, size: int = 12, fill: str = INK, anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" font-size="{size}" fill="{fill}" text-anchor="{anchor}">{words}</text>'


def slots() -> list[str]:
    out = [text(8, 64, "10m slots")]
    for k in range(COUNT):
        lost = k in MISSING
        out.append(
            box(
                LEFT + k * SLOT + 1,
                50,
                SLOT - 2,
                20,
                LOST if lost else HAVE,
                "#d1242f" if lost else "none",
                "3 2" if lost else "",
            )
        )
    return out


def windows() -> list[str]:
    out = [text(8, 104, "1h bars")]
    for first in range(0, COUNT, WINDOW):
        size = min(WINDOW, COUNT - first)
        have = size - len(MISSING & set(range(first, first + size)))
        fill = HAVE if have == size else PART
        out.append(box(LEFT + first * SLOT + 1, 88, size * SLOT - 2, 24, fill))
        out.append(
            text(
                LEFT + (first + size / 2) * SLOT,
                104,
                f"{have}/{size}",
                12,
                "#ffffff" if have == size else INK,
                "middle",
            )
        )
    return out


def gaps() -> list[str]:
    out = [text(8, 146, "gaps")]
    runs: list[list[int]] = []
    for k in sorted(MISSING):
        if runs and k == runs[-1][-1] + 1:
            runs[-1].append(k)
        else:
            runs.append([k])
    for run in runs:
        x, width = LEFT + run[0] * SLOT, len(run) * SLOT
        out.append(f'<path d="M{x + 1} 132 v6 h{width - 2} v-6" fill="none" stroke="#d1242f" stroke-width="1.5"/>')
        out.append(text(x + width / 2, 153, f"{'leading ' if run[0] == 0 else ''}{len(run)}", 11, "#d1242f", "middle"))
    return out


def frame() -> list[str]:
    ends = LEFT + COUNT * SLOT
    out = [
        text(LEFT, 22, "one session of XNYS, 09:30-16:00 New York, cut from the open", 13),
        text(LEFT, 42, "09:30", 11, FAINT), text(ends, 42, "16:00", 11, FAINT, "end"),
        text(ends, 180, "quality 84.6: 33 of 39 slots present; every derived bar says how much of it is there; "
             "the last one is half an hour long", 12, FAINT, "end"),
    ]  # fmt: skip
    out += [text(LEFT + h * WINDOW * SLOT, 42, f"{9 + h}:30", 11, FAINT, "middle") for h in range(1, 7)]
    return out


def main() -> None:
    body = "\n".join([*frame(), *slots(), *windows(), *gaps()])
    width, height = LEFT + COUNT * SLOT + 16, 192
    Path(__file__).with_name("grid.svg").write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="system-ui, sans-serif" role="img" aria-label="A session cut into slots, hour bars and gaps">\n'
        f'<rect width="100%" height="100%" fill="#f6f8fa" rx="6"/>\n{body}\n</svg>\n'
    )


if __name__ == "__main__":
    main()
