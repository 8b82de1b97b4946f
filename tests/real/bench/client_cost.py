"""What the client itself costs and how late it is, against the truth server. Run by hand:

    python tests/real/bench/client_cost.py --streams 1 16 64

Lateness is the client's stamp of an event minus the server's stamp just before writing it.
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

TRUE_TTFT_MS, TRUE_ITL_MS, TOKENS = 50, 10, 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16, 64])
    delays = ["--ttft-ms", str(TRUE_TTFT_MS), "--itl-ms", str(TRUE_ITL_MS), "--tokens", str(TOKENS)]
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("truth_server.py")), *delays],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        for streams in parser.parse_args().streams:
            sys.stdout.write(one(url, streams) + "\n")
    finally:
        server.kill()
        server.wait()


def one(url: str, streams: int) -> str:
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
    return (
        f"{streams:4} streams, {len(run.succeeded)} ok: TTFT error ms {shown(ttft)}; "
        f"event lateness ms {shown(late)}; client CPU {cpu_us:.0f} us/request "
        f"({cpu_us / TOKENS:.1f} us/token), {run.cpu_seconds / run.wall_seconds:.2f} cores"
    )


def lateness_ms(kept: list[list[tuple[int, bytes]]]) -> list[float]:
    late = []
    for chunks in kept:
        parser = EventParser()
        for at, data in chunks:
            late += [(at - json.loads(event)["sent_ns"]) / 1e6 for event in parser.feed(data)]
    return late


def shown(values: list[float]) -> str:
    p50, p99 = np.quantile(values, [0.5, 0.99])
    return f"p50 {p50:.2f} p99 {p99:.2f} (n {len(values)})"


if __name__ == "__main__":
    main()
