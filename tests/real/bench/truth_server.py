"""A server whose delays are known: Triton's generate endpoints, answered by the clock.

    python truth_server.py --ttft-ms 50 --itl-ms 10 --tokens 20

prints its port. The model's name in the path says how it behaves; `BEHAVIOURS` lists them. Every
event carries `sent_ns`, the server's `time.perf_counter_ns` just before it was written: on one
Linux machine that is the client's clock too.
"""

import argparse
import asyncio
import json
import sys
import time
from collections import Counter

BEHAVIOURS = {
    "true": "streams tokens on time",
    "refuse": "answers 400 with Triton's words",
    "hang": "never answers",
    "cut": "closes the connection after half of the tokens",
    "half-event": "ends the stream properly, but inside an event",
    "error": "sends an error event after half of the tokens",
    "empty": "answers 200 and no token",
    "uncounted": "streams text without token counts",
    "unframed": "streams without chunks or length and closes",
    "every-third-fails": "answers 400 to each third request",
    "dies": "answers ten requests, then is silent",
}


class Truth:
    def __init__(self, ttft_s: float, itl_s: float, tokens: int) -> None:
        self.ttft_s, self.itl_s, self.tokens = ttft_s, itl_s, tokens
        self.asked = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                verb, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
                length = next(
                    (
                        int(line.split(b":")[1])
                        for line in head.lower().split(b"\r\n")
                        if line.startswith(b"content-length:")
                    ),
                    0,
                )
                await reader.readexactly(length)
                if not await self.answer(verb, path, writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def answer(self, verb: str, path: str, writer: asyncio.StreamWriter) -> bool:
        if verb == "GET":
            return reply(
                writer, 200 if path.startswith("/v2/health") else 404, {"error": "not here"}
            )
        model, endpoint = path.split("/")[3:5]
        start = time.perf_counter()
        self.asked[model] += 1
        if model == "refuse" or (model == "every-third-fails" and self.asked[model] % 3 == 0):
            return reply(writer, 400, {"error": "parameter 'inputs' has invalid type"})
        if model == "hang" or (model == "dies" and self.asked[model] > 10):
            await asyncio.sleep(3600)
        if endpoint == "generate":
            await asyncio.sleep(self.ttft_s + self.itl_s * (self.tokens - 1))
            return reply(
                writer, 200, {"text_output": "t" * self.tokens, "output_lengths": self.tokens}
            )
        return await self.stream(model, start, writer)

    async def stream(self, model: str, start: float, writer: asyncio.StreamWriter) -> bool:
        chunked = model != "unframed"
        framing = b"Transfer-Encoding: chunked\r\n" if chunked else b"Connection: close\r\n"
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + framing + b"\r\n")
        for number in range(0 if model == "empty" else self.tokens):
            await until(start + self.ttft_s + number * self.itl_s)
            if writer.is_closing():
                return False
            if model in {"cut", "error", "half-event"} and number == self.tokens // 2:
                if model == "cut":
                    return False
                broken = (
                    b'data: {"error":"KV cache exhausted"}\n\n' if model == "error" else b"data: {"
                )
                writer.write(chunk(broken) + b"0\r\n\r\n")
                return True
            event = {"text_output": f" t{number}", "sent_ns": time.perf_counter_ns()}
            if model != "uncounted":
                event["output_lengths"] = 1
            data = b"data: " + json.dumps(event).encode() + b"\n\n"
            writer.write(chunk(data) if chunked else data)
        if chunked:
            writer.write(b"0\r\n\r\n")
        return chunked


async def until(when: float) -> None:
    delay = when - time.perf_counter()
    if delay > 0:
        await asyncio.sleep(delay)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def reply(writer: asyncio.StreamWriter, status: int, value: dict[str, object]) -> bool:
    body = json.dumps(value).encode()
    writer.write(
        b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
        % (status, len(body), body)
    )
    return True


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ttft-ms", type=float, default=50)
    parser.add_argument("--itl-ms", type=float, default=10)
    parser.add_argument("--tokens", type=int, default=20)
    asked = parser.parse_args()
    truth = Truth(asked.ttft_ms / 1e3, asked.itl_ms / 1e3, asked.tokens)
    server = await asyncio.start_server(truth.serve, "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
