"""What the load client itself costs and how late it is, against a server of known delays.

Prints JSON. Lateness is the client's stamp of an event minus the server's stamp just before it
was written.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from runbook_lib.bench import load as load_module
from runbook_lib.bench import reading
from runbook_lib.bench.metrics import ttft_ms
from runbook_lib.bench.records import RequestRecord
from runbook_lib.bench.settings import LoadSettings
from runbook_lib.bench.sse import EventParser

TRUTH = Path(__file__).parents[1] / "real" / "bench" / "truth_server.py"
TRUE_TTFT_MS, TRUE_ITL_MS, TOKENS = 50, 10, 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16, 64])
    delays = ["--ttft-ms", str(TRUE_TTFT_MS), "--itl-ms", str(TRUE_ITL_MS), "--tokens", str(TOKENS)]
    server = subprocess.Popen(
        [sys.executable, str(TRUTH), *delays],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        found = {f"{streams} streams": one(url, streams) for streams in parser.parse_args().streams}
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    finally:
        server.kill()
        server.wait()


def one(url: str, streams: int) -> dict[str, float]:
    kept = []

    def keep(exchange: reading.Exchange, *, streaming: bool) -> RequestRecord:
        kept.append(exchange)
        return reading.read_exchange(exchange, streaming=streaming)

    load_module.read_exchange = keep
    load = LoadSettings(
        requests=6 * max(streams, 4), concurrency=streams, warmup=streams, max_tokens=TOKENS
    )
    run = load_module.run_load(url, "true", load, ["tell the truth"])
    ttft = [ttft_ms(record) - TRUE_TTFT_MS for record in run.succeeded]
    late = lateness_ms([exchange.chunks for exchange in kept[-len(run.records) :]])
    cpu_us = run.cpu_seconds / len(run.records) * 1e6
    return {
        "answered": len(run.succeeded),
        **quantiles("ttft_error_ms", ttft),
        **quantiles("event_lateness_ms", late),
        "client_cpu_us_per_request": round(cpu_us),
        "client_cpu_us_per_token": round(cpu_us / TOKENS, 1),
        "client_cores": round(run.cpu_seconds / run.wall_seconds, 2),
    }


def lateness_ms(kept: list[list[tuple[int, bytes]]]) -> list[float]:
    late = []
    for chunks in kept:
        parser = EventParser()
        for at, data in chunks:
            late += [(at - json.loads(event)["sent_ns"]) / 1e6 for event in parser.feed(data)]
    return late


def quantiles(name: str, values: list[float]) -> dict[str, float]:
    p50, p99 = np.quantile(values, [0.5, 0.99])
    return {f"{name}_p50": round(p50, 3), f"{name}_p99": round(p99, 3), f"{name}_n": len(values)}


if __name__ == "__main__":
    main()
