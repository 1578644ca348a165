"""Alpaca on 127.0.0.1: its stream protocol and its historical endpoint, for the vendor's own client to talk to.

    with Loopback(clock) as vendor:
        stream = AlpacaStream(AlpacaOptions("key", "secret", stream_url=vendor.stream_url, rest_url=vendor.rest_url))
        vendor.publish("b", [message])      # to the history, and to whoever has subscribed
        vendor.drop("frame")                # in the middle of a frame

What is published goes to the history at once, whether anybody is connected or not; so a test knows what is true. Faults
are ordered beforehand: `drop_at` ends the next connections at a point of their handshake (`silent`: says nothing at all; `unconfirmed`: never confirms a subscription), `rest_faults` are the next
answers of the historical endpoint, a status or a body. `while_answering` is called when an answer is made up and not yet sent.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import logging
import socket
import struct
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlparse

import msgpack
import polars as pl
from engine.clock import ManualClock
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

Message = dict[str, Any]

KEY, SECRET = "loop-key-4711", "loop-secret-0815"  # of this server alone
CHANNELS = {"b": "bars", "u": "updatedBars", "q": "quotes", "t": "trades"}
TABLES = {"b": "bars", "u": "bars", "q": "quotes", "t": "trades"}
STAGES = ("welcome", "auth", "subscribe", "acked")  # of a handshake, where a connection can be ended
MOST_CONNECTIONS = 20_000
ANSWER_SECONDS = 10.0
SECOND_NS = 1_000_000_000


class Loopback:
    """The vendor.

    Parameters
    ----------
    clock : ManualClock
        Of the market; the historical endpoint knows nothing later.
    page_rows : int
        Of one answer of the historical endpoint.
    lag_seconds : float
        How much later than the stream the historical endpoint knows of a row.
    """

    def __init__(self, clock: ManualClock, page_rows: int = 1000, lag_seconds: float = 0.0) -> None:
        self.clock = clock
        self.page_rows = page_rows
        self.lag_seconds = lag_seconds
        self.drop_at: deque[str] = deque()
        self.rest_faults: deque[int | str] = deque()
        self.refuse_keys = False
        self.while_answering: Callable[[], None] = lambda: None
        self.counts: Counter[str] = Counter()
        self.asked: list[dict[str, str]] = []
        self.history: dict[str, dict[str, list[Message]]] = {name: defaultdict(list) for name in set(TABLES.values())}
        self._lock = threading.Lock()
        self._clients: dict[ServerConnection, dict[str, set[str]]] = {}
        self._loop = asyncio.new_event_loop()
        self._ready: Future[str] = Future()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="loopback", daemon=True)
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self._http_thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._http_thread.start()
        self.stream_url = self._ready.result(ANSWER_SECONDS)
        self.rest_url = f"http://127.0.0.1:{self._http.server_address[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(ANSWER_SECONDS)
        self._http.shutdown()
        self._http.server_close()
        self._http_thread.join(ANSWER_SECONDS)

    @property
    def connected(self) -> int:
        """How many clients have subscribed to something."""
        return sum(any(channels.values()) for channels in list(self._clients.values()))

    def publish(self, what: str, messages: Sequence[Message], *, is_silent: bool = False) -> None:
        """Messages of one type (`b`, `u`, `q`, `t`) to the history and to those who subscribed, as one frame."""
        with self._lock:
            for message in messages:
                self._remember(what, message)
        if not is_silent:
            self._call(self._send(what, messages))

    def send_raw(self, data: bytes | str) -> None:
        """Anything, to everybody."""
        self._call(self._send_raw(data))

    def send(self, messages: Sequence[Any]) -> None:
        """Messages to everybody, whatever they are, and not to the history."""
        self.send_raw(packed(messages))

    def drop(self, how: str = "quiet") -> int:
        """End every connection suddenly: `quiet` (no close frame), `frame` (in the middle of one), `reset` (TCP RST)."""
        return int(self._call(self._drop(how)))

    def answer(self, path: str, query: Mapping[str, str]) -> Message:
        """What the historical endpoint says."""
        self.asked.append({"path": path, **query})
        table, symbols = path.rsplit("/", 1)[1], query["symbols"].split(",")
        known = _ns(self.clock.now()) - round(self.lag_seconds * SECOND_NS)
        first, last = (_ns(dt.datetime.fromisoformat(query[name]).replace(tzinfo=dt.UTC)) for name in ("start", "end"))
        length = 60 * SECOND_NS if table == "bars" else 0
        with self._lock:
            found = [
                (symbol, message) for symbol in sorted(symbols) for message in self.history[table][symbol]
                if first <= message["t"] <= last and message["t"] + length <= known
            ]  # fmt: skip
        self.while_answering()
        offset = int(query.get("page_token") or 0)
        page = found[offset : offset + min(int(query.get("limit", 10_000)), self.page_rows)]
        rows: dict[str, list[Message]] = defaultdict(list)
        for symbol, message in page:
            rows[symbol].append({**message, "t": iso(message["t"])})
        following = offset + len(page)
        return {table: rows, "next_page_token": str(following) if following < len(found) else None}

    def _remember(self, what: str, message: Message) -> None:
        rows = self.history[TABLES[what]][message["S"]]
        told = {name: value for name, value in message.items() if name not in ("S", "T")}
        # Bars change, quotes and trades do not.
        same = [at for at, row in enumerate(rows) if row["t"] == told["t"]] if what in "bu" else []
        if same:
            rows[same[0]] = told
        else:
            rows.append(told)
            rows.sort(key=lambda row: row["t"])

    def _call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(ANSWER_SECONDS)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        silent = logging.getLogger("tests.soak.loopback")
        silent.setLevel(logging.CRITICAL)
        async with serve(self._talk, "127.0.0.1", 0, logger=silent, close_timeout=0.2) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            self._ready.set_result(f"ws://127.0.0.1:{port}")
            await self._stop.wait()

    async def _talk(self, client: ServerConnection) -> None:
        self.counts["connections"] += 1
        if self.counts["connections"] > MOST_CONNECTIONS:
            return
        stage = self.drop_at.popleft() if self.drop_at else ""
        with suppress(ConnectionClosed):
            if stage == "silent":
                self.counts["silent"] += 1
                await client.wait_closed()
            if self._ends(client, stage, "welcome") or not await self._let_in(client, stage):
                return
            self._clients[client] = {channel: set() for channel in CHANNELS.values()}
            async for data in client:
                await self._obey(client, msgpack.unpackb(data), stage)
        self._clients.pop(client, None)

    async def _let_in(self, client: ServerConnection, stage: str) -> bool:
        await client.send(packed([{"T": "success", "msg": "connected"}]))
        login = msgpack.unpackb(await client.recv())
        if self._ends(client, stage, "auth"):
            return False
        if self.refuse_keys or (login.get("key"), login.get("secret")) != (KEY, SECRET):
            self.counts["refused"] += 1
            await client.send(packed([{"T": "error", "code": 402, "msg": "auth failed"}]))
            return False
        await client.send(packed([{"T": "success", "msg": "authenticated"}]))
        return True

    async def _obey(self, client: ServerConnection, order: Message, stage: str) -> None:
        if self._ends(client, stage, "subscribe"):
            return
        channels = self._clients[client]
        for channel, symbols in order.items():
            if channel in channels:
                change = (
                    channels[channel].update if order["action"] == "subscribe" else channels[channel].difference_update
                )
                change(symbols)
        if stage == "unconfirmed":
            return
        await client.send(packed([{"T": "subscription", **{name: sorted(have) for name, have in channels.items()}}]))
        self._ends(client, stage, "acked")

    def _ends(self, client: ServerConnection, stage: str, here: str) -> bool:
        if stage != here:
            return False
        self.counts[f"dropped {stage}"] += 1
        self._clients.pop(client, None)
        client.transport.abort()
        return True

    async def _send(self, what: str, messages: Sequence[Message]) -> None:
        for client, channels in list(self._clients.items()):
            mine = [
                {"T": what, **message, "t": stamp(message["t"])}
                for message in messages
                if message["S"] in channels[CHANNELS[what]]
            ]
            if mine:
                with suppress(ConnectionClosed):
                    await client.send(packed(mine))

    async def _send_raw(self, data: bytes | str) -> None:
        for client in list(self._clients):
            with suppress(ConnectionClosed):
                await client.send(data)

    async def _drop(self, how: str) -> int:
        dropped = list(self._clients)
        for client in dropped:
            self._clients.pop(client, None)
            if how == "frame":
                client.transport.write(b"\x82\x7e\x10\x00" + b"half a frame of 4096 bytes")
            if how == "reset":
                wire = client.transport.get_extra_info("socket")
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.transport.abort()
            self.counts[f"dropped {how}"] += 1
        return len(dropped)


def _handler(vendor: Loopback) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            vendor.counts["requests"] += 1
            fault = vendor.rest_faults.popleft() if vendor.rest_faults else 200
            if isinstance(fault, str):
                self._reply(200, fault.encode())
                return
            status = fault
            if (self.headers.get("APCA-API-KEY-ID"), self.headers.get("APCA-API-SECRET-KEY")) != (KEY, SECRET):
                status = 403
            url = urlparse(self.path)
            query = {name: values[-1] for name, values in parse_qs(url.query).items()}
            body = vendor.answer(url.path, query) if status == 200 else {"message": f"fault {status}"}
            self._reply(status, json.dumps(body).encode())

        def _reply(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(OSError):
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    return Handler


def bar_messages(rows: pl.DataFrame) -> list[Message]:
    """Bars (`schema.BARS`) as the vendor writes them; `t` in nanoseconds."""
    names = {
        "S": "symbol",
        "o": "open",
        "h": "high",
        "l": "low",
        "c": "close",
        "v": "volume",
        "vw": "vwap",
        "n": "trades",
    }
    stamps = (rows["ts"].dt.epoch("us") * 1000).to_list()
    picked = rows.select(pl.col(name).alias(short) for short, name in names.items()).to_dicts()
    return [{**cells, "t": ts} for cells, ts in zip(picked, stamps, strict=True)]


def packed(messages: Iterable[Any]) -> bytes:
    """A frame."""
    return msgpack.packb(list(messages))  # type: ignore[no-any-return]


def stamp(ns: int) -> msgpack.Timestamp:
    """A stamp as the stream writes it."""
    return msgpack.Timestamp.from_unix_nano(ns)


def iso(ns: int) -> str:
    """A stamp as the historical endpoint writes it: nanoseconds without trailing zeros."""
    seconds, rest = divmod(ns, SECOND_NS)
    fraction = f".{rest:09}".rstrip("0").rstrip(".")
    return f"{dt.datetime.fromtimestamp(seconds, dt.UTC):%Y-%m-%dT%H:%M:%S}{fraction}Z"


def _ns(at: dt.datetime) -> int:
    return round(at.timestamp() * 1_000_000) * 1000
