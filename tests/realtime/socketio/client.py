"""Drives the official Python client: one command a line on standard input, one report a line on standard output (see
tests/socketio_test.go). Nothing is judged here."""

import json
import os
import sys
import threading

import socketio

lock = threading.Lock()


def report(event, **more):
    with lock:
        print(json.dumps({"event": event, **more}), flush=True)


class Driver:
    def __init__(self):
        self.client = socketio.Client(reconnection_delay=0.05, reconnection_delay_max=0.2, randomization_factor=0)
        self.namespace = "/"
        self.auth = None
        self.offset = None  # this client knows no recovery: the last offset goes into its next credential

    def connect(self, url, namespace, auth, query, transports):
        self.namespace, self.auth = namespace, auth
        on = self.client.on
        on("connect", self.connected, namespace=namespace)
        on("connect_error", lambda data=None: report("connect_error", **(data if isinstance(data, dict) else {"message": str(data)})), namespace=namespace)
        on("disconnect", lambda reason=None: report("disconnect", reason=str(reason)), namespace=namespace)
        on("*", self.received, namespace=namespace)
        if query:
            url += "?" + "&".join(f"{name}={value}" for name, value in query.items())
        try:
            self.client.connect(url, auth=self.credential, namespaces=[namespace], transports=transports, wait_timeout=10)
        except socketio.exceptions.ConnectionError as error:
            report("failed", message=str(error))

    def credential(self):
        return self.auth if self.offset is None else {**self.auth, "lastEventId": self.offset}

    def connected(self):
        report("connect", sid=self.client.get_sid(self.namespace))

    def transport(self):
        report("transport", transport=self.client.transport())

    def received(self, name, *args):
        if len(args) > 1:  # each event has a thread of its own: they overtake each other
            with lock:
                self.offset = str(max(int(args[-1]), int(self.offset or 0)))
        report("message", name=name, args=list(args))

    def emit(self, name, args):
        data = tuple(args) if len(args) != 1 else args[0]
        self.client.emit(name, data, namespace=self.namespace, callback=lambda *answer: report("ack", name=name, args=list(answer)))

    def disconnect(self):
        self.client.disconnect()


driver = Driver()
for line in sys.stdin:
    command = json.loads(line)
    getattr(driver, command.pop("do"))(**command)
os._exit(0)
