"""Researcher: answers questions from an API outside the box.

The API wants a token that only this agent holds, as /run/secrets/api_token. It is read for each call, sent to
the API alone, and never logged.
"""

import json
import os
import signal
import socketserver
import sys
import threading
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN_FILE = "/run/secrets/api_token"
BODY_BYTES_MAX = 64 * 1024


def say(text):
    print(f"researcher: {text}", flush=True)


def search(question):
    with open(TOKEN_FILE, encoding="utf-8") as file:
        token = file.read().strip()
    url = f"{os.environ['API_URL']}?{urllib.parse.urlencode({'q': question})}"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read(BODY_BYTES_MAX))["answer"]


class Handler(BaseHTTPRequestHandler):
    timeout = 10

    def do_GET(self):
        self.reply(200 if self.path == "/health" else 404, {})

    def do_POST(self):
        length = self.headers.get("Content-Length", "")
        if self.path != "/ask":
            return self.reply(404, {"error": "no such path"})
        if not length.isdecimal() or int(length) > BODY_BYTES_MAX:
            return self.reply(413, {"error": "body too long"})
        try:
            question = str(json.loads(self.rfile.read(int(length)))["question"])
        except (ValueError, KeyError, TypeError):
            return self.reply(400, {"error": "body is not {\"question\": text}"})
        try:
            answer = search(question)
        except (OSError, ValueError, KeyError, TypeError) as error:
            say(f"API call failed: {type(error).__name__}: {error}")
            return self.reply(502, {"error": "the API did not answer"})
        say("answered one question from the API")
        return self.reply(200, {"answer": answer})

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
    server = Server(("0.0.0.0", 8080), Handler)
    # shutdown() waits for serve_forever(), so it may not run in the thread that serves.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    say("serving on port 8080")
    server.serve_forever(poll_interval=0.1)
    say("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
