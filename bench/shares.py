"""Folders of the host in a guest, for bench/exec and bench/share: as its root, under wick and
under QEMU, by virtio-fs and by 9P."""

import contextlib
import os
import socket
import subprocess
import time

import lab

VIRTIOFSD = "/usr/lib/qemu/virtiofsd"  # of Debian's package qemu-system-common
MEMORY_MIB = "256"
# The kernel mounts its root from the tag "share".
ROOT = {"virtiofs": "root=share rootfstype=virtiofs",
        "9p": "root=share rootfstype=9p rootflags=trans=virtio,version=9p2000.L,msize=512000,cache=loose"}


def compile_program(path, source, *options, language="c"):
    subprocess.run(["gcc", "-O2", "-static", *options, "-x", language, "-o", path, "-"],
                   input=source.encode(), check=True)


@contextlib.contextmanager
def running(command):
    guest = lab.Guest(command)
    try:
        yield guest
    finally:
        guest.end()


def wick(device, folder, kernel, cmdline):
    return running([lab.file("wick"), "run", "-k", lab.file(kernel), "-m", MEMORY_MIB,
                    "--share", f"{folder},tag=share,security=passthrough,device={device}",
                    "--cmdline", f"{ROOT[device]} {cmdline}"])


def qemu(device, folder, kernel, cmdline):
    """The smallest machine of QEMU's. Where it needs virtiofsd, the time of a guest begins with
    the start of that."""
    command = ["qemu-system-x86_64", "-M", "microvm,rtc=on", "-accel", "kvm", "-cpu", "host", "-m", MEMORY_MIB,
               "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot",
               "-kernel", lab.file(kernel), "-append", f"{ROOT[device]} {cmdline}"]
    if device == "9p":
        return running(command + ["-fsdev", f"local,id=f,path={folder},security_model=none,multidevs=remap",
                                  "-device", "virtio-9p-device,fsdev=f,mount_tag=share"])
    # libvhost-user has no legacy devices, which are virtio-mmio's default.
    return with_virtiofsd(folder, command + [
        "-global", "virtio-mmio.force-legacy=false",
        "-object", f"memory-backend-memfd,id=m,size={MEMORY_MIB}M,share=on", "-machine", "memory-backend=m",
        "-chardev", f"socket,id=c,path={lab.file('virtiofsd')}",
        "-device", "vhost-user-fs-device,chardev=c,tag=share"])


@contextlib.contextmanager
def with_virtiofsd(folder, command):
    path = lab.file("virtiofsd")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        started = time.monotonic()
        with subprocess.Popen([VIRTIOFSD, f"--fd={listener.fileno()}", "-o", f"source={folder}"],
                              pass_fds=[listener.fileno()], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) as daemon:
            try:
                with running(command) as guest:
                    guest.started = started
                    yield guest
            finally:
                daemon.kill()
