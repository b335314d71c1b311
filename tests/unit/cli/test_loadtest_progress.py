"""The line of progress of a load test."""

import io

from penstock.cli.loadtest.output import Progress


class Terminal(io.StringIO):
    """Text that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_how_far_a_window_is() -> None:
    out, now = Terminal(), iter([0.0, 0.1, 0.6, 0.7])
    progress = Progress(out, lambda: next(now))
    progress.begin("load", 10.0)
    for seconds in (0.0, 2.0, 5.0):  # the second look is too soon
        progress.advance(int(100 * seconds), 3, seconds)
    shown = out.getvalue().split("\r\x1b[K")[1:]
    assert shown == [
        "load ▕" + " " * 30 + "▏ 0 of 10 s, 0 requests, 3 failed",
        "load ▕" + "━" * 15 + " " * 15 + "▏ 5 of 10 s, 500 requests, 3 failed",
    ]
    progress.begin("confirm 50/s", 0.0)
    progress.advance(1, 0, 3.0)
    progress.close()
    assert out.getvalue().endswith("confirm 50/s ▕" + "━" * 30 + "▏ 3 of 0 s, 1 requests, 0 failed\r\x1b[K")


def test_a_file_gets_no_progress() -> None:
    out = io.StringIO()
    progress = Progress(out)
    progress.begin("load", 1.0)
    progress.advance(1, 1, 1.0)
    progress.close()
    assert out.getvalue() == ""
