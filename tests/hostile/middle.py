"""Who stands between a client and its server: relays that record, alter, or end TLS themselves; and impostors."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

from kueue.wire.tls import client_context, server_context

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Alter = Callable[[bytes], bytes]


@contextlib.asynccontextmanager
async def listening(talk: Talk, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Whoever connects is talked to; the port. What goes wrong on a connection ends that one."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await talk(reader, writer)
        except (OSError, ssl.SSLError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks)


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, record: bytearray, alter: Alter
) -> None:
    with contextlib.suppress(OSError, ssl.SSLError):
        while data := await reader.read(65536):
            record += data
            writer.write(alter(data))
            await writer.drain()
    writer.close()


class Middle:
    """Relays to a server. With `ends_tls` it has a certificate of its own and reads everything; without, it
    sees what anybody on the network sees. `alter` changes what goes to the server."""

    def __init__(self, server_port: int, *, ends_tls: bool, alter: Alter = lambda data: data) -> None:
        self.to_server = bytearray()
        self.to_client = bytearray()
        self._server_port = server_port
        self._ends_tls = ends_tls
        self._alter = alter

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        """The port that the victims are led to."""
        context = server_context()[0] if self._ends_tls else None
        async with listening(self._talk, context) as port:
            yield port

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        context = client_context() if self._ends_tls else None
        there, back = await asyncio.open_connection("127.0.0.1", self._server_port, ssl=context)
        try:
            await asyncio.gather(
                _pump(reader, back, self.to_server, self._alter),
                _pump(there, writer, self.to_client, lambda data: data),
            )
        finally:
            back.transport.abort()


@contextlib.contextmanager
def in_background(place: contextlib.AbstractAsyncContextManager[int]) -> Iterator[int]:
    """The same beside a test that is no coroutine: in a thread with a loop of its own."""
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)  # its victims break off; that is the point
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        port = asyncio.run_coroutine_threadsafe(place.__aenter__(), loop).result(20)
        try:
            yield port
        finally:
            asyncio.run_coroutine_threadsafe(place.__aexit__(None, None, None), loop).result(20)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
