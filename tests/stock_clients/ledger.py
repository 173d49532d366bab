"""What a writer was told, and what it tells the test: a line per hundred acknowledged writes, and at
the end one in JSON. It ends when its standard input does."""

import json
import sys
import threading
import time


class Ledger:
    def __init__(self):
        self.acked = []
        self.errors = {}
        self.last = None
        self.longest = 0.0
        self.over = False
        threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self):
        sys.stdin.read()
        self.over = True

    def ok(self, key):
        now = time.monotonic()
        if self.last is not None:
            self.longest = max(self.longest, now - self.last)
        self.last = now
        self.acked.append(key)
        if len(self.acked) % 100 == 0:
            print("acked", len(self.acked), flush=True)

    def failed(self, error):
        name = type(error).__name__ + ": " + str(error)[:60]
        self.errors[name] = self.errors.get(name, 0) + 1

    def end(self, lost):
        said = {
            "acked": len(self.acked),
            "lost": lost,
            "longest_gap_ms": round(self.longest * 1000),
            "errors": self.errors,
        }
        print(json.dumps(said), flush=True)


def arguments():
    """The cluster's name, and host and port of each node."""
    pairs = [addr.rsplit(":", 1) for addr in sys.argv[2].split(",")]
    return sys.argv[1], [(host, int(port)) for host, port in pairs]
