"""Sends a hundred megabytes in messages over WebSocket, gets them back, and prints both digests.

ws_client.py URL [PROXY]
"""

import hashlib
import os
import sys
import threading

from websockets.sync.client import connect

PIECE, PIECES = 1 << 20, 100
url, proxy = sys.argv[1], (sys.argv[2:] or [None])[0]
came = hashlib.sha256()

with connect(url, proxy=proxy, max_size=None, compression=None) as socket:

    def read():
        for _ in range(PIECES):
            came.update(socket.recv())

    reader = threading.Thread(target=read)
    reader.start()
    sent = hashlib.sha256()
    for _ in range(PIECES):
        piece = os.urandom(PIECE)
        sent.update(piece)
        socket.send(piece)
    reader.join()
    socket.send("the end")
    assert socket.recv() == "the end"
print(sent.hexdigest(), came.hexdigest(), socket.close_code)
