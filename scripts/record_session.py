#!/usr/bin/env python3
"""Records a chat as an SVG: the program runs at a pseudo-terminal, keys are typed, and what the screen showed is drawn.

    scripts/record_session.py target/release/qwren target/demo.gguf .github/session.svg

Each character appears when it got its final place on the screen, so the drawing plays like the session; a viewer that
plays nothing shows the last screen. Nothing but Python's standard library is needed.
"""

import fcntl
import html
import os
import pty
import select
import struct
import sys
import tempfile
import termios
import time
import unicodedata

COLUMNS, ROWS = 92, 40
CELL_WIDTH, LINE_HEIGHT, SIZE = 8.4, 19, 14

# What is typed, and what the screen shows before the next line is.
SCRIPT = [
    ("What is the opposite of hot?", "tokens/s"),
    ("/no_think", "[thinking is off]"),
    ("What is 2 + 3?", "tokens/s"),
    ("/set temp 0", "[temp is 0"),
    ("What is the capital of Italy?", "tokens/s"),
    ("/undo", "[taken back"),
    ("/show", "seed"),
    ("/exit", "--resume"),
]


class Screen:
    """As much of a terminal as the line editor and the answers use."""

    def __init__(self):
        self.cells = [[(" ", "", 0.0)] * COLUMNS for _ in range(ROWS)]
        self.row = self.column = 0
        self.style = ""
        self.pending = ""

    def text(self):
        return "\n".join("".join(c for c, _, _ in row).rstrip() for row in self.cells)

    def feed(self, text, now):
        text, self.pending = self.pending + text, ""
        i = 0
        while i < len(text):
            c = text[i]
            if c == "\x1b":
                end = self.sequence(text, i)
                if end is None:
                    self.pending = text[i:]
                    return
                i = end
                continue
            if c == "\r":
                self.column = 0
            elif c == "\n":
                self.row += 1
                if self.row == ROWS:
                    sys.exit(f"the session has more than {ROWS} lines; enlarge ROWS")
            elif c == "\x08":
                self.column = max(self.column - 1, 0)
            elif c >= " ":
                self.put(c, now)
            i += 1

    def put(self, c, now):
        width = 2 if unicodedata.east_asian_width(c) in "WF" else 1
        if self.column + width > COLUMNS:
            self.row, self.column = self.row + 1, 0
        if self.cells[self.row][self.column][:2] != (c, self.style):
            self.cells[self.row][self.column] = (c, self.style, now)
        self.column += width

    def sequence(self, text, i):
        """Obeys the escape sequence at i; gives the index behind it, None if it is not whole."""
        if i + 1 >= len(text):
            return None
        if text[i + 1] != "[":
            return i + 2
        end = i + 2
        while end < len(text) and not "@" <= text[end] <= "~":
            end += 1
        if end == len(text):
            return None
        argument, final = text[i + 2 : end], text[end]
        n = int(argument) if argument.isdigit() else 1
        blank = (" ", "", 0.0)
        if final == "m":
            self.style = {"1": "b", "2": "d", "3": "i", "36": "c"}.get(argument, "")
        elif final == "K":
            self.cells[self.row][self.column :] = [blank] * (COLUMNS - self.column)
        elif final == "J":
            self.cells[self.row][self.column :] = [blank] * (COLUMNS - self.column)
            for row in range(self.row + 1, ROWS):
                self.cells[row] = [blank] * COLUMNS
        elif final in "ABCD":
            self.row += {"A": -n, "B": n}.get(final, 0)
            self.column += {"C": n, "D": -n}.get(final, 0)
        elif final == "G":
            self.column = n - 1
        return end + 1


def record(program, model):
    """Plays the script; gives the screen, whose cells know when they came."""
    with tempfile.TemporaryDirectory() as home:
        pid, terminal = pty.fork()
        if pid == 0:
            environment = {"HOME": home, "TERM": "xterm-256color", "PATH": os.environ["PATH"]}
            os.execve(program, [program, "chat", "-m", model, "-s", "1"], environment)
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        screen, start = Screen(), time.monotonic()
        raw = b""

        def read_until(mark, seconds=60.0):
            nonlocal raw
            deadline = time.monotonic() + seconds
            while mark is None or mark not in "".join(screen.text().split("\n")[at:]):
                left = deadline - time.monotonic()
                if left <= 0 or not select.select([terminal], [], [], left)[0]:
                    if mark is None:
                        return
                    sys.exit(f"{mark!r} does not come:\n{screen.text()}")
                try:
                    raw += os.read(terminal, 4096)
                except OSError:
                    return
                text = raw.decode(errors="ignore")
                raw = b""
                screen.feed(text, time.monotonic() - start)

        at = 0
        read_until(">")
        read_until(None, 0.5)
        for line, mark in SCRIPT:
            for key in line:
                os.write(terminal, key.encode())
                read_until(None, 0.04)
            at = screen.row
            os.write(terminal, b"\r")
            read_until(mark)
            read_until(None, 0.8)
        os.waitpid(pid, 0)
        return screen


def draw(screen):
    """The screen as an SVG."""
    used = max(i for i, row in enumerate(screen.cells) if any(c != " " for c, _, _ in row)) + 1
    width, height = COLUMNS * CELL_WIDTH + 24, used * LINE_HEIGHT + 28
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" '
        f'font-family="ui-monospace, Menlo, Consolas, monospace" font-size="{SIZE}">',
        "<style>text { fill: #e6e6e6; white-space: pre; animation: come 1ms linear both } .d { fill: #8a8f98 } "
        ".b { font-weight: bold } .i { font-style: italic } .c { fill: #7cc7d8 } "
        "@keyframes come { from { opacity: 0 } to { opacity: 1 } }</style>",
        f'<rect width="{width:.0f}" height="{height}" rx="8" fill="#1b1e24"/>',
    ]
    for y, row in enumerate(screen.cells[:used]):
        x = 0
        while x < COLUMNS:
            _, style, when = row[x]
            end = x
            while end < COLUMNS and row[end][1:] == (style, when):
                end += 1
            text = "".join(c for c, _, _ in row[x:end])
            if text.strip():
                # Not every viewer keeps spaces at the ends.
                indent = len(text) - len(text.lstrip())
                kind = f' class="{style}"' if style else ""
                place = f'x="{12 + (x + indent) * CELL_WIDTH:.1f}" y="{24 + y * LINE_HEIGHT}"'
                delay = f' style="animation-delay: {when:.2f}s"'
                out.append(f"<text {place}{kind}{delay}>{html.escape(text.strip())}</text>")
            x = end
    return "\n".join(out + ["</svg>"]) + "\n"


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    program, model, path = sys.argv[1:]
    screen = record(os.path.abspath(program), model)
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(draw(screen))
    print(screen.text().rstrip())


if __name__ == "__main__":
    main()
