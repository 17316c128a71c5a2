"""Scribe: signs an answer and keeps it on its volume.

The key that it signs with (HMAC-SHA256) is /run/secrets/signing_key; only this agent holds it, and it is never
logged. A new answer replaces the old one in one step.
"""

import hashlib
import hmac
import json
import os
import signal
import socketserver
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY_FILE = "/run/secrets/signing_key"
ANSWER_FILE = "/data/answer.json"
BODY_BYTES_MAX = 64 * 1024
writing = threading.Lock()


def say(text):
    print(f"scribe: {text}", flush=True)


def keep(question, answer):
    """Sign and store the answer; the signature covers the canonical form of both texts."""
    with open(KEY_FILE, "rb") as file:
        key = file.read().strip()
    signed = {"answer": answer, "question": question}
    message = json.dumps(signed, sort_keys=True, separators=(",", ":")).encode()
    signature = hmac.new(key, message, hashlib.sha256).hexdigest()
    with writing:
        draft = f"{ANSWER_FILE}.new"
        with open(draft, "w", encoding="utf-8") as file:
            json.dump(signed | {"hmac_sha256": signature}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, ANSWER_FILE)
    return signature


class Handler(BaseHTTPRequestHandler):
    timeout = 10

    def do_GET(self):
        self.reply(200 if self.path == "/health" else 404, {})

    def do_POST(self):
        length = self.headers.get("Content-Length", "")
        if self.path != "/keep":
            return self.reply(404, {"error": "no such path"})
        if not length.isdecimal() or int(length) > BODY_BYTES_MAX:
            return self.reply(413, {"error": "body too long"})
        try:
            body = json.loads(self.rfile.read(int(length)))
            question, answer = str(body["question"]), str(body["answer"])
        except (ValueError, KeyError, TypeError):
            return self.reply(400, {"error": "body is not {\"question\": text, \"answer\": text}"})
        try:
            signature = keep(question, answer)
        except OSError as error:
            say(f"could not keep the answer: {type(error).__name__}: {error}")
            return self.reply(500, {"error": "the answer could not be kept"})
        say(f"kept a signed answer in {ANSWER_FILE}")
        return self.reply(200, {"signature": signature})

    def reply(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self):
        # HTTPServer would look its own name up in the DNS, where this agent has no business.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]


def main():
    server = Server(("0.0.0.0", 8081), Handler)
    # shutdown() waits for serve_forever(), so it may not run in the thread that serves.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    say("serving on port 8081")
    server.serve_forever(poll_interval=0.1)
    say("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
