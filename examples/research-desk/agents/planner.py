"""Planner: asks the researcher, has the scribe sign, then tries what it must not be able to do.

Holds no secret. Each forbidden attempt prints one line that begins with "refused:"; one that works prints
"NOT REFUSED:", so that a broken boundary is plain in the log.
"""

import json
import os
import signal
import socket
import sys
import threading
import urllib.error
import urllib.request

AGENT_SOCKET = "/run/casemate/agent.sock"
ANSWER_BYTES_MAX = 64 * 1024
stopped = threading.Event()


def say(text):
    print(f"planner: {text}", flush=True)


def call(url, body):
    """POST `body` as JSON and return the JSON answer."""
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=15) as answer:
        return json.loads(answer.read(ANSWER_BYTES_MAX))


def main_job():
    question = os.environ["QUESTION"]
    say(f"question: {question}")
    finding = call("http://researcher:8080/ask", {"question": question})
    say(f"researcher says: {finding['answer']}")
    kept = call("http://scribe:8081/keep", {"question": question, "answer": finding["answer"]})
    say(f"scribe kept it, signature {kept['signature'][:16]}...")


def ask_socket(request):
    """One request line to the agent socket, one answer line back."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(5)
        connection.connect(AGENT_SOCKET)
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile("rb") as lines:
            return json.loads(lines.readline(ANSWER_BYTES_MAX))


def report_network(what, url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            say(f"NOT REFUSED: {what} answered {answer.status}")
    except urllib.error.HTTPError as error:
        say(f"NOT REFUSED: {what} answered {error.code}")
    except OSError as error:
        reason = getattr(error, "reason", error)
        refused = isinstance(reason, (ConnectionRefusedError, socket.gaierror))
        say(f"{'refused' if refused else 'no answer'}: {what}: {reason}")


def report_socket(what, request):
    try:
        answer = ask_socket(request)
    except (OSError, ValueError) as error:
        say(f"no answer: {what}: {type(error).__name__}: {error}")
        return
    refusal = answer.get("refused")
    if isinstance(refusal, dict):
        parts = (f"{part}={refusal.get(part)}" for part in ("rule", "expected", "found"))
        say(f"refused: {what}: {', '.join(parts)}")
    elif "error" in answer:
        say(f"refused: {what}: {answer['error']}")
    else:
        # The answer may hold the secret itself: it is not printed.
        say(f"NOT REFUSED: {what}")


def try_what_is_forbidden():
    report_network("undeclared port researcher:9999", "http://researcher:9999/")
    report_network("undeclared host exfil.example", "http://exfil.example/")
    report_socket("a peer's secret", {"method": "secret", "name": "api_token"})
    report_socket(
        "a peer's secret in its name",
        {"method": "secret", "name": "api_token", "agent": "researcher"},
    )


def main():
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    try:
        main_job()
    except (OSError, ValueError, KeyError) as error:
        say(f"failed: {type(error).__name__}: {error}")
        return 1
    try_what_is_forbidden()
    say("done, waiting")
    stopped.wait()
    say("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
