"""For pytest: what stands in redis_py_excluded.txt must fail, all else must pass.

With UNDERSTUDY_LONG=1 an excluded test is carried out too, so that the list stays true: one that passes
fails the run ("XPASS(strict)") until its line is gone. A line that names no test fails it in any case. Behind
"!" are those that are never carried out.
"""

import collections
import os
import pathlib
import re

import pytest

LIST = pathlib.Path(__file__).with_name("redis_py_excluded.txt")


class Line:
    def __init__(self, text):
        pattern, _, self.reason = (part.strip() for part in text.partition(" # "))
        self.runs = not pattern.startswith("!") and os.environ.get("UNDERSTUDY_LONG") == "1"
        self.pattern = pattern.removeprefix("!")
        shape = re.escape(self.pattern).replace(r"\*", ".*")
        # A test stands for all that it is called with.
        self.shape = re.compile(rf"tests/{shape}(\[.*\])?")
        self.named = 0
        if not self.reason:
            raise pytest.UsageError(f"{LIST}: no reason: {text}")


def lines():
    texts = (text.strip() for text in LIST.read_text().splitlines())
    return [Line(text) for text in texts if text and not text.startswith("#")]


class Excluded:
    def __init__(self):
        self.lines = lines()
        self.reasons = collections.Counter()

    def pytest_collection_modifyitems(self, items):
        for item in items:
            line = next((it for it in self.lines if it.shape.fullmatch(item.nodeid)), None)
            if line is None:
                continue
            line.named += 1
            mark = pytest.mark.xfail(reason=line.reason, strict=True, run=line.runs)
            item.add_marker(mark)
        # Where one file alone is asked for, the others' lines name nothing.
        files = {item.nodeid.partition("::")[0] for item in items}
        for line in self.lines:
            if not line.named and f"tests/{line.pattern.partition('::')[0]}" in files:
                raise pytest.UsageError(f"{LIST}: names no test: {line.pattern}")

    def pytest_runtest_logreport(self, report):
        if report.outcome == "skipped" and hasattr(report, "wasxfail"):
            reason = report.wasxfail.removeprefix("reason: ").removeprefix("[NOTRUN] ")
            self.reasons[reason or "redis-py itself expects it to fail"] += 1

    def pytest_terminal_summary(self, terminalreporter):
        for reason, count in self.reasons.most_common():
            terminalreporter.write_line(f"excluded {count}: {reason}")


def pytest_configure(config):
    config.pluginmanager.register(Excluded(), "understudy-excluded")
