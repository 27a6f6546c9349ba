#!/usr/bin/env python3
"""Sends one QMP session to two servers, and compares the keys and JSON types of their answers.

    qmp_compare.py REFERENCE OTHER [--full] [-v]

Each is unix:PATH or tcp:HOST:PORT; REFERENCE is usually QEMU. Both machines should have the same
devices: a virtio disk "vda", a CD-ROM "sr0", a card "net0", a balloon, and a console "ttyS0".
--full adds commands that change or stop the machine. The exit status is 1 if there is a difference
that is not in ALLOWED.

Of the errors the classes are compared, of the events that come with a command the names and the
data. Lists are compared by what their elements have, all taken together.
"""

import argparse
import fnmatch
import json
import socket
import sys

# What may differ, and why. A pattern matches "COMMAND: PATH", without the "[]" of lists.
ALLOWED = [
    ("greeting: QMP.capabilities*", "QEMU offers oob, wick nothing"),
    ("query-machines: *.alias", "of some of QEMU's machines"),
    ("query-machines: *.is-default", "of one machine"),
    ("query-pci: *.pci_bridge*", "wick has no bridges"),
    ("query-block: *.format-specific*", "QEMU has more formats, and some keys are version 3's"),
    ("query-*: *.image.snapshots*", "of images that have some"),
    ("query-rx-filter: .vlan-table", "QEMU lists all 4096 until a driver filters"),
    ("query-blockstats: *.parent*", "QEMU repeats the parents of nodes"),
    ("query-qmp-schema: device_add*", "QEMU's schema does not name the properties"),
    ("events: DEVICE_DELETED*", "QEMU also announces virtio's back end, without an id"),
]

QUERIES = [
    "query-version", "query-commands", "query-status", "query-name", "query-uuid", "query-kvm",
    "query-machines", "query-current-machine", "query-target", "query-cpus-fast", "query-block",
    "query-blockstats", ("query-blockstats", {"query-nodes": True}), "query-named-block-nodes",
    "query-chardev", "query-pci", "query-rx-filter", "query-balloon", "query-memory-size-summary",
    "query-iothreads", "query-dump", "query-dump-guest-memory-capability", "query-jobs",
    "query-block-jobs", "query-qmp-schema",
    ("human-monitor-command", {"command-line": "info status"}),
    ("human-monitor-command", {"command-line": "nonsense"}),
]

ERRORS = [
    "nonsense", "qmp_capabilities", ("query-status", {"x": 1}), "balloon",
    ("balloon", {"value": "x"}), ("balloon", {"value": 1.5}), ("balloon", {"value": -1}),
    ("set_link", {"name": "nope", "up": True}), ("set_link", {"name": 1, "up": True}),
    ("block_resize", {"device": "nope", "size": 1}), ("block_resize", {"size": 1}),
    ("block_resize", {"device": "vda", "size": -1}),
    ("eject", {"device": "vda"}), ("eject", {"device": "nope"}), ("eject", {}),
    ("blockdev-change-medium", {"device": "nope", "filename": "/x"}),
    ("device_add", {"driver": "nope"}), ("device_add", {}), ("device_del", {"id": "nope"}),
    ("blockdev-del", {"node-name": "nope"}), ("blockdev-add", {"driver": "qcow2"}),
    ("blockdev-add", {"driver": "nope", "node-name": "n"}),
    ("netdev_del", {"id": "nope"}), ("netdev_add", {"type": "nope", "id": "n"}),
    ("query-rx-filter", {"name": "nope"}), ("chardev-send-break", {"id": "nope"}),
    ("screendump", {"filename": "/dev/null"}), "system_wakeup",
    ("dump-guest-memory", {"paging": False, "protocol": "nope"}),
    ("human-monitor-command", {"command-line": "info status", "cpu-index": 99}),
]

# Sent as they are. Each has one answer.
RAW = [
    '{"id": {"a": [1]}}', "[1]", "1 ", '{"execute": 1}', '{"execute" 1}', "nul ", "\xff", "}",
    '{"execute": "stop", "arguments": []}', '{"execute": "stop", "nope": 1}',
    '{"execute": "query-name", "id": [1, {"a": null}]}',
]

CHANGES = [
    "stop", "stop", "query-status", "cont", "cont", "query-status",
    ("set_link", {"name": "net0", "up": False}), ("set_link", {"name": "net0", "up": True}),
    ("chardev-send-break", {"id": "ttyS0"}), ("balloon", {"value": 128 << 20}),
    ("eject", {"device": "sr0", "force": True}), "query-block",
    ("netdev_add", {"type": "user", "id": "spare"}), ("netdev_add", {"type": "user", "id": "spare"}),
    ("netdev_del", {"id": "spare"}),
    ("dump-guest-memory", {"paging": False, "protocol": "file:/dev/null"}), "query-dump",
    "system_powerdown", "system_reset", "stop", "inject-nmi", "quit",
]


class Server:
    def __init__(self, address):
        kind, _, where = address.partition(":")
        if kind == "unix":
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(where)
        else:
            host, _, port = where.rpartition(":")
            self.socket = socket.create_connection((host or "127.0.0.1", int(port)))
        self.socket.settimeout(30)
        self.lines = self.socket.makefile("rb")
        self.greeting = json.loads(self.lines.readline())

    def until(self, name, events):
        """The events, and those that come up to the one called `name`."""
        while name not in [event["event"] for event in events]:
            events = events + [json.loads(self.lines.readline())]
        return events

    def ask(self, data):
        """The answer, and the events before it."""
        self.socket.sendall(data)
        events = []
        for line in self.lines:
            message = json.loads(line)
            if "event" not in message:
                return message, events
            events.append(message)
        return {"end": True}, events

    def rest(self):
        """The events until the server closes the connection."""
        try:
            return [json.loads(line) for line in self.lines]
        except OSError:
            return []


