"""Artifacts as pages make them, and as extreme as they can get, with the figure of each."""

from __future__ import annotations

import random

from runbook_lib.artifacts import (
    Diagnosis,
    Engine,
    EngineIdentity,
    Finding,
    Interval,
    Limits,
    Measurement,
    ModelRepository,
    Phase,
    Replica,
    Service,
    StoredFile,
    TradeOff,
    TradeOffRow,
    utc_now,
)
from runbook_lib.artifacts_plan import Estimate, MemoryPart, Plan, Rate, Speed, TrafficFit
from runbook_lib.ui import figures

GIB = 1 << 30
LARGE = Limits(max_batch_size=64, max_input_len=4096, max_seq_len=4608, max_num_tokens=8192)
SMALL = Limits(max_batch_size=16, max_input_len=128, max_seq_len=192, max_num_tokens=2048)
LONG = "a name that somebody made far too long to stand on one line <b>&$x_1$</b> " * 2


def plan(*parts, device=80 * GIB, fits=True, room=88, limits=LARGE):
    return Plan(
        profile="tensorrt-llm/llama-7b",
        profile_digest="sha256:0",
        track="engine",
        model="llama-2-7b",
        device="H100 80GB HBM3",
        device_bytes=device,
        fits=fits,
        parameters=6_738_415_616,
        kv_bytes_per_token=524_288,
        max_concurrent_sequences=room,
        limits=limits,
        memory=tuple(
            MemoryPart(name=name, bytes=size, note="how it was found") for name, size in parts
        ),
        commands=(),
    )


def engine(*phases, seconds=8.5, reused=False):
    identity = EngineIdentity(
        track="lab",
        target="avx512",
        compiler="OpenVINO 2025.4",
        dtype="bfloat16",
        kv_cache_dtype="u8",
        limits=SMALL,
    )
    return Engine(
        path="engine",
        identity=identity,
        files=(StoredFile(path="rank0.engine", sha256="a", size=3_900_000),),
        engine_digest="sha256:1",
        size_bytes=3_900_000,
        build_seconds=seconds,
        phases=tuple(Phase(name=name, seconds=took) for name, took in phases),
        inputs_digest="sha256:2",
        built_at=utc_now(),
        reused=reused,
    )


def repository(models, files, entry="ensemble"):
    return ModelRepository(
        path="repository",
        uri="s3://models/triton/lab-tiny/",
        entry_model=entry,
        models=models,
        files=tuple(StoredFile(path=path, sha256="a", size=size) for path, size in files),
        size_bytes=sum(size for _, size in files),
        content_digest="sha256:0123456789abcdef0123",
        engine_digest="sha256:1",
    )


def service(*replicas):
    return Service(
        target="lab",
        url="http://127.0.0.1:1",
        entry_model="ensemble",
        repository_uri="s3://models/triton/lab-tiny/",
        engine_digest="sha256:1",
        tokenizer="tokenizer.json",
        replicas=tuple(
            Replica(name=name, http="h", grpc="g", metrics="m", ready_seconds=took, rebuilt=rebuilt)
            for name, took, rebuilt in replicas
        ),
    )


def columns(requests, failed=0, tokens=40):
    rng = random.Random(requests)
    names = [
        "ttft_ms",
        "itl_ms",
        "e2e_ms",
        "scheduled_ms",
        "sent_ms",
        "first_token_ms",
        "end_ms",
        "ok",
    ]
    made = {name: [] for name in names}
    now = 0.0
    for number in range(requests):
        now += rng.expovariate(1 / 60)
        sent, first = now + (5 if number % 7 == 0 else 0.1), 20 + rng.lognormvariate(3, 0.6)
        gaps = [rng.lognormvariate(0.6, 0.4) for _ in range(tokens)]
        good = number >= failed
        row = (now, sent, sent + first if good else None, sent + first + sum(gaps), good)
        for name, value in zip(names[3:], row, strict=True):
            made[name].append(value)
        if good:
            made["ttft_ms"].append(first)
            made["itl_ms"] += gaps
            made["e2e_ms"].append(first + sum(gaps))
    return made


def interval(value, share=0.05, n=120):
    return Interval(value=value, low=value * (1 - share), high=value * (1 + share), n=n)


def measurement(arrival, factor, n=120):
    def spread(base):
        unknown = Interval(value=None, n=n)
        p95 = interval(2.4 * base * factor, 0.12, n) if n >= 72 else unknown
        return {"p50": interval(base * factor, n=n), "p95": p95, "p99": unknown}

    return Measurement(
        load_profile="lab-closed",
        arrival=arrival,
        url="http://127.0.0.1:1",
        model="ensemble",
        concurrency=4 if arrival == "closed" else None,
        rate=None if arrival == "closed" else 6.3,
        max_tokens=48,
        requests=n,
        failed=0,
        seconds=12,
        token_source="output_lengths",
        tokens_in=1,
        tokens_out=1,
        tokens_per_second=interval(900),
        requests_per_second=interval(20),
        ttft_ms=spread(30),
        itl_ms=spread(2),
        tpot_ms=spread(2),
        e2e_ms=spread(120),
    )


