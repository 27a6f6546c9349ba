"""Shared by the whole-VM benchmarks: files in memory, VMM command lines, KVM's counters.
They run inside the measuring lab (./dev bench), where a nanosecond is an instruction of
guest, VMM and host kernel together."""

import argparse
import datetime
import glob
import json
import os
import re
import select
import statistics
import subprocess
import sys
import tempfile
import time

import report

REPO = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
IMAGES = os.path.join(REPO, "guest-images/out")
FOLDER = "/dev/shm/bench"  # tmpfs, so that neither 9p nor a disk is measured

CMDLINE = "console=ttyS0 loglevel=4 root=/dev/vda rw panic=-1 reboot=k"


def require_measuring_lab():
    if os.environ.get("WICK_IN_LAB") != "measure":
        sys.exit(f"{sys.argv[0]}: runs in the measuring lab: ./dev bench")


def stage(*names):
    """Copies images and wick to tmpfs; sparse, so that holes take no memory."""
    os.makedirs(FOLDER, exist_ok=True)
    subprocess.run(["cp", "--sparse=always", os.path.join(REPO, "build/wick"), FOLDER], check=True)
    subprocess.run(["strip", os.path.join(FOLDER, "wick")], check=True)
    for name in names:
        to = file(name)
        os.makedirs(os.path.dirname(to), exist_ok=True)
        subprocess.run(["cp", "--sparse=always", os.path.join(IMAGES, name), to], check=True)


def file(name):
    return os.path.join(FOLDER, name)


def wick(kernel, disk, cmdline=CMDLINE, memory="256", transport="pci", initrd=None):
    command = [file("wick"), "run", "-k", file(kernel), "-d", f"{file(disk)},format=raw",
               "-m", memory, "--cmdline", cmdline, "--transport", transport]
    return command + (["-i", file(initrd)] if initrd else [])


def qemu_microvm(kernel, disk, **others):
    # rtc=on: without one Linux waits a second for it.
    return qemu("microvm,rtc=on", "virtio-blk-device", kernel, disk, **others)


def qemu_q35(kernel, disk, **others):
    return qemu("q35", "virtio-blk-pci", kernel, disk, **others)


def qemu_pc(kernel, disk, **others):
    return qemu("pc", "virtio-blk-pci", kernel, disk, **others)


def qemu_disk(name, device, path, form="raw"):
    return ["-drive", f"id={name},file={path},format={form},if=none,aio=io_uring",
            "-device", f"{device},drive={name}"]


def qemu(machine, device, kernel, disk, cmdline=CMDLINE, memory="256", initrd=None):
    command = ["qemu-system-x86_64", "-M", machine, "-accel", "kvm", "-cpu", "host", "-m", memory,
               "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio",
               "-kernel", file(kernel), "-append", cmdline]
    command += qemu_disk("d", device, file(disk))
    return command + (["-initrd", file(initrd)] if initrd else [])


class Guest:
    """A VMM with the guest's serial port on its standard input and output."""

    def __init__(self, command):
        self.started = time.monotonic()
        self.output = b""
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.errors)

    def wait_for(self, text, limit_s=60):
        """Seconds from the exec of the VMM until the guest wrote `text`."""
        while text not in self.output:
            ready, _, _ = select.select([self.process.stdout], [], [], limit_s)
            piece = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            if not piece:
                self.fail(f"no {text!r}")
            self.output += piece
        return time.monotonic() - self.started

    def send(self, text):
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def wait_for_end(self, limit_s=60):
        """Seconds from the exec of the VMM until its end, which must be with status 0."""
        while piece := os.read(self.process.stdout.fileno(), 65536):
            self.output += piece
        if status := self.process.wait(limit_s):
            self.fail(f"status {status}")
        return time.monotonic() - self.started

    def fail(self, why):
        self.errors.seek(0)
        ended = "runs" if self.process.poll() is None else f"ended with {self.process.returncode}"
        sys.exit(f"{self.process.args[0]}: {why}; it {ended} and said:\n"
                 + self.errors.read().decode(errors="replace") + "\nthe console was:\n"
                 + self.output.decode(errors="replace"))

    def end(self):
        self.process.kill()
        self.process.wait()


