"""A real mail server, which takes what it is given, refuses it, or hangs up."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import Message
from typing import Any, cast

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope


@dataclass
class Letterbox:
    """What a mail server does with what it is given: it says *replies* in order, the last again and again."""

    replies: list[str | None] = field(default_factory=lambda: ["250 OK"])
    rcpt: str = "250 OK"
    received: list[Envelope] = field(default_factory=list)
    port: int = 0
    meanwhile: Callable[[], None] | None = None
    """What happens between a mail's arrival and the server's word that it has it."""

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Envelope, address: str, _options: Any) -> str:
        if self.rcpt.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.rcpt

    async def handle_DATA(self, server: Any, _session: Any, envelope: Envelope) -> str:
        said = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        self.received.append(envelope)
        if self.meanwhile is not None:
            self.meanwhile()
        if said is None:
            server.transport.abort()
            return "250 never heard"
        return said

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    def mails(self) -> list[Message]:
        return [message_from_bytes(cast(bytes, each.content), policy=policy.default) for each in self.received]


@contextmanager
def listening(box: Letterbox, **how: Any) -> Iterator[Letterbox]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        box.port = taken.getsockname()[1]
    controller = Controller(box, hostname="127.0.0.1", port=box.port, **how)
    controller.start()
    try:
        yield box
    finally:
        controller.stop()
