"""The bytes of a frame, encoded once for all sockets and all servers.

No Django here: uvicorn loads its protocol, and so this module, before Django is set up.
"""

from __future__ import annotations

from functools import lru_cache

from asgiref.typing import WebSocketSendEvent
from websockets.frames import Frame as WebSocketFrame
from websockets.frames import Opcode

# A text as the bytes of RFC 6455, made once instead of once per socket. Valid if no extension (permessage-deflate) was
# negotiated, and none is here.
Frame = bytes


def prepared(text: str) -> Frame:
    """Returns a whole text as one unmasked frame, as a server sends it (RFC 6455, section 5.2)."""
    return WebSocketFrame(Opcode.TEXT, text.encode()).serialize(mask=False)


@lru_cache(maxsize=4)
def event_of(frame: Frame) -> WebSocketSendEvent:
    """Returns the ASGI event of a `prepared` frame, for a server that makes its own frames."""
    length = frame[1]  # 126 and 127 mean that 2 or 8 bytes of length follow
    head = 2 if length < 126 else 4 if length == 126 else 10
    return {"type": "websocket.send", "bytes": None, "text": frame[head:].decode()}