def kvm_counters():
    """KVM's own counters, of all machines that run now."""
    if not os.path.isdir("/sys/kernel/debug/kvm"):
        subprocess.run(["mount", "-t", "debugfs", "none", "/sys/kernel/debug"], check=True)
    counters = {}
    for path in glob.glob("/sys/kernel/debug/kvm/*"):
        if os.path.isfile(path):
            with open(path) as f:
                counters[os.path.basename(path)] = int(f.read())
    return counters


# KVM's own counters include the exits that the kernel handles. Those that a VMM sees are events
# of a tracepoint, which a histogram counts.
USER_EXITS = "/sys/kernel/tracing/events/kvm/kvm_userspace_exit"


def user_exits():
    """Exits from guests to user space since the first call."""
    if not os.path.isdir(USER_EXITS):
        subprocess.run(["mount", "-t", "tracefs", "none", "/sys/kernel/tracing"], check=True)
    with open(f"{USER_EXITS}/trigger", "r+") as f:
        if "hist:keys=reason" not in f.read():
            f.write("hist:keys=reason")
    with open(f"{USER_EXITS}/hist") as f:
        return int(re.search(r"Hits: (\d+)", f.read())[1])


def exits():
    """All exits from guests, and those of them to user space."""
    return kvm_counters()["exits"], user_exits()


def median(values):
    return statistics.median(values)


# --- what the benches with a document share

def options(usage, wide=None):
    """The options of a bench. `wide` explains --wide, of a bench that has more to measure."""
    parser = argparse.ArgumentParser(description=usage.split("\n\n")[0])
    parser.add_argument("--only", default="", help="measures only what has this in its name")
    parser.add_argument("--write-docs", action="store_true", help="makes the document anew")
    if wide:
        parser.add_argument("--wide", action="store_true", help=wide)
    found = parser.parse_args()
    if found.write_docs and (found.only or wide and found.wide):
        parser.error("--write-docs needs all, not --only some, and nothing else")
    require_measuring_lab()
    return found


def kept_figures():
    """Where tried() keeps figures for the next lab, in case this one hangs."""
    return os.path.join(os.environ["WICK_LAB_OUT"], os.path.basename(sys.argv[0]) + ".part")


def tried(name, measure, *arguments, digits=2):
    """The figures that `measure` returns, rounded. It gets four tries: the lab's own QEMU
    makes a guest hang or die now and then (tests/lab/lab). If the whole lab hangs, ./dev bench
    starts another, in which the figures that were complete are not measured again."""
    if os.path.exists(kept_figures()):
        with open(kept_figures()) as f:
            for kept in map(json.loads, f):
                if kept["name"] == name:
                    return kept["figures"]
    for tries_left in (3, 2, 1, 0):
        try:
            figures = json.loads(json.dumps(measure(*arguments)),
                                 parse_float=lambda text: round(float(text), digits))
            print(f"{name}: {figures}", flush=True)
            with open(kept_figures(), "a") as f:
                f.write(json.dumps({"name": name, "figures": figures}) + "\n")
            return figures
        except (SystemExit, RuntimeError, subprocess.TimeoutExpired) as hung:
            if not tries_left:
                raise
            print(f"{name}: {hung}\nonce more", file=sys.stderr, flush=True)


def finish(name, figures, write):
    """Prints the tables, and writes the figures from which bench/report.py makes the document."""
    report.print_tables(name, figures)
    if not write:
        return
    version = subprocess.run(["qemu-system-x86_64", "--version"], check=True, text=True,
                             stdout=subprocess.PIPE).stdout
    figures = {"date": str(datetime.date.today()),
               "qemu": re.search(r"version ([\d.]+)", version)[1], **figures}
    with open(os.path.join(os.environ["WICK_LAB_OUT"], f"{name}.json"), "w") as f:
        json.dump(figures, f, indent=1)
        f.write("\n")
