"""What there is to compute with: devices and their memory, precision, processors and threads, memory."""

from pathlib import Path

import joblib

from gcf.data.memory import free_memory
from gcf.explain.doctor.finding import FAULT, OK, WARNING, Finding

NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
GIB = 1 << 30
LEAST_MEMORY, LITTLE_MEMORY = GIB // 2, 2 * GIB  # bytes: torch and a decoder need some 0.4 GiB before the first clip


def check_devices() -> Finding:
    """The GPUs and their free memory, or that there are none; a driver without a usable GPU is worth a word."""
    import torch

    if torch.cuda.is_available():
        found = []
        for index in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(index)
            name = torch.cuda.get_device_name(index)
            found.append(f"cuda:{index} {name}, {free / GIB:.1f} of {total / GIB:.1f} GiB free")
        return Finding("devices", OK, "; ".join(found))
    if NVIDIA_DRIVER.exists():
        why = "cannot reach it" if torch.version.cuda else "is built for processors alone"
        do = "install the torch build that fits the driver (pytorch.org/get-started), and look at CUDA_VISIBLE_DEVICES"
        return Finding("devices", WARNING, f"cpu alone: there is an NVIDIA driver, but torch {why}", do)
    return Finding("devices", OK, "cpu alone")


def check_precision() -> Finding:
    """What `--precision auto` means here, as extraction chooses it, and whether the device can run it."""
    import torch

    from gcf.extract.network.clip_network import HALF, choose_device
    from gcf.extract.network.precision import natural_precision

    device = choose_device("auto")
    precision = natural_precision(device)
    if precision == "fp32":
        return Finding("precision", OK, f"fp32 on {device.type}: it has no faster one that gcf uses")
    try:
        values = torch.ones(1, 4, 4, 8, 8, dtype=HALF[precision], device=device)
        torch.nn.functional.conv3d(values, torch.ones(4, 4, 3, 3, 3, dtype=HALF[precision], device=device)).sum().item()
    except RuntimeError as error:
        said = str(error).splitlines()[0]
        return Finding(
            "precision", WARNING, f"{precision} on {device.type} does not run ({said})", "use --precision fp32"
        )
    return Finding("precision", OK, f"{precision} on {device.type}; each network is tried against float32 first")


def check_runtime() -> Finding:
    """Who computes convolutional networks on processors."""
    from gcf.extract.network.openvino_map import openvino_fault, openvino_version

    if fault := openvino_fault():
        return Finding("runtime", WARNING, f"torch alone, which is slower: of OpenVINO, {fault}", "install openvino")
    return Finding("runtime", OK, f"OpenVINO {openvino_version()} for convolutional networks on processors, else torch")


def check_processors() -> Finding:
    """How many processors this process may use, containers counted in, and how many threads torch takes."""
    import torch

    processors, threads = joblib.cpu_count(), torch.get_num_threads()
    says = f"{processors} processors, {threads} threads in torch"
    if threads > processors:
        return Finding("processors", WARNING, says, f"more threads than processors: set OMP_NUM_THREADS={processors}")
    return Finding("processors", OK, says)


def check_memory() -> Finding:
    """Memory that can still be had, in the machine and in the container."""
    available = free_memory()
    says = f"{available / GIB:.1f} GiB can be had"
    if available < LEAST_MEMORY:
        return Finding("memory", FAULT, f"{says}, a network and a decoder need more", "close other programs")
    if available < LITTLE_MEMORY:
        return Finding("memory", WARNING, says, "with --workers 1 and --batch-size 1 small networks still fit")
    return Finding("memory", OK, says)