def encode(request):
    name, arguments = request if isinstance(request, tuple) else (request, None)
    message = {"execute": name}
    if arguments is not None:
        message["arguments"] = arguments
    return name, json.dumps(message).encode()


def type_name(value):
    names = {bool: "bool", int: "int", float: "number", str: "str", list: "list", dict: "dict"}
    return names.get(type(value), "null")


def shapes(value, path=""):
    """{path: types} of a value and all that is in it."""
    found = {path: {type_name(value)}}
    children = []
    if isinstance(value, dict):
        children = [(f"{path}.{key}" if path else key, child) for key, child in value.items()]
    elif isinstance(value, list):
        children = [(path + "[]", child) for child in value]
    for where, child in children:
        for key, types in shapes(child, where).items():
            found.setdefault(key, set()).update(types)
    return found


class Comparison:
    def __init__(self, verbose):
        self.failures = 0
        self.allowed = 0
        self.verbose = verbose

    def report(self, name, path, text):
        where = f"{name}: {path}".replace("[]", "")
        for pattern, reason in ALLOWED:
            if fnmatch.fnmatchcase(where, pattern):
                self.allowed += 1
                if self.verbose:
                    print(f"allowed  {where}: {text} ({reason})")
                return
        self.failures += 1
        print(f"DIFFERS  {where}: {text}")

    def compare(self, name, one, two):
        first, second = shapes(one), shapes(two)
        for path in sorted(first.keys() | second.keys()):
            # A list that is empty on one side says nothing of its elements.
            lists = [path[:i + 2] for i in range(len(path)) if path.startswith("[]", i)]
            if any((each in first) != (each in second) for each in lists):
                continue
            # What hangs on a member that is missing is missing as well.
            if path not in second:
                self.report(name, path, "only the reference has it")
            elif path not in first:
                self.report(name, path, "only the other has it")
            elif first[path] != second[path]:
                self.report(name, path, f"{sorted(first[path])} and {sorted(second[path])}")

    def compare_answers(self, name, one, two):
        classes = [answer.get("error", {}).get("class") for answer in (one, two)]
        if classes[0] != classes[1]:
            self.report(name, "error", f"{str(one)[:200]} and {str(two)[:200]}")
        if one.get("id") != two.get("id"):
            self.report(name, "id", f"{one.get('id')} and {two.get('id')}")
        if "return" not in one or "return" not in two:
            return
        if name == "query-qmp-schema":
            self.compare_schema(one["return"], two["return"])
        else:
            self.compare(name, one["return"], two["return"])

    def compare_events(self, name, one, two):
        names = [sorted({event["event"] for event in events}) for events in (one, two)]
        if names[0] != names[1]:
            self.report("events", name, f"{names[0]} and {names[1]}")
        for event in one:
            for other in two:
                if event["event"] == other["event"]:
                    self.compare("events: " + event["event"], event, other)
                    break

    def compare_schema(self, one, two):
        """Each command and event of the other is one of the reference's; its arguments are known
        there, and all that the reference must have is there."""
        reference = {entry["name"]: entry for entry in one}
        other = {entry["name"]: entry for entry in two}
        for name, entry in other.items():
            if entry["meta-type"] not in ("command", "event"):
                continue
            if name not in reference:
                self.report("query-qmp-schema", name, "only the other has it")
                continue
            there = reference[reference[name]["arg-type"]]
            known = {m["name"]: "default" in m for m in there["members"]}
            for variant in there.get("variants", []):
                for m in reference[variant["type"]].get("members", []):
                    known.setdefault(m["name"], True)
            mine = {m["name"]: "default" in m for m in other[entry["arg-type"]]["members"]}
            for member in mine.keys() - known.keys():
                self.report("query-qmp-schema", f"{name}.{member}", "only the other has it")
            for member, optional in known.items():
                if not optional and member not in mine:
                    self.report("query-qmp-schema", f"{name}.{member}", "is missing in the other")


def run(reference, other, full, verbose):
    result = Comparison(verbose)
    one, two = Server(reference), Server(other)
    result.compare("greeting", one.greeting, two.greeting)
    requests = [encode("query-status"), encode(("qmp_capabilities", {}))]
    requests += [encode(request) for request in QUERIES + ERRORS]
    requests += [(repr(text[:60]), text.encode("latin-1")) for text in RAW]
    requests += [encode(request) for request in CHANGES] if full else []
    for name, data in requests:
        (first, events1), (second, events2) = one.ask(data), two.ask(data)
        if name == "system_reset":  # the machine is reset some time after the answer
            events1, events2 = one.until("RESET", events1), two.until("RESET", events2)
        if name == "quit":
            events1, events2 = events1 + one.rest(), events2 + two.rest()
        result.compare_events(name, events1, events2)
        result.compare_answers(name, first, second)
    print(f"{len(requests)} requests: {result.failures} differences, {result.allowed} allowed ones")
    return result.failures == 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference")
    parser.add_argument("other")
    parser.add_argument("--full", action="store_true", help="also stop, change, reset and quit")
    parser.add_argument("-v", "--verbose", action="store_true", help="print what is allowed, too")
    options = parser.parse_args()
    sys.exit(0 if run(options.reference, options.other, options.full, options.verbose) else 1)
