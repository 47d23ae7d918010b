"""A text on its way to many sockets: encoded once, whatever server writes it.

Without Django: uvicorn loads its protocol, and so this, before there is one.
"""

from __future__ import annotations

from functools import lru_cache

from asgiref.typing import WebSocketSendEvent
from websockets.frames import Frame as WireFrame
from websockets.frames import Opcode

# One text, for every socket there is, as the bytes of RFC 6455: made once instead of per socket. Valid where no extension
# (permessage-deflate) was agreed on, which is everywhere here.
Frame = bytes


def prepared(text: str) -> Frame:
    """RFC 6455, section 5.2: a whole text in one frame, unmasked, as from a server."""
    return WireFrame(Opcode.TEXT, text.encode()).serialize(mask=False)


@lru_cache(maxsize=4)
def event_of(frame: Frame) -> WebSocketSendEvent:
    """What a `prepared` frame is to an ASGI server that makes its own."""
    length = frame[1]  # or it says how many bytes the length has
    head = 2 if length < 126 else 4 if length == 126 else 10
    return {"type": "websocket.send", "bytes": None, "text": frame[head:].decode()}