def row(label, build, p95, rate, *, pareto=False):
    return TradeOffRow(
        label=label,
        profile={},
        status="failed" if p95 is None else "measured",
        build_time_s=build,
        p95_total_ms=None if p95 is None else interval(p95, 0.06),
        tokens_per_second=None if rate is None else interval(rate, 0.04),
        pareto=pareto,
    )


def tradeoff(*rows, best=""):
    return TradeOff(load_profile="lab-closed", objectives=("p95_total_ms",), rows=rows, best=best)


def finding(title, score):
    return Finding(
        id="x",
        title=title,
        cause="The engine is another machine's.",
        confirm="c",
        fix="f",
        evidence=("a", "b"),
        score=score,
    )


PARTS = (
    ("weights", 13 * GIB),
    ("KV cache for 64 sequences of 4,608 tokens", 40 * GIB),
    ("activations", GIB),
)
CELLS = (
    row("profile", 4.1, 210, 820),
    row("int8", 8.3, 150, 1120, pareto=True),
    row("int4, data-aware", 21, 138, 1080, pareto=True),
    row("KV u8", 4.2, 205, 830),
    row("batch 32", 4.4, 212, 905),
    row("int3", None, None, None),
)
SERVER = {
    "ensemble.success": 240.0,
    "ensemble.fail": 0.0,
    "ensemble queue ms": 0.012,
    "nv_cpu_memory_used_bytes": 3.2e9,
}
MODELS = ("preprocessing", "tensorrt_llm", "ensemble")
FILES = (
    ("tensorrt_llm/1/rank0.engine", 3_900_000),
    ("preprocessing/1/model.py", 5000),
    ("ensemble/config.pbtxt", 1),
)

TRAFFIC = TrafficFit(
    source="trace.csv",
    requests=1000,
    mean_input=1300.5,
    mean_tokens=1500.5,
    longest_input=4000,
    longest_total=4700,
    refused=0.02,
    sequences=58,
    fits=False,
)


def roofline(batches=(1, 2, 8, 64, 512), chosen=64, knee=100, bound="memory", extrapolated=()):
    middle = [120 * batch / (1 + batch / 90) for batch in batches]
    return figures.roofline_figure(
        batches,
        [0.8 * value for value in middle],
        middle,
        [1.3 * value for value in middle],
        chosen=chosen,
        knee=knee,
        deployed="llama-3.1-8b on 1 x H100-SXM-80GB",
        input_len=1000,
        output_len=500,
        bound=bound,
        nearest=32,
        extrapolated=extrapolated,
    )


SPEED = Speed(
    input_len=4096,
    output_len=512,
    batch=22,
    prefill=Estimate(name="first", unit="s", value=0.09, low=0.07, high=0.12, basis="b"),
    decode=Estimate(name="next", unit="s", value=0.02, low=0.01, high=0.03, basis="b"),
    throughput=Estimate(name="r", unit="tokens/s", value=833, low=645, high=1096, basis="b"),
    bound="memory",
    shares={"matrices": 0.4, "cache": 0.6},
    knee=13,
    nearest=32,
    rates=tuple(
        Rate(batch=n, low=60 * n**0.8, value=75 * n**0.8, high=97 * n**0.8) for n in (1, 4, 22, 25)
    ),
)

CASES = {
    "a speed": lambda: figures.speed_figure(plan(*PARTS).model_copy(update={"speed": SPEED})),
    "a speed at one batch": lambda: figures.speed_figure(
        plan(*PARTS).model_copy(
            update={"speed": SPEED.model_copy(update={"rates": SPEED.rates[:1], "batch": 1})}
        )
    ),
    "no speed": lambda: figures.speed_figure(plan(*PARTS)),
    "memory that fits": lambda: figures.memory_figure(plan(*PARTS)),
    "memory that doesn't fit": lambda: figures.memory_figure(
        plan(*PARTS, device=24 * GIB, fits=False)
    ),
    "memory of a tiny model": lambda: figures.memory_figure(
        plan(("weights", 4_200_000), ("cache", 8_000_000))
    ),
    "memory of nothing": lambda: figures.memory_figure(plan(("weights", 0), device=0, fits=False)),
    "concurrency ended by memory": lambda: figures.concurrency_figure(plan(*PARTS, room=4)),
    "concurrency with room to spare": lambda: figures.concurrency_figure(
        plan(*PARTS, room=8000, limits=SMALL)
    ),
    "concurrency of a traffic": lambda: figures.concurrency_figure(
        plan(*PARTS, room=20).model_copy(update={"traffic": TRAFFIC})
    ),
    "memory of a traffic that doesn't fit": lambda: figures.memory_figure(
        plan(*PARTS, fits=False).model_copy(update={"traffic": TRAFFIC})
    ),
    "a roofline": roofline,
    "a roofline of one sequence": lambda: roofline(batches=(1,), chosen=1, knee=1),
    "a roofline that nothing covers": lambda: roofline(
        chosen=1, knee=512, bound="overhead", extrapolated=("no published point of L4", LONG)
    ),
    "concurrency of none": lambda: figures.concurrency_figure(plan(*PARTS, room=0)),
    "a build": lambda: figures.build_figure(
        engine(("convert", 0.4), ("compress", 4.2), ("compile", 2.2))
    ),
    "a build kept": lambda: figures.build_figure(engine(seconds=0.0, reused=True)),
    "a build of many long phases": lambda: figures.build_figure(
        engine(*[(LONG, 300.0)] * 20, seconds=9000.0)
    ),
    "a repository": lambda: figures.repository_figure(repository(MODELS, FILES)),
    "a repository of long names": lambda: figures.repository_figure(
        repository(("m" * 90, "n" * 90), [("m" * 90 + "/x", 0), ("stray.txt", 9)])
    ),
    "an empty repository": lambda: figures.repository_figure(repository((), ())),
    "replicas": lambda: figures.replicas_figure(service(("a", 1.9, False), ("b", 1.7, False))),
    "replicas of all kinds": lambda: figures.replicas_figure(
        service((LONG, 310.0, True), ("b", 0.0, None), ("c", 12.0, False))
    ),
    "forty replicas": lambda: figures.replicas_figure(
        service(*((f"pod-{n}", n, False) for n in range(40)))
    ),
    "no replica": lambda: figures.replicas_figure(service()),
    "latency of 120": lambda: figures.latency_figure(columns(120), source="closed loop"),
    "latency of one": lambda: figures.latency_figure(columns(1)),
    "latency of 10,000": lambda: figures.latency_figure(columns(10_000, tokens=5)),
    "latency of zero ms": lambda: figures.latency_figure(
        {"ttft_ms": [0.0] * 100, "e2e_ms": [0.0] * 100}
    ),
    "latency of none": lambda: figures.latency_figure({}),
    "timeline of 120": lambda: figures.timeline_figure(columns(120, failed=3)),
    "timeline of one": lambda: figures.timeline_figure(columns(1)),
    "timeline of 10,000": lambda: figures.timeline_figure(columns(10_000, tokens=2)),
    "timeline of none": lambda: figures.timeline_figure(columns(0)),
    "two loads": lambda: figures.load_comparison_figure(
        [measurement("closed", 1), measurement("poisson", 1.8)]
    ),
    "one small load": lambda: figures.load_comparison_figure([measurement("closed", 1, n=8)]),
    "seven loads": lambda: figures.load_comparison_figure(
        [measurement("poisson", 1 + n / 3) for n in range(7)]
    ),
    "no load": lambda: figures.load_comparison_figure([]),
    "trade-offs": lambda: figures.pareto_figure(tradeoff(*CELLS, best="int8")),
    "one trade-off": lambda: figures.pareto_figure(tradeoff(row(LONG, 0, 100, 100, pareto=True))),
    "forty trade-offs": lambda: figures.pareto_figure(
        tradeoff(
            *(
                row(f"cell {n}: int8 kv u8", n, 100 + n % 7, 500 + n % 9, pareto=n % 6 == 0)
                for n in range(40)
            )
        )
    ),
    "equal trade-offs": lambda: figures.pareto_figure(
        tradeoff(*(row(f"same {n}", 0, 100, 100) for n in range(6)))
    ),
    "failed trade-offs": lambda: figures.pareto_figure(tradeoff(row("int3", None, None, None))),
    "findings": lambda: figures.evidence_figure(
        Diagnosis(
            findings=(finding("The engine does not belong here", 0.9), finding(LONG, 0.2)),
            sources={"log": "ok"},
        ),
        {},
    ),
    "a healthy server": lambda: figures.evidence_figure(Diagnosis(sources={"log": "ok"}), SERVER),
    "a server of many figures": lambda: figures.evidence_figure(
        Diagnosis(), {f"gauge {n}": n - 3.0 for n in range(90)}
    ),
    "nothing known of a server": lambda: figures.evidence_figure(Diagnosis(), {}),
}
